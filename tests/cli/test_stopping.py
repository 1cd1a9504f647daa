"""Ctrl-C, SIGTERM and hanging up: what is finished is kept, and the exit status says so."""

import os
import signal
import subprocess

import pytest

from musicgen_rl.audio.io import read_audio, read_tags
from musicgen_rl.cli.show import Bar
from musicgen_rl.cli.stopping import StopSignals
from tests.cli.conftest import REPOSITORY, command, environment


def start(*arguments):
    return subprocess.Popen(
        command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        cwd=REPOSITORY, env=environment(),
    )  # fmt: skip


def test_ctrl_c_keeps_what_is_finished(tiny_folder, tmp_path):
    process = start(
        "generate", "x", "-n", 900, "--duration", 5, "--seed", 1, "--dtype", "fp32",
        "--model", tiny_folder, "-o", tmp_path,
    )  # fmt: skip
    first = process.stdout.readline()  # a batch is finished, the next one is under way
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=100)
    assert process.returncode == 130, err
    paths = [first.strip(), *out.split()]
    assert sorted(os.listdir(tmp_path)) == sorted(os.path.basename(p) for p in paths)
    whole = [p for p in paths if read_tags(p)["complete"]]
    assert 1 <= len(whole) < 900
    assert all(read_audio(p).num_samples == 40_000 for p in whole)
    for path in set(paths) - set(whole):
        assert "-stopped" in path
        assert 0 < read_audio(path).num_samples < 40_000
    assert "stopping" in err
    assert f"{len(paths)} of 900 files written, --seed 1" in err
    assert "Traceback" not in err


def test_a_reader_that_goes_away_loses_nothing_that_is_decoded(tiny_folder, tmp_path):
    process = start(
        "generate", "x", "-n", 900, "--duration", 5, "--seed", 1, "--dtype", "fp32",
        "--model", tiny_folder, "-o", tmp_path,
    )  # fmt: skip
    process.stdout.readline()
    process.stdout.close()  # as `| head -1` does
    process.stdout = None
    _, err = process.communicate(timeout=100)
    assert process.returncode == 141, err
    paths = sorted(tmp_path.glob("*"))
    assert 2 <= len(paths) < 900  # the batch under way to its end, and no other
    assert all(read_tags(p)["complete"] and read_audio(p).num_samples == 40_000 for p in paths)
    assert f"{len(paths)} of 900 files written, --seed 1" in err
    assert "Traceback" not in err


def test_without_a_stdout_files_are_written_all_the_same(tiny_folder, tmp_path):
    arguments = command(
        "generate", "x", "-n", 2, "--duration", 0.2, "--model", tiny_folder, "-o", tmp_path
    )
    done = subprocess.run(
        ["/bin/sh", "-c", 'exec "$@" >&-', "sh", *arguments], stderr=subprocess.PIPE, text=True,
        cwd=REPOSITORY, env=environment(), timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("*.wav"))) == 2
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_keeps_what_there_is_of_a_long_clip(
    call, tiny_folder, tmp_path, monkeypatch, number
):
    monkeypatch.setattr(signal, "getsignal", lambda _: signal.SIG_DFL)  # tests may outlive theirs
    steps = []

    def update(bar, done, total):
        steps.append(done)
        if len(steps) == 100:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(Bar, "update", update)
    done = call(
        "generate", "x", "--duration", 600, "--seed", 1, "--dtype", "fp32",
        "--model", tiny_folder, "-o", tmp_path / "one.wav",
    )  # fmt: skip
    assert done.code == 128 + number
    assert done.out == f"{tmp_path}/one-stopped.wav\n"
    assert os.listdir(tmp_path) == ["one-stopped.wav"]
    assert read_tags(tmp_path / "one-stopped.wav")["complete"] is False
    assert 1.8 < read_audio(tmp_path / "one-stopped.wav").duration_s < 2.0  # at the next step
    assert "1 of 1 files written" in done.err


def test_ctrl_c_while_loading_ends_at_once_and_leaves_nothing(tiny_folder, tmp_path, monkeypatch):
    from musicgen_rl.cli import main
    from musicgen_rl.pipeline.core import Pipeline

    def load(*arguments, **more):
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("it went on")

    monkeypatch.setattr(Pipeline, "load", load)
    assert main(["generate", "x", "--model", str(tiny_folder), "-o", str(tmp_path / "a/b")]) == 130
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_at_once(number, capfd):
    with StopSignals() as stop:
        assert stop() is False
        assert stop.exit_code == 0
        stop.patient = True
        os.kill(os.getpid(), number)
        assert stop() is True
        assert stop.exit_code == 128 + number
        with pytest.raises(SystemExit) as ended:
            os.kill(os.getpid(), number)
        assert ended.value.code == 128 + number
    assert capfd.readouterr().err.count("stopping") == 1


def test_the_handlers_of_before_come_back():
    before = signal.getsignal(signal.SIGTERM)
    with StopSignals():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before


def test_who_outlives_the_terminal_goes_on_when_it_hangs_up():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with StopSignals() as stop:
            stop.patient = True
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop()
    finally:
        signal.signal(signal.SIGHUP, before)
