"""Whether a model is of a kind that runs here: told by its config.json and its files' names."""

from collections.abc import Collection, Mapping
from typing import Any

from musicgen_rl.errors import CheckpointError, UnsupportedModelError

LOW_RANK = "low_rank.safetensors"
"""A folder with this file holds its distance from another model in place of weights."""
WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
"""Weights in one file, or the list of the files they are spread over."""
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")


def check_kind(name: str, config: Mapping[str, Any]) -> None:
    """Refuse a model that does not run here.

    Args:
        name: for the message.
        config: its config.json.

    Raises:
        UnsupportedModelError: another kind of model, text encoder or codec.
        CheckpointError: a part is missing.
    """
    kind = config.get("model_type")
    if kind == "musicgen_decoder":
        return
    if kind == "musicgen_melody":
        raise UnsupportedModelError(
            f"{name}: melody conditioning (musicgen_melody) is not supported; use a "
            "text-only model such as facebook/musicgen-small"
        )
    if kind != "musicgen":
        raise UnsupportedModelError(
            f"{name}: model_type {kind!r} in config.json is not MusicGen's: expected "
            "'musicgen' or 'musicgen_decoder'"
        )
    for part in ("decoder", "text_encoder", "audio_encoder"):
        if not isinstance(config.get(part), dict):
            raise CheckpointError(f"{name}: config.json lacks the part {part!r}")
    text = config["text_encoder"].get("model_type")
    if text != "t5":
        raise UnsupportedModelError(f"{name}: text encoder {text!r} is not supported, only t5")
    codec = config["audio_encoder"].get("model_type")
    if codec != "encodec":
        raise UnsupportedModelError(f"{name}: codec {codec!r} is not supported, only encodec")


def pickle_hint(files: Collection[str]) -> str:
    """Say why weights are passed over, for the end of a message; empty where there are none.

    Args:
        files: names in a model's folder or repository.
    """
    found = next((name for name in PICKLES if name in files), None)
    if found is None:
        return ""
    return f" (it has {found}, which can run code when opened: convert it to safetensors)"
