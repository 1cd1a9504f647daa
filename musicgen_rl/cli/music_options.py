"""Options of every command that makes music: what they take, and what their values become."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from musicgen_rl.audio.loudness import LoudnessConfig
from musicgen_rl.cli.options import NUMBER, WHOLE, given, number, whole
from musicgen_rl.config import SamplingConfig, field_help
from musicgen_rl.data.chords import AUTO_CHORDS
from musicgen_rl.errors import ConfigError
from musicgen_rl.pipeline.request import GenerationConfig

_REQUEST = field_help(GenerationConfig)
_SAMPLING = field_help(SamplingConfig)
_LOUDNESS = field_help(LoudnessConfig)
_OWN = "the model's own"

Duration = Annotated[
    str | None,
    typer.Option(
        metavar=NUMBER,
        help=_REQUEST["duration_s"],
        show_default=f"{GenerationConfig.duration_s:g}",
    ),
]
Takes = Annotated[
    str | None,
    typer.Option(metavar=WHOLE, help=_REQUEST["takes"], show_default=str(GenerationConfig.takes)),
]
Tempo = Annotated[
    str | None,
    typer.Option(metavar=NUMBER, help=_REQUEST["tempo_bpm"], show_default="the prompt's"),
]
Steady = Annotated[bool, typer.Option("--steady", help=_REQUEST["steady"])]
Key = Annotated[
    str | None, typer.Option(metavar="KEY", help=_REQUEST["key"], show_default="the prompt's")
]
Chords = Annotated[
    str | None, typer.Option(metavar="CHORDS", help=_REQUEST["chords"], show_default="the prompt's")
]
BeatsPerBar = Annotated[
    str | None,
    typer.Option(metavar=WHOLE, help=_REQUEST["beats_per_bar"], show_default="the prompt's"),
]
Returning = Annotated[
    str | None,
    typer.Option(
        metavar=NUMBER, help=_REQUEST["returning"], show_default=f"{GenerationConfig.returning:g}"
    ),
]
Guidance = Annotated[
    str | None, typer.Option(metavar=NUMBER, help=_SAMPLING["guidance_scale"], show_default=_OWN)
]
GuidanceSeconds = Annotated[
    str | None, typer.Option(metavar=NUMBER, help=_SAMPLING["guidance_s"], show_default=_OWN)
]
NegativePrompt = Annotated[
    str | None, typer.Option(help=_SAMPLING["negative_prompt"], show_default=_OWN)
]
Temperature = Annotated[
    str | None, typer.Option(metavar=NUMBER, help=_SAMPLING["temperature"], show_default=_OWN)
]
TopK = Annotated[
    str | None, typer.Option(metavar=WHOLE, help=_SAMPLING["top_k"], show_default=_OWN)
]
TopP = Annotated[
    str | None, typer.Option(metavar=NUMBER, help=_SAMPLING["top_p"], show_default=_OWN)
]
MergeMethod = Annotated[
    str | None,
    typer.Option(help=_REQUEST["merge_method"], show_default=GenerationConfig.merge_method),
]
Loudness = Annotated[
    str | None,
    typer.Option(
        metavar=NUMBER,
        help=f"Target in LUFS. {_LOUDNESS['target_lufs']}",
        show_default=f"{LoudnessConfig.target_lufs:g}",
    ),
]
NoLoudness = Annotated[
    bool, typer.Option("--no-loudness", help="Leave the loudness as generated, unclipped.")
]
Model = Annotated[
    str, typer.Option(help="pocket, a folder, or a hub id such as facebook/musicgen-small.")
]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Dtype = Annotated[
    str, typer.Option(help="auto (the fastest that is right here), fp32, bf16 or int8.")
]


def read_sampling(
    guidance: str | None,
    guidance_seconds: str | None,
    negative_prompt: str | None,
    temperature: str | None,
    top_k: str | None,
    top_p: str | None,
) -> dict[str, Any]:
    """Read the options of `SamplingConfig` that were given, by the names of its fields.

    Raises:
        ConfigError: one that takes a number was given something else.
    """
    return given(
        guidance_scale=number("--guidance", guidance),
        guidance_s=number("--guidance-seconds", guidance_seconds),
        negative_prompt=negative_prompt,
        temperature=number("--temperature", temperature),
        top_k=whole("--top-k", top_k),
        top_p=number("--top-p", top_p),
    )


def read_loudness(target: str | None, off: bool) -> LoudnessConfig:
    """Read --loudness and --no-loudness.

    Raises:
        ConfigError: both were given, or a target that cannot be one.
    """
    target_lufs = number("--loudness", target)
    if target_lufs is not None and off:
        raise ConfigError(
            f"--loudness {target_lufs:g} and --no-loudness contradict: give one of them"
        )
    return LoudnessConfig(enabled=not off, **given(target_lufs=target_lufs))


def check_chord_options(
    asked: Sequence[tuple[str, GenerationConfig]],
    beats_per_bar: str | None,
    returning: str | None,
) -> None:
    """Refuse options that say how chords are played where nothing asks for chords.

    Args:
        asked: prompts with what is asked for beside them.
        beats_per_bar: --beats-per-bar, as given.
        returning: --returning, as given.

    Raises:
        ConfigError: one was given, and no prompt has chords.
    """
    from musicgen_rl.pipeline.asked import asks_for_chords

    named = {"--beats-per-bar": beats_per_bar, "--returning": returning}
    said = [f"{option} {value}" for option, value in named.items() if value is not None]
    if not said or any(asks_for_chords(prompt, request) for prompt, request in asked):
        return
    if any(request.chords == AUTO_CHORDS for _, request in asked):
        raise ConfigError(
            f"{said[0]} says how chords are played, and words of music in threes or without a "
            'beat find none: name a --tempo beside --chords auto, or chords: --chords "Am F C G"'
        )
    raise ConfigError(
        f"{said[0]} says how chords are played, and none are asked for: add "
        '--chords "Am F C G", or --chords auto for some that fit the words'
    )
