"""The frame around the commands: help, exit statuses, one line for every error."""

import errno
import importlib
import os
import subprocess
import sys

import pytest
import typer

from musicgen_rl import errors
from musicgen_rl.cli import COMMANDS, main
from musicgen_rl.cli.failures import guarded
from tests.cli.conftest import REPOSITORY, command, environment, shell


def raising(error):
    def run() -> int:
        raise error

    return run


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], ["help"]])
def test_the_overview_names_every_command(call, arguments):
    done = call(*arguments)
    assert done.code == 0
    assert all(f"  {name} " in done.out for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(call, name):
    done = call(name, "--help")
    assert done.code == 0
    assert f"musicgen-rl {name}" in done.out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_a_typer_app(name):
    assert isinstance(importlib.import_module(f"musicgen_rl.cli.{name}").app, typer.Typer)


def test_version(call):
    from musicgen_rl.audio.tags import package_version

    assert call("--version").out == f"musicgen-rl {package_version()}\n"


def test_help_and_refusals_need_no_torch():
    code = """
import sys
from musicgen_rl.cli import main
assert main(["--help"]) == 0
assert main(["generate", "--help"]) == 0
assert main(["generate", "x", "--duration", "nan"]) == 2
print([m for m in ("torch", "scipy", "transformers", "rich") if m in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_it_runs_as_a_module():
    assert shell("--version").out.startswith("musicgen-rl ")


def test_an_unknown_command_is_refused(call):
    call("compose").refused("'compose'", "generate")


def test_a_group_without_its_command_shows_its_help(call):
    done = call("data")
    assert done.code == 2
    assert "check" in done.out + done.err
    assert "Traceback" not in done.err


def test_an_unknown_option_is_refused_in_the_same_style(call):
    call("generate", "x", "--speed", "3").refused("--speed", "--help")


def test_a_broken_command_does_not_break_another(call, monkeypatch):
    monkeypatch.setitem(sys.modules, "musicgen_rl.cli.train", None)
    assert call("train").code != 0
    assert call("generate", "--help").code == 0


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (errors.InputError("the prompt is empty"), 2, "error: the prompt is empty\n"),
        (errors.StorageError("two\nlines\x1b[31m"), 2, "error: two lines\\x1b[31m\n"),
        (MemoryError(), 2, "error: not enough memory: "),
        (OSError(errno.ENOSPC, "No space left", "/a"), 2, "error: No space left: '/a': "),
        (PermissionError(errno.EACCES, "Permission denied", "b"), 2, "Permission denied: 'b'"),
        (ModuleNotFoundError("no", name="gradio"), 2, "pip install 'musicgen-rl[app]'"),
        (ModuleNotFoundError("no", name="ray.data"), 2, "pip install 'musicgen-rl[ray]'"),
        (KeyError("x"), 70, "error: unexpected KeyError: 'x': this is a bug, please report"),
        (RecursionError("deep"), 70, "unexpected RecursionError: deep"),
        (KeyboardInterrupt(), 130, "stopped\n"),
        (SystemExit(143), 143, ""),
        (BrokenPipeError(), 141, ""),
    ],
)  # fmt: skip
def test_every_error_is_one_line_and_a_status(capsys, error, code, says):
    assert guarded(raising(error)) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert says in err
    assert err.count("\n") <= 1
    assert "Traceback" not in err


def test_a_list_of_problems_keeps_a_line_for_each(capsys):
    problems = "".join(f"\n  line {i}: broken\x1b[2J" for i in range(60))
    guarded(raising(errors.InputError("m.jsonl cannot be learnt from:" + problems)))
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == ["error: m.jsonl cannot be learnt from:", "  line 0: broken\\x1b[2J"]
    assert len(lines) == 52
    assert lines[-1] == "  and 10 more"


def test_a_very_long_message_is_cut_in_its_middle(capsys):
    guarded(raising(errors.InputError("begin" + "x" * 10**6 + "end")))
    err = capsys.readouterr().err
    assert len(err) < 700
    assert "begin" in err


def test_debug_shows_where_an_error_came_from(call, monkeypatch):
    done = call("--debug", "generate", "")
    assert done.code == 2
    assert "Traceback" in done.err
    assert done.err.splitlines()[-1].startswith("error: the prompt is empty")
    monkeypatch.setenv("MUSICGEN_RL_DEBUG", "1")
    assert "Traceback" in call("generate", "").err


def test_status_of_the_command_is_that_of_the_process(call, monkeypatch):
    from musicgen_rl import cli

    monkeypatch.setattr(cli, "run", lambda arguments: 1)
    assert main(["doctor"]) == 1


def test_a_full_disk_behind_stdout_is_one_line():
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            command("--help"), stdout=full, stderr=subprocess.PIPE, text=True, timeout=60,
            cwd=REPOSITORY, env=environment(),
        )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "error: No space left on device: check the disk and the output"
    ]


def test_a_reader_that_goes_away_is_no_error():
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        command("--help"), stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60,
        cwd=REPOSITORY, env=environment(),
    )  # fmt: skip
    os.close(writer)
    assert done.returncode == 141
    assert done.stderr == ""
