"""The measured front on the page: what is drawn, where its mark goes, what is said without one."""

import json
import re
from itertools import combinations
from pathlib import Path

import pytest

from app.explore import find_encoder
from app.front import WIDTH, find_front, front_html, label_spots
from musicgen_rl.checkpoint import model_hash, read_info


def arm(name, family, x, y, **weights):
    def estimate(value):
        return {"value": value, "low": value - 0.1, "high": value + 0.1}

    return {
        "name": name, "family": family, "weights": weights, "clips": 80,
        "estimates": {"spread": estimate(x), "fit": estimate(y)},
    }  # fmt: skip


def summary(*, better=1, hashes=None):
    return {
        "schema": "musicgen-rl/evaluation", "version": 1, "created": "", "instruments": {},
        "reference_arm": "base", "lines": {}, "claims": [],
        "made": {
            "model": {"sha256": (hashes or {}).get("m", "0")},
            "weights": {"quality": hashes or {}},
        },
        "bootstrap": {"prompts": 20},
        "measures": {
            "spread": {"label": "diversity, report", "better": 1},
            "fit": {"label": "<adherence>", "better": better},
        },
        "fronts": [{"x": "spread", "y": "fit"}],
        "arms": [
            arm("base", "base", 0.5, 0.1),
            arm("guidance 3", "guidance", 0.2, 0.9),
            arm("diversity", "merge", 0.8, 0.5, diversity=1.0, method="lerp"),
            arm("quality", "merge", 0.2, 0.8, diversity=0.0, method="lerp"),
            arm("merge 0.5", "merge", 0.6, 0.7, diversity=0.5, method="lerp"),
            arm("arc", "merge", 0.61, 0.71, diversity=0.5, method="slerp"),
            arm("half-way", "control", 0.4, 0.6),
        ],
    }  # fmt: skip


def stops(text):
    return json.loads(re.search(r'data-places="([^"]*)"', text)[1])


def test_the_dial_is_a_line_in_order_more_varied_to_the_right_and_better_upwards():
    text = front_html(summary(), "pocket", same_weights=True)
    lams, across, down = zip(*stops(text), strict=True)
    assert lams == (0.0, 0.5, 1.0)
    assert list(across) == sorted(across)
    assert list(down) == sorted(down)  # worse is further down
    # Twice as far in diversity is twice as far in the figure: .2 to .6 to .8.
    assert (across[1] - across[0]) / (across[2] - across[1]) == pytest.approx(2, abs=0.01)
    assert 'translate({} {})"'.format(*stops(text)[0][1:]) in text  # the mark begins at quality
    assert text.count("<circle cx") == 3
    assert text.count('class="rival"') == 2  # the arc and the control are not on it
    assert "20 prompts" in text
    assert "80 clips a point" in text


def test_where_less_is_better_the_figure_is_turned():
    text = front_html(summary(better=-1), "pocket", same_weights=True)
    down = [place[2] for place in stops(text)]
    assert down == sorted(down, reverse=True)


def test_nothing_measured_becomes_html():
    text = front_html(summary(), "pocket", same_weights=True)
    assert "<adherence>" not in text
    assert "&lt;adherence&gt;: better upwards" in text


def test_without_a_dial_there_is_no_figure():
    flat = summary()
    flat["arms"] = flat["arms"][:2]
    assert front_html(flat, "pocket", same_weights=True) == ""
    assert front_html(summary() | {"fronts": []}, "pocket", same_weights=True) == ""


def test_a_model_nobody_measured_says_so(dial_folder, tmp_path):
    text = find_front(read_info(dial_folder), tmp_path)
    assert "has not been measured for dialled yet" in text
    assert "musicgen-rl evaluate --model dialled" in text


def test_other_weights_than_those_measured_are_named(dial_folder, tmp_path):
    info = read_info(dial_folder)
    hashes = {"m": model_hash(info)}
    hashes |= {end: model_hash(read_info(dial_folder / end)) for end in ("quality", "diversity")}
    (tmp_path / "dialled").mkdir()
    for changed in ("", "m", "quality", "diversity"):
        told = summary(hashes=hashes | ({changed: "0"} if changed else {}))
        (tmp_path / "dialled" / "summary.json").write_text(json.dumps(told))
        text = find_front(info, tmp_path)
        assert "<svg" in text
        assert ("earlier weights" in text) is bool(changed), changed


def test_the_front_of_pocket_is_drawn_from_the_results_in_docs():
    from musicgen_rl.checkpoint import checkpoints_folder

    results = Path(__file__).parents[2] / "docs" / "results"
    text = find_front(read_info(checkpoints_folder() / "pocket"), results)
    assert [stop[0] for stop in stops(text)][0::4] == [0.0, 1.0]


def test_labels_cover_neither_points_nor_each_other():
    points = [(120.0, 100.0), (128.0, 108.0), (300.0, 200.0), (304.0, 190.0)]
    texts = ["dial at quality", "guidance 3", "temperature 1.2", "base"]
    boxes = [
        (x, y - 10, x + 5.7 * len(t), y + 3)
        for (x, y), t in zip(label_spots(points, texts, points), texts, strict=True)
    ]
    for a, b in combinations(boxes, 2):
        assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
    for left, top, right, bottom in boxes:
        assert not any(left < x < right and top < y < bottom for x, y in points)


def test_labels_of_a_crowd_stand_apart():
    points = [(350.0 + 4 * i, 200.0 + 5 * (i % 3)) for i in range(6)]
    texts = [f"temperature 1.{i}" for i in range(6)]
    spots = label_spots(points, texts, points)
    boxes = [(x, y - 10, x + 5.7 * len(t), y + 3) for (x, y), t in zip(spots, texts, strict=True)]
    for a, b in combinations(boxes, 2):
        assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
    assert all(a >= 0 and c <= WIDTH for a, _, c, _ in boxes)


def test_a_label_without_a_free_place_still_stays_in_the_figure():
    corner = (WIDTH - 20.0, 150.0)
    around = [(float(x), float(y)) for x in range(0, WIDTH, 10) for y in range(90, 210, 10)]
    ((left, _),) = label_spots([corner], ["temperature 1.2"], around)
    assert 0 <= left < left + 5.7 * len("temperature 1.2") <= WIDTH


def test_the_encoder_is_the_models_own_else_pockets(hearing_folder, dial_folder):
    own = find_encoder(read_info(hearing_folder))
    assert own == hearing_folder / "rewards" / "encoder-report"
    other = find_encoder(read_info(dial_folder))
    assert other is None or other.parent.parent.name == "pocket"
