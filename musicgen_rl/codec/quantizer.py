"""Residual vector quantization: each codebook codes what the ones before it left over.

Source: arXiv:2107.03312, section III-C. Learning the codebooks is in training/codec_codebooks.py.

The nearest entry of each codebook in turn is seldom the nearest sum of all: an entry that is second
best may leave over what the next codebooks code better. So the best few ways to code a frame are
followed through the codebooks, and the nearest sum is kept (a beam search). Codes mean the same
either way; docs/experiments/2026-11-30-search.md has what it gains.
"""

import torch
from torch import Tensor, nn

BEAM = 8
"""Ways to code a frame that are followed from one codebook to the next."""
FRAMES = 256
"""Frames coded at once: each takes V numbers a way, and few of them stay in a processor's cache."""
GROUP = 32
"""Numbers told by their smallest, where the few smallest of many are looked for."""


def nearest(vectors: Tensor, entries: Tensor) -> Tensor:
    """Find the nearest entry, Euclidean, of each vector.

    Args:
        vectors: [N, D].
        entries: [V, D].

    Returns:
        Indices, [N].
    """
    # |v|^2 is the same for every entry, so it is left out.
    return (entries.square().sum(-1) - 2.0 * vectors @ entries.T).argmin(-1)


def smallest_sums(numbers: Tensor, more: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Find the smallest of `numbers + more[..., None]`, in rising order.

    They lie in the groups whose own smallest are smallest, so most numbers are looked at but once:
    twice as fast as adding all and `topk` of them.

    Args:
        numbers: [N, ways, V].
        more: [N, ways].
        count: how many of each row of `ways * V`, at most as many as there are.

    Returns:
        Which way, [N, count], and which of its V numbers, [N, count].
    """
    N, ways, V = numbers.shape
    size = GROUP if V % GROUP == 0 and ways * V // GROUP >= count else 1
    grouped = numbers.reshape(N, ways * V // size, size)
    lowest = grouped.amin(-1).view(N, ways, V // size) + more[..., None]
    groups = lowest.flatten(1).topk(count, largest=False).indices  # [N, count]
    kept = grouped.gather(1, groups[..., None].expand(-1, -1, size))  # [N, count, size]
    kept = kept + more.gather(1, groups // (V // size))[..., None]
    found = kept.flatten(1).topk(count, largest=False).indices
    place = groups.gather(1, found // size) * size + found % size
    return place // V, place % V


class ResidualQuantizer(nn.Module):
    """K codebooks of V entries applied one after the other."""

    entries: Tensor

    def __init__(self, num_codebooks: int, codebook_size: int, codebook_dim: int) -> None:
        super().__init__()
        shape = (num_codebooks, codebook_size, codebook_dim)
        self.register_buffer("entries", torch.zeros(shape))

    def encode(self, latents: Tensor, beam: int = BEAM) -> Tensor:
        """Code latents.

        Args:
            latents: [B, T, D].
            beam: ways followed, at least 1; 1 takes the nearest entry of each codebook.

        Returns:
            Codes [B, K, T].
        """
        B, T, D = latents.shape
        frames = torch.split(latents.reshape(B * T, D), FRAMES)
        codes = torch.cat([self._search(part, beam) for part in frames])
        return codes.view(B, T, len(self.entries)).transpose(1, 2).contiguous()

    def _search(self, vectors: Tensor, beam: int) -> Tensor:
        """Code vectors [N, D] as codes [N, K]."""
        N, D = vectors.shape
        K, V, _ = self.entries.shape
        residual = vectors[:, None]  # [N, ways, D], best way first
        codes = torch.zeros(N, 1, 0, dtype=torch.long, device=vectors.device)
        for k, entries in enumerate(self.entries):
            # Squared distance of each way to each entry: |r|^2 + (|e|^2 - 2 r e).
            rest = residual.square().sum(-1)
            apart = torch.addmm(
                entries.square().sum(-1), residual.flatten(0, 1), entries.T, alpha=-2.0
            )
            count = 1 if k == K - 1 else min(beam, residual.shape[1] * V)
            way, index = smallest_sums(apart.view(N, -1, V), rest, count)
            codes = torch.cat(
                [codes.gather(1, way[..., None].expand(-1, -1, k)), index[..., None]], -1
            )
            residual = residual.gather(1, way[..., None].expand(-1, -1, D)) - entries[index]
        return codes[:, 0]

    def decode(self, codes: Tensor) -> Tensor:
        """Sum the entries of codes [B, K, T] to latents [B, T, D]."""
        latents = self.entries[0][codes[:, 0]]
        for k in range(1, codes.shape[1]):
            latents = latents + self.entries[k][codes[:, k]]
        return latents
