"""Make the results of pocket again that are of other weights than those in the folder.

    python benchmarks/remake.py [--work runs/remake] [--lanes 2] [--only NAME ...] [--list]

Every result here was written by one command with the weights' hash beside it. Where that is another
one than the model's now, the command is run again, `--lanes` of them side by side on one thread
each; what is up to date is left, so a stopped call is simply made again. `--list` tells, and makes
nothing. Held-out pieces are made first, in WORK, by the same commands as ever: their seeds say what
they are. Results that need a file which is not ours (`--captions`, for people's own words) are left
out without it.

Each command's output goes to WORK/NAME.log; the last line of one that fails is shown.
"""

import argparse
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from musicgen_rl.checkpoint import find_model, model_hash, read_info
from musicgen_rl.errors import MusicgenRLError
from musicgen_rl.storage import read_json

HERE = Path(__file__).parent
HELD, PROBE = "held", "probe"
PIECES = {
    HELD: "--hours 3 --seed 910 --valid .49 --test .49",
    PROBE: "--hours 1 --seed 4711 --test .9",
}
"""Held-out music -> how `data make` makes it."""
OWN = "{captions}"


@dataclass(frozen=True)
class Result:
    """One file of results/ and what makes it."""

    name: str
    command: str
    """Script and options; {held} and {probe} are manifests, {captions} people's own words."""


RESULTS = (
    Result("variety", "variety --manifest {held}"),
    Result("pocket_adherence", "pocket_adherence --manifest {held} --out {out}.json"),
    Result("heard", "heard"),
    Result("heard_lead", "heard --ways free chords --lead"),
    Result("heard_takes", "heard --ways chords --takes 1 4"),
    Result("early_guidance", "early_guidance"),
    Result("keys", "keys --manifest {probe} --split test --diversity 0 .5 1"),
    Result("steady", "steady --manifest {probe} --keys auto --diversity 0 .5 1"),
    Result("chords", "chords --manifest {probe} --louder .75 1 1.25 --diversity .5"),
    Result("chords_returning", "chords --manifest {probe} --returning 0 1 --diversity .5"),
    Result("held", "takes --manifest {probe} --split test --takes 1 --tempo free held"
           " --diversity 0 .5 1"),
    Result("pocket_music", "pocket_music --manifest {held}"),
    Result("pocket_music_dial", "pocket_music --manifest {held} --diversity .5 {aside}"),
    Result("pocket_music_probe", "pocket_music --manifest {probe} {aside}"),
    Result("pocket_music_held", "pocket_music --manifest {probe} --held {aside}"),
    Result("pocket_music_chords", "pocket_music --manifest {probe} --chords {aside}"),
    Result("pocket_music_dial_probe", "pocket_music --manifest {probe} --diversity .5 {aside}"),
    Result("pocket_music_dial_held",
           "pocket_music --manifest {probe} --diversity .5 --held {aside}"),
    Result("pocket_music_dial_chords",
           "pocket_music --manifest {probe} --diversity .5 --chords {aside}"),
    Result("jam_prompts", "jam_prompts"),
    Result("steady_keys", "steady --manifest {probe} --keys own --diversity .5"),
    Result("keys_captions", "keys --manifest {probe} --split test --ask captions --diversity .5"),
    Result("held_takes", "takes --manifest {probe} --split test --takes 1 4 --tempo held"
           " --diversity 0"),
    Result("takes", "takes --manifest {probe} --split test --takes 1 4 8 --tempo free"
           " --diversity 0"),
    Result("best_of", "best_of"),
    Result("pocket_prompts", "pocket_prompts"),
    Result("pocket_prompts_steady", "pocket_prompts --steady {aside}"),
    Result("pocket_prompts_dial", "pocket_prompts --diversity .5 {aside}"),
    Result("pocket_prompts_dial_steady", "pocket_prompts --diversity .5 --steady {aside}"),
    Result("pocket_prompts_dial_auto",
           "pocket_prompts --diversity .5 --steady --key auto {aside}"),
    Result("pocket_prompts_dial_chords",
           "pocket_prompts --diversity .5 --steady --key auto --chords auto {aside}"),
    Result("pocket_own_words", "pocket_prompts --own {captions}"),
)  # fmt: skip
"""The longest first, so that the last lane does not wait long."""


def made_of(path: Path) -> str | None:
    """Read which weights a result is of.

    Args:
        path: results/NAME.json.

    Returns:
        Their sha256; None where there is no result, or it does not tell.
    """
    if not path.is_file():
        return None
    found = read_json(path)
    told = found.get("model_sha256") or found.get("about", {}).get("model_sha256")
    return str(told) if told else None


def arguments(
    result: Result, model: str, out: Path, work: Path, captions: Path | None
) -> list[str]:
    """Write the command line that makes a result."""
    stem = out / result.name
    filled = result.command.format(
        held=work / HELD / "manifest.jsonl", probe=work / PROBE / "manifest.jsonl",
        captions=captions, out=stem, aside=f"--picture {work / (result.name + '.png')}",
    )  # fmt: skip
    script, *options = shlex.split(filled)
    if "--out" not in options:
        options += ["--out", str(stem)]
    return [sys.executable, str(HERE / f"{script}.py"), "--model", model, *options]


def make_pieces(work: Path, names: Sequence[str], lanes: int) -> None:
    """Make the held-out pieces that are missing."""
    for name in names:
        subprocess.run(
            [sys.executable, "-m", "musicgen_rl", "data", "make", str(work / name),
             *PIECES[name].split(), "--workers", str(lanes)],
            check=True,
        )  # fmt: skip


def run(command: Sequence[str], log: Path) -> str | None:
    """Run a command; return the last line of what it said where it failed, else None."""
    threads = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    with log.open("w", encoding="utf-8") as file:
        code = subprocess.run(
            command, stdout=file, stderr=subprocess.STDOUT, env=os.environ | threads, check=False
        ).returncode
    said = log.read_text(encoding="utf-8").strip().splitlines()
    return None if code == 0 else f"exit {code}: {said[-1] if said else 'it said nothing'}"


def chosen(only: Sequence[str], captions: Path | None) -> Iterator[Result]:
    """List what may be made."""
    for result in RESULTS:
        if (not only or result.name in only) and (captions or OWN not in result.command):
            yield result


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--work", type=Path, default=Path("runs/remake"))
    parser.add_argument("--out", type=Path, default=HERE / "results")
    parser.add_argument("--lanes", type=int, default=2, help="commands side by side")
    parser.add_argument("--only", nargs="+", default=[], choices=[r.name for r in RESULTS])
    parser.add_argument("--captions", type=Path, help="csv of people's own words")
    parser.add_argument("--list", action="store_true", help="tell which are of other weights")
    given = parser.parse_args()
    try:
        now = model_hash(read_info(find_model(given.model)))
        results = list(chosen(given.only, given.captions))
        of = {r.name: made_of(given.out / f"{r.name}.json") for r in results}
    except MusicgenRLError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    stale = [r for r in results if of[r.name] != now]
    if given.list:
        for result in results:
            told = "up to date" if result not in stale else f"of {(of[result.name] or '?')[:12]}"
            print(f"{result.name}: {told}")
        return 0
    given.work.mkdir(parents=True, exist_ok=True)
    given.out.mkdir(parents=True, exist_ok=True)
    needed = [name for name in PIECES if any(f"{{{name}}}" in r.command for r in stale)]
    make_pieces(given.work, needed, given.lanes)

    def make(result: Result) -> bool:
        command = arguments(result, given.model, given.out, given.work, given.captions)
        problem = run(command, given.work / f"{result.name}.log")
        print(f"{result.name}: {problem or 'made'}", flush=True)
        return problem is None

    with ThreadPoolExecutor(given.lanes) as pool:
        return 0 if all(list(pool.map(make, stale))) else 1


if __name__ == "__main__":
    sys.exit(main())
