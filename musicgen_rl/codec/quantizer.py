"""Residual vector quantization: each codebook codes what the ones before it left over.

Source: arXiv:2107.03312, section III-C. Learning the codebooks is in training/codec_codebooks.py.
"""

import torch
from torch import Tensor, nn


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


class ResidualQuantizer(nn.Module):
    """K codebooks of V entries applied one after the other."""

    entries: Tensor

    def __init__(self, num_codebooks: int, codebook_size: int, codebook_dim: int) -> None:
        super().__init__()
        shape = (num_codebooks, codebook_size, codebook_dim)
        self.register_buffer("entries", torch.zeros(shape))

    def encode(self, latents: Tensor) -> Tensor:
        """Code latents [B, T, D] as codes [B, K, T]."""
        B, T, D = latents.shape
        residual = latents.reshape(B * T, D)
        codes = []
        for entries in self.entries:
            index = nearest(residual, entries)
            residual = residual - entries[index]
            codes.append(index.view(B, T))
        return torch.stack(codes, 1)

    def decode(self, codes: Tensor) -> Tensor:
        """Sum the entries of codes [B, K, T] to latents [B, T, D]."""
        latents = self.entries[0][codes[:, 0]]
        for k in range(1, codes.shape[1]):
            latents = latents + self.entries[k][codes[:, k]]
        return latents
