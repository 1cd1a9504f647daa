import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import MusicgenForCausalLM

from musicgen_rl import checkpoint
from musicgen_rl.checkpoint import (
    CHECKPOINTS_VARIABLE,
    find_model,
    load_lm,
    load_state,
    model_hash,
    read_info,
    save_model,
    weight_files,
)
from musicgen_rl.config import LeadConfig
from musicgen_rl.errors import (
    CheckpointError,
    ModelNotFoundError,
    StorageError,
    UnsupportedModelError,
)
from musicgen_rl.lm.transformer import MusicLM
from musicgen_rl.pipeline import Pipeline
from tests.models import TINY_LM, save_tiny, tiny_info


@pytest.fixture
def folder(tiny_folder, tmp_path):
    return shutil.copytree(tiny_folder, tmp_path / "model")


def edit(path, **changes):
    content = json.loads(path.read_text())
    for name, value in changes.items():
        if value is None:
            del content[name]
        else:
            content[name] = value
    path.write_text(json.dumps(content))


def test_info_says_what_was_saved(folder):
    info = read_info(folder)
    assert info.lm == TINY_LM
    assert info.window.frames == 100
    assert info.sampling.top_k == 20
    assert info.license == "Apache-2.0"
    assert info.lead is None


def test_how_held_clips_begin_is_saved_and_read(tmp_path):
    lead = LeadConfig(quality_scale=2.0, diversity_scale=1.5, guidance_s=0.5)
    assert read_info(save_tiny(tmp_path / "m", lead=lead)).lead == lead
    edit(tmp_path / "m" / "musicgen_rl.json", lead={"quality_scale": 0.5})
    with pytest.raises(CheckpointError, match="quality_scale must be between"):
        read_info(tmp_path / "m")
    edit(tmp_path / "m" / "musicgen_rl.json", lead={"scale": 2.0})
    with pytest.raises(CheckpointError, match="holds a value that cannot be"):
        read_info(tmp_path / "m")


def test_weights_come_back_as_saved_and_in_transformers(folder):
    state = load_state(read_info(folder))
    torch.manual_seed(0)
    assert load_lm(read_info(folder)).heads.weight.equal(state["heads.weight"])
    _, report = MusicgenForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]  # the projection has a file of its own


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_and_shards_round_to_that_dtype_and_no_further(tmp_path, dtype):
    model = MusicLM(TINY_LM)
    info = tiny_info(tmp_path)
    save_model(tmp_path, info, model.state_dict(), dtype=dtype, shard_bytes=20_000)
    files = weight_files(tmp_path)
    assert len(files) > 3
    stored = load_state(read_info(tmp_path))
    for name, tensor in model.state_dict().items():
        assert torch.equal(stored[name], tensor.to(dtype)), name
    loaded = MusicgenForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    assert torch.equal(loaded.lm_heads[0].weight, stored["heads.weight"][:40].float())


def test_hash_changes_with_one_weight(folder):
    before = model_hash(read_info(folder))
    state = load_file(folder / "model.safetensors")
    state["lm_heads.0.weight"][0, 0] += 1
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    assert model_hash(read_info(folder)) != before


def test_musicgen_folder_is_read_as_it_is(tiny_musicgen_folder):
    info = read_info(tiny_musicgen_folder)
    assert info.text_encoder["type"] == "t5"
    assert info.codec["type"] == "encodec"
    assert info.frame_rate == 50.0
    assert info.window.frames <= 256
    assert load_lm(info).config.text_hidden_size == 24


@pytest.mark.parametrize(
    ("config", "error", "said"),
    [
        ({"model_type": "musicgen_melody"}, UnsupportedModelError, "melody"),
        ({"model_type": "llama"}, UnsupportedModelError, "llama"),
        ({"model_type": "musicgen"}, CheckpointError, "decoder"),
        (
            {"model_type": "musicgen", "decoder": {}, "text_encoder": {"model_type": "bart"},
             "audio_encoder": {"model_type": "encodec"}}, UnsupportedModelError, "bart",
        ),
        (
            {"model_type": "musicgen", "decoder": {}, "text_encoder": {"model_type": "t5"},
             "audio_encoder": {"model_type": "dac"}}, UnsupportedModelError, "dac",
        ),
        (
            {"model_type": "musicgen", "decoder": {}, "text_encoder": {"model_type": "t5",
             "d_model": 8}, "audio_encoder": {"model_type": "encodec"}}, CheckpointError, "vocab",
        ),
    ],
)  # fmt: skip
def test_foreign_kinds_are_refused_by_name(tmp_path, config, error, said):
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(error, match=said):
        read_info(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[1]", "\x00\x01"])
def test_a_broken_config_is_named(folder, content):
    (folder / "config.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        read_info(folder)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"window_frames": None}, "window_frames"),
        ({"format": 9}, "format 9"),
        ({"sampling": {"temperature": -1}}, "temperature"),
        ({"sampling": {"heat": 1}}, "heat"),
        ({"keep_frames": 1000}, "keep_frames"),
        ({"window_frames": 10**7}, "10000000 is more than the LM's"),
        ({"codec": []}, "codec is .., not an object"),
        ({"text_encoder": "minilm"}, "text_encoder is 'minilm'"),
        ({"notes": [1]}, "notes"),
    ],
)
def test_a_card_that_cannot_be_is_refused(folder, changes, said):
    edit(folder / checkpoint.CARD, **changes)
    with pytest.raises((CheckpointError, UnsupportedModelError), match=said):
        read_info(folder)


def test_an_lm_without_its_card_is_refused(folder):
    (folder / checkpoint.CARD).unlink()
    with pytest.raises(CheckpointError, match="codec and text encoder are unknown"):
        read_info(folder)


def test_truncated_weights_are_named(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"model\.safetensors.*truncated"):
        load_state(read_info(folder))


def test_missing_weights_are_named_and_pickles_are_not_opened(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin"):
        weight_files(folder)


def test_pickles_in_shards_are_not_opened_either(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model-00001-of-00001.bin")
    (folder / "pytorch_model.bin.index.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"it has pytorch_model\.bin\.index\.json"):
        weight_files(folder)


def test_an_index_cannot_point_outside_the_folder(folder):
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"a": "../../secret.safetensors"}})
    )
    with pytest.raises(CheckpointError, match="does not list"):
        weight_files(folder)


def test_a_codec_of_another_model_is_refused(folder, tmp_path):
    edit(folder / "codec" / "config.json", codebook_size=39)
    with pytest.raises(CheckpointError):
        Pipeline.load(folder, device="cpu", dtype="fp32")


def test_names_are_found_under_the_setting(tiny_folder, monkeypatch):
    monkeypatch.setenv(CHECKPOINTS_VARIABLE, str(tiny_folder.parent))
    assert find_model("tiny") == tiny_folder
    assert find_model(tiny_folder) == tiny_folder


@pytest.mark.parametrize("name", ["nothing-here", "", "  ", "a\0b", "/no/such/folder", "../.."])
def test_a_model_that_is_not_there_is_one_sentence(name, tmp_path, monkeypatch):
    monkeypatch.setenv(CHECKPOINTS_VARIABLE, str(tmp_path))
    with pytest.raises((ModelNotFoundError, CheckpointError)) as error:
        find_model(name)
    assert "\n" not in str(error.value)


def test_a_hub_id_without_network_says_so(monkeypatch, tmp_path):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelNotFoundError, match="HF_HUB_OFFLINE"):
        find_model("somebody/some-model")


class FakeHub:
    """A hub with one model, which counts what is asked of it."""

    def __init__(self, folder, config, files, cached=()):
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(config))
        self.folder, self.files, self.cached = folder, list(files), cached
        self.asked = []

    def hf_hub_download(self, hub_id, name):
        self.asked.append(name)
        return str(self.folder / name)

    def list_repo_files(self, hub_id):
        self.asked.append("list")
        return self.files

    def snapshot_download(self, hub_id, allow_patterns):
        self.asked.append("all")
        return str(self.folder)

    def try_to_load_from_cache(self, hub_id, name):
        return str(self.folder / name) if name in self.cached else None


MUSICGEN = {
    "model_type": "musicgen", "decoder": {}, "text_encoder": {"model_type": "t5"},
    "audio_encoder": {"model_type": "encodec"},
}  # fmt: skip


@pytest.fixture
def hub(tmp_path, monkeypatch):
    import huggingface_hub

    monkeypatch.setenv(CHECKPOINTS_VARIABLE, str(tmp_path / "none"))

    def make(config, files, cached=()):
        made = FakeHub(tmp_path / "snapshot", config, files, cached)
        for name in ("hf_hub_download", "snapshot_download", "try_to_load_from_cache"):
            monkeypatch.setattr(huggingface_hub, name, getattr(made, name))
        listed = staticmethod(made.list_repo_files)
        monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", listed)
        return made

    return make


@pytest.mark.parametrize("name", ["model.safetensors", "model.safetensors.index.json"])
def test_a_hub_model_is_downloaded_once_it_is_known_to_run(hub, name):
    made = hub(MUSICGEN, ["config.json", "pytorch_model.bin", name])
    assert find_model("some/model") == made.folder
    assert made.asked == ["config.json", "list", "all"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model_type": "musicgen_melody"}, "some/model: melody"),
        ({"model_type": "llama"}, "llama"),
        ({"text_encoder": {"model_type": "bart"}}, "text encoder 'bart'"),
        ({"audio_encoder": {"model_type": "dac"}}, "codec 'dac'"),
    ],
)
def test_a_hub_model_of_another_kind_is_refused_by_its_config_alone(hub, changes, said):
    made = hub(MUSICGEN | changes, ["config.json", "model.safetensors"])
    with pytest.raises(UnsupportedModelError, match=said):
        find_model("some/model")
    assert made.asked == ["config.json"]


@pytest.mark.parametrize("name", ["pytorch_model.bin", "pytorch_model.bin.index.json"])
def test_a_hub_model_of_pickles_is_refused_before_anything_large(hub, name):
    made = hub(MUSICGEN, ["config.json", name])
    with pytest.raises(CheckpointError, match=rf"model lacks model\.safetensors \(it has {name},"):
        find_model("some/model")
    assert "all" not in made.asked


def test_a_hub_model_without_a_config_is_said_to_have_none(hub, monkeypatch):
    import huggingface_hub
    from huggingface_hub.errors import EntryNotFoundError

    def missing(hub_id, name):
        raise EntryNotFoundError("404")

    hub(MUSICGEN, [])
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", missing)
    with pytest.raises(CheckpointError, match=r"some/model .* has no config\.json"):
        find_model("some/model")


@pytest.mark.parametrize("name", ["model.safetensors", "model.safetensors.index.json"])
def test_a_cached_hub_model_is_found_without_asking_first(hub, name):
    made = hub(MUSICGEN, [], cached=[name])
    assert find_model("some/model") == made.folder
    assert made.asked == ["all"]


@pytest.mark.parametrize("kind", ["OfflineModeIsEnabled", "HTTPError"])
def test_a_hub_model_whose_files_cannot_be_listed_is_out_of_reach(hub, monkeypatch, kind):
    import huggingface_hub
    from huggingface_hub import errors

    def down(hub_id):
        raise getattr(errors, kind)("no network")

    hub(MUSICGEN, [])  # its config is cached, its weights are not
    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", staticmethod(down))
    with pytest.raises(ModelNotFoundError, match=f"cannot be downloaded .{kind}"):
        find_model("some/model")


def test_a_cached_snapshot_is_found_offline(monkeypatch, tmp_path, tiny_musicgen_folder):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    kept = tmp_path / "models--some--model"
    shutil.copytree(tiny_musicgen_folder, kept / "snapshots" / "abc")
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text("abc")
    assert find_model("some/model") == kept / "snapshots" / "abc"
    assert read_info(find_model("some/model")).name == "some/model"


def test_a_folder_that_cannot_be_written_is_a_storage_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="file"):
        save_tiny(tmp_path / "file" / "model")
