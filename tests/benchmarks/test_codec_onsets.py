"""Onsets that were composed are listed as they sound, chords once."""

import pytest

from benchmarks.codec_onsets import SOUNDS, composed_onsets, main, render
from musicgen_rl.data.pocket.compose import Piece
from musicgen_rl.data.pocket.score import Note, Part, Score
from musicgen_rl.data.pocket.styles import STYLES


def piece_of(*parts: list[Note]) -> Piece:
    played = [Part("lead", "piano", 0, notes) for notes in parts]
    style = next(iter(STYLES.values()))
    return Piece(Score(120.0, 4, played, 64.0), style, "C", "major", 0.5, 0.5, False)


def test_onsets_by_hand() -> None:
    piece = piece_of(
        [
            Note(0, 1, 60, 90),
            Note(2, 1, 64, 90),
            Note(2, 1, 67, 90, shift_s=0.03),
            Note(4, 1, 65, 90),
        ],
        [Note(3, 1, 48, 90, shift_s=-0.02), Note(40, 1, 48, 90)],
    )  # beats of .5 s, the first at .05 s
    assert composed_onsets(piece, 0.0, 10.0) == pytest.approx([0.05, 1.05, 1.53, 2.05])
    assert composed_onsets(piece, 1.0, 2.0) == pytest.approx([0.05, 0.53])
    late = piece_of([Note(0, 1, 60, 90), Note(0, 1, 64, 90, shift_s=0.05)])
    assert composed_onsets(late, 0.0, 1.0) == pytest.approx([0.05, 0.10])


def test_the_table_tells_what_was_found() -> None:
    row = {"found": 10, "right": 8, "composed_f1": 0.8, "original_f1": 0.9}
    found = {"clips": 2, "seconds": 10.0, "onsets": 11, "given_up": 0.015,
             "sounds": dict.fromkeys(SOUNDS, row)}  # fmt: skip
    lines = render(found).splitlines()
    assert "| through the codec | 10 | 8 | 0.800 | 0.900 |" in lines
    assert lines[-1] == "Given up: 1.5 %."


def test_a_folder_that_is_no_corpus_is_named(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr("sys.argv", ["codec_onsets", "--corpus", str(tmp_path)])
    assert main() == 2
    assert "corpus.json" in capsys.readouterr().err
