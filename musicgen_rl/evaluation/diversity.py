"""How different clips are: within a prompt, across prompts, in embeddings and in codes.

All embeddings here are numpy arrays of one row a clip, with the prompt of each row beside them, so
prompts may have different numbers of clips.
"""

import numpy as np
from numpy.typing import NDArray

from musicgen_rl.errors import ConfigError, InputError

Array = NDArray[np.float64]
Integers = NDArray[np.int64]


def centre(embeddings: Array, mean: Array) -> Array:
    """Take what all music has in common off embeddings, and bring them back to unit length.

    Raw embeddings of music all point much the same way, and cosines of them say little.

    Args:
        embeddings: [n, d].
        mean: [d], of real clips, or of all arms together; never of one arm alone.
    """
    moved = embeddings - mean
    length = np.linalg.norm(moved, axis=1, keepdims=True)
    return np.asarray(moved / np.maximum(length, 1e-12), dtype=np.float64)


def pair_tables(kernel: Array, prompt_of: Integers, num_prompts: int) -> tuple[Array, Array]:
    """Sum a kernel over pairs of clips, by pairs of prompts.

    Args:
        kernel: [n, n], symmetric; its diagonal is left out.
        prompt_of: [n], in [0, num_prompts).
        num_prompts: P.

    Returns:
        Sums [P, P] and numbers of pairs [P, P], as `bootstrap.pair_estimate` takes them.
    """
    member = np.zeros((len(prompt_of), num_prompts))
    member[np.arange(len(prompt_of)), prompt_of] = 1.0
    sums = member.T @ (kernel - np.diag(np.diag(kernel))) @ member
    clips = member.sum(axis=0)
    return sums, np.outer(clips, clips) - np.diag(clips)


def within_prompts(embeddings: Array, prompt_of: Integers, num_prompts: int) -> Array:
    """Score each prompt by the mean of 1 - cosine over pairs of its clips.

    Args:
        embeddings: [n, d], unit length.
        prompt_of: [n].
        num_prompts: P.

    Returns:
        [P], in [0, 2]; nan where a prompt has fewer than two clips.

    Source: arXiv:2410.06084, the diversity that its reward estimates.
    """
    sums, pairs = pair_tables(1.0 - embeddings @ embeddings.T, prompt_of, num_prompts)
    inside, count = np.diag(sums), np.diag(pairs)
    return np.where(count > 0, inside / np.maximum(count, 1.0), np.nan)


def vendi(embeddings: Array) -> float:
    """Count the clips that are effectively different: 1 if all are copies, n if all are orthogonal.

    Args:
        embeddings: [n, d], unit length.

    Source: arXiv:2210.02410, with the cosine as the kernel.
    """
    if len(embeddings) < 1:
        raise ConfigError("the Vendi score needs at least one clip")
    values = np.linalg.eigvalsh(embeddings @ embeddings.T / len(embeddings))
    values = values[values > 1e-12]
    return float(np.exp(-np.sum(values * np.log(values))))


def vendi_by_prompt(embeddings: Array, prompt_of: Integers, num_prompts: int) -> Array:
    """Apply `vendi` to every prompt's clips, [P]; nan where there are fewer than two."""
    found = np.full(num_prompts, np.nan)
    for p in range(num_prompts):
        own = embeddings[prompt_of == p]
        if len(own) >= 2:
            found[p] = vendi(own)
    return found


def distinct_rate(codes: list[Integers], length: int = 2) -> float:
    """Return the share of different runs of codes among all runs of several clips.

    Args:
        codes: of each clip, [T], one codebook.
        length: of a run, in frames.

    Returns:
        In (0, 1]: 1 where no run comes twice, within a clip or in two clips; nan without runs.

    Source: arXiv:1510.03055 (distinct-n), on audio tokens instead of words.
    """
    base = 1 + max((int(clip.max()) for clip in codes if len(clip)), default=0)
    runs = []
    for clip in codes:
        if len(clip) >= length:
            last = len(clip) - length + 1
            runs.append(sum(clip[k : k + last] * base ** (length - 1 - k) for k in range(length)))
    if not runs:
        return float("nan")
    joined = np.concatenate(runs)
    return len(np.unique(joined)) / len(joined)


def distinct_by_prompt(codes: list[Integers], prompt_of: Integers, num_prompts: int) -> Array:
    """Apply `distinct_rate` to every prompt's clips, [P]."""
    return np.array(
        [
            distinct_rate([c for c, q in zip(codes, prompt_of, strict=True) if q == p])
            for p in range(num_prompts)
        ]
    )


def prompt_share(within: float | Array, across: float | Array) -> float | Array:
    """Return how much of all variety is between prompts rather than within.

    Noise makes clips of one prompt differ as much as clips of two prompts: the share falls to 0.
    Variety that still belongs to its prompt keeps it up.

    Args:
        within: mean of 1 - cosine over pairs of one prompt.
        across: the same over pairs of different prompts.
    """
    return 1.0 - within / across


def require_several(counts: Integers, arm: str) -> None:
    """Refuse to measure the diversity of single clips.

    Raises:
        InputError: a prompt has fewer than two clips.
    """
    if int(counts.min(initial=2)) < 2:
        raise InputError(
            f"arm {arm!r} has a prompt with {int(counts.min())} clip: diversity compares clips of "
            "one prompt, so make at least 2 (-n 4)"
        )
