"""`musicgen-rl info`: how a file was made, or what a model is."""

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from musicgen_rl.audio.encoding import FORMATS
from musicgen_rl.audio.io import read_audio, read_tags
from musicgen_rl.cli.show import one_line, print_json, rows

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_FREE = re.compile(r"(apache-2\.0|mit|mit-0|bsd(-.+)?|cc0(-1\.0)?|unlicense|isc|zlib|0bsd)")


@app.command()
def info(
    what: Annotated[
        str, typer.Argument(metavar="FILE|MODEL", help="An audio file, or a model as in --model.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show all settings inside a file made here, or the shape, licence and size of a model."""
    path = Path(what)
    named_like_audio = path.suffix.lower().removeprefix(".") in FORMATS
    if path.is_file() or (named_like_audio and not path.is_dir()):
        about = describe_file(path)
        shown = _readable_file(about)
    else:
        about = describe_model(what)
        shown = _readable_model(about)
    if as_json:
        print_json(about)
    else:
        print(rows(shown))


def may_i_use(license: str) -> str:
    """Answer in one sentence whether what a model makes may be used.

    Args:
        license: of the model's weights, an SPDX name where there is one.

    Returns:
        The answer; in doubt it sends to the model's maker.
    """
    name = license.strip().lower()
    if name in ("", "unknown", "other"):
        return "unknown: the model does not say its licence, ask its maker before you publish"
    if "-nc" in name or "noncommercial" in name or "non-commercial" in name:
        return f"not commercially: the weights' licence, {license}, is for non-commercial use only"
    if _FREE.fullmatch(name):
        return f"yes, also commercially: the weights' licence, {license}, does not restrict it"
    return f"perhaps: read the conditions of the weights' licence, {license}, or ask its maker"


def describe_file(path: Path) -> dict[str, Any]:
    """Collect what is known of a file.

    Args:
        path: a file this package wrote.

    Returns:
        Sound and settings, JSON-able.

    Raises:
        AudioFileError: missing, cut off, not audio, or made by something else.
    """
    clip = read_audio(path)
    settings = clip.settings or read_tags(path)  # which says what is wrong
    return {
        "file": str(path),
        "bytes": path.stat().st_size,
        "duration_s": clip.duration_s,
        "sample_rate": clip.sample_rate,
        "channels": clip.num_channels,
        "may_i_use": may_i_use(str(settings.get("weights_license", "unknown"))),
        "settings": settings,
    }


def describe_model(model: str) -> dict[str, Any]:
    """Collect what is known of a model without loading it.

    Args:
        model: a folder, a name, or a hub id.

    Returns:
        Shape, parts, licence, sizes and hash, JSON-able.

    Raises:
        ModelError: it is not there, broken, or of a kind that does not run.
    """
    from dataclasses import asdict

    import torch

    from musicgen_rl.checkpoint import find_model, model_hash, read_info, weight_files
    from musicgen_rl.checkpoint.holds import BEAT, CHORDS, KEY, can_find, has_hold
    from musicgen_rl.lm.transformer import MusicLM
    from musicgen_rl.pipeline.devices import load_bytes
    from musicgen_rl.pipeline.dial import has_endpoints

    found = read_info(find_model(model))
    with torch.device("meta"):  # shapes without memory
        parameters = sum(p.numel() for p in MusicLM(found.lm).parameters())
    return {
        "model": found.name,
        "folder": str(found.folder),
        "license": found.license,
        "may_i_use": may_i_use(found.license),
        "lm": asdict(found.lm),
        "lm_parameters": parameters,
        "frame_rate": found.frame_rate,
        "window_s": found.window.frames / found.frame_rate,
        "codec": _describe_codec(found),
        "text_encoder": dict(found.text_encoder),
        "sampling": asdict(found.sampling),
        "sha256": model_hash(found),
        "dial": has_endpoints(found.folder),
        "holds_tempo": has_hold(found, BEAT),
        "holds_key": has_hold(found, KEY),
        "finds_tempo": can_find(found, BEAT),
        "finds_key": can_find(found, KEY),
        "holds_chords": has_hold(found, CHORDS),
        "finds_chords": can_find(found, CHORDS),
        "weight_bytes": sum(f.stat().st_size for f in weight_files(found.folder)),
        "folder_bytes": sum(f.stat().st_size for f in found.folder.rglob("*") if f.is_file()),
        "load_bytes": {name: load_bytes(found.lm, name) for name in ("fp32", "bf16", "int8")},
        "notes": dict(found.notes),
    }


def _describe_codec(found: Any) -> dict[str, Any]:
    """Add the codec's own sample rate and hop to what the model's card says of it."""
    from musicgen_rl.checkpoint import part_folder
    from musicgen_rl.storage import read_json

    if found.codec.get("type") == "encodec":
        own = read_json(found.folder / "config.json")["audio_encoder"]
        return dict(found.codec) | {"sample_rate": own.get("sampling_rate")}
    own = read_json(part_folder(found, found.codec) / "config.json")
    return dict(found.codec) | {name: own.get(name) for name in ("sample_rate", "hop_length")}


def _readable_file(about: dict[str, Any]) -> dict[str, object]:
    settings = dict(about["settings"])
    channels = "stereo" if about["channels"] == 2 else "mono"
    shown: dict[str, object] = {
        "file": about["file"],
        "sound": f"{about['duration_s']:.3f} s, {about['sample_rate']} Hz, {channels}",
        "may I use it?": about["may_i_use"],
    }
    settings.pop("codes_checks", None)  # bytes for replay, of no use to the eye
    for name, value in settings.items():
        if isinstance(value, dict):
            shown[name] = ", ".join(f"{k} {v if v != '' else '(none)'}" for k, v in value.items())
        else:
            shown[name] = "(none)" if value is None else value
    return {name: one_line(str(value)) for name, value in shown.items()}


def _readable_model(about: dict[str, Any]) -> dict[str, object]:
    lm, codec, text = about["lm"], dict(about["codec"]), dict(about["text_encoder"])
    channels = "stereo" if lm["audio_channels"] == 2 else "mono"
    return {
        "model": about["model"],
        "folder": about["folder"],
        "licence of the weights": about["license"],
        "may I use the output?": about["may_i_use"],
        "language model": (
            f"{about['lm_parameters'] / 1e6:.1f} M parameters: {lm['num_layers']} layers of "
            f"{lm['hidden_size']}, {lm['num_heads']} heads, feed-forward {lm['ffn_size']}"
        ),
        "tokens": (
            f"{lm['num_codebooks']} codebooks of {lm['codebook_size']}, {channels}, "
            f"{about['frame_rate']:g} frames a second"
        ),
        "window": f"{about['window_s']:g} s of the past are seen",
        "codec": ", ".join(f"{name} {value}" for name, value in codec.items()),
        "text encoder": ", ".join(f"{name} {value}" for name, value in text.items()),
        "sampling defaults": ", ".join(
            f"{name} {value if value != '' else '(none)'}"
            for name, value in about["sampling"].items()
        ),
        "dial": "quality to diversity: --diversity 0 to 1" if about["dial"] else "none",
        "tempo": (
            "held, where the prompt names one or --tempo does"
            + ("; --steady finds one" if about["finds_tempo"] else "")
        )
        if about["holds_tempo"]
        else "of its own choice",
        "key": (
            "held, where the prompt names one or --key does"
            + ("; --key auto finds one" if about["finds_key"] else "")
        )
        if about["holds_key"]
        else "of its own choice",
        "chords": (
            "held, where the prompt names them or --chords does"
            + ("; --chords auto finds some" if about["finds_chords"] else "")
        )
        if about["holds_chords"]
        else "of its own choice",
        "sha256 of the weights": about["sha256"],
        "size": (
            f"weights {about['weight_bytes'] / 1e6:.1f} MB, folder "
            f"{about['folder_bytes'] / 1e6:.1f} MB"
        ),
        "memory to load": ", ".join(
            f"{name} {size / 1e6:.0f} MB" for name, size in about["load_bytes"].items()
        ),
        **{f"note: {name}": value for name, value in about["notes"].items()},
    }
