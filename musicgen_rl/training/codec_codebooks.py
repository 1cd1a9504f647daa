"""Learning the codebooks: k-means to begin, moving averages after, dead entries replaced.

Source: arXiv:1711.00937, appendix A.1 (moving averages); arXiv:2107.03312 (k-means, replacement).
A replaced entry also gets new running sums; without that the next average undoes it.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from musicgen_rl.codec.quantizer import ResidualQuantizer, nearest
from musicgen_rl.errors import CheckpointError

SMALL = 1e-6


def k_means(vectors: Tensor, count: int, iterations: int, generator: torch.Generator) -> Tensor:
    """Cluster vectors; empty clusters start again at a random vector.

    Args:
        vectors: [N, D].
        count: V, clusters; where N < V, vectors are repeated with a little noise.
        iterations: rounds of Lloyd's algorithm.
        generator: picks the starting points.

    Returns:
        Centres, [V, D].
    """
    N, D = vectors.shape
    if count <= N:
        centres = vectors[torch.randperm(N, generator=generator)[:count]].clone()
    else:
        picks = torch.randint(N, (count,), generator=generator)
        noise = torch.randn(count, D, generator=generator).to(vectors) * vectors.std() * 0.01
        centres = vectors[picks] + noise
    for _ in range(iterations):
        index = nearest(vectors, centres)
        sums = torch.zeros_like(centres).index_add_(0, index, vectors)
        sizes = torch.bincount(index, minlength=count).to(vectors)
        fresh = vectors[torch.randint(N, (count,), generator=generator)]
        centres = torch.where(sizes[:, None] > 0, sums / sizes.clamp(min=1.0)[:, None], fresh)
    return centres


class CodebookLearner:
    """Holds the running sums of a `ResidualQuantizer` and moves its entries.

    Args:
        quantizer: its entries are changed in place.
        decay: of the running sums, a step.
        dead_share: an entry whose running size falls below this share of the mean is replaced.
        iterations: of k-means.
    """

    def __init__(
        self,
        quantizer: ResidualQuantizer,
        *,
        decay: float = 0.99,
        dead_share: float = 0.1,
        iterations: int = 8,
    ) -> None:
        self.quantizer = quantizer
        self.decay = decay
        self.dead_share = dead_share
        self.iterations = iterations
        self.sums = torch.zeros_like(quantizer.entries)  # [K, V, D]
        self.sizes = torch.zeros_like(quantizer.entries[..., 0])  # [K, V]

    @torch.no_grad()
    def start(self, latents: Tensor, generator: torch.Generator) -> None:
        """Set every codebook by k-means on latents [N, D] and what is left of them."""
        K, V, _ = self.quantizer.entries.shape
        residual = latents
        for k in range(K):
            entries = k_means(residual, V, self.iterations, generator)
            self.quantizer.entries[k] = entries
            index = nearest(residual, entries)
            # Sizes as if one average step had been seen for long, on an even footing.
            self.sizes[k] = torch.bincount(index, minlength=V) * (400.0 / len(latents)) + SMALL
            self.sums[k] = entries * self.sizes[k][:, None]
            residual = residual - entries[index]

    def quantize(
        self, latents: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor, int]:
        """Quantize straight-through and learn from the batch.

        Args:
            latents: [B, T, D], with gradient.
            generator: picks replacements.

        Returns:
            Quantized latents [B, T, D] whose gradient passes to `latents`; the commitment loss,
            a scalar; codes [B, K, T]; how many dead entries were replaced.
        """
        B, T, D = latents.shape
        K = self.quantizer.entries.shape[0]
        flat = latents.reshape(B * T, D).float()
        total = torch.zeros_like(flat)
        commitment = torch.zeros((), device=latents.device)
        codes: list[Tensor] = []
        replaced = 0
        for k in range(K):
            residual = flat - total
            with torch.no_grad():
                index = nearest(residual, self.quantizer.entries[k])
                chosen = self.quantizer.entries[k][index]
                replaced += self._learn(k, residual.detach(), index, generator)
            commitment = commitment + F.mse_loss(residual, chosen) / K
            total = total + chosen
            codes.append(index.view(B, T))
        quantized = (flat + (total - flat).detach()).view(B, T, D)
        return quantized, commitment, torch.stack(codes, 1), replaced

    def _learn(self, k: int, residual: Tensor, index: Tensor, generator: torch.Generator) -> int:
        """Move codebook k towards the batch's residuals [N, D]; return the number replaced."""
        V = self.quantizer.entries.shape[1]
        counts = torch.bincount(index, minlength=V).to(residual)
        sums = torch.zeros_like(self.sums[k]).index_add_(0, index, residual)
        self.sizes[k].mul_(self.decay).add_(counts, alpha=1 - self.decay)
        self.sums[k].mul_(self.decay).add_(sums, alpha=1 - self.decay)
        mean = self.sizes[k].mean()
        dead = (self.sizes[k] < self.dead_share * mean).nonzero()[:, 0]
        # No more than a few a step: replacements out of one batch resemble each other.
        dead = dead[: max(1, len(residual) // 32)]
        if len(dead):
            fresh = residual[torch.randint(len(residual), (len(dead),), generator=generator)]
            self.sizes[k][dead] = 0.5 * mean
            self.sums[k][dead] = fresh * (0.5 * mean)
        self.quantizer.entries[k] = self.sums[k] / self.sizes[k].clamp(min=SMALL)[:, None]
        return len(dead)

    def state(self) -> dict[str, Tensor]:
        """The running sums, for a training state."""
        return {"codebooks.sums": self.sums, "codebooks.sizes": self.sizes}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Put back what `state` gave; raises CheckpointError where it is missing or misshapen."""
        for name, own in self.state().items():
            if name not in tensors or tensors[name].shape != own.shape:
                raise CheckpointError(
                    f"the training state's {name} is missing or not {tuple(own.shape)}: train "
                    "with the options the run began with, or into a new folder"
                )
            own.copy_(tensors[name])


def usage(codes: Tensor, codebook_size: int) -> tuple[list[float], list[float]]:
    """Measure how well codebooks are used.

    Args:
        codes: [B, K, T].
        codebook_size: V.

    Returns:
        For each codebook the share of entries that occur, and the perplexity of their
        frequencies (V where all are equally frequent).
    """
    shares, perplexities = [], []
    for k in range(codes.shape[1]):
        counts = torch.bincount(codes[:, k].reshape(-1), minlength=codebook_size).double()
        p = counts / counts.sum()
        shares.append(float((counts > 0).double().mean()))
        perplexities.append(float(torch.exp(-torch.xlogy(p, p).sum())))
    return shares, perplexities
