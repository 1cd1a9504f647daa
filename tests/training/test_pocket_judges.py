import json
from pathlib import Path

import pytest

from musicgen_rl.checkpoint import checkpoints_folder
from musicgen_rl.codec.frame import FrameCodec
from musicgen_rl.codec.load import save_codec
from musicgen_rl.config import FrameCodecConfig
from musicgen_rl.errors import ConfigError
from musicgen_rl.rewards import load_encoder, load_probe, load_scorer
from musicgen_rl.rewards.towers import TowerConfig
from musicgen_rl.training import pocket_judges
from musicgen_rl.training.pocket_judges import judge_configs, make_judges, overview, place_judges
from musicgen_rl.training.pocket_sizes import JUDGES, SIZES
from tests.training.reward_corpus import RATE, write_corpus

TOWER = {"width": 16, "layers": 2, "heads": 2}
FAST = {"all": {"steps": 2, "batch_size": 4, "longest_s": 2.0, "shortest_s": 1.6},
        "probe": {"least_pieces": 2}}  # fmt: skip


def test_two_of_a_kind_share_neither_architecture_nor_seed_nor_half() -> None:
    configs = judge_configs({})
    for kind in ("encoder", "scorer"):
        first, second = configs[f"{kind}-training"], configs[f"{kind}-report"]
        assert first.tower.kind != second.tower.kind
        assert first.seed != second.seed
        assert (first.half, second.half) == ("a", "b")
        assert (first.role, second.role) == ("training", "report")
    assert configs["probe"].tower == configs["encoder-report"].tower


def test_what_is_given_stands_above_what_holds_for_all() -> None:
    configs = judge_configs({"all": {"steps": 7}, "probe": {"steps": 9}})
    assert [configs[n].steps for n in JUDGES] == [7, 7, 7, 7, 9]
    with pytest.raises(ConfigError, match="steps"):
        judge_configs({"all": {"steps": -1}})


@pytest.mark.parametrize("size", sorted(SIZES))
def test_every_size_trains_every_judge(size: str) -> None:
    assert tuple(judge_configs(SIZES[size].judges)) == tuple(JUDGES)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make all towers small, of two kinds still."""
    changed = {name: dict(fields) for name, fields in JUDGES.items()}
    changed["encoder-training"]["tower"] = TOWER
    changed["encoder-report"]["tower"] = {"kind": "conv", "width": 16, "layers": 3}
    monkeypatch.setattr(pocket_judges, "JUDGES", changed)


def test_all_are_trained_and_placed_with_a_page(tmp_path: Path, small: None) -> None:
    manifest = write_corpus(tmp_path / "corpus", pieces=16, seconds=6.0)
    codec = FrameCodec(FrameCodecConfig(
        sample_rate=RATE, hop_length=320, n_fft=1280, n_mels=20, num_codebooks=2,
        codebook_size=16, codebook_dim=8, encoder_layers=1, encoder_width=16, decoder_layers=1,
        decoder_width=16,
    ))  # fmt: skip
    save_codec(codec, tmp_path / "codec")
    lines: list[str] = []
    told = make_judges(
        manifest, tmp_path / "codec", tmp_path / "mels", tmp_path / "runs", judge_configs(FAST),
        text_encoder=checkpoints_folder() / "minilm", license="CC0-1.0", coded_every=2,
        report=lines.append,
    )  # fmt: skip
    assert told["finished"]
    assert lines == [f"rewards: {name}" for name in JUDGES]
    assert len(list((tmp_path / "mels").glob("coded-*"))) == 4 + 6  # held out, each second other
    place_judges(tmp_path / "runs", tmp_path / "model")
    rewards = tmp_path / "model"
    for role in ("training", "report"):
        assert load_encoder(rewards / f"encoder-{role}").identity.role == role
        scorer = load_scorer(rewards / f"scorer-{role}").identity
        assert told[f"scorer-{role}"]["sha256"] == scorer.sha256
    assert load_probe(rewards / "probe").identity.role == "report"
    page = (rewards / "README.md").read_text()
    assert "| scorer-report | report | ConvNet, started from encoder-report | half b" in page
    assert "| encoder-training | training | transformer | half a" in page


def test_stopping_ends_before_the_next_judge(tmp_path: Path, small: None) -> None:
    manifest = write_corpus(tmp_path / "corpus", pieces=12, seconds=6.0)
    codec = FrameCodecConfig(sample_rate=RATE, hop_length=320, n_fft=1280, n_mels=20)
    save_codec(FrameCodec(codec), tmp_path / "codec")
    lines: list[str] = []
    told = make_judges(
        manifest, tmp_path / "codec", tmp_path / "mels", tmp_path / "runs", judge_configs(FAST),
        text_encoder=tmp_path, license="CC0-1.0", report=lines.append, stop=lambda: True,
    )  # fmt: skip
    assert told == {"finished": False}
    assert lines == ["rewards: encoder-training"]


def test_without_judges_nothing_is_placed(tmp_path: Path) -> None:
    place_judges(tmp_path / "none", tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_the_page_lists_only_judges_that_are_there(tmp_path: Path) -> None:
    (tmp_path / "probe").mkdir()
    facts = {"half of the training split": "all", "data": "9 pieces, 0.1 h"}
    tower = vars(TowerConfig(kind="conv", layers=3, width=16)).copy()
    described = {"role": "report", "tower": tower, "facts": facts}
    (tmp_path / "probe" / "reward.json").write_text(json.dumps(described))
    rows = [line for line in overview(tmp_path).splitlines() if line.startswith("| ")]
    assert len(rows) == 2
    assert "all training pieces: 9 pieces, 0.1 h" in rows[1]
