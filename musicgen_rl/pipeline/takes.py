"""Takes: each clip is played several times, and the one is kept that is nearest to a tempo.

A model may know little of tempo and still play it now and then. The takes are the variations that
their seed has anyway, side by side in one batch, so the kept one is a clip like any other: its seed
and index make it again.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from musicgen_rl.audio.clip import Clip
from musicgen_rl.audio.tempo import hear_tempo, tempo_gap
from musicgen_rl.config import SamplingConfig
from musicgen_rl.errors import ConfigError, InputError
from musicgen_rl.pipeline.asked import asked_tempo
from musicgen_rl.pipeline.request import GenerationConfig, check_clips
from musicgen_rl.pipeline.source import Source

if TYPE_CHECKING:
    from musicgen_rl.pipeline.core import Pipeline, Progress, Stop

SHORTEST_S = 4.0
"""Of new music in which a tempo can be heard."""


def check_takes(prompts: Sequence[str], request: GenerationConfig) -> None:
    """Refuse takes of which none could be chosen.

    Raises:
        InputError: no tempo is asked for, or the prompt names several.
        ConfigError: clips too short to hear one, or too many takes.
    """
    if request.takes == 1:
        return
    check_clips(len(prompts), request.clips_per_prompt * request.takes)
    if request.duration_s < SHORTEST_S:
        raise ConfigError(
            f"a tempo cannot be heard in {request.duration_s:g} s: for takes make clips of at "
            f"least {SHORTEST_S:g} s"
        )
    for prompt in prompts:
        if asked_tempo(prompt, request) is None:
            raise InputError(
                f"takes are chosen by their tempo, and the prompt {prompt!r:.60} does not name "
                "one: say for example 120 bpm, or leave takes out"
            )


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
    """Make the takes of one clip after another, and hand out the nearest of each.

    Args:
        pipeline: the loaded model.
        prompts: checked by `check_takes`.
        request: its seed must be set; take t of clip c has index first_index + c takes + t.
        sampling: how tokens are drawn.
        source: what all clips go on from.
        stop: asked at every step; what is there of the takes under way is still chosen from.
        progress: called with frames made and frames to make, all takes counted.

    Returns:
        Clips, in the order of the prompts; `takes` in their settings tells how many there were,
        and both tempi.
    """
    frames = pipeline.frames_of(request) * request.takes  # of one clip's takes
    total = frames * len(prompts) * request.clips_per_prompt
    made = 0

    def report(done: int, _: int) -> None:
        if progress is not None:
            progress(made + done, total)

    for prompt in prompts:
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
                bpm = asked_tempo(prompt, request)
                assert bpm is not None
                yield nearest(clips, bpm, request.duration_s)


def nearest(clips: Sequence[Clip], named: float, duration_s: float) -> Clip:
    """Choose the clip whose new music is nearest to a tempo.

    Args:
        clips: takes of one clip, at least one; those that a stop cut short count where all are.
        named: the tempo, in beats a minute.
        duration_s: of the new music, which comes last.

    Returns:
        The clip; of equally near ones the first.
    """
    whole = [clip for clip in clips if clip.settings["complete"]] or clips
    new = round(duration_s * clips[0].sample_rate)
    heard = [hear_tempo(clip.samples[:, -new:], clip.sample_rate) for clip in whole]
    best = min(range(len(whole)), key=lambda i: tempo_gap(heard[i], named))
    told = {"of": len(clips), "named_bpm": named, "heard_bpm": round(heard[best], 1)}
    return replace(whole[best], settings=whole[best].settings | {"takes": told})
