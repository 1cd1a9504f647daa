"""`musicgen-rl train endpoints` and `train pair`: the two ends of the slider."""

import dataclasses
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from musicgen_rl.cli.side_by_side import side_by_side, threads_each
from musicgen_rl.cli.train_options import PROCESSES, THREADS
from musicgen_rl.config import field_help, require
from musicgen_rl.errors import ConfigError
from musicgen_rl.training.endpoint_config import (
    AUTO,
    ENDS,
    EndpointConfig,
    preset_names,
    read_preset,
    without_auto,
)

_BASE = "Model both ends come from: a folder, a name such as pocket, or a hub id."
_PROMPTS = "Prompts: a text file, one a line, or a manifest (jsonl), of which the train split."
_AUTO = "auto: from the quality run (--start RUN/export), its fall of KL over its fall of D."
_INSTRUMENTS = "Folder of encoder-training, encoder-report, scorer-training; BASE/rewards if there."


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command one option for each field of EndpointConfig, None where it is not given.

    So a preset's values hold except where the user says otherwise.
    """
    help_of = field_help(EndpointConfig)
    signature = inspect.signature(command)
    kept = [p for p in signature.parameters.values() if p.kind != p.VAR_KEYWORD]
    for field in dataclasses.fields(EndpointConfig):
        kind: Any = {"bool": bool, "int": int, "float": float, "str": str}[
            type(field.default).__name__
        ]
        said = help_of[field.name]
        if field.name == "diversity_weight":
            kind, said = str, f"{said} {_AUTO}"
        option = typer.Option(None, help=said, show_default=f"{field.default!s}, or the preset's")
        kept.append(
            inspect.Parameter(
                field.name, inspect.Parameter.KEYWORD_ONLY, default=option, annotation=kind | None
            )
        )
        command.__annotations__[field.name] = kind | None
    command.__signature__ = signature.replace(parameters=kept)  # type: ignore[attr-defined]
    command.__annotations__.pop("settings", None)
    return command


def config_of(preset: str | None, end: str, given: dict[str, Any]) -> EndpointConfig:
    """Make a config of defaults, a preset and what the user gave, the later before the earlier.

    Args:
        preset: its name, or None.
        end: "quality" or "diversity".
        given: fields; None where the user said nothing.

    Returns:
        The config; with a weight that `asks_auto` it stands for `TO_BE_FOUND`.
    """
    return EndpointConfig(**without_auto(_settings_of(preset, end, given)))


def asks_auto(preset: str | None, end: str, given: dict[str, Any]) -> bool:
    """Tell whether the weight of the reward is to come from the quality run; as `config_of`."""
    return _settings_of(preset, end, given).get("diversity_weight") == AUTO


def _settings_of(preset: str | None, end: str, given: dict[str, Any]) -> dict[str, Any]:
    settings = read_preset(preset, end) if preset else {}
    said = {name: value for name, value in given.items() if value is not None}
    if "steps" in said and "minutes" not in said:
        settings.pop("minutes", None)
    return {**settings, **said}


@with_settings
def endpoints(
    base: Annotated[str, typer.Option(help=_BASE)],
    prompts: Annotated[Path, typer.Option(help=_PROMPTS)],
    out: Annotated[
        Path, typer.Option("-o", "--out", help="Folder of the run; a run in it is continued.")
    ],
    preset: Annotated[
        str | None, typer.Option(help=f"Settings as data: {', '.join(preset_names())}.")
    ] = None,
    end: Annotated[
        str | None,
        typer.Option(
            help="Which end's settings of PRESET, quality or diversity; by the weight if not "
            "given. A diversity end's control is that end with --diversity-weight 0."
        ),
    ] = None,
    start: Annotated[
        str | None, typer.Option(help="Model to start from, tuned from BASE; BASE if not given.")
    ] = None,
    instruments: Annotated[Path | None, typer.Option(help=_INSTRUMENTS)] = None,
    encoder: Annotated[
        Path | None, typer.Option(help="Training encoder, in place of INSTRUMENTS' own.")
    ] = None,
    held_out: Annotated[
        bool, typer.Option(help="Let guards hear the report encoder and the scorer.")
    ] = True,
    name: Annotated[str | None, typer.Option(help="Of the model, in its card.")] = None,
    processes: Annotated[int, typer.Option(help=PROCESSES, min=1, max=64)] = 1,
    threads: Annotated[int, typer.Option(help=THREADS, min=0)] = 0,
    **settings: Any,
) -> None:
    """Train one end: the quality end with --diversity-weight 0, the diversity end above it."""
    settings["diversity_weight"] = _weight(settings["diversity_weight"])
    if end is None:
        end = "diversity" if settings["diversity_weight"] else "quality"
    if end not in ENDS:
        raise ConfigError(f"--end must be {' or '.join(ENDS)}, got {end!r}")
    config = config_of(preset, end, settings)
    _require_names(base=base, prompts=str(prompts), out=str(out))

    from musicgen_rl.training.endpoint_run import EndpointSources, train_one

    sources = EndpointSources(
        base=base, prompts=prompts, start=start, instruments=instruments, encoder=encoder,
        held_out=held_out,
    )  # fmt: skip
    _require_share(config, processes)
    stopped = _prepare(threads_each(processes, threads))
    with side_by_side(processes):
        figures = train_one(
            sources, config, out, name=name, auto_weight=asks_auto(preset, end, settings),
            notes=_notes(preset), stop=lambda: bool(stopped),
        )  # fmt: skip
    _conclude(figures, bool(stopped))
    typer.echo(str(out / "export"))


def pair(
    base: Annotated[str, typer.Option(help=_BASE)],
    prompts: Annotated[Path, typer.Option(help=_PROMPTS)],
    out: Annotated[
        Path,
        typer.Option(
            "-o",
            "--out",
            help="Gets both ends and the base: a model with a dial. May be BASE's own folder.",
        ),
    ],
    preset: Annotated[
        str | None, typer.Option(help=f"Settings as data: {', '.join(preset_names())}.")
    ] = None,
    diversity_weight: Annotated[
        str | None,
        typer.Option(
            help="Beta of the diversity end, or auto: from the quality run, its fall of KL over "
            "its fall of D.",
            show_default="the preset's, or 15",
        ),
    ] = None,
    runs: Annotated[
        Path | None, typer.Option(help="Folder of the two runs; OUT/runs if not given.")
    ] = None,
    quality: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE for the quality end; repeat.")
    ] = None,
    diversity: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE for the diversity end; repeat.")
    ] = None,
    from_quality: Annotated[
        bool, typer.Option(help="Start the diversity end from the quality end, not the base.")
    ] = True,
    instruments: Annotated[Path | None, typer.Option(help=_INSTRUMENTS)] = None,
    encoder: Annotated[
        Path | None, typer.Option(help="Training encoder, in place of INSTRUMENTS' own.")
    ] = None,
    held_out: Annotated[
        bool, typer.Option(help="Let guards hear the report encoder and the scorer.")
    ] = True,
    processes: Annotated[int, typer.Option(help=PROCESSES, min=1, max=64)] = 1,
    threads: Annotated[int, typer.Option(help=THREADS, min=0)] = 0,
) -> None:
    """Train both ends: guidance distilled, then diversity rewarded; the slider runs on them."""
    configs, auto = {}, False
    for end, texts in (("quality", quality), ("diversity", diversity)):
        given = _assigned(texts or [])
        if end == "diversity" and diversity_weight is not None:
            given["diversity_weight"] = _weight(diversity_weight)
        elif end == "diversity" and preset is None:
            given.setdefault("diversity_weight", 15.0)
        configs[end], auto = config_of(preset, end, given), asks_auto(preset, end, given)
    _require_names(base=base, prompts=str(prompts), out=str(out))

    from musicgen_rl.training.endpoint_run import EndpointSources, train_pair

    sources = EndpointSources(
        base=base, prompts=prompts, instruments=instruments, encoder=encoder, held_out=held_out
    )
    for config in configs.values():
        _require_share(config, processes)
    stopped = _prepare(threads_each(processes, threads))
    with side_by_side(processes):
        figures = train_pair(
            sources, configs["quality"], configs["diversity"], out, runs or out / "runs",
            from_quality=from_quality, auto_weight=auto, notes=_notes(preset),
            stop=lambda: bool(stopped),
        )  # fmt: skip
    for end, each in figures.items():
        _conclude(each, bool(stopped), f"the {end} end ")
    if "diversity" not in figures:
        typer.echo("stopped between the ends: run it again to go on", err=True)
        raise typer.Exit(130)
    for end in figures:
        typer.echo(str(out / end))


def register(app: typer.Typer) -> None:
    """Add both commands to `musicgen-rl train`."""
    app.command(epilog="Example: musicgen-rl train endpoints --base pocket --prompts prompts.txt "
                "--preset pocket --diversity-weight 0 -o runs/quality")(endpoints)  # fmt: skip
    app.command(epilog="Example: musicgen-rl train pair --base pocket --prompts prompts.txt "
                "--preset pocket -o pair")(pair)  # fmt: skip


def _assigned(texts: list[str]) -> dict[str, Any]:
    """Turn NAME=VALUE texts into fields of EndpointConfig."""
    from musicgen_rl.cli.train_options import parse_assignments

    given, taken = parse_assignments(texts), {}
    for field in dataclasses.fields(EndpointConfig):
        if field.name in given:
            text = given.pop(field.name)
            auto = field.name == "diversity_weight" and text == AUTO
            taken[field.name] = text if auto else _read(field.name, text, type(field.default))
    if given:
        raise ConfigError(f"unknown option {min(given)!r}: `train endpoints --help` lists them")
    return taken


def _read(name: str, text: str, kind: type[Any]) -> Any:
    words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    try:
        return words[text.lower()] if kind is bool else kind(text)
    except (ValueError, KeyError):
        raise ConfigError(f"{name} needs a {kind.__name__}, got {text!r}") from None


def _weight(text: str | None) -> float | str | None:
    return text if text in (None, AUTO) else float(_read("diversity_weight", text, float))


def _require_names(**given: str) -> None:
    for name, value in given.items():
        if not value.strip() or "\0" in value:
            raise ConfigError(f"--{name} {value!r} is empty or broken")


def _require_share(config: EndpointConfig, processes: int) -> None:
    """Refuse a step that cannot be shared out, before any process is started."""
    require(
        config.prompts_per_step % processes == 0,
        f"prompts_per_step {config.prompts_per_step} is not a multiple of {processes} processes",
    )


def _prepare(threads: int) -> list[int]:
    """Set torch up and catch signals."""
    import torch

    from musicgen_rl.cli.train_options import stop_on_signal

    if threads:
        torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    return stop_on_signal()


def _notes(preset: str | None) -> dict[str, Any]:
    return {"preset": preset} if preset else {}


def _conclude(figures: dict[str, Any], stopped: bool, who: str = "") -> None:
    """Tell how a run ended; leave with a status of its own unless it is finished."""
    where = f"{who}stopped at step {figures['steps']}"
    if figures["stopped"]:
        typer.echo(f"{where}: {figures['stopped']}", err=True)
        raise typer.Exit(1)
    if stopped and not figures["finished"]:
        typer.echo(f"{where} and saved: run it again to go on", err=True)
        raise typer.Exit(130)
