"""`musicgen-rl replay`: a clip again from its own tags, and the proof that it is the same."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from musicgen_rl.audio.encoding import FORMATS
from musicgen_rl.audio.files import file_name
from musicgen_rl.audio.io import read_audio, read_tags
from musicgen_rl.audio.same_sound import first_other_sound
from musicgen_rl.cli.output import choose_destination, proved
from musicgen_rl.cli.show import Bar, note, one_line, print_path
from musicgen_rl.cli.stopping import StopSignals
from musicgen_rl.errors import AudioFileError, ConfigError, InputError, ModelNotFoundError

if TYPE_CHECKING:
    from musicgen_rl.pipeline.replay import Recipe, Verdict

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command(epilog="Exit status: 0 identical, 1 different, 2 it could not be made again.")
def replay(
    file: Annotated[str, typer.Argument(help="A file made by musicgen-rl.")],
    continue_from: Annotated[
        str | None,
        typer.Option(
            help="What the clip went on from.", show_default="the file of that name beside FILE"
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="The model that made it.", show_default="by the name in the tags"),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="auto, cpu or cuda.", show_default="as in the tags")
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(help="fp32, bf16 or int8.", show_default="as in the tags")
    ] = None,
    output: Annotated[
        str | None,
        typer.Option("-o", "--output", help="Write the clip made again: a folder or a file name."),
    ] = None,
) -> None:
    """Make a clip again from the settings in its tags, and say whether it is the same."""
    settings = read_tags(file)
    kept = read_audio(file)
    with StopSignals() as stop:
        from musicgen_rl.checkpoint import find_model, model_hash, read_info
        from musicgen_rl.pipeline import Pipeline
        from musicgen_rl.pipeline.replay import (
            check_endpoints,
            check_holds,
            check_model,
            check_source,
            compare,
            read_recipe,
            remake,
        )

        try:
            recipe = read_recipe(settings)
        except InputError as error:
            raise InputError(f"{file!r}: {error}") from error
        source_path = _find_source(Path(file), recipe, continue_from)
        format = _format_of(file)
        to = None
        if output is not None:
            to = choose_destination(output, None, 1)
        info = read_info(find_model(model) if model is not None else _find_by_name(recipe.model))
        check_model(recipe, info, model_hash(info))
        check_endpoints(recipe, info)
        check_holds(recipe, info)
        where, precision = _machine(recipe, device, dtype)
        with Bar(f"loading {info.name}"):
            pipeline = Pipeline.load(info.folder, device=where, dtype=precision)
        source = pipeline.read_source(source_path)
        check_source(recipe, source)
        stop.patient = True
        with Bar("making it again") as bar:
            clip = remake(pipeline, recipe, source=source, stop=stop, progress=bar.update)
        if stop():
            note("stopped before there was anything to compare")
            raise typer.Exit(stop.exit_code)
        assert clip.codes is not None
        verdict = compare(recipe, clip.codes, pipeline)
        differs_s = first_other_sound(kept, clip, format) if verdict.identical else None
        note(_sentence(verdict, differs_s))
        if to is not None:
            with proved(to.folder) as folder:
                seed, index = clip.settings["seed"], clip.settings["index"]
                ending = to.format if to.name else format
                name = to.name or file_name(clip.settings["prompt"], seed, index, ending)
                print_path(clip.save(folder / name))
    if not verdict.identical or differs_s is not None:
        raise typer.Exit(1)


def _find_by_name(name: str) -> Path:
    """Find the model that the tags name among the local ones.

    Tags may come from anybody, so they neither name a folder nor start a download.

    Raises:
        ModelNotFoundError: it is not here.
    """
    from musicgen_rl.checkpoint import checkpoints_folder

    folder = checkpoints_folder() / name
    if Path(name).name != name or not (folder / "config.json").is_file():
        raise ModelNotFoundError(
            f"the clip was made by model {name!r}, which is not under {checkpoints_folder()}: name "
            "its folder or hub id with --model"
        )
    return folder


def _find_source(file: Path, recipe: "Recipe", given: str | None) -> str | None:
    """Find what the clip went on from: as given, else beside it.

    Raises:
        InputError: it went on from a file that is not there, or from none although one is given.
        AudioFileError: the file is not audio.
    """
    if not recipe.source_sha256:
        if given is not None:
            raise InputError(f"{str(file)!r} does not go on from a file: leave --continue-from out")
        return None
    # The tags' name is only ever looked for beside the file: tags may come from anybody.
    path = given if given is not None else str(file.parent / Path(recipe.source_name).name)
    if given is None and not (recipe.source_name and Path(path).is_file()):
        raise AudioFileError(
            f"{str(file)!r} goes on from {recipe.source_name or 'a clip without a name'!r}, which "
            "is not beside it: name that file with --continue-from"
        )
    read_audio(path)
    return path


def _machine(recipe: "Recipe", device: str | None, dtype: str | None) -> tuple[str, str]:
    """Choose device and dtype: as asked, else as then, else what this machine has."""
    from musicgen_rl.pipeline import devices

    where = device if device is not None else recipe.device
    try:
        chosen = devices.choose_device(where)
    except ConfigError as error:
        if device is not None:
            raise
        note(f"made on {recipe.device}, which cannot be had here: {one_line(str(error))}")
        where, chosen = "auto", devices.choose_device("auto")
    precision = dtype if dtype is not None else recipe.dtype
    try:
        devices.choose_dtype(precision, chosen)
    except ConfigError as error:
        if dtype is not None:
            raise
        note(f"made in {recipe.dtype}, which cannot be had here: {one_line(str(error))}")
        precision = "auto"
    return where, precision


def _sentence(verdict: "Verdict", differs_s: float | None) -> str:
    """Say what came out, for a person."""
    if verdict.identical and differs_s is None:
        return (
            f"identical: all {verdict.frames} frames have the tokens that the tags say, and the "
            "file sounds as they do"
        )
    if verdict.identical:
        return (
            f"different: all {verdict.frames} frames have the tokens that the tags say, but from "
            f"{differs_s:.2f} s on the file sounds otherwise: it was damaged, cut or edited "
            "since; --output writes the clip as it was"
        )
    where = "the hash of all frames differs, though every frame's check byte agrees"
    if verdict.first_frame is not None:
        where = (
            f"frame {verdict.first_frame} of {verdict.frames} is the first that differs, at "
            f"{verdict.at_s:.2f} s of the new music"
        )
    return one_line(f"different: {where}; why that can be: {'; '.join(verdict.reasons)}")


def _format_of(file: str) -> str:
    ending = Path(file).suffix.lower().removeprefix(".")
    return ending if ending in FORMATS else "wav"
