"""Configuration of the corpus, apart from its maker so that command lines start fast."""

from dataclasses import dataclass
from pathlib import Path

from musicgen_rl.config import require, require_number


@dataclass(frozen=True, kw_only=True)
class CorpusConfig:
    """What corpus to make and where."""

    output: Path
    """Folder for audio and manifest.jsonl."""
    hours: float = 10.0
    """Hours of audio, met on average."""
    seed: int = 0
    """Another seed is another corpus; piece i of a seed is always the same."""
    workers: int = 1
    """Processes; the result does not depend on it."""
    min_duration_s: float = 30.0
    """Shortest piece aimed at, in seconds."""
    max_duration_s: float = 60.0
    """Longest piece aimed at, in seconds."""
    captions: int = 8
    """Captions of each piece."""
    tempo_share: float = 0.0
    """Share of the captions that do not say how fast a piece is to which its tempo is added, in
    beats a minute; without, a twelfth of all captions name it."""
    keys: int = 1
    """Keys that each piece is played in, evenly over the octave; what is told of keys is then told
    apart from the pieces."""
    tempi: int = 1
    """Tempi that each piece is played at, evenly over an octave around its own, and as much longer
    or shorter; what is told of tempi is then told apart from the pieces."""
    tunes: float = 0.2
    """Share of the pieces that re-orchestrate public-domain tunes."""
    valid: float = 0.04
    """Share of the pieces in the valid split."""
    test: float = 0.04
    """Share of the pieces in the test split."""
    musescore: float = 0.35
    """Share of the pieces rendered with the second soundfont."""
    audio: bool = True
    """Render the pieces; without, captions and attributes alone, enough for prompts, in a hundredth
    of the time."""

    def __post_init__(self) -> None:
        """Check every field."""
        require_number("hours", self.hours, 0.001, 10_000)
        require_number("min_duration_s", self.min_duration_s, 5, 600, unit="s")
        require_number("max_duration_s", self.max_duration_s, self.min_duration_s, 600, unit="s")
        for name in ("tempo_share", "tunes", "valid", "test", "musescore"):
            require_number(name, getattr(self, name), 0, 1)
        require(self.valid + self.test < 1, "valid and test together must leave room for train")
        require(self.workers >= 1, f"workers must be >= 1, got {self.workers}")
        for name in ("keys", "tempi"):
            require(
                1 <= getattr(self, name) <= 12, f"{name} must be 1 to 12, got {getattr(self, name)}"
            )
        require(1 <= self.captions <= 30, f"captions must be 1 to 30, got {self.captions}")

    @property
    def versions(self) -> int:
        """How often each piece is played: in each key at each tempo."""
        return self.keys * self.tempi

    @property
    def num_pieces(self) -> int:
        """Pieces to make, each of a piece's versions counted."""
        middle = (self.min_duration_s + self.max_duration_s) / 2
        return max(1, round(self.hours * 3600 / middle))
