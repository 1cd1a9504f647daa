"""The seam to audio codecs: what the rest of the package needs of one."""

from typing import Any, Protocol

import torch
from torch import Tensor


class Codec(Protocol):
    """Turns audio into codes and back.

    Decoding is local: a frame of audio depends on at most `context_frames` frames of codes on
    either side, which is what streaming uses.
    """

    @property
    def sample_rate(self) -> int:
        """Hz."""
        ...

    @property
    def hop_length(self) -> int:
        """Samples of one frame."""
        ...

    @property
    def num_codebooks(self) -> int:
        """K over all channels."""
        ...

    @property
    def codebook_size(self) -> int:
        """V."""
        ...

    @property
    def audio_channels(self) -> int:
        """C: 1 or 2."""
        ...

    @property
    def context_frames(self) -> tuple[int, int]:
        """Frames of codes (before, after) that a frame of audio depends on."""
        ...

    @property
    def device(self) -> torch.device:
        """Where it lies: samples and codes are given there, and come back there."""
        ...

    def to(self, device: torch.device) -> Any:
        """Move to a device, in place."""
        ...

    def encode(self, samples: Tensor) -> Tensor:
        """Encode samples [B, C, M] in [-1, 1] to codes [B, K, T], T = ceil(M / hop_length)."""
        ...

    def decode(self, codes: Tensor) -> Tensor:
        """Decode codes [B, K, T] to samples [B, C, T * hop_length], float32."""
        ...
