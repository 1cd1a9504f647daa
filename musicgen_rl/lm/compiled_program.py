"""The model as programs for the native kernels: `Block.forward`, line by line."""

import numpy as np
from numpy.typing import NDArray

from musicgen_rl.lm import compiled_layout as layout
from musicgen_rl.lm.compiled_weights import CompiledWeights


def _line(kind: int, **fields: int) -> list[int]:
    line = [0] * layout.NUM_FIELDS
    line[layout.KIND] = kind
    for name, value in fields.items():
        line[getattr(layout, name.upper())] = value
    return line


def _linear(weights: CompiledWeights, name: str, activation: int = 0, pick: int = 0) -> list[int]:
    at = weights.places[f"{name}.weight"]
    return _line(
        layout.LINEAR, outputs=at.outputs, width_in=at.width, weight_at=at.weight_at,
        scale_at=at.scale_at, activation=activation, pick=pick,
    )  # fmt: skip


def step_program(weights: CompiledWeights) -> NDArray[np.int64]:
    """List what a step does: `Block.forward` of every layer, then the heads."""
    config = weights.config
    D, activation = config.hidden_size, {"gelu": 1, "relu": 2}[config.activation]
    lines = [_line(layout.EMBED)]
    for i in range(config.num_layers):
        block = f"blocks.{i}"
        lines += [
            _line(layout.NORM_ADD, norm=3 * i, add=int(i > 0), follow=1, layer=i),
            _linear(weights, f"{block}.self_qkv"),
            _line(layout.REMEMBER, which=0, layer=i, column=D),
            _line(layout.ATTEND, which=0, layer=i),
            _line(layout.QUANTIZE, width_in=D),
            _linear(weights, f"{block}.self_out"),
            _line(layout.NORM_ADD, norm=3 * i + 1, add=1),
            _linear(weights, f"{block}.cross_query"),
            _line(layout.ATTEND, which=1, layer=i),
            _line(layout.QUANTIZE, width_in=D),
            _linear(weights, f"{block}.cross_out"),
            _line(layout.NORM_ADD, norm=3 * i + 2, add=1),
            _linear(weights, f"{block}.ffn_in", activation=activation),
            _line(layout.QUANTIZE, which=1, width_in=config.ffn_size),
            _linear(weights, f"{block}.ffn_out"),
        ]
    lines += [
        _line(layout.NORM_ADD, norm=3 * config.num_layers, add=1, pick=1),
        _linear(weights, "heads", pick=1),
    ]
    return np.array(lines, np.int64)


def text_program(weights: CompiledWeights) -> NDArray[np.int64]:
    """List how the keys and values of text in z are made, for every layer."""
    lines = [_line(layout.QUANTIZE, width_in=weights.config.hidden_size)]
    for i in range(weights.config.num_layers):
        lines.append(_linear(weights, f"blocks.{i}.cross_key_value"))
        lines.append(_line(layout.REMEMBER, which=1, layer=i, column=0))
    return np.array(lines, np.int64)


def projection_program(weights: CompiledWeights) -> NDArray[np.int64]:
    """List how text states in z are brought to the model's width, in y and without the bias."""
    lines: list[list[int]] = []
    if "text_projection.weight" in weights.places:
        lines = [
            _line(layout.QUANTIZE, width_in=weights.config.text_hidden_size),
            _linear(weights, "text_projection"),
        ]
    return np.array(lines, np.int64).reshape(-1, layout.NUM_FIELDS)
