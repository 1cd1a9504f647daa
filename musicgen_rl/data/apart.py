"""Keep what one corpus holds out from being learnt from another."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from musicgen_rl.data.manifest import read_manifest, write_manifest
from musicgen_rl.errors import ConfigError


def keep_apart(manifest: Path, held_out: Sequence[Path], output: Path) -> tuple[int, int]:
    """Write a manifest without the training pieces that other manifests hold out.

    A corpus keeps all takes of one piece, and all arrangements of one tune, on one side; another
    corpus, with other shares of held-out pieces, may have a piece of the same name on the other.

    Args:
        manifest: what is to be learnt from.
        held_out: manifests whose pieces of the valid and test splits must stay unheard.
        output: a new file; the audio is named relative to its folder.

    Returns:
        Lines written, and lines left out.

    Raises:
        ConfigError: the output is there already.
        InputError: a manifest is missing or broken.
        StorageError: the output cannot be written.
    """
    if output.exists():
        raise ConfigError(f"{output} is there already: name a new file")
    held = {e.piece for path in held_out for e in read_manifest(path) if e.split != "train"}
    entries = read_manifest(manifest)
    kept = [e for e in entries if e.split != "train" or e.piece not in held]
    if output.parent.resolve() != manifest.parent.resolve():
        folder = output.parent.resolve()
        here = manifest.parent.resolve()
        kept = [replace(e, audio=os.path.relpath(here / e.audio, folder)) for e in kept]
    write_manifest(output, kept)
    return len(kept), len(entries) - len(kept)
