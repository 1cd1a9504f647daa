"""Model folders: finding, reading and writing them.

A folder of ours is one that transformers' MusicgenForCausalLM loads (config.json and safetensors
in its names), plus `musicgen_rl.json`, which says what stands around the LM: text encoder, codec,
sampling defaults, window, licence of the weights. A folder in MusicGen's own format (config.json
of model_type "musicgen") is read as it is. docs/checkpoint_format.md describes both.
"""

from musicgen_rl.checkpoint.find import CHECKPOINTS_VARIABLE, checkpoints_folder, find_model
from musicgen_rl.checkpoint.info import CARD, FORMAT, ModelInfo, part_folder, read_info
from musicgen_rl.checkpoint.kind import LOW_RANK
from musicgen_rl.checkpoint.load import (
    blended_with,
    lies_over,
    load_lm,
    load_state,
    model_hash,
    stated_base,
    weight_files,
)
from musicgen_rl.checkpoint.save import save_model

__all__ = [
    "CARD", "CHECKPOINTS_VARIABLE", "FORMAT", "LOW_RANK", "ModelInfo", "blended_with",
    "checkpoints_folder", "find_model", "lies_over", "load_lm", "load_state", "model_hash",
    "part_folder", "read_info", "save_model", "stated_base", "weight_files",
]  # fmt: skip
