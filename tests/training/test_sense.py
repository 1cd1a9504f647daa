"""Which tempi, scales and chords go with which words is learnt from captions alone."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from musicgen_rl.checkpoint import read_info
from musicgen_rl.cli.train import app
from musicgen_rl.data.manifest import read_manifest
from musicgen_rl.errors import ConfigError, InputError
from musicgen_rl.text.key import SCALES
from musicgen_rl.training.sense import (
    CHORDS,
    KEY,
    TEMPO,
    SenseTrainConfig,
    Subject,
    told,
    train_sense,
)

WORDS = ("a slow calm lullaby for {}", "furious drum and bass with {}")
THINGS = ["piano", "guitar", "flute", "harp", "organ", "strings", "brass", "synth", "bass", "voice"]
FACTS = {
    TEMPO: ({"tempo_bpm": 60.0}, {"tempo_bpm": 170.0}),
    KEY: ({"key": "D", "mode": "major"}, {"key": "A", "mode": "minor", "scale": "phrygian"}),
    CHORDS: ({"progression": "I | V | vi | IV"}, {"progression": "i | bVI | bIII | bVII"}),
}
SAID = {TEMPO: ("60 bpm", "170 bpm"), KEY: ("in D major", "in A minor"),
        CHORDS: ("chords C G Am F", "chords Am F C G")}  # fmt: skip
each = pytest.mark.parametrize("subject", [TEMPO, KEY, CHORDS], ids=["tempo", "key", "chords"])


def write_words(folder: Path, subject: Subject, pieces: int = 120, **facts: object) -> Path:
    lines = []
    for number in range(pieces):
        kind = number % 2
        caption = WORDS[kind].format(THINGS[number // 2 % 10])
        lines.append({"audio": f"{number}.wav",
                      "captions": [caption, f"{caption}, {SAID[subject][kind]}"],
                      "attributes": FACTS[subject][kind] | facts})  # fmt: skip
    path = folder / "words.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


@each
def test_captions_that_say_it_themselves_tell_nothing(subject: Subject, tmp_path: Path) -> None:
    found = told(subject, read_manifest(write_words(tmp_path, subject, 4)))
    assert [one.caption for one in found] == [WORDS[n % 2].format(THINGS[n // 2]) for n in range(4)]
    assert len({one.number for one in found}) == 2


def test_facts_that_tell_nothing_are_passed_over(tmp_path: Path) -> None:
    for wrong in ("fast", True, 3.0, None):
        assert not told(TEMPO, read_manifest(write_words(tmp_path, TEMPO, 4, tempo_bpm=wrong)))
    for wrong in ("H", True, 3.0, None):
        assert not told(KEY, read_manifest(write_words(tmp_path, KEY, 4, key=wrong)))
    for unknown in ("I | I | I", "", 3, None):
        words = write_words(tmp_path, CHORDS, 4, progression=unknown)
        assert not told(CHORDS, read_manifest(words))


def test_a_scale_stands_above_major_and_minor(tmp_path: Path) -> None:
    found = told(KEY, read_manifest(write_words(tmp_path, KEY, 4)))
    assert {SCALES[one.number] for one in found} == {"major", "phrygian"}


@each
def test_what_goes_with_words_is_learnt(
    subject: Subject, tiny_folder: Path, tmp_path: Path
) -> None:
    info, words = read_info(tiny_folder), write_words(tmp_path, subject)
    found = train_sense(subject, info, words, tmp_path / "run", SenseTrainConfig())
    assert found["with"] < 0.1 < 0.6 < found["without"]
    card = json.loads((tmp_path / "run" / subject.hold.card).read_text())
    assert card["held_out_nats"] == found
    assert (card["captions"], card["pieces"]) == (108, 108)
    assert train_sense(subject, info, words, tmp_path / "again", SenseTrainConfig()) == found
    files = [(tmp_path / name / subject.hold.file).read_bytes() for name in ("run", "again")]
    assert files[0] == files[1]


def test_too_little_to_learn_from_and_impossible_settings(
    tiny_folder: Path, tmp_path: Path
) -> None:
    words = write_words(tmp_path, TEMPO, 40)
    with pytest.raises(InputError, match=r"has 40 captions of 40 pieces .* at least 50"):
        train_sense(TEMPO, read_info(tiny_folder), words, tmp_path, SenseTrainConfig())
    for changes in ({"captions": 3}, {"weight_decay": -1.0}, {"held_out": 0.9}, {"seed": -1}):
        with pytest.raises(ConfigError, match=next(iter(changes))):
            SenseTrainConfig(**changes)  # type: ignore[arg-type]


def test_a_stop_writes_nothing(tiny_folder: Path, tmp_path: Path) -> None:
    asked: list[int] = []

    def stop() -> bool:
        asked.append(0)
        return len(asked) > 5

    info, words = read_info(tiny_folder), write_words(tmp_path, KEY)
    assert not train_sense(KEY, info, words, tmp_path / "r", SenseTrainConfig(), stop=stop)
    assert not (tmp_path / "r").exists()


@each
def test_the_command(subject: Subject, tiny_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_folder, tmp_path / "model")
    name = subject.hold.name
    given = [name, "--model", str(tmp_path / "model"), "--out", str(tmp_path / "model"),
             "--manifest", str(write_words(tmp_path, subject))]  # fmt: skip
    done = CliRunner().invoke(app, given)
    assert done.exit_code == 0, done.output
    assert done.output.strip().endswith(subject.hold.file)
    assert subject.sense.load(tmp_path / "model" / subject.hold.file).layer.in_features == 384
    unknown = CliRunner().invoke(app, [*given, "--set", "strength=2"])
    assert "there is no such option" in str(unknown.exception)
    assert "captions=16000" in CliRunner().invoke(app, [name, "--show-options"]).output
