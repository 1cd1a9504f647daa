"""The decoding benchmark runs as one command, and its result has what the page promises."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    out = tmp_path_factory.mktemp("results")
    said = subprocess.run(
        [sys.executable, "benchmarks/decode.py", "--quick", "--out", str(out)],
        cwd=ROOT, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert said.returncode == 0, said.stderr[-2000:]
    return out


@pytest.fixture(scope="module")
def result(written):
    return json.loads((written / "decode.json").read_text())


def test_the_result_says_where_it_comes_from(result):
    assert result["schema"] == 1
    assert result["quick"] is True
    assert result["command"] == "python benchmarks/decode.py --quick"
    assert {"cpu", "cores", "flags", "memory_gb"} <= result["machine"].keys()
    assert result["versions"]["torch"]
    assert result["versions"]["transformers"]


def test_every_section_is_there_and_none_failed(result):
    assert list(result["sections"]) == [
        "step_30m", "step_small", "step_pocket", "clips_30m", "text_to_file", "start", "long",
        "many", "gpu",
    ]  # fmt: skip
    for section in result["sections"].values():
        assert "error" not in section
        assert section["rows"]


@pytest.mark.parametrize("section", ["step_30m", "clips_30m", "gpu"])
def test_every_step_has_its_floor_and_its_peer(result, section):
    rows = result["sections"][section]["rows"]
    assert {"ours", "transformers"} <= {row["by"] for row in rows}
    for row in rows:
        assert 0 < row["min_ms"] <= row["median_ms"]
        assert row["floor_ms"] > 0
        assert row["frames_per_s"] == pytest.approx(row["clips"] * 1e3 / row["min_ms"])


def test_one_clip_is_measured_as_used_and_alone_with_and_without_guidance(result):
    rows = result["sections"]["step_30m"]["rows"]
    kinds = {(row["by"], row["kind"], row["guidance"]) for row in rows}
    assert {("ours", "as used", False), ("ours", "as used", True)} <= kinds
    assert {("ours", "alone", False), ("transformers", "alone", True)} <= kinds
    assert ("transformers", "as used", True) in kinds


def test_both_curves_are_published(result):
    rows = result["sections"]["clips_30m"]["rows"]
    points = {(row["clips"], row["rows"]) for row in rows if row["by"] == "ours"}
    assert points == {(1, 1), (1, 2), (2, 2), (2, 4)}


def test_memory_is_watched_after_every_clip(result):
    many = result["sections"]["many"]
    assert len(many["held_mb"]) == 12
    assert many["tenth_mb"] == many["held_mb"][4]
    assert all(held > 0 for held in many["held_mb"])


def test_longer_clips_take_longer(result):
    rows = result["sections"]["long"]["rows"]
    assert [row["seconds"] for row in rows] == [0.2, 0.4, 1.0]
    for row in rows:
        assert row["per_second_s"] == pytest.approx(row["mean_s"] / row["seconds"])
        assert row["peak_mb"] > 0


def test_short_clips_are_made_while_a_long_one_is(result):
    short, _, longest = result["sections"]["long"]["made"]
    assert len(longest) == 1
    assert len(short) > 1


def test_the_page_names_command_machine_and_targets(written, result):
    page = (written / "decode.md").read_text()
    assert result["command"] in page
    assert result["machine"]["cpu"] in page
    for entry in result["targets"]:
        assert entry["work"] in page
    assert (written / "decode.svg").read_text().startswith("<?xml")
