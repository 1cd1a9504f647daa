"""`musicgen-rl train beat`, `key`, `chords`, `tempo`, `scale`, `progression`: what holds clips."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from musicgen_rl.cli.train_options import parse_assignments, report_encoding, take_fields
from musicgen_rl.cli.train_rewards import Out, Set, Threads, begin, listing
from musicgen_rl.config import field_help
from musicgen_rl.errors import ConfigError

if TYPE_CHECKING:
    from musicgen_rl.training.hold import HoldTrainConfig, Lesson
    from musicgen_rl.training.sense import Subject

T = TypeVar("T")

Tokens = Annotated[Path | None, typer.Option(help="Folder of tokens; OUT/tokens where not given.")]


def _show_beat_options() -> None:
    from musicgen_rl.training.beat import BeatTrainConfig

    _list_options(BeatTrainConfig)


def _show_key_options() -> None:
    from musicgen_rl.training.key import KeyTrainConfig

    _list_options(KeyTrainConfig)


def _show_chord_options() -> None:
    from musicgen_rl.training.chords import ChordTrainConfig

    _list_options(ChordTrainConfig)


def _list_options(config_class: Any) -> None:
    help_of = field_help(config_class)
    for field in dataclasses.fields(config_class):
        typer.echo(f"{field.name}={field.default}  {help_of[field.name]}")


def beat(
    model: Annotated[str, typer.Option(help="Model folder or name that is to hold a tempo.")],
    out: Out,
    manifest: Annotated[
        Path | None,
        typer.Option(
            help='Audio to learn from: encoded to tokens first. Attributes tell "beat_s".'
        ),
    ] = None,
    tokens: Tokens = None,
    options: Set = None,
    show_options: Annotated[bool, listing(_show_beat_options)] = False,
    threads: Threads = 0,
) -> None:
    """Teach a model to hold a tempo: an adapter that tells it where each beat falls."""
    from musicgen_rl.training.beat import BeatLesson, BeatTrainConfig

    config = _options(options, BeatTrainConfig)
    _teach(BeatLesson(config.hidden), config, model, out, manifest, tokens, threads)


def key(
    model: Annotated[str, typer.Option(help="Model folder or name that is to hold a key.")],
    out: Out,
    manifest: Annotated[
        Path | None,
        typer.Option(
            help='Audio to learn from: encoded to tokens first. Attributes tell "key" and "mode".'
        ),
    ] = None,
    tokens: Tokens = None,
    options: Set = None,
    show_options: Annotated[bool, listing(_show_key_options)] = False,
    threads: Threads = 0,
) -> None:
    """Teach a model to hold a key: an adapter that tells it which notes are in it."""
    from musicgen_rl.training.key import KeyLesson, KeyTrainConfig

    config = _options(options, KeyTrainConfig)
    _teach(KeyLesson(), config, model, out, manifest, tokens, threads)


def chords(
    model: Annotated[str, typer.Option(help="Model folder or name that is to hold chords.")],
    out: Out,
    manifest: Annotated[
        Path | None,
        typer.Option(
            help='Audio to learn from: encoded to tokens first. Attributes tell "chords".'
        ),
    ] = None,
    tokens: Tokens = None,
    options: Set = None,
    show_options: Annotated[bool, listing(_show_chord_options)] = False,
    threads: Threads = 0,
) -> None:
    """Teach a model to hold chords: an adapter that tells it which one sounds at every frame."""
    from musicgen_rl.training.chords import ChordLesson, ChordTrainConfig

    config = _options(options, ChordTrainConfig)
    _teach(ChordLesson(), config, model, out, manifest, tokens, threads)


def _show_sense_options() -> None:
    from musicgen_rl.training.sense import SenseTrainConfig

    _list_options(SenseTrainConfig)


ShowSense = Annotated[bool, listing(_show_sense_options)]


def tempo(
    model: Annotated[str, typer.Option(help="Model folder or name that is to find tempi.")],
    out: Annotated[Path, typer.Option(help="Folder that receives tempo.safetensors.")],
    manifest: Annotated[
        Path,
        typer.Option(help='Captions to learn from. Attributes tell "tempo_bpm"; no audio is read.'),
    ],
    options: Set = None,
    show_options: ShowSense = False,
    threads: Threads = 0,
) -> None:
    """Teach a model which tempi go with which words, for clips of a steady beat."""
    from musicgen_rl.training.sense import TEMPO

    _learn(TEMPO, model, out, manifest, options, threads)


def scale(
    model: Annotated[str, typer.Option(help="Model folder or name that is to find keys.")],
    out: Annotated[Path, typer.Option(help="Folder that receives scale.safetensors.")],
    manifest: Annotated[
        Path,
        typer.Option(
            help='Captions to learn from. Attributes tell "key" and "mode"; no audio is read.'
        ),
    ],
    options: Set = None,
    show_options: ShowSense = False,
    threads: Threads = 0,
) -> None:
    """Teach a model which scales go with which words, for clips in a key of its own finding."""
    from musicgen_rl.training.sense import KEY

    _learn(KEY, model, out, manifest, options, threads)


def progression(
    model: Annotated[str, typer.Option(help="Model folder or name that is to find chords.")],
    out: Annotated[Path, typer.Option(help="Folder that receives progression.safetensors.")],
    manifest: Annotated[
        Path,
        typer.Option(
            help='Captions to learn from. Attributes tell "progression"; no audio is read.'
        ),
    ],
    options: Set = None,
    show_options: ShowSense = False,
    threads: Threads = 0,
) -> None:
    """Teach a model which chords go with which words, for clips with chords of its own finding."""
    from musicgen_rl.training.sense import CHORDS

    _learn(CHORDS, model, out, manifest, options, threads)


def _learn(
    subject: "Subject",
    model: str,
    out: Path,
    manifest: Path,
    options: list[str] | None,
    threads: int,
) -> None:
    from musicgen_rl.checkpoint import find_model, read_info
    from musicgen_rl.training.sense import SenseTrainConfig, train_sense

    config = _options(options, SenseTrainConfig)
    info, stopped = read_info(find_model(model)), begin(threads)
    found = train_sense(
        subject, info, manifest, out, config, stop=lambda: bool(stopped), report=report_encoding
    )
    if not found:
        typer.echo("stopped: nothing was written", err=True)
        raise typer.Exit(130)
    words, none = found["with"], found["without"]
    typer.echo(f"held out: {words:.3f} nats, {none:.3f} without the words", err=True)
    typer.echo(str(out / subject.hold.file))


def _options(options: list[str] | None, config_class: type[T]) -> T:
    given = parse_assignments(options or [])
    config = config_class(**take_fields(given, config_class, ()))
    if given:
        raise ConfigError(f"--set {next(iter(given))}: there is no such option, see --show-options")
    return config


def _teach(
    lesson: "Lesson[Any]",
    config: "HoldTrainConfig",
    model: str,
    out: Path,
    manifest: Path | None,
    tokens: Path | None,
    threads: int,
) -> None:
    if manifest is None and tokens is None:
        raise ConfigError("nothing to learn from: give --manifest FILE, or --tokens FOLDER")

    from musicgen_rl.checkpoint import find_model
    from musicgen_rl.training.contrast_run import codec_of
    from musicgen_rl.training.hold import train_hold
    from musicgen_rl.training.lm_run import SPLITS, encode_manifest
    from musicgen_rl.training.same_run import require_kind

    folder = find_model(model)
    require_kind(out, lesson.hold.name)
    stopped = begin(threads)
    tokens = tokens or out / "tokens"
    if manifest is not None:
        encode_manifest(manifest, codec_of(folder), tokens, splits=SPLITS, report=report_encoding)
    made = train_hold(lesson, folder, tokens, out, config, stop=lambda: bool(stopped))
    if stopped:
        typer.echo(f"stopped at step {made['steps']} and saved: run it again to go on", err=True)
        raise typer.Exit(130)
    typer.echo(str(out / lesson.hold.file))
