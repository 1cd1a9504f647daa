"""`musicgen-rl train pair` from the command line: both ends, the dial, and every refusal."""

import json
import shutil
from collections import namedtuple
from pathlib import Path

import pytest
import torch

from musicgen_rl.checkpoint import load_state, model_hash, read_info
from musicgen_rl.cli import main
from musicgen_rl.training.checkpointing import save_training_state
from musicgen_rl.training.ease import main as ease
from musicgen_rl.training.metrics import read_metrics
from musicgen_rl.training.temper import main as temper
from tests.judged import save_judged
from tests.merging.pairs import tune
from tests.models import save_tiny

SMALL = ("steps=2", "prompts_per_step=2", "clip_s=1.0", "listen_every=1", "measure_every=1")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_judged(tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    file = tmp_path / "prompts.txt"
    file.write_text("slow piano\nfast drums\nsad violin\n")
    return file


def pair(base: Path, prompts: Path, out: Path, *more: object) -> int:
    given = {str(m).partition("=")[0] for m in more}
    settings = [
        x for end in ("--quality", "--diversity") for s in SMALL
        for x in (end, s) if end == "--quality" or s.partition("=")[0] not in given
    ]  # fmt: skip
    command = ["train", "pair", "--base", base, "--prompts", prompts, "-o", out, "--threads", 1]
    return main([str(a) for a in (*command, *settings, *more)])


def test_a_pair_is_trained_into_its_base_and_the_dial_runs_on_it(
    base: Path, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home, runs = tmp_path / "home", tmp_path / "runs"
    shutil.copytree(base, home)
    options = ("--runs", runs, "--diversity", "train=low-rank", "--diversity", "start_blend=0.5",
               "--diversity", "clips_per_prompt=3", "--diversity-weight", 40)  # fmt: skip
    assert pair(home, prompts, home, *options) == 0
    assert capsys.readouterr().out.split() == [str(home / end) for end in ("quality", "diversity")]

    told = {end: read_info(home / end).notes for end in ("quality", "diversity")}
    assert all(notes["base"]["sha256"] == model_hash(read_info(home)) for notes in told.values())
    assert [told[e]["endpoint"]["diversity_weight"] for e in told] == [0.0, 40.0]
    assert told["diversity"]["endpoint"]["start"] == "tiny-quality"
    rows = {end: read_metrics(runs / end / "metrics.jsonl") for end in told}
    steps = {end: [r for r in rows[end] if r["kind"] == "train"] for end in told}
    assert [[r["beta"] for r in steps[e]] for e in told] == [[0.0, 0.0], [40.0, 40.0]]
    assert all("grad_norm_reward" in r for r in steps["diversity"])
    assert all("grad_norm_reward" not in r for r in steps["quality"])
    heard = [r for r in rows["diversity"] if r["kind"] == "heard"]
    assert all({"held_out_diversity", "score", "silent", "repeated"} <= set(r) for r in heard)

    before = {p: p.read_bytes() for p in sorted(home.rglob("*.safetensors"))}
    assert pair(home, prompts, home, *options) == 0  # finished: nothing is trained again
    assert {p: p.read_bytes() for p in sorted(home.rglob("*.safetensors"))} == before
    shutil.rmtree(runs)  # the pair does not need them
    capsys.readouterr()
    generate = ["generate", "slow piano", "--model", home, "--duration", 1, "-o", tmp_path / "out"]
    clips = []
    for place in (0, 0.5, 1):
        assert main([str(a) for a in (*generate, "--seed", 3, "--diversity", place)]) == 0
        clips.append(Path(capsys.readouterr().out.strip()).read_bytes())
    assert len(set(clips)) == 3


def test_a_folder_is_tempered_whole_and_its_second_end_eased(
    base: Path, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home, out = tmp_path / "home", tmp_path / "tempered" / "home"
    shutil.copytree(base, home)
    low_rank = ("train=low-rank", "start_blend=0.5", "clips_per_prompt=3")
    options = [x for setting in low_rank for x in ("--diversity", setting)]
    assert pair(home, prompts, home, *options, "--diversity-weight", 40) == 0
    capsys.readouterr()
    K = read_info(home).lm.num_codebooks
    by_codebook = [1.0, *([1.25] * (K - 1))]
    command = [str(home), "--out", str(out), "--temperature"]
    assert temper([*command, "1.2", *("1" for _ in range(K))]) == 2
    assert f"{K + 1} temperatures for a model of {K} codebooks" in capsys.readouterr().err
    assert not out.exists()
    assert temper([*command, *map(str, by_codebook)]) == 0
    assert capsys.readouterr().out.strip() == str(out)
    for end in ("", "quality", "diversity"):
        before, after = (load_state(read_info(folder / end)) for folder in (home, out))
        for name in before:
            factor = torch.ones(1)
            if name == "heads.weight":
                factor = torch.tensor(by_codebook).repeat_interleave(len(before[name]) // K)[
                    :, None
                ]
            torch.testing.assert_close(
                factor * after[name].float(), before[name].float(), rtol=2e-3, atol=1e-3
            )
    told = read_info(out / "diversity").notes
    assert told["base"]["sha256"] == model_hash(read_info(out)) != model_hash(read_info(home))
    assert told["low_rank"]["over"]["sha256"] == model_hash(read_info(out / "quality"))
    assert read_info(out).notes["temperature_in_heads"] == by_codebook
    again = tmp_path / "again"
    assert (
        temper([str(out), "--out", str(again), "--temperature", *(str(1 / t) for t in by_codebook)])
        == 0
    )
    assert read_info(again).notes["temperature_in_heads"] == 1.0
    shutil.rmtree(again)

    end, other = out / "diversity", tmp_path / "deep" / "er" / "eased"
    other.parent.mkdir(parents=True)
    start, there = load_state(read_info(out)), load_state(read_info(end))
    quality = load_state(read_info(out / "quality"))
    assert ease([str(end), "--part", "0.5", "--share", "0.75", "--out", str(other)]) == 0
    torch.testing.assert_close(load_state(read_info(end)), there)  # the copy alone was changed
    eased = load_state(read_info(other))
    for name, tensor in start.items():
        q, b, d = (x.float() for x in (quality[name], tensor, there[name]))
        expected = 0.25 * q + 0.75 * b + 0.5 * (d - 0.5 * q - 0.5 * b)
        torch.testing.assert_close(eased[name].float(), expected, rtol=1e-4, atol=1e-4)
    assert read_info(other).notes["eased"] == {"part": 0.5, "trained_at_share": 0.5}
    for folder, given, words in (
        (out / "quality", ["--part", "0.5"], "no low-rank endpoint"),
        (other, ["--part", "2"], "part must be"),
        (other, ["--part", "0.5", "--share", "0.7"], "multiple of 1/256"),
        (end, ["--part", "0.5", "--share", "0.7", "--out", str(tmp_path / "x")], "multiple of"),
    ):
        assert ease([str(folder), *given]) == 2
        assert words in capsys.readouterr().err
    torch.testing.assert_close(load_state(read_info(other)), eased)  # untouched

    shutil.rmtree(home)  # the dial runs on the new folder alone
    generate = ["generate", "slow piano", "--model", out, "--duration", 1, "-o", tmp_path / "out"]
    assert main([str(a) for a in (*generate, "--diversity", 0.5)]) == 0

    for wrong, words in (
        ([*command, "1.25"], "is there already"),
        (
            [str(out / "diversity"), "--temperature", "1.25", "--out", str(tmp_path / "x")],
            "no heads",
        ),
        ([str(out), "--temperature", "0", "--out", str(tmp_path / "x")], "temperature must be"),
        ([str(home), "--temperature", "1.25", "--out", str(tmp_path / "x")], str(home)),
    ):
        assert temper(wrong) == 2
        assert words in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_the_second_end_may_start_from_the_base(
    base: Path, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--no-from-quality", "--diversity", "learning_rate=0", "--no-held-out")
    assert pair(base, prompts, tmp_path / "pair", *options) == 0
    capsys.readouterr()
    found = load_state(read_info(tmp_path / "pair" / "diversity"))["heads.weight"]
    expected = load_state(read_info(base))["heads.weight"]
    torch.testing.assert_close(found.float(), expected, rtol=1e-3, atol=1e-3)


def test_a_pair_finds_the_weight_in_its_quality_run(
    base: Path, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home, runs = tmp_path / "home", tmp_path / "runs"
    options = ("--runs", runs, "--diversity", "clip_s=1.2", "--diversity-weight", "auto")
    assert pair(base, prompts, home, *options) == 2
    assert "2 steps with listen_every 1 are too few" in capsys.readouterr().err
    assert not runs.exists()
    longer = (*(s for s in SMALL if s != "steps=2"), "steps=8", "learning_rate=0")
    options += tuple(x for setting in longer for x in ("--quality", setting))
    command = ["train", "pair", "--base", base, "--prompts", prompts, "-o", home, "--threads", 1]
    command += [x for s in (*SMALL[:2], *SMALL[3:]) for x in ("--diversity", s)]
    command = [str(word) for word in (*command, *options)]
    assert main(command) == 2
    assert "diversity_weight auto has nothing to go by" in capsys.readouterr().err
    assert (runs / "quality" / "export").is_dir()  # is kept
    assert not (runs / "diversity").exists()
    assert not (home / "quality").exists()

    told = [
        {"kind": "train", "step": step, "diversity": 0.8 if step == 1 else 0.6 + 0.001 * (step % 2),
         "kl_per_token": 0.5 if step == 1 else 0.1, "tokens_per_clip": 60.0}
        for step in range(1, 13)
    ]  # fmt: skip
    log = runs / "quality" / "metrics.jsonl"
    log.write_text("".join(json.dumps(row) + "\n" for row in told))
    tokens = round(1.2 * read_info(base).frame_rate) * read_info(base).lm.num_codebooks
    weight = float(f"{0.4 * tokens / 0.1995:.3g}")
    assert main(command) == 0  # goes on: the quality end is done
    done = capsys.readouterr()
    assert f"diversity_weight {weight:g}: the quality run took the KL" in done.err
    assert "no held-out encoder" not in done.err  # the base has judges
    notes = read_info(home / "diversity").notes["endpoint"]
    assert notes["diversity_weight"] == notes["diversity_weight_from"]["weight"] == weight
    assert "diversity_weight_from" not in read_info(home / "quality").notes["endpoint"]
    rows = [r for r in read_metrics(runs / "diversity" / "metrics.jsonl") if r["kind"] == "train"]
    assert {row["beta"] for row in rows} == {weight}

    alone = ["train", "endpoints", "--base", base, "--prompts", prompts, "--steps", 1]
    alone += ["--diversity-weight", "auto", "--prompts-per-step", 2, "--clip-s", 1.2]
    alone += ["-o", tmp_path / "one"]
    start = ("--start", runs / "quality" / "export")
    assert main([str(a) for a in (*alone, *start)]) == 0
    assert f"diversity_weight {weight:g}: " in capsys.readouterr().err
    export = read_info(tmp_path / "one" / "export").notes["endpoint"]
    assert export["diversity_weight"] == weight


def test_judges_that_are_missing_are_told_of_before_the_first_step(
    base: Path, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pair(base, prompts, tmp_path / "pair", "--no-held-out") == 0
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("no held-out encoder and no scorer: ")
    assert lines[0].endswith("and not --no-held-out")
    assert sum(line.startswith("no held-out encoder") for line in lines) == 2  # once an end
    assert pair(base, prompts, tmp_path / "pair", "--no-held-out") == 0  # is finished: not again
    assert "no held-out encoder" not in capsys.readouterr().err


def test_what_would_stop_either_end_is_one_line_before_the_first(
    base: Path, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = tmp_path / "words" / "runs" / "diversity"
    save_training_state(words / "state", {"step": torch.zeros(1)}, {"kind": "contrast"})
    silent = save_tiny(tmp_path / "silent")  # 8 kHz: no encoder hears that
    (tmp_path / "one.txt").write_text("slow piano\n")
    (tmp_path / "none.txt").write_text("\n# nothing\n")
    (tmp_path / "full" / "quality").mkdir(parents=True)
    (tmp_path / "full" / "quality" / "thesis.txt").write_text("all I have")
    out = tmp_path / "pair"
    judges = ("--instruments", base / "rewards")
    cases: list[tuple[tuple[Path, Path, Path, tuple[object, ...]], str]] = [
        ((base, tmp_path / "none.txt", out, ()), "holds no prompt"),
        ((base, tmp_path / "one.txt", out, ()), "holds 1 different prompt, a step takes 2"),
        ((base, tmp_path / "gone.txt", out, ()), "No such file"),
        ((base, prompts, out, ("--quality", "clips_per_prompt=1")), "at least 2"),
        ((base, prompts, out, ("--diversity", "clips_per_prompt=1")), "at least 2"),
        ((base, prompts, out, ("--diversity-weight", "-3")), "diversity_weight must be 0"),
        ((base, prompts, out, ("--diversity-weight", "nan")), "diversity_weight must be 0"),
        ((base, prompts, out, ("--diversity", "diversity_weight=0")), "above 0"),
        ((base, prompts, out, ("--diversity-weight", "much")), "needs a float, got 'much'"),
        ((base, prompts, out, ("--quality", "diversity_weight=auto")), "has diversity_weight 0"),
        (
            (
                base,
                prompts,
                out,
                ("--diversity-weight", "auto", "--diversity", "reward=determinant"),
            ),
            "take reward cosine or answered",
        ),
        (
            (base, prompts, out, ("--diversity-weight", "auto", "--quality", "guidance_scale=2")),
            "both ends to have one guidance_scale, got 2.0 and 3.0",
        ),
        ((base, prompts, out, ("--quality", "diversity_weight=1")), "has diversity_weight 0"),
        ((base, prompts, out, ("--diversity", "loudness=3")), "unknown option 'loudness'"),
        ((base, prompts, out, ("--diversity", "prompts_per_step=4")), "a step takes 4"),
        ((base, prompts, out, ("--diversity", "clip_s=0.5")), "the diversity end: "),
        ((base, prompts, out, ("--diversity", "clip_s=3")), "the model's window of 2 s"),
        ((base, prompts, out, ("--diversity", "codebook_weights=a")), "codebook_weights"),
        (
            (silent, prompts, out, judges),
            "the quality end: reward models hear audio of 16000 Hz or more",
        ),
        ((silent, prompts, out, ()), "needs a training encoder"),
        ((base, prompts, out, ("--encoder", tmp_path)), "reward"),
        ((base, prompts, tmp_path / "full", ()), "is not empty and no model"),
        ((base, prompts, prompts, ()), "is a file"),
        ((base, prompts, tmp_path / "words", ()), f"{words} holds a run of `train contrast`"),
        ((tmp_path, prompts, out, ()), "model"),
    ]
    for (model, file, place, more), says in cases:
        code = pair(model, file, place, *more)
        done = capsys.readouterr()
        assert code == 2, (says, done.err)
        assert done.out == ""
        assert len(done.err.splitlines()) == 1, done.err
        assert done.err.startswith("error: ")
        assert says in done.err, (says, done.err)
        assert not out.exists()
        assert not (tmp_path / "full" / "runs").exists()


def test_no_room_on_the_disk_is_told_before_training(
    base: Path, prompts: Path, tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str]
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10, 9, 1))
    assert pair(base, prompts, tmp_path / "pair") == 2
    assert "GB are free: make room" in capsys.readouterr().err
    assert not (tmp_path / "pair").exists()


def test_one_end_refuses_what_a_pair_refuses(
    base: Path, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = save_judged(tmp_path / "other", seed=1)
    stranger = tune(other, tmp_path / "stranger", 2, knows_base=True)
    silent = save_tiny(tmp_path / "silent")
    (tmp_path / "one.txt").write_text("slow piano\n")
    few = ("--prompts-per-step", 2, "--clip-s", 1.0)
    hears = ("--encoder", base / "rewards" / "encoder-training", "--diversity-weight", 5)
    cases = [
        ((base, prompts, *few, "--start", stranger), "tuned from a base with hash"),
        ((base, tmp_path / "one.txt", *few), "holds 1 different prompt, a step takes 2"),
        ((base, prompts, *few, "--clips-per-prompt", 1), "at least 2"),
        ((base, prompts, *few, "--diversity-weight", "-1"), "diversity_weight must be 0"),
        ((base, prompts, *few, "--diversity-weight", "nan"), "diversity_weight must be 0"),
        ((silent, prompts, *few, *hears), "reward models hear audio of 16000 Hz or more"),
        ((base, prompts, *few, "--preset", "huge"), "unknown preset 'huge'"),
        ((base, prompts, *few, "--diversity-weight", "auto"), "needs a quality run to start from"),
        (
            (base, prompts, *few, "--diversity-weight", "auto", "--start", base),
            "needs a quality run to start from",
        ),
    ]
    for (model, file, *more), says in cases:
        command = ["train", "endpoints", "--base", model, "--prompts", file, *more]
        code = main([str(a) for a in (*command, "-o", tmp_path / "run")])
        done = capsys.readouterr()
        assert (code, done.out) == (2, ""), (says, done.err)
        assert len(done.err.splitlines()) == 1, done.err
        assert says in done.err, (says, done.err)
    assert not (tmp_path / "run").exists()
