"""Where models lie: folders, names under the checkpoints folder, ids of the hub."""

import os
from pathlib import Path

from musicgen_rl.errors import CheckpointError, ModelNotFoundError

CHECKPOINTS_VARIABLE = "MUSICGEN_RL_CHECKPOINTS"


def checkpoints_folder() -> Path:
    """Tell where named models lie: the setting, else `checkpoints/` beside the package."""
    setting = os.environ.get(CHECKPOINTS_VARIABLE)
    return Path(setting) if setting else Path(__file__).resolve().parents[2] / "checkpoints"


def find_model(model: str | Path) -> Path:
    """Find a model folder by path, by name under the checkpoints folder, or by hub id.

    Args:
        model: a folder, a name such as "pocket", or an id such as "facebook/musicgen-small", which
            is downloaded unless HF_HUB_OFFLINE is set.

    Raises:
        ModelNotFoundError: there is no such model; says where was looked and what to do.
    """
    text = str(model)
    if not text.strip() or "\0" in text:
        raise ModelNotFoundError(f"the model name {text!r} is empty or broken: try --model pocket")
    try:
        folder = Path(text).expanduser()
        if (folder / "config.json").is_file():
            return folder
    except (OSError, RuntimeError) as error:  # a name too long, no such user's home
        raise ModelNotFoundError(f"no model {text!r:.80}: {error}") from error
    if folder.is_dir():
        raise CheckpointError(f"{folder} is not a model folder: it has no config.json")
    if folder.is_file():
        raise CheckpointError(f"{folder} is a file: name the model's folder instead")
    named = checkpoints_folder() / text
    if (named / "config.json").is_file():
        return named
    if text.count("/") == 1 and not text.startswith((".", "/", "~")):
        return _download(text)
    raise ModelNotFoundError(
        f"no model {text!r}: neither a folder nor under {checkpoints_folder()}. Set "
        f"{CHECKPOINTS_VARIABLE} to the folder `checkpoints` of the project's repository, or name "
        "a folder or a hub id such as facebook/musicgen-small"
    )


def _download(hub_id: str) -> Path:
    """Fetch the files of a hub model that are needed, never anything that can run code."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    patterns = ["*.json", "*.safetensors", "*.model", "*.txt", "README.md"]
    try:
        return Path(snapshot_download(hub_id, allow_patterns=patterns))
    except GatedRepoError:
        raise ModelNotFoundError(
            f"{hub_id} asks you to accept its terms: do so on its page, then `hf auth login`"
        ) from None
    except (RepositoryNotFoundError, HFValidationError):
        raise ModelNotFoundError(
            f"no model {hub_id!r}: neither a folder here nor a model on the hub"
        ) from None
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        raise ModelNotFoundError(
            f"{hub_id} is not on this machine and cannot be downloaded "
            f"({type(error).__name__}): check the network or unset HF_HUB_OFFLINE, or use "
            "--model pocket"
        ) from None
