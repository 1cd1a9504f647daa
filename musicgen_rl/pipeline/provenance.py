"""What a clip remembers of how it was made, and how a replay is held against it."""

import base64
import hashlib
import platform
import zlib
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from musicgen_rl.audio.tags import package_version
from musicgen_rl.checkpoint import ModelInfo

MADE_BY = "made by a model, not a recording"
_MOST_CHECKS = 1500  # one byte each; a longer clip has one for several frames


def versions() -> dict[str, str]:
    """List what the sound can depend on besides the settings."""
    return {
        "musicgen-rl": package_version(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
    }


def describe_model(info: ModelInfo, sha256: str) -> dict[str, Any]:
    """Say for a clip's settings what made it: model, licence, window, versions, when."""
    return {
        "format": 1,
        "made_by": MADE_BY,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": info.name,
        "model_sha256": sha256,
        "weights_license": info.license,
        "window": asdict(info.window),
        "versions": versions(),
    }


def describe_codes(codes: NDArray[np.int64], wanted_frames: int) -> dict[str, Any]:
    """Say for a clip's settings what came out: codes [K, T], and whether that is all of it."""
    return {
        "complete": codes.shape[-1] == wanted_frames,
        "codes_sha256": codes_hash(codes),
        "codes_checks": frame_checks(codes),
    }


def codes_hash(codes: NDArray[np.int64]) -> str:
    """Hash codes [K, T]: sha256 over the frames in order."""
    return hashlib.sha256(_frames(codes).tobytes()).hexdigest()


def frame_checks(codes: NDArray[np.int64]) -> dict[str, Any]:
    """Make one check byte for every frame, or for every few frames of a long clip.

    Args:
        codes: [K, T].

    Returns:
        {"every": frames a byte, "bytes": base64}. A replay that differs is caught at its first
        frame with probability 255/256, and soon after otherwise.
    """
    frames = _frames(codes)  # [T, K]
    every = -(-max(len(frames), 1) // _MOST_CHECKS)
    checks = bytes(
        zlib.crc32(frames[i : i + every].tobytes()) & 0xFF for i in range(0, len(frames), every)
    )
    return {"every": every, "bytes": base64.b64encode(checks).decode()}


def first_difference(codes: NDArray[np.int64], checks: dict[str, Any]) -> int | None:
    """Find the first frame where codes [K, T] are not those the checks were made of.

    Returns:
        Its index (the first of its few, where a byte stands for several), or None.
    """
    every, stored = int(checks["every"]), base64.b64decode(checks["bytes"])
    frames = _frames(codes)
    for i, check in enumerate(stored):
        block = frames[i * every : (i + 1) * every]
        if not len(block) or zlib.crc32(block.tobytes()) & 0xFF != check:
            return i * every
    return None if len(frames) <= len(stored) * every else len(stored) * every


def _frames(codes: NDArray[np.int64]) -> NDArray[np.uint16]:
    return np.ascontiguousarray(codes.T.astype("<u2"))
