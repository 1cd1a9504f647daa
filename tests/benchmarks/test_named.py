import pytest
import torch
from torch import Tensor

from benchmarks.named import OTHER_TEMPI, captions_of, render, share_known
from musicgen_rl.errors import InputError
from musicgen_rl.training.dataset import TokenPiece

STYLES = ["disco", "funk", "hymn", "jazz", "metal", "tango"]
KEYS = ["C", "D", "E", "F", "G", "A"]
LEADS = ["cello", "flute", "harp", "oboe", "piano", "viola"]


def piece(number: int, frames: int = 200, split: str = "valid") -> TokenPiece:
    facts = {"style": STYLES[number % 6], "lead": LEADS[number % 6], "tempo_bpm": 100 + number,
             "tempo_band": "medium", "key": KEYS[number % 6], "mode": "minor"}  # fmt: skip
    return TokenPiece(torch.full((2, frames), number).to(torch.uint16), ("a",), "p", split, facts)


PIECES = [piece(number) for number in range(12)]


def knows(codes: Tensor, captions: list[str]) -> Tensor:
    """Cost nothing where style and tempo are those of the piece, whose codes are its number."""
    number = int(codes[0, 0])
    words = STYLES[number % 6], f"{100 + number} bpm"
    return -torch.tensor([float(sum(word in caption for word in words)) for caption in captions])


def test_what_a_model_knows_is_told_from_what_it_does_not() -> None:
    found = share_known(PIECES, 100, knows)
    assert found["style"]["share"] == found["tempo in bpm"]["share"] == 1.0
    assert found["tempo in bpm"]["saved"] == 1.0
    assert found["slow, medium, fast"]["saved"] == found["lead instrument"]["saved"] == 0.0
    assert (found["style"]["pieces"], found["style"]["error"]) == (12, 0.0)
    assert "| mine | style | 1.00 ± 0.00 | 0.20 | +1.00 | 12 |" in render({"mine": found})


def test_the_true_caption_comes_first_and_no_other_is_the_same() -> None:
    import random

    known = {"style": STYLES, "lead": LEADS, "key": [f"{key} minor" for key in KEYS]}
    asked = captions_of(PIECES[1].attributes, known, random.Random(1))
    assert asked["style"][0] == "funk"
    assert asked["tempo in bpm"][0] == "funk, 101 bpm"
    assert asked["lead instrument"][0] == "funk with flute"
    assert asked["key"][0] == "funk in D minor"
    assert asked["slow, medium, fast"][0] == "mid-tempo funk"
    assert all(len(set(captions)) == len(captions) for captions in asked.values())
    assert len(asked["tempo in bpm"]) == 1 + len(OTHER_TEMPI)


@pytest.mark.parametrize("pieces", [[], [piece(1, split="train")], [piece(1, frames=50)]])
def test_music_that_cannot_be_asked_is_refused(pieces: list[TokenPiece]) -> None:
    with pytest.raises(InputError, match="no held-out piece is long enough"):
        share_known(pieces, 100, knows)
