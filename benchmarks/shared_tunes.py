"""How many held-out pieces are on a tune that the model has learnt?

    python benchmarks/shared_tunes.py --held held/manifest.jsonl --learnt a/manifest.jsonl ...
        [--results benchmarks/results/pocket_adherence.json ...] [--out FILE]

A corpus keeps all arrangements of one tune out of copyright in one split, by a hash of the tune's
name. Where that split begins and ends follows from the shares of `data make`, so two corpora made
with other shares may have a tune on both sides. Counted are the held-out pieces whose `piece` is in
a training split, and the captions of `--results` that belong to them. The committed result, with
`--results` of the adherence and of the music, is of

    musicgen-rl data make first --hours 34 --seed 1313 --no-audio      # its first 2,555 lines
    musicgen-rl data make second --hours 34.8 --seed 3131 --no-audio
    musicgen-rl data make held --hours 3 --seed 910 --valid .49 --test .49 --no-audio

and, for the codec, of the first of these and

    musicgen-rl data make held-codec --hours 1.2 --seed 909 --valid .99 --test 0 --no-audio
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from musicgen_rl.data.manifest import Entry, read_manifest
from musicgen_rl.errors import MusicgenRLError
from musicgen_rl.storage import read_json, write_json


def shared(held: Sequence[Entry], learnt: Sequence[Entry]) -> list[Entry]:
    """List the held-out entries on a piece that is in the training split of `learnt`."""
    known = {entry.piece for entry in learnt if entry.split == "train"}
    return [entry for entry in held if entry.split != "train" and entry.piece in known]


def measure(
    held: Sequence[Entry], learnt: Sequence[Entry], results: dict[str, Sequence[str]]
) -> dict[str, Any]:
    """Count; see the top of this file.

    Args:
        held: entries of the manifest that was measured on.
        learnt: of all that was learnt from.
        results: name -> captions that were played.
    """
    found = shared(held, learnt)
    captions = {caption for entry in found for caption in entry.captions}
    out = [entry for entry in held if entry.split != "train"]
    return {
        "held out": len(out),
        "of these on a tune": sum(bool(entry.attributes.get("tune")) for entry in out),
        "on a tune learnt from": len(found),
        "captions": {
            name: {"played": len(asked), "of such pieces": sum(c in captions for c in asked)}
            for name, asked in results.items()
        },
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--held", type=Path, required=True)
    parser.add_argument("--learnt", type=Path, nargs="+", required=True)
    parser.add_argument("--first", type=int, help="lines of the first of LEARNT that were heard")
    parser.add_argument("--results", type=Path, nargs="*", default=[])
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    try:
        first, *others = (read_manifest(path) for path in given.learnt)
        learnt = [*first[: given.first], *(entry for entries in others for entry in entries)]
        asked = {path.stem: read_json(path)["about"]["captions"] for path in given.results}
        found = measure(read_manifest(given.held), learnt, asked)
        if given.out:
            write_json(given.out, found)
    except MusicgenRLError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    print(found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
