"""A sheet of spectrograms, one of every style."""

import io
from pathlib import Path

import librosa
import numpy as np
import soundfile as sf

from musicgen_rl.data.manifest import Entry, read_manifest, write_atomic
from musicgen_rl.errors import InputError

SECONDS = 12.0
COLUMNS = 5
COLOURS = 32


def pick_styles(entries: list[Entry]) -> list[Entry]:
    """Return the first entry of every style, styles in alphabetical order."""
    first: dict[str, Entry] = {}
    for entry in entries:
        first.setdefault(str(entry.attributes.get("style", "")), entry)
    return [first[name] for name in sorted(first)]


def draw_spectrograms(manifest: Path, figure: Path) -> None:
    """Draw the first seconds of one piece of every style as mel spectrograms.

    Args:
        manifest: jsonl file of a corpus.
        figure: PNG file to write.

    Raises:
        InputError: if the manifest or its audio cannot be read.
    """
    from matplotlib.figure import Figure
    from PIL import Image

    picked = pick_styles(read_manifest(manifest))
    rows = -(-len(picked) // COLUMNS)
    sheet = Figure(figsize=(2.6 * COLUMNS, 1.25 * rows), layout="constrained")
    for index, entry in enumerate(picked):
        path = manifest.parent / entry.audio
        try:
            with sf.SoundFile(path) as file:
                rate = int(file.samplerate)
                samples = file.read(int(SECONDS * rate), dtype="float32", always_2d=True)
        except (sf.LibsndfileError, OSError) as error:
            raise InputError(f"cannot read {path}: {error}") from error
        mel = librosa.feature.melspectrogram(
            y=samples.mean(axis=1), sr=rate, n_fft=2048, hop_length=rate // 12, n_mels=56
        )
        axes = sheet.add_subplot(rows, COLUMNS, index + 1)
        decibels = librosa.power_to_db(mel, ref=np.max, top_db=70)
        axes.imshow(decibels, origin="lower", aspect="auto", cmap="magma")
        facts = entry.attributes
        axes.set_title(
            f"{facts.get('style', '')}, {facts.get('tempo_bpm', '')} bpm",
            fontsize=7,
        )
        axes.set_axis_off()
    drawn, packed = io.BytesIO(), io.BytesIO()
    sheet.savefig(drawn, format="png", dpi=84)
    # A palette keeps the sheet small enough for a repository.
    Image.open(drawn).convert("RGB").quantize(COLOURS).save(packed, format="png", optimize=True)
    write_atomic(figure, packed.getvalue())
