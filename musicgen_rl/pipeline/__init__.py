"""From text to clips: a loaded model and all that stands around it."""

from musicgen_rl.pipeline.core import Pipeline
from musicgen_rl.pipeline.request import GenerationConfig

__all__ = ["GenerationConfig", "Pipeline"]
