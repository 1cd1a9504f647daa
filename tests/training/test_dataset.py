from collections import Counter
from pathlib import Path

import pytest
import torch

from musicgen_rl.errors import InputError
from musicgen_rl.lm.condition import Condition
from musicgen_rl.training.dataset import (
    TextStates,
    TokenDataset,
    TokenPiece,
    hash_codes,
    precompute_text_states,
    unique_captions,
)

PAD = 99


def piece(first: int, frames: int, *captions: str) -> TokenPiece:
    """A piece whose codes count up from `first`, alike in its two codebooks."""
    codes = torch.arange(first, first + frames).repeat(2, 1).to(torch.uint16)
    return TokenPiece(codes, captions, f"p{first}", "train", {})


def test_a_crop_is_a_stretch_of_a_piece_with_a_caption_of_that_piece() -> None:
    data = TokenDataset(
        [piece(0, 20, "low", "deep"), piece(1000, 20, "high")], ["low", "deep", "high"], PAD
    )
    batch = data.draw(1, range(40), crop_frames=6)
    assert batch.codes.shape == (40, 2, 6)
    assert batch.codes.dtype == torch.long
    for codes, caption in zip(batch.codes, batch.captions, strict=True):
        start = int(codes[0, 0])
        assert torch.equal(codes, torch.arange(start, start + 6).repeat(2, 1))
        assert caption == 2 if start >= 1000 else caption in (0, 1)
    assert set(batch.captions) == {0, 1, 2}


def test_every_start_is_as_likely_as_any_other() -> None:
    data = TokenDataset([piece(0, 10, "a"), piece(100, 4, "a")], ["a"], PAD)
    starts = Counter(data.draw(0, range(4000), crop_frames=3).codes[:, 0, 0].tolist())
    assert set(starts) == {*range(8), 100, 101}
    assert 320 < min(starts.values()) <= max(starts.values()) < 480  # 400 +- 4 deviations


def test_a_row_depends_on_seed_and_number_only() -> None:
    data = TokenDataset([piece(0, 500, "a", "b", "c")], ["a", "b", "c"], PAD)
    whole = data.draw(5, range(8), 4, 0.5)
    left, right = data.draw(5, range(3), 4, 0.5), data.draw(5, range(3, 8), 4, 0.5)
    assert torch.equal(whole.codes, torch.cat([left.codes, right.codes]))
    assert whole.captions == left.captions + right.captions
    assert not torch.equal(whole.codes, data.draw(6, range(8), 4, 0.5).codes)
    assert not torch.equal(whole.codes, data.draw(5, range(8, 16), 4, 0.5).codes)


@pytest.mark.parametrize("dropout", [0.0, 0.3, 1.0])
def test_prompts_are_dropped_as_often_as_asked(dropout: float) -> None:
    data = TokenDataset([piece(0, 50, "a")], ["a"], PAD)
    captions = data.draw(0, range(1000), 4, dropout).captions
    assert captions.count(-1) == pytest.approx(1000 * dropout, abs=60 * (0 < dropout < 1))


def test_loops_repeat_the_crops_own_beginning_as_often_as_asked() -> None:
    data = TokenDataset([piece(0, 500, "a")], ["a"], PAD)
    plain, looped = data.draw(3, range(400), 100), data.draw(3, range(400), 100, 0.0, 0.5)
    assert plain.captions == looped.captions
    lengths = []
    for before, after in zip(plain.codes, looped.codes, strict=True):
        if torch.equal(before, after):
            continue
        length = int((after[0] != before[0]).nonzero()[0])
        lengths.append(length)
        assert torch.equal(after, before[:, torch.arange(100) % length])
    assert 160 < len(lengths) < 240
    assert min(lengths) == 8
    assert 45 <= max(lengths) <= 50
    assert 0.4 < sum(length < 20 for length in lengths) / len(lengths) < 0.6  # equal ratios


def test_a_crop_too_short_for_a_loop_is_still_a_crop() -> None:
    data = TokenDataset([piece(0, 50, "a")], ["a"], PAD)
    assert data.draw(0, range(4), 1, 0.0, 1.0).codes.shape == (4, 2, 1)


def test_a_piece_shorter_than_the_crop_is_padded() -> None:
    batch = TokenDataset([piece(7, 3, "a")], ["a"], PAD).draw(0, range(1), 5)
    assert batch.codes[0, 0].tolist() == [7, 8, 9, PAD, PAD]


def test_a_split_without_pieces_is_refused() -> None:
    with pytest.raises(InputError, match="split"):
        TokenDataset([], [], PAD)


def test_unique_captions_keep_their_order() -> None:
    pieces = [piece(0, 4, "b", "a"), piece(9, 4, "a", "c")]
    assert unique_captions(pieces) == ["b", "a", "c"]


class LengthEncoder:
    """States of a caption: as many as it has words, each the word's length."""

    hidden_size = 2

    def __init__(self) -> None:
        self.calls = 0

    def encode(self, prompts: list[str]) -> Condition:
        self.calls += 1
        words = [[float(len(word)) for word in prompt.split()] for prompt in prompts]
        longest = max(len(row) for row in words)
        mask = torch.tensor([[i < len(row) for i in range(longest)] for row in words])
        hidden = torch.tensor([row + [0.0] * (longest - len(row)) for row in words])
        return Condition(hidden.unsqueeze(-1).repeat(1, 1, 2), mask)


def test_states_are_looked_up_by_caption_and_the_null_prompt_is_masked(tmp_path: Path) -> None:
    encoder = LengthEncoder()
    captions = ["a bcd ef", "gh", "i jk"]
    states = precompute_text_states(captions, encoder, tmp_path, batch_size=2)
    condition = states.condition([1, -1, 0])
    assert condition.hidden[:, :, 0].tolist() == [[2, 0, 0], [0, 0, 0], [1, 3, 2]]
    assert condition.mask.tolist() == [[True, False, False], [False] * 3, [True] * 3]
    assert len(states) == 3
    assert states.hidden_size == 2


def test_states_are_computed_once(tmp_path: Path) -> None:
    encoder = LengthEncoder()
    first = precompute_text_states(["a b", "cd"], encoder, tmp_path)
    again = precompute_text_states(["a b", "cd"], encoder, tmp_path)
    assert encoder.calls == 1
    assert torch.equal(first.condition([0, 1]).hidden, again.condition([0, 1]).hidden)
    precompute_text_states(["a b", "other"], encoder, tmp_path)
    assert encoder.calls == 2


def test_states_of_another_encoder_are_computed_anew(tmp_path: Path) -> None:
    encoder = LengthEncoder()
    captions = ["a b", "cd"]
    precompute_text_states(captions, encoder, tmp_path)  # as before encoders were told apart
    precompute_text_states(captions, encoder, tmp_path, encoder_hash="one")
    assert encoder.calls == 2
    precompute_text_states(captions, encoder, tmp_path, encoder_hash="one")
    assert encoder.calls == 2
    precompute_text_states(captions, encoder, tmp_path, encoder_hash="other")
    assert encoder.calls == 3


def test_batches_have_one_shape_whatever_their_captions() -> None:
    states = TextStates(torch.ones(5, 3), torch.tensor([0, 4, 5]))
    assert states.condition([1]).hidden.shape == states.condition([0]).hidden.shape == (1, 4, 3)


def test_the_hash_of_codes_follows_their_values_lengths_and_order() -> None:
    first, second = piece(0, 10, "a"), piece(100, 4, "a")
    told = hash_codes([first, second])
    assert hash_codes([piece(0, 10, "b"), piece(100, 4, "b")]) == told  # captions are not codes
    for others in ([second, first], [piece(1, 10, "a"), second], [piece(0, 9, "a"), second]):
        assert hash_codes(others) != told
