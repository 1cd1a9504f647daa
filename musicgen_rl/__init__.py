"""Text to music with a dial between quality and diversity.

from musicgen_rl import Pipeline

clips = Pipeline.load("pocket").generate("slow sad piano", duration_s=10, seed=1)
clips[0].save("piano.wav")
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from musicgen_rl import _torchaudio

if TYPE_CHECKING:
    from musicgen_rl.audio.clip import Clip as Clip
    from musicgen_rl.audio.io import read_audio as read_audio
    from musicgen_rl.audio.io import read_tags as read_tags
    from musicgen_rl.audio.loudness import LoudnessConfig as LoudnessConfig
    from musicgen_rl.config import SamplingConfig as SamplingConfig
    from musicgen_rl.errors import MusicgenRLError as MusicgenRLError
    from musicgen_rl.pipeline.core import Pipeline as Pipeline
    from musicgen_rl.pipeline.request import GenerationConfig as GenerationConfig

_torchaudio.install()  # before anything imports torchaudio, transformers, peft or encodec

# Imported when first asked for: `import musicgen_rl` alone must not cost torch's seconds.
_HOMES = {
    "Clip": "musicgen_rl.audio.clip",
    "GenerationConfig": "musicgen_rl.pipeline.request",
    "LoudnessConfig": "musicgen_rl.audio.loudness",
    "MusicgenRLError": "musicgen_rl.errors",
    "Pipeline": "musicgen_rl.pipeline.core",
    "SamplingConfig": "musicgen_rl.config",
    "read_audio": "musicgen_rl.audio.io",
    "read_tags": "musicgen_rl.audio.io",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """List the public names for completion."""
    return [*__all__, *(name for name in globals() if name.startswith("__"))]
