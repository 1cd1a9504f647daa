"""One evaluation from beginning to end: check, make, measure, analyse, write."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from musicgen_rl.batch.identity import identify
from musicgen_rl.checkpoint import find_model, model_hash, read_info
from musicgen_rl.errors import ConfigError, InputError
from musicgen_rl.evaluation.arms import Arm, check_arms
from musicgen_rl.evaluation.attributes import require_askable, tell_unheard
from musicgen_rl.evaluation.clips import scan_folder
from musicgen_rl.evaluation.distances import MIN_CLIPS, require_enough
from musicgen_rl.evaluation.features import measure_files
from musicgen_rl.evaluation.finish import check_real, finish
from musicgen_rl.evaluation.instruments import (
    Instruments,
    find_instruments,
    load_instruments,
    probe_classes,
)
from musicgen_rl.evaluation.plan import (
    PLAN,
    EvaluationConfig,
    claim_folder,
    count_use,
    describe_plan,
    refuse_second_look,
    require_final,
)
from musicgen_rl.evaluation.prompts import (
    Prompt,
    hash_attributes,
    hash_prompts,
    read_prompts,
    spread_prompts,
)
from musicgen_rl.evaluation.real import RealSet, real_set
from musicgen_rl.evaluation.run import MEASURED, make_and_measure
from musicgen_rl.evaluation.throughput import measure_throughput
from musicgen_rl.evaluation.weights import check_models, named_models, short_names
from musicgen_rl.pipeline.devices import choose_device, choose_dtype
from musicgen_rl.storage import hash_file, read_json, write_json

REAL = "real.npz"
_THROUGHPUT = "throughput.json"

Say = Callable[[str], None]
Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class Around:
    """What stands around an evaluation: not what is made, but by what and for whom."""

    instruments: str = ""
    """Folder of encoders and scorers; empty is the model's own, else pocket's."""
    clap: str = ""
    """CLAP checkpoint to use beside them."""
    real: str = ""
    """Manifest of real clips, or a real.npz; empty measures no distances."""
    device: str = "auto"
    """auto, cpu or cuda."""
    dtype: str = "auto"
    """auto, fp32, bf16 or int8."""
    workers: int = 0
    """Processes that make and measure; 1 is this one, 0 takes one for each CPU thread, 8 at most
    and as far as free memory and the work go."""
    keep_audio: bool = False
    """Keep all clips, not only samples."""
    sound: bool = True
    """Whether samples are kept and the report plays them."""
    again: bool = False
    """Use a final split that another plan has used."""
    title: str = "Quality and diversity"
    """Of the report."""
    command: str = ""
    """As typed, for the report."""


def assess_model(
    model: str,
    prompts_file: Path,
    arms: Sequence[Arm],
    reference: str,
    folder: Path,
    config: EvaluationConfig,
    around: Around,
    *,
    say: Say = lambda _: None,
    progress: Progress = lambda done, total: None,
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any] | None:
    """Evaluate a model's arms.

    Args:
        model: folder, name or hub id.
        prompts_file: as `read_prompts` takes it.
        arms: in the order wanted.
        reference: arm the others are compared with.
        folder: new, or of the same evaluation, which then goes on.
        config: how much is made.
        around: by what.
        say: called with lines for the user.
        progress: called with units of work done and to do.
        stop: asked between batches.

    Returns:
        The summary; None after a stop.

    Raises:
        MusicgenRLError: whatever cannot work, before anything is made where it can be told.
    """
    started = time.monotonic()
    require_final(config.split, around.again)
    check_arms(list(arms), reference)
    written = read_prompts(prompts_file)
    prompts = spread_prompts(written, config.num_prompts)
    check_models(arms, model)
    info = read_info(find_model(model))
    if around.real and len(prompts) * config.clips_per_prompt < MIN_CLIPS:
        raise ConfigError(
            f"{len(prompts)} prompts x {config.clips_per_prompt} clips are fewer than the "
            f"{MIN_CLIPS} that a distance to real clips needs: make more, or leave --real out"
        )
    place = find_instruments(around.instruments, info.folder)
    classes = probe_classes(place)
    require_askable(written, classes, str(prompts_file))
    plan = describe_plan(config, arms, prompts, model)
    kept = _kept_date(folder)
    plan["date"] = kept or datetime.now(UTC).isoformat(timespec="seconds")
    plan["weights"] = {a.name: _hashes(a, model) for a in arms}
    plan["parts"] = _parts(arms, model)
    device = choose_device(around.device)
    plan |= {"device": device.type, "dtype": choose_dtype(around.dtype, device)}
    refuse_second_look(prompts_file, plan, config.split, around.again)
    claim_folder(folder, plan)

    from musicgen_rl.pipeline import Pipeline

    pipeline = Pipeline.load(model, device=around.device, dtype=around.dtype)
    instruments = load_instruments(
        place, codec=pipeline.codec, codec_name=info.name, clap=around.clap,
        device=pipeline.device,
    )  # fmt: skip
    real = _real(around.real, folder, instruments, pipeline.sample_rate, config, say)
    uses = _count(prompts_file, plan, config.split, say)
    tell_unheard(prompts, classes, say)
    clips = len(arms) * len(prompts) * config.clips_per_prompt
    say(
        f"{len(arms)} arms x {len(prompts)} prompts x {config.clips_per_prompt} clips of "
        f"{config.duration_s:g} s: {clips} clips, {clips * config.duration_s / 3600:.2f} h"
    )
    rows = make_and_measure(
        arms, prompts, config, instruments, pipeline=pipeline, model=model, folder=folder,
        date=str(plan["date"]), place=place, clap=around.clap, workers=around.workers,
        sound=around.sound, keep_audio=around.keep_audio, say=say, progress=progress, stop=stop,
    )  # fmt: skip
    if rows is None:
        return None
    throughput: list[dict[str, Any]] = []
    if config.throughput:
        throughput = _throughput(folder, pipeline, prompts, config)
    return finish(
        folder, rows, arms, [p.text for p in prompts], reference,
        identities=instruments.identities(),
        made={
            "command": around.command,
            "model": {"name": info.name, "sha256": model_hash(info)},
            "weights": plan["weights"],
            "prompts": {
                "file": prompts_file.name, "count": len(prompts), "sha256": hash_prompts(prompts)
            },
            "split": config.split,
            "uses_of_final_split": uses,
            "clips_per_prompt": config.clips_per_prompt,
            "duration_s": config.duration_s,
            "seed": config.seed,
            "codec": instruments.codec_name,
            "dtype": pipeline.dtype,
            "device": str(pipeline.device),
            "seconds_of_last_call": round(time.monotonic() - started, 1),
        },
        statistics=config.statistics, real=real, throughput=throughput, title=around.title,
        sound=around.sound,
    )  # fmt: skip


def assess_clips(
    clips: Path,
    folder: Path,
    config: EvaluationConfig,
    around: Around,
    *,
    prompts_file: Path | None = None,
    reference: str = "",
    say: Say = lambda _: None,
    progress: Progress = lambda done, total: None,
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any] | None:
    """Evaluate existing audio, DIR/arm/prompt/*.wav, without any model.

    Args:
        clips: DIR.
        folder: for the results; new, or of the same evaluation.
        config: its statistics, split and number of real clips count.
        around: by what.
        prompts_file: where it is known what the prompts ask for, and of which split they are.
        reference: arm the others are compared with; the first by name if empty.
        say: called with lines for the user.
        progress: called with clips measured and to measure.
        stop: asked between batches.

    Returns:
        The summary; None after a stop.

    Raises:
        MusicgenRLError: whatever cannot work, before anything is measured where it can be told.
    """
    started = time.monotonic()
    require_final(config.split, around.again)
    written = [] if prompts_file is None else read_prompts(prompts_file)
    scan = scan_folder(clips, written)
    arms = [Arm(name=name, family="base" if name == "base" else "other") for name in scan.arms]
    reference = reference or ("base" if "base" in scan.arms else scan.arms[0])
    check_arms(arms, reference)
    if scan.left_out:
        say(f"left out {scan.left_out} prompts that not all arms have")
    if scan.not_asked:
        say(f"left out {scan.not_asked} prompts that {prompts_file} does not hold")
    if around.real:
        for arm in arms:
            require_enough(sum(c.arm == arm.name for c in scan.clips), f"arm {arm.name!r}")
    place, device = find_instruments(around.instruments, None), choose_device(around.device)
    classes = probe_classes(place)
    require_askable(written, classes, str(prompts_file))
    asked = {"sha256": hash_prompts(scan.prompts), "count": len(scan.prompts)}
    files = {str(c.path.relative_to(clips)): c.path for c in scan.clips}
    plan: dict[str, Any] = {
        "clips": [[name, path.stat().st_size] for name, path in files.items()],
        "sounds": {name: hash_file(path) for name, path in files.items()},
        "prompts": asked, "attributes": hash_attributes(scan.prompts),
        "config": {"duration_s": scan.duration_s},
    }  # fmt: skip
    if prompts_file is not None:
        refuse_second_look(prompts_file, plan, config.split, around.again)
    elif config.split or around.again:
        raise ConfigError(
            "uses of a split are counted beside its file of prompts: name it with --prompts, or "
            "leave --split and --again out"
        )
    claim_folder(folder, plan)
    instruments = load_instruments(place, clap=around.clap, device=device)
    real = _real(around.real, folder, instruments, scan.sample_rate, config, say, scan.duration_s)
    uses = _count(prompts_file, plan, config.split, say)
    tell_unheard(scan.prompts, classes, say)
    rows, done = [], 0

    def count(more: int) -> None:
        nonlocal done
        done += more
        progress(done, len(scan.clips))

    for arm in arms:
        own = [c for c in scan.clips if c.arm == arm.name]
        rows += measure_files(
            own, instruments, folder / MEASURED / arm.slug, sample_rate=scan.sample_rate,
            duration_s=scan.duration_s, progress=count, stop=stop,
            named=lambda c: _beside(c.path, folder),
        )  # fmt: skip
    if len(rows) < len(scan.clips):
        return None
    return finish(
        folder, rows, arms, [p.text for p in scan.prompts], reference,
        identities=instruments.identities(),
        made={
            "command": around.command, "clips": clips.name, "prompts": asked,
            "split": config.split, "uses_of_final_split": uses,
            "clips_per_prompt": round(len(rows) / len(arms) / len(scan.prompts), 2),
            "duration_s": scan.duration_s,
            "seconds_of_last_call": round(time.monotonic() - started, 1),
        },
        statistics=config.statistics, real=real, title=around.title, sound=around.sound,
    )  # fmt: skip


def _real(
    given: str,
    folder: Path,
    instruments: Instruments,
    sample_rate: int,
    config: EvaluationConfig,
    say: Say,
    duration_s: float | None = None,
) -> RealSet | None:
    """Read features of real clips, or measure a manifest's; kept in the folder."""
    if not given:
        return None
    path, length = Path(given).expanduser(), duration_s or config.duration_s
    kept = folder / REAL
    stored = RealSet.load(kept) if kept.is_file() else None
    if path.suffix == ".npz":
        found = RealSet.load(path)
        same = stored is None or stored.equals(found)
    elif stored is not None:
        found = stored
        same = stored.is_of(path, config.real_clips)
    else:
        same = True
        say(f"measuring up to {config.real_clips} real clips of {path.name}")
        found = real_set(
            path, instruments, sample_rate=sample_rate, duration_s=length,
            clips=config.real_clips, line_clips=max(MIN_CLIPS, config.real_clips // 4),
        )  # fmt: skip
    check_real(found, instruments.identities(), length)
    if stored is not None and not same:
        raise ConfigError(
            f"{folder} holds distances to other real clips than {path} gives ({stored.source}): "
            f"name a new folder, or go on with --real {kept}"
        )
    if stored is None:
        found.save(kept)
    return RealSet.load(kept)  # rounded as it is kept, so that going on changes no number


def _count(prompts_file: Path | None, plan: dict[str, Any], split: str, say: Say) -> int:
    """Count a use of the final split; 0 where it is none."""
    if prompts_file is None or split != "final":
        return 0
    uses = count_use(prompts_file, plan)
    if uses > 1:
        say(f"the final split is used for time number {uses}: say so where you report it")
    return uses


def _throughput(
    folder: Path, pipeline: Any, prompts: Sequence[Prompt], config: EvaluationConfig
) -> list[dict[str, Any]]:
    """Measure once for a folder; going on reads what is there."""
    path = folder / _THROUGHPUT
    if path.is_file():
        rows: list[dict[str, Any]] = read_json(path)["rows"]
        return rows
    measured = measure_throughput(
        pipeline, [p.text for p in prompts], duration_s=min(4.0, config.duration_s)
    )
    write_json(path, {"rows": measured})
    return measured


def _kept_date(folder: Path) -> str:
    """Read when an evaluation that goes on was begun; its clips' tags carry that date."""
    path = folder / PLAN
    return str(read_json(path).get("date", "")) if path.is_file() else ""


def _hashes(arm: Arm, model: str) -> dict[str, Any]:
    """Say whose weights an arm has: name -> sha256."""
    names = named_models(arm, model)
    hashes = [model_hash(read_info(find_model(n))) for n in names]
    if arm.diversity is not None:
        from musicgen_rl.merging.endpoints import endpoint_hash
        from musicgen_rl.pipeline.dial import ENDS

        ends = find_model(model)
        names += [f"{model}/{end}" for end in ENDS]
        hashes += [endpoint_hash(ends / end) for end in ENDS]
    return dict(zip(short_names(names), hashes, strict=True))


def _parts(arms: Sequence[Arm], model: str) -> dict[str, str]:
    """Say whose codec and text encoder the arms have, where they have folders of their own."""
    names = list(dict.fromkeys(n for arm in arms for n in named_models(arm, model)))
    return {
        f"{short} {part.replace('_', ' ')}": sha256
        for name, short in zip(names, short_names(names), strict=True)
        for part, sha256 in identify(name, on_dial=False)[1].parts.items()
    }


def _beside(path: Path, folder: Path) -> str:
    """Write an audio path as the report's folder sees it."""
    return os.path.relpath(path, folder)


def require_file(path: str, option: str) -> Path:
    """Turn an option into a path that is there.

    Raises:
        InputError: it is not.
    """
    found = Path(path).expanduser()
    if not found.exists():
        raise InputError(f"{option} {path!r} is not there: check the path")
    return found
