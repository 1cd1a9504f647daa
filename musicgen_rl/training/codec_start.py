"""A good place to begin: set the codec's straight paths so that it sounds before it is trained.

Beside its two ConvNeXt stacks the codec has a linear path from what it hears to the latents, and
one from the latents to the levels of its oscillators and noise bands. Principal components make
the first, least squares the second; training starts from a coarse vocoder instead of from noise.
"""

import math

import torch
from torch import Tensor

from musicgen_rl.codec.frame import (
    FEATURE_MEAN,
    FEATURE_SPREAD,
    NOISE_BANDS,
    NOISE_STEPS,
    PITCH_LOW_HZ,
    PITCHES,
    FrameCodec,
)

TONE_OFFSET = -1.4
"""Several oscillators share a band of what is heard, so each takes less than its level."""
NOISE_OFFSET = -1.0
"""The tones sound too, so the noise takes a little less than all of the level."""


@torch.no_grad()
def start_codec(model: FrameCodec, samples: Tensor) -> float:
    """Set `model.hear` and `model.sound` from examples.

    Args:
        model: a fresh codec; changed in place.
        samples: typical audio, [B, M], thousands of frames in all.

    Returns:
        Share of the variance of what is heard that the latents keep, 0..1.
    """
    heard = torch.cat([model.features(part).flatten(0, 1) for part in torch.split(samples, 8)])
    mean = heard.mean(0)
    centred = heard - mean
    covariance = centred.T @ centred / len(heard)
    values, vectors = torch.linalg.eigh(covariance.double())
    D = model.config.codebook_dim
    kept = vectors[:, -D:].flip(1).float()  # [heard, D], the largest first
    model.hear.weight.copy_(kept.T)
    model.hear.bias.copy_(-mean @ kept)
    latents = centred @ kept
    targets = torch.cat([_tone_levels(model, heard), _noise_levels(model, heard)], -1)
    inputs = torch.cat([latents, torch.ones_like(latents[:, :1])], -1)
    solution = torch.linalg.lstsq(inputs, targets).solution
    model.sound.weight.copy_(solution[:-1].T)
    model.sound.bias.copy_(solution[-1])
    return float(values[-D:].sum() / values.sum())


def _by_part(model: FrameCodec, heard: Tensor) -> Tensor:
    """Turn features of frames [N, heard] into log levels of parts, [N * parts, bands]."""
    return (heard * FEATURE_SPREAD + FEATURE_MEAN).view(len(heard) * model.parts, -1)


def _tone_levels(model: FrameCodec, heard: Tensor) -> Tensor:
    """Log amplitudes of the oscillators, [N, parts * tones], read off features [N, heard]."""
    n_mels = model.config.n_mels
    levels = _by_part(model, heard)  # [N * parts, bands]
    tone_hz = model.tone_hz.to(heard)
    place = 24.0 * (tone_hz / PITCH_LOW_HZ).log2()
    pitched = _interpolate(levels[:, n_mels:], place)
    mel_place = _mel_place(model, tone_hz, n_mels)
    melodic = _interpolate(levels[:, :n_mels], mel_place) + TONE_OFFSET
    found = torch.where(place <= PITCHES - 1, pitched, melodic) + TONE_OFFSET
    return found.view(len(heard), -1)


def _noise_levels(model: FrameCodec, heard: Tensor) -> Tensor:
    """Log levels of the noise, [N, parts * steps * bands], read off features [N, heard]."""
    n_mels = model.config.n_mels
    centres = torch.arange(1, NOISE_BANDS + 1).to(heard) / (NOISE_BANDS + 1)  # of the mel range
    place = centres * (n_mels + 1) - 1
    levels = _by_part(model, heard)  # [N * parts, bands]
    flat = torch.ones(1, 64, NOISE_STEPS * NOISE_BANDS, device=heard.device)
    parts = torch.arange(64, device=heard.device)[None]
    sounded = model.features(model._noises(flat, parts))[0]
    own = _by_part(model, sounded)[16:-16, :n_mels].mean(0)
    wanted = _interpolate(levels[:, :n_mels], place) - _interpolate(own[None], place)
    return (wanted + NOISE_OFFSET).repeat(1, NOISE_STEPS).view(len(heard), -1)


def _mel_place(model: FrameCodec, hz: Tensor, n_mels: int) -> Tensor:
    top = math.log(1.0 + model.sample_rate / 2 / 700.0)
    return (1.0 + hz / 700.0).log() / top * (n_mels + 1) - 1


def _interpolate(levels: Tensor, place: Tensor) -> Tensor:
    """Read levels [N, bands] at fractional places [P], held at the ends: [N, P]."""
    place = place.clamp(0, levels.shape[1] - 1)
    low = place.floor().long().clamp(max=levels.shape[1] - 2)
    share = place - low
    return levels[:, low] * (1 - share) + levels[:, low + 1] * share
