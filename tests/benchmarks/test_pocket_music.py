import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from benchmarks import pocket_music
from benchmarks.pocket_music import (
    HELD,
    MEASURES,
    RATE,
    Sound,
    choose,
    draw,
    drift_of,
    form,
    generate,
    held,
    longest_loop,
    markdown,
    measure,
    pulse_and_wobble,
    share_of_key,
    silent,
    summarise,
)
from musicgen_rl.checkpoint.holds import CHORD_SENSE, KEY_SENSE
from musicgen_rl.data.keys import Key
from musicgen_rl.pipeline import Pipeline
from tests.judged import save_judged
from tests.pipeline.test_chords import write_chords
from tests.pipeline.test_key import write_key
from tests.pipeline.test_steady import write_sense
from tests.pipeline.test_tempo import write_beat

C_MAJOR = [60, 62, 64, 65, 67, 69, 71, 72]


def play(notes: list[int], beat_s: float, seconds: float = 30.0) -> np.ndarray:
    """Play MIDI notes in turn, one a beat, [M]."""
    t = np.arange(round(seconds * RATE)) / RATE
    beat = (t / beat_s).astype(int)
    hertz = 440 * 2 ** ((np.array(notes)[beat % len(notes)] - 69) / 12)
    phase = 2 * np.pi * np.cumsum(hertz) / RATE
    fade = np.exp(-3 * (t - beat * beat_s) / beat_s)
    return (0.3 * fade * (np.sin(phase) + 0.3 * np.sin(2 * phase))).astype(np.float32)


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    drawn = np.random.default_rng(seed).standard_normal(round(seconds * RATE))
    return (0.1 * drawn).astype(np.float32)


def codes_of(frames: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 1024, (4, frames))


def test_a_scale_played_to_a_click_is_in_key_in_time_and_without_wobble() -> None:
    sound = Sound(play(C_MAJOR, 0.5), codes_of(750), 25.0)
    tune = measure(sound, "a tune in C major at 120 bpm")
    hiss = measure(Sound(noise(30), codes_of(750), 25.0), "hiss")
    assert tune["in scale"] > 0.95 > hiss["in scale"]
    assert tune["in named key"] > 0.95
    assert tune["tempo"] == 1.0
    assert tune["pulse"] > 0.8 > hiss["pulse"]
    assert tune["beat wobble"] < 0.05 < hiss["beat wobble"]
    assert tune["loop, s"] == 0.0
    assert np.isnan(hiss["tempo"])
    assert np.isnan(hiss["in named key"])


def test_another_key_or_tempo_than_the_caption_names_is_noticed() -> None:
    sound = Sound(play(C_MAJOR, 0.5), codes_of(750), 25.0)
    tune = measure(sound, "a tune in F# major at 100 bpm")
    assert tune["in named key"] < 0.5
    assert tune["tempo"] == 0.0


def test_the_share_of_a_key_counts_its_notes() -> None:
    chroma = np.zeros(12)
    chroma[[0, 3, 6]] = 1.0  # C, Eb, F#
    assert share_of_key(chroma, Key(0, "major")) == pytest.approx(1 / 3)
    assert share_of_key(chroma, Key(0, "minor")) == pytest.approx(2 / 3)


def test_a_wobbling_beat_is_less_of_a_pulse() -> None:
    random = np.random.default_rng(1)
    steady, loose = np.zeros((2, 30 * RATE), np.float32)
    for i in range(58):
        for sound, shift in ((steady, 0.0), (loose, random.uniform(-0.15, 0.15))):
            at = round((0.5 * (i + 1) + shift) * RATE)
            sound[at : at + 800] = 0.5 * random.standard_normal(800)
    _, pulse, wobble = pulse_and_wobble(steady)
    _, looser, more = pulse_and_wobble(loose)
    assert pulse > looser + 0.2
    assert wobble < more


def test_a_piece_of_two_halves_has_sections_and_a_texture_has_none() -> None:
    halves = np.concatenate([play(C_MAJOR, 0.5, 15.0), 0.2 * play([36, 38], 0.25, 15.0)])
    sections, _ = form(halves)
    plain, _ = form(noise(30))
    assert sections > 2.0
    assert plain < 1.3


def test_a_theme_that_comes_again_returns_and_a_walk_does_not() -> None:
    walk = [int(n) for n in np.random.default_rng(2).integers(50, 80, 60)]
    again = walk[:15] + walk[15:30] + walk[:15] + walk[15:30]
    assert form(play(again, 0.5))[1] > form(play(walk, 0.5))[1] + 0.2


def test_a_drone_is_held_and_a_tune_is_not() -> None:
    assert held(play([60], 0.5, 10.0)) > 0.95
    assert held(play(C_MAJOR, 0.5, 10.0)) < 0.1


def test_silence_is_what_lies_below_55_decibels() -> None:
    tone = np.full(4 * RATE, 0.01, np.float32)  # -40 dB
    tone[3 * RATE :] = 0.001  # -60 dB
    assert silent(tone) == pytest.approx(0.25)


def test_loops_are_found_at_every_period_and_counted_without_their_first_turn() -> None:
    codes = codes_of(200)
    assert longest_loop(codes, 25) == 0
    codes[:, 50:70] = codes[:, [50]]  # one frame, twenty times
    assert longest_loop(codes, 25) == 19
    codes[:, 100:160] = np.tile(codes[:, 100:110], 6)  # ten frames, six times
    assert longest_loop(codes, 25) == 50
    assert longest_loop(codes, 9) == 19
    codes[:, 70:80] = codes[:, 60:70]
    codes[0, 75] += 1  # a codebook apart is no loop
    assert longest_loop(codes[:, 60:90], 25) < 19


def test_music_that_ends_in_noise_drifts() -> None:
    tune = play(C_MAJOR, 0.5, 60.0)
    same = drift_of(tune, 60.0)
    assert abs(same["drift of flatness, dB"]) < 3
    worse = drift_of(np.concatenate([tune[: 45 * RATE], noise(15)]), 60.0)
    assert worse["drift of flatness, dB"] > 15
    assert worse["drift of in scale"] < -0.2
    quiet = drift_of(np.concatenate([tune[: 45 * RATE], 0.1 * tune[: 15 * RATE]]), 60.0)
    assert quiet["drift of level, dB"] == pytest.approx(-20, abs=1)


def test_outside_counts_what_passes_real_clips_on_the_bad_side_only() -> None:
    real = [{"pulse": 0.5 + i / 100, "beat wobble": 0.1, "drift of level, dB": float(i - 10)}
            for i in range(21)]  # fmt: skip
    made = [{"pulse": 0.1, "beat wobble": 0.05, "drift of level, dB": -30.0},
            {"pulse": 0.9, "beat wobble": 0.3, "drift of level, dB": 30.0},
            {"pulse": 0.6, "beat wobble": float("nan")}]  # fmt: skip
    found = summarise(made, real)
    assert found["pulse"]["outside"] == 1
    assert (found["beat wobble"]["outside"], found["beat wobble"]["clips"]) == (1, 2)
    assert found["drift of level, dB"]["outside"] == 2
    assert found["tempo"] == {"made": None, "real": None, "format": ".0%", "clips": 0,
                              "real clips": 0, "outside": None}  # fmt: skip
    text = markdown({"model": "m", "seconds": 1.0, "held": ""}, found)
    assert "| pulse | 0.53 | 3 | 0.60 | 21 | 1 of 3 |" in text
    assert text.count("\n|") == len(MEASURES) + 2


def test_held_out_captions_come_style_by_style_those_with_a_tempo_first(tmp_path: Path) -> None:
    rows = [("jazz", "train", "jazz at 90 bpm", 40), ("jazz", "test", "jazz", 40),
            ("jazz", "valid", "jazz at 100 bpm", 40), ("rock", "test", "rock", 40),
            ("rock", "test", "short rock", 12)]  # fmt: skip
    lines = [
        {"audio": f"{i}.flac", "captions": ["words", c], "split": split, "duration_s": d,
         "attributes": {"style": style}}
        for i, (style, split, c, d) in enumerate(rows)
    ]  # fmt: skip
    path = tmp_path / "manifest.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = choose([path], 9)
    assert [(place.name, caption) for place, _, caption in found] == [
        ("2.flac", "jazz at 100 bpm"), ("3.flac", "words"), ("1.flac", "words"),
    ]  # fmt: skip
    assert len(choose([path], 2)) == 2


def test_the_sheet_is_drawn(tmp_path: Path) -> None:
    draw([("scale", play(C_MAJOR, 0.5), noise(30))], tmp_path / "a" / "sheet.png")
    assert (tmp_path / "a" / "sheet.png").read_bytes().startswith(b"\x89PNG")


def test_the_command_writes_table_rows_and_sheet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = save_judged(tmp_path / "model")
    rows = []
    for i, style in enumerate(("jazz", "rock", "folk")):
        soundfile.write(tmp_path / f"{i}.wav", play(C_MAJOR, 0.4 + i / 10, 50.0), RATE)
        rows.append({"audio": f"{i}.wav", "captions": [f"{style} at {150 - 30 * i} bpm"],
                     "split": "test", "duration_s": 50.0,
                     "attributes": {"style": style}})  # fmt: skip
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setattr(pocket_music, "SHORT_S", 18.0)
    monkeypatch.setattr(pocket_music, "LONG_S", 21.0)
    out = tmp_path / "results" / "music"
    monkeypatch.setattr("sys.argv", [
        "pocket_music", "--model", str(model), "--manifest", str(tmp_path / "m.jsonl"),
        "--clips", "2", "--long", "1", "--real", "3", "--out", str(out),
        "--picture", str(tmp_path / "sheet.png"),
    ])  # fmt: skip
    pocket_music.main()
    found = json.loads(out.with_suffix(".json").read_text())
    assert len(found["rows"]) == len(found["about"]["captions"]) == 2
    assert len(found["real"]) == 3
    assert ["drift of level, dB" in row for row in found["rows"]] == [True, False]
    assert found["summary"]["in scale"]["real"] > 0.95
    assert found["summary"]["tempo"]["real"] == pytest.approx(2 / 3)  # folk is at 100 bpm
    assert found["summary"]["drift of flatness, dB"]["real clips"] == 3
    assert set(found["summary"]) == set(MEASURES)
    assert "| in scale |" in out.with_suffix(".md").read_text()
    assert (tmp_path / "sheet.png").is_file()


def test_held_clips_are_held_to_what_is_named_or_found(tiny_folder, tmp_path):
    folder = write_key(write_beat(Path(shutil.copytree(tiny_folder, tmp_path / "m"))))
    write_sense(write_sense(folder), hold=KEY_SENSE)
    pipeline = Pipeline.load(folder, device="cpu", dtype="int8")
    captions = ["house", "house in D minor, 124 bpm"]
    both = {"steady": True, "key": "auto"}
    write_sense(write_chords(folder), hold=CHORD_SENSE)
    able = Pipeline.load(folder, device="cpu", dtype="int8")
    for player, told, asked in (
        (pipeline, HELD[0], {"tempo_bpm": 0, "key": "none"}), (pipeline, HELD[1], both),
        (able, HELD[2], both | {"chords": "auto"}),
    ):  # fmt: skip
        made = generate(player, captions, 0.3, None, told)
        clips = player.generate(captions, duration_s=0.3, seed=0, **asked)
        for sound, clip in zip(made, clips, strict=True):
            assert np.array_equal(sound.codes, clip.codes)
            assert (clip.settings["tempo"] is not None) == bool(told)
            assert (clip.settings["chords"] is not None) == (told == HELD[2])


@pytest.mark.parametrize(
    ("given", "picture"),
    [
        ([], pocket_music.PICTURE),
        (["--out", str(pocket_music.RESULT.resolve())], pocket_music.PICTURE),
        (["--out", "tried/music"], Path("tried/music.png")),
        (["--out", "tried/music", "--picture", "here.png"], Path("here.png")),
    ],
)
def test_only_the_committed_result_draws_the_committed_sheet(
    given: list[str], picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["pocket_music.py", "--manifest", "m.jsonl", *given])
    assert pocket_music.parse().picture == picture
