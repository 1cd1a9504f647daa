import json
import os

import numpy as np
import pytest
import soundfile

from musicgen_rl.audio.clip import Clip
from musicgen_rl.audio.io import (
    FORMATS,
    LARGEST_BYTES,
    encode_clip,
    read_audio,
    read_tags,
    resolve_format,
    write_clip,
)
from musicgen_rl.errors import AudioFileError, ConfigError, InputError

RATE = 32000


def noise(num_samples: int, channels: int = 1, rate: int = RATE) -> np.ndarray:
    """Low-passed noise: every shift of it is told apart, and lossy codecs keep it."""
    rng = np.random.default_rng(num_samples)
    raw = rng.standard_normal((channels, num_samples + 7))
    smooth = np.lib.stride_tricks.sliding_window_view(raw, 8, axis=1).mean(axis=2)
    return np.clip(smooth * 0.5, -0.9, 0.9).astype(np.float32)


def big_settings(size: int) -> dict:
    settings = {
        "prompt": 'sad piano, 钢琴, 🎹, é \n \x00 \u202e "quotes" and {braces}',
        "seed": 2**63 - 1,
        "guidance_scale": 3.0000000001,
        "versions": {"torch": "2.13.0"},
        "null": None,
        "list": [True, 1, 0.1],
        "weights_license": "CC-BY 4.0 — ©",
    }
    return settings | {"filler": "x" * max(0, size - len(json.dumps(settings)))}


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("size", [10, 1900, 8192, 65536])
def test_all_settings_survive_in_the_files_own_tags(tmp_path, format, size):
    clip = Clip(noise(3200), RATE, big_settings(size))
    path = write_clip(clip, tmp_path / f"a.{format}")
    assert read_tags(path) == clip.settings
    assert read_audio(path).settings == clip.settings


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("num_samples", [1, 100, 1151, 1152, 5000, 70001])
def test_a_file_is_as_long_as_the_clip_to_the_sample(tmp_path, format, channels, num_samples):
    clip = Clip(noise(num_samples, channels), RATE, {"seed": 1})
    back = read_audio(write_clip(clip, tmp_path / f"a.{format}"))
    assert back.samples.shape == (channels, num_samples)
    assert back.sample_rate == RATE


@pytest.mark.parametrize("format", ["ogg", "mp3"])
@pytest.mark.parametrize("rate", [16000, 32000, 48000])
def test_lossy_files_are_not_shifted(tmp_path, format, rate):
    clip = Clip(noise(rate // 2), rate, {})
    back = read_audio(write_clip(clip, tmp_path / f"a.{format}")).samples[0]
    middle = clip.samples[0, 2000:6000]
    scores = [float(np.dot(middle, back[2000 + lag : 6000 + lag])) for lag in range(-1200, 1200)]
    assert int(np.argmax(scores)) - 1200 == 0
    assert np.corrcoef(clip.samples[0], back)[0, 1] > 0.98


@pytest.mark.parametrize("format", ["wav", "flac"])
@pytest.mark.parametrize("bits", [16, 24])
def test_lossless_files_keep_the_bits_asked_for(tmp_path, format, bits):
    clip = Clip(noise(5000, 2), RATE, {})
    path = write_clip(clip, tmp_path / f"a.{format}", bits=bits)
    error = np.abs(read_audio(path).samples - clip.samples).max()
    assert 0.2 * 2.0**-bits < error <= 2.0 ** (1 - bits)
    assert soundfile.info(path).subtype == f"PCM_{bits}"


@pytest.mark.parametrize("format", FORMATS)
def test_other_programs_read_the_title(tmp_path, format):
    path = write_clip(Clip(noise(3200), RATE, {"prompt": "钢琴 é"}), tmp_path / f"a.{format}")
    with soundfile.SoundFile(path) as file:
        assert file.title == "钢琴 é"
        assert "musicgen-rl" in file.software
        assert "Made by a model" in file.comment


def test_full_scale_is_written_and_more_is_refused(tmp_path):
    square = np.tile([1.0, -1.0], 100)
    back = read_audio(write_clip(Clip(square, RATE), tmp_path / "a.wav"))
    np.testing.assert_allclose(back.samples[0], square, atol=1 / 32768)  # and no wrap-around
    with pytest.raises(InputError, match=r"peaks at 1\.25.*level it first"):
        write_clip(Clip(square * 1.25, RATE), tmp_path / "b.wav")
    with pytest.raises(InputError, match="without samples"):
        write_clip(Clip(np.zeros((1, 0)), RATE), tmp_path / "b.wav")
    assert not (tmp_path / "b.wav").exists()


def test_a_format_that_cannot_hold_the_rate_says_so(tmp_path):
    with pytest.raises(ConfigError, match="mp3 cannot hold 50000 Hz: choose wav or flac"):
        write_clip(Clip(noise(100), 50000), tmp_path / "a.mp3")


@pytest.mark.parametrize(
    ("path", "format", "result"),
    [
        ("a.wav", None, ("a.wav", "wav")),
        ("a.OGG", None, ("a.OGG", "ogg")),
        ("a", "mp3", ("a.mp3", "mp3")),
        ("take.2", "flac", ("take.2.flac", "flac")),
        ("a.mp3", "mp3", ("a.mp3", "mp3")),
    ],
)
def test_the_format_follows_from_path_and_wish(path, format, result):
    found, name = resolve_format(path, format)
    assert (str(found), name) == result


@pytest.mark.parametrize(
    ("path", "format", "says"),
    [
        ("a", None, r"cannot tell the audio format of 'a': end it in \.wav"),
        ("a.aac", None, "a.aac"),
        ("a", "aac", "unknown format 'aac': use wav, flac, ogg, mp3"),
        ("a.wav", "mp3", r"does not end in \.mp3"),
    ],
)
def test_a_format_in_doubt_is_refused(path, format, says):
    with pytest.raises(ConfigError, match=says):
        resolve_format(path, format)


def test_bits_and_format_are_checked_before_encoding():
    with pytest.raises(ConfigError, match="bits must be 16 or 24, got 8"):
        encode_clip(Clip(noise(10), RATE), "wav", bits=8)
    with pytest.raises(ConfigError, match="unknown format 'aiff'"):
        encode_clip(Clip(noise(10), RATE), "aiff")


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("fraction", [0.01, 0.5, 0.9, 0.99])
def test_a_file_cut_off_is_refused_by_name(tmp_path, format, fraction):
    data = encode_clip(Clip(noise(96000), RATE, {}), format)
    if format == "wav":
        data = data[: data.rindex(b"LIST")]  # so that 0.99 cuts into the samples
    path = tmp_path / f"cut.{format}"
    path.write_bytes(data[: int(len(data) * fraction)])
    with pytest.raises(AudioFileError, match=r"cut\.\w+") as raised:
        read_audio(path)
    assert "\n" not in str(raised.value)


def test_an_ogg_that_ends_inside_its_last_page_is_refused_wherever_it_ends(tmp_path):
    data = encode_clip(Clip(noise(32000), RATE, {}), "ogg")
    last = data.rindex(b"OggS")
    path, table = tmp_path / "cut.ogg", data[last + 26]
    assert table > 4
    header = range(4, 28)  # of the page, which ends with how many segments are listed behind it
    for kept in (*header, 28, 27 + table - 1, 27 + table, len(data) - last - 1):
        path.write_bytes(data[: last + kept])
        with pytest.raises(AudioFileError, match="is cut off"):
            read_audio(path)
    path.write_bytes(data)
    assert read_audio(path).num_samples == 32000


def test_files_that_are_no_audio_are_refused_by_name(tmp_path):
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "text.wav").write_text("not audio at all, but long enough to be looked at" * 10)
    (tmp_path / "folder.wav").mkdir()
    for name, says in [
        ("none.wav", "there is no audio file"),
        ("empty.wav", "is empty"),
        ("text.wav", "not a readable audio file"),
        ("folder.wav", "Is a directory"),
    ]:
        with pytest.raises(AudioFileError, match=says) as raised:
            read_audio(tmp_path / name)
        assert name in str(raised.value)
        with pytest.raises(AudioFileError, match=says):
            read_tags(tmp_path / name)


def test_what_has_no_end_is_refused_before_it_is_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "vast.wav").open("wb") as file:
        file.truncate(LARGEST_BYTES + 1)  # a hole: it takes no room on the disk
    for path, says in [
        ("/dev/zero", "'/dev/zero' is a device"),
        (tmp_path / "pipe", "or a pipe: give a file"),
        (tmp_path / "vast.wav", "2.0 GB, more than 2"),
    ]:
        with pytest.raises(AudioFileError, match=says):
            read_audio(path)
        with pytest.raises(AudioFileError, match=says):
            read_tags(path)


def test_a_path_with_a_nul_is_an_audio_file_error():
    with pytest.raises(AudioFileError, match="cannot read"):
        read_audio("a\0b.wav")


def test_foreign_audio_is_read_without_settings(tmp_path):
    wave = noise(4000, 2, 44100)
    soundfile.write(tmp_path / "foreign.wav", wave.T, 44100, subtype="FLOAT")
    clip = read_audio(tmp_path / "foreign.wav")
    np.testing.assert_array_equal(clip.samples, wave)
    assert (clip.sample_rate, clip.settings) == (44100, {})
    with pytest.raises(AudioFileError, match=r"foreign\.wav.*carries no musicgen-rl settings"):
        read_tags(tmp_path / "foreign.wav")


def test_foreign_audio_that_is_no_clip_is_refused(tmp_path):
    soundfile.write(tmp_path / "six.wav", np.zeros((100, 6)), 48000)
    soundfile.write(tmp_path / "none.wav", np.zeros((0, 1)), 48000)
    soundfile.write(tmp_path / "nan.wav", np.array([0.0, np.nan]), 48000, subtype="FLOAT")
    for name, says in [
        ("six.wav", "has 6 channels"),
        ("none.wav", "holds no sound"),
        ("nan.wav", "nan or infinite"),
    ]:
        with pytest.raises(AudioFileError, match=says):
            read_audio(tmp_path / name)


def test_a_wav_streamed_to_a_pipe_is_not_called_cut_off(tmp_path):
    data = bytearray(encode_clip(Clip(noise(4000), RATE, {}), "wav"))
    data = data[: data.rindex(b"LIST")]
    at = data.index(b"data")
    data[at + 4 : at + 8] = b"\xff\xff\xff\xff"
    (tmp_path / "pipe.wav").write_bytes(data)
    assert read_audio(tmp_path / "pipe.wav").num_samples == 4000


def test_damaged_settings_name_the_file(tmp_path):
    data = encode_clip(Clip(noise(1000), RATE, {"seed": 7}), "wav")
    (tmp_path / "hurt.wav").write_bytes(data.replace(b'{"seed":7}', b'{"seed":7 '))
    with pytest.raises(AudioFileError, match=r"hurt\.wav.*damaged"):
        read_tags(tmp_path / "hurt.wav")


def test_a_long_ogg_does_not_kill_the_encoder(tmp_path):
    # libvorbis overruns its stack when given minutes in one write; blocks keep it alive.
    clip = Clip(noise(RATE * 40), RATE, {})
    assert read_audio(write_clip(clip, tmp_path / "long.ogg")).num_samples == RATE * 40
