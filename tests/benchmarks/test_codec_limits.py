"""The decoder alone learns, by what the measures hear; uncoded latents are no codes."""

from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile
import torch

from benchmarks.codec_limits import Heard, Uncoded, table, train_decoder
from musicgen_rl.training.codec_crops import AudioPool
from musicgen_rl.training.codec_report import ONSET_HOP
from tests.codec.tiny import sine, tiny_codec

RATE = 8000


def plucked(seconds: float = 4.0) -> torch.Tensor:
    fade = torch.linspace(1.0, 0.0, RATE // 2) ** 2
    return torch.cat(
        [sine(220.0 * 2 ** (n / 4), 0.5, RATE) * fade for n in range(round(2 * seconds))]
    )


def test_the_loss_is_of_what_librosa_hears() -> None:
    sound, heard = plucked(), Heard(RATE)
    wanted = librosa.onset.onset_strength(y=sound.numpy(), sr=RATE, hop_length=ONSET_HOP)
    found = heard.onsets(sound[None])[0].mean(0).numpy()
    late = 1 + 2048 // (2 * ONSET_HOP)  # librosa puts a rise at the middle of its window
    assert np.corrcoef(found[: len(wanted) - late], wanted[late:])[0, 1] > 0.999
    same, other = heard.loss(sound[None], sound[None]), heard.loss(sound.flip(0)[None], sound[None])
    assert same.item() == pytest.approx(0.0, abs=1e-4)
    assert other.item() > 0.5


def test_only_the_decoder_learns(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", plucked(8.0).numpy(), RATE)
    pool = AudioPool([tmp_path / "a.wav"], RATE, RATE)
    codec, before = tiny_codec(), tiny_codec().state_dict()
    said = train_decoder(codec, pool, 0.02, Heard(RATE))
    assert said["steps"] > 0
    changed = {
        name.split(".")[0] for name, value in codec.state_dict().items()
        if not torch.equal(value, before[name])
    }  # fmt: skip
    assert changed == {"decoder", "tone_head", "noise_head"}


def test_latents_are_sounded_before_they_are_coded() -> None:
    codec, sound = tiny_codec(), plucked(1.0)[None, None]
    uncoded = Uncoded(codec)
    codes = uncoded.encode(sound)
    assert torch.equal(codes, codec.encode(sound))
    made = uncoded.decode(codes)
    assert made.shape == codec.decode(codes).shape
    assert not torch.allclose(made, codec.decode(codes), atol=1e-3)
    codec.quantizer.entries.zero_()  # codes that say nothing
    assert torch.equal(uncoded.decode(codes), made)


def test_the_table_tells_what_was_measured() -> None:
    row = {"name": "as it is", "distance": 1.3, "chroma": 0.89, "onset_f1": 0.9,
           "chroma_interval": [0.88, 0.9]}  # fmt: skip
    trained = row | {"name": "decoder trained on", "steps": 7, "loss": [2.5, 2.25]}
    lines = table(
        {"clips": 5, "pieces": 5, "minutes": 2.0, "threads": 1, "rows": [row, trained]}
    ).splitlines()
    assert "| as it is | 1.300 | 0.890 (0.880 to 0.900) | 0.900 |  |  |" in lines
    assert lines[-1].endswith("| 7 | 2.500 to 2.250 |")
