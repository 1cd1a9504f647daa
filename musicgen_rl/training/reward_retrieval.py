"""How well embeddings find what belongs together: figures for the cards of encoders and scorers."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from musicgen_rl.errors import InputError
from musicgen_rl.rewards.mel import level_free, seconds_to_frames
from musicgen_rl.training.reward_augment import augment
from musicgen_rl.training.reward_crops import Crop, stack
from musicgen_rl.training.reward_mels import MelPiece

BATCH = 32


def recall_at(similarities: Tensor, right: Tensor, k: int) -> float:
    """Share of queries that find a right item among their k nearest.

    Args:
        similarities: [Q, G], of queries to a gallery.
        right: True where a gallery's item is right for a query, [Q, G].
        k: nearest items looked at.

    Raises:
        InputError: k is more than the gallery holds.
    """
    if not 1 <= k <= similarities.shape[1]:
        raise InputError(f"recall at {k} needs a gallery of {k} items, got {similarities.shape[1]}")
    nearest = similarities.topk(k, dim=1).indices
    return float(right.gather(1, nearest).any(dim=1).float().mean())


def recall_within(similarities: Tensor, groups: Sequence[str]) -> tuple[float, float]:
    """Find the partner among items of one's own group alone.

    Args:
        similarities: [Q, Q]; query i belongs to item i.
        groups: of each, for example its style.

    Returns:
        (share of queries whose nearest item of their group is their own, the share that chance
        gives), over queries whose group has two members or more; nan where there are none.
    """
    hits, chances = [], []
    for i, group in enumerate(groups):
        members = [j for j, other in enumerate(groups) if other == group]
        if len(members) > 1:
            hits.append(members[int(similarities[i, members].argmax())] == i)
            chances.append(1 / len(members))
    if not hits:
        return float("nan"), float("nan")
    return sum(hits) / len(hits), sum(chances) / len(chances)


def crops_at(pieces: Sequence[MelPiece], seconds: float, place: float) -> list[Crop]:
    """Cut one crop of each piece at a share of the room it leaves, always the same."""
    frames = seconds_to_frames(seconds)
    return [Crop(p, int(place * max(0, len(p.plain) - frames - 2)), frames) for p in pieces]


@torch.no_grad()
def embed_crops(embed: Callable[[Tensor], Tensor], crops: Sequence[Crop]) -> Tensor:
    """Embed crops of one length, [B, d]; `embed` takes level-free frames."""
    parts = [embed(level_free(stack(crops[i : i + BATCH]))) for i in range(0, len(crops), BATCH)]
    return torch.cat(parts)


def encoder_figures(
    embed: Callable[[Tensor], Tensor], pieces: Sequence[MelPiece]
) -> dict[str, float]:
    """Measure an encoder on held-out pieces: one chunk of each looks for another of the same.

    Args:
        embed: level-free frames [B, T, N_MELS] -> unit vectors [B, d].
        pieces: held out, long enough for two chunks of 5 s.

    Returns:
        recall@1 among all pieces at 2 s and 5 s; the same among pieces of the same style, and what
        chance gives there; recall@1 of chunks as the codec plays them, where there are any; and
        mean cosines at 2 s: of a chunk to itself filtered and noised (which should be near 1) and
        played a tone higher (which should not), and of chunks of one piece, of one style, and of
        different styles.
    """
    figures: dict[str, float] = {"pieces": float(len(pieces))}
    styles = [str(p.attributes.get("style", "")) for p in pieces]
    eye = torch.eye(len(pieces), dtype=torch.bool)
    for seconds in (2.0, 5.0):
        gallery = embed_crops(embed, crops_at(pieces, seconds, 0.75))
        queries = crops_at(pieces, seconds, 0.2)
        asking = embed_crops(embed, queries)
        cosines = asking @ gallery.T
        label = f"{seconds:g} s"
        figures[f"recall@1, {label}"] = recall_at(cosines, eye, 1)
        within, chance = recall_within(cosines, styles)
        figures[f"recall@1 within style, {label}"] = within
        figures[f"chance within style, {label}"] = chance
        coded = coded_crops(pieces, seconds)
        if coded:
            found = embed_crops(embed, [c for _, c in coded]) @ gallery.T
            right = eye[torch.tensor([i for i, _ in coded])]
            figures[f"recall@1 through the codec, {label}"] = recall_at(found, right, 1)
        if seconds == 2.0:
            alike = torch.tensor([[a == b for b in styles] for a in styles])
            figures |= _planted(embed, queries, asking)
            figures["cosine within a piece"] = float(cosines[eye].mean())
            figures["cosine within a style"] = float(cosines[alike & ~eye].mean())
            figures["cosine across styles"] = float(cosines[~alike].mean())
    return figures


def _planted(
    embed: Callable[[Tensor], Tensor], crops: Sequence[Crop], plain: Tensor
) -> dict[str, float]:
    """Mean cosines [to themselves, changed] of crops whose embeddings are `plain` [B, d]."""
    generator = torch.Generator().manual_seed(0)

    parts = [crops[i : i + BATCH] for i in range(0, len(crops), BATCH)]
    with torch.no_grad():
        noisy = torch.cat([embed(level_free(augment(stack(p), generator))) for p in parts])
    higher = embed_crops(embed, [replace(crop, semitones=2) for crop in crops])
    return {
        "cosine to itself, filtered and noised": float((plain * noisy).sum(-1).mean()),
        "cosine to itself, a tone higher": float((plain * higher).sum(-1).mean()),
    }


def coded_crops(pieces: Sequence[MelPiece], seconds: float) -> list[tuple[int, Crop]]:
    """Cut the beginning of what the codec played of each piece: (number of the piece, crop)."""
    frames = seconds_to_frames(seconds)
    return [
        (i, Crop(p, 0, frames, coded=True))
        for i, p in enumerate(pieces)
        if p.coded is not None and len(p.coded) >= frames
    ]
