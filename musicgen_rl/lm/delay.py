"""The delay pattern: codebook k of a frame is written k steps after codebook 0.

With K codebooks and T frames the model runs S = T + K - 1 steps. In stereo the two channels'
codebooks come in pairs (left, right) that share a delay, so S = T + K / 2 - 1. Places outside the
pattern hold the padding token, which is also what the model sees before the first step.

Source: arXiv:2306.05284, section 2.1 (delayed interleaving).
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def delays(num_codebooks: int, audio_channels: int = 1) -> list[int]:
    """List by how many steps each codebook is late, [K]."""
    return [k // audio_channels for k in range(num_codebooks)]


def num_steps(num_frames: int, num_codebooks: int, audio_channels: int = 1) -> int:
    """Count the steps S that T frames take."""
    return num_frames + num_codebooks // audio_channels - 1


def delay_mask(num_codebooks: int, num_frames: int, audio_channels: int = 1) -> Tensor:
    """Mark the places of the delayed grid that hold a code.

    Returns:
        Bool [K, S], True where a code stands, False where padding does.
    """
    late = torch.tensor(delays(num_codebooks, audio_channels)).unsqueeze(1)  # [K, 1]
    step = torch.arange(num_steps(num_frames, num_codebooks, audio_channels)).unsqueeze(0)
    return (step >= late) & (step < late + num_frames)  # [K, S]


def apply_delay(codes: Tensor, pad_token: int, audio_channels: int = 1) -> Tensor:
    """Lay codes [B, K, T] out in the delay pattern.

    Returns:
        Tokens [B, K, S], `pad_token` outside the pattern.
    """
    K = codes.shape[1]
    late = delays(K, audio_channels)
    rows = [F.pad(codes[:, k], (late[k], late[-1] - late[k]), value=pad_token) for k in range(K)]
    return torch.stack(rows, dim=1)  # [B, K, S]


def undo_delay(tokens: Tensor, audio_channels: int = 1) -> Tensor:
    """Take the codes [B, K, T] out of delayed tokens [B, K, S]; the inverse of `apply_delay`."""
    K, S = tokens.shape[1:]
    late = delays(K, audio_channels)
    T = S - late[-1]
    return torch.stack([tokens[:, k, late[k] : late[k] + T] for k in range(K)], dim=1)


def shift_right(tokens: Tensor, pad_token: int) -> Tensor:
    """Turn targets [B, K, S] into the model's input: padding first, the last step dropped."""
    return F.pad(tokens[..., :-1], (1, 0), value=pad_token)
