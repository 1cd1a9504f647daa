import time
from dataclasses import replace

import pytest
import torch

from musicgen_rl.checkpoint import checkpoints_folder
from musicgen_rl.codec.frame import FrameCodec, emphasize_changes
from musicgen_rl.codec.load import load_codec
from musicgen_rl.codec.spectral import PERIOD, TONE_PERIOD, magnitudes
from musicgen_rl.config import FrameCodecConfig
from musicgen_rl.errors import ConfigError, InputError
from tests.codec.tiny import TINY, random_codes, tiny_codec

HOP = TINY.hop_length


@pytest.mark.parametrize(("samples", "frames"), [(1, 1), (160, 1), (161, 2), (1600, 10)])
def test_encoding_gives_a_frame_for_each_begun_hop(samples: int, frames: int) -> None:
    codes = tiny_codec().encode(torch.randn(2, 1, samples) * 0.1)
    assert codes.shape == (2, 3, frames)
    assert 0 <= int(codes.min()) <= int(codes.max()) < 32


@pytest.mark.parametrize("frames", [0, 1, 7])
def test_decoding_gives_exactly_a_hop_for_each_frame(frames: int) -> None:
    codec = tiny_codec()
    samples = codec.decode(random_codes(codec, 2, frames))
    assert samples.shape == (2, 1, frames * HOP)
    assert samples.dtype == torch.float32


def test_it_tells_where_it_lies() -> None:
    codec = tiny_codec()
    assert codec.device == torch.device("cpu")
    assert codec.to(torch.device("meta")).device == torch.device("meta")


def test_decoding_agrees_with_the_sum_of_single_oscillators_and_noises() -> None:
    """Written out sample by sample for the tones, against the fast path."""
    codec = tiny_codec()
    N = len(codec.tone_hz)
    amplitudes = torch.rand(1, 6, N) * 0.1
    place = torch.arange(100, 106)[None]
    fast = codec._tones(amplitudes, place)[0]
    at = torch.arange(100 * HOP, 106 * HOP, dtype=torch.float64)
    fixed = torch.Generator().manual_seed(1)
    phase = torch.rand(N, generator=fixed, dtype=torch.float64) * 2 * torch.pi
    wanted = torch.zeros(6 * HOP, dtype=torch.float64)
    for frame in range(6):
        # Waves run in the clip's time, counted from the middle of each frame's hop.
        middle = (100 + frame) * HOP + HOP // 2
        inside = (at - middle).abs() <= HOP
        window = torch.where(inside, 0.5 + 0.5 * torch.cos(torch.pi * (at - middle) / HOP), 0.0)
        angle = 2 * torch.pi * codec.tone_hz.double()[:, None] * (at - HOP // 2) / TINY.sample_rate
        waves = (angle + phase[:, None]).cos()
        wanted += window * (amplitudes[0, frame].double()[:, None] * waves).sum(0)
    assert torch.allclose(fast.double(), wanted, atol=1e-4)


def test_equal_frames_sound_a_steady_tone_of_its_own_pitch() -> None:
    codec = tiny_codec()
    chosen = int((codec.tone_hz - 440.0).abs().argmin())
    amplitudes = torch.zeros(1, 60, len(codec.tone_hz))
    amplitudes[..., chosen] = 0.5
    tone = codec._tones(amplitudes, torch.arange(60)[None])[:, 5 * HOP : -5 * HOP]
    spectrum = magnitudes(tone, 4000, 4000)[0].mean(0)
    peak = int(spectrum.argmax())
    assert abs(peak * 2.0 - 440.0) <= 2.0  # bins are 2 Hz apart
    assert float(spectrum.max()) == pytest.approx(0.5, rel=0.1)
    far = torch.cat([spectrum[: peak - 4], spectrum[peak + 5 :]])
    assert float(far.max()) < 0.01 * float(spectrum.max())  # no comb of the frame rate


def test_equal_frames_sound_noise_that_does_not_repeat_within_a_second() -> None:
    codec = tiny_codec()
    levels = torch.full((1, 100, codec.noise_head.out_features), 0.1)
    noise = codec._noises(levels, torch.arange(100)[None])[0, HOP:-HOP]
    for lag in (HOP // 4, HOP, 2 * HOP, 50 * HOP):
        pair = torch.stack([noise[:-lag], noise[lag:]])
        assert abs(float(torch.corrcoef(pair)[0, 1])) < 0.2


def test_noise_levels_are_placed_within_the_frame() -> None:
    codec = tiny_codec()
    bands = codec.noise_head.out_features // 4
    levels = torch.zeros(1, 5, 4, bands)
    levels[0, 2, 3] = 1.0  # the last quarter of the third frame
    energy = codec._noises(levels.view(1, 5, -1), torch.arange(5)[None])[0].square()
    first = energy.view(20, HOP // 4).sum(-1)
    assert int(first.argmax()) == 11
    assert float(first[:10].sum() + first[13:].sum()) == pytest.approx(0.0, abs=1e-8)


def test_context_frames_is_the_exact_reach_of_a_code() -> None:
    codec = tiny_codec()
    before, after = codec.context_frames
    codes = random_codes(codec, 1, 40)
    changed = codes.clone()
    changed[:, :, 20] = (changed[:, :, 20] + 1) % TINY.codebook_size
    moved = (codec.decode(codes) - codec.decode(changed))[0, 0].abs().view(40, HOP).amax(-1)
    touched = (moved > 0).nonzero()[:, 0]
    # A frame hears `before` frames back, so the code is heard that far ahead, and vice versa.
    assert touched.min() >= 20 - after
    assert touched.max() <= 20 + before
    assert touched.min() <= 20 - after + 1
    assert touched.max() >= 20 + before - 1


def test_a_part_decoded_in_its_place_equals_the_whole() -> None:
    codec = tiny_codec()
    codes = random_codes(codec, 2, 60)
    whole = codec.decode(codes)
    before, after = codec.context_frames
    part = codec.decode_from(codes[..., 20:50], 20)
    inner = slice(before * HOP, (30 - after) * HOP)
    wanted = whole[..., (20 + before) * HOP : (50 - after) * HOP]
    assert torch.allclose(part[..., inner], wanted, atol=1e-5)
    elsewhere = codec.decode_from(codes[..., 20:50], 27)
    assert not torch.allclose(elsewhere[..., inner], wanted, atol=1e-3)


def test_places_repeat_after_the_period_and_not_before() -> None:
    codec = tiny_codec()
    codes = random_codes(codec, 1, 8)
    first = codec.decode_from(codes, 3)
    assert torch.equal(codec.decode_from(codes, 3 + PERIOD), first)
    assert not torch.equal(codec.decode_from(codes, 3 + TONE_PERIOD), first)


def test_rows_of_a_batch_do_not_touch_each_other() -> None:
    codec = tiny_codec()
    codes = random_codes(codec, 3, 12)
    alone = codec.decode(codes[1:2])
    assert torch.allclose(codec.decode(codes)[1:2], alone, atol=1e-5)


def test_a_louder_sound_is_heard_as_higher_features() -> None:
    codec = tiny_codec()
    quiet = torch.randn(1, 1600) * 0.01
    louder = codec.features(10 * quiet) - codec.features(quiet)
    assert float(louder.mean()) == pytest.approx(torch.tensor(10.0).log().item() / 2.5, rel=0.05)


@pytest.mark.parametrize(
    ("samples", "said"),
    [
        (torch.zeros(1, 2, 100), r"\[B, 1, M\]"),
        (torch.zeros(1, 1, 0), r"\[B, 1, M\]"),
        (torch.full((1, 1, 100), float("nan")), "nan"),
    ],
)
def test_what_cannot_be_encoded_is_refused(samples: torch.Tensor, said: str) -> None:
    with pytest.raises(InputError, match=said):
        tiny_codec().encode(samples)


@pytest.mark.parametrize(
    ("codes", "said"),
    [
        (torch.zeros(1, 4, 5, dtype=torch.long), r"\[B, 3, T\]"),
        (torch.full((1, 3, 5), 32), "0 to 32|32 to 32"),
        (torch.full((1, 3, 5), -1), "-1"),
    ],
)
def test_what_cannot_be_decoded_is_refused(codes: torch.Tensor, said: str) -> None:
    with pytest.raises(InputError, match=said):
        tiny_codec().decode(codes)


def test_a_hop_that_noise_cannot_be_cut_to_is_refused() -> None:
    with pytest.raises(ConfigError, match="hop_length 636"):
        FrameCodec(FrameCodecConfig(hop_length=636))


def test_its_shape_is_what_the_config_says() -> None:
    codec = tiny_codec()
    assert (codec.sample_rate, codec.hop_length, codec.audio_channels) == (8000, 160, 1)
    assert (codec.num_codebooks, codec.codebook_size) == (3, 32)


@pytest.mark.slow
@pytest.mark.parametrize("shipped", [False, True])
def test_ten_seconds_decode_within_three_tenths_of_a_second(shipped: bool) -> None:
    """Seconds of one core, other programs left out: the default shape, and pocket's codec."""
    folder = checkpoints_folder() / "pocket" / "codec"
    codec = load_codec(folder) if shipped else FrameCodec(FrameCodecConfig()).eval()
    assert isinstance(codec, FrameCodec)
    assert torch.get_num_threads() == 1
    codes = random_codes(codec, 1, 10 * codec.sample_rate // codec.hop_length)
    codec.decode(codes)
    took = []
    for _ in range(5):
        began = time.process_time()
        codec.decode(codes)
        took.append(time.process_time() - began)
    assert min(took) < 0.3


LONG = replace(TINY, hop_length=320)
"""Frames of 40 ms, so two parts a frame."""


def test_frames_of_two_parts_keep_length_reach_and_place() -> None:
    codec = tiny_codec(config=LONG)
    assert codec.parts == 2
    codes = random_codes(codec, 1, 40)
    whole = codec.decode(codes)
    assert whole.shape == (1, 1, 40 * 320)
    before, after = codec.context_frames
    part = codec.decode_from(codes[..., 9:35], 9)
    inner = part[..., before * 320 : (26 - after) * 320]
    wanted = whole[..., (9 + before) * 320 : (35 - after) * 320]
    assert torch.allclose(inner, wanted, atol=1e-5)
    assert codec.encode(torch.randn(1, 1, 641)).shape == (1, 3, 3)


def test_parts_hear_what_short_frames_hear() -> None:
    """Two parts of one long frame are two frames of the codec with half the hop."""
    long, short = tiny_codec(config=LONG), tiny_codec()
    samples = torch.randn(1, 3200) * 0.1
    heard = long.features(samples)
    assert heard.shape[1] == 10
    assert torch.equal(heard.reshape(1, 20, -1), short.features(samples))
    levels = torch.rand(1, 20, len(long.tone_hz)) * 0.1
    place = torch.arange(20)[None]
    assert torch.equal(long._tones(levels, place), short._tones(levels, place))


def test_changes_from_frame_to_frame_are_made_larger_and_what_stands_is_left() -> None:
    latents = torch.tensor([[0.0], [0.0], [2.0], [2.0], [2.0]])[None]
    moved = emphasize_changes(latents, 0.2)
    assert moved[0, :, 0].tolist() == pytest.approx([0.0, -0.2, 2.2, 2.0, 2.0])
    assert torch.equal(emphasize_changes(latents[:, :1], 0.2), latents[:, :1])


def test_codes_are_of_changes_made_larger() -> None:
    codec = tiny_codec()
    samples = torch.randn(2, 1, 3000, generator=torch.Generator().manual_seed(3))
    latents = codec.latents(samples[:, 0])
    wanted = codec.quantizer.encode(emphasize_changes(latents))
    assert torch.equal(codec.encode(samples), wanted)
    assert not torch.equal(codec.quantizer.encode(latents), wanted)
