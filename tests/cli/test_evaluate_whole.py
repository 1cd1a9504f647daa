"""`musicgen-rl evaluate` from end to end on real, tiny, random judges: models, folders, audio."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from musicgen_rl.audio.clip import Clip
from musicgen_rl.evaluation.summary import read_summary
from musicgen_rl.evaluation.table import read_rows
from tests.judged import save_judged, save_judges
from tests.models import save_tiny_musicgen

RATE = 16000


@pytest.fixture(scope="module")
def judges(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_judges(tmp_path_factory.mktemp("judges"))


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.txt"
    path.write_text("".join(f"slow jazz {i}\n" for i in range(6)))
    return path


def write_clip(path: Path, seed: int, seconds: float = 1.2, rate: int = RATE) -> None:
    generator = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    tones = sum(np.sin(2 * np.pi * f * time) for f in generator.uniform(100, 3000, size=3))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    Clip(0.1 * tones + 0.01 * generator.normal(size=len(time)), rate).save(path)


def fill(folder: Path, copies: bool = False) -> Path:
    """Write two arms of six prompts by two clips; as copies, each prompt's clips are one."""
    for arm in ("ours", "theirs"):
        for p in range(6):
            for i in range(2):
                seed = 10 * p + (0 if copies else i) + 100 * (arm == "theirs")
                write_clip(folder / arm / f"slow jazz {p}" / f"{i}.wav", seed)
    return folder


def test_folders_of_audio_need_no_model_and_two_results_are_compared(
    call, judges: Path, tmp_path: Path
) -> None:
    common = ("evaluate", "--instruments", judges)
    for name, copies in (("a", False), ("b", True)):
        clips = fill(tmp_path / f"clips-{name}", copies)
        done = call(*common, "--clips", clips, "-o", tmp_path / name)
        assert done.code == 0, done.err
        assert done.paths == [tmp_path / name / "report.html"]
        assert (tmp_path / name / "front.png").is_file()
    summary = read_summary(tmp_path / "a")
    assert [a["name"] for a in summary["arms"]] == ["ours", "theirs"]
    assert summary["arms"][0]["clips"] == 12
    assert set(summary["instruments"]) == {
        "encoder report", "encoder training", "scorer report", "scorer training", "probe"
    }  # fmt: skip

    done = call("evaluate", "--compare", tmp_path / "a", tmp_path / "b", "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    rows = {(r["arm"], r["measure"]): r for r in found["rows"]}
    assert found["prompts"] == 6
    for arm in ("ours", "theirs"):
        row = rows[arm, "diversity_report"]
        assert row["a"] > 0
        assert row["b"] == pytest.approx(0, abs=1e-5)  # copies
        assert row["difference"]["high"] < 0
    plain = call("evaluate", "--compare", tmp_path / "a", tmp_path / "b")
    assert plain.code == 0
    assert len(plain.out.splitlines()) == len(found["rows"])
    assert "*" in plain.out

    other = shutil.copytree(judges, tmp_path / "judges")
    shutil.rmtree(other / "encoder-report")
    shutil.copytree(other / "encoder-training", other / "encoder-report")
    clips = tmp_path / "clips-a"
    assert (
        call("evaluate", "--instruments", other, "--clips", clips, "-o", tmp_path / "c").code == 0
    )
    call("evaluate", "--compare", tmp_path / "a", tmp_path / "c").refused(
        "measured by another encoder report", "cannot be compared"
    )


def test_audio_that_cannot_be_compared_is_one_line_before_any_measuring(
    call, judges: Path, tmp_path: Path
) -> None:
    clips, out = fill(tmp_path / "clips"), tmp_path / "out"
    odd = clips / "theirs" / "slow jazz 3" / "1.wav"
    common = ("evaluate", "--instruments", judges, "--clips", clips, "-o", out)
    write_clip(odd, 1, seconds=1.6)
    call(*common).refused("slow jazz 3/1.wav", "1.60 s", "one length")
    write_clip(odd, 1, rate=32000)
    call(*common).refused("slow jazz 3/1.wav", "32000 Hz", "one rate")
    odd.write_text("no music")
    call(*common).refused("slow jazz 3/1.wav", "not a readable audio file")
    odd.unlink()
    call(*common).refused("'theirs' has one clip of 'slow jazz 3'")
    shutil.rmtree(odd.parent)
    call(*common).refused("5 prompts are too few")
    assert not out.exists()


def test_folders_in_musicgens_format_are_the_ends_of_a_front_and_its_controls(
    call, judges: Path, prompts: Path, tmp_path: Path
) -> None:
    base = save_tiny_musicgen(tmp_path / "base", sample_rate=RATE)
    for number, end in enumerate(("quality", "diversity", "steps", "continued"), 1):
        shutil.copytree(base, tmp_path / end)
        state = load_file(base / "model.safetensors")
        generator = torch.Generator().manual_seed(number)
        for name, tensor in state.items():
            if name.startswith("decoder."):
                tensor += 0.05 * torch.randn(tensor.shape, generator=generator)
        save_file(state, tmp_path / end / "model.safetensors", metadata={"format": "pt"})
    done = call(
        "evaluate", "--model", base, "--quality", tmp_path / "quality", "--diversity",
        tmp_path / "diversity", "--prompts", prompts, "--instruments", judges, "--quick",
        "-P", 6, "-n", 2, "--duration", 1.2, "-o", tmp_path / "out",
        "--arms", "base,guidance 3,quality,merge 0.5,diversity,base with quality 0.5,"
        f"model {tmp_path / 'steps'} as beta0", "--continued", tmp_path / "continued",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "(8 of 8 arms)" in done.err
    summary = read_summary(tmp_path / "out")
    arms = {a["name"]: a for a in summary["arms"]}
    assert list(arms) == ["base", "guidance 3", "quality", "merge 0.5", "diversity",
                          "base with quality 0.5", "continued", "beta0"]  # fmt: skip
    controls = next(c for c in summary["claims"] if c["name"] == "controls beaten")
    assert "not there" not in controls["note"]
    told = " ".join(c["what"] for c in controls["checks"])
    assert [n in told for n in ("base with quality 0.5", "continued", "beta0")] == [True] * 3
    rows, _ = read_rows(tmp_path / "out" / "clips.parquet")
    assert len(rows) == 8 * 6 * 2
    assert len({tuple(r["codes"]) for r in rows}) > 85  # each arm plays what no other does
    assert len(rows[0]["codes"]) == 60


def write_rows(path: Path, *attributes: dict[str, object]) -> Path:
    rows = [{"prompt": f"slow jazz {i}", "attributes": a} for i, a in enumerate(attributes)]
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


def test_a_slip_in_what_prompts_ask_for_is_one_line_before_any_work(
    call, judges: Path, tmp_path: Path
) -> None:
    fine, out = {"style": "jazz", "moods": ["calm"]}, tmp_path / "out"
    made = ("evaluate", "--model", save_judged(tmp_path / "tiny"), "-o", out)
    given = ("evaluate", "--clips", fill(tmp_path / "clips"), "--instruments", judges, "-o", out)
    for common in (made, given):
        for slip, says in (({"stlye": "jazz"}, "'stlye'"), ({"moods": ["clam"]}, "use calm, sad")):
            rows = write_rows(tmp_path / "p.jsonl", *[fine] * 6, slip)
            call(*common, "--prompts", rows).refused("p.jsonl: the prompt 'slow jazz 6'", says)
        rows.write_text(rows.read_text().replace('"clam"', "NaN"))
        call(*common, "--prompts", rows).refused("p.jsonl, line 7: ", "NaN is no number")
    assert not out.exists()


def test_rare_words_are_told_and_a_manifests_facts_are_not(
    call, judges: Path, tmp_path: Path
) -> None:
    rare = {"style": "tango", "instruments": ["koto"]}
    clips = fill(tmp_path / "clips")
    common = ("evaluate", "--clips", clips, "--instruments", judges, "--no-sound")
    rows = write_rows(tmp_path / "p.jsonl", rare, *[{"style": "jazz"}] * 5)
    done = call(*common, "--prompts", rows, "-o", tmp_path / "rows")
    assert done.code == 0, done.err
    told = [line for line in done.err.splitlines() if line.startswith("not measured")]
    assert len(told) == 1
    assert "style tango (1), instruments (1) (in how many of 6 prompts)" in told[0]
    facts = {"style": "polka", "tempo_bpm": 120}
    lines = [{"caption": f"slow jazz {i}", "attributes": facts} for i in range(6)]
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    done = call(*common, "--prompts", tmp_path / "m.jsonl", "-o", tmp_path / "lines")
    assert done.code == 0, done.err
    assert "not measured" not in done.err


def test_what_a_model_cannot_do_is_one_line_before_any_clip(
    call, judges: Path, prompts: Path, tmp_path: Path, tiny_folder: Path
) -> None:
    model, out = save_judged(tmp_path / "tiny"), tmp_path / "out"
    common = ("evaluate", "--model", model, "--prompts", prompts, "-o", out)
    call(*common, "-P", 5).refused("num_prompts", "at least 6", "got 5")
    few = tmp_path / "few.txt"
    few.write_text("one\ntwo\n")
    call("evaluate", "--model", model, "--prompts", few, "-o", out).refused("2 prompts are too few")
    call(*common, "-n", 1).refused("clips_per_prompt", "diversity compares clips of one prompt")
    call(*common, "--arms", "loud").refused("no arm 'loud'")
    arms = tmp_path / "arms.json"
    listed = [{"name": "base", "family": "base"}, {"name": "low", "model": str(tiny_folder)}]
    arms.write_text(json.dumps({"reference": "base", "arms": listed}))
    call(*common, "--arms", arms).refused("arm 'low'", "8000 Hz", "16000 Hz")
    assert not out.exists()
