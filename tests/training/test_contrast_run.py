"""Words are taught to any model whose parts its card names, ends of the dial among them."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from musicgen_rl.checkpoint import (
    CARD,
    LOW_RANK,
    ModelInfo,
    load_state,
    model_hash,
    read_info,
)
from musicgen_rl.config import LMConfig
from musicgen_rl.errors import CheckpointError, ConfigError, UnsupportedModelError
from musicgen_rl.lm.low_rank import LowRankDelta
from musicgen_rl.training import contrast_run, lm_run
from musicgen_rl.training.contrast_run import codec_of, train_contrast
from musicgen_rl.training.lm_run import encode_manifest, train_lm
from musicgen_rl.training.pretrain_config import ContrastConfig, PretrainConfig
from tests.training.lm_corpus import Encoder, write_codec, write_corpus, write_reader

FAST = ContrastConfig(steps=2, batch_size=2, crop_frames=20, eval_rows=2, precision="fp32")


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model folder, beside `tokens` of the corpus it was trained on."""
    corpus = write_corpus(tmp_path)
    monkeypatch.setattr(lm_run.MiniLM, "load", lambda folder, device: Encoder())
    encode_manifest(corpus / "m.jsonl", corpus / "codec", corpus / "tokens")
    train_lm(
        corpus / "tokens", corpus / "codec", corpus / "minilm", corpus / "run",
        LMConfig(hidden_size=16, num_layers=1, num_heads=2, ffn_size=16),
        PretrainConfig(steps=1, batch_size=2, crop_frames=20, eval_rows=2, precision="fp32"),
        live=False,
    )  # fmt: skip
    base = Path(shutil.move(corpus / "run" / "export", corpus / "base"))
    write_card(base, text_encoder={"type": "minilm", "path": "../minilm"})
    return base


def write_card(folder: Path, **changes: Any) -> None:
    card = json.loads((folder / CARD).read_text())
    (folder / CARD).write_text(json.dumps({**card, **changes}))


def end_of(base: Path, name: str) -> Path:
    """Write a model that has its codec from another folder."""
    folder = base.parent / name
    shutil.copytree(base, folder, ignore=shutil.ignore_patterns("codec"))
    notes = {k: v for k, v in read_info(base).notes.items() if k != "codec_hash"}
    codec = {"type": "frame", "path": "../base/codec"}
    text_encoder = {"type": "minilm", "path": "../minilm"}
    write_card(folder, name=name, codec=codec, text_encoder=text_encoder, notes=notes)
    return folder


def teach(start: Path, config: ContrastConfig = FAST, encoder: Path | None = None) -> Any:
    tokens, out = start.parent / "tokens", start.parent / "words"
    return train_contrast(start, tokens, encoder, out, config, live=False)


def test_an_end_is_taught_with_the_codec_and_the_encoder_of_its_card(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    end, read = end_of(base, "end"), []

    def load(folder: Path, device: torch.device) -> Encoder:
        read.append(folder)
        return Encoder()

    monkeypatch.setattr(lm_run.MiniLM, "load", load)
    assert codec_of(end) == base / "codec"
    assert teach(end)["finished"]
    assert read == [base.parent / "minilm"]
    card = read_info(base.parent / "words" / "export")
    assert (card.folder / card.codec["path"] / "model.safetensors").is_file()
    assert (card.folder / card.text_encoder["path"]).resolve() == base.parent / "minilm"
    assert card.notes["codec_hash"] == read_info(base).notes["codec_hash"]
    assert card.notes["contrast"]["start"] == {"name": "end", "sha256": model_hash(read_info(end))}


def test_a_run_of_many_exports_hashes_its_start_once(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[Path] = []

    def noted(info: ModelInfo) -> str:
        hashed.append(info.folder)
        return model_hash(info)

    monkeypatch.setattr(contrast_run, "model_hash", noted)
    teach(base, replace(FAST, save_minutes=0.0))  # an export a step
    assert hashed == [base]


def test_an_encoder_that_is_given_wins_and_is_named_in_the_card(base: Path) -> None:
    shutil.rmtree(base.parent / "minilm")
    other = base.parent / "other"
    write_reader(other, "second")
    teach(base, encoder=other)
    card = read_info(base.parent / "words" / "export")
    assert (card.folder / card.text_encoder["path"]).resolve() == other


def test_a_low_rank_end_becomes_a_model_with_weights_of_its_own(base: Path) -> None:
    end = end_of(base, "end")
    (end / "model.safetensors").unlink()
    moved = load_state(read_info(base))["norm.weight"].float() + 1
    save_file(LowRankDelta({}, {"norm.weight": moved}).tensors(), end / LOW_RANK)
    over = {"name": "base", "path": "../base", "sha256": model_hash(read_info(base))}
    write_card(end, notes={"low_rank": {"rank": 1, "over": over}})
    still = replace(FAST, muon_lr=1e-12, adamw_lr=1e-12)
    teach(end, still)
    made = read_info(base.parent / "words" / "export")
    assert "low_rank" not in made.notes
    for name, tensor in load_state(read_info(end)).items():
        torch.testing.assert_close(load_state(made)[name].float(), tensor.float(), atol=1e-3,
                                   rtol=1e-3)  # fmt: skip


def test_tokens_of_another_codec_are_refused(base: Path) -> None:
    end = end_of(base, "end")
    write_codec(base / "codec", seed=1)
    with pytest.raises(ConfigError, match="not made by the codec of"):
        teach(end)


def test_a_model_with_other_parts_is_refused(base: Path) -> None:
    write_card(base, text_encoder={"type": "t5"}, codec={"type": "encodec"})
    with pytest.raises(UnsupportedModelError, match="frame codec and MiniLM only"):
        codec_of(base)


def test_a_run_does_not_go_on_from_another_model_of_the_same_shape(base: Path) -> None:
    teach(base)
    other = end_of(base, "other")
    state = load_state(read_info(base))
    state["norm.weight"] = state["norm.weight"] + 1
    contrast_run.save_model(other, read_info(other), state)
    with pytest.raises(CheckpointError, match=r"another start .*begin with the same model"):
        teach(other, replace(FAST, steps=3))


def test_a_run_does_not_go_on_with_another_text_encoder(base: Path) -> None:
    teach(base)
    other = base.parent / "other"
    write_reader(other, "second")
    kept = (base.parent / "words" / "text_states" / "state.safetensors").read_bytes()
    with pytest.raises(CheckpointError, match=r"another text encoder \(.*\): .* new folder"):
        teach(base, replace(FAST, steps=3), encoder=other)
    assert (base.parent / "words" / "text_states" / "state.safetensors").read_bytes() == kept
    assert teach(base, replace(FAST, steps=3))["steps"] == 3


def test_a_run_of_words_and_one_of_the_model_do_not_go_on_as_each_other(base: Path) -> None:
    corpus = base.parent
    with pytest.raises(CheckpointError, match="holds a run of `train lm`, not of `train contrast`"):
        train_contrast(base, corpus / "tokens", None, corpus / "run", FAST, live=False)
    teach(base)
    config = PretrainConfig(steps=3, batch_size=2, crop_frames=20, eval_rows=2, precision="fp32")
    with pytest.raises(CheckpointError) as caught:
        train_lm(
            corpus / "tokens", corpus / "codec", corpus / "minilm", corpus / "words", LMConfig(),
            config, start=base, live=False,
        )  # fmt: skip
    assert str(caught.value) == (
        f"{corpus / 'words'} holds a run of `train contrast`, not of `train lm`: go on with that "
        "command, or train into a new folder"
    )


def test_a_run_does_not_go_on_with_another_manifest(base: Path) -> None:
    teach(base)
    corpus = base.parent
    text = (corpus / "m.jsonl").read_text()
    (corpus / "m.jsonl").write_text(
        text.replace('"license"', '"attributes": {"key": "C"}, "license"')
    )
    encode_manifest(corpus / "m.jsonl", corpus / "codec", corpus / "tokens")
    with pytest.raises(CheckpointError, match=r"another manifest \(.*\): .* new folder"):
        teach(base, replace(FAST, steps=3))


def test_a_finished_run_writes_a_lost_export_again(base: Path) -> None:
    figures = teach(base)
    export = base.parent / "words" / "export"
    written = (export / CARD).stat().st_mtime_ns
    assert teach(base) == figures
    assert (export / CARD).stat().st_mtime_ns == written
    shutil.rmtree(export)
    assert teach(base) == figures
    assert read_info(export).notes["contrast"]["steps"] == 2
