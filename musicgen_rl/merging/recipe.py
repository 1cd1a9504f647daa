"""What a merge is made by: the method and its numbers. No torch here, so `--help` is quick."""

from dataclasses import dataclass

from musicgen_rl.config import require, require_number

METHODS = ("lerp", "slerp", "liti")


@dataclass(frozen=True, kw_only=True)
class MergeConfig:
    """How two models become one."""

    lam: float = 0.5
    """Where between the two: 0 is the first (quality), 1 the second (diversity)."""
    method: str = "lerp"
    """lerp (straight line), slerp (along the arc between the changes each made to the base), or
    liti (slerp, then back towards the base)."""
    strength: float = 0.5
    """For liti: how much of the change is kept; 1 keeps all of it, 0 is the base."""

    def __post_init__(self) -> None:
        """Check every field."""
        require_number("lam", self.lam, 0.0, 1.0)
        require(self.method in METHODS, f"unknown method {self.method!r}: use {', '.join(METHODS)}")
        require_number("strength", self.strength, 0.0, 1.0)

    @property
    def needs_base(self) -> bool:
        """Whether the method measures changes from a base."""
        return self.method != "lerp"
