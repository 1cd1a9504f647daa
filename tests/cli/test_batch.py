import json
import subprocess

import pytest

from musicgen_rl.batch import read_results
from musicgen_rl.errors import ConfigError
from tests.cli.conftest import REPOSITORY, command, environment


@pytest.fixture
def prompts(tmp_path):
    path = tmp_path / "prompts.csv"
    path.write_text("id,prompt,duration\na,slow piano,0.2\nb,drums,\n")
    return path


@pytest.fixture
def batch(call, prompts, tiny_folder, tmp_path):
    def _batch(*options, model=tiny_folder):
        return call(
            "batch", prompts, "-o", tmp_path / "out", "--duration", 0.3, "--dtype", "fp32",
            "--model", model, *options,
        )  # fmt: skip

    return _batch


def test_a_file_becomes_clips_and_the_same_command_goes_on(batch, tmp_path):
    done = batch("-n", 2)
    assert done.code == 0, done.err
    assert done.paths == [tmp_path / "out" / "manifest.jsonl"]
    assert done.err.splitlines()[0] == "4 clips, 1 s of audio, in fp32 on cpu"
    assert "4 made, 0 kept, 0 failed, 0 missing" in done.err
    results = list(read_results(tmp_path / "out").values())
    assert {(r.item.name, r.item.index, r.duration_s) for r in results} == {
        ("a", 0, 0.2), ("a", 1, 0.2), ("b", 0, 0.3), ("b", 1, 0.3),
    }  # fmt: skip
    again = batch("-n", 2)
    assert again.code == 0
    assert "0 made, 4 kept" in again.err


def test_as_many_processes_as_pay_unless_said(batch, tmp_path, monkeypatch):
    given = []

    def run(plan, folder, **options):
        given.append(options["workers"])
        raise ConfigError("far enough")

    monkeypatch.setattr("musicgen_rl.batch.run.run_batch", run)
    monkeypatch.setattr("musicgen_rl.batch.plan.choose_workers", lambda plan, missing: len(missing))
    assert "4 clips, 1 s of audio, in fp32 on cpu, 4 workers" in batch("-n", 2).err
    batch("-n", 2, "--workers", 1)
    assert given == [4, 1]


def test_options_reach_the_clips(batch, tmp_path):
    batch(
        "--seed", 9, "--guidance", 2, "--guidance-seconds", 0.1, "--temperature", 0.8,
        "--top-k", 11, "--top-p", 0.7,
        "--negative-prompt", "noise", "--loudness", -20, "--format", "wav", "--shard-size", 1,
        "--format-container", "tar",
    )  # fmt: skip
    result = next(iter(read_results(tmp_path / "out").values()))
    assert result.settings["sampling"] == {
        "guidance_scale": 2.0, "guidance_s": 0.1, "temperature": 0.8, "top_k": 11, "top_p": 0.7,
        "negative_prompt": "noise",
    }  # fmt: skip
    assert result.settings["seed"] == 9
    assert result.settings["loudness"]["target_lufs"] == -20
    assert result.member.endswith(".wav")
    assert result.path.name == "shard-000000.tar"


def test_every_position_of_the_dial(batch, tmp_path, dial_folder):
    assert batch("--diversity", "base,0,1", "--merge-method", "slerp", model=dial_folder).code == 0
    items = [r.item for r in read_results(tmp_path / "out").values()]
    assert sorted(str(i.diversity) for i in items) == ["0.0"] * 2 + ["1.0"] * 2 + ["None"] * 2
    assert {i.merge_method for i in items} == {"slerp"}


def test_verify_finds_marks_and_says_what_to_do(batch, tmp_path):
    batch()
    assert batch("--verify").code == 0
    broken = next(iter(read_results(tmp_path / "out").values())).path
    broken.write_bytes(broken.read_bytes()[:-9] + b"123456789")
    told = batch("--verify")
    assert told.code == 1
    assert "its bytes have changed" in told.err
    assert "1 clips to make: the same command without --verify" in told.err
    assert "1 made, 1 kept" in batch().err
    assert batch("--verify").err == "every clip is there and whole\n"


def test_a_dry_run_measures_and_writes_nothing(batch, tmp_path):
    told = batch("-n", 3, "--dry-run")
    assert told.code == 0
    for words in ("clips to make: 6 in 2 batches", "audio: 2 s", "on disk: 0.0", "x real time"):
        assert words in told.err
    assert not (tmp_path / "out").exists()
    batch("-n", 3)
    assert batch("-n", 3, "--dry-run").err == "every clip is made already\n"


def test_a_changed_option_is_refused_with_the_difference(batch):
    batch()
    batch("--temperature", 0.5).refused("temperature 1 -> 0.5", "another folder")
    batch("--format", "ogg").refused("format flac -> ogg")
    batch("-n", 2).refused("2 clips -> 4")
    batch("--temperature", 0.5, "--dry-run").refused("temperature 1 -> 0.5")


def test_facts_edited_in_the_file_reach_the_manifest_by_the_same_command(batch, prompts, tmp_path):
    prompts.write_text("id,prompt,split,mood\na,slow piano,train,low\nb,drums,train,\n")
    batch()
    prompts.write_text("id,prompt,split,mood\na,slow piano,test,high\nb,drums,train,\n")
    done = batch()
    assert done.code == 0
    assert "0 made, 2 kept" in done.err
    assert "the names, splits or facts of 1 clips were brought up to date" in done.err
    rows = [json.loads(x) for x in (tmp_path / "out/manifest.jsonl").read_text().splitlines()]
    found = {r["attributes"]["name"]: (r["split"], r["attributes"].get("mood")) for r in rows}
    assert found == {"a": ("test", "high"), "b": ("train", None)}
    assert "brought up to date" not in batch().err


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--diversity", "0.5"], "no dial"),
        (["--diversity", "much"], "--diversity takes a number, got 'much'"),
        (["-n", "0"], "clips_per_prompt"),
        (["--workers", "two"], "--workers takes a whole number, got 'two'"),
        (["--format", "aac"], "unknown format 'aac'"),
        (["--format-container", "zip"], "unknown container 'zip'"),
        (["--engine", "spark"], "unknown engine 'spark'"),
        (["--loudness", "-20", "--no-loudness"], "contradict"),
        (["--verify", "--dry-run"], "two things"),
        (["--batch-size", "9999"], "batch_size"),
        (["--returning", "2"], "--returning 2 says how chords are played, and none are asked for"),
    ],
)
def test_what_cannot_work_is_refused_before_any_work(batch, tmp_path, options, says):
    batch(*options).refused(says)
    assert not (tmp_path / "out").exists()


def test_a_wrong_line_is_named(batch, prompts, tmp_path):
    prompts.write_text("prompt,diversity\nslow piano,7\n")
    batch().refused("prompts.csv, line 2: diversity must be between 0 and 1, got 7.0")
    prompts.write_text("prompt\n\xff\n", encoding="latin-1")
    batch().refused("line 2: not UTF-8")


@pytest.mark.slow
def test_standard_input_ctrl_c_and_kill_in_processes_of_their_own(tiny_folder, tmp_path):
    import signal
    import time

    folder = tmp_path / "out"
    lines = "".join(f"prompt {i}\n" for i in range(40))
    arguments = command(
        "batch", "-", "-o", folder, "--duration", 1, "--dtype", "fp32", "--model", tiny_folder,
        "--batch-size", 2,
    )  # fmt: skip

    def start():
        running = subprocess.Popen(
            arguments, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY,
            env=environment(),
        )  # fmt: skip
        running.stdin.write(lines)
        running.stdin.close()
        running.stdin = None
        return running

    for number in (signal.SIGINT, signal.SIGKILL):
        running = start()
        end = time.monotonic() + 100
        while time.monotonic() < end:
            time.sleep(0.1)
            if (folder / "plan.sqlite").exists() and list(folder.glob("clips/*/*.flac")):
                break
        running.send_signal(number)
        _, said = running.communicate(timeout=60)
        assert running.returncode == (130 if number == signal.SIGINT else -9), said
        if number == signal.SIGINT:
            assert "the same command goes on" in said
    running = start()
    _, said = running.communicate(timeout=200)
    assert running.returncode == 0, said
    assert len(read_results(folder)) == len(list(folder.glob("clips/*/*.flac"))) == 40
    assert json.loads((folder / "summary.json").read_text())["missing"] == 0
