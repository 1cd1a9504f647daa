import pytest
import torch
from torch import Tensor

from musicgen_rl.codec.frame import FrameCodec
from musicgen_rl.codec.streaming import StreamingDecoder
from musicgen_rl.errors import InputError
from tests.codec.tiny import TINY, random_codes, tiny_codec

HOP = TINY.hop_length


def stream(codec: FrameCodec, codes: Tensor, chunk: int) -> tuple[Tensor, list[int]]:
    decoder = StreamingDecoder(codec)
    parts = [decoder.push(part) for part in codes.split(chunk, -1)]
    parts.append(decoder.finish())
    return torch.cat(parts, -1), [part.shape[-1] for part in parts]


@pytest.mark.parametrize("chunk", [1, 3, 10, 37, 200])
def test_joined_chunks_equal_the_whole(chunk: int) -> None:
    codec = tiny_codec()
    codes = random_codes(codec, 2, 75)
    joined, _ = stream(codec, codes, chunk)
    whole = codec.decode(codes)
    assert joined.shape == whole.shape
    assert float((joined - whole).abs().max()) < 1e-5


def test_audio_comes_out_as_soon_as_it_is_final() -> None:
    codec = tiny_codec()
    _, after = codec.context_frames
    _, lengths = stream(codec, random_codes(codec, 1, 20), 1)
    assert lengths == [0] * after + [HOP] * (20 - after) + [after * HOP]


def test_a_tone_has_no_click_at_the_seams() -> None:
    """A click is a jump of the second difference; a sine's is bounded by its own curvature."""
    codec = tiny_codec(spread=0.0)
    chosen = int((codec.tone_hz - 300.0).abs().argmin())
    codec.sound.bias.fill_(-30.0)
    codec.sound.bias[chosen] = -1.0
    joined, _ = stream(codec, random_codes(codec, 1, 60), 7)
    tone = joined[0, 0, 3 * HOP : -3 * HOP]
    amplitude = torch.tensor(-1.0).exp()
    curvature = amplitude * (2 * torch.pi * codec.tone_hz[chosen] / TINY.sample_rate) ** 2
    assert float(tone.abs().max()) == pytest.approx(float(amplitude), rel=0.02)
    assert float(tone.diff().diff().abs().max()) < 1.05 * float(curvature)


@pytest.mark.parametrize("pushed", [0, 6, 30])
def test_last_codes_given_to_finish_are_decoded_once(pushed: int) -> None:
    codec = Counting(5, 2)
    codes = torch.arange(30).view(1, 1, 30)
    decoder = StreamingDecoder(codec)
    parts = [decoder.push(codes[..., :pushed])] if pushed else []
    before = codec.decoded
    parts.append(decoder.finish(codes[..., pushed:]))
    assert codec.decoded - before <= 30 - pushed + 5 + 2
    assert torch.equal(torch.cat(parts, -1), codec.decode(codes))
    with pytest.raises(InputError, match="finished"):
        decoder.finish(codes)


def test_only_the_context_is_kept() -> None:
    codec = tiny_codec()
    decoder = StreamingDecoder(codec)
    for part in random_codes(codec, 1, 400).split(5, -1):
        decoder.push(part)
        held = decoder._held
        assert held is not None
        assert held.shape[-1] <= sum(codec.context_frames)
        assert held.untyped_storage().nbytes() <= sum(codec.context_frames) * 3 * 8
    assert decoder.frames_played == 400 - codec.context_frames[1]


class Counting:
    """A codec without `decode_from` whose samples are a sum over the frames around them."""

    device = torch.device("cpu")
    sample_rate, hop_length, num_codebooks, codebook_size, audio_channels = 10, 2, 1, 99, 1

    def __init__(self, before: int, after: int) -> None:
        self.context_frames = (before, after)
        self.decoded = 0  # frames so far

    def encode(self, samples: Tensor) -> Tensor:
        raise NotImplementedError

    def decode(self, codes: Tensor) -> Tensor:
        self.decoded += codes.shape[-1]
        before, after = self.context_frames
        padded = torch.nn.functional.pad(codes.float(), (before, after))
        sums = padded.unfold(-1, before + after + 1, 1).sum(-1)  # [B, 1, T]
        return sums.repeat_interleave(2, -1)


@pytest.mark.parametrize(("before", "after"), [(0, 0), (3, 0), (0, 4), (5, 2)])
def test_any_codec_streams_by_its_context(before: int, after: int) -> None:
    codec = Counting(before, after)
    codes = torch.arange(30).view(1, 1, 30)
    decoder = StreamingDecoder(codec)
    parts = [decoder.push(part) for part in codes.split(4, -1)]
    parts.append(decoder.finish())
    assert torch.equal(torch.cat(parts, -1), codec.decode(codes))


def test_wrong_use_is_refused_by_name() -> None:
    codec = tiny_codec()
    decoder = StreamingDecoder(codec)
    with pytest.raises(InputError, match="push codes first"):
        decoder.finish()
    with pytest.raises(InputError, match=r"\[B, 3, t\]"):
        decoder.push(torch.zeros(1, 2, 4, dtype=torch.long))
    decoder.push(random_codes(codec, 2, 4))
    with pytest.raises(InputError, match="1 clips after codes of 2"):
        decoder.push(random_codes(codec, 1, 4))
    decoder.finish()
    with pytest.raises(InputError, match="finished"):
        decoder.push(random_codes(codec, 2, 4))
