"""Weights and configuration, ours <-> transformers' MusicgenForCausalLM.

Ours fuses what is read together: the K embeddings and the K heads are one matrix each, so are
query, key and value, and the key and value of cross-attention. Every function here only splits or
joins, so a round trip is exact to the bit.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from musicgen_rl.config import LMConfig
from musicgen_rl.errors import CheckpointError, UnsupportedModelError

# ours -> theirs, inside one block
_LAYER_RENAMES = {
    "self_norm.weight": "self_attn_layer_norm.weight",
    "self_norm.bias": "self_attn_layer_norm.bias",
    "self_out.weight": "self_attn.out_proj.weight",
    "cross_norm.weight": "encoder_attn_layer_norm.weight",
    "cross_norm.bias": "encoder_attn_layer_norm.bias",
    "cross_query.weight": "encoder_attn.q_proj.weight",
    "cross_out.weight": "encoder_attn.out_proj.weight",
    "ffn_norm.weight": "final_layer_norm.weight",
    "ffn_norm.bias": "final_layer_norm.bias",
    "ffn_in.weight": "fc1.weight",
    "ffn_out.weight": "fc2.weight",
}
_LAYER_FUSED = {
    "self_qkv.weight": [f"self_attn.{p}_proj.weight" for p in "qkv"],
    "cross_key_value.weight": [f"encoder_attn.{p}_proj.weight" for p in "kv"],
}


def parts_of(config: LMConfig) -> dict[str, list[str]]:
    """Map each tensor of ours to the tensors of transformers' that stack up to it, in order."""
    K = config.num_codebooks
    parts = {
        "embed.weight": [f"model.decoder.embed_tokens.{k}.weight" for k in range(K)],
        "norm.weight": ["model.decoder.layer_norm.weight"],
        "norm.bias": ["model.decoder.layer_norm.bias"],
        "heads.weight": [f"lm_heads.{k}.weight" for k in range(K)],
    }
    for i in range(config.num_layers):
        for ours, theirs in _LAYER_RENAMES.items():
            parts[f"blocks.{i}.{ours}"] = [f"model.decoder.layers.{i}.{theirs}"]
        for ours, several in _LAYER_FUSED.items():
            parts[f"blocks.{i}.{ours}"] = [f"model.decoder.layers.{i}.{name}" for name in several]
    if config.text_hidden_size != config.hidden_size:
        parts["text_projection.weight"] = ["enc_to_dec_proj.weight"]
        parts["text_projection.bias"] = ["enc_to_dec_proj.bias"]
    return parts


def shapes_of(config: LMConfig) -> dict[str, tuple[int, ...]]:
    """Map each tensor of transformers' to its shape."""
    D, F, V, L = (
        config.hidden_size,
        config.ffn_size,
        config.codebook_size,
        config.text_hidden_size,
    )
    shapes: dict[str, tuple[int, ...]] = {}
    for names in parts_of(config).values():
        for name in names:
            if "embed_tokens" in name:
                shapes[name] = (V + 1, D)
            elif "lm_heads" in name:
                shapes[name] = (V, D)
            elif name == "enc_to_dec_proj.weight":
                shapes[name] = (D, L)
            elif name.endswith("fc1.weight"):
                shapes[name] = (F, D)
            elif name.endswith("fc2.weight"):
                shapes[name] = (D, F)
            elif "proj.weight" in name:
                shapes[name] = (D, D)
            else:
                shapes[name] = (D,)
    return shapes


def from_transformers(state: Mapping[str, Tensor], config: LMConfig) -> dict[str, Tensor]:
    """Convert transformers' tensors to ours.

    Args:
        state: of MusicgenForCausalLM (plus `enc_to_dec_proj`), or of the whole
            MusicgenForConditionalGeneration, whose decoder is then taken.
        config: shape of the model.

    Returns:
        The state dict of `MusicLM`.

    Raises:
        CheckpointError: a tensor is missing, misshapen, not finite, or not known; it is named.
    """
    state = _decoder_part(state)
    shapes = shapes_of(config)
    missing = [name for name in shapes if name not in state]
    if missing:
        raise CheckpointError(
            f"the checkpoint lacks {len(missing)} tensors, first {missing[0]!r}: it is incomplete, "
            "download or copy it again"
        )
    extra = [n for n in state if n not in shapes and not n.endswith("embed_positions.weights")]
    if extra:
        raise CheckpointError(
            f"the checkpoint has {len(extra)} tensors its config.json does not tell of, first "
            f"{extra[0]!r}: config.json and weights are not of one model"
        )
    for name, shape in shapes.items():
        if tuple(state[name].shape) != shape:
            raise CheckpointError(
                f"tensor {name!r} has shape {tuple(state[name].shape)}, config.json asks for "
                f"{shape}: config.json and weights are not of one model"
            )
        if not torch.isfinite(state[name]).all():
            raise CheckpointError(f"tensor {name!r} holds nan or inf: the checkpoint is damaged")
    return {
        ours: torch.cat([state[name] for name in names]) if len(names) > 1 else state[names[0]]
        for ours, names in parts_of(config).items()
    }


def to_transformers(state: Mapping[str, Tensor], config: LMConfig) -> dict[str, Tensor]:
    """Convert our tensors to those of MusicgenForCausalLM (and `enc_to_dec_proj`)."""
    out: dict[str, Tensor] = {}
    for ours, names in parts_of(config).items():
        pieces = state[ours].chunk(len(names))
        out |= {name: piece.contiguous() for name, piece in zip(names, pieces, strict=True)}
    return out


def config_from_transformers(
    decoder: Mapping[str, Any], text_hidden_size: int | None = None
) -> LMConfig:
    """Read the shape from a MusicgenDecoderConfig as a dict.

    Args:
        decoder: content of `config.json`, or of its `decoder` part.
        text_hidden_size: width of the text encoder; the decoder's own where None.

    Raises:
        UnsupportedModelError: a setting this module does not implement.
        CheckpointError: a field is missing.
    """
    try:
        vocab, hidden = int(decoder["vocab_size"]), int(decoder["hidden_size"])
        pad = decoder.get("pad_token_id", vocab)
        config = LMConfig(
            num_codebooks=int(decoder["num_codebooks"]),
            codebook_size=vocab,
            hidden_size=hidden,
            num_layers=int(decoder["num_hidden_layers"]),
            num_heads=int(decoder["num_attention_heads"]),
            ffn_size=int(decoder["ffn_dim"]),
            text_hidden_size=text_hidden_size or hidden,
            audio_channels=int(decoder.get("audio_channels", 1)),
            max_frames=int(decoder.get("max_position_embeddings", 2048)),
            activation=str(decoder.get("activation_function", "gelu")),
            dropout=float(decoder.get("dropout", 0.0)),
        )
    except KeyError as missing:
        raise CheckpointError(f"config.json lacks the field {missing}") from None
    except (TypeError, ValueError) as wrong:
        raise UnsupportedModelError(
            f"config.json describes a model that cannot run: {wrong}"
        ) from None
    if decoder.get("scale_embedding"):
        raise UnsupportedModelError("scale_embedding=true in config.json is not supported")
    if pad is not None and pad != vocab:
        raise UnsupportedModelError(
            f"pad_token_id {pad} is not vocab_size {vocab}: not MusicGen's token layout"
        )
    return config


def config_to_transformers(config: LMConfig) -> dict[str, Any]:
    """Write the shape as a MusicgenDecoderConfig that transformers loads."""
    return {
        "architectures": ["MusicgenForCausalLM"],
        "model_type": "musicgen_decoder",
        "vocab_size": config.codebook_size,
        "max_position_embeddings": config.max_frames,
        "num_hidden_layers": config.num_layers,
        "ffn_dim": config.ffn_size,
        "num_attention_heads": config.num_heads,
        "activation_function": config.activation,
        "hidden_size": config.hidden_size,
        "dropout": config.dropout,
        "attention_dropout": 0.0,
        "activation_dropout": 0.0,
        "layerdrop": 0.0,
        "initializer_factor": 0.02,
        "scale_embedding": False,
        "num_codebooks": config.num_codebooks,
        "audio_channels": config.audio_channels,
        "pad_token_id": config.pad_token,
        "bos_token_id": config.pad_token,
        "tie_word_embeddings": False,
    }


def _decoder_part(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Take the decoder out of a whole MusicgenForConditionalGeneration state dict."""
    if not any(name.startswith("decoder.model.decoder.") for name in state):
        return dict(state)
    return {
        name.removeprefix("decoder."): tensor
        for name, tensor in state.items()
        if name.startswith(("decoder.", "enc_to_dec_proj."))
    }
