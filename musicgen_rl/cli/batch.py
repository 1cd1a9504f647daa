"""`musicgen-rl batch`: a file of prompts to thousands of clips, none lost, none twice."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from musicgen_rl.batch.expand import Defaults, expand
from musicgen_rl.batch.progress import EveryMinute, Status
from musicgen_rl.batch.prompts import read_positions, read_prompts
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
from musicgen_rl.cli.show import note, one_line, print_path
from musicgen_rl.cli.stopping import StopSignals
from musicgen_rl.errors import ConfigError

if TYPE_CHECKING:
    from musicgen_rl.batch.plan import Plan

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_MOST_SHOWN = 10


@app.command(
    epilog="Example: musicgen-rl batch prompts.txt -o clips -n 4 --diversity 0,0.5,1. The same "
    "command goes on where it stopped."
)
def batch(
    prompts: Annotated[
        str,
        typer.Argument(
            metavar="PROMPTS",
            help="txt (a prompt a line), csv, jsonl or parquet; columns such as id, duration, "
            "seed, n, diversity, guidance, tempo, key hold for their prompt. - is standard input.",
        ),
    ],
    output: Annotated[str, typer.Option("-o", "--output", help="Folder of the run.")],
    clips_per_prompt: Annotated[
        str | None,
        typer.Option(
            "-n",
            "--clips-per-prompt",
            metavar=WHOLE,
            help="Variations of each prompt, at each position of the dial.",
            show_default="1",
        ),
    ] = None,
    duration: Duration = None,
    takes: Takes = None,
    tempo: Tempo = None,
    steady: Steady = False,
    key: Key = None,
    chords: Chords = None,
    beats_per_bar: BeatsPerBar = None,
    returning: Returning = None,
    seed: Annotated[
        str | None,
        typer.Option(
            metavar=WHOLE,
            show_default="0",
            help="Same seed, same music; 0 unless given, so that a command is the same run again.",
        ),
    ] = None,
    diversity: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBERS",
            show_default="the base model",
            help="Positions of the dial, for example 0,0.5,1: every prompt is made at each.",
        ),
    ] = None,
    merge_method: MergeMethod = None,
    guidance: Guidance = None,
    guidance_seconds: GuidanceSeconds = None,
    negative_prompt: NegativePrompt = None,
    temperature: Temperature = None,
    top_k: TopK = None,
    top_p: TopP = None,
    loudness: Loudness = None,
    no_loudness: NoLoudness = False,
    format: Annotated[
        str | None, typer.Option(help="wav, flac, ogg or mp3.", show_default="flac")
    ] = None,
    container: Annotated[
        str,
        typer.Option(
            "--format-container",
            help="folder: files in numbered folders; tar: shards that webdataset reads.",
        ),
    ] = "folder",
    shard_size: Annotated[
        str | None,
        typer.Option(metavar=WHOLE, help="Clips of a folder or shard.", show_default="1000"),
    ] = None,
    model: Model = "pocket",
    device: Device = "auto",
    dtype: Dtype = "auto",
    batch_size: Annotated[
        str | None,
        typer.Option(metavar=WHOLE, help="Most clips side by side.", show_default="by itself"),
    ] = None,
    engine: Annotated[
        str, typer.Option(help="local, or ray: the cluster of RAY_ADDRESS, or one started here.")
    ] = "local",
    workers: Annotated[
        str | None,
        typer.Option(
            metavar=WHOLE,
            help="Processes on this machine, or actors on the cluster.",
            show_default="by itself; with ray 1",
        ),
    ] = None,
    gpus_per_worker: Annotated[
        str | None,
        typer.Option(metavar=NUMBER, help="With ray: GPUs of each actor.", show_default="0"),
    ] = None,
    max_failures: Annotated[
        str | None,
        typer.Option(
            metavar=WHOLE, help="Clips that may fail before the run stops.", show_default="10"
        ),
    ] = None,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify",
            help="Check every file of the folder and mark what the next run is to make again.",
        ),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Count, measure for ten seconds, say what it takes; write nothing."
        ),
    ] = False,
) -> None:
    """Make thousands of clips from a file of prompts; the same command goes on where it stopped."""
    if not output or "\0" in output:
        raise ConfigError(f"the output {output!r} is empty or broken: name a folder")
    folder = Path(output)
    values = given(
        duration_s=number("--duration", duration),
        seed=whole("--seed", seed),
        merge_method=merge_method,
        **read_sampling(guidance, guidance_seconds, negative_prompt, temperature, top_k, top_p),
    )
    defaults = Defaults(
        values={
            "model": model,
            "tempo_bpm": number("--tempo", tempo),
            "steady": steady,
            "key": key,
            "chords": chords,
            "beats_per_bar": whole("--beats-per-bar", beats_per_bar),
        }
        | given(returning=number("--returning", returning), takes=whole("--takes", takes))
        | values,
        **given(
            clips=whole("-n", clips_per_prompt),
            diversity=None if diversity is None else read_positions("--diversity", diversity),
            loudness=read_loudness(loudness, no_loudness),
        ),
    )
    size = whole("--batch-size", batch_size)
    run_options: dict[str, Any] = {"container": container, "engine": engine} | given(
        format=None if format is None else format.lower().removeprefix("."),
        shard_size=whole("--shard-size", shard_size),
        workers=whole("--workers", workers),
        gpus_per_worker=number("--gpus-per-worker", gpus_per_worker),
        max_failures=whole("--max-failures", max_failures),
    )
    items = expand(read_prompts(prompts, sys.stdin.buffer.read), defaults)
    if beats_per_bar is not None or returning is not None:
        asked = [(item.prompt, item.request()) for item in items]
        check_chord_options(asked, beats_per_bar, returning)
    from musicgen_rl.batch.plan import make_plan
    from musicgen_rl.batch.run import RunOptions

    RunOptions(**run_options)  # what cannot be is said before the models are read
    if verify and dry_run:
        raise ConfigError("--verify and --dry-run are two things: give one of them")
    if verify:
        raise typer.Exit(_verify(folder))
    plan = make_plan(items, device=device, dtype=dtype, batch_size=size or 0)
    if dry_run:
        _dry_run(plan, folder, run_options)
        return
    with StopSignals() as stop:
        stop.patient = True
        code = _run(plan, folder, run_options, stop)
    raise typer.Exit(stop.exit_code or code)


def _run(plan: "Plan", folder: Path, run_options: dict[str, Any], stop: Callable[[], bool]) -> int:
    """Make the clips and say what it came to; 1 where not all are there."""
    from musicgen_rl.batch.progress import spell_seconds
    from musicgen_rl.batch.run import run_batch

    left, run_options = _left(plan, folder, run_options)
    some = "" if len(left) == len(plan.clips) else f", {len(left)} of them to make"
    workers = run_options.get("workers", 1)
    note(
        f"{len(plan.clips)} clips{some}, {spell_seconds(plan.audio_s)} of audio, in {plan.dtype} "
        f"on {plan.device}" + (f", {workers} workers" if workers > 1 else "")
    )
    with _Line() as line:
        summary = run_batch(plan, folder, stop=stop, progress=line, **run_options)
    for failure in summary.failures[:_MOST_SHOWN]:
        note(one_line(f"failed: {failure.name} ({failure.id}): {failure.cause}"))
    if len(summary.failures) > _MOST_SHOWN:
        note(f"... and {len(summary.failures) - _MOST_SHOWN} more, see {folder / 'summary.json'}")
    words = [
        f"{summary.made} made",
        f"{summary.kept} kept",
        f"{len(summary.failures)} failed",
        f"{summary.missing} missing",
    ]
    speed = f" at {1 / summary.real_time_factor:.1f} x real time" if summary.audio_s else ""
    note(f"{', '.join(words)} in {spell_seconds(summary.seconds)}{speed}")
    if summary.lost:
        note(f"{summary.lost} files of earlier runs were gone and were made again")
    if summary.renamed:
        note(f"the names, splits or facts of {summary.renamed} clips were brought up to date")
    if summary.halved:
        note(f"{summary.halved} batches did not fit in memory whole")
    if summary.missing:
        note(f"stopped ({summary.stopped}): the same command goes on")
    if summary.manifest is not None:
        print_path(summary.manifest)
    return 0 if summary.complete else 1


def _left(
    plan: "Plan", folder: Path, run_options: dict[str, Any]
) -> tuple[frozenset[str], dict[str, Any]]:
    """Tell what is to be made, and the options with as many workers as pay where nobody says."""
    from musicgen_rl.batch.plan import choose_workers
    from musicgen_rl.batch.run import RunOptions, left_of

    left = left_of(plan, folder, RunOptions(**run_options))  # refuses another plan's folder
    if "workers" not in run_options and run_options["engine"] == "local":
        run_options = run_options | {"workers": choose_workers(plan, left)}
    return left, run_options


def _verify(folder: Path) -> int:
    """Check every file; 1 where something is wrong."""
    from musicgen_rl.batch.check import verify
    from musicgen_rl.cli.show import Bar

    with Bar("checking") as bar:
        faults = verify(folder, repair=True, progress=bar.update)
    for fault in faults[:_MOST_SHOWN]:
        note(one_line(f"{fault.path or fault.id}: {fault.cause}"))
    if len(faults) > _MOST_SHOWN:
        note(f"... and {len(faults) - _MOST_SHOWN} more")
    if faults:
        note(f"{len(faults)} clips to make: the same command without --verify makes them")
        return 1
    note("every clip is there and whole")
    return 0


def _dry_run(plan: "Plan", folder: Path, run_options: dict[str, Any]) -> None:
    """Say what a run would take; the folder is only read."""
    import torch

    from musicgen_rl.batch.estimate import estimate
    from musicgen_rl.batch.run import RunOptions, share_threads
    from musicgen_rl.pipeline import Pipeline

    missing, run_options = _left(plan, folder, run_options)
    options = RunOptions(**run_options)
    if not missing:
        note("every clip is made already")
        return
    first = next(clip for clip in plan.clips if clip.id in missing)
    if threads := share_threads(options):  # one worker's part of the machine is measured
        torch.set_num_threads(threads)
    pipeline = Pipeline.load(first.item.model, device=plan.device, dtype=plan.dtype)
    found = estimate(plan, missing, pipeline, format=options.format, workers=options.workers)
    for line in found.lines():
        note(line)


class _Line:
    """The progress: one line that renews itself on a terminal, else one line a minute."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._show = EveryMinute(self._print, 0.5 if self._terminal else 60.0)
        self._open = False

    def __enter__(self) -> Callable[[Status], None]:
        return self._show

    def __exit__(self, *_: object) -> None:
        if self._open:
            note("")

    def _print(self, status: Status) -> None:
        if not self._terminal:
            note(status.line())
            return
        sys.stderr.write(f"\r\x1b[2K{status.line()}")
        sys.stderr.flush()
        self._open = True
