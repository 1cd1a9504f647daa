"""How different the clips of one prompt are: pure functions of their embeddings [B, N, D].

Every function brings embeddings to unit length first and computes in float32. `centred` takes out
what all clips share, which otherwise fills most of an embedding and hides the differences.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from musicgen_rl.config import require_number
from musicgen_rl.errors import ConfigError, InputError

RIDGE = 0.05
"""Added to the kernel's diagonal, so that two equal clips cost much but not infinitely much."""


def diversity_rewards(embeddings: Tensor) -> Tensor:
    """Score each clip by how far it lies from the other clips of its prompt.

    Args:
        embeddings: one vector per clip, [B, N, D], N >= 2 clips per prompt.

    Returns:
        Mean of 1 - cosine to the N - 1 others, [B, N], in [0, 2].

    Raises:
        InputError: fewer than two clips, or a vector that is zero or not finite.

    Source: arXiv:2410.06084, there between pairs.
    """
    cosines = _cosines(embeddings)  # [B, N, N]
    N = cosines.shape[-1]
    others = cosines.sum(-1) - cosines.diagonal(dim1=-2, dim2=-1)
    return 1.0 - others / (N - 1)


def pairwise_diversity(embeddings: Tensor) -> Tensor:
    """Average 1 - cosine over the pairs of a prompt's clips.

    Args:
        embeddings: [B, N, D], N >= 2.

    Returns:
        [B], in [0, N / (N - 1)]: 0 for copies, 1 where clips have nothing in common.

    Raises:
        InputError: as `diversity_rewards`.

    Source: arXiv:2410.06084, the diversity D.
    """
    return diversity_rewards(embeddings).mean(-1)


def vendi_score(embeddings: Tensor) -> Tensor:
    """Count how many different clips a prompt's clips amount to.

    Args:
        embeddings: [B, N, D], N >= 2.

    Returns:
        exp of the entropy of the eigenvalues of the cosines over N, [B], in [1, N].

    Raises:
        InputError: as `diversity_rewards`.

    Source: arXiv:2210.02410, equation 1, with the cosine as kernel.
    """
    cosines = _cosines(embeddings).double()
    shares = torch.linalg.eigvalsh(cosines / cosines.shape[-1]).clamp(min=0.0)
    score: Tensor = torch.special.entr(shares).sum(-1).exp().float()
    return score


def log_det(embeddings: Tensor, ridge: float = RIDGE) -> Tensor:
    """Measure the volume a prompt's clips span: it does not pay for two tight clusters.

    Args:
        embeddings: [B, N, D], N >= 2.
        ridge: added to the kernel's diagonal, above 0.

    Returns:
        log det of (cosines + ridge) / (1 + ridge), [B]: 0 where clips have nothing in common.

    Raises:
        ConfigError: ridge is not in (0, 1].
        InputError: as `diversity_rewards`.

    Source: arXiv:2509.04784, the reward; the ridge and its scale are ours.
    """
    volume: Tensor = torch.logdet(_ridged(embeddings, ridge))
    return volume


def log_det_gains(embeddings: Tensor, ridge: float = RIDGE) -> Tensor:
    """Score each clip by what it adds to the volume of the others.

    Args:
        embeddings: [B, N, D], N >= 2.
        ridge: as in `log_det`.

    Returns:
        log det of all clips minus that of all but this one, [B, N], at most 0.

    Raises:
        ConfigError, InputError: as `log_det`.

    Source: leave-one-out gains as in arXiv:2602.01062. By Schur's complement the gain of clip i is
    minus the log of entry (i, i) of the inverse.
    """
    inverse = torch.linalg.inv(_ridged(embeddings, ridge))
    gains: Tensor = -inverse.diagonal(dim1=-2, dim2=-1).log()
    return gains


def centred(embeddings: Tensor, mean: Tensor | None = None) -> Tensor:
    """Take out what all clips share.

    Args:
        embeddings: [B, N, D].
        mean: mean of unit embeddings [D] of some reference set; of all of these where None. Where
            arms are compared, give all of them the same one.

    Returns:
        Unit vectors [B, N, D] of what is left.

    Raises:
        InputError: a vector is zero or not finite, before or after.
    """
    z = unit(embeddings)
    flat = z.reshape(-1, z.shape[-1])
    left = z - (flat.mean(0) if mean is None else mean.to(z))
    return unit(left)


def unit(embeddings: Tensor) -> Tensor:
    """Bring vectors [..., D] to length 1 in float32.

    Raises:
        InputError: one is zero or not finite.
    """
    vectors = embeddings.float()
    lengths = vectors.norm(dim=-1)
    bad = ~(torch.isfinite(lengths) & (lengths > 1e-12))
    if bool(bad.any()):
        where = tuple(int(i) for i in bad.nonzero()[0])
        raise InputError(f"embedding {where} is zero or not finite: look at the clip it came from")
    return F.normalize(vectors, dim=-1)


def _cosines(embeddings: Tensor) -> Tensor:
    if embeddings.dim() != 3:
        raise InputError(
            f"diversity takes embeddings [prompts, clips, D], got shape {list(embeddings.shape)}"
        )
    if embeddings.shape[1] < 2:
        raise InputError(f"diversity needs clips_per_prompt >= 2, got {embeddings.shape[1]}")
    z = unit(embeddings)
    cosines: Tensor = z @ z.mT
    return cosines


def _ridged(embeddings: Tensor, ridge: float) -> Tensor:
    require_number("ridge", ridge, 0.0, 1.0)
    if ridge == 0.0:
        raise ConfigError("ridge must be above 0: two equal clips would cost infinitely much")
    cosines = _cosines(embeddings)
    eye = torch.eye(cosines.shape[-1], device=cosines.device)
    return (cosines + ridge * eye) / (1.0 + ridge)
