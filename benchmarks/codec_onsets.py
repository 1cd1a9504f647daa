"""Does the codec keep the notes' beginnings, judged by the notes that were composed?

    python benchmarks/codec_onsets.py --corpus FOLDER [--codec checkpoints/pocket/codec]
        [--pieces 80] [--seconds 10] [--out STEM]

`codec_report` holds the onsets found in a reconstruction against those found in the original. Both
are guesses of the finder (librosa), which takes the swelling of strings and choirs for onsets, and
takes it otherwise where a sound has changed a little. Here both are held against the truth: every
piece of a corpus by `musicgen-rl data make` is composed again from its seed, and its notes' and
hits' beginnings, those within 40 ms of another one as one, are what is to be found within 50 ms.

*Given up* is the share of the finder's F1 that the codec costs. Clips start at 5 s. `musicgen-rl
data make probe --hours 1 --seed 4711 --test 0.9` makes music that pocket's codec never learnt from.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from musicgen_rl.checkpoint import checkpoints_folder
from musicgen_rl.codec.load import load_codec
from musicgen_rl.data.manifest import read_manifest
from musicgen_rl.data.pocket.compose import Piece
from musicgen_rl.data.pocket.corpus import OPTIONS, compose_piece
from musicgen_rl.data.pocket.corpus_config import CorpusConfig
from musicgen_rl.data.pocket.score import LEAD_IN_S
from musicgen_rl.errors import InputError, MusicgenRLError
from musicgen_rl.storage import write_json
from musicgen_rl.training.codec_report import (
    ONSET_HOP,
    ONSET_WINDOW_S,
    match_onsets,
    onset_f1,
    onset_times,
)
from musicgen_rl.training.reward_mels import read_mono
from musicgen_rl.training.tokens import hash_folder

START_S = 5.0
ONE_S = 0.04
"""Notes that begin within so many seconds are one onset: a chord, played by hand."""
SOUNDS = ("original", "moved by 5 ms", "through the codec")


def composed_onsets(piece: Piece, start_s: float, end_s: float) -> list[float]:
    """List where notes and hits begin between two times, in seconds from the first of them."""
    score, found = piece.score, list[float]()
    for time in sorted(
        score.time_of(note.start) + note.shift_s + LEAD_IN_S
        for part in score.parts for note in part.notes
    ):  # fmt: skip
        if start_s <= time < end_s and (not found or time - start_s - found[-1] > ONE_S):
            found.append(time - start_s)
    return found


def render(found: Mapping[str, Any]) -> str:
    """Write the measurements as Markdown."""
    lines = [
        "# Does the codec keep the notes' beginnings?", "",
        f"Made by `benchmarks/codec_onsets.py`; its first lines say what is measured. "
        f"{found['clips']} clips of {found['seconds']:g} s, {found['onsets']} onsets that were "
        "composed.", "",
        "| sound | onsets found | of them composed | F1 by what was composed | by the original |",
        "|---|---|---|---|---|",
    ]  # fmt: skip
    for name, row in found["sounds"].items():
        lines.append(
            f"| {name} | {row['found']} | {row['right']} | {row['composed_f1']:.3f} | "
            f"{row['original_f1']:.3f} |"
        )
    return "\n".join([*lines, "", f"Given up: {100 * found['given_up']:.1f} %.", ""])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, required=True, help="made by `data make`")
    parser.add_argument("--codec", type=Path, default=checkpoints_folder() / "pocket/codec")
    parser.add_argument("--pieces", type=int, default=80)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/codec_onsets"))
    given = parser.parse_args()
    try:
        codec = load_codec(given.codec)
        options = json.loads((given.corpus / OPTIONS).read_text(encoding="utf-8"))
        config = CorpusConfig(output=given.corpus, **options)
        pieces = read_manifest(given.corpus / "manifest.jsonl")[: given.pieces]
        by_truth, by_ear = ({name: np.zeros(3, int) for name in SOUNDS} for _ in range(2))
        clips = 0
        for entry in pieces:
            samples, rate = read_mono(given.corpus / entry.audio)
            if rate != codec.sample_rate:
                raise InputError(f"{entry.audio} has {rate} Hz, the codec {codec.sample_rate}")
            first, length = round(START_S * rate), round(given.seconds * rate)
            clip = samples[first : first + length]
            if len(clip) < length:
                continue
            piece = compose_piece(config, int(Path(entry.audio).stem.rsplit("-", 1)[1]))
            truth = composed_onsets(piece, START_S, START_S + given.seconds)
            made = codec.decode(codec.encode(clip[None, None]))[0, 0, :length]
            moved = torch.nn.functional.pad(clip, (ONSET_HOP // 2, 0))[:length]
            heard = onset_times(clip, rate)
            for name, sound in zip(SOUNDS, (clip, moved, made), strict=True):
                found = onset_times(sound, rate)
                for counts, wanted in ((by_truth, truth), (by_ear, heard)):
                    pairs = match_onsets(found, wanted, ONSET_WINDOW_S)
                    counts[name] += np.array([pairs, len(found), len(wanted)])
            clips += 1
        if not clips:
            raise InputError(f"no piece lasts {START_S + given.seconds:g} s: give --seconds less")
    except (OSError, ValueError, TypeError, MusicgenRLError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sounds = {
        name: {
            "found": int(by_truth[name][1]), "right": int(by_truth[name][0]),
            "composed_f1": onset_f1(*map(int, by_truth[name])),
            "original_f1": onset_f1(*map(int, by_ear[name])),
        }
        for name in SOUNDS
    }  # fmt: skip
    kept = sounds[SOUNDS[2]]["composed_f1"] / sounds[SOUNDS[0]]["composed_f1"]
    report = {
        "codec_hash": hash_folder(given.codec), "clips": clips, "seconds": given.seconds,
        "onsets": int(by_truth[SOUNDS[0]][2]), "sounds": sounds, "given_up": 1.0 - kept,
    }  # fmt: skip
    write_json(given.out.with_suffix(".json"), report)
    given.out.with_suffix(".md").write_text(render(report), encoding="utf-8")
    sys.stdout.write(render(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
