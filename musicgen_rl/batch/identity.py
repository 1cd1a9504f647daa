"""Who a model is: the hashes of everything in its folder that decides a sound."""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from musicgen_rl.checkpoint import ModelInfo, find_model, model_hash, part_folder, read_info
from musicgen_rl.checkpoint.holds import ALL, Hold, hold_hash
from musicgen_rl.checkpoint.scorer import find_scorer
from musicgen_rl.merging.endpoints import endpoint_hash
from musicgen_rl.pipeline.dial import ENDS, require_endpoints


@dataclass(frozen=True, kw_only=True)
class ModelIdentity:
    """A model as a plan knows it."""

    name: str
    """As the items name it."""
    sha256: str
    """Of the language model's weights."""
    parts: Mapping[str, str]
    """Hashes of the codec and the text encoder, where they have folders of their own."""
    ends: Mapping[str, str]
    """Hashes of the two ends of the dial; empty where no item is on the dial."""
    window: Mapping[str, int]
    """Context of generation."""
    license: str
    """Of the weights."""
    beat: str = ""
    """Hash of what holds a tempo; empty where no item asks for one."""
    key: str = ""
    """Hash of what holds a key; empty where no item asks for one."""
    tempo: str = ""
    """Hash of what finds a tempo; empty where no item asks for that."""
    scale: str = ""
    """Hash of what finds a key; empty where no item asks for that."""
    chords: str = ""
    """Hash of what holds chords; empty where no item asks for them."""
    progression: str = ""
    """Hash of what finds chords; empty where no item asks for that."""
    scorer: str = ""
    """Hash of what chooses among takes; empty where no item has any."""

    def sound(self) -> dict[str, Any]:
        """Collect what decides the sound."""
        return {
            "sha256": self.sha256, "parts": dict(self.parts), "ends": dict(self.ends),
            "window": dict(self.window),
        }  # fmt: skip

    def hashes(self) -> dict[str, str]:
        """Name each part of the model for a message, with its hash."""
        parts = {part.replace("_", " "): sha256 for part, sha256 in self.parts.items()}
        ends = {f"{end} end": sha256 for end, sha256 in self.ends.items()}
        held = {hold.name: getattr(self, hold.name) for hold in self.holds()}
        chooses = {"scorer": self.scorer} if self.scorer else {}
        return {"decoder": self.sha256} | parts | ends | held | chooses

    def holds(self) -> tuple[Hold, ...]:
        """Say what items may be held to."""
        return tuple(hold for hold in ALL if getattr(self, hold.name))


def identify(
    name: str, *, on_dial: bool, holds: Collection[Hold] = (), takes: bool = False
) -> tuple[ModelInfo, ModelIdentity]:
    """Read who a model is, without loading it.

    Args:
        name: pocket, a folder, or a hub id.
        on_dial: whether the ends of its dial are asked for.
        holds: what is asked for to be held; of what the model has nothing for, it has no hash.
        takes: whether clips are chosen among takes; without a scorer it has no hash either.

    Raises:
        ModelError: it is not there, or broken.
        ConfigError: it has no dial, and one is asked for.
    """
    info = read_info(find_model(name))
    ends = {}
    if on_dial:
        require_endpoints(info, 0.0)
        ends = {end: endpoint_hash(info.folder / end) for end in ENDS}
    parts = {
        which: _hash(part_folder(info, part))
        for which, part in (("codec", info.codec), ("text_encoder", info.text_encoder))
        if "path" in part
    }
    identity = ModelIdentity(
        name=name,
        sha256=model_hash(info),
        parts=parts,
        ends=ends,
        window=asdict(info.window),
        license=info.license,
        scorer=_hash(scorer) if takes and (scorer := find_scorer(info)) is not None else "",
        **{hold.name: hold_hash(info, hold) for hold in holds},
    )
    return info, identity


def _hash(folder: Path) -> str:
    """Hash the files of a part by name: weights, tokenizer, configuration."""
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix in (".safetensors", ".json", ".model") and path.is_file():
            digest.update(path.name.encode() + b"\0")
            with path.open("rb") as file:
                while block := file.read(1 << 22):
                    digest.update(block)
    return digest.hexdigest()
