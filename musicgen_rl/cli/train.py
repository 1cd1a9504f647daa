"""`musicgen-rl train`: the codec, the language model, and all stages of pocket."""

import dataclasses
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from musicgen_rl.cli import train_holds, train_rewards
from musicgen_rl.cli.side_by_side import is_first, side_by_side, threads_each
from musicgen_rl.cli.train_endpoints import register
from musicgen_rl.cli.train_options import (
    OFFSETS,
    PROCESSES,
    THREADS,
    parse_assignments,
    report_encoding,
    stop_on_signal,
    take_fields,
)
from musicgen_rl.config import LMConfig, field_help, require
from musicgen_rl.errors import ConfigError
from musicgen_rl.training.pretrain_config import ContrastConfig, PretrainConfig

app = typer.Typer(help="Train models.", no_args_is_help=True, rich_markup_mode=None)
app.command()(train_rewards.encoder)
app.command()(train_rewards.scorer)
app.command()(train_rewards.probe)
app.command()(train_holds.beat)
app.command()(train_holds.key)
app.command()(train_holds.chords)
app.command()(train_holds.tempo)
app.command()(train_holds.scale)
app.command()(train_holds.progression)

SIZES = ("hidden_size", "num_layers", "num_heads", "ffn_size", "dropout")
"""Fields of LMConfig that are the user's to choose; the others follow from the data."""

CONTRAST_OPTIONS = (
    "minutes", "steps", "batch_size", "micro_batch_size", "crop_frames", "anchor", "muon_lr",
    "adamw_lr", "warmup_steps", "final_rate", "ema_decay", "eval_minutes", "eval_rows",
    "save_minutes", "precision", "seed",
)  # fmt: skip
"""Fields of ContrastConfig that are the user's to choose."""

CODEC_OWN = ("manifest", "folder", "codec")
"""Fields of CodecTrainConfig with options of their own."""


def with_options(
    config_class: type[Any], names: tuple[str, ...] | None = None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command one option for each field of a dataclass: its default and its docstring.

    Args:
        config_class: a frozen config.
        names: only these fields; all of them where None.

    Returns:
        A decorator for commands that take `**options`.
    """
    help_of = field_help(config_class)
    fields = [f for f in dataclasses.fields(config_class) if names is None or f.name in names]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command)
        kept = [p for p in signature.parameters.values() if p.kind != p.VAR_KEYWORD]
        rest = [p for p in signature.parameters.values() if p.kind == p.VAR_KEYWORD]
        for field in fields:
            kept.append(
                inspect.Parameter(
                    field.name,
                    inspect.Parameter.KEYWORD_ONLY,
                    default=typer.Option(field.default, help=help_of[field.name]),
                    annotation=field.type,
                )
            )
            command.__annotations__[field.name] = field.type
        # Typer reads __signature__; **options stays until the last decorator is through.
        command.__signature__ = signature.replace(parameters=kept + rest)  # type: ignore[attr-defined]
        return command

    return decorate


def closed(command: Callable[..., None]) -> Callable[..., None]:
    """Hide `**options` from Typer once every option has its own parameter."""
    signature = inspect.signature(command)
    kept = [p for p in signature.parameters.values() if p.kind != p.VAR_KEYWORD]
    command.__signature__ = signature.replace(parameters=kept)  # type: ignore[attr-defined]
    command.__annotations__.pop("options", None)
    return command


@app.command()
@closed
@with_options(PretrainConfig)
@with_options(LMConfig, SIZES)
def lm(
    codec: Annotated[Path, typer.Option(help="Folder of the codec that makes the tokens.")],
    out: Annotated[Path, typer.Option(help="Folder of the run; a run in it is continued.")],
    manifest: Annotated[
        Path | None, typer.Option(help="Audio to learn from: encoded to tokens first.")
    ] = None,
    tokens: Annotated[
        Path | None, typer.Option(help="Folder of tokens; OUT/tokens where not given.")
    ] = None,
    offsets: Annotated[int, typer.Option(help=OFFSETS, min=1, max=16)] = 1,
    text_encoder: Annotated[
        Path | None, typer.Option(help="Folder of MiniLM; the one shipped where not given.")
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(help="Model folder or name to begin with; its sizes stand above those below."),
    ] = None,
    license: Annotated[str, typer.Option(help="Licence of the weights (SPDX).")] = "unknown",
    processes: Annotated[int, typer.Option(help=PROCESSES, min=1, max=64)] = 1,
    threads: Annotated[int, typer.Option(help=THREADS, min=0)] = 0,
    **options: Any,
) -> None:
    """Train the language model; run under `accelerate launch` for several GPUs."""
    model = LMConfig(**{name: options.pop(name) for name in SIZES})
    config = PretrainConfig(**options)
    if manifest is None and tokens is None:
        raise ConfigError("nothing to learn from: give --manifest FILE, or --tokens FOLDER")

    require(
        config.batch_size % processes == 0,
        f"batch_size {config.batch_size} is not a multiple of {processes} processes",
    )

    import torch

    from musicgen_rl.checkpoint import checkpoints_folder, find_model
    from musicgen_rl.training.lm_run import (
        SPLITS,
        encode_manifest,
        require_same_sources,
        require_start,
        train_lm,
    )
    from musicgen_rl.training.processes import Processes

    torch.set_flush_denormal(True)
    tokens = tokens or out / "tokens"
    begin_with = None if start is None else find_model(start)
    reader = text_encoder or checkpoints_folder() / "minilm"
    if manifest is not None and is_first():
        require_same_sources(out, "lm", manifest, codec, offsets=offsets)
        if begin_with is not None:
            require_start(begin_with, codec, reader, config)
        encode_manifest(
            manifest, codec, tokens, offsets=offsets, splits=SPLITS, report=report_encoding
        )
    if threads := threads_each(processes, threads):
        torch.set_num_threads(threads)
    stopped = stop_on_signal()
    with side_by_side(processes):
        Processes().wait()  # until the first has encoded all
        figures = train_lm(
            tokens,
            codec,
            reader,
            out,
            model,
            config,
            start=begin_with,
            license=license,
            stop=lambda: bool(stopped),
        )
    if stopped:
        typer.echo(f"stopped at step {figures['steps']} and saved: run it again to go on", err=True)
        raise typer.Exit(130)
    typer.echo(str(out / "export"))


@app.command()
@closed
@with_options(ContrastConfig, CONTRAST_OPTIONS)
def contrast(
    model: Annotated[str, typer.Option(help="Model folder or name to begin with.")],
    out: Annotated[Path, typer.Option(help="Folder of the run; a run in it is continued.")],
    manifest: Annotated[
        Path | None, typer.Option(help="Audio to learn from: encoded to tokens first.")
    ] = None,
    tokens: Annotated[
        Path | None, typer.Option(help="Folder of tokens; OUT/tokens where not given.")
    ] = None,
    text_encoder: Annotated[
        Path | None, typer.Option(help="Folder of MiniLM; the model's own where not given.")
    ] = None,
    processes: Annotated[int, typer.Option(help=PROCESSES, min=1, max=64)] = 1,
    threads: Annotated[int, typer.Option(help=THREADS, min=0)] = 0,
    **options: Any,
) -> None:
    """Teach a language model words it passes over: true captions against wrong ones."""
    config = ContrastConfig(**options)
    if manifest is None and tokens is None:
        raise ConfigError("nothing to learn from: give --manifest FILE, or --tokens FOLDER")
    require(
        config.batch_size % processes == 0,
        f"batch_size {config.batch_size} is not a multiple of {processes} processes",
    )

    import torch

    from musicgen_rl.checkpoint import find_model
    from musicgen_rl.training.contrast_run import codec_of, train_contrast
    from musicgen_rl.training.lm_run import SPLITS, encode_manifest, require_same_sources
    from musicgen_rl.training.processes import Processes

    torch.set_flush_denormal(True)
    folder = find_model(model)
    tokens = tokens or out / "tokens"
    if manifest is not None and is_first():
        codec = codec_of(folder)
        require_same_sources(out, "contrast", manifest, codec)
        encode_manifest(manifest, codec, tokens, splits=SPLITS, report=report_encoding)
    if threads := threads_each(processes, threads):
        torch.set_num_threads(threads)
    stopped = stop_on_signal()
    with side_by_side(processes):
        Processes().wait()  # until the first has encoded all
        figures = train_contrast(
            folder, tokens, text_encoder, out, config, stop=lambda: bool(stopped)
        )
    if stopped:
        typer.echo(f"stopped at step {figures['steps']} and saved: run it again to go on", err=True)
        raise typer.Exit(130)
    typer.echo(str(out / "export"))


def _show_codec_options() -> None:
    from musicgen_rl.config import FrameCodecConfig
    from musicgen_rl.training.codec import CodecTrainConfig

    for config_class in (CodecTrainConfig, FrameCodecConfig):
        help_of = field_help(config_class)
        for field in dataclasses.fields(config_class):
            if field.name not in CODEC_OWN:
                typer.echo(f"{field.name}={field.default}  {help_of[field.name]}")


@app.command()
def codec(
    manifest: Annotated[Path, typer.Option(help="Audio to learn from (jsonl).")],
    out: Annotated[Path, typer.Option(help="Folder of the run; a run in it is continued.")],
    options: Annotated[
        list[str] | None,
        typer.Option("--set", help="NAME=VALUE of CodecTrainConfig or FrameCodecConfig; repeat."),
    ] = None,
    show_options: Annotated[bool, train_rewards.listing(_show_codec_options)] = False,
    threads: Annotated[int, typer.Option(help="CPU threads; 0 lets torch choose.", min=0)] = 0,
) -> None:
    """Train the frame codec."""
    import torch

    from musicgen_rl.config import FrameCodecConfig
    from musicgen_rl.training.codec import CodecTrainConfig, train_codec

    given = parse_assignments(options or [])
    shape = FrameCodecConfig(**take_fields(given, FrameCodecConfig, ()))
    config = CodecTrainConfig(
        manifest=str(manifest),
        folder=str(out),
        codec=shape,
        **take_fields(given, CodecTrainConfig, CODEC_OWN),
    )
    if given:
        raise ConfigError(f"unknown --set {min(given)!r}: --show-options lists the names")
    if threads:
        torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    typer.echo(str(train_codec(config)))


@app.command()
def pocket(
    size: Annotated[str, typer.Option(help="tiny (minutes), cpu (a night) or gpu.")] = "cpu",
    work: Annotated[
        Path, typer.Option(help="Folder for all that lies between; runs go on in it.")
    ] = Path("work/pocket"),
    output: Annotated[
        Path | None, typer.Option(help="Folder of the finished model; WORK/pocket if not given.")
    ] = None,
    text_encoder: Annotated[
        Path | None, typer.Option(help="Folder of MiniLM; the one shipped where not given.")
    ] = None,
    skip: Annotated[list[str] | None, typer.Option(help="Stage to leave out; repeat.")] = None,
    seed: Annotated[int, typer.Option(help="Of the corpus and of the models.", min=0)] = 0,
    threads: Annotated[int, typer.Option(help="CPU threads; 0 lets torch choose.", min=0)] = 0,
) -> None:
    """Make pocket: corpus, codec, judges, model, ends of the dial; each stage goes on if killed."""
    import torch

    from musicgen_rl.checkpoint import checkpoints_folder
    from musicgen_rl.training.pocket import PocketConfig, make_pocket

    config = PocketConfig(
        size=size,
        work=work,
        output=output or work / "pocket",
        text_encoder=text_encoder or checkpoints_folder() / "minilm",
        skip=tuple(skip or ()),
        seed=seed,
    )
    if threads:
        torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    stopped = stop_on_signal()
    made = make_pocket(
        config, report=lambda text: typer.echo(text, err=True), stop=lambda: bool(stopped)
    )
    if made is None:
        typer.echo("stopped and saved: run it again to go on", err=True)
        raise typer.Exit(130)
    typer.echo(str(made))


register(app)
