"""`musicgen-rl doctor`: what runs here, what is missing, and how to get it."""

import os
import platform
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from musicgen_rl.cli.show import one_line, print_json

app = typer.Typer(add_completion=False, rich_markup_mode=None)

EXTRAS = {
    "app": ("gradio",),
    "train": ("accelerate", "peft", "midirenderer", "music21", "mido", "matplotlib"),
    "eval": ("matplotlib", "sklearn", "pandas", "pyarrow", "statsmodels", "sqlalchemy"),
    "ray": ("ray",),
}
"""Extra of this package -> the modules that it brings."""

_LITTLE_MEMORY = 1_500_000_000


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing looked at."""

    name: str
    ok: bool
    found: str
    """What is there."""
    fix: str = ""
    """How to get it, where it is missing."""
    needed: bool = False
    """Whether `generate` cannot work without it."""


@app.command(epilog="Exit status: 0 if `generate` can work here, else 1.")
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Say what runs here, what is missing, and how to get it."""
    checks = examine()
    well = all(check.ok for check in checks if check.needed)
    if as_json:
        print_json({"ok": well, "checks": [asdict(check) for check in checks]})
    else:
        width = max(len(check.name) for check in checks) + 2
        for check in checks:
            mark = "ok" if check.ok else ("NO" if check.needed else "--")
            fix = "" if check.ok or not check.fix else f" -> {check.fix}"
            print(f"{mark}  {check.name:<{width}}{one_line(check.found + fix)}")
        print(
            "`musicgen-rl generate` can work here."
            if well
            else "`musicgen-rl generate` cannot work here: see the lines marked NO."
        )
    if not well:
        raise typer.Exit(1)


def examine() -> list[Check]:
    """Look at everything; a check that itself fails is reported as missing."""
    looks: dict[str, Callable[[], Check]] = {
        "python": _python,
        "torch": _torch,
        "GPU": _gpu,
        "int8 kernels": _int8,
        "torchaudio": _torchaudio,
        "transformers": _transformers,
        "processors": _processors,
        "memory": _memory,
        "audio formats": _formats,
        "model pocket": _pocket,
        "text encoder MiniLM": _minilm,
        "current folder": _folder,
        "soundfonts": _soundfonts,
    }
    needed = {"python", "torch", "audio formats", "model pocket", "text encoder MiniLM"}
    checks = []
    for name, look in looks.items():
        try:
            checks.append(look())
        except Exception as error:  # a broken installation fails in any way it likes
            found = one_line(f"{type(error).__name__}: {error}")
            fix = "pip install musicgen-rl again"
            checks.append(Check(name=name, ok=False, found=found, fix=fix, needed=name in needed))
    return checks + [_extra(name, modules) for name, modules in EXTRAS.items()]


def _python() -> Check:
    ok = sys.version_info >= (3, 11)
    return Check(
        name="python", ok=ok, found=platform.python_version(), fix="install 3.11", needed=True
    )


def _torch() -> Check:
    import torch

    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "built for the CPU"
    threads = torch.get_num_threads()
    found = f"{torch.__version__}, {build}, {threads} {'thread' if threads == 1 else 'threads'}"
    return Check(name="torch", ok=True, found=found, needed=True)


def _gpu() -> Check:
    import torch

    if not torch.cuda.is_available():
        fix = "not needed; with an NVIDIA GPU install a CUDA build of torch"
        return Check(name="GPU", ok=False, found="none, models run on the CPU", fix=fix)
    free, total = torch.cuda.mem_get_info()
    name = torch.cuda.get_device_name()
    found = f"{name}, {free / 1e9:.1f} of {total / 1e9:.1f} GB free"
    return Check(name="GPU", ok=True, found=found)


def _int8() -> Check:
    import torch

    from musicgen_rl.lm.compiled import int8_available
    from musicgen_rl.pipeline.devices import choose_dtype

    auto = choose_dtype("auto", torch.device("cpu"))
    ok = int8_available()
    found = f"{'yes' if ok else 'none'}, on the CPU dtype auto is {auto}"
    fix = "not needed; for several times the speed on a CPU: pip install numba"
    return Check(name="int8 kernels", ok=ok, found=found, fix=fix)


def _torchaudio() -> Check:
    import torchaudio

    # The stand-in for the native library is a module without a file.
    cured = getattr(sys.modules.get("torchaudio._extension"), "__file__", None) is None
    how = "Python parts only, its CUDA library set aside" if cured else "with its own library"
    return Check(name="torchaudio", ok=True, found=f"{torchaudio.__version__}, {how}")


def _transformers() -> Check:
    found = f"{version('transformers')}, for models in MusicGen's own format"
    return Check(name="transformers", ok=True, found=found)


def _processors() -> Check:
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return Check(name="processors", ok=True, found=f"{count}, {platform.machine()}")


def _memory() -> Check:
    import torch

    from musicgen_rl.pipeline.devices import available_bytes

    free = available_bytes(torch.device("cpu"))
    if free is None:
        return Check(name="memory", ok=True, found="the system does not tell")
    fix = "close other programs; pocket wants about 1.5 GB"
    found = f"{free / 1e9:.1f} GB can be had"
    return Check(name="memory", ok=free >= _LITTLE_MEMORY, found=found, fix=fix)


def _formats() -> Check:
    import numpy as np
    import soundfile

    from musicgen_rl.audio.clip import Clip
    from musicgen_rl.audio.encoding import FORMATS
    from musicgen_rl.audio.io import encode_clip

    clip = Clip(np.zeros((1, 3200), np.float32), 32000)
    missing = []
    for name in FORMATS:
        try:
            encode_clip(clip, name)
        except Exception:  # an old libsndfile refuses in several ways
            missing.append(name)
    written = ", ".join(name for name in FORMATS if name not in missing) or "none"
    return Check(
        name="audio formats",
        ok=not missing,
        found=f"{written} by soundfile {soundfile.__version__}",
        fix="pip install --upgrade soundfile",
        needed="wav" in missing,
    )


def _pocket() -> Check:
    from musicgen_rl.checkpoint import (
        CHECKPOINTS_VARIABLE,
        find_model,
        part_folder,
        read_info,
        weight_files,
    )
    from musicgen_rl.errors import MusicgenRLError

    try:
        info = read_info(find_model("pocket"))
        size = sum(f.stat().st_size for f in weight_files(info.folder))
        part_folder(info, info.codec)
    except MusicgenRLError as error:
        fix = f"set {CHECKPOINTS_VARIABLE} to the repository's folder `checkpoints`"
        return Check(name="model pocket", ok=False, found=str(error), fix=fix, needed=True)
    found = f"{info.folder}, {size / 1e6:.0f} MB"
    return Check(name="model pocket", ok=True, found=found, needed=True)


def _minilm() -> Check:
    from musicgen_rl.checkpoint import CHECKPOINTS_VARIABLE, checkpoints_folder

    folder = checkpoints_folder() / "minilm"
    names = ("config.json", "model.safetensors", "tokenizer.json")
    missing = [name for name in names if not (folder / name).is_file()]
    return Check(
        name="text encoder MiniLM",
        ok=not missing,
        found=f"{folder} lacks {', '.join(missing)}" if missing else str(folder),
        fix=f"set {CHECKPOINTS_VARIABLE} to the repository's folder `checkpoints`",
        needed=True,
    )


def _folder() -> Check:
    from musicgen_rl.audio.files import prepare_folder
    from musicgen_rl.errors import StorageError

    try:
        prepare_folder(Path())
    except StorageError as error:
        return Check(name="current folder", ok=False, found=str(error), fix="use -o FOLDER")
    return Check(name="current folder", ok=True, found=f"{Path.cwd()} can be written")


def _soundfonts() -> Check:
    if find_spec("mido") is None:
        return Check(name="soundfonts", ok=False, found="not looked for without extra train")
    from musicgen_rl.data.pocket.render import SOUNDFONTS

    missing = [font.package for font in SOUNDFONTS.values() if not font.path.is_file()]
    return Check(
        name="soundfonts",
        ok=not missing,
        found=f"{' and '.join(missing)} missing" if missing else ", ".join(SOUNDFONTS),
        fix=f"only for `data make` and `train pocket`: apt-get install {' '.join(missing)}",
    )


def _extra(name: str, modules: tuple[str, ...]) -> Check:
    missing = [module for module in modules if find_spec(module) is None]
    return Check(
        name=f"extra {name}",
        ok=not missing,
        found=f"lacks {', '.join(missing)}" if missing else _version_of(modules[0]),
        fix=f"pip install 'musicgen-rl[{name}]'",
    )


def _version_of(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return f"{package} is there"
