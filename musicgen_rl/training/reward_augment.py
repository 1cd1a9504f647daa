"""Changes of log-mel levels that a reward model must hear through, or must take for other music.

All work on decibels [B, T, N_MELS]. Level, colour, noise and a missing top do not make other music;
another key at another speed does. Draws come from the given generator alone.
"""

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from musicgen_rl.rewards.mel import FLOOR_DB, HIGH_HZ, LOW_HZ, N_MELS

DB = math.log(10.0) / 10.0


@lru_cache(maxsize=64)
def warp_matrix(semitones: int) -> Tensor:
    """Build the matrix that moves mel bands up by semitones, by linear interpolation.

    Args:
        semitones: up, or down where negative.

    Returns:
        [N_MELS, N_MELS]: levels @ it are the moved levels. Bands that come from outside the range
        take its edge.
    """
    low, high = (2595.0 * math.log10(1.0 + f / 700.0) for f in (LOW_HZ, HIGH_HZ))
    step = (high - low) / (N_MELS + 1)
    centres = low + step * torch.arange(1, N_MELS + 1, dtype=torch.float64)
    hertz = 700.0 * (10.0 ** (centres / 2595.0) - 1.0) / math.exp2(semitones / 12.0)
    place = ((2595.0 * torch.log10(1.0 + hertz / 700.0) - low) / step - 1).clamp(0, N_MELS - 1)
    left = place.floor().clamp(max=N_MELS - 2).long()
    share = (place - left).float()
    matrix = torch.zeros(N_MELS, N_MELS)
    columns = torch.arange(N_MELS)
    matrix[left, columns] += 1 - share
    matrix[left + 1, columns] += share
    return matrix


def frames_needed(frames: int, semitones: int) -> int:
    """Frames of a piece that a crop takes when it is played so much faster."""
    return math.ceil((frames - 1) * math.exp2(semitones / 12.0)) + 2


def play_faster(levels: Tensor, frames: int, semitones: int) -> Tensor:
    """Play levels as a tape would: higher and faster, or lower and slower.

    Args:
        levels: [T, N_MELS], T >= frames_needed(frames, semitones).
        frames: of the result.
        semitones: up.

    Returns:
        [frames, N_MELS].
    """
    if semitones == 0:
        return levels[:frames]
    place = torch.arange(frames) * math.exp2(semitones / 12.0)
    left = place.long()
    share = (place - left)[:, None]
    moved = levels @ warp_matrix(semitones)
    played: Tensor = moved[left] * (1 - share) + moved[left + 1] * share
    return played


def colour(levels: Tensor, generator: torch.Generator, most_db: float = 8.0) -> Tensor:
    """Filter each clip by a smooth random curve, and shift its level by up to 12 dB."""
    B = len(levels)
    knots = (torch.rand(B, 1, 6, generator=generator) * 2 - 1) * most_db
    strength = torch.rand(B, 1, 1, generator=generator)
    curve = F.interpolate(knots * strength, size=N_MELS, mode="linear", align_corners=True)
    level = (torch.rand(B, 1, 1, generator=generator) * 2 - 1) * 12.0
    return (levels + curve + level).clamp(min=FLOOR_DB)


def add_noise(levels: Tensor, generator: torch.Generator) -> Tensor:
    """Add steady noise of random tilt, 10 to 60 dB below each clip."""
    B, T, bands = levels.shape
    mean = (levels * DB).exp().mean(dim=(1, 2), keepdim=True).log() / DB
    below = 10.0 + 50.0 * torch.rand(B, 1, 1, generator=generator)
    tilt = (torch.rand(B, 1, 1, generator=generator) * 2 - 1) * 15.0
    slope = tilt * torch.linspace(-1.0, 1.0, bands)
    grain = 2.5 * torch.randn(B, T, bands, generator=generator)
    return torch.logaddexp(levels * DB, (mean - below + slope + grain) * DB) / DB


def cut_top(levels: Tensor, generator: torch.Generator, share: float = 0.3) -> Tensor:
    """Take the top bands away from a share of the clips, down to about 2.5 kHz at most."""
    B = len(levels)
    first = torch.randint(N_MELS * 5 // 8, N_MELS, (B, 1, 1), generator=generator)
    chosen = torch.rand(B, 1, 1, generator=generator) < share
    above = (torch.arange(N_MELS) - first).clamp(min=0)
    fall = torch.where(chosen, above * 6.0, torch.zeros(()))
    return (levels - fall).clamp(min=FLOOR_DB)


def augment(levels: Tensor, generator: torch.Generator) -> Tensor:
    """Colour, cut and add noise: one draw for each clip."""
    return add_noise(cut_top(colour(levels, generator), generator), generator)
