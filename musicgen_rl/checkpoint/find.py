"""Where models lie: folders, names under the checkpoints folder, ids of the hub."""

import os
from pathlib import Path

from musicgen_rl.checkpoint.kind import INDEX, LOW_RANK, WHOLE, check_kind, pickle_hint
from musicgen_rl.errors import CheckpointError, ModelError, ModelNotFoundError
from musicgen_rl.storage import read_json

CHECKPOINTS_VARIABLE = "MUSICGEN_RL_CHECKPOINTS"
WEIGHTS = (WHOLE, INDEX, LOW_RANK)
"""One of these is in every model that runs here."""


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
    from huggingface_hub.errors import (  # type: ignore[attr-defined]  # httpx's HTTPError
        EntryNotFoundError,
        GatedRepoError,
        HFValidationError,
        HTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    patterns = ["*.json", "*.safetensors", "*.model", "*.txt", "README.md"]
    try:
        if not _has_weights(hub_id):
            _require_usable(hub_id)
        return Path(snapshot_download(hub_id, allow_patterns=patterns))
    except ModelError:
        raise
    except GatedRepoError:
        raise ModelNotFoundError(
            f"{hub_id} asks you to accept its terms: do so on its page, then `hf auth login`"
        ) from None
    except (RepositoryNotFoundError, HFValidationError):
        raise ModelNotFoundError(
            f"no model {hub_id!r}: neither a folder here nor a model on the hub"
        ) from None
    except (LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        raise _out_of_reach(hub_id, error) from None
    except EntryNotFoundError:
        raise CheckpointError(
            f"{hub_id} on the hub is no model that runs here: it has no config.json"
        ) from None
    except (HTTPError, OSError) as error:
        raise _out_of_reach(hub_id, error) from None


def _has_weights(hub_id: str) -> bool:
    """Say whether weights were downloaded before: what must be known of the model was, then."""
    from huggingface_hub import try_to_load_from_cache

    return any(isinstance(try_to_load_from_cache(hub_id, name), str) for name in WEIGHTS)


def _require_usable(hub_id: str) -> None:
    """Refuse what cannot run here before gigabytes of it are downloaded.

    Raises:
        UnsupportedModelError: another kind of model.
        CheckpointError: it has no weights in safetensors.
    """
    from huggingface_hub import HfApi, hf_hub_download

    check_kind(hub_id, read_json(Path(hf_hub_download(hub_id, "config.json"))))
    files = HfApi().list_repo_files(hub_id)
    if not any(name in files for name in WEIGHTS):
        raise CheckpointError(f"{hub_id} lacks {WHOLE}{pickle_hint(files)}")


def _out_of_reach(hub_id: str, error: Exception) -> ModelNotFoundError:
    return ModelNotFoundError(
        f"{hub_id} is not on this machine and cannot be downloaded "
        f"({type(error).__name__}): check the network or unset HF_HUB_OFFLINE, or use "
        "--model pocket"
    )
