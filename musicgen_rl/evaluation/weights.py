"""Which model plays an arm: a folder for every mixture, written before anything is made."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from musicgen_rl.checkpoint import ModelInfo, find_model, model_hash, part_folder, read_info
from musicgen_rl.errors import ConfigError, ModelError
from musicgen_rl.evaluation.arms import Arm
from musicgen_rl.merging.merge import merge_checkpoints
from musicgen_rl.merging.recipe import MergeConfig
from musicgen_rl.pipeline.dial import ENDS, has_endpoints, require_endpoints
from musicgen_rl.pipeline.parts import load_codec_of


def check_models(arms: Sequence[Arm], model: str) -> None:
    """Refuse arms whose models are not there, before any work.

    Raises:
        ModelError: a folder is missing or broken.
        ConfigError: the dial is asked of a model that has none, or a model has another sample rate.
    """
    info = read_info(find_model(model))
    rates: dict[str, int] = {}
    for arm in arms:
        try:
            if arm.diversity is not None:
                require_endpoints(info, arm.diversity)
            for name in named_models(arm, model):
                other = read_info(find_model(name))
                rates.setdefault(name, 0 if _same_codec(info, other) else _sample_rate(other))
                own = _sample_rate(info) if rates[name] else 0
                if rates[name] != own:
                    raise ConfigError(
                        f"{name} makes {rates[name]} Hz, {model} {own} Hz: every measure would "
                        "hear that before it hears music"
                    )
        except (ConfigError, ModelError) as error:
            raise type(error)(f"arm {arm.name!r}: {error}") from error


def _same_codec(info: ModelInfo, other: ModelInfo) -> bool:
    """Say whether two models read one codec's files."""
    if "path" not in info.codec or "path" not in other.codec:
        return info.folder == other.folder
    return part_folder(info, info.codec).resolve() == part_folder(other, other.codec).resolve()


def _sample_rate(info: ModelInfo) -> int:
    return load_codec_of(info, torch.device("cpu")).sample_rate


def named_models(arm: Arm, model: str) -> list[str]:
    """List the models an arm is made of, as `find_model` takes them."""
    if arm.mix is not None:
        return [_resolve(ref, model) for ref in (arm.mix.first, arm.mix.second)]
    return [arm.model or model]


def short_names(refs: Sequence[str]) -> list[str]:
    """Shorten references to their last names, and to more of them where those are alike.

    Args:
        refs: folders, names or hub ids.

    Returns:
        A name for each: two are equal only where the references are.
    """
    parts = [Path(ref).parts for ref in refs]
    length = [1] * len(parts)
    while True:
        names = ["/".join(p[-n:]) for p, n in zip(parts, length, strict=True)]
        longer = [
            i
            for i, name in enumerate(names)
            if length[i] < len(parts[i])
            and any(name == n and parts[i] != p for n, p in zip(names, parts, strict=True))
        ]
        if not longer:
            return names
        for i in longer:
            length[i] += 1


def model_of(arm: Arm, model: str, folder: Path) -> str:
    """Return the model that plays an arm; a mixture is merged where it is not there yet.

    Args:
        arm: from a checked list.
        model: the evaluated one.
        folder: where mixtures are written, each whole or not at all.

    Raises:
        ModelError: two models that may not be merged.
        ConfigError: the mixture is there, but of other weights.
        StorageError: no room.
    """
    if arm.mix is None:
        return arm.model or model
    first, second = named_models(arm, model)
    config = arm.mix.config
    if config.method == "lerp" and config.lam in (0.0, 1.0):
        return first if config.lam == 0.0 else second
    target = folder / arm.slug
    base = find_model(model) if config.needs_base else None
    parents = {"quality": find_model(first), "diversity": find_model(second), "base": base}
    if (target / "config.json").is_file():
        _refuse_other_mixture(arm, target, parents, config)
    else:
        folder.mkdir(parents=True, exist_ok=True)
        merge_checkpoints(find_model(first), find_model(second), target, config, base=base)
    return str(target)


def _refuse_other_mixture(
    arm: Arm, target: Path, parents: Mapping[str, Path | None], config: MergeConfig
) -> None:
    """Compare what a written mixture says of its making with what is asked for now."""
    kept: dict[str, Any] = read_info(target).notes.get("merge") or {}
    now: dict[str, Any] = {"method": config.method, "lam": config.lam}
    if config.method == "liti":
        now["strength"] = config.strength
    for name, parent in parents.items():
        if parent is not None:
            now[name] = model_hash(read_info(parent))
    for name, value in now.items():
        of = kept.get(name)
        before = of.get("sha256") if isinstance(of, dict) else of
        if before is not None and before != value:
            raise ConfigError(
                f"arm {arm.name!r}: {target} was merged with another {name} ({before!s:.12}, now "
                f"{value!s:.12}): name a new folder"
            )


def _resolve(ref: str, model: str) -> str:
    """Turn base, quality and diversity into the evaluated model's own folders."""
    folder = find_model(model)
    if ref == "base":
        return str(folder)
    if ref in ENDS and not Path(ref).is_dir():
        if not has_endpoints(folder):
            raise ConfigError(
                f"{model} has no folder {ref}/: name both ends, or a model that holds them"
            )
        return str(folder / ref)
    return ref
