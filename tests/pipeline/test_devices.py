"""What a GPU says of itself, and what is made of it."""

import pytest
import torch

from musicgen_rl.errors import MemoryLimitError
from musicgen_rl.pipeline import devices
from musicgen_rl.pipeline.parts import codec_bytes
from tests.pretended_gpu import GIB, pretended_gpus

GPU = torch.device("cuda:1")


@pytest.fixture
def gpu():
    with pretended_gpus(free=2 * GIB):
        yield


def test_what_torch_holds_and_does_not_use_is_free(gpu, monkeypatch):
    assert devices.available_bytes(GPU) == 2 * GIB
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 5 * GIB)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 4 * GIB)
    assert devices.available_bytes(GPU) == 3 * GIB


def test_what_will_be_given_back_counts(gpu):
    devices.require_memory(3 * GIB, GPU, "it", "wait", GIB)
    with pytest.raises(MemoryLimitError, match=r"it needs about 3\.2 GB, 2\.1 GB are free: wait"):
        devices.require_memory(3 * GIB, GPU, "it", "wait")


@pytest.mark.parametrize(("capability", "expected"), [((7, 5), "fp32"), ((8, 0), "bf16")])
def test_auto_is_bf16_only_where_it_is_multiplied_in_hardware(
    gpu, monkeypatch, capability, expected
):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert devices.choose_dtype("auto", GPU) == expected
    assert devices.choose_dtype("bf16", GPU) == "bf16"


def test_a_codec_needs_room_for_every_sample_that_it_decodes_at_once():
    class MusicGens:  # its EnCodec's shape, where 0.57 MB a frame were measured
        hop_length, audio_channels = 640, 1
        model = type("Net", (), {"config": type("Config", (), {"num_filters": 64})})

    assert codec_bytes(MusicGens(), 1) == pytest.approx(574_000, rel=0.01)
    assert codec_bytes(MusicGens(), 1000) == 1000 * codec_bytes(MusicGens(), 1)


@pytest.mark.gpu
def test_memory_that_a_tensor_gave_back_to_torch_is_free_again():
    gpu = torch.device("cuda:0")
    torch.empty(1, device=gpu)
    before = devices.available_bytes(gpu)
    tensor = torch.empty(1 << 28, device=gpu)
    assert devices.available_bytes(gpu) <= before - tensor.nbytes // 2
    del tensor
    assert devices.available_bytes(gpu) >= before - (1 << 24)
