"""From text to clips: a loaded model and all that stands around it.

`Pipeline` is imported when it is first asked for: torch takes seconds, and a command line that only
checks its options should not wait for it.
"""

from typing import TYPE_CHECKING, Any

from musicgen_rl.pipeline.request import GenerationConfig

if TYPE_CHECKING:
    from musicgen_rl.pipeline.core import Pipeline

__all__ = ["GenerationConfig", "Pipeline"]


def __getattr__(name: str) -> Any:
    if name == "Pipeline":
        from musicgen_rl.pipeline.core import Pipeline

        return Pipeline
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
