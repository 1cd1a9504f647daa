import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from musicgen_rl.checkpoint import load_lm, load_state, model_hash, read_info
from musicgen_rl.codec.frame import FrameCodec
from musicgen_rl.codec.load import save_codec
from musicgen_rl.config import FrameCodecConfig, LMConfig
from musicgen_rl.errors import ConfigError, InputError
from musicgen_rl.lm.condition import Condition
from musicgen_rl.training import lm_run
from musicgen_rl.training.checkpointing import load_training_state
from musicgen_rl.training.lm_run import encode_manifest, train_lm
from musicgen_rl.training.pretrain_config import PretrainConfig

CODEC = FrameCodecConfig(
    sample_rate=8000, hop_length=160, n_fft=320, n_mels=20, num_codebooks=2, codebook_size=16,
    codebook_dim=4, encoder_layers=1, encoder_width=8, decoder_layers=1, decoder_width=8,
)  # fmt: skip
FAST = PretrainConfig(
    steps=2, batch_size=2, crop_frames=20, eval_rows=2, precision="fp32", warmup_steps=0
)


class Encoder:
    hidden_size = 16

    def encode(self, prompts: list[str]) -> Condition:
        hidden = torch.ones(len(prompts), 3, 16)
        return Condition(hidden, torch.ones(len(prompts), 3, dtype=torch.bool))

    def by_length(self) -> "Encoder":
        return self


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A codec, and a manifest of three short recordings."""
    torch.manual_seed(0)
    save_codec(FrameCodec(CODEC), tmp_path / "codec")
    random = np.random.default_rng(0)
    rows = []
    for index, split in enumerate(("train", "train", "valid")):
        samples = 0.1 * random.standard_normal(20000)
        soundfile.write(tmp_path / f"{index}.wav", samples, 8000)
        rows.append({"audio": f"{index}.wav", "captions": [f"noise {index}"], "split": split,
                     "license": "CC0-1.0"})  # fmt: skip
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setattr(lm_run.MiniLM, "load", lambda folder, device: Encoder())
    return tmp_path


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


def test_what_is_encoded_is_not_listened_to_again(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = (corpus / "m.jsonl", corpus / "codec", corpus / "tokens")
    info = encode_manifest(*folders)
    checks: list[Path] = []
    monkeypatch.setattr(lm_run, "check_manifest", lambda path: checks.append(path) or [])
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
    torch.manual_seed(1)
    save_codec(FrameCodec(CODEC), corpus / "codec")
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
