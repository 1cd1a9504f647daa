"""From names of folders to endpoints: what `train endpoints` and `train pair` call."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from musicgen_rl.checkpoint import (
    ModelInfo,
    find_model,
    load_state,
    model_hash,
    part_folder,
    read_info,
    stated_base,
)
from musicgen_rl.errors import (
    CheckpointError,
    ConfigError,
    InputError,
    ModelNotFoundError,
    MusicgenRLError,
)
from musicgen_rl.merging.check import check_mergeable
from musicgen_rl.pipeline.parts import load_codec_of, load_text_encoder
from musicgen_rl.text.base import TextEncoder
from musicgen_rl.text.minilm import MiniLM
from musicgen_rl.training.endpoint_config import ENDS, EndpointConfig
from musicgen_rl.training.endpoint_export import require_room, room_needed
from musicgen_rl.training.endpoint_loop import train_endpoint
from musicgen_rl.training.endpoint_parts import EndpointParts, check_fit
from musicgen_rl.training.endpoint_place import (
    place_base,
    place_endpoint,
    placing_needs,
    require_place,
    require_place_of_base,
    retarget,
    same_disk,
)
from musicgen_rl.training.endpoint_weight import require_auto, weight_line, weight_of_run
from musicgen_rl.training.processes import Processes
from musicgen_rl.training.prompts import read_prompts, require_enough
from musicgen_rl.training.rollout import frames_of
from musicgen_rl.training.same_run import hash_part, require_kind

TRAINING_ENCODER, REPORT_ENCODER = "encoder-training", "encoder-report"
TRAINING_SCORER = "scorer-training"


@dataclass(frozen=True, kw_only=True)
class EndpointSources:
    """Where a run takes everything from."""

    base: str
    """Model both ends come from: a folder, a name or a hub id."""
    prompts: Path
    """Text file with one prompt a line, or a manifest."""
    start: str | None = None
    """Model the student starts from, tuned from the same base; the base where None."""
    instruments: Path | None = None
    """Folder of encoders and scorers; BASE/rewards where None and there is one."""
    encoder: Path | None = None
    """Training encoder; INSTRUMENTS/encoder-training where None."""
    held_out: bool = True
    """Let the guards hear the report encoder and the training scorer, where they are there."""


def load_parts(
    sources: EndpointSources, config: EndpointConfig, notes: Mapping[str, Any] | None = None
) -> EndpointParts:
    """Check and load all that a run needs; cheap checks come first.

    Args:
        sources: folders.
        config: of the run.
        notes: for the endpoint's card.

    Raises:
        MusicgenRLError: one of the usual kinds, in one sentence, before any training.
    """
    prompts = read_prompts(sources.prompts)
    require_enough(prompts, config.prompts_per_step, str(sources.prompts))
    base = read_info(find_model(sources.base))
    start = None if sources.start is None else read_info(find_model(sources.start))
    if start is not None:
        require_same_base(base, start)
    found = _instruments(sources, base)
    if config.diversity_weight and TRAINING_ENCODER not in found:
        raise ConfigError(
            f"diversity_weight {config.diversity_weight:g} needs a training encoder: none is at "
            f"{sources.encoder or _instrument_folder(sources, base) / TRAINING_ENCODER}; give "
            "--encoder FOLDER"
        )
    device = Processes().device
    loaded = _load_instruments(found, device)
    base_state = load_state(base)
    return EndpointParts(
        base=base,
        base_state=base_state,
        start=start,
        start_state=base_state if start is None else load_state(start),
        text=_text_encoder(base, device),
        codec=load_codec_of(base, device),
        prompts=prompts,
        text_hash=_hash_of(base, base.text_encoder),
        codec_hash=_hash_of(base, base.codec),
        encoder=loaded.get(TRAINING_ENCODER),
        held_out=loaded.get(REPORT_ENCODER),
        scorer=loaded.get(TRAINING_SCORER),
        notes={
            **(notes or {}),
            "prompts": {"file": sources.prompts.name, "count": len(prompts)},
            "start": base.name if start is None else start.name,
            "instruments": {name: str(part.identity) for name, part in loaded.items()},
        },
    )


def _text_encoder(base: ModelInfo, device: torch.device) -> TextEncoder:
    """Load what encodes the prompts; a GPU, which waits for every launch, takes many at a time."""
    if device.type != "cuda":  # one of several processes may call its processor cpu:0
        return load_text_encoder(base, torch.device("cpu"))
    text = load_text_encoder(base, device)
    return text.by_length() if isinstance(text, MiniLM) else text


def _hash_of(base: ModelInfo, part: Mapping[str, Any]) -> str | None:
    """Hash a part's folder; a part in MusicGen's own format has none."""
    return hash_part(part_folder(base, part)) if "path" in part else None


def require_same_base(base: ModelInfo, start: ModelInfo) -> None:
    """Check that a start was tuned from the base.

    Raises:
        CheckpointError: its card tells of another base, or its shape differs.
    """
    sha256 = model_hash(base)
    if model_hash(start) == sha256:
        return
    stated = stated_base(start)
    if stated is not None and stated != sha256:
        raise CheckpointError(
            f"{start.name} was tuned from a base with hash {stated[:12]}, {base.name} has "
            f"{sha256[:12]}: name the base that its card tells of"
        )
    check_mergeable(base, start)


def train_one(
    sources: EndpointSources,
    config: EndpointConfig,
    folder: Path,
    *,
    name: str | None = None,
    auto_weight: bool = False,
    notes: Mapping[str, Any] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Load and train one end; returns `train_endpoint`'s figures.

    Args:
        sources: of the run.
        config: of the run.
        folder: of the run.
        name: of the exported model.
        auto_weight: the weight of the reward comes from the run that `start` is the export of.
        notes: for the card.
        stop: asked after each step.

    Raises:
        ConfigError: the weight cannot be found.
        MusicgenRLError: one of the usual kinds, in one sentence, before any training.
    """
    _require_folder(folder)
    require_kind(folder, "endpoints")
    if auto_weight and sources.start is None:
        require_auto({}, config)
    parts = load_parts(sources, config, notes)
    if auto_weight and parts.start is not None:
        told = parts.start.notes.get("endpoint", {})
        config, parts = _weighed(parts, config, parts.start.folder.parent, told)
    return train_endpoint(parts, config, folder, name=name, stop=stop)


def _weighed(
    parts: EndpointParts, config: EndpointConfig, run: Path, quality: Mapping[str, Any]
) -> tuple[EndpointConfig, EndpointParts]:
    """Find the weight of the reward, say it, and write it into the card."""
    base = parts.base
    tokens = frames_of(config.clip_s, base.frame_rate) * base.lm.num_codebooks
    found = weight_of_run(run, quality, config, tokens)
    if Processes().main:
        sys.stderr.write(f"{weight_line(found)}\n")
    notes = {**(parts.notes or {}), "diversity_weight_from": found}
    return replace(config, diversity_weight=found["weight"]), replace(parts, notes=notes)


def train_pair(
    sources: EndpointSources,
    quality: EndpointConfig,
    diversity: EndpointConfig,
    out: Path,
    runs: Path,
    *,
    from_quality: bool = True,
    auto_weight: bool = False,
    notes: Mapping[str, Any] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, dict[str, Any]]:
    """Train both ends and put them beside their base: OUT is a model with a dial.

    Args:
        sources: of both; `start` is that of the quality end.
        quality: its diversity_weight is 0.
        diversity: its diversity_weight is above 0.
        out: gets quality/ and diversity/, and the base where it is not the base's own folder.
        runs: folders of the runs.
        from_quality: the diversity end starts from the quality end instead of the base.
        auto_weight: the weight of the reward comes from the quality run, not from `diversity`.
        notes: for the cards.
        stop: asked after each step.

    Returns:
        Figures of the runs that were begun; the ends are put in place when both are finished.

    Raises:
        ConfigError: the weights of the reward are not those of a pair.
        MusicgenRLError: whatever would stop either end, in one sentence, before the first.
    """
    if quality.diversity_weight:
        raise ConfigError(
            f"the quality end has diversity_weight 0, got {quality.diversity_weight!r}"
        )
    if not diversity.diversity_weight:
        raise ConfigError("the diversity end needs diversity_weight above 0, for example 15")
    for folder in (out, runs):
        _require_folder(folder)
    for end in ENDS:
        require_place(out / end)
        require_kind(runs / end, "endpoints")
    if auto_weight:
        require_auto(asdict(quality), diversity)
    parts = load_parts(sources, diversity, notes)
    require_place_of_base(parts.base, out)
    _check_both(parts, {"quality": quality, "diversity": diversity}, runs, out)
    base = parts.base
    figures = {
        "quality": train_endpoint(
            parts, quality, runs / "quality", name=f"{base.name}-quality", stop=stop
        )
    }
    if not figures["quality"]["finished"] or stop():
        return figures
    export = runs / "quality" / "export"
    if from_quality:
        start = read_info(export)
        told = {**(parts.notes or {}), "start": start.name}
        parts = replace(parts, start=start, start_state=load_state(start), notes=told)
    if auto_weight:
        diversity, parts = _weighed(parts, diversity, runs / "quality", asdict(quality))
    figures["diversity"] = train_endpoint(
        parts, diversity, runs / "diversity", name=f"{base.name}-diversity", stop=stop
    )
    both = figures["diversity"]["finished"]  # half a new pair is no pair
    if both and Processes().main:
        place_endpoint(export, out / "quality")
        placed = place_endpoint(runs / "diversity" / "export", out / "diversity")
        place_base(base, out)
        if from_quality and "low_rank" in read_info(placed).notes:
            retarget(placed, out / "quality", out)
    Processes().wait()
    return figures


def _check_both(
    parts: EndpointParts, configs: Mapping[str, EndpointConfig], runs: Path, out: Path
) -> None:
    """Find out before the first end is trained what would stop either."""
    processes = Processes()
    needed = 0
    for end, config in configs.items():
        try:
            check_fit(parts, config, processes.count, processes.device)
        except MusicgenRLError as error:
            raise type(error)(f"the {end} end: {error}") from error
        if not (runs / end).exists():
            needed += room_needed(parts.base, parts.base_state if config.train == "all" else {})
    placed = placing_needs(parts.base, out)
    if same_disk(runs, out):
        require_room(runs, needed + placed)
    else:
        require_room(runs, needed)
        require_room(out, placed)


def _instrument_folder(sources: EndpointSources, base: ModelInfo) -> Path:
    return sources.instruments or base.folder / "rewards"


def _instruments(sources: EndpointSources, base: ModelInfo) -> dict[str, Path]:
    """Find the folders that are there."""
    folder = _instrument_folder(sources, base)
    if sources.instruments is not None and not folder.is_dir():
        raise ModelNotFoundError(f"no folder of instruments at {folder}: check --instruments")
    names = [TRAINING_ENCODER] + ([REPORT_ENCODER, TRAINING_SCORER] if sources.held_out else [])
    found = {name: folder / name for name in names if (folder / name).is_dir()}
    if sources.encoder is not None:
        if not sources.encoder.is_dir():
            raise ModelNotFoundError(f"no encoder at {sources.encoder}: check --encoder")
        found[TRAINING_ENCODER] = sources.encoder
    return found


def _load_instruments(found: Mapping[str, Path], device: torch.device) -> dict[str, Any]:
    from musicgen_rl.rewards.encoder import load_encoder
    from musicgen_rl.rewards.scorer import load_scorer

    loaded: dict[str, Any] = {}
    for name, folder in found.items():
        load = load_scorer if name == TRAINING_SCORER else load_encoder
        loaded[name] = load(folder, device)
    trained, report = loaded.get(TRAINING_ENCODER), loaded.get(REPORT_ENCODER)
    if trained is not None and report is not None and trained.identity == report.identity:
        raise InputError(
            f"the training encoder and the held-out one are the same ({trained.identity}): the "
            "held-out encoder must be one that training never saw"
        )
    return loaded


def _require_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file: name a folder")
