"""What a model folder says of itself, without its weights."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from musicgen_rl.checkpoint.find import checkpoints_folder
from musicgen_rl.checkpoint.kind import check_kind
from musicgen_rl.config import LeadConfig, LMConfig, SamplingConfig, require
from musicgen_rl.errors import CheckpointError, ConfigError, UnsupportedModelError
from musicgen_rl.lm.weights import config_from_transformers
from musicgen_rl.sampling.decode import Window
from musicgen_rl.storage import read_json

CARD = "musicgen_rl.json"
FORMAT = 1
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
    lead: LeadConfig | None = None
    """How clips on the dial begin that are held to something; unguided where None."""
    text_encoder: Mapping[str, Any] = field(default_factory=dict)
    """What encodes prompts: {"type": "minilm", "path": ...} or {"type": "t5"}."""
    codec: Mapping[str, Any] = field(default_factory=dict)
    """What makes sound of codes: {"type": "frame", "path": ...} or {"type": "encodec"}."""
    license: str = "unknown"
    """Licence of the weights, an SPDX name where there is one."""
    notes: Mapping[str, Any] = field(default_factory=dict)
    """Anything else its maker wrote down: recipe of a merge, base, training."""


def read_info(folder: Path) -> ModelInfo:
    """Read what a model folder says of itself.

    Raises:
        CheckpointError: a file is missing or broken.
        UnsupportedModelError: a kind of model that does not run here.
    """
    config = read_json(folder / "config.json")
    check_kind(_short_name(folder), config)
    if config["model_type"] == "musicgen":
        return _info_of_musicgen(folder, config)
    return _info_of_ours(folder, config)


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
    text, codec = config["text_encoder"], config["audio_encoder"]
    lm = config_from_transformers(config["decoder"], int(text["d_model"]))
    hop = 1
    for ratio in codec.get("upsampling_ratios", (8, 5, 4, 4)):
        hop *= int(ratio)
    frame_rate = float(codec.get("sampling_rate", 32000)) / hop
    frames = min(lm.max_frames - lm.num_codebooks, round(_LONGEST_WINDOW_S * frame_rate))
    generation = folder / "generation_config.json"
    stored = read_json(generation) if generation.is_file() else {}
    sampling = SamplingConfig(guidance_scale=float(stored.get("guidance_scale") or 3.0))
    card = read_json(folder / CARD) if (folder / CARD).is_file() else {}  # we wrote it
    return ModelInfo(
        name=str(card.get("name") or _short_name(folder)),
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
        lm = config_from_transformers(config, int(card["text_hidden_size"]))
        window = Window(frames=int(card["window_frames"]), keep_frames=int(card["keep_frames"]))
        for part in ("text_encoder", "codec"):
            require(isinstance(card[part], dict), f"{part} is {card[part]!r:.80}, not an object")
        notes = card.get("notes", {})
        require(isinstance(notes, dict), f"notes is {notes!r:.80}, not an object")
        require(
            window.frames <= lm.max_frames,
            f"window_frames {window.frames} is more than the LM's {lm.max_frames} positions",
        )
        return ModelInfo(
            name=str(card["name"]),
            folder=folder,
            lm=lm,
            window=window,
            frame_rate=float(card["frame_rate"]),
            sampling=SamplingConfig(**card["sampling"]),
            lead=LeadConfig(**card["lead"]) if "lead" in card else None,
            text_encoder=card["text_encoder"],
            codec=card["codec"],
            license=str(card["license"]),
            notes=notes,
        )
    except KeyError as missing:
        raise CheckpointError(f"{folder / CARD} lacks the field {missing}") from None
    except (TypeError, ConfigError) as wrong:
        raise CheckpointError(f"{folder / CARD} holds a value that cannot be: {wrong}") from None


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
