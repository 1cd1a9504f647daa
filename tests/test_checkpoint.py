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


def test_a_folder_that_cannot_be_written_is_a_storage_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="file"):
        save_tiny(tmp_path / "file" / "model")
