"""Where trained ends come to stay: beside each other and their base, as a model with a dial."""

import filecmp
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from musicgen_rl.checkpoint import (
    CARD,
    FORMAT,
    LOW_RANK,
    ModelInfo,
    blended_with,
    lies_over,
    model_hash,
    part_folder,
    read_info,
    weight_files,
)
from musicgen_rl.checkpoint.holds import ALL
from musicgen_rl.checkpoint.scorer import copy_scorer
from musicgen_rl.errors import ConfigError, ModelError, StorageError
from musicgen_rl.storage import read_json, write_json
from musicgen_rl.training.endpoint_export import PARTS, path_between, whole_folder

_BESIDE = ("*.json", "*.model", "*.txt")
"""Settings and tokenizer of a model, in its own folder."""
_MODEL = "config.json"
"""With this file a folder is a model: it is written last."""


def place_endpoint(source: Path, target: Path) -> Path:
    """Copy an endpoint's folder to where it is to stay, and put its relative paths right.

    Args:
        source: what `export_endpoint` wrote.
        target: replaced if it holds an endpoint.

    Returns:
        The target.

    Raises:
        ConfigError: the target holds something that is no model.
        StorageError: it cannot be written.
    """
    require_place(target)
    with whole_folder(target) as temporary:
        shutil.copytree(source, temporary, dirs_exist_ok=True)
        write_json(temporary / CARD, _card_seen_from(target, read_info(source), whole=True))
    return target


def require_place(target: Path) -> None:
    """Check that an endpoint may stand in a folder: it is new, empty, or holds a model.

    Raises:
        ConfigError: it holds something else.
    """
    if target.exists() and not target.is_dir():
        raise ConfigError(f"{target} is a file: name another folder")
    if target.exists() and not (target / CARD).is_file() and any(target.iterdir()):
        raise ConfigError(f"{target} is not empty and no model: name a new folder")


def retarget(folder: Path, over: Path, towards: Path | None = None) -> None:
    """Tell a low-rank endpoint where the models it refers to are now, bit for bit the same.

    Args:
        folder: of the endpoint.
        over: the model it lies over.
        towards: the model its start was moved towards, where there is one; as it was if None.

    Raises:
        ConfigError: a model there is another one.
    """
    card = read_json(folder / CARD)
    told = card["notes"]["low_rank"]
    for part, place in (("over", over), ("towards", towards)):
        if place is not None and part in told:
            found = read_info(place)
            if model_hash(found) != told[part]["sha256"]:
                raise ConfigError(f"{place} is not the model that {folder} refers to")
            told[part] |= {"path": path_between(place, folder), "name": found.name}
    write_json(folder / CARD, card)


def require_place_of_base(base: ModelInfo, target: Path) -> None:
    """Check that a folder may become a model of a base and its ends.

    Raises:
        ConfigError: it holds another model, or a file that the base's would replace.
    """
    if not target.exists() or target.resolve() == base.folder.resolve():
        return
    if not target.is_dir():
        raise ConfigError(f"{target} is a file: name a folder")
    if (target / _MODEL).is_file():
        try:
            same = model_hash(read_info(target)) == model_hash(base)
        except ModelError:
            same = False
        if not same:
            raise ConfigError(
                f"{target} holds another model than {base.name}, of which the pair is to be: name "
                "that model's own folder, or a new one"
            )
        return
    kept = [
        there
        for source in _files(base)
        if (there := target / source.name).exists()
        and not filecmp.cmp(source, there, shallow=False)
    ]
    card = target / CARD
    if card.exists() and read_json(card) != _card_seen_from(target, base, whole=False):
        kept.append(card)
    if kept:
        raise ConfigError(
            f"{kept[0]} would be replaced by {base.name}'s own: name a new folder for the pair"
        )


def place_base(base: ModelInfo, target: Path) -> Path:
    """Put a base beside its two ends, so that their folder is a model with a dial.

    Its weights are linked where they lie on the same disk, and copied elsewhere; its codec and its
    text encoder, where they have folders of their own, are named where they are, as the ends do.

    Args:
        base: what both ends are tuned from.
        target: the folder that holds them; nothing happens in the base's own, nor where the base
            stands already.

    Returns:
        The target.

    Raises:
        ConfigError: as `require_place_of_base`.
        StorageError: it cannot be written.
    """
    require_place_of_base(base, target)
    if (target / _MODEL).is_file():
        return target
    try:
        target.mkdir(parents=True, exist_ok=True)
        copy_scorer([base], target)
        for source in sorted(_files(base), key=lambda path: path.name == _MODEL):
            if source.name == _MODEL:
                write_json(target / CARD, _card_seen_from(target, base, whole=False))
            temporary = target / f".{source.name}.{os.getpid()}.tmp"
            temporary.unlink(missing_ok=True)
            _bring(source, temporary)
            temporary.replace(target / source.name)
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        raise StorageError(f"cannot write {base.name} to {target}: {error}") from error
    return target


def placing_needs(base: ModelInfo, target: Path) -> int:
    """Estimate the bytes that two ends and their base take where they come to stay."""
    weights = sum(path.stat().st_size for path in weight_files(base.folder))
    return (2 if same_disk(base.folder, target) else 3) * weights


def same_disk(first: Path, second: Path) -> bool:
    """Tell whether two folders, which need not be there yet, lie on one disk."""
    resolved = [path.resolve() for path in (first, second)]
    there = [next(p for p in (path, *path.parents) if p.exists()) for path in resolved]
    return there[0].stat().st_dev == there[1].stat().st_dev


def _files(base: ModelInfo) -> Iterator[Path]:
    """List a model's own files, but for its card."""
    for pattern in _BESIDE:
        yield from (p for p in sorted(base.folder.glob(pattern)) if p.name != CARD)
    yield from weight_files(base.folder)
    yield from (p for h in ALL if (p := base.folder / h.file).is_file())


def _card_seen_from(target: Path, info: ModelInfo, *, whole: bool) -> dict[str, Any]:
    """Write a model's card for another place: what is not carried there is named where it lies.

    Args:
        target: the other place.
        info: the model.
        whole: whether all that its folder holds is carried there, or its own files alone.
    """
    told = {"name": info.name, "license": info.license, "notes": dict(info.notes)}
    card: dict[str, Any] = read_json(info.folder / CARD) if (info.folder / CARD).is_file() else told
    if "path" not in info.codec:  # in MusicGen's own format, whose parts lie in its own files
        return {"format": FORMAT} | card
    for part in PARTS:
        found = part_folder(info, getattr(info, part))
        if not (whole and found.is_relative_to(info.folder.resolve())):
            card[part]["path"] = path_between(found, target)
    if (info.folder / LOW_RANK).is_file():
        distance, towards = card["notes"]["low_rank"], blended_with(info)
        distance["over"]["path"] = path_between(lies_over(info).folder, target)
        if towards is not None:
            distance["towards"]["path"] = path_between(towards[0].folder, target)
    return card


def _bring(source: Path, target: Path) -> None:
    """Link weights where that can be done, and copy; settings are copied, for they are edited."""
    if source.suffix == ".safetensors":
        try:
            os.link(source.resolve(), target)
        except OSError:
            shutil.copyfile(source, target)
    else:
        shutil.copyfile(source, target)
