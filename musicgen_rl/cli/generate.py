"""`musicgen-rl generate`: music from text."""

from typing import Annotated, Any

import typer

from musicgen_rl.audio.io import read_audio
from musicgen_rl.cli.music_options import (
    BeatsPerBar,
    Chords,
    Device,
    Dtype,
    Duration,
    Guidance,
    GuidanceSeconds,
    Key,
    Loudness,
    MergeMethod,
    Model,
    NegativePrompt,
    NoLoudness,
    Returning,
    Steady,
    Takes,
    Temperature,
    Tempo,
    TopK,
    TopP,
    check_chord_options,
    read_loudness,
    read_sampling,
)
from musicgen_rl.cli.options import NUMBER, WHOLE, given, number, whole
from musicgen_rl.cli.output import Destination, choose_destination, proved
from musicgen_rl.cli.show import Bar, note, one_line, print_path
from musicgen_rl.cli.stopping import StopSignals
from musicgen_rl.config import SamplingConfig, field_help
from musicgen_rl.data.chords import AUTO_CHORDS
from musicgen_rl.data.keys import AUTO_KEY
from musicgen_rl.errors import ConfigError, InputError
from musicgen_rl.pipeline.request import (
    GenerationConfig,
    check_alone,
    check_clips,
    check_prompts,
    draw_seed,
    override_sampling,
)

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_REQUEST = field_help(GenerationConfig)


@app.command(
    epilog="Example: musicgen-rl generate 'slow sad piano' 'fast techno' -n 2 --duration 20 -o out"
)
def generate(
    prompts: Annotated[
        list[str] | None,
        typer.Argument(metavar="PROMPT", help="What to play; several prompts, several clips."),
    ] = None,
    clips_per_prompt: Annotated[
        str | None,
        typer.Option(
            "-n",
            "--clips-per-prompt",
            metavar=WHOLE,
            help=_REQUEST["clips_per_prompt"],
            show_default=str(GenerationConfig.clips_per_prompt),
        ),
    ] = None,
    takes: Takes = None,
    tempo: Tempo = None,
    steady: Steady = False,
    key: Key = None,
    chords: Chords = None,
    beats_per_bar: BeatsPerBar = None,
    returning: Returning = None,
    duration: Duration = None,
    seed: Annotated[str | None, typer.Option(metavar=WHOLE, help=_REQUEST["seed"])] = None,
    guidance: Guidance = None,
    guidance_seconds: GuidanceSeconds = None,
    negative_prompt: NegativePrompt = None,
    temperature: Temperature = None,
    top_k: TopK = None,
    top_p: TopP = None,
    diversity: Annotated[
        str | None,
        typer.Option(
            metavar=NUMBER,
            help=f"{_REQUEST['diversity']} Guidance is off on the dial unless you name it.",
            show_default="the base",
        ),
    ] = None,
    merge_method: MergeMethod = None,
    continue_from: Annotated[
        str | None, typer.Option(help="Audio file to go on from; the result starts with it.")
    ] = None,
    model: Model = "pocket",
    device: Device = "auto",
    dtype: Dtype = "auto",
    format: Annotated[
        str | None, typer.Option(help="wav, flac, ogg or mp3.", show_default="wav")
    ] = None,
    loudness: Loudness = None,
    no_loudness: NoLoudness = False,
    output: Annotated[
        str | None,
        typer.Option(
            "-o",
            "--output",
            help="Folder, or for a single clip a file name; nothing is ever overwritten.",
            show_default="the current folder",
        ),
    ] = None,
) -> None:
    """Make music from text and print the files' paths."""
    listed = check_prompts(prompts or [])
    request = GenerationConfig(
        loudness=read_loudness(loudness, no_loudness),
        **given(
            duration_s=number("--duration", duration),
            seed=whole("--seed", seed),
            clips_per_prompt=whole("-n", clips_per_prompt),
            takes=whole("--takes", takes),
            tempo_bpm=number("--tempo", tempo),
            steady=steady,
            key=key,
            chords=chords,
            beats_per_bar=whole("--beats-per-bar", beats_per_bar),
            returning=number("--returning", returning),
            diversity=number("--diversity", diversity),
            merge_method=merge_method,
        ),
    )
    if merge_method is not None and request.diversity is None:
        raise ConfigError(
            f"--merge-method {merge_method} has nothing to merge: add --diversity, for example 0.5"
        )
    check_chord_options([(prompt, request) for prompt in listed], beats_per_bar, returning)
    check_clips(len(listed), request.clips_per_prompt)
    overrides = read_sampling(
        guidance, guidance_seconds, negative_prompt, temperature, top_k, top_p
    )
    _check_sampling(overrides)
    destination = choose_destination(output, format, len(listed) * request.clips_per_prompt)
    if continue_from is not None:
        read_audio(continue_from)  # is it audio at all? said now, not after the model is loaded
    with StopSignals() as stop:
        _generate(
            listed, request, overrides, destination, continue_from,
            load={"model": model, "device": device, "dtype": dtype}, stop=stop,
        )  # fmt: skip
        if stop():
            raise typer.Exit(stop.exit_code)


def _generate(
    prompts: list[str],
    request: GenerationConfig,
    overrides: dict[str, Any],
    destination: Destination,
    continue_from: str | None,
    *,
    load: dict[str, str],
    stop: StopSignals,
) -> None:
    """Load the model and make the clips; everything that needs no model is checked already."""
    from dataclasses import replace

    from musicgen_rl.checkpoint import find_model, read_info
    from musicgen_rl.pipeline import Pipeline, devices
    from musicgen_rl.pipeline.dial import require_endpoints, sampling_at
    from musicgen_rl.pipeline.files import generate_files
    from musicgen_rl.pipeline.holds import held_to, require_holds
    from musicgen_rl.pipeline.takes import check_takes

    devices.choose_dtype(load["dtype"], devices.choose_device(load["device"]))
    info = read_info(find_model(load["model"]))
    require_endpoints(info, request.diversity)
    require_holds(info, request)
    check_takes(info, prompts, request)
    sampling = sampling_at(info, request.diversity, holds=request.holds, **overrides)
    request = replace(request, seed=draw_seed() if request.seed is None else request.seed)
    total = len(prompts) * request.clips_per_prompt
    goes_on = continue_from is not None
    held = [held_to(info, prompt, request, goes_on=goes_on) for prompt in prompts]
    holds = _holds(held, request)
    with proved(destination.folder) as folder:
        with Bar(f"loading {info.name}"):
            pipeline = Pipeline.load(info.folder, device=load["device"], dtype=load["dtype"])
        source = pipeline.read_source(continue_from)
        note(
            f"seed {request.seed}: {total} {'clip' if total == 1 else 'clips'} of "
            f"{request.duration_s:g} s{holds}{_takes(request)}, {info.name}{_dialled(request)}"
            f"{_begun(sampling)} in {pipeline.dtype} on {pipeline.device}"
        )
        stop.patient = True
        made = 0
        unread: list[OSError] = []
        with Bar("making music") as bar:
            for path in generate_files(
                pipeline, prompts, request, sampling, folder=folder, format=destination.format,
                name=destination.name, source=source, progress=bar.update,
                stop=lambda: stop() or bool(unread),
            ):  # fmt: skip
                made += 1
                try:
                    with bar.hidden():
                        print_path(path)
                except OSError as error:  # what is decoded already is still written
                    unread.append(error)
    if stop() or (unread and made < total):
        note(f"stopped: {made} of {total} files written, --seed {request.seed} makes them whole")
    if unread:
        raise unread[0]


def _holds(held: list[str], request: GenerationConfig) -> str:
    """Say what the clips are held to, one entry a prompt."""
    if len(set(held)) == 1:
        return f" held to {held[0]}" if held[0] else ""
    steady = request.steady or request.chords == AUTO_CHORDS
    found = [
        *([" and, without a tempo, to a steady beat"] if steady else []),
        *([" and, without a key, to one that goes with it"] if request.key == AUTO_KEY else []),
        *([" and, without chords, to fitting ones"] if request.chords == AUTO_CHORDS else []),
    ]
    return f", each held to what its prompt names{''.join(found)}"


def _takes(request: GenerationConfig) -> str:
    return f", the best of {request.takes} takes" if request.takes > 1 else ""


def _dialled(request: GenerationConfig) -> str:
    return "" if request.diversity is None else f" at diversity {request.diversity:g}"


def _begun(sampling: SamplingConfig) -> str:
    if not sampling.guidance_s:
        return ""
    return f", guided by {sampling.guidance_scale:g} for the first {sampling.guidance_s:g} s,"


def _check_sampling(overrides: dict[str, Any]) -> None:
    """Check what can be checked before the model's own defaults are known."""
    alone = {name: value for name, value in overrides.items() if name != "negative_prompt"}
    check_alone(**alone)
    negative = overrides.get("negative_prompt")
    if negative:
        try:
            check_prompts(negative)
        except InputError as error:
            raise InputError(f"--negative-prompt: {one_line(str(error))}") from error
        if alone.get("guidance_scale") == 1.0:
            override_sampling(SamplingConfig(), **overrides)
