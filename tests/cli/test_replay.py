"""`replay` from the outside: exit statuses and sentences."""

import json
import os
import shutil

import numpy as np
import pytest

from musicgen_rl.audio.clip import Clip
from musicgen_rl.audio.io import read_audio
from musicgen_rl.audio.tags import MARK
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
        ["--format", "mp3"],
    ],
)
def test_identical_on_the_same_machine(call, clips, tiny_folder, arguments):
    for path in clips(*arguments):
        done = call("replay", path, "--model", tiny_folder)
        assert (done.code, done.out) == (0, "")
        assert done.err == "identical: all 20 frames have the tokens that the tags say\n"


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
