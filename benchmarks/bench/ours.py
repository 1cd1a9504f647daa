"""Our decoding, as candidates."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from bench.shapes import random_condition, random_tokens
from bench.timing import Candidate
from musicgen_rl.config import LMConfig, SamplingConfig
from musicgen_rl.lm.condition import Condition
from musicgen_rl.pipeline.core import TEXT_BUCKET
from musicgen_rl.pipeline.runners import RunnerPool
from musicgen_rl.sampling.decode import DecodeStream, Window
from musicgen_rl.sampling.runner import Runner, pad_condition


@contextmanager
def as_used(
    name: str,
    pool: RunnerPool,
    config: LMConfig,
    *,
    clips: int,
    guidance_scale: float,
    context: int,
    steps: int,
    turns: int,
    real_prefill: bool = True,
) -> Iterator[Candidate]:
    """Decode as `Pipeline` does: runner, guidance, top-k sampling, delay, one stream.

    Args:
        name: of the candidate.
        pool: what chooses the runner.
        config: shape of the model.
        clips: side by side.
        guidance_scale: 1 is one row a clip, else two.
        context: frames before the middle of what is timed.
        steps: of one turn.
        turns: all of them, the warming one too.
        real_prefill: compute the context; otherwise only its length is right, which takes the
            same time in every step after it.
    """
    before = max(1, context - steps * turns // 2)
    condition = pad_condition(random_condition(config, clips), TEXT_BUCKET)
    with pool.lease() as make:

        def make_runner(rows: int, max_steps: int, text_length: int) -> Runner:
            runner = make(rows, max_steps, text_length)
            return runner if real_prefill else _WithoutPrefill(runner)

        stream = DecodeStream(
            config,
            make_runner,
            condition,
            SamplingConfig(guidance_scale=guidance_scale),
            seeds=list(range(clips)),
            window=Window(frames=before + steps * turns + 16, keep_frames=before),
            prompt=random_tokens(config, clips, before),
        )
        yield Candidate(name, stream.advance, steps)


def alone(
    name: str, runner: Runner, config: LMConfig, *, context: int, steps: int, turns: int
) -> Candidate:
    """Only the model's steps: logits out, tokens given."""
    before = max(1, context - steps * turns // 2)
    tokens = random_tokens(config, runner.rows, before + steps * turns)
    runner.begin(random_condition(config, runner.rows))
    runner.prefill(tokens[..., :before])
    given = iter(tokens[..., before:].unbind(-1))

    def run(count: int) -> None:
        for _ in range(count):
            runner.step(next(given))

    return Candidate(name, run, steps)


def cache_width(runner: object) -> int:
    """Tell the bytes of one number of a runner's keys and values."""
    cache = getattr(runner, "cache", None)
    return cache.dtype.itemsize if cache is not None else 1


class _WithoutPrefill:
    """A runner whose past is only pretended: as long as it should be, but never computed."""

    def __init__(self, runner: Runner) -> None:
        self._runner, self.rows, self.max_steps = runner, runner.rows, runner.max_steps
        self.native = runner.native

    def begin(self, condition: Condition) -> None:
        self._runner.begin(condition)

    def prefill(self, tokens: Tensor) -> Tensor:
        holder = getattr(self._runner, "cache", self._runner)
        holder.length = tokens.shape[-1] - 1
        if isinstance(getattr(holder, "position", None), torch.Tensor):
            holder.position.fill_(holder.length)
        return self._runner.step(tokens[..., -1])

    def step(self, tokens: Tensor) -> Tensor:
        return self._runner.step(tokens)

    def reset(self) -> None:
        self._runner.reset()
