import shutil
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from musicgen_rl.checkpoint import load_lm, load_state, read_info
from musicgen_rl.errors import CheckpointError, StorageError
from musicgen_rl.merging.endpoints import load_endpoints
from musicgen_rl.merging.merge import merge_checkpoints
from musicgen_rl.merging.recipe import MergeConfig
from musicgen_rl.training.checkpointing import load_training_state
from musicgen_rl.training.endpoint_loop import train_endpoint
from musicgen_rl.training.endpoint_place import place_endpoint
from tests.training.endpoint_fakes import small_config, small_parts


def train(parts, config, folder):
    return train_endpoint(parts, config, folder, live=False)


def test_a_low_rank_end_is_a_small_file_over_the_quality_end(tmp_path: Path) -> None:
    parts = small_parts(tmp_path / "base")
    train(parts, small_config(), tmp_path / "q")
    quality = read_info(tmp_path / "q" / "export")
    after = replace(parts, start=quality, start_state=load_state(quality))
    config = small_config(diversity_weight=5.0, train="low-rank", learning_rate=0.01)
    train(after, config, tmp_path / "d")
    export = tmp_path / "d" / "export"
    assert not (export / "model.safetensors").exists()
    placed = [place_endpoint(tmp_path / n / "export", tmp_path / "pair" / name)
              for n, name in (("q", "quality"), ("d", "diversity"))]  # fmt: skip
    infos = [read_info(p) for p in placed]
    ends = load_endpoints(*infos, parts.base)
    assert ends.quality["embed.weight"] is ends.diversity["embed.weight"]  # untouched, held once
    changed = [n for n in ends.quality if not torch.equal(ends.quality[n], ends.diversity[n])]
    assert any("self_qkv" in n for n in changed)
    assert any("norm" in n for n in changed)
    # What was trained is what is loaded, to the grid's rounding.
    found = load_training_state(tmp_path / "d" / "state")
    assert found is not None
    a, b = (found[0][f"average.blocks.0.ffn_in.lora_{x}.default.weight"] for x in "AB")
    expected = ends.quality["blocks.0.ffn_in.weight"].float() + b @ a
    loaded = load_lm(infos[1]).blocks[0].ffn_in.weight
    torch.testing.assert_close(loaded, expected, rtol=1e-3, atol=1e-5)
    merged = merge_checkpoints(placed[0], placed[1], tmp_path / "m", MergeConfig(lam=0.5))
    half = load_state(read_info(merged))["blocks.0.ffn_in.weight"].float()
    middle = torch.lerp(ends.quality["blocks.0.ffn_in.weight"].float(), loaded, 0.5)
    torch.testing.assert_close(half, middle, rtol=1e-3, atol=1e-3)


def test_a_low_rank_end_may_lie_over_a_point_between_two_models(tmp_path: Path) -> None:
    parts = small_parts(tmp_path / "base")
    train(parts, small_config(learning_rate=0.05), tmp_path / "q")
    quality = read_info(tmp_path / "q" / "export")
    after = replace(parts, start=quality, start_state=load_state(quality))
    config = small_config(
        diversity_weight=5.0, train="low-rank", start_blend=0.25, learning_rate=0.0, steps=1
    )
    train(after, config, tmp_path / "d")
    assert not (tmp_path / "d" / "export" / "model.safetensors").exists()
    placed = place_endpoint(tmp_path / "d" / "export", tmp_path / "pair" / "diversity")
    found, name = load_state(read_info(placed)), "blocks.1.cross_out.weight"
    exact = 0.75 * after.start_state[name].double() + 0.25 * parts.base_state[name].double()
    assert torch.equal(found[name], exact.float())  # nothing was learnt: the factors' product is 0


def test_a_low_rank_end_without_its_model_says_what_it_lacks(tmp_path: Path) -> None:
    parts = small_parts(tmp_path / "base")
    train(parts, small_config(train="low-rank", diversity_weight=1.0, steps=1), tmp_path / "d")
    info = read_info(tmp_path / "d" / "export")
    shutil.rmtree(tmp_path / "base")
    with pytest.raises(CheckpointError, match=r"lies over the model tiny .*copy both"):
        load_state(info)


def test_a_full_disk_is_told_before_training(tmp_path: Path, monkeypatch) -> None:
    parts = small_parts(tmp_path / "base")
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10, 9, 1))
    with pytest.raises(StorageError, match="GB are free: make room"):
        train(parts, small_config(), tmp_path / "run")
