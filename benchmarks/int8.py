"""Measure int8 matrix products: ours, torch's kernels and torchao's, taking turns.

    python benchmarks/int8.py [--quick] [--rounds N] [--out DIR]

What is timed is every matrix of one decoding step of the 30 M decoder, one behind the other, for
few rows and for many, on one core: the rounding of the inputs included, and nothing else of a step.
torchao is measured where it is installed (`pip install torchao==0.18.0`), as it comes and compiled
as one graph, which is the best that can be done for it. Writes int8.json and int8.md.
"""

import argparse
import copy
import datetime
import importlib.util
import json
import warnings
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench.floor import step_weights
from bench.machine import commit, describe_machine, describe_versions, has_bf16, use_cores
from bench.quantize import int8_available, quantize_linears
from bench.shapes import DECODER_30M, TINY, random_condition, random_lm, random_tokens
from bench.timing import Candidate, summary, take_turns
from torch import Tensor, nn

from musicgen_rl.config import LMConfig
from musicgen_rl.lm import compiled_layout as layout
from musicgen_rl.lm.compiled import CompiledRunner

ROOT = Path(__file__).resolve().parents[1]
ROWS = (1, 32)
HOW_TO_INSTALL = "pip install torchao==0.18.0"


class Products(nn.Module):
    """All matrices of a decoding step; each is given the input of its width."""

    def __init__(self, config: LMConfig) -> None:
        super().__init__()
        D, F = config.hidden_size, config.ffn_size
        shapes = [(D, 3 * D), (D, D), (D, D), (D, D), (D, F), (F, D)] * config.num_layers
        shapes.append((D, config.num_codebooks * config.codebook_size))
        torch.manual_seed(0)
        self.layers = nn.ModuleList(nn.Linear(i, o, bias=False) for i, o in shapes)
        self.widths = [i for i, _ in shapes]

    def forward(self, narrow: Tensor, wide: Tensor) -> list[Tensor]:
        """Multiply [rows, D] and [rows, F]."""
        inputs = {narrow.shape[1]: narrow, wide.shape[1]: wide}
        return [layer(inputs[i]) for layer, i in zip(self.layers, self.widths, strict=True)]


class PackedLinear(nn.Module):
    """`torch._weight_int8pack_mm`: int8 weights as they are, inputs in floating point."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight = linear.weight.detach()
        self.scale = weight.abs().amax(1) / 127
        self.weight = (weight / self.scale[:, None]).round().to(torch.int8)

    def forward(self, x: Tensor) -> Tensor:
        """Multiply [rows, in] in float32 or bf16."""
        out: Tensor = torch._weight_int8pack_mm(x, self.weight, self.scale.to(x.dtype))
        return out


def main() -> None:
    """Measure and write."""
    options = _options()
    use_cores(1)
    config = TINY if options.quick else DECODER_30M
    rounds = 2 if options.quick else options.rounds
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = {
        "schema": 1,
        "command": f"python benchmarks/int8.py --rounds {rounds}"
        + (" --quick" if options.quick else ""),
        "date": datetime.date.today().isoformat(),
        "commit": commit(ROOT),
        "machine": describe_machine(),
        "versions": describe_versions() | {"torchao": _torchao()},
        "weights": step_weights(config),
        "sections": {str(rows): measure(config, rows, rounds) for rows in ROWS},
    }
    (out / "int8.json").write_text(json.dumps(result, indent=1) + "\n")
    (out / "int8.md").write_text(page(result))
    print(page(result))


@torch.inference_mode()
def measure(config: LMConfig, rows: int, rounds: int) -> dict[str, Any]:
    """Time all the ways to multiply `rows` inputs with all matrices of a step."""
    products = Products(config).eval().requires_grad_(False)
    narrow, wide = torch.randn(rows, config.hidden_size), torch.randn(rows, config.ffn_size)
    candidates, notes = [Candidate("ours, int8", ours(config, rows))], []

    def add(name: str, module: nn.Module, dtype: torch.dtype = torch.float32) -> None:
        given = narrow.to(dtype), wide.to(dtype)
        candidates.append(Candidate(name, _repeat(lambda: module(*given))))

    add("torch, fp32", products)
    if has_bf16():
        add("torch, bf16", copy.deepcopy(products).bfloat16(), torch.bfloat16)
    if int8_available():
        quantized = copy.deepcopy(products)
        quantize_linears(quantized)
        add("torch's fbgemm, int8, inputs by the row", quantized)
    packed = copy.deepcopy(products)
    packed.layers = nn.ModuleList(PackedLinear(layer) for layer in products.layers)
    for dtype in (torch.float32, torch.bfloat16):
        name = f"torch._weight_int8pack_mm, {str(dtype).removeprefix('torch.')} inputs"
        add(name, packed, dtype)
    notes += _add_torchao(products, (narrow, wide), add)
    times = take_turns(candidates, rounds)
    return {"rows": [{"name": c.name} | summary(times[c.name]) for c in candidates], "notes": notes}


def ours(config: LMConfig, rows: int) -> Callable[[int], object]:
    """Take the lines of the compiled step that round inputs and multiply, and no others."""
    runner = CompiledRunner(random_lm(config), rows, 8)
    lines = runner._step_program
    kinds = np.isin(lines[:, layout.KIND], (layout.QUANTIZE, layout.LINEAR))
    runner._step_program = np.ascontiguousarray(lines[kinds])
    runner.begin(random_condition(config, rows))
    tokens = random_tokens(config, rows, 1)[..., 0]

    def once() -> None:
        runner.length = 0
        runner.step(tokens)

    return _repeat(once)


def _add_torchao(
    products: Products, inputs: tuple[Tensor, Tensor], add: Callable[[str, nn.Module], None]
) -> list[str]:
    if _torchao() is None:
        return [f"torchao is left out: not installed here ({HOW_TO_INSTALL})"]
    warnings.simplefilter("ignore")  # of its own deprecations and missing CUDA libraries
    from torchao.quantization import (
        Int8DynamicActivationInt8WeightConfig,
        Int8WeightOnlyConfig,
        quantize_,
    )

    notes = []
    kinds = {"weights only": Int8WeightOnlyConfig, "dynamic": Int8DynamicActivationInt8WeightConfig}
    for name, kind in kinds.items():
        eager = copy.deepcopy(products)
        quantize_(eager, kind())
        add(f"torchao, {name}", eager)
        compiled = torch.compile(copy.deepcopy(eager), dynamic=False)
        try:
            compiled(*inputs)
        except Exception as why:  # no compiler, or one that its graph breaks
            notes.append(f"torchao, {name}, compiled, is left out: {str(why).splitlines()[0]}")
        else:
            add(f"torchao, {name}, compiled", compiled)
    return notes


def _torchao() -> str | None:
    found = importlib.util.find_spec("torchao")
    return metadata.version("torchao") if found else None


def _repeat(once: Callable[[], object]) -> Callable[[int], object]:
    def run(steps: int) -> None:
        for _ in range(steps):
            once()

    return run


def page(result: dict[str, Any]) -> str:
    """Write the results as markdown."""
    machine, versions = result["machine"], result["versions"]
    lines = [
        "# int8 matrix products", "",
        f"`{result['command']}`, {result['date']}, commit {result['commit']}; {machine['cpu']} "
        f"({', '.join(machine['flags'])}), one of {machine['cores']} cores, load before "
        f"{machine['load_before'][0]:.1f}; torch {versions['torch']}, torchao "
        f"{versions['torchao'] or 'not installed'}.", "",
        f"All {result['weights'] / 1e6:.1f} M weights of one decoding step, matrix by matrix; "
        "milliseconds a step. fp32 and bf16 round no inputs; the others' rounding is in their "
        "time, weights-only ways round none.",
    ]  # fmt: skip
    for rows, section in result["sections"].items():
        fastest = min(row["min_ms"] for row in section["rows"])
        lines += ["", f"## {rows} row{'' if rows == '1' else 's'}", "",
                  "| | min ms | median ms | x the fastest |", "|---|---|---|---|"]  # fmt: skip
        for row in section["rows"]:
            lines.append(
                f"| {row['name']} | {row['min_ms']:.2f} | {row['median_ms']:.2f} | "
                f"{row['min_ms'] / fastest:.1f} |"
            )
        if section["notes"]:
            lines += ["", *(f"- {note}" for note in section["notes"])]
    return "\n".join(lines) + "\n"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to try the code")
    parser.add_argument("--rounds", type=int, default=15, help="turns of each way")
    parser.add_argument("--out", default=str(ROOT / "benchmarks" / "results"), help="folder")
    return parser.parse_args()


if __name__ == "__main__":
    main()
