import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from musicgen_rl.errors import CheckpointError, StorageError
from musicgen_rl.training import checkpointing
from musicgen_rl.training.checkpointing import (
    hash_tensors,
    load_training_state,
    pack_optimizer,
    pack_rng,
    read_training_state,
    restore_optimizer,
    restore_rng,
    save_training_state,
)


def test_tensors_and_state_come_back_bit_for_bit(tmp_path: Path) -> None:
    tensors = {
        "a": torch.randn(3, 4),
        "half": torch.randn(5).to(torch.bfloat16),
        "bytes": torch.arange(7, dtype=torch.uint8),
        "one": torch.tensor(2.5, dtype=torch.float64),
        "turned": torch.randn(3, 4).T,
    }
    state = {"step": 12, "seconds": 0.1 + 0.2, "nested": {"list": [1, None, True, "ü"]}}
    save_training_state(tmp_path, tensors, state)
    found = load_training_state(tmp_path)
    assert found is not None
    assert found[1] == state
    assert found[0].keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[0][name].dtype == tensor.dtype
        assert torch.equal(found[0][name], tensor)


def test_nothing_saved_is_none(tmp_path: Path) -> None:
    assert load_training_state(tmp_path / "never") is None


def test_the_state_is_read_alone_as_it_is_with_its_tensors(tmp_path: Path) -> None:
    assert read_training_state(tmp_path / "never") is None
    for step in (1, 2):
        save_training_state(tmp_path, {"x": torch.ones(4)}, {"step": step})
    assert read_training_state(tmp_path) == {"step": 2}
    newest = tmp_path / checkpointing.CURRENT
    newest.write_bytes(newest.read_bytes()[:-3])
    assert read_training_state(tmp_path) == {"step": 1}
    (tmp_path / checkpointing.PREVIOUS).write_bytes(b"junk")
    with pytest.raises(CheckpointError, match="no training state can be read"):
        read_training_state(tmp_path)


def test_tensors_that_share_memory_are_kept_apart(tmp_path: Path) -> None:
    whole = torch.arange(10.0)
    save_training_state(tmp_path, {"a": whole, "b": whole, "part": whole[2:4]}, {})
    found = load_training_state(tmp_path)
    assert found is not None
    assert torch.equal(found[0]["a"], found[0]["b"])
    assert found[0]["part"].tolist() == [2.0, 3.0]


def test_the_state_before_is_kept_and_read_where_the_newest_is_damaged(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        save_training_state(tmp_path, {"x": torch.full((4,), float(step))}, {"step": step})
    newest = tmp_path / checkpointing.CURRENT
    newest.write_bytes(newest.read_bytes()[:-3])
    found = load_training_state(tmp_path)
    assert found is not None
    assert found[1]["step"] == 2
    assert found[0]["x"].tolist() == [2.0] * 4
    (tmp_path / checkpointing.PREVIOUS).write_bytes(b"junk")
    with pytest.raises(CheckpointError, match="no training state can be read"):
        load_training_state(tmp_path)


def test_a_kill_between_the_renames_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_training_state(tmp_path, {}, {"step": 1})
    replace = os.replace

    def killed(source: Path, target: Path) -> None:
        if Path(target).name == checkpointing.CURRENT:
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        save_training_state(tmp_path, {}, {"step": 2})
    found = load_training_state(tmp_path)
    assert found is not None
    assert found[1]["step"] == 1


def test_a_full_disk_is_a_storage_error_and_leaves_the_old_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_training_state(tmp_path, {}, {"step": 1})

    def full(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpointing, "save_file", full)
    with pytest.raises(StorageError, match="No space left"):
        save_training_state(tmp_path, {}, {"step": 2})
    assert sorted(p.name for p in tmp_path.iterdir()) == [checkpointing.CURRENT]
    found = load_training_state(tmp_path)
    assert found is not None
    assert found[1]["step"] == 1


def test_every_generator_goes_on_where_it_was() -> None:
    own = torch.Generator().manual_seed(5)
    packed = pack_rng({"own": own})

    def draw() -> list[float]:
        return [
            float(torch.rand(())),
            float(torch.rand((), generator=own)),
            random.random(),
            float(np.random.rand()),  # noqa: NPY002
        ]

    first = draw()
    assert draw() != first
    restore_rng(packed, {"own": own})
    assert draw() == first


def test_a_missing_generator_is_named() -> None:
    packed = pack_rng()
    with pytest.raises(CheckpointError, match=r"rng\.generator\.sampler"):
        restore_rng(packed, {"sampler": torch.Generator()})


@pytest.mark.parametrize("kind", ["AdamW", "SGD"])
def test_an_optimiser_takes_the_same_steps_after_a_round_trip(kind: str, tmp_path: Path) -> None:
    def build() -> tuple[torch.nn.Linear, torch.optim.Optimizer]:
        torch.manual_seed(0)
        model = torch.nn.Linear(4, 3)
        if kind == "AdamW":
            return model, torch.optim.AdamW(model.parameters(), lr=0.1)
        return model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    def step(model: torch.nn.Linear, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        model(torch.ones(2, 4)).square().sum().backward()
        optimizer.step()

    model, optimizer = build()
    step(model, optimizer)
    tensors, rest = pack_optimizer(optimizer, "first")
    save_training_state(tmp_path, {**tensors, **model.state_dict()}, {"optimizer": rest})
    step(model, optimizer)
    found = load_training_state(tmp_path)
    assert found is not None
    again, optimizer2 = build()
    again.load_state_dict({n: found[0][n] for n in again.state_dict()})
    restore_optimizer(optimizer2, found[0], found[1]["optimizer"], "first")
    step(again, optimizer2)
    assert torch.equal(again.weight, model.weight)
    assert torch.equal(again.bias, model.bias)


@pytest.mark.parametrize(("keep", "expected"), [(False, (0.1, 0.2, (0.8, 0.9))),
                                                (True, (0.3, 0.4, (0.5, 0.6)))])  # fmt: skip
def test_options_are_those_packed_or_those_built(keep: bool, expected: tuple[Any, ...]) -> None:
    weight = torch.nn.Parameter(torch.ones(2))
    weight.grad = torch.ones(2)
    packed = torch.optim.AdamW([weight], lr=0.1, weight_decay=0.2, betas=(0.8, 0.9))
    packed.step()
    built = torch.optim.AdamW([weight], lr=0.3, weight_decay=0.4, betas=(0.5, 0.6))
    restore_optimizer(built, *pack_optimizer(packed), keep_options=keep)
    (group,) = built.param_groups
    assert (group["lr"], group["weight_decay"], tuple(group["betas"])) == expected
    assert torch.equal(built.state[weight]["exp_avg"], packed.state[weight]["exp_avg"])


def test_a_hash_tells_tensors_apart_by_all_they_are() -> None:
    one = {"a": torch.arange(6.0), "b": torch.tensor(1, dtype=torch.bfloat16)}
    found = {
        hash_tensors(tensors)
        for tensors in (
            one,
            {"b": one["b"], "a": torch.arange(12.0)[:6]},
            {**one, "a": one["a"].view(2, 3)},
            {**one, "a": one["a"].double()},
            {**one, "a": one["a"] + 1e-6},
            {"c": one["a"], "b": one["b"]},
        )
    }
    assert len(found) == 5  # the first two are the same


def test_an_optimiser_of_another_model_is_refused() -> None:
    model = torch.nn.Linear(2, 2)
    tensors, rest = pack_optimizer(torch.optim.AdamW(model.parameters()))
    other = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(2))])
    with pytest.raises(CheckpointError, match="does not fit"):
        restore_optimizer(other, tensors, rest)


def test_a_real_kill_while_saving_leaves_a_readable_state(tmp_path: Path) -> None:
    """The process is killed again and again at whatever moment it has reached."""
    program = (
        "import torch, sys; from musicgen_rl.training.checkpointing import *\n"
        "found = load_training_state(sys.argv[1]); step = found[1]['step'] if found else 0\n"
        "while True:\n"
        "    step += 1\n"
        "    save_training_state(sys.argv[1], {'x': torch.full((200000,), float(step))},"
        " {'step': step})\n"
        "    print(step, flush=True)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    said = [int(process.stdout.readline()) for _ in range(3)]
    process.kill()
    process.wait()
    rest = process.stdout.read().split()
    process.stdout.close()
    last = int(rest[-1]) if rest else said[-1]
    found = load_training_state(tmp_path)
    assert found is not None
    # The line is printed after the save, so the state may be one ahead.
    assert found[1]["step"] in (last, last + 1)
    assert found[0]["x"].tolist() == [float(found[1]["step"])] * 200000
    assert json.dumps(found[1])
