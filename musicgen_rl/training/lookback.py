"""Build heads that look back into a language model, for training to go on from.

    python -m musicgen_rl.training.lookback MODEL --tokens FOLDER --out FOLDER [--dropout .2]

Music repeats, and a model that finds the place where it last heard what it hears now knows how that
went on. It takes two heads, one after the other (induction heads, arXiv:2209.11895): one that tells
each place what stood before it, and one that looks for places which were told what stands here.
Neither is of use without the other, so training comes upon them late, and a short training not at
all (`benchmarks/lookback.py` measures it). Here both are written into a model by least squares on
its own embeddings and positions, over its flattest heads, and what they find is led to the codes'
logits. The model is worse for it at first; training on loops (`train lm --loop-share`) and then on
music mends that, and goes on from the circuit. Initialising attention by what trained attention
does: arXiv:2305.09828.
"""

import math
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from musicgen_rl.checkpoint import (
    LOW_RANK,
    checkpoints_folder,
    find_model,
    load_lm,
    read_info,
    save_model,
)
from musicgen_rl.errors import ConfigError, MusicgenRLError, StorageError
from musicgen_rl.lm.cache import CrossStates
from musicgen_rl.lm.condition import Condition
from musicgen_rl.lm.delay import apply_delay, shift_right
from musicgen_rl.lm.transformer import Block, MusicLM, attend_causal
from musicgen_rl.text.minilm import MiniLM
from musicgen_rl.training.dataset import TokenDataset, unique_captions
from musicgen_rl.training.tokens import load_tokens

SEED = 11
CROPS, CROP_FRAMES = 24, 250
FIRST = 4
"""Places at the start of a crop that are not learnt from: little stands before them."""


@dataclass(frozen=True, kw_only=True)
class Lookback:
    """What is built, and how strongly."""

    pairs: int = 24
    """Pairs of position values, the fastest, that only positions keep: codes leave them."""
    back: float = 2.8
    """How sharply the first block's heads look one and two places back."""
    matching: Mapping[int, int] = field(default_factory=lambda: {1: 2, 2: 1})
    """Heads that look for places told what stands here, by block."""
    match: float = 2.5
    """How sharply they do."""
    gain: float = 2.5
    """How large what they find is written."""
    boost: float = 1.0
    """How far it raises the logit of a code that is found."""
    codebooks: int = 4
    """Codebooks, the first, whose codes are raised."""


@torch.no_grad()
def build_lookback(lm: MusicLM, tokens: Tensor, condition: Condition, how: Lookback) -> None:
    """Write the heads into a model, in place.

    Args:
        lm: at least as many blocks as `how` names.
        tokens: what the model is given, delayed and shifted, [B, K, S].
        condition: of the B rows.
        how: see there.

    Raises:
        ConfigError: the model has too few blocks, heads or codebooks, or too narrow a stream.
    """
    _check(lm, how)
    D, H = lm.config.hidden_size, lm.config.num_heads
    width = D // H
    pairs = min(how.pairs, width // 2)
    fast = torch.cat([torch.arange(pairs), torch.arange(pairs) + D // 2])
    lm.embed.weight[:, fast] = 0.0
    cross = lm.cross_states(condition)
    blocks = [block for block in lm.blocks if isinstance(block, Block)]
    x = lm.embedded(tokens)
    first = blocks[0]
    normed = first.self_norm(x)
    content = _content(normed, lm.positions[: x.shape[1]], width)  # [B, S, width], white
    told = flattest_heads(first, x, 2)
    for lag, head in enumerate(told, start=1):
        _look_back(first, head, lag, fast, how.back, D)
        first.self_qkv.weight[_rows(D, width, head, 2)] = _least_squares(normed, content)
        first.self_out.weight[:, _columns(width, head)] = 0.0
    quiet, loudness = _quiet(_through(first, x, cross[0]), 2 * width)
    for place, head in enumerate(told):
        directions = quiet[:, place * width : (place + 1) * width]
        first.self_out.weight[:, _columns(width, head)] = 0.5 * loudness * directions
    x = _through(first, x, cross[0])

    heads = sum(how.matching.values())
    codes, directions = _lead_to_logits(lm, blocks, x, cross, heads * width, how)
    found = _embedded(lm, tokens) @ codes.T  # [B, S, heads * width]
    place = 0
    for number, block in enumerate(blocks[1:], start=1):
        normed = block.self_norm(x)
        own, before, before2 = (_least_squares(normed, content, lag) for lag in range(3))
        top = slice(width // 2, width)  # the directions in which codes differ most
        for head in flattest_heads(block, x, how.matching.get(number, 0)):
            part = slice(place * width, (place + 1) * width)
            weight = block.self_qkv.weight
            weight[_rows(D, width, head, 0)] = how.match * torch.cat([own[top], before[top]])
            weight[_rows(D, width, head, 1)] = how.match * torch.cat([before[top], before2[top]])
            weight[_rows(D, width, head, 2)] = _least_squares(normed, found[..., part])
            block.self_out.weight[:, _columns(width, head)] = how.gain * directions[:, part]
            place += 1
        x = _through(block, x, cross[number])


def _check(lm: MusicLM, how: Lookback) -> None:
    config = lm.config
    heads = sum(how.matching.values())
    if max(how.matching, default=0) >= config.num_layers or min(how.matching, default=1) < 1:
        raise ConfigError(
            f"heads that match sit in blocks {sorted(how.matching)}, the model has blocks 0 to "
            f"{config.num_layers - 1}, of which block 0 tells what stood before"
        )
    if max(2, *how.matching.values()) > config.num_heads or 2 * heads > config.num_heads:
        raise ConfigError(
            f"{heads} heads that match need a model of {2 * heads} heads a block, not "
            f"{config.num_heads}: what they find takes half of the stream"
        )
    if how.codebooks > config.num_codebooks:
        raise ConfigError(f"codebooks {how.codebooks}: the model has {config.num_codebooks}")


def flattest_heads(block: Block, x: Tensor, count: int) -> list[int]:
    """Find the self-attention heads that look everywhere alike on a stream [B, S, D].

    Returns:
        Numbers of `count` heads, the flattest first.
    """
    q, k, _ = block.split_heads(block.self_qkv(block.self_norm(x)), 3)
    S = x.shape[1]
    scores = q @ k.mT / math.sqrt(q.shape[-1])
    seen = scores.masked_fill(torch.ones(S, S).triu(1).bool(), -torch.inf).softmax(-1)
    entropy = -torch.xlogy(seen, seen).sum(-1)[..., S // 2 :].mean((0, 2))
    order: list[int] = entropy.argsort(descending=True, stable=True).tolist()
    return order[:count]


def _look_back(block: Block, head: int, lag: int, fast: Tensor, sharp: float, D: int) -> None:
    """Make a head attend to the place `lag` before: its query is turned by as many places."""
    pairs = len(fast) // 2
    half = D // 2
    rate = torch.exp(torch.arange(pairs) * -(math.log(10000) / max(half - 1, 1)))
    cos, sin = torch.cos(lag * rate)[:, None], torch.sin(lag * rate)[:, None]
    read = torch.zeros(len(fast), D)
    read[torch.arange(len(fast)), fast] = 1.0 / block.self_norm.weight[fast]
    cosines, sines = read[:pairs], read[pairs:]
    turned = torch.cat([cosines * cos + sines * sin, sines * cos - cosines * sin])
    width = D // block.num_heads
    rest = torch.zeros(width - len(fast), D)
    block.self_qkv.weight[_rows(D, width, head, 0)] = sharp * torch.cat([turned, rest])
    block.self_qkv.weight[_rows(D, width, head, 1)] = sharp * torch.cat([read, rest])


def _content(normed: Tensor, positions: Tensor, width: int) -> Tensor:
    """Take what tells places apart besides their position, white, its largest part last."""
    B, S, D = normed.shape
    flat = normed.reshape(-1, D)
    placed = positions.repeat(B, 1)
    free = flat - placed @ _ridge(placed, flat, 1e-4).T
    spread, directions = torch.linalg.eigh(torch.cov(free.T))
    chosen = directions[:, -width:] / spread[-width:].sqrt()
    white: Tensor = free @ chosen
    return white.view(B, S, width)


def _lead_to_logits(
    lm: MusicLM, blocks: Sequence[Block], x: Tensor, cross: Sequence[CrossStates], size: int,
    how: Lookback,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Let the heads read the stream's quietest directions as embeddings of codes.

    Args:
        lm: its heads are changed.
        blocks: its blocks.
        x: the stream after the first block, [B, S, D].
        cross: text of each block.
        size: directions.
        how: see there.

    Returns:
        Projection of embedded codes that is written, [size, D]; where to, [D, size].
    """
    V = lm.config.codebook_size
    embedded = _centred(lm)[: how.codebooks]
    _, main = torch.linalg.eigh(torch.einsum("kvd,kve->de", embedded, embedded))
    codes = main[:, -size:].T.flip(0)
    for block, states in zip(blocks[1:], cross[1:], strict=True):
        x = _through(block, x, states)
    directions, _ = _quiet(x, size)
    level = float(x.var(-1, unbiased=True).mean()) ** -0.5  # of the last norm
    for k, table in enumerate(embedded):
        written = table @ codes.T  # [V, size]
        raised = float(written.square().sum(-1).mean()) * how.gain * level * 0.6
        lm.heads.weight[k * V : (k + 1) * V] += (
            (how.boost / raised) * (written @ directions.T) / lm.norm.weight
        )
    return codes, directions


def _centred(lm: MusicLM) -> Tensor:
    """Embeddings of the codes about their codebook's mean, [K, V, D]."""
    K, V = lm.config.num_codebooks, lm.config.codebook_size
    tables = lm.embed.weight.view(K, V + 1, -1)[:, :V]
    return tables - tables.mean(1, keepdim=True)


def _embedded(lm: MusicLM, tokens: Tensor) -> Tensor:
    tables = _centred(lm)
    known = tokens.clamp(max=lm.config.codebook_size - 1)
    return torch.stack([tables[k][known[:, k]] for k in range(len(tables))]).sum(0)


def _through(block: Block, x: Tensor, cross: CrossStates) -> Tensor:
    out: Tensor = block(x, cross, attend_causal)
    return out


def _quiet(x: Tensor, count: int) -> tuple[Tensor, float]:
    """Find where a stream [B, S, D] varies least, [D, count], and how loud it is in all."""
    spread, directions = torch.linalg.eigh(torch.cov(x.reshape(-1, x.shape[-1]).T))
    return directions[:, :count], float(spread.mean()) ** 0.5


def _least_squares(normed: Tensor, wanted: Tensor, lag: int = 0) -> Tensor:
    """Fit a matrix that reads, at each place, what is wanted of the place `lag` before."""
    S = normed.shape[1]
    return _ridge(
        normed[:, FIRST:].flatten(0, 1), wanted[:, FIRST - lag : S - lag].flatten(0, 1), 1e-2
    )


def _ridge(given: Tensor, wanted: Tensor, weight: float) -> Tensor:
    gram = given.T @ given
    gram += torch.eye(len(gram)) * weight * gram.diagonal().mean()
    solved: Tensor = torch.linalg.solve(gram, given.T @ wanted)
    return solved.T


def _rows(D: int, width: int, head: int, part: int) -> slice:
    return slice(part * D + head * width, part * D + (head + 1) * width)


def _columns(width: int, head: int) -> slice:
    return slice(head * width, (head + 1) * width)


def grow(
    source: Path,
    tokens: Path,
    out: Path,
    how: Lookback,
    *,
    text_encoder: Path | None = None,
    dropout: float | None = None,
) -> Path:
    """Write a copy of a model with the heads built in; its ends and judges stay behind.

    Args:
        source: folder of the model.
        tokens: of music to fit the heads by.
        out: a new folder.
        how: what is built.
        text_encoder: MiniLM's folder; the one shipped where None.
        dropout: for the training that follows; the model's own where None.

    Returns:
        `out`, whole or not there.

    Raises:
        ConfigError: the folder is there, or the model is a low-rank end or too small.
        InputError: there are no tokens.
        StorageError: the folder cannot be written.
    """
    if out.exists():
        raise ConfigError(f"{out} is there already: name a new folder")
    if (source / LOW_RANK).is_file():
        raise ConfigError(f"{source} has no weights of its own: name the model it lies over")
    info = read_info(source)
    lm = load_lm(info).eval()
    _check(lm, how)
    _, pieces = load_tokens(tokens)
    captions = unique_captions(pieces)
    encoder = MiniLM.load(text_encoder or checkpoints_folder() / "minilm")
    pad = lm.config.pad_token
    crops = TokenDataset(pieces, captions, pad).draw(SEED, range(CROPS), CROP_FRAMES)
    with torch.inference_mode():
        text = encoder.encode([captions[number] for number in crops.captions])
    given = shift_right(apply_delay(crops.codes, pad), pad)
    build_lookback(lm, given, text, how)
    if dropout is not None:
        info = replace(info, lm=replace(info.lm, dropout=dropout))
    half_made = out.with_name(f"{out.name}.making")
    try:
        shutil.rmtree(half_made, ignore_errors=True)
        left = shutil.ignore_patterns("quality", "diversity", "rewards")
        shutil.copytree(source, half_made, ignore=left)
        save_model(half_made, info, lm.state_dict())
        half_made.rename(out)
    except OSError as error:
        raise StorageError(f"cannot write {out}: {error}") from error
    return out


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as a command; returns the exit status."""
    import argparse

    parser = argparse.ArgumentParser(description="Build heads that look back into a model.")
    parser.add_argument("model")
    parser.add_argument("--tokens", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--dropout", type=float, help="of the training that follows")
    given = parser.parse_args(arguments)
    try:
        source = find_model(given.model)
        grown = grow(source, given.tokens, given.out, Lookback(), dropout=given.dropout)
        sys.stdout.write(f"{grown}\n")
    except MusicgenRLError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
