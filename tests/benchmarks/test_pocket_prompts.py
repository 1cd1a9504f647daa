import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from benchmarks import pocket_prompts
from benchmarks.pocket_prompts import (
    PROMPTS,
    THRESHOLDS,
    Limits,
    describe,
    draw,
    faults,
    in_scale,
    markdown,
    measure,
    own_prompts,
    ranks,
)
from musicgen_rl.audio.tempo import named_tempo, tempo_fits
from musicgen_rl.errors import InputError
from tests.judged import save_judged

LIMITS = Limits(in_scale=0.6, moves=0.8, repeats=0.8)
GOOD: dict[str, Any] = {
    "prompt": "a tune", "named": 120.0, "style": "jazz", "styles": {"jazz": 0.8, "rock": 0.1},
    "log_p": -0.2, "level_db": -20.0, "peak": 0.8, "tempo": 120.0, "in_scale": 0.8, "moves": 2.0,
    "repeats": 0.5, "onsets": 3.0, "rank": 2, "of": 30, "faults": [],
}  # fmt: skip


def test_there_are_thirty_prompts_of_which_those_with_a_tempo_name_it() -> None:
    assert len({prompt for prompt, *_ in PROMPTS}) == 30
    assert all((named_tempo(prompt) or 0) == tempo for prompt, _, tempo in PROMPTS)


def test_a_clip_as_real_ones_are_has_no_fault() -> None:
    assert faults(GOOD, {"jazz"}, 120.0, LIMITS) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [({"style": "rock"}, "sounds like rock"), ({"tempo": 90.0}, "tempo 90 instead of 120"),
     ({"level_db": -50.0}, "nearly silent"), ({"peak": 1.0}, "clipped"),
     ({"in_scale": 0.5}, "out of any key"), ({"moves": 0.5}, "drones"),
     ({"repeats": 0.9}, "a second repeats")],
)  # fmt: skip
def test_every_fault_is_named(change: dict[str, Any], words: str) -> None:
    assert faults(GOOD | change, {"jazz"}, 120.0, LIMITS) == [words]


def test_half_and_double_of_a_tempo_fit() -> None:
    assert [tempo_fits(heard, 120.0) for heard in (60, 124, 240, 90, 126)] == [
        True, True, True, False, False,
    ]  # fmt: skip


def test_limits_are_what_95_of_100_real_clips_keep() -> None:
    rows = [{"in_scale": i / 100, "moves": i / 10, "repeats": i / 100} for i in range(101)]
    assert Limits.of(rows) == Limits(in_scale=0.05, moves=0.5, repeats=0.95)
    kept = Limits.read(THRESHOLDS)
    assert 0.5 < kept.in_scale < 1.0
    assert 0.0 < kept.moves < 5.0
    assert 0.5 < kept.repeats < 1.0


def test_a_scale_is_in_scale_and_all_twelve_notes_are_not() -> None:
    chroma = np.zeros(12)
    chroma[[2, 4, 6, 7, 9, 11, 1]] = 1.0  # D major
    assert in_scale(chroma) == pytest.approx(1.0)
    assert in_scale(np.ones(12)) == pytest.approx(7 / 12)


def test_a_held_note_drones_and_a_repeated_second_is_found() -> None:
    rate = 16000
    t = np.arange(10 * rate) / rate
    held = (0.2 * np.sin(2 * np.pi * 220 * t)).astype(np.float32)
    assert measure(held, rate)["moves"] == 0.0
    random = np.random.default_rng(0)
    second = 0.1 * random.standard_normal(rate) * np.exp(-5 * (t[:rate] % 0.3))
    same = measure(np.tile(second, 10).astype(np.float32), rate)
    other = measure((0.1 * random.standard_normal(10 * rate)).astype(np.float32), rate)
    assert same["repeats"] > 0.95 > other["repeats"]
    assert same["onsets"] > 2.0


def test_the_rank_of_a_prompt_counts_those_that_fit_better() -> None:
    scores = torch.tensor([[0.9, 0.1, 0.2], [0.8, 0.5, 0.6], [0.1, 0.2, 0.3]])
    assert ranks(scores) == [1, 3, 1]


def test_peoples_own_words_are_taken_evenly_and_named_by_number(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    lines = "".join(f'{i},"calm, at {60 + i} bpm"\n' for i in range(61))
    path.write_text("caption_id,caption\n" + lines)
    found = own_prompts(path, 3)
    assert [name for name, *_ in found] == ["caption 0", "caption 30", "caption 60"]
    assert found[1] == ("caption 30", "calm, at 90 bpm", set(), 90.0)
    path.write_text("id,text\n1,calm\n")
    with pytest.raises(InputError, match="caption_id"):
        own_prompts(path)


def test_the_worst_five_are_told_by_their_measurements() -> None:
    bad = GOOD | {"prompt": "a march", "style": "rock", "faults": ["sounds like rock"], "rank": 9}
    text = markdown([bad, *[GOOD] * 5], LIMITS, "Six prompts", 0.75)
    assert "5 of 6 clips show no fault; of real held-out clips, 75%" in text
    assert "has rank 3.2 on average" in text
    own = markdown([bad, *[GOOD] * 5], LIMITS, "Six captions", None)
    assert "of real held-out clips" not in own
    assert "**Style and instruments are not**" in own
    worst = text.split("## The worst 5")[1]
    assert worst.count("\n") == 7
    assert describe(bad, LIMITS) in worst
    assert "Heard as jazz (0.80), rock (0.10); its own prompt is number 9 of 30" in worst
    assert "Tempo 120, 120 named" in worst


def test_spectrograms_of_the_worst_are_drawn(tmp_path: Path) -> None:
    t = np.arange(10 * 16000) / 16000
    clips = {"a tune": np.sin(2 * np.pi * 220 * t).astype(np.float32)}
    draw([GOOD], clips, 16000, tmp_path / "worst.png")
    assert (tmp_path / "worst.png").read_bytes().startswith(b"\x89PNG")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run the command on a tiny model with judges and three prompts."""
    model = save_judged(tmp_path / "model")
    monkeypatch.setattr(pocket_prompts, "PROMPTS", PROMPTS[:3])

    def call(*arguments: str) -> None:
        monkeypatch.setattr("sys.argv", [
            "pocket_prompts", "--model", str(model), "--rewards", str(model / "rewards"),
            "--thresholds", str(tmp_path / "limits.json"), "--out", str(tmp_path / "made"),
            "--picture", str(tmp_path / "worst.png"), *arguments,
        ])  # fmt: skip
        pocket_prompts.main()

    return call


def test_thresholds_come_from_held_out_pieces_and_the_prompts_are_held_to_them(
    tmp_path: Path, run: Any
) -> None:
    random = np.random.default_rng(0)
    lines = []
    for i in range(4):
        sound = 0.1 * random.standard_normal(12 * 16000).astype(np.float32)
        soundfile.write(tmp_path / f"{i}.wav", sound, 16000)
        lines.append({"audio": f"{i}.wav", "captions": ["x"], "split": "test" if i else "train",
                      "attributes": {"style": "jazz", "tempo_bpm": 100}})  # fmt: skip
    path = tmp_path / "m.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    run("--calibrate", str(path))
    kept = json.loads((tmp_path / "limits.json").read_text())
    assert kept["pieces"] == 3
    assert 0.0 <= kept["style heard"] <= 1.0
    assert set(kept["limits"]) == {"in_scale", "moves", "repeats"}
    run()
    made = json.loads((tmp_path / "made.json").read_text())
    assert made["limits"] == kept["limits"]
    assert {row["prompt"] for row in made["rows"]} == {prompt for prompt, *_ in PROMPTS[:3]}
    assert sorted(row["rank"] for row in made["rows"])[0] >= 1
    counts = [len(row["faults"]) for row in made["rows"]]
    assert counts == sorted(counts, reverse=True)
    assert (tmp_path / "worst.png").is_file()
    page = (tmp_path / "made.md").read_text()
    (tmp_path / "made.md").unlink()
    (tmp_path / "worst.png").unlink()
    run("--again")
    assert (tmp_path / "made.md").read_text() == page
    assert not (tmp_path / "worst.png").exists()  # nothing was played
    path.write_text(json.dumps(lines[0]) + "\n")
    with pytest.raises(InputError, match="no held-out pieces"):
        run("--calibrate", str(path))
