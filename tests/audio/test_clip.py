import base64
import io

import numpy as np
import pytest
import soundfile

from musicgen_rl.audio.clip import Clip
from musicgen_rl.audio.io import read_audio
from musicgen_rl.errors import InputError


def test_a_clip_knows_its_length_and_channels():
    clip = Clip(np.zeros((2, 48000)), 32000)
    assert (clip.num_channels, clip.num_samples, clip.duration_s) == (2, 48000, 1.5)
    assert clip.samples.dtype == np.float32


def test_flat_samples_are_mono():
    assert Clip(np.zeros(10), 100).samples.shape == (1, 10)


@pytest.mark.parametrize(
    ("samples", "rate", "says"),
    [
        (np.zeros((3, 10)), 32000, r"1 or 2 channels, got shape \[3, 10\]"),
        (np.zeros((1, 2, 3)), 32000, "1 or 2 channels"),
        (np.array([0.0, np.nan]), 32000, "finite"),
        (np.array([0.0, np.inf]), 32000, "finite"),
        (np.zeros(10), 0, "above 0, got 0"),
        (np.zeros(10), 44100.5, "got 44100.5"),
        (np.zeros(10), True, "got True"),
    ],
)
def test_samples_that_are_no_clip_are_refused(samples, rate, says):
    with pytest.raises(InputError, match=says):
        Clip(samples, rate)


def test_codes_are_kept_as_whole_numbers_and_must_have_two_dimensions():
    assert Clip(np.zeros(4), 4, {}, np.ones((4, 2), dtype=np.int32)).codes.dtype == np.int64
    with pytest.raises(InputError, match=r"codes must be \[K, T\], got shape \[3\]"):
        Clip(np.zeros(4), 4, {}, np.ones(3))


def test_clips_are_equal_when_all_that_defines_them_is():
    samples = np.linspace(-0.5, 0.5, 20)
    clip = Clip(samples, 32000, {"seed": 1}, np.ones((2, 3)))
    assert clip == Clip(samples, 32000, {"seed": 1}, np.ones((2, 3)))
    assert clip == Clip(samples, 32000, {"seed": 1})  # no codes at hand says nothing against it
    assert clip != Clip(samples, 16000, {"seed": 1})
    assert clip != Clip(samples, 32000, {"seed": 2})
    assert clip != Clip(samples * 0.99, 32000, {"seed": 1})
    assert clip != Clip(samples, 32000, {"seed": 1}, np.zeros((2, 3)))
    assert clip != "a clip"
    with pytest.raises(TypeError):
        hash(clip)


def test_its_repr_is_one_line_without_samples():
    clip = Clip(np.zeros((2, 48000)), 32000, {"prompt": "slow piano"})
    assert repr(clip) == "Clip(1.50 s, 32000 Hz, stereo, prompt='slow piano')"


def test_a_notebook_gets_the_sound_itself_and_an_escaped_caption():
    rng = np.random.default_rng(0)
    clip = Clip(
        rng.uniform(-0.5, 0.5, (2, 3200)), 32000, {"prompt": "<script>x</script>", "seed": 7}
    )
    page = clip._repr_html_()
    data = base64.b64decode(page.split("base64,")[1].split('"')[0])
    played, rate = soundfile.read(io.BytesIO(data))
    assert rate == 32000
    np.testing.assert_allclose(played.T, clip.samples, atol=1 / 32768)
    assert "&lt;script&gt;" in page
    assert "<script>" not in page
    assert "seed 7" in page


def test_save_writes_settings_and_never_over_another_file(tmp_path):
    clip = Clip(np.full(100, 0.25), 32000, {"seed": 5})
    first = clip.save(tmp_path / "a.wav")
    second = clip.save(tmp_path / "a", format="wav")
    third = clip.save(tmp_path / "a.wav", overwrite=True)
    assert [p.name for p in (first, second, third)] == ["a.wav", "a-2.wav", "a.wav"]
    assert read_audio(second) == clip
