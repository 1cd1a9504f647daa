"""Gradio's own advisories and the studio's own addresses, knocked at one by one; no browser."""

import json
import re
import secrets
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import numpy as np
import pytest
import soundfile

from app.passwords import hash_password
from app.serve import REQUESTS_PER_MINUTE
from app.service import JobRequest, Limits
from app.settings import fresh_settings
from tests.app.browsing import SERVED, served

pytestmark = [*SERVED]


@pytest.fixture(scope="module")
def studio(dial_folder):
    with served(dial_folder, limits=Limits(max_jams=1)) as running:
        yield running


@pytest.fixture(scope="module")
def listener():
    """Hold a server that notes who asks it; nobody may."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()

        do_HEAD = do_POST = do_GET  # noqa: N815

        def log_message(self, *arguments):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()


def function_numbers(studio):
    config = httpx.get(f"{studio.url}config").json()
    return [d["id"] for d in config["dependencies"]], config


def test_no_posted_address_is_fetched(studio, listener):
    address, asked = listener
    numbers, config = function_numbers(studio)
    audio = [c["id"] for c in config["components"] if c["type"] in ("audio", "downloadbutton")]
    assert audio
    file = {
        "path": f"{address}/x.wav",
        "url": f"{address}/y.wav",
        "meta": {"_type": "gradio.FileData"},
    }
    for number in numbers:
        httpx.post(
            f"{studio.url}gradio_api/queue/join",
            json={"fn_index": number, "data": [file] * 20, "session_hash": secrets.token_hex(8)},
        )
    for path in (
        f"gradio_api/proxy={address}/x",
        f"gradio_api/file={address}/x.wav",
        f"proxy={address}/x",
    ):
        assert httpx.get(f"{studio.url}{path}").status_code in (400, 403, 404)
    assert asked == []


def test_component_server_calls_no_method_of_a_component(studio):
    _, config = function_numbers(studio)
    for component in config["components"][:60]:
        for name in ("move_resource_to_block_cache", "preprocess", "ls", "__init__"):
            answer = httpx.post(
                f"{studio.url}gradio_api/component_server",
                json={
                    "component_id": component["id"], "fn_name": name, "data": "/etc/passwd",
                    "session_hash": "x",
                },
            )  # fmt: skip
            assert answer.status_code >= 400
            assert "root:" not in answer.text


@pytest.mark.parametrize(
    "path",
    ["//evil.example/", "login?redirect=https://evil.example", "/%2F%2Fevil.example",
     "gradio_api/file=https://evil.example/x"],
)  # fmt: skip
def test_nobody_is_sent_to_another_site(studio, path):
    answer = httpx.get(f"{studio.url}{path}", follow_redirects=False)
    assert "evil.example" not in answer.headers.get("location", "")


@pytest.mark.parametrize(
    "path",
    ["studio/file/../../../etc/passwd", "studio/file/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
     "studio/file//etc/passwd", "studio/file/x", "studio/../app/serve.py",
     "studio/studio.js/../../serve.py", "studio/serve.js", "studio/..%2fserve.js",
     "studio/stream/x", "gradio_api/file=/etc/hostname"],
)  # fmt: skip
def test_no_path_leads_to_a_file(studio, path):
    answer = httpx.get(f"{studio.url}{path}", follow_redirects=True)
    assert answer.status_code in (403, 404)
    assert "import" not in answer.text


def test_a_visitors_state_is_its_own(studio):
    """Two pages with settings of their own: neither's last run answers the other."""
    job = studio.service.submit(JobRequest(prompt="drums", duration_s=1.0), "one")
    list(studio.service.watch(job))
    assert studio.service.jobs_of("two") == []
    names = [p.name for p in studio.service.folder.iterdir()]
    assert all(len(name) >= 20 for name in names)  # nobody guesses a folder
    studio.service.release(job)


def test_a_forged_value_of_a_choice_is_refused(studio):
    """Values outside of what a control offers come through the interface; the door refuses them."""
    from gradio_client import Client

    client = Client(studio.url, verbose=False)
    for bad in (
        {"format": "../../x"}, {"duration": 1e9}, {"variations": 10_000}, {"diversity": 7.0},
        {"prompt": "x" * 5000}, {"model": "/etc"}, {"temperature": 1e9},
    ):  # fmt: skip
        with pytest.raises(Exception, match=r"."):
            client.predict(**({"prompt": "a", "duration": 1.0} | bad), api_name="/generate")
    client.close()


def test_events_of_the_page_are_not_offered_to_programs(studio):
    named = httpx.get(f"{studio.url}gradio_api/info").json()["named_endpoints"]
    assert list(named) == ["/generate"]


def test_no_clip_is_probed_by_another_program_while_visitors_wait(studio):
    showing = [
        each
        for each in studio.page.fns.values()
        if any(output.get_block_name() == "audio" for output in each.outputs)
    ]
    assert "show" in [each.name for each in showing]
    assert not [each.name for each in showing if each.postprocess]


def test_the_python_client_gets_music(studio):
    from gradio_client import Client

    client = Client(studio.url, verbose=False)
    made = client.predict(
        prompt="slow sad piano", duration=1.0, diversity=0.4, seed=7, api_name="/generate"
    )
    assert made["seed"] == 7
    sound = httpx.get(made["files"][0]["url"])
    assert sound.content[:4] == b"RIFF"
    assert sound.headers["x-content-type-options"] == "nosniff"
    client.close()


@pytest.mark.parametrize("page", ["README.md", "docs/studio.md"])
@pytest.mark.parametrize(
    ("fence", "mark", "command"),
    [("sh", "gradio_api/call", ["bash", "-eu"]), ("python", "gradio_client", [sys.executable])],
)
def test_programs_get_music_by_the_very_lines_of_the_documentation(
    studio, tmp_path, page, fence, mark, command
):
    text = (Path(__file__).parents[2] / page).read_text()
    (lines,) = [block for block in re.findall(rf"```{fence}\n(.*?)```", text, re.DOTALL)
                if mark in block]  # fmt: skip
    (tmp_path / "example").write_text(lines.replace("http://127.0.0.1:7860/", studio.url))
    done = subprocess.run(
        [*command, "example"], cwd=tmp_path, capture_output=True, text=True, timeout=100,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "piano.wav").read_bytes()[:4] == b"RIFF"


def test_health_and_metrics(studio):
    assert httpx.get(f"{studio.url}health").json()["status"] == "ok"
    metrics = httpx.get(f"{studio.url}metrics")
    assert metrics.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "musicgen_rl_queue_jobs 0" in metrics.text


def test_two_models_are_offered_and_each_makes_its_own(dial_folder, tiny_folder):
    from gradio_client import Client

    with served(dial_folder, more_models=(str(tiny_folder),)) as running:
        names = list(running.services)
        assert len(names) == 2
        assert running.service.limits.requests_per_minute == 0  # on this computer alone
        second = running.services[names[1]]
        job = second.submit(JobRequest(prompt="for ever", duration_s=110.0), "somebody")
        counted = httpx.get(f"{running.url}health").json()
        assert counted["waiting"] + counted["running"] == 1  # of all models
        second.release(job)
        page = httpx.get(f"{running.url}config").json()
        (choice,) = [c["props"] for c in page["components"] if c["props"].get("elem_id") == "model"]
        assert choice["visible"]
        assert [value for _, value in choice["choices"]] == names
        text = next(c["props"]["value"] for c in page["components"]
                    if "May I use this?" in str(c["props"].get("value")))  # fmt: skip
        assert all(f"{name}: " in text for name in names)
        client = Client(running.url, verbose=False)
        for model, diversity in ((names[0], 0.5), (names[1], -1.0)):
            made = client.predict(
                prompt="drums", duration=1.0, diversity=diversity, model=model,
                api_name="/generate",
            )  # fmt: skip
            assert made["model"] == model
        with pytest.raises(Exception, match=r"."):  # the second one has no dial
            client.predict(prompt="a", duration=1.0, diversity=0.5, model=names[1],
                           api_name="/generate")  # fmt: skip
        client.close()
        metrics = httpx.get(f"{running.url}metrics").text
        done = 'musicgen_rl_jobs_total{model="' + names[1] + '",state="done"} 1'
        assert done in metrics
        assert metrics.count("# TYPE musicgen_rl_jobs_total") == 1


def test_a_clip_is_heard_while_it_is_made_by_whom_knows_its_name(studio):
    job = studio.service.submit(JobRequest(prompt="drums", duration_s=2.0), "one")
    with httpx.stream("GET", f"{studio.url}studio/stream/{job.id}", timeout=60) as answer:
        assert "content-encoding" not in answer.headers  # packed, it would wait for more
        data = b"".join(answer.iter_bytes())
    made = httpx.get(f"{studio.url}studio/stream/{job.id}").content
    assert made == b""  # taken
    (path,) = job.files
    heard, kept = np.frombuffer(data, "<i2").astype(float), soundfile.read(path)[0]
    assert len(heard) == len(kept) == 16000
    assert np.corrcoef(heard, kept)[0, 1] > 0.95  # the same sound; its level is found on the way
    studio.service.release(job)


def ask_for_the_next(studio, visit):
    address = f"{studio.url}studio/stream"
    with httpx.stream("POST", address, json={"visit": visit}, timeout=60) as answer:
        facts = answer.headers.get("x-stream")
        return answer.status_code, facts and json.loads(facts), b"".join(answer.iter_bytes())


def submit_for(studio, visit):
    """Have a page's job made, as a press of Generate does."""
    service = studio.service
    job = service.submit(JobRequest(prompt="drums", duration_s=2.0), visit)
    studio.visits.of(visit).add(fresh_settings(service), job, service)
    return job


def test_a_page_that_waits_gets_its_next_clip_once_and_no_other_page_does(studio):
    with ThreadPoolExecutor() as threads:
        mine = threads.submit(ask_for_the_next, studio, "one")
        others = threads.submit(ask_for_the_next, studio, "two")
        time.sleep(0.3)  # both wait
        job = submit_for(studio, "one")
        status, facts, data = mine.result()
        assert (status, facts["url"]) == (200, f"studio/stream/{job.id}")
        assert (facts["rate"], facts["channels"], facts["seconds"]) == (8000, 1, 2.0)
        assert len(data) == 2 * 16000
        assert others.result() == (204, None, b"")  # nothing came of its press
    assert ask_for_the_next(studio, "one")[0] == 204  # heard already
    studio.visits.leave("one")


def test_pressed_twice_only_the_last_press_waits(studio):
    with ThreadPoolExecutor() as threads:
        first = threads.submit(ask_for_the_next, studio, "one")
        time.sleep(0.3)
        second = threads.submit(ask_for_the_next, studio, "one")
        assert first.result()[0] == 204
        job = submit_for(studio, "one")
        assert second.result()[1]["url"] == f"studio/stream/{job.id}"
    studio.visits.leave("one")


def post(studio, path, **options):
    return httpx.post(f"{studio.url}studio/live/{path}", timeout=30, **options)


def test_jams_answer_mistakes_with_a_sentence(studio):
    for body, words in (
        ({"prompt": ""}, "say what to play"), ({"prompt": 3}, "must be text"),
        ({"prompt": "a", "diversity": "x"}, "must be a number"),
        ({"prompt": "a", "diversity": 2}, "between 0 and 1"),
        ({"prompt": "a", "seed": 1.5}, "whole number"), ({"prompt": "a", "model": "b"}, "model"),
    ):  # fmt: skip
        answer = post(studio, "start", json=body)
        assert answer.status_code == 400
        assert words in answer.json()["error"]
    assert post(studio, "start", content="{", headers=JSON).status_code == 400
    assert post(studio, "start", content="[]", headers=JSON).status_code == 400
    for content, words in (
        ('{"diversity": ' + "9" * 400 + "}", "finite number"),
        ('{"diversity": NaN}', "finite number"),
        ('{"prompt": "a", "seed": ' + "9" * 400 + "}", "whole number"),
        ('{"prompt": ' + "[" * 10_000, "nested too deep"),
    ):
        answer = post(studio, "start", content=content, headers=JSON)
        assert answer.status_code == 400
        assert words in answer.json()["error"]
    big = post(studio, "start", content=b'{"prompt": "' + b"a" * 30_000 + b'"}', headers=JSON)
    assert "longer than" in big.json()["error"]
    assert post(studio, "guess/next", json={}).status_code == 404


JSON = {"Content-Type": "application/json"}


def test_another_site_cannot_start_or_steer(studio):
    form = post(studio, "start", data={"prompt": "a"})
    assert form.status_code == 400
    plain = post(studio, "start", content='{"prompt": "a"}', headers={"Content-Type": "text/plain"})
    assert plain.status_code == 400
    other = post(studio, "start", json={"prompt": "a"}, headers={"Origin": "https://evil.example"})
    assert other.status_code == 403
    assert studio.service.live.playing == 0


def test_one_jam_too_many_is_told_when_to_come_back(studio):
    first = post(studio, "start", json={"prompt": "a", "diversity": 0.5})
    second = post(studio, "start", json={"prompt": "b"})
    assert (first.status_code, second.status_code) == (200, 429)
    assert int(second.headers["retry-after"]) == 60
    assert post(studio, f"{first.json()['id']}/stop", json={}).status_code == 200
    assert post(studio, f"{first.json()['id']}/move", json={}).status_code == 400


def test_behind_a_password_nothing_but_health_is_open(dial_folder):
    account = hash_password("anna", "correct horse")
    with served(dial_folder, auth=(account,)) as running:
        assert httpx.get(f"{running.url}health").status_code == 200
        for path in (
            "metrics", "studio/studio.js", "studio/file/x", "studio/stream/x", "config",
            "gradio_api/info",
        ):  # fmt: skip
            assert httpx.get(f"{running.url}{path}").status_code == 401, path
        start_jam = f"{running.url}studio/live/start"
        assert httpx.post(start_jam, json={"prompt": "a"}).status_code == 401
        with httpx.Client() as client:
            logged_in = client.post(
                f"{running.url}login", data={"username": "anna", "password": "correct horse"}
            )
            assert logged_in.status_code == 200
            assert client.get(f"{running.url}metrics").status_code == 200
            wrong = httpx.post(
                f"{running.url}login", data={"username": "anna", "password": "wrong horse"}
            )
            assert wrong.status_code == 400
        assert running.service.limits.requests_per_minute == REQUESTS_PER_MINUTE  # by a proxy
        wrong = {"username": "anna", "password": "wrong horse"}
        answers = [httpx.post(f"{running.url}login", data=wrong) for _ in range(10)]
        assert {answer.status_code for answer in answers[:6]} == {400}
        assert answers[-1].status_code == 429
        assert int(answers[-1].headers["retry-after"]) >= 1
        by_proxy = {"X-Forwarded-For": "203.0.113.9"}
        other = httpx.post(f"{running.url}login", data=wrong, headers=by_proxy)
        assert other.status_code == 400
