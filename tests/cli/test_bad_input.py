"""Whatever is asked for: one line, exit 2, and nothing written."""

import errno
import os
import shutil

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from musicgen_rl.audio import files
from musicgen_rl.audio.clip import Clip
from musicgen_rl.cli import main
from musicgen_rl.pipeline.core import Pipeline


@pytest.fixture
def no_model(monkeypatch):
    """Fail if the work starts although the request cannot be."""

    def load(*arguments, **more):
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(Pipeline, "load", load)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], ["no prompt"]),
        ([""], ["prompt is empty"]),
        (["ok", "  \n"], ["prompt 2 of 2 is empty"]),
        (["x" * 1_000_000], ["1000000 characters", "2000"]),
        (["a\0b"], ["not text"]),
        (["\udcff"], ["not text"]),
        (["x", "--duration", "nan"], ["duration", "nan"]),
        (["x", "--duration", "inf"], ["duration", "inf"]),
        (["x", "--duration", "-1"], ["duration", "-1.0"]),
        (["x", "--duration", "0"], ["duration", "0.0"]),
        (["x", "--duration", "86400"], ["duration", "600 s", "86400"]),
        (["x", "--duration", "ten"], ["--duration", "ten"]),
        (["x", "-n", "1000000"], ["clips_per_prompt", "1000000"]),
        (["x", "-n", "0"], ["clips_per_prompt", "0"]),
        (["x", "y", "-n", "900"], ["1800 clips", "1000"]),
        (["x", "--seed", "-1"], ["seed", "-1"]),
        (["x", "--seed", "1" * 30], ["seed"]),
        (["x", "--seed", "1" * 5000], ["seed"]),
        (["x", "--guidance", "nan"], ["guidance_scale", "nan"]),
        (["x", "--guidance", "-2"], ["guidance_scale", "-2"]),
        (["x", "--guidance", "1", "--negative-prompt", "y"], ["negative_prompt needs guidance"]),
        (["x", "--negative-prompt", "y" * 10**6], ["--negative-prompt", "1000000"]),
        (["x", "--temperature", "inf"], ["temperature", "inf"]),
        (["x", "--temperature", "-0.1"], ["temperature"]),
        (["x", "--top-k", "-1"], ["top_k", "-1"]),
        (["x", "--top-k", "1.5"], ["--top-k", "1.5"]),
        (["x", "--top-p", "0"], ["top_p", "0"]),
        (["x", "--top-p", "1.01"], ["top_p", "1.01"]),
        (["x", "--format", "aiff"], ["'aiff'", "wav, flac, ogg, mp3"]),
        (["x", "--loudness", "5"], ["target_lufs", "5"]),
        (["x", "--loudness", "nan"], ["target_lufs", "nan"]),
        (["x", "--loudness", "-20", "--no-loudness"], ["contradict"]),
        (["x", "-n", "2", "-o", "a.wav"], ["a.wav", "2 clips"]),
        (["x", "-o", "a.wav", "--format", "mp3"], ["a.wav", ".mp3"]),
        (["x", "-o", "a.m4a"], [".m4a"]),
        (["x", "-o", ""], ["output", "empty"]),
        (["x", "--continue-from", "nowhere.wav"], ["no audio file 'nowhere.wav'"]),
        (["x", "--device", "tpu9"], ["tpu9", "cpu"]),
        (["x", "--dtype", "fp64"], ["fp64", "int8"]),
        (["x", "--model", "nothing-here"], ["nothing-here", "MUSICGEN_RL_CHECKPOINTS"]),
        (["x", "--model", ""], ["model name"]),
        (["x", "--model", "m" * 5000], ["no model 'mmm"]),
        (["x", "--model", "~nobody-of-that-name/m"], ["~nobody-of-that-name"]),
        (["x", "--model", "no/such"], ["no/such", "pocket"]),
    ],
)
def test_what_cannot_be_is_refused(call, no_model, tmp_path, monkeypatch, arguments, says):
    monkeypatch.chdir(tmp_path)
    call("generate", *arguments).refused(*says)
    assert os.listdir(tmp_path) == []


def test_a_negative_prompt_needs_the_models_guidance(call, no_model, tiny_folder, tmp_path):
    done = call(
        "generate", "x", "--negative-prompt", "y", "--model", tiny_folder, "-o", tmp_path / "out"
    )
    done.refused("negative_prompt needs guidance")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"#!/bin/sh\necho not audio\n" * 50, "not a readable audio file"),
        (None, "cut off"),
    ],
)
def test_a_source_that_cannot_be_read(call, no_model, tmp_path, content, says):
    path = tmp_path / "source.wav"
    if content is None:
        Clip(np.zeros(8000, np.float32), 8000).save(path)
        content = path.read_bytes()[:5000]
    path.write_bytes(content)
    call("generate", "x", "--continue-from", path, "-o", tmp_path / "out").refused(says)
    assert os.listdir(tmp_path) == ["source.wav"]


def damaged(tiny_folder, folder, change):
    shutil.copytree(tiny_folder, folder)
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_a_model_without_a_tensor(call, tiny_folder, tmp_path):
    model = damaged(
        tiny_folder, tmp_path / "model", lambda t: t.pop("model.decoder.layers.1.fc1.weight")
    )
    done = call("generate", "x", "--model", model, "-o", tmp_path / "new" / "out")
    done.refused("layers.1.fc1.weight")
    assert os.listdir(tmp_path) == ["model"]


def test_a_model_with_a_misshapen_tensor(call, tiny_folder, tmp_path):
    name = "model.decoder.layers.0.fc2.weight"
    model = damaged(
        tiny_folder, tmp_path / "model",
        lambda t: t.__setitem__(name, t[name][:, :-1].contiguous()),
    )  # fmt: skip
    call("generate", "x", "--model", model, "-o", tmp_path / "out").refused("fc2", "(32, 47)")
    assert os.listdir(tmp_path) == ["model"]


def test_a_truncated_model(call, tiny_folder, tmp_path):
    model = shutil.copytree(tiny_folder, tmp_path / "model")
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    call("generate", "x", "--model", model, "-o", tmp_path / "out").refused("truncated")
    assert os.listdir(tmp_path) == ["model"]


@pytest.mark.parametrize("place", ["file/out", "file", "/proc/nowhere", "/dev/null/a", "x" * 300])
def test_a_place_that_cannot_be_written(call, no_model, tiny_folder, tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_bytes(b"mine")
    call("generate", "x", "--model", tiny_folder, "-o", place).refused("cannot write")
    assert os.listdir(tmp_path) == ["file"]
    assert (tmp_path / "file").read_bytes() == b"mine"


def test_a_full_disk_before_the_work(call, no_model, tiny_folder, tmp_path, monkeypatch):
    def full(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", full)
    call("generate", "x", "--model", tiny_folder, "-o", tmp_path / "out").refused("disk is full")
    assert os.listdir(tmp_path) == []


def test_a_disk_that_fills_up_during_the_work(call, tiny_folder, tmp_path, monkeypatch):
    real, calls = os.fsync, []

    def full_later(handle):
        calls.append(handle)
        if len(calls) > 6:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(handle)

    monkeypatch.setattr(files.os, "fsync", full_later)
    done = call(
        "generate", "x", "-n", "9", "--duration", "0.2", "--model", tiny_folder, "-o", tmp_path
    )
    assert done.code == 2
    assert done.err.splitlines()[-1].startswith("error: cannot write")
    assert "disk is full" in done.err
    assert 1 <= len(done.paths) < 9  # finished files stay, their paths were printed
    assert {p.name for p in done.paths} <= set(os.listdir(tmp_path))
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".part")]


def test_no_memory(call, tiny_folder, tmp_path, monkeypatch):
    from musicgen_rl.pipeline import devices

    monkeypatch.setattr(devices, "available_bytes", lambda device: 1000)
    done = call("generate", "x", "--model", tiny_folder, "-o", tmp_path / "out")
    done.refused("GB are free", "use a smaller model")
    assert os.listdir(tmp_path) == []


OPTIONS = [
    "-n", "--duration", "--seed", "--guidance", "--negative-prompt", "--temperature", "--top-k",
    "--top-p", "--continue-from", "--device", "--dtype", "--format", "--loudness", "--tempo",
]  # fmt: skip
NUMBERS = st.one_of(
    st.floats().map(str), st.integers().map(str), st.sampled_from(["nan", "-inf", "1e999", "0x10"])
)
VALUES = st.one_of(NUMBERS, st.text(max_size=30), st.sampled_from(["auto", "cpu", "fp32", "wav"]))


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    prompts=st.lists(st.text(max_size=40), max_size=3),
    options=st.lists(st.tuples(st.sampled_from(OPTIONS), VALUES), max_size=4),
)
def test_any_options_are_either_right_or_one_line(
    capsys, monkeypatch, tiny_folder, tmp_path, prompts, options
):
    from musicgen_rl.pipeline import files as pipeline_files

    class Loaded:
        dtype, device = "fp32", "cpu"

        def read_source(self, path):
            return None

    monkeypatch.setattr(Pipeline, "load", lambda *arguments, **more: Loaded())
    monkeypatch.setattr(pipeline_files, "generate_files", lambda *arguments, **more: iter(()))
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    flat = [part for name, value in options for part in (name, value)]
    code = main(["generate", "--model", str(tiny_folder), *flat, "--", *prompts])
    out, err = capsys.readouterr()
    assert code in (0, 2), err
    assert out == ""
    assert "Traceback" not in err
    assert len(err.splitlines()) == 1
    assert err.startswith("error: " if code else "seed ")
    assert os.listdir(tmp_path) == []
