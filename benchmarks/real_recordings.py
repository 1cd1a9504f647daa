"""Cut ten-second clips out of real recordings, to judge a codec on music it was not made for.

The recordings are music of free games, as Debian packages it; they are not part of this repository.

    apt-get download 0ad-data supertuxkart-data ufoai-music wesnoth-1.16-music
    for deb in *.deb; do mkdir -p "${deb%%_*}"; dpkg-deb -x "$deb" "${deb%%_*}"; done
    python benchmarks/real_recordings.py 0ad-data supertuxkart-data ufoai-music \\
        wesnoth-1.16-music --out real
    python -m musicgen_rl.training.codec_report checkpoints/pocket/codec real/manifest.jsonl \\
        --split test --clips 40 --out real/report

Music is every ogg or mp3 file of at least 20 s, with "music" in its path, in a folder or in the zip
archives within it (a pk3 is one). From each package the same number of tracks is taken, evenly
along their sorted names, and from each track its middle.
"""

import argparse
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
import torch

from musicgen_rl.errors import InputError

SUFFIXES = (".ogg", ".mp3")
ARCHIVES = (".zip", ".pk3")
SHORTEST_S = 20.0


def tracks(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Name and read every music file of a folder and of the archives in it, by sorted name."""
    found: list[tuple[str, Path, str]] = []
    for path in folder.rglob("*"):
        if path.suffix in SUFFIXES:
            found.append((str(path.relative_to(folder)), path, ""))
        elif path.suffix in ARCHIVES:
            with zipfile.ZipFile(path) as archive:
                found += [(n, path, n) for n in archive.namelist() if n.endswith(SUFFIXES)]
    for name, path, member in sorted(found):
        if "music" not in name.lower():
            continue
        if not member:
            yield name, path.read_bytes()
            continue
        with zipfile.ZipFile(path) as archive:
            yield name, archive.read(member)


def long_enough(content: bytes) -> bool:
    """Say whether a file holds a track rather than a sound effect."""
    try:
        info = soundfile.info(io.BytesIO(content))
    except soundfile.LibsndfileError:
        return False
    return info.duration >= SHORTEST_S


def middle(content: bytes, seconds: float, rate: int) -> np.ndarray:
    """Read the middle of a track, folded to mono, [M] at `rate` Hz."""
    import torchaudio.functional

    data, own = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)
    length = round(seconds * own)
    start = (len(data) - length) // 2
    mono = torch.from_numpy(data[start : start + length].mean(1))
    return torchaudio.functional.resample(mono, own, rate)[: round(seconds * rate)].numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("packages", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--each", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rate", type=int, default=32000)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    lines = []
    for package in options.packages:
        names = [(n, c) for n, c in tracks(package) if long_enough(c)]
        if len(names) < options.each:
            raise InputError(f"{package} holds {len(names)} tracks, {options.each} are asked for")
        for index in np.linspace(0, len(names) - 1, options.each).round().astype(int):
            name, content = names[index]
            file = f"{package.name}-{index:03d}.wav"
            soundfile.write(options.out / file, middle(content, options.seconds, options.rate),
                            options.rate)  # fmt: skip
            lines.append({
                "audio": file, "captions": [f"music of {package.name}"], "piece": name,
                "split": "test", "attributes": {"package": package.name}, "license": "unknown",
            })  # fmt: skip
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (options.out / "manifest.jsonl").write_text(text)
    print(f"{len(lines)} clips in {options.out}")


if __name__ == "__main__":
    main()
