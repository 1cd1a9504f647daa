"""What the pages say of pocket's front is what its committed result says."""

import re
from pathlib import Path

import pytest

from musicgen_rl.evaluation.summary import read_summary

ROOT = Path(__file__).parents[2]
RESULT = ROOT / "docs" / "results" / "pocket"


@pytest.fixture(scope="module")
def summary():
    return read_summary(RESULT / "summary.json")


@pytest.fixture(scope="module")
def rows():
    """Read the table of claims: name -> (verdict, what is said of it)."""
    text = (RESULT / "README.md").read_text()
    table = re.findall(r"^\| ([a-z~ ]+) \| ([a-z ]+) \| (.+) \|$", text, re.M)
    return {name: (verdict, said) for name, verdict, said in table}


def value(summary, arm, measure):
    (found,) = [a for a in summary["arms"] if a["name"] == arm]
    return found["estimates"][measure]["value"]


def numbers(values):
    return ", ".join(f"{v:.2f}".lstrip("0") for v in values)


def test_every_claim_is_told_with_its_verdict(summary, rows):
    assert {c["name"]: c["verdict"] for c in summary["claims"]} == {
        name: verdict for name, (verdict, _) in rows.items()
    }


def test_the_dial_is_told_by_its_numbers(summary, rows):
    line = ["quality", "merge 0.25", "merge 0.5", "merge 0.75", "diversity"]
    said = rows["the dial is a dial"][1]
    for measure in ("diversity_report", "adherence_report"):
        assert numbers(value(summary, arm, measure) for arm in line) in said


def test_what_is_kept_of_guidance_is_told(summary, rows):
    (claim,) = [c for c in summary["claims"] if c["name"] == "distilled ~ guided"]
    shares = re.findall(r"\d\.\d\d of the gain", claim["note"])
    said = rows["distilled ~ guided"][1]
    readme = " ".join((ROOT / "README.md").read_text().split())
    scorer, probe = (share.split()[0].lstrip("0") for share in shares)
    assert f"{scorer} of it on the report scorer, {probe} on the probe" in said
    assert f"{scorer} of it on the scorer, {probe} on the probe" in readme
