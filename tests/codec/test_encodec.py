"""The adapter against transformers itself, on random models small enough for tests."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from musicgen_rl.codec.encodec import EncodecCodec, check_config, encodec_from_tensors
from musicgen_rl.codec.load import load_codec
from musicgen_rl.codec.streaming import StreamingDecoder
from musicgen_rl.errors import CheckpointError, InputError, UnsupportedModelError

SHAPE: dict[str, Any] = {
    "target_bandwidths": [1.2], "sampling_rate": 8000, "num_filters": 4, "hidden_size": 16,
    "upsampling_ratios": [4, 4, 5, 2], "codebook_size": 64, "codebook_dim": 16,
    "use_causal_conv": False, "norm_type": "weight_norm", "num_lstm_layers": 2,
}  # fmt: skip
"""50 frames a second, 300 bit/s a codebook of 64: K = 4."""
HOP = 160


@pytest.fixture(scope="module")
def model() -> Any:
    from transformers import EncodecConfig, EncodecModel

    torch.manual_seed(0)
    made = EncodecModel(EncodecConfig(**SHAPE))
    with torch.no_grad():
        for layer in made.quantizer.layers:
            layer.codebook.embed.normal_()
    return made


def random_codes(codec: EncodecCodec, batch: int, frames: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    shape = (batch, codec.num_codebooks, frames)
    return torch.randint(0, codec.codebook_size, shape, generator=generator)


def test_its_shape_is_what_transformers_says(model: Any) -> None:
    codec = EncodecCodec(model)
    assert (codec.sample_rate, codec.hop_length) == (8000, HOP)
    assert (codec.num_codebooks, codec.codebook_size, codec.audio_channels) == (4, 64, 1)
    assert EncodecCodec(model, audio_channels=2).num_codebooks == 8


def test_it_tells_where_it_lies(model: Any) -> None:
    codec = EncodecCodec(copy.deepcopy(model))
    assert codec.device == torch.device("cpu")
    assert codec.to(torch.device("meta")).device == torch.device("meta")


def test_mono_equals_transformers(model: Any) -> None:
    codec = EncodecCodec(model)
    samples = torch.randn(2, 1, 20 * HOP) * 0.1
    codes = codec.encode(samples)
    with torch.no_grad():
        wanted = model.encode(samples, bandwidth=1.2).audio_codes[0]
        sounded = model.decode(wanted[None], [None]).audio_values
    assert torch.equal(codes, wanted)
    assert torch.equal(codec.decode(codes), sounded)


def test_stereo_codebooks_alternate_left_and_right(model: Any) -> None:
    stereo, mono = EncodecCodec(model, audio_channels=2), EncodecCodec(model)
    samples = torch.randn(2, 2, 12 * HOP) * 0.1
    codes = stereo.encode(samples)
    assert torch.equal(codes[:, ::2], mono.encode(samples[:, :1]))
    assert torch.equal(codes[:, 1::2], mono.encode(samples[:, 1:]))
    sounded = stereo.decode(codes)
    assert torch.allclose(sounded[:, :1], mono.decode(codes[:, ::2]), atol=1e-6)
    assert torch.allclose(sounded[:, 1:], mono.decode(codes[:, 1::2]), atol=1e-6)


@pytest.mark.parametrize("samples", [1, HOP - 1, HOP, HOP + 1])
def test_a_begun_hop_is_a_frame(model: Any, samples: int) -> None:
    codec = EncodecCodec(model)
    codes = codec.encode(torch.randn(1, 1, samples))
    frames = -(-samples // HOP)
    assert codes.shape == (1, 4, frames)
    assert codec.decode(codes).shape == (1, 1, frames * HOP)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("channels", [1, 2])
def test_streaming_equals_the_whole_to_its_tolerance(causal: bool, channels: int) -> None:
    from transformers import EncodecConfig, EncodecModel

    torch.manual_seed(1)
    model = EncodecModel(EncodecConfig(**(SHAPE | {"use_causal_conv": causal})))
    with torch.no_grad():
        for layer in model.quantizer.layers:
            layer.codebook.embed.normal_()
    codec = EncodecCodec(model, audio_channels=channels)
    codes = random_codes(codec, 1, 200)
    whole = codec.decode(codes)
    decoder = StreamingDecoder(codec)
    parts = [decoder.push(part) for part in codes.split(30, -1)]
    joined = torch.cat([*parts, decoder.finish()], -1)
    assert joined.shape == whole.shape
    assert float((joined - whole).abs().max()) < 1e-4 * float(whole.abs().max())


def test_a_saved_folder_loads_and_its_faults_are_named(model: Any, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    codec = load_codec(tmp_path)
    codes = random_codes(EncodecCodec(model), 1, 6)
    assert torch.equal(codec.decode(codes), EncodecCodec(model).decode(codes))
    assert load_codec(tmp_path, audio_channels=2).num_codebooks == 8
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        load_codec(tmp_path)


def test_tensors_of_old_names_fit_and_missing_ones_are_named(model: Any) -> None:
    config = model.config.to_dict()
    tensors = {
        name.replace(".parametrizations.weight.original0", ".weight_g").replace(
            ".parametrizations.weight.original1", ".weight_v"
        ): tensor
        for name, tensor in model.state_dict().items()
    }
    codes = random_codes(EncodecCodec(model), 1, 6)
    built = encodec_from_tensors(config, tensors)
    assert torch.equal(built.decode(codes), EncodecCodec(model).decode(codes))
    del tensors["quantizer.layers.0.codebook.embed"]
    with pytest.raises(CheckpointError, match=r"quantizer\.layers\.0\.codebook\.embed is missing"):
        encodec_from_tensors(config, tensors)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"chunk_length_s": 1.0}, "chunk_length_s 1.0"),
        ({"normalize": True}, "normalize True"),
        ({"audio_channels": 2}, "audio_channels 2"),
        ({"model_type": "dac"}, "'dac'"),
    ],
)
def test_what_is_not_run_is_refused_by_name(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UnsupportedModelError, match=said):
        check_config({"model_type": "encodec", **SHAPE, **changes})


def test_wrong_shapes_and_values_are_refused(model: Any) -> None:
    codec = EncodecCodec(model, audio_channels=2)
    with pytest.raises(InputError, match=r"\[B, 2, M\]"):
        codec.encode(torch.zeros(1, 1, 100))
    with pytest.raises(InputError, match="nan"):
        codec.encode(torch.full((1, 2, 100), float("nan")))
    with pytest.raises(InputError, match=r"\[B, 8, T\]"):
        codec.decode(torch.zeros(1, 4, 3, dtype=torch.long))
    with pytest.raises(InputError, match="64"):
        codec.decode(torch.full((1, 8, 3), 64))
    with pytest.raises(UnsupportedModelError, match="3"):
        EncodecCodec(model, audio_channels=3)
