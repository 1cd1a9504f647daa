import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from musicgen_rl.checkpoint import load_lm, load_state, model_hash, read_info
from musicgen_rl.codec.frame import FrameCodec
from musicgen_rl.codec.load import save_codec
from musicgen_rl.config import LMConfig
from musicgen_rl.errors import CheckpointError, ConfigError, InputError, StorageError
from musicgen_rl.training import lm_run
from musicgen_rl.training.checkpointing import load_training_state, save_training_state
from musicgen_rl.training.dataset import precompute_text_states
from musicgen_rl.training.lm_run import (
    encode_manifest,
    require_same_sources,
    require_start,
    train_lm,
)
from musicgen_rl.training.pretrain_config import PretrainConfig
from tests.training.lm_corpus import CODEC, Encoder, write_codec, write_corpus, write_reader

FAST = PretrainConfig(
    steps=2, batch_size=2, crop_frames=20, eval_rows=2, precision="fp32", warmup_steps=0
)


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A codec, and a manifest of three short recordings."""
    monkeypatch.setattr(lm_run.MiniLM, "load", lambda folder, device: Encoder())
    return write_corpus(tmp_path)


def train(
    corpus: Path,
    tokens: str = "tokens",
    out: str = "run",
    config: PretrainConfig = FAST,
    start: Path | None = None,
) -> dict[str, object]:
    width = 16 if start is None else 32
    model = LMConfig(hidden_size=width, num_layers=1, num_heads=2, ffn_size=16)
    return train_lm(
        corpus / tokens, corpus / "codec", corpus / "minilm", corpus / out, model, config,
        start=start, license="Apache-2.0", live=False,
    )  # fmt: skip


def test_a_manifest_becomes_a_model_folder(corpus: Path) -> None:
    info = encode_manifest(corpus / "m.jsonl", corpus / "codec", corpus / "tokens")
    assert (info.num_codebooks, info.frame_rate) == (2, 50.0)
    assert train(corpus)["steps"] == 2
    card = read_info(corpus / "run" / "export")
    assert (card.lm.num_codebooks, card.lm.codebook_size, card.lm.text_hidden_size) == (2, 16, 16)
    assert card.license == "Apache-2.0"
    assert card.window.frames == 20
    assert card.notes["data_licenses"] == ["CC0-1.0"]
    assert card.notes["training"]["frames"] == 2 * 2 * 20
    assert card.sampling.guidance_scale == 3.0
    assert (card.folder / card.codec["path"] / "model.safetensors").is_file()
    assert (card.folder / card.text_encoder["path"]).resolve() == corpus / "minilm"
    state = load_training_state(corpus / "run" / "state")
    assert state is not None
    expected = state[0]["average.blocks.0.ffn_in.weight"].half().float()
    torch.testing.assert_close(load_lm(card).get_parameter("blocks.0.ffn_in.weight"), expected)


def test_everything_wrong_is_named_before_anything_is_encoded(corpus: Path) -> None:
    soundfile.write(corpus / "1.wav", np.zeros(20000), 8000)
    soundfile.write(corpus / "2.wav", 0.1 * np.ones(3000), 8000)
    with (corpus / "m.jsonl").open("a") as file:
        file.write('{"audio": "gone.wav", "caption": "lost"}\n{"audio": "0.wav", "caption": ""}\n')
    with pytest.raises(InputError) as caught:
        encode_manifest(corpus / "m.jsonl", corpus / "codec", corpus / "tokens")
    lines = [line.strip().split(":")[0] for line in str(caught.value).splitlines()[1:]]
    assert lines == ["line 2", "line 3", "line 4", "line 5"]
    assert not (corpus / "tokens").exists()


def test_a_split_that_is_needed_is_missed_before_anything_is_encoded(corpus: Path) -> None:
    text = (corpus / "m.jsonl").read_text().replace('"valid"', '"train"')
    (corpus / "m.jsonl").write_text(text)
    with pytest.raises(InputError, match=r'there is no valid split: .* "split": "valid"'):
        encode_manifest(
            corpus / "m.jsonl", corpus / "codec", corpus / "tokens", splits=lm_run.SPLITS
        )
    assert not (corpus / "tokens").exists()
    encode_manifest(corpus / "m.jsonl", corpus / "codec", corpus / "tokens")  # needs none


def test_what_is_encoded_is_not_listened_to_again(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = (corpus / "m.jsonl", corpus / "codec", corpus / "tokens")
    info = encode_manifest(*folders)
    checks: list[Path] = []
    monkeypatch.setattr(lm_run, "require_usable", lambda path, config: checks.append(path))
    assert encode_manifest(*folders) == info
    assert checks == []
    next((corpus / "tokens").glob("*.safetensors")).unlink()
    assert encode_manifest(*folders) == info
    lines = (corpus / "m.jsonl").read_text().splitlines()
    (corpus / "m.jsonl").write_text("\n".join(lines[:-1]) + "\n")
    encode_manifest(*folders)
    assert len(checks) == 2


def test_tokens_of_another_codec_are_refused(corpus: Path) -> None:
    encode_manifest(corpus / "m.jsonl", corpus / "codec", corpus / "tokens")
    write_codec(corpus / "codec", seed=1)
    with pytest.raises(InputError, match="not made by the codec"):
        train(corpus)


def test_a_manifest_without_held_out_pieces_is_refused(corpus: Path) -> None:
    text = (corpus / "m.jsonl").read_text().replace('"valid"', '"train"')
    (corpus / "m.jsonl").write_text(text)
    encode_manifest(corpus / "m.jsonl", corpus / "codec", corpus / "tokens")
    with pytest.raises(InputError, match='"split": "valid"'):
        train(corpus)


def test_a_run_may_begin_with_the_weights_of_another(corpus: Path) -> None:
    encode_manifest(corpus / "m.jsonl", corpus / "codec", corpus / "tokens")
    train(corpus)
    first = read_info(corpus / "run" / "export")
    still = replace(FAST, muon_lr=0.0, adamw_lr=0.0, muon_decay=0.0, adamw_decay=0.0)
    train(corpus, out="more", config=still, start=first.folder)
    second = read_info(corpus / "more" / "export")
    assert second.lm == first.lm  # not the sizes given
    for name, tensor in load_state(first).items():
        torch.testing.assert_close(load_state(second)[name], tensor)
    told = second.notes["start"]
    assert (told["name"], told["sha256"]) == ("run", model_hash(first))
    assert told["training"]["frames"] == 2 * 2 * 20


def test_a_start_of_another_shape_or_codec_is_refused(corpus: Path) -> None:
    encode_manifest(corpus / "m.jsonl", corpus / "codec", corpus / "tokens")
    train(corpus)
    folder = corpus / "run" / "export"
    longer = replace(FAST, crop_frames=read_info(folder).lm.max_frames + 1)
    with pytest.raises(ConfigError, match=r"max_frames .* there, .* here"):
        train(corpus, out="more", config=longer, start=folder)
    card = json.loads((folder / "musicgen_rl.json").read_text())
    card["notes"]["codec_hash"] = "feedfeed"
    (folder / "musicgen_rl.json").write_text(json.dumps(card))
    with pytest.raises(ConfigError, match="another codec"):
        train(corpus, out="more", start=folder)
    assert not (corpus / "more" / "state").exists()


def test_a_start_that_does_not_fit_is_refused_before_anything_is_encoded(corpus: Path) -> None:
    encode_manifest(corpus / "m.jsonl", corpus / "codec", corpus / "tokens")
    train(corpus)
    folder = corpus / "run" / "export"
    codec, minilm = corpus / "codec", corpus / "minilm"
    require_start(folder, codec, minilm, FAST)
    longer = replace(FAST, crop_frames=read_info(folder).lm.max_frames + 1)
    with pytest.raises(ConfigError, match=r"export cannot be gone on with: max_frames .* here$"):
        require_start(folder, codec, minilm, longer)
    write_codec(corpus / "other", seed=1)
    with pytest.raises(ConfigError, match=r"another codec"):
        require_start(folder, corpus / "other", minilm, FAST)
    card = json.loads((folder / "musicgen_rl.json").read_text())
    del card["notes"]["codec_hash"]  # of a model that does not tell: its shape does
    (folder / "musicgen_rl.json").write_text(json.dumps(card))
    save_codec(FrameCodec(replace(CODEC, num_codebooks=3)), corpus / "wider")
    with pytest.raises(ConfigError, match="num_codebooks 2 there, 3 here"):
        require_start(folder, corpus / "wider", minilm, FAST)


def test_an_export_that_died_is_made_up_for_by_the_next_start(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode_manifest(corpus / "m.jsonl", corpus / "codec", corpus / "tokens")
    train(corpus)
    real, longer = lm_run.save_model, replace(FAST, steps=3)

    def full(*_: Any) -> None:
        raise StorageError("disk full")

    monkeypatch.setattr(lm_run, "save_model", full)
    with pytest.raises(StorageError):
        train(corpus, config=longer)
    monkeypatch.setattr(lm_run, "save_model", real)
    card = read_info(corpus / "run" / "export")
    assert card.notes["training"]["steps"] == 2  # of the save before
    figures = train(corpus, config=longer)
    card = read_info(corpus / "run" / "export")
    assert card.notes["training"] == figures
    assert (figures["steps"], figures["finished"]) == (3, True)
    state = load_training_state(corpus / "run" / "state")
    assert state is not None
    expected = state[0]["average.blocks.0.ffn_in.weight"].half().float()
    torch.testing.assert_close(load_lm(card).get_parameter("blocks.0.ffn_in.weight"), expected)


def test_the_export_of_a_finished_run_is_written_once_and_again_where_it_is_gone(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode_manifest(corpus / "m.jsonl", corpus / "codec", corpus / "tokens")
    figures = train(corpus)
    real, written = lm_run.save_model, []

    def save(folder: Path, card: Any, weights: dict[str, Tensor]) -> None:
        written.append(folder)
        real(folder, card, weights)

    monkeypatch.setattr(lm_run, "save_model", save)
    assert train(corpus) == figures
    assert written == []
    shutil.rmtree(corpus / "run" / "export")
    assert train(corpus) == figures
    assert written == [corpus / "run" / "export"]
    assert (corpus / "run" / "export" / "codec" / "model.safetensors").is_file()


def test_an_export_has_its_codec_before_its_card(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode_manifest(corpus / "m.jsonl", corpus / "codec", corpus / "tokens")

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(lm_run.shutil, "copytree", full)
    with pytest.raises(StorageError, match="codec"):
        train(corpus)
    assert not (corpus / "run" / "export" / "musicgen_rl.json").exists()


def test_a_run_does_not_go_on_with_the_codes_of_another_codec(corpus: Path) -> None:
    folders = (corpus / "m.jsonl", corpus / "codec", corpus / "tokens")
    encode_manifest(*folders)
    train(corpus)
    write_codec(corpus / "codec", seed=1)
    encode_manifest(*folders)
    with pytest.raises(CheckpointError, match=r"another codec .* or train into a new folder"):
        train(corpus, config=replace(FAST, steps=3))


def test_a_run_does_not_go_on_with_another_text_encoder(corpus: Path) -> None:
    encode_manifest(corpus / "m.jsonl", corpus / "codec", corpus / "tokens")
    train(corpus)
    kept = (corpus / "run" / "text_states" / "state.safetensors").read_bytes()
    write_reader(corpus / "minilm", "second")
    with pytest.raises(CheckpointError) as caught:
        train(corpus, config=replace(FAST, steps=3))
    said = str(caught.value)
    assert re.search(r"another text encoder \(\w{12}, now \w{12}\): .* new folder", said)
    assert "--text-encoder" in said
    assert "\n" not in said
    assert (corpus / "run" / "text_states" / "state.safetensors").read_bytes() == kept
    write_reader(corpus / "minilm", "first")
    (corpus / "minilm" / "README.md").write_text("Other words for people.")
    assert train(corpus, config=replace(FAST, steps=3))["steps"] == 3


def forget(corpus: Path, *names: str) -> None:
    """Leave out of the run's state what those of before did not tell."""
    found = load_training_state(corpus / "run" / "state")
    assert found is not None
    tensors, state = found
    for name in names:
        del state["begun_with"][name]
    save_training_state(corpus / "run" / "state", tensors, state)


def write_noise(file: Path, samples: int) -> None:
    """Write music of a length that no other piece has."""
    soundfile.write(file, 0.1 * np.random.default_rng(7).standard_normal(samples), 8000)


def test_a_run_does_not_go_on_with_another_manifest(corpus: Path) -> None:
    folders = (corpus / "m.jsonl", corpus / "codec", corpus / "tokens")
    encode_manifest(*folders)
    train(corpus)
    kept = (corpus / "run" / "text_states" / "state.safetensors").read_bytes()
    text = (corpus / "m.jsonl").read_text()
    (corpus / "m.jsonl").write_text(text.replace("noise 1", "rain"))
    with pytest.raises(CheckpointError, match="another manifest"):
        require_same_sources(corpus / "run", "lm", *folders[:2])
    encode_manifest(*folders)
    with pytest.raises(CheckpointError) as caught:
        train(corpus, config=replace(FAST, steps=3))
    said = str(caught.value)
    assert re.search(r"another manifest \(\w{12}, now \w{12}\): give the manifest or the tok", said)
    assert said.endswith("or train into a new folder")
    assert "\n" not in said
    assert (corpus / "run" / "text_states" / "state.safetensors").read_bytes() == kept
    forget(corpus, "manifest", "recordings")
    assert train(corpus, config=replace(FAST, steps=3))["steps"] == 3


def test_a_run_does_not_go_on_with_other_music_under_the_same_names(corpus: Path) -> None:
    folders = (corpus / "m.jsonl", corpus / "codec", corpus / "tokens")
    encode_manifest(*folders)
    train(corpus)
    write_noise(corpus / "1.wav", 24000)
    encode_manifest(*folders)
    with pytest.raises(CheckpointError, match=r"other recordings .*: name the tokens of that time"):
        train(corpus, config=replace(FAST, steps=3))
    forget(corpus, "recordings")
    assert train(corpus, config=replace(FAST, steps=3))["steps"] == 3


def test_a_run_goes_on_where_its_music_was_moved(corpus: Path) -> None:
    encode_manifest(corpus / "m.jsonl", corpus / "codec", corpus / "tokens")
    train(corpus)
    moved = corpus / "moved"
    moved.mkdir()
    for name in ("m.jsonl", "0.wav", "1.wav", "2.wav"):
        (corpus / name).rename(moved / name)
    write_noise(moved / "3.wav", 22000)
    with (moved / "m.jsonl").open("a") as file:  # which nobody learns from
        file.write('{"audio": "3.wav", "caption": "noise", "split": "test"}\n')
    require_same_sources(corpus / "run", "lm", moved / "m.jsonl", corpus / "codec")
    encode_manifest(moved / "m.jsonl", corpus / "codec", corpus / "tokens")
    assert train(corpus, config=replace(FAST, steps=3))["steps"] == 3


def test_before_anything_is_encoded_the_sources_are_held_against_the_runs(corpus: Path) -> None:
    manifest, codec, run = corpus / "m.jsonl", corpus / "codec", corpus / "run"
    require_same_sources(run, "lm", "not there", "nor here")  # there is no run yet
    encode_manifest(manifest, codec, corpus / "tokens")
    train(corpus)
    require_same_sources(run, "lm", manifest, codec)
    with pytest.raises(CheckpointError, match="another manifest"):
        require_same_sources(run, "lm", manifest, codec, offsets=2)
    with pytest.raises(CheckpointError, match="holds a run of `train lm`, not of `train contrast`"):
        require_same_sources(run, "contrast", manifest, codec)
    write_codec(codec, seed=1)
    with pytest.raises(CheckpointError, match="another codec"):
        require_same_sources(run, "lm", manifest, codec)


def test_a_run_of_a_codec_is_not_mixed_with_one_of_a_model(corpus: Path) -> None:
    encode_manifest(corpus / "m.jsonl", corpus / "codec", corpus / "tokens")
    save_training_state(corpus / "run", {"step": torch.zeros(1)}, {"kind": "codec"})
    with pytest.raises(CheckpointError, match="holds a run of `train codec`, not of `train lm`"):
        train(corpus)
    assert not (corpus / "run" / "text_states").exists()


def test_a_run_killed_before_its_first_save_reads_again_with_another_encoder(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode_manifest(corpus / "m.jsonl", corpus / "codec", corpus / "tokens")
    train(corpus)
    shutil.rmtree(corpus / "run" / "state")

    class Twos(Encoder):
        def encode(self, prompts: list[str]) -> Any:
            given = super().encode(prompts)
            return type(given)(2 * given.hidden, given.mask)

    monkeypatch.setattr(lm_run.MiniLM, "load", lambda folder, device: Twos())
    write_reader(corpus / "minilm", "second")
    train(corpus)
    stored = load_training_state(corpus / "run" / "text_states")
    assert stored is not None
    assert stored[0]["hidden"].unique().tolist() == [2.0]


@pytest.mark.parametrize("main", [True, False])
def test_the_first_process_alone_reads_the_captions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, main: bool
) -> None:
    steps: list[str] = []

    class Noted(Encoder):
        def encode(self, prompts: list[str]) -> Any:
            steps.append("encode")
            return super().encode(prompts)

    class Beside:
        def __init__(self) -> None:
            self.main = main

        def wait(self) -> None:
            steps.append("wait")
            if not main:  # by then the first process has saved
                precompute_text_states(
                    ["a", "b"], Encoder(), tmp_path / "text_states", encoder_hash="first"
                )

    monkeypatch.setattr(lm_run, "Processes", Beside)
    states = lm_run.share_text_states(["a", "b"], Noted(), "first", tmp_path)
    assert steps == (["encode", "wait"] if main else ["wait"])
    assert states.condition([1]).hidden.tolist() == [[[1.0] * 16] * 3]
