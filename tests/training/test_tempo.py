"""Which tempi go with which words is learnt from captions alone."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from musicgen_rl.checkpoint import read_info
from musicgen_rl.checkpoint.holds import SENSE
from musicgen_rl.cli.train import app
from musicgen_rl.errors import ConfigError, InputError
from musicgen_rl.text.tempo import load_sense
from musicgen_rl.training.tempo import TempoTrainConfig, told_tempi, train_tempo

WORDS = {60.0: "a slow calm lullaby for {}", 170.0: "furious drum and bass with {}"}
THINGS = ["piano", "guitar", "flute", "harp", "organ", "strings", "brass", "synth", "bass", "voice"]


def write_words(folder: Path, pieces: int = 120, **facts: object) -> Path:
    lines = []
    for number in range(pieces):
        bpm = (60.0, 170.0)[number % 2]
        caption = WORDS[bpm].format(THINGS[number // 2 % 10])
        attributes = {"tempo_bpm": bpm, **facts}
        lines.append({"audio": f"{number}.wav", "captions": [caption, f"{caption}, {bpm:g} bpm"],
                      "attributes": attributes})  # fmt: skip
    path = folder / "words.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


def test_captions_that_name_their_tempo_tell_nothing(tmp_path: Path) -> None:
    from musicgen_rl.data.manifest import read_manifest

    told = told_tempi(read_manifest(write_words(tmp_path, 4)))
    assert [one.caption for one in told] == [
        WORDS[(60.0, 170.0)[n % 2]].format(THINGS[n // 2]) for n in range(4)
    ]
    assert len({one.number for one in told}) == 2
    for wrong in ("fast", True, 3.0, None):
        assert not told_tempi(read_manifest(write_words(tmp_path, 4, tempo_bpm=wrong)))


def test_slow_words_are_played_slowly(tiny_folder: Path, tmp_path: Path) -> None:
    found = train_tempo(read_info(tiny_folder), write_words(tmp_path), tmp_path / "run",
                        TempoTrainConfig())  # fmt: skip
    assert found["with"] < 0.1 < 0.6 < found["without"]
    card = json.loads((tmp_path / "run" / SENSE.card).read_text())
    assert card["held_out_nats"] == found
    assert (card["captions"], card["pieces"]) == (108, 108)
    again = train_tempo(read_info(tiny_folder), write_words(tmp_path), tmp_path / "again",
                        TempoTrainConfig())  # fmt: skip
    assert again == found
    files = [(tmp_path / name / SENSE.file).read_bytes() for name in ("run", "again")]
    assert files[0] == files[1]


def test_too_little_to_learn_from_and_impossible_settings(
    tiny_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"has 40 captions of 40 pieces .* at least 50"):
        train_tempo(read_info(tiny_folder), write_words(tmp_path, 40), tmp_path, TempoTrainConfig())
    for changes in ({"captions": 3}, {"weight_decay": -1.0}, {"held_out": 0.9}, {"seed": -1}):
        with pytest.raises(ConfigError, match=next(iter(changes))):
            TempoTrainConfig(**changes)  # type: ignore[arg-type]


def test_a_stop_writes_nothing(tiny_folder: Path, tmp_path: Path) -> None:
    asked: list[int] = []

    def stop() -> bool:
        asked.append(0)
        return len(asked) > 5

    info, words = read_info(tiny_folder), write_words(tmp_path)
    assert not train_tempo(info, words, tmp_path / "r", TempoTrainConfig(), stop=stop)
    assert not (tmp_path / "r").exists()


def test_the_command(tiny_folder: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(tiny_folder, tmp_path / "model")
    given = ["tempo", "--model", str(tmp_path / "model"), "--out", str(tmp_path / "model"),
             "--manifest", str(write_words(tmp_path))]  # fmt: skip
    done = CliRunner().invoke(app, given)
    assert done.exit_code == 0, done.output
    assert done.output.strip().endswith(SENSE.file)
    assert load_sense(read_info(tmp_path / "model")).tempi.in_features == 384
    unknown = CliRunner().invoke(app, [*given, "--set", "strength=2"])
    assert "there is no such option" in str(unknown.exception)
    assert "captions=16000" in CliRunner().invoke(app, ["tempo", "--show-options"]).output
