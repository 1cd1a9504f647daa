"""The slider's benchmark runs as one command and says what its page promises."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    out = tmp_path_factory.mktemp("results")
    said = subprocess.run(
        [sys.executable, "benchmarks/slider.py", "--quick", "--out", str(out)],
        cwd=ROOT, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert said.returncode == 0, said.stderr[-2000:]
    return out


def rows_of(written):
    (section,) = json.loads((written / "slider.json").read_text())["sections"].values()
    return {row["name"]: row for row in section["rows"]}, section


def test_all_ways_are_timed_beside_their_floors(written):
    rows, section = rows_of(written)
    names = " ".join(rows)
    assert all(way in names for way in ("in place", "load_state_dict", "mergekit", "SLERP"))
    if "fbgemm" in torch.backends.quantized.supported_engines:
        assert all(way in names for way in ("int8 compiled", "int8 of torch"))
    assert section["copy_gb_s"] > 0
    for name, row in rows.items():
        assert 0 < row["min_ms"] <= row["median_ms"]
        if not name.startswith("PEFT"):
            assert row["times_floor"] == pytest.approx(row["min_ms"] / row["floor_ms"])


def test_all_ways_leave_the_same_weights(written):
    rows, section = rows_of(written)
    assert rows["ours, fp32 in place"]["max_difference"] == 0
    for name in ("new dict, load_state_dict", "mergekit's way, load_state_dict"):
        assert rows[name]["max_difference"] < 1e-6
    assert rows["ours, fp32 from fp16 endpoints"]["max_difference"] < 1e-3
    if section["peft_linear_error"] is not None:
        assert section["peft_linear_error"] > 0.5


def test_the_page_has_every_row_and_the_command(written):
    page = (written / "slider.md").read_text()
    assert "python benchmarks/slider.py --quick" in page
    assert all(f"| {name} |" in page for name in rows_of(written)[0])
