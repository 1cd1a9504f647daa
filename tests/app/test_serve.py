"""Who may reach the studio, and where: decided before anything is loaded."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from types import SimpleNamespace

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from app import passwords
from app.gate import Gate, root_of
from app.passwords import checker, hash_password, read_account, waiting_checker
from app.serve import ServeConfig, choose_port, is_loopback
from musicgen_rl.cli import main
from musicgen_rl.errors import ConfigError

ANNA = hash_password("anna", "correct horse")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost"])
def test_this_computers_own_addresses_need_no_password(host):
    assert is_loopback(host)
    assert ServeConfig(host=host).auth == ()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "localhost.evil.org"])
def test_others_are_let_in_only_on_purpose(host):
    with pytest.raises(ConfigError, match=r"add --auth USER:HASH .* or --no-auth"):
        ServeConfig(host=host)
    assert ServeConfig(host=host, no_auth=True).no_auth
    assert ServeConfig(host=host, auth=(ANNA,)).auth == (ANNA,)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"auth": (ANNA,), "no_auth": True}, "contradict"),
        ({"port": 0}, "from 1 to 65535, got 0"),
        ({"port": 70000}, "70000"),
        ({"auth": ("anna:correct horse",)}, "not a password"),
        ({"auth": (ANNA,), "mcp": True}, "a tool cannot log in"),
    ],
)
def test_options_that_cannot_be_are_refused(options, words):
    with pytest.raises(ConfigError, match=words) as error:
        ServeConfig(**options)
    assert "correct horse" not in str(error.value)


def test_the_password_opens_and_nothing_else_does():
    check = checker([read_account(ANNA), read_account(hash_password("bert", "12345678"))])
    assert check("anna", "correct horse")
    assert check("bert", "12345678")
    for user, password in (
        ("anna", "12345678"), ("bert", "correct horse"), ("anna", ""), ("", ""), ("carl", "x"),
        ("anna", "correct hors\ud800"),
    ):  # fmt: skip
        assert not check(user, password)
    assert not checker([])("", "")


def test_the_loop_goes_on_while_a_password_is_worked_on(monkeypatch):
    check, real = waiting_checker([read_account(ANNA)]), passwords._key

    def slow(password, salt):
        time.sleep(0.3)
        return real(password, salt)

    async def count():
        ticks, trying = 0, asyncio.create_task(check("anna", "correct horse"))
        while not trying.done():
            await asyncio.sleep(0.01)
            ticks += 1
        return ticks, await trying

    assert asyncio.iscoroutinefunction(check)  # else Gradio would not wait for it
    monkeypatch.setattr(passwords, "_key", slow)
    ticks, opened = asyncio.run(count())
    assert opened
    assert ticks >= 3


def test_one_address_may_try_so_many_passwords_and_others_still_may():
    tried = []

    async def log_in(request):
        tried.append(request.client.host)
        return PlainTextResponse("no", 400)

    gate = Middleware(Gate, local_only=False, is_local=is_loopback, logins_per_minute=3)
    methods = ["GET", "POST"]
    paths = ("/login", "/login/", "/other")
    app = Starlette(
        routes=[Route(path, log_in, methods=methods) for path in paths], middleware=[gate]
    )

    async def ask(address, path, method="POST"):
        transport = httpx.ASGITransport(app, client=(address, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            return await client.request(method, path)

    async def many(*asked):
        return [await ask(*each) for each in asked]

    guesser, path = "192.0.2.1", ("/login", "/login/")
    answers = asyncio.run(
        many(
            *((guesser, path[n % 2]) for n in range(4)),
            (guesser, "/login", "GET"), (guesser, "/other"), ("192.0.2.2", "/login"),
        )
    )  # fmt: skip
    assert [answer.status_code for answer in answers] == [400] * 3 + [429] + [400] * 3
    assert answers[3].json()["error"].startswith("Too many passwords were tried: try again in ")
    assert 1 <= int(answers[3].headers["retry-after"]) <= 20
    assert tried == [guesser] * 5 + ["192.0.2.2"]


def test_a_hash_holds_neither_the_password_nor_what_a_shell_reads():
    assert "correct" not in ANNA
    assert not set(ANNA) & set(" $'\"`\\!*?&;|<>()")
    assert hash_password("anna", "correct horse") != ANNA  # salted


@pytest.mark.parametrize(
    "text",
    ["", "anna", "anna:", "anna:scrypt.x.y", ":scrypt.a.b", ANNA[:-8], "anna:ä.ö.ü"],
    ids=range(7),  # a hash is salted: in a name it would differ between test workers
)
def test_what_is_no_hash_is_refused(text):
    with pytest.raises(ConfigError, match="--hash-password"):
        read_account(text)


def test_weak_passwords_and_odd_names_are_refused():
    with pytest.raises(ConfigError, match="at least 8"):
        hash_password("anna", "short")
    for name in ("", "a:b", "a\nb"):
        with pytest.raises(ConfigError, match="user name"):
            hash_password(name, "long enough")


def test_a_taken_port_is_named_and_without_one_the_next_is_free():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port} is taken"):
            choose_port("127.0.0.1", port)
    chosen = choose_port("127.0.0.1", None)
    assert 7860 <= chosen < 7910
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # it may have been used before
        taken.bind(("127.0.0.1", chosen))
        taken.listen()
        assert choose_port("127.0.0.1", None) > chosen


def test_an_address_of_another_computer_is_refused():
    with pytest.raises(ConfigError, match="not an address of this computer"):
        choose_port("192.0.2.1", 7860)


def test_the_command_refuses_in_one_line_before_it_loads(capsys):
    assert main(["demo", "--host", "0.0.0.0"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: --host 0.0.0.0 would let others in")
    assert error.count("\n") == 1


@pytest.mark.slow
def test_the_command_says_where_it_is_and_leaves_nothing_behind(tiny_folder, tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "app", "--model", str(tiny_folder)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1"},
    )
    assert process.stdout is not None
    lines = []
    while "open at" not in (lines[-1] if lines else ""):
        lines.append(process.stdout.readline())
        assert lines[-1], "it ended before it was up"
    url = lines[-1].split()[-1]
    with socket.create_connection(("127.0.0.1", int(url.rstrip("/").rsplit(":", 1)[1])), 5):
        pass
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    assert time.monotonic() - began < 15
    process.stdout.close()
    assert [path.name for path in tmp_path.iterdir() if "musicgen" in path.name] == []


def test_a_missing_package_of_mcp_is_named_with_the_command_that_brings_it(monkeypatch):
    monkeypatch.setattr("app.serve.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"needs the package mcp: .*pip install 'gradio\[mcp\]'"):
        ServeConfig(mcp=True)


def test_a_version_of_mcp_that_gradio_cannot_use_is_told(tiny_folder, tmp_path):
    (tmp_path / "other" / "mcp").mkdir(parents=True)
    (tmp_path / "other" / "mcp" / "__init__.py").write_text("")
    told = subprocess.run(
        [sys.executable, "-m", "app", "--model", str(tiny_folder), "--mcp"],
        capture_output=True,
        text=True,
        env=os.environ
        | {"TMPDIR": str(tmp_path), "PYTHONPATH": str(tmp_path / "other"), "OMP_NUM_THREADS": "1"},
        timeout=120,
    )
    assert told.returncode == 2
    assert told.stderr.startswith("error: --mcp cannot be offered (Error launching MCP server: ")
    assert "may be of a version" in told.stderr
    assert told.stderr.count("\n") == 1
    assert list(tmp_path.glob("musicgen-rl-studio-*")) == []


def test_a_studio_that_is_ended_while_it_loads_leaves_nothing_behind(tiny_folder, tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "app", "--model", str(tiny_folder)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1"},
    )
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline().startswith("loading")
    waited = 0.0
    while not list(tmp_path.glob("musicgen-rl-studio-*")) and waited < 60:
        time.sleep(0.02)
        waited += 0.02
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 128 + signal.SIGTERM
    assert list(tmp_path.glob("musicgen-rl-studio-*")) == []


@pytest.mark.parametrize(
    ("headers", "root"),
    [
        ({"host": "127.0.0.1:7860"}, "http://127.0.0.1:7860/"),
        ({"host": "127.0.0.1:7860", "x-forwarded-host": "music.example, inner",
          "x-forwarded-proto": "https, http"}, "https://music.example/"),
    ],
)  # fmt: skip
def test_files_are_named_by_the_address_their_asker_used(headers, root):
    request = SimpleNamespace(headers=headers, url=SimpleNamespace(scheme="http"))
    assert root_of(request) == root
