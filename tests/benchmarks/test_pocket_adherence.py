import numpy as np
import pytest

from benchmarks.pocket_adherence import label, markdown, per_prompt, summarise


def test_takes_are_averaged_where_something_was_asked() -> None:
    numbers = {"x": np.array([1.0, 3.0, np.nan, 5.0, np.nan, np.nan])}
    found = per_prompt(numbers, 2)["x"]
    assert found[:2] == [2.0, 5.0]
    assert np.isnan(found[2])


def rows() -> list[dict[str, object]]:
    settings = [{"guidance_scale": g, "temperature": 1.0} for g in (1.0, 3.0)]
    flat = [0.1, 0.2, 0.1, 0.2, 0.1, 0.2, 0.1, 0.2]
    made = [
        {"name": label(s), "prompts": {"style": [v + bonus for v in flat], "score, report": flat}}
        for s, bonus in zip(settings, (0.0, 0.5), strict=True)
    ]
    real = {"name": "real, through the codec", "prompts": {"style": [0.8] * 8}}
    return [real, *made]


def test_differences_are_paired_by_caption() -> None:
    found = summarise(rows(), 8)  # type: ignore[arg-type]
    difference = found["differences"]["temperature 1: guidance 3 minus 1"]
    # Captions differ, but every one gains one half: no doubt is left.
    assert difference["style"]["low"] == pytest.approx(0.5)
    assert difference["style"]["high"] == pytest.approx(0.5)
    assert difference["score, report"]["value"] == 0.0
    assert found["table"]["guidance 1, temperature 1"]["style"]["value"] == pytest.approx(0.15)
    shares = found["share of real"]
    assert shares["guidance 3, temperature 1"]["style"] == pytest.approx(0.65 / 0.8)
    assert "real, through the codec" not in shares


def test_tables_show_intervals() -> None:
    text = markdown(summarise(rows(), 8))  # type: ignore[arg-type]
    assert "| guidance 3, temperature 1 | 0.65 ± 0.0" in text
    assert "| temperature 1, style | +0.500 | +0.500 to +0.500 |" in text
    assert "seed" not in text.splitlines()[0]
    told = [{"seed": 910, "valid": 0.49, "test": 0.49}]
    head = markdown(summarise(rows(), 8), told).splitlines()[0]  # type: ignore[arg-type]
    assert head.endswith("with seed 910, --valid 0.49 --test 0.49.")
