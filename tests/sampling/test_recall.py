"""What is called back is drawn again, by clip, across windows, and under guidance as without it."""

import pytest
import torch

from musicgen_rl.config import SamplingConfig
from musicgen_rl.lm.condition import Condition
from musicgen_rl.sampling.decode import Window
from musicgen_rl.sampling.recall import BONUS, Remembered, bonus_of
from tests.equivalence.shapes import SHAPES, build_pair, text_states
from tests.sampling.test_decode import run

HOT = SamplingConfig(temperature=1.0)
CONFIG = next(iter(SHAPES.values()))


class Back:
    """Calls back what was played so many frames before, by clip; 0 calls nothing."""

    def __init__(self, *lags, begins=0):
        self._lags, self._begins = lags, begins

    def lags(self, first_frame, steps):
        frames = torch.arange(first_frame, first_frame + steps)
        return torch.stack([
            torch.where(frames - lag >= self._begins, lag, 0) for lag in self._lags
        ])  # fmt: skip


@pytest.fixture(scope="module")
def played():
    ours, _ = build_pair(CONFIG)
    condition = Condition(*text_states(CONFIG))

    def play(recall=None, sampling=HOT, **more):
        return run(ours, condition, sampling, frames=30, recall=recall, **more)

    return play


def test_the_bonus_is_added_to_what_was_decided_so_long_ago():
    memory = Remembered(Back(2, 0), 0.5, codebook_size=4)
    memory.follow(0, 6)
    for column in ([[1, 2, 3], [0, 0, 0]], [[3, 4, 0], [1, 1, 1]]):
        memory.hear(torch.tensor(column))
    logits = torch.zeros(4, 3, 4)  # under guidance: two rows a clip
    found = memory.favour(2, logits)
    wanted = torch.zeros(4, 3, 4)
    wanted[[0, 2], 0, 1], wanted[[0, 2], 1, 2], wanted[[0, 2], 2, 3] = (b / 2 for b in BONUS)
    assert torch.equal(found, wanted)
    assert not logits.any()
    assert torch.equal(memory.favour(1, logits), logits)  # that far back there was nothing
    memory.hear(torch.zeros(2, 3, dtype=torch.long))
    padding = memory.favour(3, logits)[0]
    assert (padding != 0).sum(1).tolist() == [1, 0, 1]  # 4 is padding


def test_every_codebook_has_a_bonus():
    assert bonus_of(2).tolist() == [1.0, 2.0]
    assert bonus_of(5).tolist() == [1.0, 2.0, 3.0, 3.0, 3.0]


def test_a_large_bonus_plays_the_same_again_and_none_leaves_the_music_as_it_is(played):
    free = played()
    clips = len(free)
    again = played(Back(*[7] * clips), returning=100.0)
    whole = 7 - CONFIG.num_codebooks + 1  # frames all of whose codes were decided by then
    assert torch.equal(again[..., :whole], free[..., :whole])
    assert torch.equal(again[..., 7:14], again[..., :7])
    assert not torch.equal(free[..., 7:14], free[..., :7])
    by_chance = again[..., 14:21] == again[..., 7:14]  # what has come back is not called again
    assert by_chance.float().mean() < 0.5
    assert bool(((again[..., 21:28] == again[..., 14:21]) | by_chance).all())
    assert torch.equal(played(Back(*[7] * clips), returning=0.0), free)
    assert torch.equal(played(Back(*[0] * clips), returning=100.0), free)
    some = played(Back(*[7] * clips), returning=1.0)
    same = [(each[..., 7:14] == each[..., :7]).float().mean() for each in (free, some, again)]
    assert same[0] < same[1] < same[2] == 1.0


def test_each_clip_comes_back_to_its_own(played):
    free = played()
    clips = len(free)
    assert clips >= 2
    one = played(Back(5, *[0] * (clips - 1)), returning=100.0)
    assert torch.equal(one[1:], free[1:])
    assert torch.equal(one[0, :, 5:10], one[0, :, :5])


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_it_reaches_back_over_windows_and_through_guidance(played, guidance):
    sampling = SamplingConfig(temperature=1.0, guidance_scale=guidance)
    window = Window(frames=10, keep_frames=3)
    made = played(Back(*[8] * len(played())), sampling, window=window, returning=100.0)
    assert torch.equal(made[..., 8:16], made[..., :8])


def test_what_was_given_is_called_back_too(played):
    prompt = played()[..., :6]
    made = played(Back(*[6] * len(prompt), begins=-6), returning=100.0, prompt=prompt)
    assert torch.equal(made[..., :6], prompt)
    fresh = played(Back(*[6] * len(prompt)), returning=100.0, prompt=prompt)
    assert not torch.equal(fresh[..., :6], prompt)
    assert torch.equal(fresh[:, 0, 6:12], fresh[:, 0, :6])
