import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import MusicgenForCausalLM, MusicgenForConditionalGeneration

from musicgen_rl.checkpoint import load_lm, load_state, model_hash, read_info, save_model
from musicgen_rl.checkpoint.scorer import SCORER, find_scorer
from musicgen_rl.errors import CheckpointError, ConfigError, ModelNotFoundError, StorageError
from musicgen_rl.merging import merge as merge_module
from musicgen_rl.merging.endpoints import load_endpoints
from musicgen_rl.merging.merge import merge_checkpoints
from musicgen_rl.merging.ops import merge_states
from musicgen_rl.merging.recipe import METHODS, MergeConfig
from musicgen_rl.merging.slider import Slider
from musicgen_rl.pipeline import Pipeline
from musicgen_rl.pipeline.parts import load_codec_of, load_text_encoder
from tests.judged import save_scorer
from tests.merging.pairs import tune

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def models(tmp_path_factory, tiny_folder):
    home = tmp_path_factory.mktemp("pairs")
    for seed, name in enumerate(("a", "b")):
        tune(tiny_folder, home / name, seed)
    return home


def merged(models, out, tiny_folder=None, dtype=None, **config):
    return merge_checkpoints(
        models / "a", models / "b", out, MergeConfig(**config), base=tiny_folder, dtype=dtype
    )


def codes(pipeline):
    clips = pipeline.generate("slow sad piano", duration_s=0.5, seed=3, clips_per_prompt=2)
    return [clip.codes.tolist() for clip in clips]


@pytest.mark.parametrize("method", METHODS)
def test_a_slider_plays_the_tokens_of_the_merged_folder(models, tiny_folder, tmp_path, method):
    config = MergeConfig(lam=0.3, method=method, strength=0.8)
    folder = merge_checkpoints(models / "a", models / "b", tmp_path / "m", config, base=tiny_folder)
    quality, diversity, base = (read_info(f) for f in (models / "a", models / "b", tiny_folder))
    model = load_lm(quality)
    parts = load_codec_of(quality, CPU), load_text_encoder(quality, CPU)
    running = Pipeline(quality, model, *parts, device=CPU, dtype="fp32")
    slider = Slider(load_endpoints(quality, diversity, base), model, config)
    slider.move(0.9)
    elsewhere = codes(running)
    slider.move(0.3)
    there = codes(running)
    assert there == codes(Pipeline.load(folder, device="cpu", dtype="fp32"))
    assert there != elsewhere


@pytest.mark.parametrize("method", METHODS)
def test_the_folder_holds_the_merge_and_its_recipe(models, tiny_folder, tmp_path, method):
    folder = merged(models, tmp_path / "m", tiny_folder, method=method, lam=0.25, strength=0.9)
    info = read_info(folder)
    a, b, base = (load_state(read_info(f)) for f in (models / "a", models / "b", tiny_folder))
    expected = merge_states(a, b, 0.25, method=method, base=base, strength=0.9)
    state = load_state(info)
    assert all(state[name].equal(expected[name]) for name in expected)
    assert info.name == "m"
    of_base = {"name": "tiny", "sha256": model_hash(read_info(tiny_folder))}
    assert info.notes["base"] == of_base
    assert info.notes["merge"] == {
        "quality": {"name": "a", "sha256": model_hash(read_info(models / "a"))},
        "diversity": {"name": "b", "sha256": model_hash(read_info(models / "b"))},
        "base": of_base,
        "method": method,
        "lam": 0.25,
        **({"strength": 0.9} if method == "liti" else {}),
        "dtype": "float32",
    }


def test_the_ends_are_the_parents(models, tmp_path):
    for lam, parent in ((0.0, "a"), (1.0, "b")):
        state = load_state(read_info(merged(models, tmp_path / parent, lam=lam)))
        expected = load_state(read_info(models / parent))
        assert all(state[name].equal(expected[name]) for name in expected)


def test_transformers_loads_a_merge(models, tmp_path):
    folder = merged(models, tmp_path / "m")
    _, report = MusicgenForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"]


def test_a_merge_may_be_merged_again(models, tiny_folder, tmp_path):
    first = merged(models, tmp_path / "m", tiny_folder)
    second = merge_checkpoints(first, models / "b", tmp_path / "n", MergeConfig(lam=1.0))
    assert load_state(read_info(second))["norm.bias"].equal(
        load_state(read_info(models / "b"))["norm.bias"]
    )
    assert read_info(second).notes["base"]["name"] == "tiny"


def test_half_precision_stays_and_is_rounded_once(tiny_folder, tmp_path):
    for seed, name in enumerate(("a", "b")):
        tune(tiny_folder, tmp_path / name, seed, dtype=torch.float16)
    a, b = (load_state(read_info(tmp_path / n)) for n in ("a", "b"))
    expected = merge_states(a, b, 0.3)
    half = load_state(read_info(merged(tmp_path, tmp_path / "half", lam=0.3)))
    full = load_state(read_info(merged(tmp_path, tmp_path / "full", dtype=torch.float32, lam=0.3)))
    for name, tensor in expected.items():
        assert full[name].equal(tensor)
        assert half[name].equal(tensor.half())


def test_the_parents_licences_both_hold(tiny_folder, tmp_path):
    tune(tiny_folder, tmp_path / "a", 0, notes={"data_licenses": ["CC0-1.0", "MIT"]})
    tune(
        tiny_folder, tmp_path / "b", 1, license="CC-BY-NC-4.0",
        notes={"data_licenses": ["CC-BY-4.0", "MIT"]},
    )  # fmt: skip
    info = read_info(merged(tmp_path, tmp_path / "m"))
    assert info.license == "Apache-2.0 AND CC-BY-NC-4.0"
    assert info.notes["data_licenses"] == ["CC-BY-4.0", "CC0-1.0", "MIT"]
    tune(tiny_folder, tmp_path / "c", 1, license="unknown")
    other = merge_checkpoints(tmp_path / "a", tmp_path / "c", tmp_path / "n", MergeConfig())
    assert read_info(other).license == "unknown"


def test_parts_inside_are_copied_and_parts_outside_still_found(models, tmp_path):
    home = tmp_path / "home"
    shutil.copytree(models, home)
    shutil.copytree(home / "a" / "codec", tmp_path / "shared" / "codec")
    for name in ("a", "b"):
        shutil.rmtree(home / name / "codec")
        card = home / name / "musicgen_rl.json"
        content = json.loads(card.read_text())
        content["codec"]["path"] = "../../shared/codec"
        card.write_text(json.dumps(content))
    folder = merged(home, tmp_path / "deep" / "er" / "m")
    assert not (folder / "codec").exists()
    assert not Path(read_info(folder).codec["path"]).is_absolute()
    assert Pipeline.load(folder, device="cpu").generate("jazz", duration_s=0.1, seed=1)
    inside = merged(models, tmp_path / "n")
    assert (inside / "codec" / "model.safetensors").is_file()


def test_a_merge_has_its_parents_scorer(models, tmp_path):
    home = tmp_path / "home"
    shutil.copytree(models, home)
    save_scorer(home / "b" / "rewards", "training")
    folder = merged(home, tmp_path / "m")
    assert find_scorer(read_info(folder)) == folder / SCORER
    assert find_scorer(read_info(merged(models, tmp_path / "n"))) is None


def test_a_folder_in_musicgens_format_stays_one(tiny_musicgen_folder, tmp_path):
    base = shutil.copytree(tiny_musicgen_folder, tmp_path / "base")
    for seed, name in enumerate(("a", "b")):
        model = MusicgenForConditionalGeneration.from_pretrained(base)
        torch.manual_seed(seed)
        for tensor in model.decoder.parameters():
            tensor.data.add_(torch.randn_like(tensor) * 0.02)
        shutil.copytree(base, tmp_path / name)
        model.save_pretrained(tmp_path / name)
        (tmp_path / name / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n")
    folder = merged(tmp_path, tmp_path / "m", lam=0.25)
    a, b, m = (load_state(read_info(tmp_path / n)) for n in ("a", "b", "m"))
    expected = merge_states(a, b, 0.25)
    assert all(m[name].equal(expected[name]) for name in expected)
    info = read_info(folder)
    assert info.license == "cc-by-nc-4.0"
    assert info.notes["merge"]["lam"] == 0.25
    _, report = MusicgenForConditionalGeneration.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"]
    assert Pipeline.load(folder, device="cpu").generate("jazz", duration_s=0.2, seed=1)


def test_a_folder_that_holds_something_is_refused_before_any_work(models, tmp_path, monkeypatch):
    monkeypatch.setattr(merge_module, "load_endpoints", None)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "song.wav").write_text("mine")
    with pytest.raises(ConfigError, match="full is not empty: name a new folder"):
        merged(models, tmp_path / "full")
    with pytest.raises(ConfigError, match=r"song\.wav is a file"):
        merged(models, tmp_path / "full" / "song.wav")
    with pytest.raises(ConfigError, match="needs --base"):
        merged(models, tmp_path / "m", method="slerp")
    with pytest.raises(ModelNotFoundError):
        merge_checkpoints(models / "a", models / "none", tmp_path / "m", MergeConfig())
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10}))
    with pytest.raises(StorageError, match="are free: make room"):
        merged(models, tmp_path / "m")
    assert [p.name for p in tmp_path.iterdir()] == ["full"]


def test_an_empty_folder_is_filled(models, tmp_path):
    (tmp_path / "m").mkdir()
    assert read_info(merged(models, tmp_path / "m")).name == "m"


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_nothing_is_left_of_a_merge_that_breaks_off(models, tmp_path, monkeypatch, error):
    def breaks(folder, *_arguments, **_options):
        save_model(folder, read_info(models / "a"), load_state(read_info(models / "a")))
        raise error

    monkeypatch.setattr(merge_module, "save_model", breaks)
    raised = StorageError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(raised):
        merged(models, tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_an_error_of_ours(models, tmp_path, monkeypatch):
    def refuse(*_arguments):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "rename", refuse)
    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(StorageError, match=r"cannot write the merge to .*Permission denied"):
        merged(models, tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def test_models_that_may_not_be_merged_leave_nothing(models, tmp_path):
    info = read_info(models / "b")
    other = shutil.copytree(models / "b", tmp_path / "other")
    state = {n: t + 1 for n, t in load_state(info).items()}
    save_model(other, replace(info, frame_rate=25.0), state, dtype=torch.float32)
    with pytest.raises(CheckpointError, match="frame rate is 50 and 25"):
        merge_checkpoints(models / "a", other, tmp_path / "m", MergeConfig())
    assert not (tmp_path / "m").exists()
