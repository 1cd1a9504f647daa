"""`benchmarks/training.py`: its shapes, and what its options come to; a tiny one is run."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from musicgen_rl.lm.transformer import MusicLM
from musicgen_rl.training.adapters import TARGETS

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    spec = importlib.util.spec_from_file_location("bench_training", BENCHMARKS / "training.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def asked(benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch, *options: str):
    monkeypatch.setattr(sys, "argv", ["training.py", *options])
    return benchmark._options()


@pytest.mark.parametrize(
    ("shape", "parameters", "rank", "trained"),
    [
        ("musicgen-small", 420_371_456, 4, 2_410_496),
        ("musicgen-large", 3_256_956_928, 16, 36_769_792),
    ],
)
def test_the_shapes_are_musicgens_and_the_factors_as_docs_training_counts_them(
    benchmark: ModuleType, shape: str, parameters: int, rank: int, trained: int
) -> None:
    with torch.device("meta"):
        model = MusicLM(benchmark.SHAPES[shape][0])
    assert sum(p.numel() for p in model.parameters()) == parameters
    norms = sum(p.numel() for n, p in model.named_parameters()
                if p.dim() == 1 and n != "text_projection.bias")  # fmt: skip
    factors = sum(rank * (m.in_features + m.out_features) for n, m in model.named_modules()
                  if n.rpartition(".")[2] in TARGETS)  # fmt: skip
    assert factors + norms == trained


@pytest.mark.parametrize("end", ["quality", "diversity"])
def test_the_large_shape_is_asked_for_with_its_preset(
    benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    both = ("--shape", "musicgen-large", "--preset", "musicgen-large")
    options = asked(benchmark, monkeypatch, *both, "--end", end, "--set", "prompts_per_step=2")
    config = benchmark._config(options)
    assert (config.train, config.prompts_per_step, config.clip_s) == ("low-rank", 2, 10.0)
    assert (config.diversity_weight > 0) == (end == "diversity")


def test_a_large_step_in_little_is_measured(
    benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    little = ("prompts_per_step=2", "clips_per_prompt=2", "clip_s=0.4", "precision=fp32")
    sets = [word for setting in little for word in ("--set", setting)]
    asked(benchmark, monkeypatch, "--shape", "tiny", "--preset", "musicgen-large", "--steps", "1",
          "--end", "diversity", "--out", str(tmp_path / "x.json"), *sets)  # fmt: skip
    threads = torch.get_num_threads()
    benchmark.main()
    torch.set_num_threads(threads)
    told = json.loads((tmp_path / "x.json").read_text())
    assert (told["clips"], told["settings"]["train"], told["settings"]["rank"]) == (
        4,
        "low-rank",
        4,
    )
    assert told["seconds_by_part"]["rollout"] > 0
