"""Going on from audio that is there already."""

import hashlib
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from musicgen_rl.audio.clip import Clip
from musicgen_rl.audio.io import read_audio
from musicgen_rl.audio.tempo import hear_tempo, next_beat
from musicgen_rl.checkpoint.holds import BEAT, CHORDS, KEY
from musicgen_rl.codec.base import Codec
from musicgen_rl.data.chords import Progression, read_progression
from musicgen_rl.data.keys import Key, read_key
from musicgen_rl.errors import AudioFileError, ConfigError, InputError
from musicgen_rl.lm.beat import Beat
from musicgen_rl.lm.chords import Chart
from musicgen_rl.pipeline.request import MAX_TEMPO_BPM, MIN_TEMPO_BPM

HEARD_S = 20.0
"""Of its end that its tempo is heard in, seconds."""
_FADE_S = 0.03  # from the source to its own reconstruction, just before the new music starts


@dataclass(frozen=True)
class HeldChords:
    """Chords that a clip was held to, and how far it came."""

    progression: Progression
    """Comes round and round."""
    beats_per_bar: int
    """Quarter notes."""
    passed: int
    """Beats of it that were over at the clip's first beat."""
    bpm: float
    """Tempo, beats a minute."""
    seconds: float
    """From the clip's first beat to its end."""


@dataclass(frozen=True)
class Source:
    """A clip to go on from, in the codec's terms.

    Made by `Source.read`. The end of the source is decoded again together with the new codes, so
    that the codec sees no seam; the last `_FADE_S` of the source are faded into that.
    """

    samples: NDArray[np.float32]
    """[C, M] at the codec's rate, all of it."""
    codes: Tensor
    """[1, K, P], its last frames."""
    name: str
    """File name, for the tags; empty for a clip from memory."""
    fade: int
    """Samples over which the source is faded into its reconstruction."""
    hop_length: int
    sample_rate: int
    """Hz."""
    held_bpm: float | None = None
    """Tempo that it was held to, as its settings say, beats a minute."""
    held_key: Key | None = None
    """Key that it was held to, as its settings say."""
    held_chords: "HeldChords | None" = None
    """Chords that it was held to, as its settings say."""
    _beats: dict[float, float | None] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def read(
        cls, source: Clip | str | Path, codec: Codec, device: torch.device, most_frames: int
    ) -> "Source":
        """Read, resample and encode a source.

        Args:
            source: a clip or an audio file.
            codec: the model's.
            device: where the codec runs.
            most_frames: frames from its end that the LM will be shown.

        Raises:
            AudioFileError: it is not audio, or shorter than a tenth of a second.
            InputError: it is neither a clip nor a path.
        """
        if not isinstance(source, Clip | str | os.PathLike):
            raise InputError(
                f"what to go on from is a Clip or the path of an audio file, got "
                f"{type(source).__name__}: make samples a clip, Clip(samples, sample_rate)"
            )
        clip = source if isinstance(source, Clip) else read_audio(source)
        name = "" if isinstance(source, Clip) else Path(source).name
        samples = _with_channels(clip.samples, codec.audio_channels)
        if clip.sample_rate != codec.sample_rate:
            samples = librosa.resample(
                samples, orig_sr=clip.sample_rate, target_sr=codec.sample_rate
            )
        if samples.shape[1] < codec.sample_rate // 10:
            raise AudioFileError(
                f"{name or 'the clip'} lasts {clip.duration_s:.2f} s: to go on from it there must "
                "be at least 0.1 s"
            )
        hop = codec.hop_length
        frames = min(samples.shape[1] // hop, most_frames)
        # Ends on the source's last sample: what does not fill a frame is missing at the front.
        tail = np.ascontiguousarray(samples[:, samples.shape[1] - frames * hop :])
        with torch.inference_mode():
            codes = codec.encode(torch.from_numpy(tail).unsqueeze(0).to(device)).cpu()
        return cls(
            samples=np.ascontiguousarray(samples, dtype=np.float32),
            codes=codes[..., :frames].clone(),
            name=name,
            fade=min(round(_FADE_S * codec.sample_rate), frames * hop),
            hop_length=hop,
            sample_rate=codec.sample_rate,
            held_bpm=_held_bpm(clip.settings),
            held_key=_held_key(clip.settings),
            held_chords=_held_chords(clip),
        )

    def context(self, frames_before: int) -> Tensor:
        """Return the last codes the codec must see to decode the fade and what follows."""
        frames = min(self.codes.shape[-1], frames_before + -(-self.fade // self.hop_length))
        return self.codes[..., self.codes.shape[-1] - frames :]

    def skipped_samples(self, frames_before: int) -> int:
        """Count the decoded samples of `context` that come before the fade."""
        return self.context(frames_before).shape[-1] * self.hop_length - self.fade

    def join(self, decoded: NDArray[np.float32]) -> NDArray[np.float32]:
        """Put the source before what was decoded, [C, fade + new], fading over the overlap.

        Where a stop left less than the fade, the source comes back as it is.
        """
        if decoded.shape[1] < self.fade:
            return self.samples
        ramp = np.linspace(0.0, 1.0, self.fade, dtype=np.float32)
        seam = self.samples[:, -self.fade :] * (1 - ramp) + decoded[:, : self.fade] * ramp
        parts = [self.samples[:, : -self.fade], seam, decoded[:, self.fade :]]
        return np.concatenate(parts, axis=1).astype(np.float32)

    @cached_property
    def tempo(self) -> float | None:
        """Its tempo: the one it was held to, or what is heard; None where nothing is."""
        heard_s = round(HEARD_S * self.sample_rate)
        return self.held_bpm or hear_tempo(self.samples[:, -heard_s:], self.sample_rate) or None

    def next_beat(self, bpm: float) -> float | None:
        """Tell how many seconds after its end the next beat of a tempo falls; heard once."""
        if bpm not in self._beats:
            self._beats[bpm] = next_beat(self.samples, self.sample_rate, bpm)
        return self._beats[bpm]

    def held_chart(self, beat: Beat) -> Chart | None:
        """Say how the chords that it was held to go on; None where it was held to none.

        Args:
            beat: of what goes on; where its tempo is another, the chords begin anew.
        """
        held = self.held_chords
        if held is None:
            return None
        passed = 0
        if held.bpm == beat.bpm:
            passed = max(0, round(held.passed + (held.seconds + beat.first_s) * beat.bpm / 60.0))
        return Chart(held.progression, beat, held.beats_per_bar, passed)

    def described(self) -> dict[str, Any]:
        """Say for the tags what this was."""
        digest = hashlib.sha256(self.codes.numpy().astype("<u2").tobytes()).hexdigest()
        return {"file": self.name, "codes_sha256": digest}


def _held_bpm(settings: Mapping[str, Any]) -> float | None:
    """Read what a clip was held to; tags that were edited say nothing."""
    told = settings.get(BEAT.holds)
    bpm = told.get("bpm") if isinstance(told, Mapping) else None
    if isinstance(bpm, bool) or not isinstance(bpm, int | float):
        return None
    return float(bpm) if MIN_TEMPO_BPM <= bpm <= MAX_TEMPO_BPM else None


def _held_key(settings: Mapping[str, Any]) -> Key | None:
    """Read what a clip was held to; tags that were edited say nothing."""
    told = settings.get(KEY.holds)
    try:
        return read_key(told["name"]) if isinstance(told, Mapping) else None
    except (ConfigError, KeyError):
        return None


def _held_chords(clip: Clip) -> HeldChords | None:
    """Read what a clip was held to; tags that were edited say nothing.

    A clip that was stopped is shorter than what was asked for.
    """
    settings = clip.settings
    told, tempo = settings.get(CHORDS.holds), settings.get(BEAT.holds)
    if not isinstance(told, Mapping) or not isinstance(tempo, Mapping):
        return None
    try:
        bar, passed = int(told["beats_per_bar"]), int(told["passed"])
        lasts_s = min(float(settings["duration_s"]), clip.duration_s)
        seconds = lasts_s - float(tempo["first_beat_s"])
        chords, bpm = read_progression(told["name"]), float(tempo["bpm"])
    except (ConfigError, KeyError, OverflowError, TypeError, ValueError):
        return None
    good = 1 <= bar <= 16 and passed >= 0 and math.isfinite(seconds) and math.isfinite(bpm)
    return HeldChords(chords, bar, passed, bpm, seconds) if good else None


def _with_channels(samples: NDArray[np.float32], channels: int) -> NDArray[np.float32]:
    """Fold or double channels: [C, M] to [channels, M]."""
    if samples.shape[0] == channels:
        return samples
    if channels == 1:
        return np.asarray(samples.mean(axis=0, keepdims=True), dtype=np.float32)
    return np.repeat(samples, channels, axis=0)
