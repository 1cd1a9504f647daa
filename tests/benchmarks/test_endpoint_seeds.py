import json
import sys
from pathlib import Path

import pytest

from benchmarks.endpoint_seeds import main, option, spread
from tests.judged import save_judged


def test_the_spread_is_over_seeds() -> None:
    assert spread([1.0, 2.0, 3.0]) == {"mean": 2.0, "sd": 1.0}


def test_options_are_written_as_the_command_takes_them() -> None:
    assert option("clip_s", "1.5") == ["--clip-s", "1.5"]
    assert option("train_norms", "False") == ["--no-train-norms"]


@pytest.mark.slow
def test_every_seed_and_weight_is_trained_played_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = save_judged(tmp_path / "tiny")
    (tmp_path / "train.txt").write_text("slow piano\nfast drums\nsad violin\n")
    rows = [{"prompt": f"calm jazz {i}", "attributes": {"style": "jazz"}} for i in range(6)]
    held_out = tmp_path / "held_out.jsonl"
    held_out.write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "runs"
    small = ("prompts_per_step=2", "clips_per_prompt=2", "clip_s=1.0", "long_clip_s=0",
             "listen_every=1", "guard_kl_rise=0", "guard_entropy=0", "guard_hacking=0",
             "guard_silence=1", "guard_repeats=1")  # fmt: skip
    settings = [x for end in ("--quality", "--diversity") for s in small for x in (end, s)]
    command = [
        "endpoint_seeds.py", "--base", base, "--train", tmp_path / "train.txt", "--prompts",
        held_out, "-o", out, "--seeds", "1,2", "--weights", "0,40", "--quality-steps", 2,
        "--diversity-steps", 1, "-P", 6, "-n", 2, "--duration", 1, "--threads", 1, "--here",
        *settings,
    ]  # fmt: skip
    monkeypatch.setattr(sys, "argv", [str(part) for part in command])
    main()
    found = json.loads((out / "endpoint_seeds.json").read_text())
    ends = [(end["end"], end["weight"], len(end["runs"])) for end in found["ends"]]
    assert ends == [("quality", None, 2), ("diversity", 0.0, 2), ("diversity", 40.0, 2)]
    steps = [run["step"] for end in found["ends"] for run in end["runs"]]
    assert steps == [2, 2, 1, 1, 1, 1]
    quality = found["ends"][0]
    values = [run["estimates"]["diversity_report"]["value"] for run in quality["runs"]]
    assert quality["over_seeds"]["diversity_report"] == pytest.approx(spread(values))
    assert values[0] != values[1]
    assert "diversity, beta 40" in (out / "endpoint_seeds.md").read_text()

    made = {path: path.stat().st_mtime_ns for path in out.rglob("model.safetensors")}
    main()  # nothing is trained again
    assert {path: path.stat().st_mtime_ns for path in out.rglob("model.safetensors")} == made
