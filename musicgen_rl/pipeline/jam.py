"""An endless clip whose weights, prompt and guidance may change while it is made.

Every change is written down with the frame it took effect at. The tokens depend on nothing else, so
a jam is made again from its list of moves, frame by frame.

After a change the text and the whole window are computed again with the new weights (`recompute`).
The other policy keeps what was computed before (`keep`): cheaper, but keys and values of two models
then stand side by side. benchmarks/live.py measures what each costs and how far they are apart.

Once the prompt is another, hardly anything of what was played is heard on: what a model has just
played says more to it than its words do, and it would go on as before
(docs/experiments/2026-11-30-jams.md). Beat, key and chords go on where they are told.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from musicgen_rl.audio.loudness import LoudnessConfig
from musicgen_rl.codec.streaming import StreamingDecoder
from musicgen_rl.config import SamplingConfig, require
from musicgen_rl.data.keys import NO_KEY
from musicgen_rl.errors import ConfigError
from musicgen_rl.lm.condition import Condition, null_condition
from musicgen_rl.pipeline.core import Pipeline
from musicgen_rl.pipeline.dial import require_endpoints
from musicgen_rl.pipeline.holds import MovingHolds
from musicgen_rl.pipeline.moves import MAX_MOVES, POLICIES, Begins, Move
from musicgen_rl.pipeline.request import GenerationConfig
from musicgen_rl.pipeline.work import Batch
from musicgen_rl.sampling.decode import DecodeStream
from musicgen_rl.sampling.randomness import clip_seed

KEEPS_S = 0.08
"""Seconds of what was played that are heard on once the prompt is another: no more than joins."""


class Jam:
    """Makes sound without an end, a few frames at a time, one row (two under guidance).

    Several jams of one pipeline may take turns: each `advance` brings the weights to where this
    jam's dial stands first.

    Args:
        pipeline: what plays; nobody else may use it meanwhile.
        first: what it starts with, at frame 0.
        seed: same seed and moves, same music.
        merge_method: way between the two ends, for the whole jam.
        policy: "recompute" or "keep", see above.
        begins: to what it is held; to what its prompt of the moment names where None.
        keeps_s: seconds of what was played that are heard on once the prompt is another; None for
            all of the window.

    Raises:
        ConfigError: a position of the dial, and the model has none.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        first: Move,
        seed: int,
        *,
        merge_method: str = "lerp",
        policy: str = "recompute",
        begins: Begins | None = None,
        keeps_s: float | None = KEEPS_S,
    ) -> None:
        require(policy in POLICIES, f"unknown policy {policy!r}: use {', '.join(POLICIES)}")
        require(first.frame == 0, f"a jam starts at frame 0, got {first.frame}")
        require_endpoints(pipeline.info, first.diversity)
        self.pipeline, self.seed, self.policy = pipeline, seed, policy
        self.merge_method, self.keeps_s = merge_method, keeps_s
        self.moves = [first]
        self.codes: list[NDArray[np.int64]] = []
        """Frames made so far, [K, t] each."""
        self.frames = 0
        """How many there are."""
        begins = begins or Begins()
        self._holds = MovingHolds(pipeline.holds, first.prompt, begins)
        self._stack = ExitStack()
        make_runner = self._stack.enter_context(pipeline.lease_runners())
        self.pipeline.move(first.diversity, merge_method)
        self._stream = DecodeStream(
            pipeline.info.lm,
            make_runner,
            self._condition(first),
            first.sampling,
            seeds=[clip_seed(seed, 0)],
            window=pipeline.info.window,
            guided_frames=first.sampling.guided_frames(pipeline.info.frame_rate),
            null=self._null(first.sampling),
            teller=self._holds or None,
            recall=self._holds.lead_sheet,
            returning=begins.returning,
        )
        self._played_until = self._stream.guided_until
        self._played_words = self._holds.words(first.prompt)
        self._decoder = StreamingDecoder(pipeline.codec)

    @property
    def now(self) -> Move:
        """What holds at present."""
        return self.moves[-1]

    def change(
        self,
        *,
        prompt: str | None = None,
        sampling: SamplingConfig | None = None,
        diversity: float | None = None,
    ) -> float:
        """Go on otherwise from the next step; None leaves a setting as it is.

        Args:
            prompt: what to play from here.
            sampling: how tokens are drawn from here.
            diversity: where the dial stands from here; a jam on the dial stays on it.

        Returns:
            Seconds until the new weights stood.

        Raises:
            InputError: a prompt that cannot be used.
            ConfigError: the model has no dial, a value is out of range, or after too many moves.
        """
        now = self.now
        after = Move(
            frame=self.frames,
            prompt=now.prompt if prompt is None else prompt,
            sampling=sampling or now.sampling,
            diversity=now.diversity if diversity is None else diversity,
        )
        require_endpoints(self.pipeline.info, after.diversity)
        if replace(after, frame=now.frame) == now:
            return 0.0
        if len(self.moves) >= MAX_MOVES:
            raise ConfigError(f"a jam has at most {MAX_MOVES} moves: keep it and start a new one")
        if now.frame == self.frames:
            self.moves.pop()  # nothing was made with it
        played = self.moves[-1] if self.moves else None
        if played is None or replace(after, frame=played.frame) != played:
            self.moves.append(after)  # or it is what played before
        return self._apply(after, now, played)

    def advance(self, frames: int) -> NDArray[np.float32]:
        """Make the next frames.

        Args:
            frames: how many.

        Returns:
            Samples [C, m] that are final by now; the codec holds back what later frames change.
        """
        self.pipeline.move(self.now.diversity, self.merge_method)
        words = self._holds.words(self.now.prompt)  # another tempo alone is no other prompt
        if self.frames and words != self._played_words and self.keeps_s is not None:
            self._stream.forget(round(self.keeps_s * self.pipeline.info.frame_rate))
        codes = self._stream.advance(frames)  # [1, K, t]
        self.codes.append(codes[0].numpy().astype(np.int64))
        self.frames += frames
        self._played_until = self._stream.guided_until
        self._played_words = words
        with torch.inference_mode():
            samples = self._decoder.push(codes.to(self.pipeline.device))
        return samples[0].float().cpu().numpy()

    def joined(self) -> NDArray[np.int64]:
        """All codes so far, [K, T]."""
        if not self.codes:
            return np.zeros((self.pipeline.info.lm.num_codebooks, 0), np.int64)
        self.codes = [np.concatenate(self.codes, axis=-1)]
        return self.codes[0]

    def settings(self, loudness: LoudnessConfig) -> dict[str, Any]:
        """Collect all that decides the sound until now, JSON-able; `moves` among it."""
        pipeline, first = self.pipeline, self.moves[0]
        request = GenerationConfig(
            seed=self.seed,
            tempo_bpm=0.0,
            key=NO_KEY,
            diversity=first.diversity,
            merge_method=self.merge_method,
            loudness=loudness,
        )
        batch = Batch([first.prompt], [0])
        described = pipeline.settings(batch, 0, request, first.sampling, None)
        held = self._holds.describe([move.prompt for move in self.moves])
        return (
            described
            | held
            | {
                "duration_s": self.frames * pipeline.codec.hop_length / pipeline.sample_rate,
                "frames": self.frames,
                "moves": [move.described() for move in self.moves],
                "policy": self.policy,
                "keeps_s": self.keeps_s,
            }
        )

    def close(self) -> None:
        """Give back what decoding needs; codes and settings stay."""
        self._stack.close()

    def _apply(self, after: Move, before: Move, played: Move | None) -> float:
        """Bring the stream from one move to another.

        Args:
            after: what holds from here on.
            before: what held until now, be it that no frame was made with it.
            played: what the last frame was made with; None where there is none.
        """
        pipeline = self.pipeline
        seconds = pipeline.move(after.diversity, self.merge_method)
        moved, said = after.diversity != before.diversity, after.prompt != before.prompt
        drawn = after.sampling != before.sampling
        if said:
            self._holds.move(after.frame, after.prompt)
        again = moved and self.policy == "recompute"
        guided = after.sampling.guided_frames(pipeline.info.frame_rate)
        if played is None or (after.prompt, after.sampling) != (played.prompt, played.sampling):
            self._stream.guided_until = self._stream.now + guided if guided else None
        else:  # as if nothing had been said in between
            self._stream.guided_until = self._played_until
        self._stream.change(
            condition=self._condition(after) if again or said else None,
            sampling=after.sampling,
            null=self._null(after.sampling) if again or drawn else None,
        )
        return seconds

    def _condition(self, move: Move) -> Condition:
        """Encode the prompt of a move, without a tempo that is told by beats."""
        return self.pipeline.condition([self._holds.words(move.prompt)])

    def _null(self, sampling: SamplingConfig) -> Condition:
        """Encode what guidance steers away from; said in full, so that it replaces another."""
        negative = self.pipeline.negative_condition(sampling, 1)
        return negative or null_condition(1, self.pipeline.info.lm.text_hidden_size, "cpu")


def decode_codes(
    pipeline: Pipeline, codes: NDArray[np.int64], part_frames: int = 500
) -> Iterator[NDArray[np.float32]]:
    """Decode codes [K, T] to sound part by part, [C, m] each; joined they are the whole."""
    decoder = StreamingDecoder(pipeline.codec)
    with torch.inference_mode():
        for start in range(0, codes.shape[-1], part_frames):
            part = torch.from_numpy(codes[:, start : start + part_frames]).unsqueeze(0)
            yield decoder.push(part.to(pipeline.device))[0].float().cpu().numpy()
        if codes.shape[-1]:
            yield decoder.finish()[0].float().cpu().numpy()


def play_again(
    pipeline: Pipeline,
    moves: list[Move],
    seed: int,
    frames: int,
    *,
    merge_method: str,
    policy: str,
    begins: Begins | None = None,
    keeps_s: float | None = KEEPS_S,
) -> Iterator[NDArray[np.int64]]:
    """Make a jam's codes again from its moves.

    Args:
        pipeline: the model that made it.
        moves: in order, the first at frame 0.
        seed: of the jam.
        frames: how many to make.
        merge_method: way between the two ends.
        policy: "recompute" or "keep".
        begins: to what it was held.
        keeps_s: as of `Jam`.

    Returns:
        Codes [K, t] in parts, `frames` in all; what is left out of the last is never made.
    """
    jam = Jam(
        pipeline,
        moves[0],
        seed,
        merge_method=merge_method,
        policy=policy,
        begins=begins,
        keeps_s=keeps_s,
    )
    try:
        ahead = moves[1:]
        while jam.frames < frames:
            while ahead and ahead[0].frame <= jam.frames:
                move = ahead.pop(0)
                jam.change(prompt=move.prompt, sampling=move.sampling, diversity=move.diversity)
            until = min(ahead[0].frame if ahead else frames, frames, jam.frames + 250)
            jam.advance(until - jam.frames)
            yield jam.codes[-1]
    finally:
        jam.close()
