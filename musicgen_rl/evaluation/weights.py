"""Which model plays an arm: a folder for every mixture, written before anything is made."""

from collections.abc import Sequence
from pathlib import Path

from musicgen_rl.checkpoint import find_model, read_info
from musicgen_rl.errors import ConfigError
from musicgen_rl.evaluation.arms import Arm
from musicgen_rl.merging.merge import merge_checkpoints
from musicgen_rl.pipeline.dial import ENDS, has_endpoints, require_endpoints


def check_models(arms: Sequence[Arm], model: str) -> None:
    """Refuse arms whose models are not there, before any work.

    Raises:
        ModelError: a folder is missing or broken.
        ConfigError: the dial is asked of a model that has none.
    """
    info = read_info(find_model(model))
    for arm in arms:
        try:
            if arm.diversity is not None:
                require_endpoints(info, arm.diversity)
            for name in named_models(arm, model):
                read_info(find_model(name))
        except ConfigError as error:
            raise ConfigError(f"arm {arm.name!r}: {error}") from error


def named_models(arm: Arm, model: str) -> list[str]:
    """List the models an arm is made of, as `find_model` takes them."""
    if arm.mix is not None:
        return [_resolve(ref, model) for ref in (arm.mix.first, arm.mix.second)]
    return [arm.model or model]


def model_of(arm: Arm, model: str, folder: Path) -> str:
    """Return the model that plays an arm; a mixture is merged where it is not there yet.

    Args:
        arm: from a checked list.
        model: the evaluated one.
        folder: where mixtures are written, each whole or not at all.

    Raises:
        ModelError: two models that may not be merged.
        StorageError: no room.
    """
    if arm.mix is None:
        return arm.model or model
    first, second = named_models(arm, model)
    config = arm.mix.config
    if config.method == "lerp" and config.lam in (0.0, 1.0):
        return first if config.lam == 0.0 else second
    target = folder / arm.slug
    if not (target / "config.json").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        base = find_model(model) if config.needs_base else None
        merge_checkpoints(find_model(first), find_model(second), target, config, base=base)
    return str(target)


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
