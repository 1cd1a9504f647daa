"""The loop against an uncached loop over transformers' model, and against itself."""

import itertools
from dataclasses import replace

import pytest
import torch

from musicgen_rl.config import SamplingConfig
from musicgen_rl.errors import ConfigError
from musicgen_rl.lm.condition import Condition
from musicgen_rl.lm.delay import undo_delay
from musicgen_rl.sampling.decode import DecodeStream, Window, decode
from musicgen_rl.sampling.randomness import ClipUniforms, clip_seed
from musicgen_rl.sampling.runner import EagerRunner
from tests.equivalence.shapes import SHAPES, build_pair, text_states

WIDE = Window(frames=40, keep_frames=10)
GREEDY = SamplingConfig(temperature=0.0)


def stream(model, condition, sampling=GREEDY, *, frames=12, window=WIDE, seeds=None, **more):
    def make(rows, max_steps, text_length):
        return EagerRunner(model, rows, max_steps)

    n = condition.mask.shape[0]
    return DecodeStream(
        model.config, make, condition, sampling,
        seeds=seeds or [clip_seed(5, i) for i in range(n)],
        window=window, num_frames=frames, **more,
    )  # fmt: skip


def run(*args, chunk=100, **more):
    return torch.cat(list(decode(stream(*args, **more), chunk)), dim=-1)


def rows_of(condition, *rows):
    return Condition(condition.hidden[list(rows)], condition.mask[list(rows)])


def reference_greedy(theirs, ours, condition, frames, guidance):
    """Decode column by column with transformers' uncached forward."""
    config = ours.config
    B, K, pad = condition.mask.shape[0], config.num_codebooks, config.pad_token
    hidden, mask = condition.hidden, condition.mask.long()
    if ours.text_projection is not None:
        hidden = ours.text_projection(hidden) * mask.unsqueeze(-1)
    S = frames + K // config.audio_channels - 1
    grid = torch.full((B, K, 1), pad)
    for s in range(S):
        flat = grid.reshape(B * K, -1)
        logits = theirs(
            input_ids=flat, encoder_hidden_states=hidden, encoder_attention_mask=mask
        ).logits.view(B, K, s + 1, -1)[:, :, -1]
        if guidance != 1:
            null = theirs(
                input_ids=flat, encoder_hidden_states=hidden * 0, encoder_attention_mask=mask * 0
            ).logits.view(B, K, s + 1, -1)[:, :, -1]
            logits = null + guidance * (logits - null)
        column = logits.argmax(-1)
        for k in range(K):
            if not 0 <= s - k // config.audio_channels < frames:
                column[:, k] = pad
        grid = torch.cat([grid, column.unsqueeze(-1)], dim=-1)
    return undo_delay(grid[..., 1:], config.audio_channels)


@torch.no_grad()
@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("config", SHAPES.values(), ids=SHAPES.keys())
def test_greedy_tokens_equal_transformers(config, guidance):
    ours, theirs = build_pair(config)
    condition = Condition(*text_states(config))
    expected = reference_greedy(theirs, ours, condition, 12, guidance)
    got = run(ours, condition, SamplingConfig(temperature=0.0, guidance_scale=guidance))
    assert torch.equal(got, expected)
    assert got.unique().numel() > 4  # not one token over and over


@torch.no_grad()
def test_guided_by_a_negative_prompt_equals_two_uncached_passes():
    config = SHAPES["mono"]
    ours, _ = build_pair(config)
    states = Condition(*text_states(config))
    prompt, negative = rows_of(states, 0), rows_of(states, 1)
    sampling = SamplingConfig(temperature=0.0, guidance_scale=2.0, negative_prompt="x")
    guided = run(ours, prompt, sampling, null=negative)
    by_null = run(ours, prompt, sampling)
    assert not torch.equal(guided, by_null)
    tokens = torch.full((1, 4, 1), config.pad_token)
    first = ours(tokens, negative) + 2 * (ours(tokens, prompt) - ours(tokens, negative))
    assert guided[0, 0, 0] == first[0, 0, 0].argmax()


@pytest.fixture(scope="module")
def mono():
    return build_pair(SHAPES["mono"])[0], Condition(*text_states(SHAPES["mono"]))


DRAW = SamplingConfig(temperature=1.0, top_k=10)


def test_chunks_joined_equal_the_whole(mono):
    model, condition = mono
    whole = run(model, condition, DRAW, frames=17)
    for chunk in (1, 3, 16, 17):
        assert torch.equal(run(model, condition, DRAW, frames=17, chunk=chunk), whole)


def test_a_clip_is_the_same_alone_and_among_others(mono):
    model, condition = mono
    together = run(model, condition, DRAW, frames=20)
    for i in range(3):
        alone = run(model, rows_of(condition, i), DRAW, frames=20, seeds=[clip_seed(5, i)])
        assert torch.equal(alone[0], together[i])


def test_the_seed_decides(mono):
    model, condition = mono
    one = rows_of(condition, 0)
    a, b, c = (run(model, one, DRAW, seeds=[clip_seed(s, 0)]) for s in (1, 1, 2))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_every_sampling_setting_matters(mono):
    model, condition = mono
    one = rows_of(condition, 0)
    variants = [
        SamplingConfig(top_k=0),
        SamplingConfig(top_k=2),
        SamplingConfig(top_k=0, temperature=0.3),
        SamplingConfig(top_k=0, top_p=0.3),
        SamplingConfig(top_k=0, guidance_scale=3.0),
    ]
    made = [run(model, one, v, frames=30) for v in variants]
    assert len({tuple(m.flatten().tolist()) for m in made}) == len(variants)


def test_sliding_goes_on_as_a_fresh_window_that_starts_with_the_kept_frames(mono):
    model, condition = mono
    one = rows_of(condition, 0)
    window = Window(frames=10, keep_frames=4)
    long = run(model, one, GREEDY, frames=30, window=window)
    assert long.shape == (1, 4, 30)
    # The first window runs to frame 10 (its last columns give partial frames, which are kept too).
    wide = run(model, one, GREEDY, frames=30)
    assert torch.equal(long[..., :10], wide[..., :10])
    assert not torch.equal(long, wide)
    # By hand: columns 6.. of the first window, laid out anew, are the next window's start.
    K, pad = 4, model.config.pad_token
    known = long[..., :13]
    columns = torch.full((1, K, 7), pad)
    for k in range(K):
        for c in range(7):
            if c >= k:
                columns[:, k, c] = known[:, k, 6 + c - k]
    inputs = torch.nn.functional.pad(columns, (1, 0), value=pad)
    expected = model(inputs, one)[:, :, -1].argmax(-1)  # column 7: codebook k of frame 13 - k
    assert [int(long[0, k, 13 - k]) for k in range(K)] == expected[0].tolist()


def test_a_fresh_window_sees_no_code_of_the_frames_before_it(mono):
    """Its first columns are padded as at the start of every sequence, and its input begins so."""
    model, condition = mono
    one, given = rows_of(condition, 0), []

    class Noted(EagerRunner):
        def prefill(self, tokens):
            given.append(tokens.clone())
            return super().prefill(tokens)

        def step(self, tokens):
            return EagerRunner.prefill(self, tokens.unsqueeze(-1))

    def make(rows, max_steps, text_length):
        return Noted(model, rows, max_steps)

    DecodeStream(
        model.config, make, one, GREEDY, seeds=[1], window=Window(frames=10, keep_frames=4),
        num_frames=13,
    ).advance(13)  # fmt: skip
    _, fresh = given
    assert fresh.shape == (1, 4, 1 + 4 + 3)
    late = [(row != model.config.pad_token).nonzero()[0].item() for row in fresh[0]]
    assert late == [1, 2, 3, 4]


def test_memory_does_not_grow_with_the_clip(mono):
    model, condition = mono
    s = stream(model, condition, DRAW, frames=None, window=Window(frames=12, keep_frames=4))
    before = s._grid.data_ptr(), s._grid.shape
    s.advance(100)
    assert (s._grid.data_ptr(), s._grid.shape) == before


def test_continuation_goes_on_from_the_prompt_and_does_not_repeat_it(mono):
    model, condition = mono
    one = rows_of(condition, 0)
    whole = run(model, one, GREEDY, frames=20)
    rest = run(model, one, GREEDY, frames=11, prompt=whole[..., :9])
    assert torch.equal(rest, whole[..., 9:])


def test_a_prompt_longer_than_the_window_is_cut_to_its_end(mono):
    model, condition = mono
    one, window = rows_of(condition, 0), Window(frames=12, keep_frames=5)
    codes = torch.randint(0, 30, (1, 4, 50), generator=torch.Generator().manual_seed(0))
    a = run(model, one, GREEDY, frames=6, prompt=codes, window=window)
    b = run(model, one, GREEDY, frames=6, prompt=codes[..., -5:], window=window)
    assert torch.equal(a, b)


def test_stop_returns_what_is_complete(mono):
    model, condition = mono
    asked = []

    def stop():
        asked.append(1)
        return len(asked) > 8

    s = stream(model, condition, GREEDY, frames=20)
    codes = s.advance(20, stop)
    assert codes.shape[-1] == 5  # 8 columns hold 8 - 3 complete frames
    whole = run(model, condition, GREEDY, frames=20)
    assert torch.equal(codes, whole[..., :5])
    assert not s.finished
    assert torch.equal(s.advance(20), whole[..., 5:])  # and it can go on
    assert s.finished
    assert s.advance(5).shape == (3, 4, 0)


def test_prompt_and_guidance_change_between_two_chunks(mono):
    model, condition = mono
    one, other = rows_of(condition, 0), rows_of(condition, 1)
    s = stream(model, one, GREEDY, frames=20)
    first = s.advance(8)
    s.change(condition=other)
    changed = torch.cat([first, s.advance(12)], -1)
    plain = run(model, one, GREEDY, frames=20)
    assert torch.equal(changed[..., :8], plain[..., :8])
    assert not torch.equal(changed, plain)
    s = stream(model, one, GREEDY, frames=20)
    s.advance(8)
    s.change(sampling=SamplingConfig(temperature=0.0, guidance_scale=4.0))
    assert s.rows == 2
    assert not torch.equal(s.advance(12), plain[..., 8:])


def test_refresh_after_the_weights_moved_uses_the_new_ones_for_the_past_too(mono):
    model, condition = build_pair(SHAPES["mono"])[0], mono[1]
    one = rows_of(condition, 0)
    s = stream(model, one, GREEDY, frames=20)
    first = s.advance(8)
    with torch.no_grad():
        model.blocks[0].ffn_in.weight.mul_(-1.0)
    s.refresh()
    rest = s.advance(12)
    # three columns were decided beyond frame 8 before the move; a continuation knows only frame 8
    column = model(torch.nn.functional.pad(s._grid[..., :11], (1, 0), value=30), one)[
        :, :, -1
    ].argmax(-1)
    got = torch.cat([first, rest], -1)
    assert [int(got[0, k, 11 - k]) for k in range(4)] == column[0].tolist()


def test_uniform_numbers_do_not_depend_on_the_company():
    together = ClipUniforms([clip_seed(3, i) for i in range(4)], 4)
    alone = ClipUniforms([clip_seed(3, 2)], 4)
    for _ in range(600):  # more than one block
        assert torch.equal(together.next()[2], alone.next()[0])


def test_clip_seeds_differ_by_seed_and_index():
    seeds = {clip_seed(s, i) for s in range(20) for i in range(20)}
    assert len(seeds) == 400


def test_prompts_and_seeds_must_match(mono):
    model, condition = mono
    with pytest.raises(ConfigError, match="3 prompts and 2 seeds"):
        stream(model, condition, seeds=[1, 2])


@pytest.mark.parametrize("keep", [0, 10, 11])
def test_a_window_that_gains_nothing_is_refused(keep):
    with pytest.raises(ConfigError, match="keep_frames"):
        Window(frames=10, keep_frames=keep)


class Told:
    """Adds nothing, and writes down what it was asked."""

    def __init__(self, config):
        self.config, self.asked = config, []

    def told(self, first_frame, steps):
        self.asked.append((first_frame, steps))
        return torch.zeros(self.config.num_layers, 2, steps, self.config.hidden_size)


@torch.no_grad()
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_beats_are_told_from_the_first_frame_of_each_window(guidance):
    config = next(iter(SHAPES.values()))
    model = build_pair(config)[0]
    states = rows_of(Condition(*text_states(config)), 0, 1)
    sampling, window = SamplingConfig(guidance_scale=guidance), Window(frames=20, keep_frames=8)
    for given in (0, 5):
        told, prompt = Told(config), torch.zeros(2, config.num_codebooks, given, dtype=torch.long)
        codes = run(
            model, states, sampling, frames=40, window=window, teller=told,
            prompt=prompt if given else None,
        )  # fmt: skip
        plain = run(
            model, states, sampling, frames=40, window=window,
            prompt=prompt if given else None,
        )  # fmt: skip
        assert torch.equal(codes, plain)  # zeros change nothing
        late = config.num_codebooks // config.audio_channels - 1
        starts = [first for first, _ in told.asked]
        assert starts[0] == -given
        # A window of 20 frames and the delay is full; its last 8 frames begin the next one.
        assert {b - a for a, b in itertools.pairwise(starts)} == {20 - 8}
        assert {steps for _, steps in told.asked} == {20 + late}


GUIDED = SamplingConfig(temperature=1.0, top_k=10, guidance_scale=3.0, guidance_s=1.0)


def test_guidance_that_ends_is_all_guided_before_and_none_after(mono):
    model, condition = mono
    whole = replace(GUIDED, guidance_s=0.0)
    ending = stream(model, condition, GUIDED, frames=20, guided_frames=7)
    rows = []
    while not ending.finished:
        rows.append(ending.rows)
        ending.advance(100, lambda: len(rows) <= ending._decided)
    got = run(model, condition, GUIDED, frames=20, guided_frames=7)
    by_hand = stream(model, condition, whole, frames=20)
    first = by_hand.advance(100, lambda: by_hand._decided == 7)
    by_hand.change(sampling=replace(whole, guidance_scale=1.0))
    assert torch.equal(got, torch.cat([first, by_hand.advance(100)], dim=-1))
    guided, plain = run(model, condition, whole, frames=20), run(model, condition, DRAW, frames=20)
    assert torch.equal(got[:, 0, :7], guided[:, 0, :7])
    assert not torch.equal(got, guided)
    assert not torch.equal(got[:, 0, :7], plain[:, 0, :7])
    n = condition.mask.shape[0]
    assert rows[:7] == [2 * n] * 7
    assert set(rows[7:]) == {n}


def test_guidance_of_more_frames_than_there_are_steers_all(mono):
    model, condition = mono
    whole = run(model, condition, replace(GUIDED, guidance_s=0.0), frames=12)
    assert torch.equal(run(model, condition, GUIDED, frames=12, guided_frames=99), whole)


def test_guidance_ends_where_the_new_music_says_and_not_where_the_window_does(mono):
    model, condition = mono
    narrow = Window(frames=12, keep_frames=4)
    got = run(model, condition, GUIDED, frames=40, window=narrow, guided_frames=20)
    by_hand = stream(model, condition, GUIDED, frames=40, window=narrow)
    first = by_hand.advance(100, lambda: by_hand._first + by_hand._decided == 20)
    by_hand.change(sampling=replace(GUIDED, guidance_scale=1.0, guidance_s=0.0))
    assert torch.equal(got, torch.cat([first, by_hand.advance(100)], dim=-1))
    prompt = got[..., :6]
    onward = stream(model, condition, GUIDED, frames=9, prompt=prompt, guided_frames=3)
    for columns, rows in ((8, 2), (9, 1), (12, 1)):  # six of them are given
        onward.advance(100, lambda upto=columns: onward._decided == upto)
        assert onward.rows == rows * condition.mask.shape[0]


def test_a_change_may_guide_anew(mono):
    model, condition = mono
    n = condition.mask.shape[0]
    jam = stream(model, condition, GUIDED, frames=None, guided_frames=3)
    jam.advance(8)
    assert jam.rows == n
    jam.change(condition=condition)
    assert jam.rows == n
    jam.guided_until = jam.now + 5
    jam.change(condition=condition)
    assert jam.rows == 2 * n
    jam.advance(6)
    assert jam.rows == n
    jam.guided_until = None
    jam.advance(30)
    assert jam.rows == 2 * n


def test_what_is_forgotten_is_what_a_full_window_would_leave_behind(mono):
    model, condition = mono
    narrow = run(model, condition, frames=20, window=Window(frames=12, keep_frames=4))
    wide = stream(model, condition, frames=20)
    first = wide.advance(12)
    wide.forget(4)
    assert torch.equal(torch.cat([first, wide.advance(8)], dim=-1), narrow)
    assert not torch.equal(run(model, condition, frames=20), narrow)


def test_nothing_is_forgotten_where_there_is_no_more_than_is_kept(mono):
    model, condition = mono
    whole = run(model, condition, DRAW, frames=12)
    short = stream(model, condition, DRAW, frames=12)
    short.forget(4)
    first = short.advance(3)
    short.forget(4)
    assert torch.equal(torch.cat([first, short.advance(9)], dim=-1), whole)
