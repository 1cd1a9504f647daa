"""CLAP on a tiny random checkpoint: what it says, and where it runs."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from musicgen_rl.errors import CheckpointError, ModelNotFoundError, UnsupportedModelError
from musicgen_rl.evaluation import assess, worker
from musicgen_rl.evaluation.analyse import StatisticsConfig
from musicgen_rl.evaluation.arms import Arm
from musicgen_rl.evaluation.assess import Around, assess_clips, assess_model
from musicgen_rl.evaluation.clap import Clap, load_clap
from musicgen_rl.evaluation.features import measure
from musicgen_rl.evaluation.instruments import load_instruments
from musicgen_rl.evaluation.plan import EvaluationConfig
from musicgen_rl.evaluation.prompts import Prompt
from musicgen_rl.evaluation.worker import MeasuringSetup
from musicgen_rl.storage import hash_file
from tests.evaluation.test_assess import write_tone
from tests.judged import save_judges
from tests.pretended_gpu import pretended_gpus

RATE = 16_000
CAPTIONS = ["slow jazz", "a rock tune"]
CONFIG = EvaluationConfig(num_prompts=0, statistics=StatisticsConfig(draws=200))
GPU = torch.device("cuda", 0)


def save_clap(folder: Path) -> Path:
    """Write a tiny random CLAP by transformers, words of one letter."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        ClapConfig,
        ClapFeatureExtractor,
        ClapModel,
        ClapProcessor,
        PreTrainedTokenizerFast,
    )

    torch.manual_seed(3)
    words = ["<s>", "<pad>", "</s>", "<unk>", *"abcdefghijklmnopqrstuvwxyz "]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    text = {"vocab_size": len(words), "hidden_size": 16, "num_hidden_layers": 1,
            "num_attention_heads": 2, "intermediate_size": 16, "pad_token_id": 1,
            "projection_dim": 8}  # fmt: skip
    audio = {"patch_embeds_hidden_size": 8, "hidden_size": 16, "depths": [1, 1],
             "num_attention_heads": [1, 2], "num_hidden_layers": 2, "projection_dim": 8,
             "enable_fusion": False}  # fmt: skip
    config = ClapConfig(text_config=text, audio_config=audio, projection_dim=8)
    ClapModel(config).save_pretrained(folder)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>",
        unk_token="<unk>",
    )  # fmt: skip
    ClapProcessor(ClapFeatureExtractor(truncation="rand_trunc"), fast).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def clap(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_clap(tmp_path_factory.mktemp("models") / "clap")


@pytest.fixture(scope="module")
def judges(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_judges(tmp_path_factory.mktemp("judges"))


def sounds(count: int) -> torch.Tensor:
    generator = np.random.default_rng(0)
    time = np.arange(RATE) / RATE
    tones = [np.sin(2 * np.pi * f * time) for f in generator.uniform(100, 3000, size=count)]
    return torch.from_numpy(0.1 * np.stack(tones)).float()


def test_clap_is_an_encoder_and_a_scorer_of_unit_vectors(clap: Path) -> None:
    found, clips = load_clap(str(clap)), sounds(2)
    vectors = found.embed(clips, RATE)
    assert vectors.shape == (2, 8)
    assert vectors.norm(dim=1).tolist() == pytest.approx([1.0, 1.0], abs=1e-5)
    assert not torch.allclose(vectors[0], vectors[1])
    scores = found.score(clips, RATE, CAPTIONS)
    swapped = found.score(clips, RATE, CAPTIONS[::-1])
    assert scores.shape == (2,)
    assert not torch.allclose(scores, swapped)
    assert found.identity.sha256 == hash_file(clap / "model.safetensors")


def test_many_clips_are_heard_as_few_are(clap: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, clips = load_clap(str(clap)), sounds(5)
    whole = found.embed(clips, RATE)
    monkeypatch.setattr("musicgen_rl.evaluation.clap._BATCH", 2)
    assert torch.allclose(found.embed(clips, RATE), whole, atol=1e-5)


def test_clap_on_a_gpu_says_the_same(clap: Path) -> None:
    clips = sounds(2)
    here = load_clap(str(clap))
    expected = here.embed(clips, RATE), here.score(clips, RATE, CAPTIONS)
    with pretended_gpus():
        there = load_clap(str(clap), GPU)
        found = there.embed(clips, RATE), there.score(clips, RATE, CAPTIONS)
        assert [x.device for x in found] == [GPU, GPU]
        assert all(torch.equal(f.cpu(), e) for f, e in zip(found, expected, strict=True))


def test_only_clap_follows_the_device_and_rows_are_the_same(clap: Path, judges: Path) -> None:
    clips, prompts = sounds(2).numpy(), [Prompt(c) for c in CAPTIONS]
    expected = measure(clips, RATE, prompts, load_instruments(judges, clap=str(clap)))
    with pretended_gpus():
        instruments = load_instruments(judges, clap=str(clap), device="cuda")
        assert place_of(instruments.encoders["clap"]) == GPU
        assert instruments.scorers["clap"] is instruments.encoders["clap"]
        rows = measure(clips, RATE, prompts, instruments)
    for row, wanted in zip(rows, expected, strict=True):
        assert row.keys() == wanted.keys()
        assert row["adherence_clap"] == wanted["adherence_clap"]
        assert np.array_equal(row["embedding_clap"], wanted["embedding_clap"])


def place_of(found: Any) -> torch.device:
    assert isinstance(found, Clap)
    return found.embed(sounds(1), RATE).device


class Reached(Exception):  # noqa: N818
    """The instruments were asked for."""


def test_evaluations_and_their_workers_hand_their_device_on(
    tiny_folder: Path, judges: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[torch.device] = []

    def load(*_: object, device: str | torch.device, **__: object) -> None:
        asked.append(torch.device(device))
        raise Reached

    monkeypatch.setattr(assess, "load_instruments", load)
    monkeypatch.setattr(worker, "load_instruments", load)
    prompts = tmp_path / "p.txt"
    prompts.write_text("".join(f"jazz {i}\n" for i in range(6)))
    clips = tmp_path / "clips"
    for p, i in itertools.product(range(6), range(2)):
        write_tone(clips / "ours" / f"jazz {p}" / f"{i}.wav", 10 * p + i, rate=RATE)
    for device in ("cpu", "cuda:1"):
        around = Around(instruments=str(judges), clap="x", device=device, dtype="fp32")
        with pretended_gpus(), pytest.raises(Reached):
            assess_model(
                str(tiny_folder), prompts, [Arm(name="base")], "base", tmp_path / device[-1],
                CONFIG, around,
            )  # fmt: skip
        with pretended_gpus(), pytest.raises(Reached):
            assess_clips(clips, tmp_path / f"clips {device[-1]}", CONFIG, around)
        setup = MeasuringSetup(
            device=device, dtype="fp32", format="ogg", date="", models={}, prompts={},
            kept=frozenset(), sample_rate=RATE, duration_s=1.0, place=judges, clap="x",
        )  # fmt: skip
        with pytest.raises(Reached):
            setup.worker()
    assert [str(d) for d in asked] == ["cpu"] * 3 + ["cuda:1"] * 3


def test_what_is_no_clap_is_named(clap: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="cannot load CLAP"):
        load_clap(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(UnsupportedModelError, match="is a bert model, not CLAP"):
        load_clap(str(tmp_path))
    (tmp_path / "config.json").write_bytes((clap / "config.json").read_bytes())
    with pytest.raises(CheckpointError, match="has no safetensors"):
        load_clap(str(tmp_path))
