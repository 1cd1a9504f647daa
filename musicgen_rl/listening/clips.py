"""The key: which opaque file is which clip. Read by the server and the analysis, never sent.

All clips are 16-bit wav of one length, rate and number of channels, with nothing but samples in
them: their sizes are equal to the byte.
"""

import hashlib
import io
import wave
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musicgen_rl.errors import InputError
from musicgen_rl.listening.assignment import ClipKey
from musicgen_rl.listening.files import read_json, write_json
from musicgen_rl.listening.study import Study

KEY_FILE = "key.json"
CLIPS_FOLDER = "clips"
_HOW = "`musicgen-rl listen make FOLDER` makes the clips and their key"


@dataclass(frozen=True)
class StoredClip:
    """One file of the study."""

    key: ClipKey
    name: str
    """File name, random letters."""
    sha256: str


@dataclass(frozen=True)
class ClipStore:
    """Every clip of a study."""

    folder: Path
    by_key: Mapping[ClipKey, StoredClip]
    lufs: float
    """Loudness of all clips."""

    def samples(self, key: ClipKey) -> NDArray[np.int16]:
        """Read a clip: [M, C].

        Raises:
            InputError: it is missing or damaged; the message holds its path, so it is no rater's.
        """
        return read_wav(self.folder / CLIPS_FOLDER / self.by_key[key].name)[0]


def wav_bytes(samples: NDArray[np.int16], sample_rate: int) -> bytes:
    """Write a wav file of nothing but a header of 44 bytes and samples.

    Args:
        samples: [M, C].
        sample_rate: Hz.
    """
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(samples.shape[1])
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        file.writeframes(np.ascontiguousarray(samples, dtype="<i2").tobytes())
    return out.getvalue()


def read_wav(path: Path) -> tuple[NDArray[np.int16], int]:
    """Read what `wav_bytes` wrote.

    Returns:
        Samples [M, C] and Hz.

    Raises:
        InputError: it is missing or something else.
    """
    try:
        with wave.open(str(path), "rb") as file:
            if file.getsampwidth() != 2:
                raise InputError(f"{str(path)!r} is not 16-bit: {_HOW}")
            data = file.readframes(file.getnframes())
            shape = (-1, file.getnchannels())
            return np.frombuffer(data, dtype="<i2").reshape(shape), file.getframerate()
    except FileNotFoundError:
        raise InputError(f"the clip {str(path)!r} is missing: {_HOW}") from None
    except (OSError, EOFError, ValueError, wave.Error) as error:
        raise InputError(f"{str(path)!r} is not a wav file ({error}): {_HOW}") from None


def dithered(samples: NDArray[np.int16], seed: str) -> NDArray[np.int16]:
    """Move every sample by -1, 0 or 1 of 65,536 steps, so that no two plays are the same bytes.

    Without it a repeated clip, a hidden reference and X of abx could be told by comparing files.
    Far below hearing: -98 dB of full scale. The same seed gives the same bytes.

    Args:
        samples: [M, C].
        seed: any text.
    """
    number = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8])
    noise = np.random.default_rng(number).integers(-1, 2, samples.shape, dtype=np.int16)
    # Full scale stays where it is: it must not wrap around.
    moved: NDArray[np.int16] = np.clip(samples.astype(np.int32) + noise, -32768, 32767).astype(
        np.int16
    )
    return moved


def write_key(folder: Path, study: Study, clips: Iterable[StoredClip], made: Any) -> Path:
    """Write the key.

    Args:
        folder: of the study.
        study: the clips were made for.
        clips: all of them.
        made: how they were made, for the record: loudness, or that they are noise.
    """
    entries = [asdict(clip.key) | {"name": clip.name, "sha256": clip.sha256} for clip in clips]
    content = {"made_for": study.clip_digests(), "made": made, "clips": entries}
    return write_json(folder / KEY_FILE, content, private=True)


def load_clips(
    folder: Path, study: Study, wanted: Iterable[ClipKey], *, simulated: bool = False
) -> ClipStore:
    """Read the key and check every clip that is wanted.

    Args:
        folder: of the study.
        study: what the clips must fit.
        wanted: `assignment.required_clips`.
        simulated: whether nobody listens, so that clips of noise will do.

    Raises:
        InputError: the clips were made for other arms, prompts or rules, or are noise; or a clip
            is missing, changed, or of another length, rate or number of channels.
    """
    content = read_json(folder / KEY_FILE, _HOW)
    if not simulated and is_sham(content):
        raise InputError(
            f"{str(folder / KEY_FILE)!r} names clips of noise, as `listen simulate` makes them, "
            f"which nobody is to judge: {_HOW}"
        )
    _require_made_for(study, content, folder / KEY_FILE)
    by_key, wanted = _stored(content), list(wanted)
    missing = [key for key in wanted if key not in by_key]
    if missing:
        first = missing[0]
        raise InputError(
            f"{len(missing)} of {len(wanted)} clips are missing, the first is prompt "
            f"{first.prompt + 1}, clip {first.index + 1} of arm {first.arm!r}: {_HOW}"
        )
    shape = (round(study.clips.duration_s * study.clips.sample_rate), study.clips.channels)
    for key in wanted:
        path = folder / CLIPS_FOLDER / by_key[key].name
        samples, rate = read_wav(path)
        if (samples.shape, rate) != (shape, study.clips.sample_rate):
            raise InputError(
                f"{str(path)!r} holds {len(samples)} samples of {samples.shape[1]} channels at "
                f"{rate} Hz, the study says {shape[0]} of {shape[1]} at "
                f"{study.clips.sample_rate} Hz: all clips must be alike; {_HOW}"
            )
        if hashlib.sha256(path.read_bytes()).hexdigest() != by_key[key].sha256:
            raise InputError(f"{str(path)!r} was changed after it was made: {_HOW}")
    lufs = (content.get("made") or {}).get("target_lufs", study.clips.target_lufs)
    return ClipStore(folder, {key: by_key[key] for key in wanted}, float(lufs))


def is_sham(content: Mapping[str, Any]) -> bool:
    """Tell whether a key's clips are noise that stands for clips."""
    return bool((content.get("made") or {}).get("sham"))


def clips_are_made(folder: Path, study: Study, wanted: Iterable[ClipKey]) -> bool:
    """Tell whether a folder's key names every clip of the study as it is now, and none is noise.

    Args:
        folder: of the study.
        study: what the clips must fit.
        wanted: `assignment.required_clips`.
    """
    try:
        content = read_json(folder / KEY_FILE, _HOW)
    except InputError:  # there is none, or nobody can read it
        return False
    fit = not is_sham(content) and not _changed(study, content)
    return fit and set(wanted) <= set(_stored(content))


def _stored(content: Mapping[str, Any]) -> dict[ClipKey, StoredClip]:
    """List the clips that a key names."""
    found: dict[ClipKey, StoredClip] = {}
    for entry in content.get("clips", []):
        key = ClipKey(entry["arm"], entry["prompt"], entry["index"], entry["treatment"])
        found[key] = StoredClip(key, entry["name"], entry["sha256"])
    return found


def _changed(study: Study, content: Mapping[str, Any]) -> list[str]:
    """Name the parts of the study that are other ones than a key's clips were made for."""
    made_for = content.get("made_for")
    if made_for is not None:
        now = study.clip_digests()
        return [part for part in now if made_for.get(part) != now[part]]
    # An earlier version wrote the hash of the whole study.
    return [] if content.get("study") == study.digest() else ["contents"]


def _require_made_for(study: Study, content: Mapping[str, Any], path: Path) -> None:
    """Hold that a key's clips are those of the study."""
    if changed := _changed(study, content):
        raise InputError(
            f"the clips of {str(path)!r} were made before the {' and the '.join(changed)} of the "
            f"study were changed, and do not fit any more: {_HOW}"
        )
