"""Model folders: finding, reading and writing them.

A folder of ours is one that transformers' MusicgenForCausalLM loads (config.json and safetensors
in its names), plus `musicgen_rl.json`, which says what stands around the LM: text encoder, codec,
sampling defaults, window, licence of the weights. A folder in MusicGen's own format (config.json
of model_type "musicgen") is read as it is. docs/checkpoint_format.md describes both.
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from musicgen_rl.config import LMConfig, SamplingConfig
from musicgen_rl.errors import (
    CheckpointError,
    ConfigError,
    ModelNotFoundError,
    StorageError,
    UnsupportedModelError,
)
from musicgen_rl.lm.low_rank import LowRankDelta, blend, compose
from musicgen_rl.lm.transformer import MusicLM
from musicgen_rl.lm.weights import (
    config_from_transformers,
    config_to_transformers,
    from_transformers,
    to_transformers,
)
from musicgen_rl.sampling.decode import Window
from musicgen_rl.storage import read_json, read_tensors, save_tensors, write_json

CARD = "musicgen_rl.json"
FORMAT = 1
LOW_RANK = "low_rank.safetensors"
"""A folder with this file holds its distance from another model in place of weights."""
CHECKPOINTS_VARIABLE = "MUSICGEN_RL_CHECKPOINTS"
_LONGEST_WINDOW_S = 30.0  # what facebook/musicgen-* were trained on; their configs say 2048 frames


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """All that is known of a model folder without reading its weights."""

    name: str
    """Short name, for tags and messages."""
    folder: Path
    """Where it lies."""
    lm: LMConfig
    """Shape of the LM."""
    window: Window
    """Context of generation."""
    frame_rate: float
    """Frames a second."""
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    """Sampling defaults of this model."""
    text_encoder: Mapping[str, Any] = field(default_factory=dict)
    """What encodes prompts: {"type": "minilm", "path": ...} or {"type": "t5"}."""
    codec: Mapping[str, Any] = field(default_factory=dict)
    """What makes sound of codes: {"type": "frame", "path": ...} or {"type": "encodec"}."""
    license: str = "unknown"
    """Licence of the weights, an SPDX name where there is one."""
    notes: Mapping[str, Any] = field(default_factory=dict)
    """Anything else its maker wrote down: recipe of a merge, base, training."""


def checkpoints_folder() -> Path:
    """Tell where named models lie: the setting, else `checkpoints/` beside the package."""
    setting = os.environ.get(CHECKPOINTS_VARIABLE)
    return Path(setting) if setting else Path(__file__).resolve().parent.parent / "checkpoints"


def find_model(model: str | Path) -> Path:
    """Find a model folder by path, by name under the checkpoints folder, or by hub id.

    Args:
        model: a folder, a name such as "pocket", or an id such as "facebook/musicgen-small", which
            is downloaded unless HF_HUB_OFFLINE is set.

    Raises:
        ModelNotFoundError: there is no such model; says where was looked and what to do.
    """
    text = str(model)
    if not text.strip() or "\0" in text:
        raise ModelNotFoundError(f"the model name {text!r} is empty or broken: try --model pocket")
    try:
        folder = Path(text).expanduser()
        if (folder / "config.json").is_file():
            return folder
    except (OSError, RuntimeError) as error:  # a name too long, no such user's home
        raise ModelNotFoundError(f"no model {text!r:.80}: {error}") from error
    if folder.is_dir():
        raise CheckpointError(f"{folder} is not a model folder: it has no config.json")
    if folder.is_file():
        raise CheckpointError(f"{folder} is a file: name the model's folder instead")
    named = checkpoints_folder() / text
    if (named / "config.json").is_file():
        return named
    if text.count("/") == 1 and not text.startswith((".", "/", "~")):
        return _download(text)
    raise ModelNotFoundError(
        f"no model {text!r}: neither a folder nor under {checkpoints_folder()}. Set "
        f"{CHECKPOINTS_VARIABLE} to the folder `checkpoints` of the project's repository, or name "
        "a folder or a hub id such as facebook/musicgen-small"
    )


def read_info(folder: Path) -> ModelInfo:
    """Read what a model folder says of itself.

    Raises:
        CheckpointError: a file is missing or broken.
        UnsupportedModelError: a kind of model that does not run here.
    """
    config = read_json(folder / "config.json")
    kind = config.get("model_type")
    if kind == "musicgen":
        return _info_of_musicgen(folder, config)
    if kind == "musicgen_decoder":
        return _info_of_ours(folder, config)
    if kind == "musicgen_melody":
        raise UnsupportedModelError(
            f"{folder.name}: melody conditioning (musicgen_melody) is not supported; use a "
            "text-only model such as facebook/musicgen-small"
        )
    raise UnsupportedModelError(
        f"{folder.name}: model_type {kind!r} in config.json is not MusicGen's: expected "
        "'musicgen' or 'musicgen_decoder'"
    )


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


def save_model(
    folder: Path,
    info: ModelInfo,
    state: Mapping[str, Tensor],
    *,
    dtype: torch.dtype = torch.float16,
    shard_bytes: int = 48_000_000,
) -> None:
    """Write the LM and the card of a model folder; codec and text encoder are the caller's.

    The result loads in transformers' MusicgenForCausalLM. A text projection, which that class does
    not have, goes into a file of its own.

    Args:
        folder: where to; made if it is not there.
        info: `folder` inside it is ignored.
        state: weights in our layout.
        dtype: stored dtype.
        shard_bytes: no file is larger, as far as single tensors allow.

    Raises:
        StorageError: the disk is full or the folder cannot be written.
    """
    tensors = {n: t.detach().cpu().to(dtype) for n, t in to_transformers(state, info.lm).items()}
    card = {
        "format": FORMAT,
        "name": info.name,
        "text_hidden_size": info.lm.text_hidden_size,
        "frame_rate": info.frame_rate,
        "window_frames": info.window.frames,
        "keep_frames": info.window.keep_frames,
        "sampling": asdict(info.sampling),
        "text_encoder": dict(info.text_encoder),
        "codec": dict(info.codec),
        "license": info.license,
        "notes": dict(info.notes),
    }
    config = config_to_transformers(info.lm) | {"dtype": str(dtype).removeprefix("torch.")}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        projection = {n: tensors.pop(n) for n in list(tensors) if n.startswith("enc_to_dec_proj.")}
        if projection:
            save_tensors(projection, folder / "text_projection.safetensors")
        shards = _split(tensors, shard_bytes)
        if len(shards) == 1:
            save_tensors(tensors, folder / "model.safetensors")
        else:
            names = [
                f"model-{i + 1:05d}-of-{len(shards):05d}.safetensors" for i in range(len(shards))
            ]
            for name, shard in zip(names, shards, strict=True):
                save_tensors(shard, folder / name)
            index = {
                "metadata": {"total_size": sum(t.nbytes for t in tensors.values())},
                "weight_map": {t: n for n, s in zip(names, shards, strict=True) for t in s},
            }
            write_json(folder / "model.safetensors.index.json", index)
        write_json(folder / "config.json", config)
        write_json(folder / CARD, card)
    except (OSError, SafetensorError) as error:
        raise StorageError(f"cannot write the model to {folder}: {error}") from error


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


def weight_files(folder: Path) -> list[Path]:
    """List the safetensors files of a model folder's own weights.

    Raises:
        CheckpointError: there are none, or a shard is missing.
    """
    if (folder / LOW_RANK).is_file():
        return [folder / LOW_RANK]
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        names = sorted(set(read_json(index).get("weight_map", {}).values()))
        if not names or any(Path(str(n)).name != n for n in names):
            raise CheckpointError(f"{index} does not list the weight files of this folder")
        files = [folder / name for name in names]
    else:
        files = [folder / "model.safetensors"]
    missing = [f.name for f in files if not f.is_file()]
    if missing:
        hint = (
            " (it has pytorch_model.bin, which can run code when opened: convert it to safetensors)"
            if (folder / "pytorch_model.bin").is_file()
            else ""
        )
        raise CheckpointError(f"{folder} lacks {missing[0]}{hint}")
    projection = folder / "text_projection.safetensors"
    return files + ([projection] if projection.is_file() else [])


def part_folder(info: ModelInfo, part: Mapping[str, Any]) -> Path:
    """Find the folder of a codec or text encoder: in the model's, beside it, or among checkpoints.

    Args:
        info: the model.
        part: its `codec` or `text_encoder`.

    Raises:
        CheckpointError: it is in none of these places.
    """
    path = str(part.get("path", ""))
    inside = (info.folder / path).resolve()
    if path and inside.is_dir():
        return inside
    named = checkpoints_folder() / Path(path).name
    if path and named.is_dir():
        return named
    raise CheckpointError(
        f"{info.name}: its {part.get('type')} part is not at {inside} nor at {named}: copy the "
        "whole `checkpoints` folder"
    )


def _info_of_musicgen(folder: Path, config: Mapping[str, Any]) -> ModelInfo:
    """Read a folder in MusicGen's own format."""
    for part in ("decoder", "text_encoder", "audio_encoder"):
        if not isinstance(config.get(part), dict):
            raise CheckpointError(f"{folder}/config.json lacks the part {part!r}")
    text, codec = config["text_encoder"], config["audio_encoder"]
    if text.get("model_type") != "t5":
        raise UnsupportedModelError(
            f"{folder.name}: text encoder {text.get('model_type')!r} is not supported, only t5"
        )
    if codec.get("model_type") != "encodec":
        raise UnsupportedModelError(
            f"{folder.name}: codec {codec.get('model_type')!r} is not supported, only encodec"
        )
    lm = config_from_transformers(config["decoder"], int(text["d_model"]))
    hop = 1
    for ratio in codec.get("upsampling_ratios", (8, 5, 4, 4)):
        hop *= int(ratio)
    frame_rate = float(codec.get("sampling_rate", 32000)) / hop
    frames = min(lm.max_frames - lm.num_codebooks, round(_LONGEST_WINDOW_S * frame_rate))
    generation = folder / "generation_config.json"
    stored = read_json(generation) if generation.is_file() else {}
    sampling = SamplingConfig(guidance_scale=float(stored.get("guidance_scale") or 3.0))
    card = read_json(folder / CARD) if (folder / CARD).is_file() else {}  # of a merge
    return ModelInfo(
        name=_short_name(folder),
        folder=folder,
        lm=lm,
        window=Window(frames=frames, keep_frames=max(1, frames // 3)),
        frame_rate=frame_rate,
        sampling=sampling,
        text_encoder={"type": "t5"},
        codec={"type": "encodec"},
        license=str(card.get("license") or _license_of(folder)),
        notes=card.get("notes", {}),
    )


def _info_of_ours(folder: Path, config: Mapping[str, Any]) -> ModelInfo:
    """Read a folder written by `save_model`."""
    if not (folder / CARD).is_file():
        raise CheckpointError(
            f"{folder} holds an LM alone: without {CARD} its codec and text encoder are unknown"
        )
    card = read_json(folder / CARD)
    if card.get("format") != FORMAT:
        raise UnsupportedModelError(
            f"{folder / CARD} is of format {card.get('format')!r}, this version reads {FORMAT}: "
            "update musicgen-rl"
        )
    try:
        return ModelInfo(
            name=str(card["name"]),
            folder=folder,
            lm=config_from_transformers(config, int(card["text_hidden_size"])),
            window=Window(frames=int(card["window_frames"]), keep_frames=int(card["keep_frames"])),
            frame_rate=float(card["frame_rate"]),
            sampling=SamplingConfig(**card["sampling"]),
            text_encoder=card["text_encoder"],
            codec=card["codec"],
            license=str(card["license"]),
            notes=card.get("notes", {}),
        )
    except KeyError as missing:
        raise CheckpointError(f"{folder / CARD} lacks the field {missing}") from None
    except (TypeError, ConfigError) as wrong:
        raise CheckpointError(f"{folder / CARD} holds a value that cannot be: {wrong}") from None


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


def _download(hub_id: str) -> Path:
    """Fetch the files of a hub model that are needed, never anything that can run code."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    patterns = ["*.json", "*.safetensors", "*.model", "*.txt", "README.md"]
    try:
        return Path(snapshot_download(hub_id, allow_patterns=patterns))
    except GatedRepoError:
        raise ModelNotFoundError(
            f"{hub_id} asks you to accept its terms: do so on its page, then `hf auth login`"
        ) from None
    except (RepositoryNotFoundError, HFValidationError):
        raise ModelNotFoundError(
            f"no model {hub_id!r}: neither a folder here nor a model on the hub"
        ) from None
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        raise ModelNotFoundError(
            f"{hub_id} is not on this machine and cannot be downloaded "
            f"({type(error).__name__}): check the network or unset HF_HUB_OFFLINE, or use "
            "--model pocket"
        ) from None


def _short_name(folder: Path) -> str:
    """Name a folder; inside the hub's cache the model's id is two levels up."""
    for parent in folder.parents:
        if parent.name.startswith("models--"):
            return parent.name.removeprefix("models--").replace("--", "/")
    return folder.resolve().name


def _license_of(folder: Path) -> str:
    """Find the licence in the front matter of a hub model's README."""
    readme = folder / "README.md"
    if readme.is_file():
        for line in readme.read_text(encoding="utf-8", errors="replace").splitlines()[:60]:
            if line.startswith("license:"):
                return line.removeprefix("license:").strip()
    return "unknown"


def _split(tensors: Mapping[str, Tensor], shard_bytes: int) -> list[dict[str, Tensor]]:
    """Distribute tensors in order over shards of at most `shard_bytes`."""
    shards: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, tensor in tensors.items():
        if shards[-1] and size + tensor.nbytes > shard_bytes:
            shards.append({})
            size = 0
        shards[-1][name] = tensor
        size += tensor.nbytes
    return shards
