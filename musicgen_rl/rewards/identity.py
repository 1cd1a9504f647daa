"""Which reward model made a number: results of two different ones must never be mixed."""

from dataclasses import asdict, dataclass
from typing import Any

from musicgen_rl.errors import CheckpointError

KINDS = ("encoder", "scorer", "probe")
ROLES = ("training", "report")


@dataclass(frozen=True)
class Identity:
    """What tells one reward model from every other; equal only if the weights are the same."""

    name: str
    """For people."""
    sha256: str
    """Of the weights' file: `sha256sum model.safetensors` prints it."""
    kind: str
    """encoder, scorer or probe."""
    role: str
    """training: policies may be optimised against it. report: no training ever sees it."""

    def __post_init__(self) -> None:
        """Check kind and role."""
        if self.kind not in KINDS or self.role not in ROLES:
            raise CheckpointError(
                f"{self.name!r} has kind {self.kind!r} and role {self.role!r}: kinds are "
                f"{', '.join(KINDS)}, roles {', '.join(ROLES)}"
            )

    def to_json(self) -> dict[str, str]:
        """Return the fields as a dictionary, for results."""
        return asdict(self)

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> "Identity":
        """Read what `to_json` wrote.

        Raises:
            CheckpointError: a field is missing.
        """
        try:
            return cls(str(row["name"]), str(row["sha256"]), str(row["kind"]), str(row["role"]))
        except KeyError as error:
            raise CheckpointError(f"the identity of a reward model lacks {error}") from None

    def __str__(self) -> str:
        return f"{self.name} ({self.kind}, {self.role}, {self.sha256[:12]})"
