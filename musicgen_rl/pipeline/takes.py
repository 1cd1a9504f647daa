"""Takes: each clip is played several times, and the one is kept that answers what was asked.

A model misses its words now and then, and another take of them it meets. Which one does is heard by
the scorer that its folder has for rewards (docs/rewards.md), or told by the tempo alone. The takes
are the variations that their seed has anyway, side by side in one batch, so the kept one is a clip
like any other: its seed and index make it again.

Keeping the best of several by a judge is rejection sampling, the best-of-N that arXiv:2407.14622
distils into weights.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import soxr
import torch
from numpy.typing import NDArray

from musicgen_rl.audio.clip import Clip
from musicgen_rl.audio.tempo import hear_tempo, tempo_fits, tempo_gap
from musicgen_rl.checkpoint import ModelInfo
from musicgen_rl.checkpoint.scorer import SCORER, find_scorer
from musicgen_rl.config import SamplingConfig
from musicgen_rl.errors import ConfigError, InputError
from musicgen_rl.pipeline import devices
from musicgen_rl.pipeline.asked import asked_tempo
from musicgen_rl.pipeline.request import GenerationConfig, check_clips
from musicgen_rl.pipeline.source import Source
from musicgen_rl.rewards import Scorer, load_scorer
from musicgen_rl.rewards.mel import LOWEST_RATE, MIN_SECONDS

if TYPE_CHECKING:
    from musicgen_rl.pipeline.core import Pipeline, Progress, Stop

_COPIES = 3
"""Of their sound, while takes are joined and levelled."""
SHORTEST_S = 4.0
"""Of new music in which a tempo can be heard."""
SHORTEST_SCORED_S = 2.0
"""Of new music that a scorer can tell from another."""


def check_takes(info: ModelInfo, prompts: Sequence[str], request: GenerationConfig) -> None:
    """Refuse takes of which none could be chosen.

    Args:
        info: the model.
        prompts: checked by `check_prompts`.
        request: how many takes, how long.

    Raises:
        InputError: the model has no scorer, and no tempo is asked for, or the prompt names several.
        ConfigError: clips too short to choose by, or too many takes.
    """
    if request.takes == 1:
        return
    check_clips(len(prompts), request.clips_per_prompt * request.takes)
    scored = find_scorer(info) is not None
    least = SHORTEST_SCORED_S if scored else SHORTEST_S
    if request.duration_s < least:
        what = "how well words are answered" if scored else "a tempo"
        raise ConfigError(
            f"{what} cannot be heard in {request.duration_s:g} s: for takes make clips of at "
            f"least {least:g} s"
        )
    for prompt in prompts:
        if not scored and asked_tempo(prompt, request) is None:
            raise InputError(
                f"{info.name} has no scorer ({SCORER}) to choose takes by their words, so they "
                f"are chosen by their tempo, and the prompt {prompt!r:.60} does not name one: say "
                "for example 120 bpm, or leave takes out"
            )


def load_chooser(info: ModelInfo, device: torch.device) -> Scorer | None:
    """Load what chooses takes by their words; None where the model has nothing that does.

    Raises:
        CheckpointError: it is damaged.
    """
    folder = find_scorer(info)
    return None if folder is None else load_scorer(folder, device)


def best_takes(
    pipeline: "Pipeline",
    prompts: Sequence[str],
    request: GenerationConfig,
    sampling: SamplingConfig,
    *,
    source: Source | None = None,
    stop: "Stop | None" = None,
    progress: "Progress | None" = None,
) -> Iterator[Clip]:
    """Make the takes of one clip after another, and hand out the best of each.

    Args:
        pipeline: the loaded model.
        prompts: checked by `check_takes`.
        request: its seed must be set; take t of clip c has index first_index + c takes + t.
        sampling: how tokens are drawn.
        source: what all clips go on from.
        stop: asked at every step; what is there of the takes under way is still chosen from.
        progress: called at every step with frames made and frames to make, all takes counted.

    Returns:
        Clips, in the order of the prompts; `takes` in their settings tells how many there were and
        what was heard.

    Raises:
        MemoryLimitError: all takes of one clip do not fit in memory; before anything is made.
    """
    scorer = pipeline.chooser  # before anything is made
    frames = pipeline.frames_of(request) * request.takes  # of one clip's takes
    sound = frames * pipeline.codec.hop_length * pipeline.codec.audio_channels * 4
    devices.require_memory(
        _COPIES * sound, torch.device("cpu"), f"{request.takes} takes side by side",
        "ask for fewer, or make the clip shorter",
    )  # fmt: skip
    total = frames * len(prompts) * request.clips_per_prompt
    made = 0

    def report(done: int, _: int) -> None:
        if progress is not None:
            progress(made + done, total)

    for prompt in prompts:
        bpm = asked_tempo(prompt, request)
        for number in range(request.clips_per_prompt):
            if stop is not None and stop():
                return
            one = replace(
                request, takes=1, clips_per_prompt=request.takes,
                first_index=request.first_index + number * request.takes,
            )  # fmt: skip
            clips = pipeline.run([prompt], one, sampling, source=source, stop=stop, progress=report)
            made += frames
            if clips:
                yield choose(clips, bpm, request.duration_s, scorer)


def choose(
    clips: Sequence[Clip], named: float | None, duration_s: float, scorer: Scorer | None
) -> Clip:
    """Choose the clip whose new music answers best.

    Where a tempo is asked for, those that have it, its half or its double within 4 % go before
    others, or the nearest does. Among these the scorer chooses by the clip's prompt.

    Args:
        clips: takes of one clip, at least one; those that a stop cut short count where all are.
        named: the tempo, in beats a minute.
        duration_s: of the new music, which comes last.
        scorer: hears how well words are answered.

    Returns:
        The clip; of equally good ones the first.
    """
    whole = [clip for clip in clips if clip.settings["complete"]] or clips
    rate = whole[0].sample_rate
    new = [clip.samples[:, -round(duration_s * rate) :] for clip in whole]
    left = list(range(len(whole)))
    heard: dict[str, Any] = {"of": len(clips)}
    tempi: list[float] = []
    if named is not None:
        tempi = [hear_tempo(samples, rate) for samples in new]
        fitting = [i for i in left if tempo_fits(tempi[i], named)]
        if scorer is None or not fitting:
            fitting = [min(left, key=lambda i: tempo_gap(tempi[i], named))]
        left = fitting
    scores = np.zeros(len(left))
    if scorer is not None:
        scores = _scores(scorer, [new[i] for i in left], rate, whole[0].settings["prompt"])
    best = left[int(scores.argmax())]
    if named is not None:
        heard |= {"named_bpm": named, "heard_bpm": round(tempi[best], 1)}
    if scorer is not None:
        heard |= {"score": round(float(scores.max()), 3), "scorer_sha256": scorer.identity.sha256}
    return replace(whole[best], settings=whole[best].settings | {"takes": heard})


def _scores(
    scorer: Scorer, clips: Sequence[NDArray[np.float32]], sample_rate: int, prompt: str
) -> NDArray[np.float64]:
    """Score clips [C, M], of any lengths, against a prompt; one too short to be heard comes last.

    Returns:
        Cosines [B].
    """
    words = scorer.embed_text([prompt])
    scores = np.full(len(clips), -1.0)
    for i, samples in enumerate(clips):
        if samples.shape[1] < MIN_SECONDS * sample_rate:
            continue
        mono, rate = samples.mean(axis=0), sample_rate
        if rate < LOWEST_RATE or rate % 50:
            rate = scorer.sample_rate
            mono = soxr.resample(mono, sample_rate, rate)
        scores[i] = float((scorer.embed_audio(torch.from_numpy(mono)[None], rate) * words).sum())
    return scores
