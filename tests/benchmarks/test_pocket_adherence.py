import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.pocket_adherence import asks, choose, label, markdown, per_prompt, summarise

FACTS = {
    "style": "bossa nova", "tempo_band": "medium", "mode": "minor", "drums": True,
    "instruments": ["vibraphone", "double bass"], "moods": ["sad", "calm"],
}  # fmt: skip


def test_only_what_the_caption_names_is_asked() -> None:
    assert asks("bossa nova in C minor", FACTS) == {"style": "bossa nova", "mode": "minor"}
    assert asks("vibes and drums", FACTS) == {"drums": True, "instruments": ["vibraphone"]}
    assert asks("116 bpm", FACTS) == {"tempo_band": "medium"}
    assert asks("something nice", FACTS) == {}
    assert "moods" in asks("a sad tune", FACTS)
    assert "style" not in asks("bossanovas", FACTS)  # whole words only


def test_held_out_pieces_are_taken_style_by_style(tmp_path: Path) -> None:
    rows = []
    for i, (style, split) in enumerate(
        [("jazz", "test"), ("jazz", "valid"), ("rock", "test"), ("rock", "train")]
    ):
        rows.append({"audio": f"{i}.flac", "captions": [f"{style} tune", "a tune"],
                     "attributes": FACTS | {"style": style}, "split": split})  # fmt: skip
    path = tmp_path / "manifest.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = choose([path], 2)
    assert [(c, w["style"]) for _, _, c, w in found] == [
        ("jazz tune", "jazz"),
        ("rock tune", "rock"),
    ]
    assert len(choose([path], 9)) == 3
    assert found[0][0] == tmp_path / "0.flac"


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
