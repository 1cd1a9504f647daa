import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from musicgen_rl.checkpoint import load_state, model_hash, read_info
from musicgen_rl.checkpoint.scorer import SCORER, find_scorer
from musicgen_rl.errors import ConfigError, StorageError
from musicgen_rl.pipeline import Pipeline
from musicgen_rl.rewards import load_scorer
from musicgen_rl.training import endpoint_place, endpoint_run
from musicgen_rl.training.endpoint_loop import train_endpoint
from musicgen_rl.training.endpoint_place import place_base, placing_needs, require_place_of_base
from musicgen_rl.training.endpoint_run import EndpointSources, train_pair
from tests.judged import save_judged
from tests.models import save_tiny
from tests.pipeline.test_key import write_key
from tests.pipeline.test_tempo import write_beat
from tests.training.endpoint_fakes import small_config, small_parts


def codes(model: Path, **how) -> np.ndarray:
    pipeline = Pipeline.load(str(model), device="cpu", dtype="fp32")
    found = pipeline.generate("slow piano", duration_s=0.3, seed=1, **how)[0].codes
    assert found is not None
    return found


def train_small_pair(tmp_path: Path, monkeypatch, out: Path) -> Path:
    parts = small_parts(tmp_path / "base")
    monkeypatch.setattr(endpoint_run, "load_parts", lambda *_: parts)
    sources = EndpointSources(base=str(tmp_path / "base"), prompts=tmp_path / "prompts.txt")
    configs = [
        small_config(learning_rate=0.05),
        small_config(diversity_weight=5.0, train="low-rank", start_blend=0.25, learning_rate=0.05),
    ]
    figures = train_pair(sources, configs[0], configs[1], out, tmp_path / "runs")
    assert all(each["finished"] for each in figures.values())
    return tmp_path / "base"


def test_a_trained_pair_is_a_model_with_a_dial(tmp_path: Path, monkeypatch) -> None:
    pair = tmp_path / "deep" / "pair"
    base = train_small_pair(tmp_path, monkeypatch, pair)
    shutil.rmtree(tmp_path / "runs")
    played = {at: codes(pair, diversity=at) for at in (None, 0.0, 1.0)}
    np.testing.assert_array_equal(played[None], codes(base))
    np.testing.assert_array_equal(played[0.0], codes(pair / "quality"))
    np.testing.assert_array_equal(played[1.0], codes(pair / "diversity"))
    assert not np.array_equal(played[0.0], played[1.0])
    assert os.path.samefile(base / "model.safetensors", pair / "model.safetensors")  # no room taken
    assert not os.path.samefile(base / "config.json", pair / "config.json")  # people edit these
    notes = read_info(pair / "diversity").notes["low_rank"]
    assert notes["over"]["path"] == "../quality"
    assert notes["towards"]["path"] == ".."


def test_a_pair_in_its_bases_own_folder_leaves_the_base_as_it_was(
    tmp_path: Path, monkeypatch
) -> None:
    save_tiny(tmp_path / "base")
    files = {p.name: p.read_bytes() for p in (tmp_path / "base").iterdir() if p.is_file()}
    base = train_small_pair(tmp_path, monkeypatch, tmp_path / "base")
    assert {p.name: p.read_bytes() for p in base.iterdir() if p.is_file()} == files
    np.testing.assert_array_equal(codes(base, diversity=0.0), codes(base / "quality"))


def test_a_base_in_musicgens_own_format_keeps_its_name_and_licence(
    tiny_musicgen_folder: Path, tmp_path: Path
) -> None:
    hub = tmp_path / "models--some--music" / "snapshots" / "1"
    shutil.copytree(tiny_musicgen_folder, hub)
    (hub / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n")
    base = read_info(hub)
    place_base(base, tmp_path / "pair")
    placed = read_info(tmp_path / "pair")
    assert (placed.name, placed.license) == ("some/music", "cc-by-nc-4.0")
    assert model_hash(placed) == model_hash(base)
    np.testing.assert_array_equal(codes(tmp_path / "pair"), codes(hub))


def test_a_base_that_lies_over_another_model_still_finds_it(tmp_path: Path) -> None:
    parts = small_parts(tmp_path / "first")
    config = small_config(diversity_weight=5.0, train="low-rank", learning_rate=0.05)
    train_endpoint(parts, config, tmp_path / "run", live=False)
    base = read_info(tmp_path / "run" / "export")
    place_base(base, tmp_path / "some" / "where" / "pair")
    placed = load_state(read_info(tmp_path / "some" / "where" / "pair"))
    for name, tensor in load_state(base).items():
        assert torch.equal(placed[name], tensor), name


def test_a_disk_that_does_not_link_gets_a_copy(tiny_folder, tmp_path, monkeypatch) -> None:
    def refuse(*_) -> None:
        raise OSError(18, "another disk")

    monkeypatch.setattr(os, "link", refuse)
    place_base(read_info(tiny_folder), tmp_path / "pair")
    copy = tmp_path / "pair" / "model.safetensors"
    assert not os.path.samefile(copy, tiny_folder / "model.safetensors")
    np.testing.assert_array_equal(codes(tmp_path / "pair"), codes(tiny_folder))


def test_what_was_begun_is_finished_and_is_no_model_before(
    tiny_folder: Path, tmp_path: Path, monkeypatch
) -> None:
    real, base, pair = endpoint_place._bring, read_info(tiny_folder), tmp_path / "pair"

    def full(source: Path, target: Path) -> None:
        if source.name == "config.json":
            raise OSError(28, "No space left on device")
        real(source, target)

    monkeypatch.setattr(endpoint_place, "_bring", full)
    with pytest.raises(StorageError, match=r"cannot write tiny to .*No space left"):
        place_base(base, pair)
    assert (pair / "model.safetensors").is_file()
    assert not (pair / "config.json").exists()
    monkeypatch.undo()
    place_base(base, pair)
    assert read_info(pair).name == "tiny"


@pytest.mark.parametrize(("name", "content", "message"), [
    ("model.safetensors", "mine", r"model\.safetensors would be replaced by tiny's own"),
    ("musicgen_rl.json", "{}", r"musicgen_rl\.json would be replaced by tiny's own"),
    ("config.json", "{}", r"holds another model than tiny"),
])  # fmt: skip
def test_nothing_that_is_there_is_replaced(
    tiny_folder: Path, tmp_path: Path, name: str, content: str, message: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(ConfigError, match=message):
        place_base(read_info(tiny_folder), tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == content


def test_another_models_folder_is_refused_before_any_step(tmp_path: Path, monkeypatch) -> None:
    other = save_tiny(tmp_path / "other", seed=3, name="other")
    with pytest.raises(ConfigError, match="other holds another model than tiny"):
        train_small_pair(tmp_path, monkeypatch, other)
    assert not (tmp_path / "runs").exists()


def test_a_folder_of_other_things_may_become_the_pairs(tiny_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("slow piano")
    require_place_of_base(read_info(tiny_folder), tmp_path)
    place_base(read_info(tiny_folder), tmp_path)
    assert (tmp_path / "prompts.txt").read_text() == "slow piano"
    assert json.loads((tmp_path / "musicgen_rl.json").read_text())["name"] == "tiny"


def test_links_need_no_room_and_copies_do(tiny_folder: Path, tmp_path: Path, monkeypatch) -> None:
    base = read_info(tiny_folder)
    size = sum(p.stat().st_size for p in tiny_folder.glob("*.safetensors"))
    assert placing_needs(base, tmp_path / "new" / "pair") == 2 * size
    monkeypatch.setattr(endpoint_place, "same_disk", lambda *_: False)
    assert placing_needs(base, tmp_path / "new" / "pair") == 3 * size


def test_a_base_brings_what_holds_its_tempo_and_key(tmp_path: Path) -> None:
    base = write_key(write_beat(save_tiny(tmp_path / "base")))
    place_base(read_info(base), tmp_path / "pair")
    np.testing.assert_array_equal(
        codes(tmp_path / "pair", tempo_bpm=124, key="D minor"),
        codes(base, tempo_bpm=124, key="D minor"),
    )


def test_a_base_brings_the_scorer_that_chooses_its_takes(tmp_path: Path) -> None:
    base = save_judged(tmp_path / "base")
    pair = place_base(read_info(base), tmp_path / "pair")
    own = find_scorer(read_info(base))
    brought = find_scorer(read_info(pair))
    assert own is not None
    assert brought == pair / SCORER
    assert load_scorer(brought).identity == load_scorer(own).identity
    assert not (pair / "rewards" / "scorer-report").exists()
