"""The ends of a dial, carried over to their base as it is after more training."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from musicgen_rl.checkpoint import load_lm, load_state, model_hash, read_info, save_model
from musicgen_rl.cli import main
from musicgen_rl.training.carry import main as carry
from musicgen_rl.training.temper import main as temper
from tests.judged import save_judged
from tests.training.test_endpoint_pair import pair


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with a dial, its second end of low rank; its heads are hot."""
    folder = tmp_path_factory.mktemp("carry")
    base = save_judged(folder / "cold")
    (folder / "prompts.txt").write_text("slow piano\nfast drums\nsad violin\n")
    low_rank = ("train=low-rank", "start_blend=0.5", "clips_per_prompt=3")
    far = ("learning_rate=0.05", "warmup_steps=1")
    options = [x for setting in (*low_rank, *far) for x in ("--diversity", setting)]
    options += [x for setting in far for x in ("--quality", setting)]
    assert pair(base, folder / "prompts.txt", base, *options, "--diversity-weight", 40) == 0
    heat = ["1", *["1.25"] * (read_info(base).lm.num_codebooks - 1)]
    assert temper([str(base), "--out", str(folder / "home"), "--temperature", *heat]) == 0
    (folder / "home" / "README.md").write_text("measured")
    return folder / "home"


def train_on(base: Path, folder: Path, **notes: object) -> Path:
    """Save what more training might make of a model, without the heat of its heads."""
    info = read_info(base)
    generator = torch.Generator().manual_seed(5)
    state = {
        n: t.float() + 0.05 * torch.randn(t.shape, generator=generator)
        for n, t in load_state(info).items()
    }
    told = {"training": {"steps": 7}, "codec_hash": info.notes.get("codec_hash"), **notes}
    lm = replace(info.lm, dropout=0.3)
    save_model(folder, replace(info, name="more", lm=lm, notes=told), state)
    return folder


def test_ends_move_as_far_as_their_base(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more, out = train_on(home, tmp_path / "more"), tmp_path / "out"
    assert carry([str(home), "--base", str(more), "--out", str(out)]) == 0
    assert capsys.readouterr().out.strip() == str(out)
    old, now = (read_info(folder) for folder in (home, out))
    assert now.notes["temperature_in_heads"] == old.notes["temperature_in_heads"]
    assert (now.name, now.lm, now.notes["training"]) == (old.name, old.lm, {"steps": 7})
    heads = load_state(read_info(more))["heads.weight"].float()
    heads = (
        heads
        / torch.tensor(now.notes["temperature_in_heads"]).repeat_interleave(
            len(heads) // now.lm.num_codebooks
        )[:, None]
    )
    before, base = load_state(old), load_state(now)
    torch.testing.assert_close(base["heads.weight"].float(), heads, rtol=1e-3, atol=1e-3)
    assert any((base[n].float() - before[n].float()).abs().max() > 0.05 for n in base)
    for end in ("quality", "diversity"):
        was, found = (load_state(read_info(folder / end)) for folder in (home, out))
        assert any((was[n].float() - before[n].float()).abs().max() > 1e-3 for n in was)
        for name, tensor in found.items():
            torch.testing.assert_close(
                tensor.float() - base[name].float(),
                was[name].float() - before[name].float(), rtol=2e-3, atol=2e-3,
            )  # fmt: skip
        notes = read_info(out / end).notes
        assert notes["base"] == {"name": now.name, "sha256": model_hash(now)}
        assert notes["carried"]["from"]["sha256"] == model_hash(old)
    assert (home / "README.md").exists()
    assert not (out / "README.md").exists()
    shutil.rmtree(more)  # the dial runs on the new folder alone
    generate = ["generate", "slow piano", "--model", out, "--duration", 1, "-o", tmp_path / "clips"]
    for place in (0, 0.5, 1):
        assert main([str(a) for a in (*generate, "--diversity", place)]) == 0


def test_carried_without_training_nothing_changes(home: Path, tmp_path: Path) -> None:
    assert carry([str(home), "--base", str(home), "--out", str(tmp_path / "same")]) == 0
    for end in ("", "quality", "diversity"):
        was, found = (load_lm(read_info(folder / end)).state_dict()
                      for folder in (home, tmp_path / "same"))  # fmt: skip
        torch.testing.assert_close(found, was, rtol=0, atol=0)


def test_what_cannot_be_carried_is_refused(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = train_on(home, tmp_path / "more")
    other = train_on(home, tmp_path / "other", codec_hash="another")
    wide = save_judged(tmp_path / "wide")
    info = read_info(wide)
    save_model(wide, replace(info, lm=replace(info.lm, max_frames=info.lm.max_frames + 1)),
               load_state(info))  # fmt: skip
    out = tmp_path / "out"
    for source, base, target, words in (
        (home, more, home, "is there already"),
        (home / "quality", more, out, "no ends to carry"),
        (home, other, out, "codec another"),
        (home, wide, out, "another shape"),
        (home, tmp_path / "none", out, str(tmp_path / "none")),
    ):
        assert carry([str(source), "--base", str(base), "--out", str(target)]) == 2
        assert words in capsys.readouterr().err
    assert not out.exists()
