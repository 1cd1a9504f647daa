"""`musicgen-rl data`: make a corpus, check a manifest, encode and describe one."""

import json
from pathlib import Path
from typing import Annotated

import typer

from musicgen_rl.cli.train_options import OFFSETS, report_encoding
from musicgen_rl.config import field_help
from musicgen_rl.data.apart import keep_apart
from musicgen_rl.data.check import CheckConfig, check_manifest
from musicgen_rl.data.describe import describe_manifest
from musicgen_rl.data.pocket.corpus_config import CorpusConfig
from musicgen_rl.errors import ConfigError, StorageError

app = typer.Typer(help="Corpora and manifests.", no_args_is_help=True, rich_markup_mode=None)

_MAKE = field_help(CorpusConfig)
_CHECK = field_help(CheckConfig)
_DEFAULT = CorpusConfig(output=Path("corpus"))


@app.command()
def check(
    manifest: Annotated[Path, typer.Argument(help="The jsonl file.")],
    min_duration_s: Annotated[
        float, typer.Option(help=_CHECK["min_duration_s"])
    ] = CheckConfig.min_duration_s,
    silence_db: Annotated[float, typer.Option(help=_CHECK["silence_db"])] = CheckConfig.silence_db,
    decode: Annotated[bool, typer.Option(help=_CHECK["decode"])] = CheckConfig.decode,
) -> None:
    """Say what is wrong with a manifest, line by line; exit with 1 if anything is."""
    config = CheckConfig(min_duration_s=min_duration_s, silence_db=silence_db, decode=decode)
    problems = check_manifest(manifest, config)
    for problem in problems:
        typer.echo(f"{manifest}, {problem}")
    if problems:
        typer.echo(f"{len(problems)} problems.", err=True)
        raise typer.Exit(1)
    typer.echo(f"{manifest}: no problems.")


@app.command()
def make(
    output: Annotated[Path, typer.Argument(help=_MAKE["output"])],
    hours: Annotated[float, typer.Option(help=_MAKE["hours"])] = _DEFAULT.hours,
    seed: Annotated[int, typer.Option(help=_MAKE["seed"])] = _DEFAULT.seed,
    workers: Annotated[int, typer.Option(help=_MAKE["workers"])] = _DEFAULT.workers,
    min_duration_s: Annotated[
        float, typer.Option(help=_MAKE["min_duration_s"])
    ] = _DEFAULT.min_duration_s,
    max_duration_s: Annotated[
        float, typer.Option(help=_MAKE["max_duration_s"])
    ] = _DEFAULT.max_duration_s,
    captions: Annotated[int, typer.Option(help=_MAKE["captions"])] = _DEFAULT.captions,
    tempo_share: Annotated[float, typer.Option(help=_MAKE["tempo_share"])] = _DEFAULT.tempo_share,
    keys: Annotated[int, typer.Option(help=_MAKE["keys"])] = _DEFAULT.keys,
    tempi: Annotated[int, typer.Option(help=_MAKE["tempi"])] = _DEFAULT.tempi,
    tunes: Annotated[float, typer.Option(help=_MAKE["tunes"])] = _DEFAULT.tunes,
    valid: Annotated[float, typer.Option(help=_MAKE["valid"])] = _DEFAULT.valid,
    test: Annotated[float, typer.Option(help=_MAKE["test"])] = _DEFAULT.test,
    musescore: Annotated[float, typer.Option(help=_MAKE["musescore"])] = _DEFAULT.musescore,
    audio: Annotated[bool, typer.Option(help=_MAKE["audio"])] = _DEFAULT.audio,
) -> None:
    """Compose and render the pocket corpus; run it again to go on where it stopped."""
    from musicgen_rl.data.pocket.corpus import make_corpus  # slow to import

    config = CorpusConfig(
        output=output,
        hours=hours,
        seed=seed,
        workers=workers,
        min_duration_s=min_duration_s,
        max_duration_s=max_duration_s,
        captions=captions,
        tempo_share=tempo_share,
        keys=keys,
        tempi=tempi,
        tunes=tunes,
        valid=valid,
        test=test,
        musescore=musescore,
        audio=audio,
    )

    def report(done: int, total: int, made_hours: float) -> None:
        if done % 20 == 0 or done == total:
            typer.echo(f"{done} of {total} pieces, {made_hours:.2f} h", err=True)

    typer.echo(str(make_corpus(config, on_progress=report)))


@app.command()
def encode(
    manifest: Annotated[Path, typer.Argument(help="The jsonl file.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the tokens.")],
    codec: Annotated[
        Path | None, typer.Option(help="Folder of the codec; pocket's where not given.")
    ] = None,
    offsets: Annotated[int, typer.Option(help=OFFSETS, min=1, max=16)] = 1,
    processes: Annotated[
        int, typer.Option(help="Processes side by side, where there is no GPU.", min=1, max=64)
    ] = 1,
) -> None:
    """Encode audio to tokens, to train on or to measure with; run it again to go on."""
    from musicgen_rl.checkpoint import checkpoints_folder
    from musicgen_rl.training.lm_run import encode_manifest  # slow to import

    folder = codec or checkpoints_folder() / "pocket" / "codec"
    encode_manifest(
        manifest, folder, output, offsets=offsets, processes=processes, report=report_encoding
    )
    typer.echo(str(output))


@app.command()
def apart(
    manifest: Annotated[Path, typer.Argument(help="The jsonl file that is to be learnt from.")],
    held: Annotated[
        list[Path], typer.Option(help="Manifest whose valid and test pieces stay unheard.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="jsonl file to write.")],
) -> None:
    """Leave out the training pieces that other corpora hold out, tunes in common above all."""
    kept, left_out = keep_apart(manifest, held, output)
    typer.echo(f"{kept} lines, {left_out} left out", err=True)
    typer.echo(str(output))


@app.command()
def describe(
    manifest: Annotated[Path, typer.Argument(help="The jsonl file.")],
) -> None:
    """Count what a manifest holds, as Markdown."""
    typer.echo(describe_manifest(manifest))


@app.command()
def spectrograms(
    manifest: Annotated[Path, typer.Argument(help="The jsonl file.")],
    figure: Annotated[Path, typer.Argument(help="PNG file to write.")],
) -> None:
    """Draw one mel spectrogram of every style."""
    from musicgen_rl.data.pocket.figure import draw_spectrograms  # slow to import

    draw_spectrograms(manifest, figure)
    typer.echo(str(figure))


@app.command()
def listen(
    manifest: Annotated[Path, typer.Argument(help="The jsonl file of a corpus of ours.")],
    pieces: Annotated[int, typer.Option(help="How many pieces of every style.", min=1)] = 3,
) -> None:
    """Measure level, silence, notes in the key and tempo, style by style."""
    from musicgen_rl.data.pocket.listen import listen as measure_styles  # slow to import

    typer.echo(measure_styles(manifest, pieces=pieces))


@app.command()
def prompts(
    manifest: Annotated[list[Path], typer.Argument(help="Manifests of the pocket corpus.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="jsonl file to write.")],
    split: Annotated[
        str, typer.Option(help="valid, to tune by; test, for the last word.")
    ] = "test",
    count: Annotated[int, typer.Option("-n", "--count", help="How many at most.", min=1)] = 60,
    seed: Annotated[int, typer.Option(help="Which captions.", min=0)] = 0,
) -> None:
    """Write prompts to evaluate by: a caption a held-out piece, with what it asks for."""
    from musicgen_rl.data.pocket.prompts import choose_captions  # slow to import

    if split not in ("valid", "test"):
        raise ConfigError(f"split must be valid or test (train is learnt from), got {split!r}")
    if output.exists():
        raise ConfigError(f"{output} is there already: name a new file")
    chosen = choose_captions(manifest, count, splits=(split,), seed=seed)
    rows = {caption: wish for _, _, caption, wish in chosen}
    lines = [json.dumps({"prompt": c, "attributes": w}) + "\n" for c, w in rows.items()]
    try:
        output.write_text("".join(lines))
    except OSError as error:
        raise StorageError(f"cannot write {output}: {error}") from error
    typer.echo(
        f"{len(rows)} prompts of {len({w['style'] for w in rows.values()})} styles", err=True
    )
    typer.echo(str(output))
