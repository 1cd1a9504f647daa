"""OpenVINO's decoder of the same shape and weights, as candidates.

Audacity's MusicGen plugin decodes with OpenVINO and int8 weights. This is that, built the way
Intel's own exporter for transformers builds decoders: one step with keys and values as the model's
state, gathered by `beam_idx`, which is the pattern that OpenVINO's CPU plugin turns into one
attention operation with its own 8-bit cache. Query, key and value are fused here as in ours, and
the text's keys and values are inputs made once a clip. Weights int8 by nncf, one scale a channel;
activations fp32 as far as OpenVINO leaves them so (its `DYNAMIC_QUANTIZATION_GROUP_SIZE` of 32 is
its default for int8 weights, left as it is).
"""

import contextlib
import importlib.util
import io
import logging
import warnings
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.shapes import TEXT_LENGTH, random_condition, random_tokens
from bench.timing import Candidate
from musicgen_rl.lm.condition import Condition
from musicgen_rl.lm.transformer import MusicLM

HOW_TO_INSTALL = "pip install openvino==2026.4.1 nncf==3.4.0"


def available() -> bool:
    """Tell whether OpenVINO and nncf are installed."""
    return all(importlib.util.find_spec(name) for name in ("openvino", "nncf"))


class _Step(nn.Module):
    """One decoding step of MusicLM with its past as arguments, for tracing."""

    def __init__(self, model: MusicLM) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, tokens: Tensor, position: Tensor, beam: Tensor, *states: Tensor
    ) -> tuple[Tensor, ...]:
        m = self.model
        x = m.embed(tokens + m.offsets).sum(1) + m.positions.index_select(0, position)
        kept: list[Tensor] = []
        for i, b in enumerate(m.blocks):
            past_k, past_v, text_k, text_v = states[4 * i : 4 * i + 4]
            q, k, v = b.split_heads(b.self_qkv(b.self_norm(x)), 3)
            k = torch.cat([past_k.index_select(0, beam), k], 2)
            v = torch.cat([past_v.index_select(0, beam), v], 2)
            kept += [k, v]
            x = x + b.self_out(b._join(F.scaled_dot_product_attention(q, k, v)))
            (q,) = b.split_heads(b.cross_query(b.cross_norm(x)), 1)
            x = x + b.cross_out(b._join(F.scaled_dot_product_attention(q, text_k, text_v)))
            x = x + b.ffn_out(b.activation(b.ffn_in(b.ffn_norm(x))))
        return (m.logits(m.norm(x)).squeeze(2), *kept)


def export(model: MusicLM) -> Any:
    """Convert to an OpenVINO model, stateful, any number of rows, weights in int8."""
    import openvino as ov
    from openvino._offline_transformations import apply_make_stateful_transformation

    config, rows, layers = model.config, 2, range(model.config.num_layers)
    H, d = config.num_heads, config.head_size
    tokens = random_tokens(config, rows, 1)
    states = [torch.zeros(rows, H, n, d) for _ in layers for n in (3, 3, TEXT_LENGTH, TEXT_LENGTH)]
    example = (tokens, torch.tensor([3]), torch.arange(rows, dtype=torch.int32), *states)
    names = ["tokens", "position", "beam_idx"]
    names += [f"{n}.{i}" for i in layers for n in ("past_k", "past_v", "text_k", "text_v")]
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # tracing warns of shapes that are constant here
        converted = ov.convert_model(_Step(model), example_input=example)
    shapes = {}
    for port, name, given in zip(converted.inputs, names, example, strict=True):
        port.get_tensor().set_names({name})
        shape = [-1 if name != "position" else 1, *given.shape[1:]]
        if name.startswith("past"):
            shape[2] = -1
        shapes[port] = ov.PartialShape(shape)
    converted.reshape(shapes)
    outputs = ["logits", *(f"{n}.{i}" for i in layers for n in ("present_k", "present_v"))]
    for port, name in zip(converted.outputs, outputs, strict=True):
        port.get_tensor().set_names({name})
    pairs = {f"past_{x}.{i}": f"present_{x}.{i}" for i in layers for x in "kv"}
    apply_make_stateful_transformation(converted, pairs)
    _start_states_empty(converted, H, d)
    return _compress(converted)


def _start_states_empty(converted: Any, heads: int, head_size: int) -> None:
    """Let keys and values begin as [rows, heads, 0, head]; the CPU plugin asks for it."""
    from openvino import opset13 as ops

    rows = ops.gather(ops.shape_of(converted.input("tokens")), ops.constant([0]), ops.constant(0))
    rest = ops.constant(np.array([heads, 0, head_size], np.int64))
    empty = ops.broadcast(ops.constant(np.float32(0)), ops.concat([rows, rest], 0))
    for op in converted.get_ops():
        if op.get_type_name() == "ReadValue":
            op.set_arguments([empty])
    converted.validate_nodes_and_infer_types()


def _compress(converted: Any) -> Any:
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import nncf

        logging.getLogger("nncf").setLevel(logging.ERROR)
        return nncf.compress_weights(converted, mode=nncf.CompressWeightsMode.INT8_SYM)


class Decoder:
    """One compiled decoder for a fixed number of rows.

    Args:
        exported: from `export`; not changed.
        model: whose weights these are, for the text's keys and values.
        rows: side by side.
        threads: of inference.
    """

    def __init__(self, exported: Any, model: MusicLM, rows: int, threads: int) -> None:
        import openvino as ov

        fixed = exported.clone()
        shapes = {}
        for port in fixed.inputs:
            shape = port.get_partial_shape()
            if "position" not in port.get_names():
                shape[0] = rows
            shapes[port] = shape
        fixed.reshape(shapes)
        settings = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1,
                    "PERFORMANCE_HINT": "LATENCY", "ENABLE_CPU_PINNING": False}  # fmt: skip
        self.compiled = ov.Core().compile_model(fixed, "CPU", settings)
        self._request = self.compiled.create_infer_request()
        self._config = model.config
        self.rows, self._model = rows, model
        self._tokens = np.zeros((rows, model.config.num_codebooks, 1), np.int64)
        self._position = np.zeros(1, np.int64)
        self._beams = np.arange(rows, dtype=np.int32)
        # OpenVINO only points to these arrays, so they must live as long as this object.
        for name, array in (
            ("tokens", self._tokens), ("position", self._position), ("beam_idx", self._beams)
        ):  # fmt: skip
            self._request.set_tensor(name, ov.Tensor(array, shared_memory=True))

    def begin(self, condition: Condition) -> None:
        """Take the text of all rows and forget what was decoded."""
        import openvino as ov

        with torch.no_grad():
            states = self._model.cross_states(condition)
        for i, state in enumerate(states):
            for name, part in (("text_k", state.keys), ("text_v", state.values)):
                self._request.set_tensor(f"{name}.{i}", ov.Tensor(part.contiguous().numpy()))
        self._request.reset_state()
        self._position[0] = 0

    def step(self, tokens: Tensor) -> Tensor:
        """Run one step: tokens [rows, K] to logits [rows, K, V]."""
        self._tokens[..., 0] = tokens.numpy()
        self._request.infer()
        self._position[0] += 1
        return torch.from_numpy(self._request.get_output_tensor(0).data)

    def disagreement(self, steps: int = 8) -> float:
        """Measure how far its logits are from our fp32 model's, relative, over a few steps."""
        condition = random_condition(self._config, self.rows)
        tokens = random_tokens(self._config, self.rows, steps)
        self.begin(condition)
        theirs = torch.stack([self.step(t).clone() for t in tokens.unbind(-1)], dim=2)
        with torch.no_grad():
            exact = self._model(tokens, condition)
        return float((theirs - exact).norm() / exact.norm())

    def check(self) -> None:
        """Raise unless the state holds every step taken.

        Given a `beam_idx` out of range, OpenVINO takes no step, in no time and without a word.
        """
        held = self._request.query_state()[0].state.shape[2]
        if held != self._position[0]:
            raise RuntimeError(f"OpenVINO took {held} of {self._position[0]} steps")

    def settings(self) -> dict[str, str]:
        """Tell what OpenVINO made of its settings."""
        names = ("INFERENCE_NUM_THREADS", "INFERENCE_PRECISION_HINT", "KV_CACHE_PRECISION",
                 "DYNAMIC_QUANTIZATION_GROUP_SIZE")  # fmt: skip
        return {name: str(self.compiled.get_property(name)) for name in names}


def candidate(
    name: str, decoder: Decoder, model: MusicLM, *, context: int, steps: int, turns: int
) -> Candidate:
    """Only the model's steps, on top of a context made step by step."""
    before = max(1, context - steps * turns // 2)
    tokens = iter(random_tokens(model.config, decoder.rows, before + steps * turns).unbind(-1))
    decoder.begin(random_condition(model.config, decoder.rows))

    def run(count: int) -> None:
        for _ in range(count):
            decoder.step(next(tokens))

    run(before)
    return Candidate(name, run, steps, check=decoder.check)
