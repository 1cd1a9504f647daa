"""Gradio's published advisories, each tried on the studio as it runs; more stand in test_doors.py.

What cannot be reached here has no test: share links, the workflow of its repository, `gr.load`,
flagging, OAuth, ChatInterface, Dataframe and DateTime are not used.
"""

import os
import re
import secrets
import time

import httpx
import pytest

from app import passwords
from app.passwords import checker, hash_password, read_account
from app.service import JobRequest
from tests.app.browsing import SERVED, served

pytestmark = [*SERVED]


@pytest.fixture(scope="module")
def studio(tiny_folder):
    with served(tiny_folder) as running:
        yield running


@pytest.fixture(scope="module")
def locked(tiny_folder):
    account = hash_password("anna", "correct horse")
    with served(tiny_folder, auth=(account,)) as running:
        yield running


def upload(studio, name, data, **options):
    return httpx.post(
        f"{studio.url}gradio_api/upload", files={"files": (name, data)}, timeout=20, **options
    )


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "null", "http://localhost.evil.example", "http://127.0.0.1:1"],
)
@pytest.mark.parametrize(
    "path", ["gradio_api/upload", "gradio_api/queue/join", "gradio_api/call/generate", "login"]
)
def test_another_site_cannot_send_anything(studio, path, origin):
    """CVE-2024-1727 (uploads), CVE-2024-47084, CVE-2024-47165 (null), CVE-2025-5320 (localhost)."""
    answer = httpx.post(f"{studio.url}{path}", headers={"Origin": origin}, content="x")
    assert answer.status_code == 403
    assert "Another site" in answer.json()["error"]


def test_another_site_cannot_read_anything(studio):
    asked = httpx.get(f"{studio.url}config", headers={"Origin": "https://evil.example"})
    assert asked.status_code == 403
    own = httpx.get(f"{studio.url}config", headers={"Origin": studio.url.rstrip("/")})
    assert own.status_code == 200


@pytest.mark.parametrize("path", ["", "config", "health", "studio/studio.js"])
def test_a_name_that_was_made_to_point_here_is_refused(studio, path):
    """CVE-2024-47167 and its kind: a name of another site that resolves to this computer."""
    port = studio.url.rstrip("/").rpartition(":")[2]
    for name in (f"evil.example:{port}", "localhost.evil.example", ""):
        assert httpx.get(f"{studio.url}{path}", headers={"Host": name}).status_code in (400, 421)
    for name in (f"localhost:{port}", f"127.0.0.1:{port}", f"[::1]:{port}"):
        assert httpx.get(f"{studio.url}{path}", headers={"Host": name}).status_code == 200


def test_a_file_that_is_named_in_a_request_is_not_copied(studio):
    """CVE-2024-0964, -1728, -4941, -10648, -47868, -51751: a path posted as a component's value."""
    config = httpx.get(f"{studio.url}config").json()
    file = {"path": "/etc/passwd", "orig_name": "x.wav", "meta": {"_type": "gradio.FileData"}}
    for number in [d["id"] for d in config["dependencies"]]:
        for value in (file, {"files": [file]}, [file], "/etc/passwd"):
            sent = {"fn_index": number, "data": [value] * 20, "session_hash": secrets.token_hex(8)}
            httpx.post(f"{studio.url}gradio_api/queue/join", json=sent)
    time.sleep(1)
    with studio.visits._tidying:
        for path in studio.folder.rglob("*"):
            assert not (path.is_file() and b"root:" in path.read_bytes())


@pytest.mark.parametrize(
    "path",
    [
        "file=/windows/win.ini", "file=%5Cwindows%5Cwin.ini", "file=C:/windows/win.ini",
        "file=//evil.example/share/x", "file=%5C%5Cevil.example%5Cshare",
        "file=/etc/./passwd", "file=/tmp/../etc/passwd", "file=/proc/self/cwd/pyproject.toml",
        "custom_component/x/client/component/..%2f..%2fsetup.py",
        "custom_component/textbox/client/component/index.py",
        "stream/../../etc/passwd", "proxy=http://127.0.0.1:9/x",
    ],
)  # fmt: skip
def test_no_file_is_read_by_any_way_of_writing_it(studio, path):
    """CVE-2023-51449, -2024-1561, -34510 (UNC), -47164, -47166, -2025-23042, -2026-28414."""
    answer = httpx.get(f"{studio.url}gradio_api/{path}", timeout=10)
    assert answer.status_code in (400, 403, 404)


def test_the_case_of_a_path_opens_nothing(studio):
    """CVE-2025-23042: blocked paths were compared with their case."""
    job = studio.service.submit(JobRequest(prompt="drums", duration_s=1.0), "someone")
    list(studio.service.watch(job))
    (path,) = job.files
    for written in (str(path), str(path).upper(), str(path).replace("/", "//")):
        answer = httpx.get(f"{studio.url}gradio_api/file={written}")
        assert answer.status_code in (403, 404)
    studio.service.release(job)


@pytest.mark.parametrize("name", ["x.html", "x.svg", "x.js", "x.xml"])
def test_what_was_uploaded_is_never_shown_as_a_page(studio, name):
    """CVE-2024-47872: an uploaded page ran in the studio's name."""
    with studio.visits._tidying:  # the sweep of every ten seconds could take the file first
        sent = upload(studio, name, b"<script>alert(1)</script>")
        assert sent.status_code == 200
        (path,) = sent.json()
        shown = httpx.get(f"{studio.url}gradio_api/file={path}")
    assert shown.status_code == 200
    harmless = shown.headers.get("content-type", "").startswith("text/plain")
    assert "attachment" in shown.headers.get("content-disposition", "") or harmless
    studio.visits.tidy()
    assert not os.path.exists(path)


def test_uploads_that_are_meant_to_hold_the_server_up_do_not(studio):
    """CVE-2024-8966 (endless boundary), CVE-2025-0187 (endless file name)."""
    began = time.monotonic()
    edge = "-" * 200_000
    httpx.post(
        f"{studio.url}gradio_api/upload", content=f"--x{edge}\r\n\r\n".encode() * 4, timeout=30,
        headers={"Content-Type": f"multipart/form-data; boundary=x{edge[:60]}"},
    )  # fmt: skip
    upload(studio, "a" * 500_000 + ".wav", b"x")
    assert httpx.get(f"{studio.url}health", timeout=10).status_code == 200
    assert time.monotonic() - began < 20


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "process_recording"), ("GET", "deep_link?session_hash=x"), ("GET", "deep_link/")],
)
def test_gradios_ways_to_leave_something_on_the_disk_are_closed(studio, method, path):
    files = {"video": ("x.mp4", b"x" * 1000)} if method == "POST" else None
    with studio.visits._tidying:  # the sweep of every ten seconds would change the folder too
        before = sorted(studio.folder.rglob("*"))
        answer = httpx.request(method, f"{studio.url}gradio_api/{path}", files=files)
        assert sorted(studio.folder.rglob("*")) == before
    assert (answer.status_code, answer.json()) == (404, {"error": "There is nothing here."})


@pytest.mark.parametrize(
    ("path", "codes"),
    [
        ("monitoring", (403, 404)), ("monitoring/summary", (403, 404)),
        ("monitoring/x", (403, 404)),
        ("gradio_api/run-history/records", (404,)), ("gradio_api/runs", (404,)),
        ("gradio_api/vibe-code", (403, 404)),
        ("login/huggingface", (404,)), ("gradio_api/profiling/traces", (404,)),
    ],
)  # fmt: skip
def test_what_is_switched_off_is_off(studio, path, codes):
    """CVE-2024-47168 (monitoring), CVE-2026-27167 (mocked login), and what came since."""
    assert httpx.get(f"{studio.url}{path}", timeout=10).status_code in codes


@pytest.mark.parametrize(
    "path", ["login/callback?_target_url=https://evil.example", "logout?_target_url=//evil.example"]
)
def test_no_login_sends_one_away(locked, path):
    """CVE-2026-28415, CVE-2024-8021."""
    answer = httpx.get(f"{locked.url}{path}", follow_redirects=False)
    assert "evil.example" not in answer.headers.get("location", "")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "gradio_api/heartbeat/x"), ("POST", "gradio_api/cancel"),
        ("POST", "gradio_api/reset"), ("GET", "gradio_api/app_id"), ("GET", "gradio_api/token"),
        ("GET", "gradio_api/stream/a/1/1/playlist.m3u8"), ("POST", "gradio_api/vibe-edit"),
        ("GET", "openapi.json"), ("GET", "gradio_api/mcp/schema"), ("GET", "monitoring/x"),
        ("POST", "studio/visit/leave"), ("POST", "studio/live/start"),
        ("POST", "gradio_api/upload"),
        ("GET", "gradio_api/custom_component/x/client/component/y"),
    ],
)  # fmt: skip
def test_behind_a_password_gradios_open_addresses_are_closed(locked, method, path):
    answer = httpx.request(method, f"{locked.url}{path}", json={} if method == "POST" else None)
    assert answer.status_code == 401
    assert answer.json()["error"] == "Log in on the page first."


def test_the_page_on_which_one_logs_in_is_whole(locked):
    page = httpx.get(locked.url)
    assert page.status_code == 200
    scripts = re.findall(r"assets/[\w.-]+\.(?:js|css)", page.text)
    assert scripts
    for script in {*scripts, "theme.css"}:
        assert httpx.get(f"{locked.url}{script}").status_code == 200
    assert '"components":[],"dependencies":[]' in page.text  # and tells nothing of the studio


def test_an_unknown_name_costs_as_much_as_a_wrong_password(monkeypatch):
    """CVE-2024-1729: the time of an answer told which names exist."""
    tried, real = [], passwords._key
    check = checker([read_account(hash_password("anna", "correct horse"))])
    monkeypatch.setattr(
        passwords, "_key", lambda password, salt: tried.append(password) or real(password, salt)
    )
    assert not check("anna", "wrong horse")
    assert not check("nobody", "wrong horse")
    assert tried == ["wrong horse", "wrong horse"]
