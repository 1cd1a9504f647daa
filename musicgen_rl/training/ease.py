"""Take back part of what a low-rank endpoint learnt, and move the place it starts from.

    python -m musicgen_rl.training.ease pocket/diversity --part 0.25 --share 0.75

The weights become start + part x (endpoint - start): the linear interpolation towards
initialisation of arXiv:2406.16768, for a run that went further than is worth its cost in
adherence. The start is the model the endpoint lies over, moved towards the base by a share; a
larger share begins nearer to the base. Source: arXiv:2406.16768, section 3.3.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from musicgen_rl.checkpoint import CARD, LOW_RANK, blended_with, lies_over, load_state, read_info
from musicgen_rl.config import require_number
from musicgen_rl.errors import ConfigError, MusicgenRLError
from musicgen_rl.lm.low_rank import LowRankDelta, blend, on_grid
from musicgen_rl.storage import read_json, read_tensors, save_tensors, write_json
from musicgen_rl.training.endpoint_place import place_endpoint


def ease(folder: Path, part: float, share: float | None = None, out: Path | None = None) -> None:
    """Change a low-rank endpoint in place, or a copy of it.

    Args:
        folder: of the endpoint.
        part: of its way from the start that is kept, 0 to 1.
        share: of the way from the model it lies over to the base, where the start is then; a
            multiple of 1/256. Where it was if None.
        out: folder for a copy, which is changed instead; an endpoint there is replaced.

    Raises:
        ConfigError: it is no low-rank endpoint, or was not moved towards a base.
        CheckpointError: a model it refers to is missing or another one.
        StorageError: the disk is full; the endpoint is as it was.
    """
    require_number("part", part, 0.0, 1.0)
    require_number("share", 0.0 if share is None else share, 0.0, 1.0)
    file = folder / LOW_RANK
    if not file.is_file():
        raise ConfigError(f"{folder} is no low-rank endpoint: it has no {LOW_RANK}")
    info = read_info(folder)
    towards = blended_with(info)
    if towards is None:
        raise ConfigError(f"{folder} starts from one model alone: train it with start_blend")
    base, before = load_state(towards[0]), towards[1]
    now = before if share is None else share
    over = load_state(lies_over(info))
    old, new = blend(over, base, before), blend(over, base, now)
    delta = LowRankDelta.from_tensors(read_tensors([file]), str(file))
    factors = {n: on_grid(a.float(), part * b.float()) for n, (a, b) in delta.factors.items()}
    whole = {n: new[n] + part * (tensor - old[n]) for n, tensor in delta.whole.items()}
    folder = folder if out is None else place_endpoint(folder, out)
    card = read_json(folder / CARD)
    card["notes"]["low_rank"]["towards"]["share"] = now
    eased = card["notes"].get("eased", {"part": 1.0, "trained_at_share": before})
    card["notes"]["eased"] = {**eased, "part": eased["part"] * part}
    save_tensors(LowRankDelta(factors, whole).tensors(), folder / LOW_RANK)
    write_json(folder / CARD, card)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as a command; returns the exit status."""
    import argparse

    parser = argparse.ArgumentParser(description="Take back part of what an endpoint learnt.")
    parser.add_argument("endpoint", type=Path)
    parser.add_argument("--part", type=float, required=True, help="that is kept")
    parser.add_argument("--share", type=float, help="of the way to the base, where it starts")
    parser.add_argument("--out", type=Path, help="change a copy here instead")
    given = parser.parse_args(arguments)
    try:
        ease(given.endpoint, given.part, given.share, given.out)
    except MusicgenRLError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
