"""Decode a clip while its codes are still being made; the chunks joined equal the whole decode."""

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from musicgen_rl.codec.base import Codec
from musicgen_rl.errors import InputError


@runtime_checkable
class PlacedCodec(Protocol):
    """A codec whose decoding also depends on where in the clip a part begins."""

    def decode_from(self, codes: Tensor, start_frame: int) -> Tensor:
        """Decode codes [B, K, T] that begin `start_frame` frames into their clip."""
        ...


class StreamingDecoder:
    """Decodes chunk by chunk, holding back only frames that later codes can still change.

    Equal to decoding the whole clip up to the rounding of other shapes, as long as the codec's
    `context_frames` is its whole reach. Keeps before + after frames of codes, whatever the length.
    """

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._before, self._after = codec.context_frames
        self._held: Tensor | None = None  # codes [B, K, t] from frame self._first on
        self._first = 0
        self._played = 0  # frames whose samples were given out
        self._finished = False

    @property
    def frames_played(self) -> int:
        """Frames whose samples were given out so far."""
        return self._played

    def push(self, codes: Tensor) -> Tensor:
        """Take the next codes and return the samples that are final by now.

        Args:
            codes: the next frames, [B, K, t], t >= 0; B is the same at each call.

        Returns:
            Samples [B, C, m], m a multiple of the hop, often 0 for the first frames.

        Raises:
            InputError: another shape than before, or after `finish`.
        """
        self._take(codes)
        assert self._held is not None
        return self._play(self._first + self._held.shape[-1] - self._after)

    def finish(self, codes: Tensor | None = None) -> Tensor:
        """Return the samples still held back, [B, C, m]; the clip ends here.

        Args:
            codes: its last frames, [B, K, t], where they are not pushed yet: then they are decoded
                once, not once to push and once to finish.

        Raises:
            InputError: nothing was ever pushed, another shape than before, or it is finished
                already.
        """
        if codes is not None:
            self._take(codes)
        if self._finished or self._held is None:
            raise InputError("nothing to finish: push codes first, and finish once")
        self._finished = True
        rest = self._play(self._first + self._held.shape[-1])
        self._held = None
        return rest

    def _take(self, codes: Tensor) -> None:
        """Hold the next codes."""
        if self._finished:
            raise InputError("this StreamingDecoder is finished: make a new one for the next clip")
        if codes.dim() != 3 or codes.shape[1] != self._codec.num_codebooks:
            raise InputError(
                f"codes must be [B, {self._codec.num_codebooks}, t], got {tuple(codes.shape)}"
            )
        if self._held is not None and codes.shape[0] != self._held.shape[0]:
            raise InputError(
                f"codes of {codes.shape[0]} clips after codes of {self._held.shape[0]}: push the "
                "same clips each time"
            )
        self._held = codes if self._held is None else torch.cat([self._held, codes], -1)

    def _play(self, end: int) -> Tensor:
        """Decode frames from the last played up to `end`, and forget what nothing needs."""
        held = self._held
        assert held is not None
        if end <= self._played:
            return torch.zeros(held.shape[0], self._codec.audio_channels, 0, device=held.device)
        hop = self._codec.hop_length
        if isinstance(self._codec, PlacedCodec):
            samples = self._codec.decode_from(held, self._first)
        else:
            samples = self._codec.decode(held)
        ready = samples[..., (self._played - self._first) * hop : (end - self._first) * hop]
        self._played = end
        keep_from = max(self._first, end - self._before)
        self._held = held[..., keep_from - self._first :].clone()
        self._first = keep_from
        return ready.clone()
