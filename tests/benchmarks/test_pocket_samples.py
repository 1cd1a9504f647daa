import re
import shlex
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import pocket_samples
from benchmarks.pocket_samples import SAMPLES, Sample, page, write
from musicgen_rl.audio.clip import Clip
from musicgen_rl.audio.io import read_audio, read_tags
from musicgen_rl.checkpoint import find_model, model_hash, read_info
from musicgen_rl.errors import ConfigError
from musicgen_rl.pipeline import Pipeline
from tests.models import save_tiny


class Player:
    """Plays a tone whose pitch tells the dial; notes what it was asked for."""

    model_sha256 = "abcdef0123456789"

    def __init__(self, rate: int = 8000) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.rate = rate

    def generate(self, prompt: str, **options: Any) -> list[Clip]:
        self.asked.append((prompt, options))
        hertz = 200 + 400 * (options["diversity"] or 0.0)
        t = np.arange(self.rate * options["duration_s"]) / self.rate
        return [Clip(0.2 * np.sin(2 * np.pi * hertz * t).astype(np.float32), self.rate)]


def test_half_play_at_the_quality_end_and_the_whole_dial_is_heard() -> None:
    places = Counter(sample.place for sample in SAMPLES)
    assert places == {"quality": 6, "base": 2, "middle": 2, "diversity": 2}
    assert len({sample.file for sample in SAMPLES}) == 12


def test_every_clip_is_made_from_seed_0_and_stands_on_the_page(tmp_path: Path) -> None:
    player = Player()
    (tmp_path / "older-base.ogg").write_bytes(b"x")
    total = write(player, "pocket", tmp_path, SAMPLES)  # type: ignore[arg-type]
    for sample, (prompt, options) in zip(SAMPLES, player.asked, strict=True):
        assert (prompt, options) == (
            sample.prompt, {"duration_s": 10, "seed": 0, "diversity": sample.diversity}
        )  # fmt: skip
    files = {path.name: path.stat().st_size for path in tmp_path.glob("*.ogg")}
    assert sum(files.values()) == total
    listed = re.findall(r"\]\((.*?)\)", (tmp_path / "README.md").read_text())
    assert set(listed) == set(files) == {sample.file for sample in SAMPLES}


def test_clips_of_an_earlier_run_are_replaced(tmp_path: Path) -> None:
    for rate in (8000, 16000):
        write(Player(rate), "pocket", tmp_path, SAMPLES[:1])  # type: ignore[arg-type]
        (path,) = tmp_path.glob("*.ogg")
        assert read_audio(path).sample_rate == rate


def test_the_clips_that_are_shown_are_of_the_model_that_is_shipped() -> None:
    folder = Path(__file__).parents[2] / "docs" / "samples"
    shipped = model_hash(read_info(find_model("pocket")))
    for sample in SAMPLES:
        tags = read_tags(folder / sample.file)
        assert tags["model_sha256"] == shipped, f"{sample.file}: make docs/samples again"
        assert (tags["prompt"], tags["diversity"]) == (sample.prompt, sample.diversity)
    assert f"weights {shipped[:12]}" in (folder / "README.md").read_text(encoding="utf-8")


def test_too_many_bytes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pocket_samples, "MOST_BYTES", 100)
    with pytest.raises(ConfigError, match="make fewer"):
        write(Player(), "pocket", tmp_path, SAMPLES[:1])  # type: ignore[arg-type]


def test_the_page_says_whose_clips_they_are() -> None:
    text = page([Sample("a tune", 0.5)], "pocket", "abcdef0123456789", 1_234_567)
    assert "pocket (weights abcdef012345)" in text
    assert "1.2 MB" in text
    assert "| [a tune](a-tune-middle.ogg) | middle |" in text


def test_the_command_on_the_page_makes_that_very_clip(tmp_path: Path) -> None:
    """What the command line asks of the pipeline is what the script asked."""
    from musicgen_rl.cli import main as cli_main

    model = save_tiny(tmp_path / "tiny")
    sample = Sample("a tune", None)
    clip = pocket_samples.make(Pipeline.load(model, device="cpu"), sample)
    words = shlex.split(sample.command(str(model)))
    assert cli_main([*words[1:], "--output", str(tmp_path / "made")]) == 0
    made = next((tmp_path / "made").glob("*.ogg"))
    clip.save(tmp_path / "ours.ogg")
    ours, theirs = read_audio(tmp_path / "ours.ogg"), read_audio(made)
    assert np.array_equal(ours.samples, theirs.samples)
