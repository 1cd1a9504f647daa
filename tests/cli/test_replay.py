"""`replay` from the outside: exit statuses and sentences."""

import json
import os
import shutil

import numpy as np
import pytest

from musicgen_rl.audio.clip import Clip
from musicgen_rl.audio.io import read_audio
from musicgen_rl.audio.tags import MARK
from musicgen_rl.pipeline import Pipeline
from tests.models import save_tiny


@pytest.fixture
def clips(call, tiny_folder, tmp_path):
    """Generate on the tiny model; returns the files."""

    def _clips(*arguments):
        done = call(
            "generate", "slow piano", "--duration", "0.4", "--seed", "7", "--model", tiny_folder,
            "-o", tmp_path / "out", *arguments,
        )  # fmt: skip
        assert done.code == 0, done.err
        return done.paths

    return _clips


def edit(path, **changes):
    """Change the settings in a wav file, as somebody with an editor of tags would."""
    clip = read_audio(path)
    new = path.with_name(f"edited-{path.name}")
    data = path.read_bytes()
    old = json.dumps(clip.settings, separators=(",", ":")).encode()
    assert data.count(MARK.encode() + old) == 1
    settings = clip.settings | changes
    type(clip)(clip.samples, clip.sample_rate, settings).save(new)
    return new


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["-n", "3"],
        ["--guidance", "3"],
        ["--guidance", "3", "--negative-prompt", "noise", "-n", "2"],
        ["--dtype", "fp32"],
        ["--format", "flac"],
        ["--format", "ogg"],
        ["--format", "mp3"],
        ["--no-loudness"],
    ],
)
def test_identical_on_the_same_machine(call, clips, tiny_folder, arguments):
    for path in clips(*arguments):
        done = call("replay", path, "--model", tiny_folder)
        assert (done.code, done.out) == (0, "")
        assert done.err == (
            "identical: all 20 frames have the tokens that the tags say, and the file sounds as "
            "they do\n"
        )


def test_the_new_file_is_written_only_when_asked_for(call, clips, tiny_folder, tmp_path):
    (path,) = clips()
    call("replay", path, "--model", tiny_folder)
    assert len(os.listdir(path.parent)) == 1
    done = call("replay", path, "--model", tiny_folder, "-o", tmp_path / "again.flac")
    assert done.paths == [tmp_path / "again.flac"]
    a, b = read_audio(path), read_audio(done.paths[0])
    assert np.abs(a.samples - b.samples).max() < 1.1 / 32768  # one step of 16 bits
    assert a.settings["codes_sha256"] == b.settings["codes_sha256"]
    assert call("replay", done.paths[0], "--model", tiny_folder).code == 0


def test_the_model_is_found_by_its_name(call, clips, tiny_folder, tmp_path, monkeypatch):
    (path,) = clips()
    call("replay", path).refused("'tiny'", "--model")
    from musicgen_rl.checkpoint import checkpoints_folder

    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "tiny").symlink_to(tiny_folder)
    (tmp_path / "models" / "minilm").symlink_to(checkpoints_folder() / "minilm")
    monkeypatch.setenv("MUSICGEN_RL_CHECKPOINTS", str(tmp_path / "models"))
    assert call("replay", path).code == 0


def test_tags_cannot_start_a_download_or_name_a_folder(call, clips, tiny_folder, monkeypatch):
    (path,) = clips()
    for name in ("facebook/musicgen-small", str(tiny_folder), "../tiny"):
        call("replay", edit(path, model=name)).refused("--model")


def test_a_changed_model_is_refused(call, clips, tmp_path):
    (path,) = clips()
    other = save_tiny(tmp_path / "other", seed=1)
    call("replay", path, "--model", other).refused("sha256", "--model")


def test_an_edited_prompt_differs_from_the_first_frames_on(call, clips, tiny_folder):
    done = call("replay", edit(clips()[0], prompt="fast drums"), "--model", tiny_folder)
    assert done.code == 1
    assert done.err.startswith("different: frame ")
    assert "the tags were edited" in done.err
    assert done.err.count("\n") == 1


def silenced(samples, rate):
    samples[:, round(0.2 * rate) :] = 0.0
    return samples


def test_a_rounding_in_16_bits_is_the_same_sound(call, clips, tiny_folder):
    (path,) = clips()
    clip = read_audio(path)
    noise = np.random.default_rng(0).uniform(-1, 1, clip.samples.shape) / 32768
    path.unlink()
    Clip(np.clip(clip.samples + noise, -1, 1), clip.sample_rate, clip.settings).save(path)
    assert call("replay", path, "--model", tiny_folder).code == 0


@pytest.mark.parametrize("format", ["wav", "ogg"])
@pytest.mark.parametrize(
    ("change", "rate", "from_s"),
    [
        (silenced, 1, "0.20"),
        (lambda samples, rate: samples[:, : round(0.3 * rate)], 1, "0.30"),
        (lambda samples, rate: np.concatenate([samples, samples], 1), 1, "0.40"),
        (lambda samples, rate: samples[:, ::-1], 1, "0.00"),
        (lambda samples, rate: np.concatenate([samples, samples]), 1, "0.00"),  # stereo now
        (lambda samples, rate: samples, 2, "0.00"),
    ],
)
def test_sound_changed_under_the_tags_differs(
    call, clips, tiny_folder, tmp_path, format, change, rate, from_s
):
    (path,) = clips("--format", format)
    clip = read_audio(path)
    samples = change(clip.samples.copy(), clip.sample_rate)
    changed = Clip(samples, clip.sample_rate * rate, clip.settings).save(tmp_path / f"a.{format}")
    done = call("replay", changed, "--model", tiny_folder, "-o", tmp_path / f"b.{format}")
    assert done.code == 1
    assert done.err.startswith("different: all 20 frames have the tokens that the tags say, but ")
    assert f"from {from_s} s on the file sounds otherwise" in done.err
    assert call("replay", done.paths[0], "--model", tiny_folder).code == 0  # as it was


def test_what_was_streamed_has_other_gains_and_is_the_same(call, tiny_folder, tmp_path):
    pipeline = Pipeline.load(tiny_folder, device="cpu", dtype="fp32")
    parts = list(pipeline.stream("slow piano", duration_s=4.0, seed=7))
    samples = np.concatenate([part.samples for part in parts], axis=1)
    samples = samples * np.geomspace(0.25, 1.0, samples.shape[1])  # a gain that moves a lot more
    for format in ("wav", "ogg"):
        path = Clip(samples, pipeline.sample_rate, parts[-1].settings).save(
            tmp_path / f"a.{format}"
        )
        done = call("replay", path, "--model", tiny_folder)
        assert done.code == 0, done.err


@pytest.mark.parametrize("lost", [20, 500, 900, 3000])  # of the tags; of the sound too
def test_a_file_cut_off_is_refused_before_any_work(call, clips, tiny_folder, lost):
    (path,) = clips()
    path.write_bytes(path.read_bytes()[:-lost])
    call("replay", path, "--model", tiny_folder).refused("is cut off")
    call("info", path).refused("is cut off")


def test_another_dtype_is_named_as_the_reason(call, clips, tiny_folder):
    (path,) = clips("--dtype", "fp32", "--duration", "3")  # long enough for a rounding to show
    done = call("replay", path, "--model", tiny_folder, "--dtype", "bf16")
    assert done.code == 1
    assert "dtype was fp32, here it is bf16" in done.err


def test_a_device_that_is_not_here_is_replaced_and_said(call, clips, tiny_folder):
    (path,) = clips("--dtype", "fp32")
    done = call("replay", edit(path, device="cuda:7"), "--model", tiny_folder)
    assert done.code == 0
    assert done.err.startswith("made on cuda:7, which cannot be had here")


def test_edited_beyond_sense(call, clips, tiny_folder):
    (path,) = clips()
    call("replay", edit(path, seed=-5), "--model", tiny_folder).refused("seed", "edited")


def test_a_continuation_finds_its_source_beside_it(call, clips, tiny_folder, tmp_path):
    (first,) = clips("--dtype", "fp32")
    (second,) = clips("--dtype", "fp32", "--continue-from", first)
    assert call("replay", second, "--model", tiny_folder).code == 0
    moved = shutil.copy(second, tmp_path / "moved.wav")
    call("replay", moved, "--model", tiny_folder).refused(first.name, "--continue-from")
    done = call("replay", moved, "--model", tiny_folder, "--continue-from", first)
    assert done.code == 0
    tone = np.sin(np.arange(8000) / 9).astype(np.float32) * 0.3
    other = Clip(tone, 8000).save(tmp_path / "tone.wav")
    done = call("replay", moved, "--model", tiny_folder, "--continue-from", other)
    done.refused("other codes")
    done = call("replay", first, "--model", tiny_folder, "--continue-from", other)
    done.refused("does not go on")


def test_files_without_our_tags_are_refused(call, tmp_path):
    path = Clip(np.zeros(800, np.float32), 8000).save(tmp_path / "foreign.wav")
    call("replay", path).refused("carries no musicgen-rl settings")
    call("replay", tmp_path / "none.wav").refused("no audio file")
    (tmp_path / "text.wav").write_text("hello")
    call("replay", tmp_path / "text.wav").refused("not a readable audio file")
    call("replay", tmp_path).refused("cannot read")
