"""`musicgen-rl evaluate`: the quality-diversity front of a model, or of any audio."""

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from musicgen_rl.cli.show import Bar, note, print_json, print_path
from musicgen_rl.cli.stopping import StopSignals
from musicgen_rl.errors import ConfigError

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_OF_MODELS = ("model", "arms", "quality", "diversity", "beta0", "continued", "quick", "num_prompts",
              "clips_per_prompt", "duration", "seed", "workers", "keep_audio", "device",
              "dtype")  # fmt: skip


@app.command(
    epilog="Example: musicgen-rl evaluate --model pocket --prompts prompts.jsonl --quick -o result"
)
def evaluate(
    context: typer.Context,
    model: Annotated[
        str, typer.Option(help="pocket, a folder, or a hub id such as facebook/musicgen-small.")
    ] = "pocket",
    prompts: Annotated[
        str | None, typer.Option(help="Prompts: .txt, a line each, or .jsonl with attributes.")
    ] = None,
    arms: Annotated[
        str,
        typer.Option(
            help="default, a .json file, or with commas: names of default arms, and other models "
            'as "model PATH as NAME" (as beta0 and as continued: the trained controls).'
        ),
    ] = "default",
    output: Annotated[
        str | None, typer.Option("-o", "--output", help="Folder for the results; goes on there.")
    ] = None,
    clips: Annotated[
        str | None, typer.Option(help="Existing audio, DIR/arm/prompt/*.wav, instead of a model.")
    ] = None,
    compare: Annotated[
        tuple[str, str] | None, typer.Option(help="Two finished results: what differs (B - A).")
    ] = None,
    real: Annotated[
        str, typer.Option(help="Manifest of real clips, or real.npz of a result: for distances.")
    ] = "",
    instruments: Annotated[
        str, typer.Option(help="Folder of encoders and scorers; the model's own, else pocket's.")
    ] = "",
    clap: Annotated[str, typer.Option(help="CLAP folder or hub id, used beside them.")] = "",
    quality: Annotated[
        str, typer.Option(help="Model for the quality end, where --model has none inside.")
    ] = "",
    diversity: Annotated[str, typer.Option(help="Model for the diversity end.")] = "",
    beta0: Annotated[str, typer.Option(help="Control: the same steps without the reward.")] = "",
    continued: Annotated[str, typer.Option(help="Control: plain continued training.")] = "",
    quick: Annotated[
        bool, typer.Option("--quick", help="Six arms, 8 prompts x 4 clips of 4 s: minutes.")
    ] = False,
    num_prompts: Annotated[
        int | None,
        typer.Option(
            "-P", "--num-prompts", help="Prompts, spread over it; 0 all.", show_default="60"
        ),
    ] = None,
    clips_per_prompt: Annotated[
        int | None,
        typer.Option("-n", "--clips-per-prompt", help="Of each arm and prompt.", show_default="8"),
    ] = None,
    duration: Annotated[
        float | None, typer.Option(help="Seconds of each clip.", show_default="10")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the clips.")] = 0,
    real_clips: Annotated[
        int | None, typer.Option(help="Real clips measured to.", show_default="400")
    ] = None,
    split: Annotated[
        str, typer.Option(help="development or final; uses of the final one are counted.")
    ] = "",
    again: Annotated[
        bool, typer.Option("--again", help="Use a final split that was used; the report tells.")
    ] = False,
    reference: Annotated[
        str, typer.Option(help="Arm the others are compared with.", show_default="base")
    ] = "",
    workers: Annotated[
        int,
        typer.Option(
            help="Processes; 0 takes one for each CPU thread, 8 at most, as far as memory goes.",
            min=0,
            max=64,
        ),
    ] = 0,
    keep_audio: Annotated[
        bool, typer.Option("--keep-audio", help="Keep all clips, not only samples.")
    ] = False,
    no_sound: Annotated[
        bool, typer.Option("--no-sound", help="Keep no samples; the report is read without audio.")
    ] = False,
    title: Annotated[str, typer.Option(help="Of the report.")] = "Quality and diversity",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, fp32, bf16 or int8.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="For --compare: JSON.")] = False,
) -> None:
    """Measure adherence, quality and diversity of many arms, and print the report's path."""
    if compare is not None:
        _refuse_beside_comparing(context)
        _compare(compare, as_json)
        return
    if as_json:
        raise ConfigError(
            "--json is for --compare: leave it out, summary.json in the results holds all numbers"
        )
    if output is None:
        raise ConfigError("no output: name a folder with -o, for example -o result")
    if clips is not None:
        _refuse_options_of_models(context, clap)

    from musicgen_rl.evaluation.assess import Around, assess_clips, assess_model, require_file
    from musicgen_rl.evaluation.finish import REPORT
    from musicgen_rl.evaluation.plan import EvaluationConfig

    given: dict[str, Any] = {
        "num_prompts": num_prompts, "clips_per_prompt": clips_per_prompt, "duration_s": duration,
        "real_clips": real_clips,
    }  # fmt: skip
    fields = {k: v for k, v in given.items() if v is not None} | {"seed": seed, "split": split}
    config = EvaluationConfig.quick(**fields) if quick else EvaluationConfig(**fields)
    if real:
        require_file(real, "--real")
    around = Around(
        instruments=instruments, clap=clap, real=real, device=device, dtype=dtype,
        workers=workers, keep_audio=keep_audio, sound=not no_sound, title=title,
        again=again,
        command=shlex.join(["musicgen-rl", "evaluate", *_typed()]),
    )  # fmt: skip
    folder = Path(output).expanduser()
    with StopSignals() as stop, Bar("evaluating") as bar:
        stop.patient = True

        def say(line: str) -> None:
            with bar.hidden():
                note(line)

        if clips is not None:
            file = None if prompts is None else require_file(prompts, "--prompts")
            summary = assess_clips(
                Path(clips).expanduser(), folder, config, around, prompts_file=file,
                reference=reference, say=say, progress=bar.update, stop=stop,
            )  # fmt: skip
        else:
            if prompts is None:
                raise ConfigError("no prompts: name a file with --prompts, one prompt a line")
            listed, against = _arms(
                arms, model, (quality, diversity), beta0, continued, quick, reference
            )
            summary = assess_model(
                model, require_file(prompts, "--prompts"), listed, against, folder, config,
                around, say=say, progress=bar.update, stop=stop,
            )  # fmt: skip
    if summary is None:
        note("stopped: the same command goes on from here")
        raise typer.Exit(stop.exit_code)
    for claim in summary["claims"]:
        note(f"{claim['verdict']:>10}  {claim['name']}")
    print_path(folder / REPORT)


def _arms(
    given: str,
    model: str,
    pair: tuple[str, str],
    beta0: str,
    continued: str,
    quick: bool,
    reference: str,
) -> tuple[list[Any], str]:
    """Choose the arms and the one that others are compared with."""
    from musicgen_rl.checkpoint import find_model
    from musicgen_rl.evaluation.arms import choose_arms, default_arms, read_arms, trained_controls
    from musicgen_rl.pipeline.dial import has_endpoints

    if any(pair) and not all(pair):
        raise ConfigError("--quality and --diversity go together: give both ends")
    if given.endswith(".json"):
        if any(pair):
            raise ConfigError("--quality and --diversity are for the default arms: a file of arms "
                              "names its own folders under merge")  # fmt: skip
        listed, own = read_arms(Path(given).expanduser())
        return listed + trained_controls(beta0, continued), reference or own
    names = [n.strip() for n in given.split(",") if n.strip()]
    if not names:
        raise ConfigError(
            f"--arms {given!r} names no arm: leave it out for the default arms, or say base for "
            "the reference alone"
        )
    listed = default_arms(
        dial=has_endpoints(find_model(model)), pair=pair if all(pair) else None, beta0=beta0,
        continued=continued, quick=quick and "default" in names,
    )  # fmt: skip
    against = reference or "base"
    return choose_arms(listed, names, against), against


def _refuse_options_of_models(context: typer.Context, clap: str) -> None:
    """Refuse what the user gave beside --clips that only says how clips are made."""
    for name, option in _given(context).items():
        if name in _OF_MODELS and not (name == "device" and clap):  # CLAP runs somewhere too
            raise ConfigError(
                f"{option} means nothing with --clips, which measures existing audio as it is: "
                "leave it out"
            )


def _refuse_beside_comparing(context: typer.Context) -> None:
    """Refuse what the user gave beside --compare that it does not read."""
    for name, option in _given(context).items():
        if name not in ("compare", "as_json"):
            raise ConfigError(
                f"{option} means nothing with --compare, which reads two finished results: leave "
                "it out"
            )


def _given(context: typer.Context) -> dict[str, str]:
    """List the options that the user typed: name -> as it is written."""
    found = {}
    for option in context.command.params:
        source = context.get_parameter_source(option.name or "")
        if option.name and source is not None and source.name == "COMMANDLINE":
            found[option.name] = option.opts[-1]
    return found


def _compare(pair: tuple[str, str], as_json: bool) -> None:
    """Print what differs between two results."""
    from musicgen_rl.evaluation.compare import compare

    found = compare(Path(pair[0]).expanduser(), Path(pair[1]).expanduser())
    if as_json:
        print_json({"prompts": found.prompts, "rows": found.rows})
        return
    note(f"B - A over {found.prompts} shared prompts, paired; * differs after Holm's correction")
    width = max(len(r["arm"]) for r in found.rows)
    for row in found.rows:
        d = row["difference"]
        print(
            f"{row['arm']:<{width}}  {row['label']:<30} {row['a']:>9.4g} {row['b']:>9.4g} "
            f"{d['value']:>+9.4g}  ({d['low']:+.3g} to {d['high']:+.3g})"
            + (" *" if row["p_holm"] < 0.05 else "")
        )


def _typed() -> list[str]:
    """Return the arguments as typed, folders above the last two names left out."""
    after = sys.argv[sys.argv.index("evaluate") + 1 :] if "evaluate" in sys.argv else []
    return ["/".join(Path(a).parts[-2:]) if a.startswith("/") else a for a in after]
