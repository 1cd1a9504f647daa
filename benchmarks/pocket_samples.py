"""A dozen clips to listen to, seed 0 of each, nothing picked: docs/samples.

    python benchmarks/pocket_samples.py [--model pocket] [--out docs/samples]

Six play at the quality end of the dial, two with the base's own sampling, two in the dial's middle
and two at its diversity end; the prompts were written down before any clip was made. Writes ogg
files of 10 s and README.md with the command that makes each. Files of an earlier run that are no
longer made are removed; more than 3 MB in all is refused.
"""

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from musicgen_rl.audio.clip import Clip
from musicgen_rl.errors import ConfigError
from musicgen_rl.pipeline import Pipeline

MOST_BYTES = 3_000_000
SECONDS = 10


@dataclass(frozen=True)
class Sample:
    """One clip to make."""

    prompt: str
    """What is asked for."""
    diversity: float | None
    """Where the dial stands; None plays the base as it is shipped."""

    @property
    def file(self) -> str:
        """Name of the file."""
        return re.sub(r"\W+", "-", self.prompt).strip("-").lower() + f"-{self.place}.ogg"

    @property
    def place(self) -> str:
        """The dial's place in a word."""
        names = {None: "base", 0.0: "quality", 1.0: "diversity"}
        return names.get(self.diversity, "middle")

    def command(self, model: str) -> str:
        """Give the command line that makes the clip."""
        dial = "" if self.diversity is None else f" --diversity {self.diversity:g}"
        return (
            f'musicgen-rl generate "{self.prompt}" --model {model} --duration {SECONDS} --seed 0'
            f"{dial} --format ogg"
        )


SAMPLES = (
    Sample("slow sad piano", 0.0),
    Sample("late night jazz trio with double bass", 0.0),
    Sample("heavy metal, fast and aggressive", 0.0),
    Sample("house music, four on the floor, 124 bpm", 0.0),
    Sample("a cheerful waltz for strings", 0.0),
    Sample("church choir and pipe organ", 0.0),
    Sample("slow sad piano", None),
    Sample("salsa with congas and trumpets", None),
    Sample("80s synthwave with arpeggios", 0.5),
    Sample("lo-fi hip hop to study to", 0.5),
    Sample("slow sad piano", 1.0),
    Sample("house music, four on the floor, 124 bpm", 1.0),
)


def make(pipeline: Pipeline, sample: Sample) -> Clip:
    """Play a sample."""
    return pipeline.generate(sample.prompt, duration_s=SECONDS, seed=0, diversity=sample.diversity)[
        0
    ]


def page(samples: Sequence[Sample], model: str, sha256: str, total: int) -> str:
    """Write the folder's README."""
    lines = [
        "# Samples", "",
        f"Twelve clips of {SECONDS} s by {model} (weights {sha256[:12]}), seed 0 of each, none "
        f"picked: made by `python benchmarks/pocket_samples.py`, {total / 1e6:.1f} MB. *Quality* "
        "and *diversity* are the two ends of the dial, *base* is the model without it, as it is "
        "shipped.", "",
        "| clip | dial | command |", "|---|---|---|",
    ]  # fmt: skip
    lines += [f"| [{s.prompt}]({s.file}) | {s.place} | `{s.command(model)}` |" for s in samples]
    return "\n".join([*lines, ""])


def write(pipeline: Pipeline, model: str, folder: Path, samples: Sequence[Sample]) -> int:
    """Make all clips and the page.

    Returns:
        Bytes of the clips.

    Raises:
        ConfigError: they are more than `MOST_BYTES`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for sample in samples:
        make(pipeline, sample).save(folder / sample.file, overwrite=True)
        print(sample.command(model), flush=True)
    kept = {sample.file for sample in samples}
    for path in folder.glob("*.ogg"):
        if path.name not in kept:
            path.unlink()
    total = sum((folder / name).stat().st_size for name in kept)
    if total > MOST_BYTES:
        raise ConfigError(f"the clips take {total} bytes, {MOST_BYTES} are allowed: make fewer")
    text = page(samples, model, pipeline.model_sha256, total)
    (folder / "README.md").write_text(text, encoding="utf-8")
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--out", type=Path, default=Path("docs/samples"))
    options = parser.parse_args()
    pipeline = Pipeline.load(options.model, device="cpu")
    total = write(pipeline, options.model, options.out, SAMPLES)
    print(f"{len(SAMPLES)} clips, {total / 1e6:.2f} MB in {options.out}")


if __name__ == "__main__":
    main()
