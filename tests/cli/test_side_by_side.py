"""`--processes`: one command, several processes, the same run."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from musicgen_rl.checkpoint import load_state, read_info
from musicgen_rl.cli import run
from musicgen_rl.cli import side_by_side as side_by_side_module
from musicgen_rl.cli.side_by_side import is_first, side_by_side, threads_each
from musicgen_rl.errors import ConfigError, MusicgenRLError
from musicgen_rl.training.metrics import read_metrics
from tests.judged import save_judged

ROOT = Path(__file__).resolve().parents[2]


def test_threads_are_shared_out_where_the_user_gave_no_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert [threads_each(n, 0) for n in (1, 2, 3, 16)] == [0, 4, 2, 1]
    assert threads_each(2, 3) == 3


def test_one_process_starts_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", None)
    with side_by_side(1):
        assert "WORLD_SIZE" not in os.environ


def test_a_launcher_has_its_own_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    assert not is_first()
    with pytest.raises(ConfigError, match="leave it out"), side_by_side(2):
        raise AssertionError


def test_the_others_know_their_number_and_nothing_is_left_behind() -> None:
    before = dict(os.environ)
    with side_by_side(3, ["--version"]):
        found = {n: os.environ[n] for n in ("RANK", "WORLD_SIZE", "MASTER_ADDR")}
        assert found == {"RANK": "0", "WORLD_SIZE": "3", "MASTER_ADDR": "127.0.0.1"}
    assert dict(os.environ) == before


@pytest.mark.parametrize(("given", "threads"), [(None, "4"), ("3", "3")])
def test_accelerate_is_told_how_many_threads_each_has(
    given: str | None, threads: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without the variable it sets as many threads as there are cores, in every process.
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if given:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    with side_by_side(2, ["--version"]):
        assert os.environ["OMP_NUM_THREADS"] == threads
    assert os.environ.get("OMP_NUM_THREADS") == given


def test_another_process_that_dies_is_told_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    others: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen
    monkeypatch.setattr(
        subprocess, "Popen", lambda *a, **k: others.append(popen(*a, **k)) or others[-1]
    )

    def break_off() -> None:
        with side_by_side(2, ["no-such-command"]):
            others[0].wait(60)
            raise RuntimeError("connection closed by peer")

    with pytest.raises(MusicgenRLError, match="ended with status 2: what was saved is intact"):
        break_off()


def test_another_process_that_dies_before_all_have_met_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = threading.Event()
    monkeypatch.setattr(side_by_side_module, "WAIT_S", 0.1)
    monkeypatch.setattr(os, "_exit", lambda status: ended.set())
    with side_by_side(2, ["no-such-command"]):
        assert ended.wait(60)
    assert "ended with status 2: what was saved is intact" in capsys.readouterr().err


@pytest.mark.parametrize(("command", "message"), [
    (["train", "lm", "--codec", "c", "--out", "o", "--tokens", "t", "--batch-size", "5"],
     "batch_size 5 is not a multiple of 2 processes"),
    (["train", "endpoints", "--base", "pocket", "--prompts", "p", "-o", "o",
      "--prompts-per-step", "3"], "prompts_per_step 3 is not a multiple of 2 processes"),
])  # fmt: skip
def test_what_cannot_be_shared_out_is_refused_before_any_process(
    command: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "Popen", None)
    with pytest.raises(ConfigError, match=message):
        run([*command, "--processes", "2"])


@pytest.mark.slow
def test_two_processes_make_the_pair_that_one_makes(tmp_path: Path) -> None:
    base = save_judged(tmp_path / "tiny")
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("slow piano\nfast drums\nsad violin\n")
    small = ("steps=2", "prompts_per_step=2", "clip_s=1.0", "listen_every=1", "warmup_steps=0")
    settings = [x for end in ("--quality", "--diversity") for s in small for x in (end, s)]
    for processes in ("1", "2"):
        command = ["train", "pair", "--base", base, "--prompts", prompts, "--threads", "1",
                   "-o", tmp_path / processes, "--processes", processes, *settings]  # fmt: skip
        made = subprocess.run(
            [sys.executable, "-m", "musicgen_rl", *map(str, command)], cwd=ROOT, timeout=300,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert made.returncode == 0, made.stderr
        assert made.stdout.split() == [
            str(tmp_path / processes / e) for e in ("quality", "diversity")
        ]
    for end in ("quality", "diversity"):
        rows = [read_metrics(tmp_path / p / "runs" / end / "metrics.jsonl") for p in "12"]
        kls = [[row["kl"] for row in r if row["kind"] == "train"] for r in rows]
        assert kls[0] == pytest.approx(kls[1], rel=1e-3)
        one, two = (load_state(read_info(tmp_path / p / end)) for p in "12")
        worst = max(float((one[n].float() - two[n].float()).abs().max()) for n in one)
        assert worst < 2e-3
