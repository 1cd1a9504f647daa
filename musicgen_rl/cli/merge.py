"""`musicgen-rl merge`: two models into one."""

from typing import Annotated

import typer

from musicgen_rl.cli.show import Bar, note, print_path
from musicgen_rl.config import field_help
from musicgen_rl.errors import ConfigError
from musicgen_rl.merging.recipe import MergeConfig

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_HELP = field_help(MergeConfig)
_DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}


@app.command(epilog="Example: musicgen-rl merge quality diversity --lam 0.4 -o merged")
def merge(
    quality: Annotated[str, typer.Argument(help="The model at --lam 0: folder, name or hub id.")],
    diversity: Annotated[str, typer.Argument(help="The model at --lam 1.")],
    output: Annotated[str, typer.Option("-o", "--output", help="New folder for the merge.")],
    lam: Annotated[float, typer.Option(help=_HELP["lam"])] = MergeConfig.lam,
    method: Annotated[str, typer.Option(help=_HELP["method"])] = MergeConfig.method,
    base: Annotated[
        str | None,
        typer.Option(help="The model both were tuned from; slerp and liti need it."),
    ] = None,
    strength: Annotated[
        float | None, typer.Option(help=_HELP["strength"], show_default=f"{MergeConfig.strength:g}")
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(help="fp32, fp16 or bf16 in the files.", show_default="the models' own"),
    ] = None,
) -> None:
    """Merge two models tuned from one base and print the new folder's path."""
    method = method.lower()
    if strength is not None and method != "liti":
        raise ConfigError(f"--strength is for --method liti, not {method}: leave it out")
    config = MergeConfig(
        lam=lam, method=method, strength=MergeConfig.strength if strength is None else strength
    )
    if dtype is not None and dtype not in _DTYPES:
        raise ConfigError(f"unknown dtype {dtype!r}: use {', '.join(_DTYPES)}")
    if config.needs_base and base is None:
        raise ConfigError(f"--method {method} needs --base: the model that both were tuned from")
    for name, value in (("--output", output), ("QUALITY", quality), ("DIVERSITY", diversity)):
        if not value.strip() or "\0" in value:
            raise ConfigError(f"{name} {value!r} is empty or broken: name a folder")

    import torch

    from musicgen_rl.merging.merge import merge_checkpoints

    with Bar("merging"):
        stored = None if dtype is None else getattr(torch, _DTYPES[dtype])
        folder = merge_checkpoints(quality, diversity, output, config, base=base, dtype=stored)
    note(f"{quality} and {diversity} by {method} at {lam:g}: --model {output}")
    print_path(folder)
