"""Clips of noise, for studies in which nobody listens: simulations and tests."""

import hashlib
import secrets

import numpy as np
from numpy.typing import NDArray

from musicgen_rl.listening.assignment import ClipKey, required_clips
from musicgen_rl.listening.clips import (
    CLIPS_FOLDER,
    ClipStore,
    StoredClip,
    load_clips,
    wav_bytes,
    write_key,
)
from musicgen_rl.listening.plan import Plan


def write_sham_clips(plan: Plan) -> ClipStore:
    """Write a different noise for every clip the plan needs, with a key."""
    folder = plan.folder / CLIPS_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    rules = plan.study.clips
    made = []
    for key in required_clips(plan.assignment):
        seed = int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:8])
        shape = (round(rules.duration_s * rules.sample_rate), rules.channels)
        noise = np.random.default_rng(seed).integers(-3000, 3000, shape, dtype=np.int16)
        data = wav_bytes(noise, rules.sample_rate)
        name = f"{secrets.token_hex(8)}.wav"
        (folder / name).write_bytes(data)
        made.append(StoredClip(key, name, hashlib.sha256(data).hexdigest()))
    write_key(plan.folder, plan.study, made, {"sham": True})
    return load_clips(plan.folder, plan.study, required_clips(plan.assignment), simulated=True)


class Ears:
    """Tells which clip a sound is, as a listener would tell good from bad: by its sound alone.

    Args:
        clips: all there are.
        points: samples of each that are compared.
    """

    def __init__(self, clips: ClipStore, points: int = 64) -> None:
        self._keys: list[ClipKey] = list(clips.by_key)
        first = clips.samples(self._keys[0])
        self._length = len(first)
        self._places = np.linspace(0, self._length - 1, points).astype(int)
        self._known = np.stack([self._at(clips.samples(key)) for key in self._keys])  # [N, points]

    def hear(self, samples: NDArray[np.int16]) -> tuple[ClipKey, ...]:
        """Name the clips that a player played one after the other.

        Args:
            samples: [M, C], a whole number of clips long.
        """
        parts = np.split(samples, len(samples) // self._length)
        return tuple(self._name(part) for part in parts)

    def _name(self, samples: NDArray[np.int16]) -> ClipKey:
        distance = np.abs(self._known - self._at(samples)).max(1)
        return self._keys[int(distance.argmin())]

    def _at(self, samples: NDArray[np.int16]) -> NDArray[np.int32]:
        picked: NDArray[np.int32] = samples[self._places, 0].astype(np.int32)
        return picked
