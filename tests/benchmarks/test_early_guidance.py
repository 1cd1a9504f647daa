"""The table tells every way; too little to compare is refused."""

import pytest

from benchmarks.early_guidance import WAYS, main, render


def test_the_table_has_a_row_for_each_way() -> None:
    rows = [{"way": way, "figures": [[0.5, 0.02]] * 6, "time": 1.25} for way in WAYS]
    about = {"model": "m", "prompts": "a/b.jsonl", "captions": 48, "clips": 4, "seconds": 30.0,
             "seed": 0, "rows": rows}  # fmt: skip
    told = render(about).splitlines()
    assert "48 captions of b.jsonl, 4 clips of 30 s each, seed 0." in told[2]
    assert told[4].startswith("| | score, first | style, first | diversity, first | score, last ")
    assert "| guidance 2, 1 s |" + " 0.500 ± 0.020 |" * 6 + " 1.25 |" in told


@pytest.mark.parametrize("given", [("--clips", "1"), ("--seconds", "9")])
def test_too_little_is_refused(given, monkeypatch, capsys, tmp_path) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr("sys.argv", ["early_guidance", *given, "--out", str(tmp_path / "x")])
    assert main() == 2
    assert "give 2 clips or more of 10 s or more, got" in capsys.readouterr().err
