"""`musicgen-rl train encoder`, `scorer` and `probe`: the models that judge sound."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from musicgen_rl.cli.train_options import (
    parse_assignments,
    report_encoding,
    stop_on_signal,
    take_fields,
)
from musicgen_rl.config import field_help
from musicgen_rl.errors import ConfigError

Mels = Annotated[Path, typer.Option(help="Folder of the audio's frames; made from --manifest.")]
Out = Annotated[Path, typer.Option(help="Folder of the run; a run in it is continued.")]
Manifests = Annotated[
    list[Path] | None, typer.Option("--manifest", help="Audio to learn from (jsonl); repeat.")
]
CodecFolder = Annotated[
    Path | None,
    typer.Option("--codec", help="Codec to hear a part of the audio through, too."),
]
Role = Annotated[str, typer.Option(help="training: for rewards. report: for measuring only.")]
Half = Annotated[str, typer.Option(help="Half of the training split to learn from: a, b or all.")]
Start = Annotated[Path | None, typer.Option(help="Encoder whose tower is taken over.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="NAME=VALUE, see --show-options; repeat."),
]
Name = Annotated[str, typer.Option(help="What it is called; from its role where not given.")]
License = Annotated[str, typer.Option(help="Licence of the weights (SPDX).")]
Threads = Annotated[int, typer.Option(help="CPU threads; 0 lets torch choose.", min=0)]

OWN = ("role", "half", "tower")
"""Fields with options of their own."""


def listing(show_all: Callable[[], None]) -> Any:
    """Make a flag that lists what --set takes and stops, before options that lack are asked for.

    Args:
        show_all: prints the list.
    """

    def stop_after(context: typer.Context, wanted: bool) -> None:
        if wanted and not context.resilient_parsing:
            show_all()
            raise typer.Exit

    return typer.Option(help="List what --set takes, and stop.", is_eager=True, callback=stop_after)


def _show_encoder() -> None:
    from musicgen_rl.training.reward_encoder import EncoderTrainConfig

    show(EncoderTrainConfig)


def _show_scorer() -> None:
    from musicgen_rl.training.reward_scorer import ScorerTrainConfig

    show(ScorerTrainConfig)


def _show_probe() -> None:
    from musicgen_rl.training.reward_probe import ProbeTrainConfig

    show(ProbeTrainConfig)


def encoder(
    mels: Mels,
    out: Out,
    manifest: Manifests = None,
    codec: CodecFolder = None,
    role: Role = "training",
    half: Half = "a",
    options: Set = None,
    show_options: Annotated[bool, listing(_show_encoder)] = False,
    name: Name = "",
    license: License = "unknown",
    threads: Threads = 0,
) -> None:
    """Train an audio encoder: chunks of one piece close, others apart."""
    from musicgen_rl.training.reward_encoder import EncoderTrainConfig, begun_with, train_encoder
    from musicgen_rl.training.reward_loop import require_same_run

    config = build(EncoderTrainConfig, options, role=role, half=half)
    require_same_run(out, "encoder", begun_with(config))
    stopped = begin(threads)
    prepare(mels, manifest, codec)
    made = train_encoder(mels, out, config, name=name, license=license, stop=lambda: bool(stopped))
    finish(out, made)


def scorer(
    mels: Mels,
    out: Out,
    manifest: Manifests = None,
    codec: CodecFolder = None,
    role: Role = "training",
    half: Half = "a",
    start: Start = None,
    text_encoder: Annotated[
        Path | None, typer.Option(help="Folder of MiniLM; the one shipped where not given.")
    ] = None,
    options: Set = None,
    show_options: Annotated[bool, listing(_show_scorer)] = False,
    name: Name = "",
    license: License = "unknown",
    threads: Threads = 0,
) -> None:
    """Train a scorer: a clip close to its own caption."""
    from musicgen_rl.training.reward_loop import require_same_run
    from musicgen_rl.training.reward_scorer import (
        ScorerTrainConfig,
        scorer_begun_with,
        train_scorer,
    )

    config = build(ScorerTrainConfig, options, start, role=role, half=half)
    require_same_run(out, "scorer", scorer_begun_with(config, start, text_encoder))
    stopped = begin(threads)
    prepare(mels, manifest, codec)
    made = train_scorer(
        mels, out, config, start=start, text_encoder=text_encoder, name=name, license=license,
        report=report_encoding, stop=lambda: bool(stopped),
    )  # fmt: skip
    finish(out, made)


def probe(
    mels: Mels,
    out: Out,
    manifest: Manifests = None,
    codec: CodecFolder = None,
    start: Start = None,
    options: Set = None,
    show_options: Annotated[bool, listing(_show_probe)] = False,
    name: Name = "",
    license: License = "unknown",
    threads: Threads = 0,
) -> None:
    """Train a probe: style, instruments, tempo, mode, drums and moods of a clip."""
    from musicgen_rl.training.reward_loop import require_same_run
    from musicgen_rl.training.reward_probe import ProbeTrainConfig, probe_begun_with, train_probe

    config = build(ProbeTrainConfig, options, start)
    require_same_run(out, "probe", probe_begun_with(config, start))
    stopped = begin(threads)
    prepare(mels, manifest, codec)
    made = train_probe(
        mels, out, config, start=start, name=name, license=license, stop=lambda: bool(stopped)
    )
    finish(out, made)


def build(
    config_class: type[Any], options: list[str] | None, start: Path | None = None, **fixed: str
) -> Any:
    """Make a config of NAME=VALUE texts: its own fields and its tower's.

    Args:
        config_class: a dataclass with a field `tower`.
        options: NAME=VALUE texts.
        start: an encoder whose tower it takes; then the tower's fields cannot be set.
        fixed: fields that have options of their own.

    Raises:
        ConfigError: an unknown name, or a value that cannot work.
    """
    from musicgen_rl.rewards.towers import TowerConfig
    from musicgen_rl.training.reward_scorer import tower_of

    given = parse_assignments(options or [])
    fields = take_fields(given, config_class, OWN)
    shape = take_fields(given, TowerConfig, ())
    if given:
        raise ConfigError(f"unknown --set {min(given)!r}: --show-options lists the names")
    if start is not None and shape:
        raise ConfigError(f"--start decides the tower: leave out --set {min(shape)}")
    if start is not None:
        fields["tower"] = tower_of(start)
    elif shape:
        fields["tower"] = TowerConfig(**shape)
    return config_class(**fixed, **fields)


def show(config_class: type[Any]) -> None:
    """List what --set takes."""
    from musicgen_rl.rewards.towers import TowerConfig
    from musicgen_rl.training.reward_loop import RewardTrainConfig

    help_of = field_help(RewardTrainConfig) | field_help(config_class) | field_help(TowerConfig)
    for field in (*dataclasses.fields(config_class), *dataclasses.fields(TowerConfig)):
        if field.name not in OWN:
            typer.echo(f"{field.name}={field.default}  {help_of[field.name]}")


def begin(threads: int) -> list[int]:
    """Set torch up and watch for signals."""
    import torch

    if threads:
        torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    return stop_on_signal()


def prepare(mels: Path, manifests: list[Path] | None, codec: Path | None) -> None:
    """Measure the frames of what the manifests list, as far as they are missing.

    Raises:
        ConfigError: a codec without manifests: there is nothing to play.
    """
    from musicgen_rl.codec.load import load_codec
    from musicgen_rl.training.reward_mels import prepare_coded, prepare_mels

    if codec is not None and not manifests:
        raise ConfigError("--codec plays the audio of manifests: give --manifest FILE, too")
    if manifests:
        prepare_mels(manifests, mels, report=report_encoding)
    if manifests and codec is not None:
        prepare_coded(manifests, mels, load_codec(codec), report=report_encoding)


def finish(out: Path, made: object | None) -> None:
    """Say where the model is, or that the run was stopped."""
    if made is None:
        typer.echo("stopped and saved: run it again to go on", err=True)
        raise typer.Exit(130)
    typer.echo(str(out / "export"))
