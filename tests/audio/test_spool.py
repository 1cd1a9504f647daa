import errno
import os

import numpy as np
import pytest

from musicgen_rl.audio.clip import Clip
from musicgen_rl.audio.io import read_audio, read_tags, write_clip
from musicgen_rl.audio.loudness import LoudnessConfig, level, loudness_gain
from musicgen_rl.audio.spool import Spool
from musicgen_rl.errors import StorageError

RATE = 8000


def music(seconds: float, channels: int = 1, seed: int = 0) -> np.ndarray:
    g = np.random.default_rng(seed)
    t = np.arange(round(seconds * RATE)) / RATE
    tone = np.sin(2 * np.pi * 220 * t) * (0.2 + 0.1 * np.sin(2 * np.pi * 0.7 * t))
    return (tone + g.normal(0, 0.02, (channels, len(t)))).astype(np.float32)


def spooled(folder, samples, config, format="wav", chunk=1717, **more):
    with Spool(folder, RATE, samples.shape[0], config) as spool:
        for start in range(0, samples.shape[1], chunk):
            spool.push(samples[:, start : start + chunk])
        gain = spool.gain()
        return spool.finish(folder / f"a.{format}", format, {"seed": 1}, **more), gain


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("seconds", [0.1, 0.7, 25.0])
def test_the_gain_is_that_of_the_clip_held_whole(tmp_path, seconds, channels):
    samples = music(seconds, channels)
    config = LoudnessConfig()
    _, gain = spooled(tmp_path, samples, config)
    assert gain == pytest.approx(loudness_gain(samples, RATE, config), rel=1e-4)


def test_parts_without_samples_change_nothing(tmp_path):
    samples, config = music(0.7), LoudnessConfig()
    whole, gain = spooled(tmp_path, samples, config)
    with Spool(tmp_path, RATE, 1, config) as spool:
        for part in (samples[:, :0], samples, samples[:, :0]):
            spool.push(part)
        assert spool.gain() == gain
        path = spool.finish(tmp_path / "b.wav", "wav", {"seed": 1})
    np.testing.assert_array_equal(read_audio(path).samples, read_audio(whole).samples)


@pytest.mark.parametrize("format", ["wav", "flac", "ogg", "mp3"])
def test_the_file_is_the_one_written_whole(tmp_path, format):
    samples, config = music(20.0), LoudnessConfig()
    path, _ = spooled(tmp_path, samples, config, format)
    whole = write_clip(
        Clip(level(samples, RATE, config), RATE, {"seed": 1}), tmp_path / f"b.{format}"
    )
    ours, theirs = read_audio(path).samples, read_audio(whole).samples
    assert ours.shape == theirs.shape == samples.shape
    assert np.abs(ours - theirs).max() < 1e-3
    assert read_tags(path) == {"seed": 1}


def test_the_peak_across_a_seam_is_seen(tmp_path):
    samples = np.zeros((1, 4000), np.float32)
    samples[:, 1716:1718] = 0.9  # two samples whose waveform rises between them
    config = LoudnessConfig(enabled=False)
    _, gain = spooled(tmp_path, samples, config, chunk=1717)
    assert gain == pytest.approx(loudness_gain(samples, RATE, config), rel=1e-3)
    assert gain < 1


def test_silence_is_left_alone(tmp_path):
    path, gain = spooled(tmp_path, np.zeros((1, RATE), np.float32), LoudnessConfig())
    assert gain == 1.0
    assert not read_audio(path).samples.any()


def test_a_folder_that_is_not_there_is_made(tmp_path):
    folder = tmp_path / "a" / "b"
    path, _ = spooled(folder, music(0.5), LoudnessConfig())
    assert os.listdir(folder) == [path.name]


def test_only_the_finished_file_stays(tmp_path):
    path, _ = spooled(tmp_path, music(1.0), LoudnessConfig())
    second, _ = spooled(tmp_path, music(1.0), LoudnessConfig())
    assert sorted(os.listdir(tmp_path)) == ["a-2.wav", "a.wav"]
    assert (path.name, second.name) == ("a.wav", "a-2.wav")


def test_a_disk_that_fills_up_is_a_sentence_and_leaves_nothing(tmp_path, monkeypatch):
    def full(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with Spool(tmp_path, RATE, 1, LoudnessConfig()) as spool:
        spool.push(music(1.0))
        monkeypatch.setattr("musicgen_rl.audio.files.os.fsync", full)
        with pytest.raises(StorageError, match="disk is full"):
            spool.finish(tmp_path / "a.wav", "wav", {})
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("format", ["wav", "flac", "ogg", "mp3"])
def test_a_file_that_may_not_grow_is_a_storage_error_in_every_format(tmp_path, format):
    import resource

    with Spool(tmp_path, RATE, 1, LoudnessConfig()) as spool:
        spool.push(np.random.default_rng(0).normal(0, 0.2, (1, 40000)).astype(np.float32))
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (3000, hard))
        try:
            with pytest.raises(StorageError, match="larger than the system allows"):
                spool.finish(tmp_path / f"a.{format}", format, {})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert os.listdir(tmp_path) == []
