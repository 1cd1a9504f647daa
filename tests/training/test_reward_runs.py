"""Training of encoder, scorer and probe on pieces that differ by chord and pulse."""

import dataclasses
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close

from musicgen_rl.errors import CheckpointError, ConfigError, InputError
from musicgen_rl.rewards import load_encoder, load_probe, load_scorer
from musicgen_rl.rewards.towers import TowerConfig
from musicgen_rl.storage import read_json
from musicgen_rl.training.checkpointing import load_training_state, save_training_state
from musicgen_rl.training.metrics import read_metrics
from musicgen_rl.training.reward_crops import Crop, styles_of
from musicgen_rl.training.reward_encoder import EncoderTrainConfig, info_nce, train_encoder
from musicgen_rl.training.reward_mels import load_mels, prepare_mels, read_mono
from musicgen_rl.training.reward_probe import (
    ProbeTrainConfig,
    choose_classes,
    facts_of,
    probe_loss,
    train_probe,
    values_of,
)
from musicgen_rl.training.reward_scorer import (
    ScorerTrainConfig,
    draw_pieces,
    tower_of,
    train_scorer,
)
from tests.training.reward_corpus import RATE, write_corpus

SMALL = TowerConfig(width=24, layers=1, heads=2, patch_frames=8, window_s=5.0)
SMALL_CONV = TowerConfig(kind="conv", width=32, layers=4)
FEW = {"half": "all", "batch_size": 8, "longest_s": 2.0, "warmup_steps": 2, "seed": 3}


def encoder_config(**changes: object) -> EncoderTrainConfig:
    options = {"steps": 12, "dim": 16, "styles": 2, "tower": SMALL, **FEW, **changes}
    return EncoderTrainConfig(**options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def mels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("reward")
    prepare_mels([write_corpus(root / "corpus", seconds=12.0)], root / "mels")
    return root / "mels"


@pytest.fixture(scope="module")
def encoder(mels: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("encoder")
    config = encoder_config(role="report", learning_rate=3e-3)
    assert train_encoder(mels, run, config, license="CC0-1.0")
    return run


def test_info_nce_by_hand() -> None:
    first, second = torch.eye(2), torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    loss, hit = info_nce(first, second, 0.5)
    rows = 0.5 * (math.log(2) + math.log(2))  # both columns alike: ln 2 in each row
    columns = 0.5 * (math.log(1 + math.exp(-2)) + math.log(1 + math.exp(2)))
    assert_close(loss, torch.tensor(0.5 * (rows + columns)))
    assert 0.25 <= float(hit) <= 0.75
    assert float(info_nce(first, first, 0.5)[1]) == 1.0
    assert info_nce(first, first, 0.1)[0] < info_nce(first, first, 1.0)[0]


def test_a_trained_encoder_knows_pieces_it_never_heard(encoder: Path, mels: Path) -> None:
    losses = [row["loss"] for row in read_metrics(encoder / "metrics.jsonl")]
    assert losses[-1] < 2.0  # chance: ln 8 = 2.08
    loaded = load_encoder(encoder / "export")
    clips = [read_mono(mels.parent / "corpus" / f"{i}.wav")[0] for i in (8, 9, 10, 11)]
    early = loaded.embed(torch.stack([c[: 2 * RATE] for c in clips]), RATE)
    late = loaded.embed(torch.stack([c[6 * RATE : 8 * RATE] for c in clips]), RATE)
    cosines = early @ late.T
    assert float(cosines.diagonal().mean()) > float(cosines.mean()) + 0.05


def test_the_description_says_how_it_was_made(encoder: Path) -> None:
    described = read_json(encoder / "export" / "reward.json")
    facts = described["facts"]
    assert (described["role"], described["shape"]) == ("report", {"dim": 16})
    assert facts["data"].startswith("8 pieces")
    assert facts["held out"].startswith("4 pieces: 4 of the valid and test splits")
    assert (facts["steps"], facts["seed"], facts["license"]) == (12, 3, "CC0-1.0")
    assert 0 <= facts["figures"]["recall@1, 2 s"] <= 1


def test_a_run_that_was_stopped_ends_as_if_it_had_not_been(mels: Path, tmp_path: Path) -> None:
    config = encoder_config(steps=6)
    train_encoder(mels, tmp_path / "whole", config)
    left = iter([False] * 3 + [True] * 9)
    assert train_encoder(mels, tmp_path / "parts", config, stop=lambda: next(left)) is None
    assert not (tmp_path / "parts" / "export").exists()
    train_encoder(mels, tmp_path / "parts", config)
    whole, parts = (
        load_file(tmp_path / name / "export" / "model.safetensors") for name in ("whole", "parts")
    )
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_a_run_is_not_continued_with_other_options(mels: Path, tmp_path: Path) -> None:
    train_encoder(mels, tmp_path, encoder_config(steps=1))
    with pytest.raises(CheckpointError, match=r"begun with temperature 0\.1, not 0\.2"):
        train_encoder(mels, tmp_path, encoder_config(steps=2, temperature=0.2))


def scorer_config(steps: int = 1, **changes: object) -> ScorerTrainConfig:
    options = {"steps": steps, "role": "report", "dim": 16, "tower": SMALL, **FEW, **changes}
    return ScorerTrainConfig(**options)  # type: ignore[arg-type]


def probe_config(steps: int = 1, **changes: object) -> ProbeTrainConfig:
    options = {"steps": steps, "batch_size": 8, "longest_s": 2.0, "tower": SMALL,
               "least_pieces": 2, "test_s": 2.0, **changes}  # fmt: skip
    return ProbeTrainConfig(**options)  # type: ignore[arg-type]


def forget(run: Path, *names: str) -> None:
    """Leave out of a run's state what those of before did not tell."""
    found = load_training_state(run)
    assert found is not None
    tensors, state = found
    told = {k: v for k, v in state["begun_with"].items() if k not in names}
    del state["kind"]
    save_training_state(run, tensors, state | {"begun_with": told})


@pytest.mark.parametrize("kind", ["scorer", "probe"])
def test_a_run_does_not_go_on_from_another_start(
    mels: Path, encoder: Path, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, config = {
        "scorer": (train_scorer, scorer_config), "probe": (train_probe, probe_config)
    }[kind]  # fmt: skip
    first, other, run = encoder / "export", tmp_path / "other", tmp_path / "run"
    train_encoder(mels, other, encoder_config(steps=1, role="report", seed=9))
    train(mels, run, config(), start=first)
    train(mels, tmp_path / "bare", config())
    said = r"was begun with start (\w{12}|none), not (\w{12}|none): give the encoder of that time "
    with monkeypatch.context() as patch:
        patch.setattr("musicgen_rl.training.reward_mels.read_tensors", None)  # before any work
        for folder, start in ((run, other / "export"), (run, None), (tmp_path / "bare", first)):
            with pytest.raises(CheckpointError, match=said + ".*, or another folder") as caught:
                train(mels, folder, config(2), start=start)
            assert "--start" in str(caught.value)
            assert "\n" not in str(caught.value)
    renamed = shutil.copytree(first, tmp_path / "renamed")
    assert train(mels, run, config(2), start=renamed)
    forget(run, "start")
    assert train(mels, run, config(3), start=other / "export")


def test_a_judge_of_another_kind_is_not_gone_on_with(mels: Path, tmp_path: Path) -> None:
    train_encoder(mels, tmp_path, encoder_config(steps=1))
    for train, config, kind in ((train_scorer, scorer_config(), "scorer"),
                                (train_probe, probe_config(), "probe")):  # fmt: skip
        said = f"holds a run of `train encoder`, not of `train {kind}`"
        with pytest.raises(CheckpointError, match=said):
            train(mels, tmp_path, config)


def test_a_run_does_not_go_on_with_other_pieces(mels: Path, tmp_path: Path) -> None:
    own, run = shutil.copytree(mels, tmp_path / "mels"), tmp_path / "run"
    train_encoder(own, run, encoder_config(steps=1))
    held, learnt = own / "mels-00009.safetensors", own / "mels-00001.safetensors"
    shutil.copy(own / "mels-00008.safetensors", held)
    assert train_encoder(own, run, encoder_config(steps=2))  # nobody learns from that one
    shutil.copy(own / "mels-00002.safetensors", learnt)
    said = r"was begun with recordings \w{12}, not \w{12}: give the audio and the manifest of that"
    with pytest.raises(CheckpointError, match=said):
        train_encoder(own, run, encoder_config(steps=3))
    forget(run, "recordings")
    assert train_encoder(own, run, encoder_config(steps=3))


def test_the_seed_changes_the_weights(mels: Path, tmp_path: Path) -> None:
    found = [
        train_encoder(mels, tmp_path / str(s), encoder_config(steps=1, seed=s)) for s in (1, 1, 2)
    ]
    # Training into a folder that is finished changes nothing, so seed 1 twice is the same run.
    assert found[0] == found[1]
    assert found[0] is not None
    assert found[2] is not None
    assert found[0].sha256 != found[2].sha256


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"role": "judge"}, "unknown role 'judge'"),
        ({"half": "c"}, "unknown half 'c'"),
        ({"shortest_s": 3.0}, "shortest_s 3.0 is above longest_s 2.0"),
        ({"temperature": 0.0}, "temperature"),
        ({"batch_size": 1}, "batch_size"),
    ],
)
def test_options_that_cannot_work_are_refused(change: dict[str, object], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        encoder_config(**change)


def test_a_scorer_is_trained_from_an_encoder(mels: Path, encoder: Path, tmp_path: Path) -> None:
    config = ScorerTrainConfig(  # type: ignore[arg-type]
        steps=15, role="report", dim=16, tower=tower_of(encoder / "export"), learning_rate=3e-3,
        **FEW,
    )  # fmt: skip
    assert train_scorer(mels, tmp_path, config, start=encoder / "export")
    described = read_json(tmp_path / "export" / "reward.json")
    assert "encoder-report" in described["facts"]["tower started from"]
    assert described["facts"]["figures"]["caption-to-clip recall@4"] == 1.0
    scorer = load_scorer(tmp_path / "export")
    clips = [read_mono(mels.parent / "corpus" / f"{i}.wav")[0][: 3 * RATE] for i in (8, 9)]
    right = scorer.score(torch.stack(clips), RATE, ["a hum at 600", "a beat at 714"])
    wrong = scorer.score(torch.stack(clips), RATE, ["a beat at 714", "a hum at 600"])
    assert float((right - wrong).mean()) > 0.02


def test_a_step_is_drawn_from_few_styles_as_often_as_asked(mels: Path) -> None:
    by_style = styles_of(load_mels(mels))

    def styles(share: float, seed: int) -> int:
        config = ScorerTrainConfig(batch_size=5, styles=1, grouped_share=share)
        drawn = draw_pieces(np.random.default_rng(seed), by_style, config)
        assert len({p.key for p in drawn}) == len(drawn) == 5
        return len({p.attributes["style"] for p in drawn})

    assert {styles(1.0, seed) for seed in range(9)} == {1}
    assert {styles(0.0, seed) for seed in range(9)} == {2}


def test_a_tower_of_another_shape_is_not_taken_over(
    mels: Path, encoder: Path, tmp_path: Path
) -> None:
    config = ScorerTrainConfig(steps=1, tower=SMALL_CONV, **FEW)  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match="give the same one"):
        train_scorer(mels, tmp_path, config, start=encoder / "export")


def test_a_probe_learns_what_is_plain_to_hear(mels: Path, tmp_path: Path) -> None:
    config = ProbeTrainConfig(
        steps=25, batch_size=8, longest_s=2.0, tower=SMALL_CONV, least_pieces=2, test_s=2.0,
        learning_rate=5e-3, warmup_steps=2,
    )  # fmt: skip
    assert train_probe(mels, tmp_path, config)
    probe = load_probe(tmp_path / "export")
    assert set(probe.classes) == {"style", "tempo_band", "drums", "instruments", "moods"}
    assert probe.classes["instruments"] == ("organ", "beat", "hum")
    figures = read_json(tmp_path / "export" / "reward.json")["facts"]["figures"]
    assert figures["style, original"] > 0.7
    assert figures["style, always the commonest"] == pytest.approx(0.5)


def test_a_probe_does_not_start_from_what_rewards_use(mels: Path, tmp_path: Path) -> None:
    train_encoder(mels, tmp_path / "e", encoder_config(steps=1, role="training"))
    config = ProbeTrainConfig(steps=1, tower=SMALL, longest_s=2.0, least_pieces=2)
    with pytest.raises(InputError, match="a probe judges"):
        train_probe(mels, tmp_path / "p", config, start=tmp_path / "e" / "export")


def test_classes_are_those_of_enough_pieces(mels: Path) -> None:
    pieces = load_mels(mels)
    odd = dataclasses.replace(pieces[0], attributes={"style": "polka", "instruments": ["organ"]})
    classes = choose_classes([*pieces, odd], 2)
    assert classes["style"] == ("beat", "hum")
    assert "mode" not in classes
    with pytest.raises(InputError, match="no attribute to learn"):
        choose_classes(pieces, 100)


def test_facts_follow_speed_and_entrance(mels: Path) -> None:
    piece = load_mels(mels)[1]
    assert facts_of(Crop(piece, 0, 50))["tempo_band"] == ["fast"]
    assert facts_of(Crop(piece, 0, 50, semitones=-2))["tempo_band"] == ["medium"]  # 116 bpm
    late = dataclasses.replace(
        piece, attributes=piece.attributes | {"enters_s": {"organ": 5.0, "drums": 5.0}}
    )
    assert facts_of(Crop(late, 0, 50))["instruments"] == ["beat"]
    assert facts_of(Crop(late, 0, 50))["drums"] == ["False"]
    assert facts_of(Crop(late, 300, 50))["instruments"] == ["beat", "organ"]
    assert values_of({"a": 3, "b": [], "c": None}, "a") == ["3"]
    assert values_of({"a": 3, "b": [], "c": None}, "c") == []


def test_the_probes_loss_by_hand() -> None:
    logits = {"style": torch.tensor([[0.0, 0.0], [5.0, 1.0]]), "moods": torch.zeros(2, 3)}
    classes = {"style": ("a", "b"), "moods": ("x", "y", "z")}
    facts = [{"style": ["b"], "moods": ["x"]}, {"style": [], "moods": []}]
    # Only the first clip names a style; every mood is a coin's throw.
    assert_close(probe_loss(logits, classes, facts, 2.0), torch.tensor(3 * math.log(2)))
    without = probe_loss(logits, classes, facts, 0.0)
    assert_close(without, torch.tensor(math.log(2)))
