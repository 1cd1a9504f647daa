"""A corpus that reward models can learn in seconds: pieces that differ by chord and pulse."""

import json
from pathlib import Path

import numpy as np
import soundfile

STYLES = ("hum", "beat")
RATE = 16000


def write_corpus(folder: Path, pieces: int = 12, seconds: float = 9.0) -> Path:
    """Write short pieces of two styles; returns the manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    t = np.arange(round(RATE * seconds)) / RATE
    rows = []
    for i in range(pieces):
        random = np.random.default_rng(i)
        style = STYLES[i % 2]
        hertz = 150.0 * 2.0 ** (i / 4)
        chord = sum(np.sin(2 * np.pi * hertz * k * t + k) / k for k in (1, 1.5, 2, 3))
        pulse = np.sin(2 * np.pi * (1.5 + i / 5) * t) > 0 if style == "beat" else np.ones_like(t)
        samples = 0.1 * chord * pulse + 0.005 * random.standard_normal(len(t))
        soundfile.write(folder / f"{i}.wav", samples.astype(np.float32), RATE)
        captions = [f"{style} number {i}", f"a {style} at {hertz:.0f}"]
        attributes = {
            "style": style, "tempo_bpm": 80 if style == "hum" else 130,
            "tempo_band": "slow" if style == "hum" else "fast", "drums": style == "beat",
            "instruments": [style, "organ"], "moods": ["calm"] if style == "hum" else [],
        }  # fmt: skip
        split = ("valid", "test")[i % 2] if i >= pieces - 4 else "train"
        rows.append({"audio": f"{i}.wav", "captions": captions, "attributes": attributes,
                     "piece": f"p{i}", "split": split})  # fmt: skip
    path = folder / "manifest.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
