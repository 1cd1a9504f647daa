"""The weights of a model folder: which files, their hash, the LM made of them."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from musicgen_rl.checkpoint.find import checkpoints_folder
from musicgen_rl.checkpoint.info import CARD, ModelInfo, read_info
from musicgen_rl.checkpoint.kind import INDEX, LOW_RANK, WHOLE, pickle_hint
from musicgen_rl.errors import CheckpointError
from musicgen_rl.lm.low_rank import LowRankDelta, blend, compose
from musicgen_rl.lm.transformer import MusicLM
from musicgen_rl.lm.weights import from_transformers
from musicgen_rl.storage import read_json, read_tensors


def load_state(info: ModelInfo) -> dict[str, Tensor]:
    """Read the LM's weights in our layout, in the dtype they are stored in.

    A low-rank folder gives float32 where it differs from the model it lies over, and that model's
    own tensors elsewhere.

    Raises:
        CheckpointError: names the file or tensor that is missing, truncated or misshapen.
    """
    file = info.folder / LOW_RANK
    if file.is_file():
        delta = LowRankDelta.from_tensors(read_tensors([file]), str(file))
        state = load_state(lies_over(info))
        towards = blended_with(info)
        if towards is not None:
            state = blend(state, load_state(towards[0]), towards[1])
        return compose(state, delta)
    wanted = None if info.codec.get("type") != "encodec" else ("decoder.", "enc_to_dec_proj.")
    state = read_tensors(weight_files(info.folder), wanted)
    return from_transformers(state, info.lm)


def load_lm(info: ModelInfo, dtype: torch.dtype = torch.float32) -> MusicLM:
    """Build the LM with its weights on the CPU, ready to run (not to train)."""
    with torch.device("meta"):
        model = MusicLM(info.lm)
    state = {name: tensor.to(dtype) for name, tensor in load_state(info).items()}
    model.load_state_dict(state, assign=True)
    return model.eval().requires_grad_(False)


def lies_over(info: ModelInfo) -> ModelInfo:
    """Find the model that a low-rank folder lies over.

    It stands in the card's notes: {"low_rank": {"over": {"name", "path", "sha256"}}}.

    Raises:
        CheckpointError: it is not there, or is another one than the card tells of.
    """
    told = info.notes.get("low_rank")
    return _referred(info, told.get("over") if isinstance(told, Mapping) else None)


def blended_with(info: ModelInfo) -> tuple[ModelInfo, float] | None:
    """Find the model towards which a low-rank folder's start was moved, and how far; often none.

    It stands in the card's notes: {"low_rank": {"towards": {"name", "path", "sha256", "share"}}}.

    Raises:
        CheckpointError: it is not there, or is another one than the card tells of.
    """
    told = info.notes.get("low_rank")
    towards = told.get("towards") if isinstance(told, Mapping) else None
    if towards is None:
        return None
    return _referred(info, towards), float(towards.get("share", 0.0))


def model_hash(info: ModelInfo) -> str:
    """Hash the weight files of the LM: sha256, hexadecimal."""
    digest = hashlib.sha256()
    for path in weight_files(info.folder):
        with path.open("rb") as file:
            while block := file.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()


def stated_base(info: ModelInfo) -> str | None:
    """Return the hash of the model this one was tuned from, where its card says so.

    It stands in the card's notes as {"base": {"name": ..., "sha256": ...}}.
    """
    base = info.notes.get("base")
    sha256 = base.get("sha256") if isinstance(base, Mapping) else None
    return str(sha256) if sha256 else None


def weight_files(folder: Path) -> list[Path]:
    """List the safetensors files of a model folder's own weights.

    Raises:
        CheckpointError: there are none, or a shard is missing.
    """
    if (folder / LOW_RANK).is_file():
        return [folder / LOW_RANK]
    index = folder / INDEX
    if index.is_file():
        names = sorted(set(read_json(index).get("weight_map", {}).values()))
        if not names or any(Path(str(n)).name != n for n in names):
            raise CheckpointError(f"{index} does not list the weight files of this folder")
        files = [folder / name for name in names]
    else:
        files = [folder / WHOLE]
    missing = [f.name for f in files if not f.is_file()]
    if missing:
        hint = pickle_hint([path.name for path in folder.iterdir()])
        raise CheckpointError(f"{folder} lacks {missing[0]}{hint}")
    projection = folder / "text_projection.safetensors"
    return files + ([projection] if projection.is_file() else [])


def _referred(info: ModelInfo, told: Any) -> ModelInfo:
    """Find a model that a card refers to by path or name, and check that it is the very one."""
    if not isinstance(told, Mapping) or not {"name", "path", "sha256"} <= set(told):
        raise CheckpointError(f"{info.folder / CARD} does not say what {LOW_RANK} lies over")
    places = [(info.folder / str(told["path"])).resolve(), checkpoints_folder() / str(told["name"])]
    for place in places:
        if (place / "config.json").is_file() and place != info.folder.resolve():
            found = read_info(place)
            if model_hash(found) == told["sha256"]:
                return found
    raise CheckpointError(
        f"{info.name} lies over the model {told['name']} ({str(told['sha256'])[:12]}), which is "
        f"neither {places[0]} nor {places[1]}: copy both folders together"
    )
