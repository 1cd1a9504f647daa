import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from musicgen_rl.codec.load import load_codec, save_codec
from musicgen_rl.errors import (
    CheckpointError,
    ModelNotFoundError,
    StorageError,
    UnsupportedModelError,
)
from tests.codec.tiny import random_codes, tiny_codec


def test_a_saved_codec_comes_back_equal(tmp_path: Path) -> None:
    codec = tiny_codec()
    loaded = load_codec(save_codec(codec, tmp_path / "deep" / "codec"))
    codes = random_codes(codec, 1, 9)
    assert torch.equal(loaded.decode(codes), codec.decode(codes))
    samples = torch.randn(1, 1, 1600) * 0.1
    assert torch.equal(loaded.encode(samples), codec.encode(samples))
    assert json.loads((tmp_path / "deep/codec/config.json").read_text())["model_type"] == (
        "musicgen_rl_frame_codec"
    )


@pytest.mark.skipif(os.name == "nt", reason="Windows keeps no such modes")
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_files_are_readable_as_the_umask_says(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        save_codec(tiny_codec(), tmp_path)
    finally:
        os.umask(before)
    files = sorted(tmp_path.iterdir())
    assert [f.name for f in files] == ["config.json", "model.safetensors"]  # nothing else is left
    assert [f.stat().st_mode & 0o777 for f in files] == [mode, mode]


def test_half_precision_halves_the_file_and_computes_in_single(tmp_path: Path) -> None:
    codec = tiny_codec()
    save_codec(codec, tmp_path / "full")
    save_codec(codec, tmp_path / "half", dtype=torch.float16)
    sizes = [(tmp_path / n / "model.safetensors").stat().st_size for n in ("full", "half")]
    assert sizes[1] < 0.6 * sizes[0]
    codes = random_codes(codec, 1, 9)
    half = load_codec(tmp_path / "half").decode(codes)
    assert half.dtype == torch.float32
    assert float((half - codec.decode(codes)).abs().max()) < 0.02


def test_missing_unknown_and_misshapen_tensors_are_all_named(tmp_path: Path) -> None:
    save_codec(tiny_codec(), tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["sound.bias"]
    tensors["extra"] = torch.zeros(2)
    tensors["hear.bias"] = torch.zeros(5)
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError) as caught:
        load_codec(tmp_path)
    for said in ("sound.bias is missing", "extra is unknown", r"hear.bias is [5], not [8]"):
        assert said in str(caught.value)


def test_a_weight_that_is_no_number_is_named(tmp_path: Path) -> None:
    save_codec(tiny_codec(), tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["hear.bias"][0] = float("nan")
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"nan or inf in hear\.bias"):
        load_codec(tmp_path)


def test_a_truncated_or_missing_file_is_named(tmp_path: Path) -> None:
    save_codec(tiny_codec(), tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(CheckpointError, match=r"model\.safetensors is missing or damaged"):
        load_codec(tmp_path)
    weights.unlink()
    with pytest.raises(CheckpointError, match=r"model\.safetensors is missing or damaged"):
        load_codec(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"config\.json is missing or not JSON"):
        load_codec(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(CheckpointError, match="no JSON object"):
        load_codec(tmp_path)


def test_a_config_that_cannot_work_is_named(tmp_path: Path) -> None:
    save_codec(tiny_codec(), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text()) | {"kernel_size": 4}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="kernel_size must be odd, got 4"):
        load_codec(tmp_path)


def test_other_kinds_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="nowhere"):
        load_codec(tmp_path / "nowhere")
    (tmp_path / "config.json").write_text('{"model_type": "dac"}')
    with pytest.raises(UnsupportedModelError, match="'dac'"):
        load_codec(tmp_path)
    save_codec(tiny_codec(), tmp_path)
    with pytest.raises(UnsupportedModelError, match="is mono"):
        load_codec(tmp_path, audio_channels=2)


def test_a_folder_that_cannot_be_written_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write the codec"):
        save_codec(tiny_codec(), tmp_path / "file" / "codec")
