"""Measure a move of the slider: ours in place against the other ways, each beside its floor.

    python benchmarks/slider.py [--quick] [--only 30M small] [--threads N] [--rounds N] [--out DIR]

Writes slider.json and slider.md. All ways of one shape take turns in one process; the speed of
copying, from which the floors come, is taken in the same turns. Nothing else should run meanwhile;
about ten minutes and 13 GB of memory. `--quick` tries the code with a tiny shape.
"""

import argparse
import datetime
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from bench.machine import commit, describe_machine, describe_versions, use_cores
from bench.quantize import Int8Linear, int8_available, quantize_linears
from bench.shapes import DECODER_30M, MUSICGEN_SMALL, POCKET, TINY
from bench.timing import Candidate, summary, take_turns
from torch import Tensor, nn

from musicgen_rl.config import LMConfig
from musicgen_rl.lm.compiled_weights import CompiledWeights
from musicgen_rl.lm.transformer import MusicLM
from musicgen_rl.merging.endpoints import Endpoints
from musicgen_rl.merging.recipe import MergeConfig
from musicgen_rl.merging.slider import Slider

ROOT = Path(__file__).resolve().parents[1]
LORA_RANK = 16
LORA_LAYERS = ["self_qkv", "self_out", "cross_query", "cross_key_value", "cross_out", "ffn_in",
               "ffn_out", "heads"]  # fmt: skip
SHAPES = {"pocket": POCKET, "30M": DECODER_30M, "small": MUSICGEN_SMALL}
"""`30M` holds 29 M, `small` MusicGen-small's shape, 420 M parameters."""
State = dict[str, Tensor]
Move = Callable[[float], object]


def main() -> None:
    """Measure and write."""
    options = _options()
    threads = use_cores(options.threads)
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    shapes = {"tiny": TINY} if options.quick else {n: SHAPES[n] for n in options.only or SHAPES}
    rounds = 1 if options.quick else options.rounds
    command = "python benchmarks/slider.py" + (" --quick" if options.quick else "")
    result: dict[str, Any] = {
        "schema": 1,
        "command": f"{command} --threads {options.threads} --rounds {rounds}",
        "date": datetime.date.today().isoformat(),
        "commit": commit(ROOT),
        "quick": options.quick,
        "threads": threads,
        "machine": describe_machine(),
        "versions": describe_versions(),
        "sections": {},
    }
    for name, config in shapes.items():
        print(f"{name} ...", flush=True)
        result["sections"][name] = measure(config, rounds, torch.device("cpu"))
        if torch.cuda.is_available():
            on_gpu = measure(config, rounds, torch.device("cuda"))
            result["sections"][f"{name}, {torch.cuda.get_device_name()}"] = on_gpu
        (out / "slider.json").write_text(json.dumps(result, indent=1) + "\n")
        (out / "slider.md").write_text(page(result))
    print(page(result))


def measure(config: LMConfig, rounds: int, device: torch.device) -> dict[str, Any]:
    """Time every way to move a model of one shape, and compare what they leave behind."""
    model = random_lm(config).to(device)
    quality, diversity, base = endpoints(model)
    ways = ways_to_move(model, Endpoints(quality=quality, diversity=diversity, base=base))
    wrong = {name: round_off(move, model, quality, diversity) for name, move, _ in ways}
    if device.type == "cpu":
        ways += int8_ways(config, quality, diversity)
    ways += lora_ways(model)
    count = sum(t.numel() for t in quality.values())
    parameters = model.state_dict()

    def copy(_: float) -> None:
        for name, tensor in quality.items():
            parameters[name].copy_(tensor)

    candidates = [Candidate("copy", _alternate(copy, device))]
    candidates += [Candidate(name, _alternate(move, device)) for name, move, _ in ways]
    times = take_turns(candidates, rounds)
    rate = 8 * count / min(times["copy"])  # bytes a second, read and written
    rows = []
    for name, _, moved in ways:
        row = {"name": name} | summary(times[name])
        if moved is not None:
            row["floor_ms"] = moved / rate * 1e3
            row["times_floor"] = row["min_ms"] / row["floor_ms"]
        rows.append(row | {"max_difference": wrong.get(name)})
    return {
        "parameters": count,
        "copy_gb_s": rate / 1e9,
        "endpoint_mb": sum(t.nbytes for t in quality.values()) / 1e6,
        "peft_linear_error": linear_is_not_the_line(),
        "rows": rows,
    }


def random_lm(config: LMConfig) -> MusicLM:
    """Make a random model of its own, to be written to."""
    torch.manual_seed(0)
    return MusicLM(config).eval().requires_grad_(False)


def endpoints(model: MusicLM) -> tuple[State, State, State]:
    """Make two fine-tunes of a model, and the model, as state dicts."""
    base = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    torch.manual_seed(1)
    first, second = (
        {n: t + 0.002 * torch.randn_like(t) for n, t in base.items()} for _ in range(2)
    )
    return first, second, base


def ways_to_move(model: MusicLM, ends: Endpoints) -> list[tuple[str, Move, int | None]]:
    """List ways to bring a float32 model to lam: name, the way, bytes that must move."""
    count = sum(t.numel() for t in ends.quality.values())
    half = Endpoints(
        quality={n: t.half() for n, t in ends.quality.items()},
        diversity={n: t.half() for n, t in ends.diversity.items()},
    )
    quality, diversity = dict(ends.quality), dict(ends.diversity)

    def load_dict(lam: float) -> None:
        merged = {n: (1 - lam) * q + lam * diversity[n] for n, q in quality.items()}
        model.load_state_dict(merged)

    def mergekit(lam: float) -> None:
        model.load_state_dict({n: stacked(q, diversity[n], lam) for n, q in quality.items()})

    return [
        ("ours, fp32 in place", Slider(ends, model).move, 12 * count),
        ("ours, fp32 from fp16 endpoints", Slider(half, model).move, 8 * count),
        ("ours, SLERP", Slider(ends, model, MergeConfig(method="slerp")).move, 16 * count),
        ("new dict, load_state_dict", load_dict, 12 * count),
        ("mergekit's way, load_state_dict", mergekit, 12 * count),
    ]


def stacked(first: Tensor, second: Tensor, lam: float) -> Tensor:
    """Merge one tensor as mergekit's linear method does: stack, weigh, sum, divide by the sum.

    Written from its description; its tensors come from files one by one, here they are in memory,
    which is in its favour.
    """
    both = torch.stack([first, second])
    weights = torch.tensor([1 - lam, lam], device=both.device)
    weights = weights.view(-1, *[1] * (both.dim() - 1))
    merged: Tensor = (weights * both).sum(dim=0) / weights.sum(dim=0)
    return merged.to(first.dtype)


def int8_ways(
    config: LMConfig, quality: State, diversity: State
) -> list[tuple[str, Move, int | None]]:
    """List ways to bring an int8 model to lam."""
    if not int8_available():
        return []
    torch_model = random_lm(config)
    quantize_linears(torch_model)
    layers = {f"{n}.weight": m for n, m in torch_model.named_modules() if isinstance(m, Int8Linear)}
    plain = dict(torch_model.named_parameters())
    linear = sum(quality[name].numel() for name in layers)
    moved = 9 * linear + 12 * sum(p.numel() for p in plain.values())
    ends = Endpoints(quality=quality, diversity=diversity)

    @torch.no_grad()
    def pack(lam: float) -> None:
        for name, first in quality.items():
            if name in plain:
                torch.lerp(first, diversity[name], lam, out=plain[name])
            else:
                layers[name].load_weight(torch.lerp(first, diversity[name], lam))

    return [
        ("ours, int8 compiled", Slider(ends, CompiledWeights(config)).move, moved),
        ("int8 of torch (fbgemm), packed anew", pack, moved),
    ]


def lora_ways(model: MusicLM) -> list[tuple[str, Move, int | None]]:
    """List PEFT's ways: two adapters mixed into a third, then merged into the weights or not."""
    loose, merged = adapted(model), adapted(model)
    if loose is None or merged is None:
        return []
    warnings.filterwarnings("ignore", module="peft")  # it tells of every adapter that goes

    def mix(lora: Any, lam: float, kind: str) -> None:
        if "mix" in lora.peft_config:
            lora.delete_adapter("mix")
        lora.add_weighted_adapter(
            ["quality", "diversity"], [1 - lam, lam], "mix", combination_type=kind
        )
        lora.set_adapter("mix")

    def mix_and_merge(lam: float) -> None:
        merged.unmerge_adapter()
        mix(merged, lam, "cat")
        merged.merge_adapter(["mix"])

    peft = f"PEFT rank {LORA_RANK}"
    return [
        (f"{peft}, linear, left unmerged", lambda lam: mix(loose, lam, "linear"), None),
        (f"{peft}, cat, left unmerged", lambda lam: mix(loose, lam, "cat"), None),
        (f"{peft}, cat, into the weights", mix_and_merge, None),
    ]


def adapted(model: MusicLM) -> Any:
    """Put two random adapters around a model's weights, which stay in the model's own memory.

    Returns:
        PEFT's LoraModel, or None where PEFT is not installed.
    """
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError:
        return None
    with torch.device("meta"):
        twin = MusicLM(model.config)
    twin.load_state_dict(model.state_dict(), assign=True)
    config = LoraConfig(r=LORA_RANK, target_modules=LORA_LAYERS, init_lora_weights=False)
    tuned: Any = get_peft_model(twin, config, adapter_name="quality")
    tuned.add_adapter("diversity", config)
    return tuned.base_model


def linear_is_not_the_line() -> float | None:
    """Measure how far PEFT's "linear" mix of two adapters is from the line between their deltas.

    Returns:
        The length of the difference over the length of the true delta, at lam 0.5.
    """
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError:
        return None
    torch.manual_seed(0)
    config = LoraConfig(r=LORA_RANK, target_modules=["0"], init_lora_weights=False)
    tuned: Any = get_peft_model(nn.Sequential(nn.Linear(512, 512)), config, adapter_name="a")
    tuned.add_adapter("b", config)
    tuned.base_model.add_weighted_adapter(["a", "b"], [0.5, 0.5], "mix", combination_type="linear")
    layer: Any = next(m for m in tuned.modules() if hasattr(m, "get_delta_weight"))
    true = 0.5 * layer.get_delta_weight("a") + 0.5 * layer.get_delta_weight("b")
    difference = layer.get_delta_weight("mix") - true
    return float((difference.norm() / true.norm()).detach())


def round_off(move: Move, model: MusicLM, quality: State, diversity: State) -> float:
    """Move to 0.3 and measure the largest difference to LERP in float32; for SLERP, to LERP too."""
    move(0.9)
    move(0.3)
    state = model.state_dict()
    return max(
        float((state[n] - torch.lerp(q, diversity[n], 0.3)).abs().max()) for n, q in quality.items()
    )


def _alternate(move: Move, device: torch.device) -> Callable[[int], object]:
    """Move back and forth, so that no move stays where it is."""
    places = iter(())  # type: ignore[var-annotated]

    def run(steps: int) -> None:
        nonlocal places
        for _ in range(steps):
            lam = next(places, None)
            if lam is None:
                places = iter((0.2, 0.7))
                lam = next(places)
            move(lam)
        if device.type == "cuda":
            torch.cuda.synchronize()

    return run


def page(result: dict[str, Any]) -> str:
    """Write the results as markdown."""
    machine = result["machine"]
    lines = [
        "# A move of the slider",
        "",
        f"`{result['command']}`, {result['date']}, commit {result['commit']}; {machine['cpu']}, "
        f"{result['threads']} of {machine['cores']} cores, load before "
        f"{machine['load_before'][0]:.1f}; torch {result['versions']['torch']}.",
        "",
        "Best and median of all turns. Floor: the bytes that must move (two endpoints read, the "
        "weights written; SLERP reads the base too) at the speed of a copy in the same turns. "
        "Difference: to the straight line in float32, the largest of any weight; SLERP lies off "
        "that line, and fp16 endpoints are rounded, by design.",
    ]
    for name, section in result["sections"].items():
        lines += [
            "",
            f"## {name}",
            "",
            f"{section['parameters'] / 1e6:.1f} M parameters, copying at "
            f"{section['copy_gb_s']:.1f} GB/s; an endpoint in fp32 holds "
            f"{section['endpoint_mb']:.0f} MB.",
            "",
            "| way | min ms | median ms | floor ms | x floor | difference |",
            "|---|---|---|---|---|---|",
        ]
        for row in section["rows"]:
            floor = (
                f"{row['floor_ms']:.1f} | {row['times_floor']:.2f}" if "floor_ms" in row else "|"
            )
            difference = row["max_difference"]
            lines.append(
                f"| {row['name']} | {row['min_ms']:.1f} | {row['median_ms']:.1f} | {floor} | "
                f"{'' if difference is None else f'{difference:.1e}'} |"
            )
    error = next(iter(result["sections"].values()))["peft_linear_error"]
    if error is not None:
        lines += [
            "",
            f"PEFT moves less: its endpoints are adapters of rank {LORA_RANK}. Left unmerged, "
            'every step pays for the adapter. Its "linear" mixes the two factors separately and '
            f"is not the line between the endpoints: at lam 0.5 the change it makes is off by "
            f'{error:.0%} of the true one\'s length; "cat" is exact, at twice the rank.',
        ]
    return "\n".join(lines) + "\n"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to try the code")
    parser.add_argument("--only", nargs="+", choices=list(SHAPES), help="some of the shapes")
    parser.add_argument("--threads", type=int, default=1, help="cores to use")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each way")
    parser.add_argument("--out", default=str(ROOT / "benchmarks" / "results"), help="folder")
    return parser.parse_args()


if __name__ == "__main__":
    main()
