"""What is shown: the figure's marks, the page's words, nothing that breaks out of it."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from musicgen_rl.evaluation.analyse import StatisticsConfig, analyse
from musicgen_rl.evaluation.arms import FAMILIES, Arm, default_arms
from musicgen_rl.evaluation.figures import STYLES, draw_front, front_svg
from musicgen_rl.evaluation.report import render_report
from musicgen_rl.evaluation.summary import build_summary
from musicgen_rl.evaluation.table import build_table
from tests.evaluation.synthetic import IDENTITIES, Planted, planted_rows, prompts_of


@pytest.fixture(scope="module")
def summary() -> dict[str, Any]:
    arms = [*default_arms(dial=True, quick=True), Arm(name="<script>alert(1)</script>")]
    truths = {a.name: Planted(0.4 + 0.1 * i, 0.5 - 0.1 * i) for i, a in enumerate(arms)}
    rows = planted_rows(truths, prompts=8)
    statistics = StatisticsConfig(draws=300)
    table = build_table(rows, [a.name for a in arms], prompts_of(rows))
    return build_summary(
        analyse(table, arms, "base", statistics), statistics, num_prompts=8,
        clips=dict.fromkeys(truths, 32), instruments=IDENTITIES,
        made={"command": "musicgen-rl evaluate", "split": "final", "clips_per_prompt": 4},
        throughput=[{"clips": 32, "one_row_audio_s_per_s": 20.0, "two_rows_audio_s_per_s": 11.0,
                     "ratio": 1.82}],
    )  # fmt: skip


def test_the_summary_is_plain_json_and_holds_every_promised_part(summary: dict[str, Any]) -> None:
    again = json.loads(json.dumps(summary, allow_nan=False))
    assert again["version"] == 1
    assert again["bootstrap"] == {"prompts": 8, "draws": 300, "level": 0.95, "seed": 0}
    base, guided = again["arms"][:2]
    assert base["differences"] == {}
    assert set(guided["differences"]["diversity_report"]) == {"value", "low", "high", "p", "p_holm"}
    assert again["measures"]["adherence_report"]["instrument"] in again["instruments"]
    assert {f["y"] for f in again["fronts"]} == {"adherence_report", "probe_logp"}


def test_every_arm_is_a_mark_that_the_page_knows(summary: dict[str, Any]) -> None:
    svg = front_svg(summary)
    marks = set(re.findall(r'id="arm-(\d)-(\d+)"', svg))
    assert marks == {(str(p), str(a)) for p in (0, 1) for a in range(7)}
    page = render_report(summary, {"base": [("a prompt", "samples/base/000-00.ogg")]})
    data = json.loads(re.search(r"const arms = (\[.*?\]);\n", page)[1])  # type: ignore[index]
    assert data[0]["audio"] == "samples/base/000-00.ogg"
    assert data[1]["audio"] == ""
    assert data[0]["text"].startswith("base; diversity, report ")


def test_names_are_text_and_never_markup(summary: dict[str, Any]) -> None:
    page = render_report(summary, {}, title="<b>x</b>")
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page
    assert "<title>&lt;b&gt;x" in page


def test_the_page_says_what_it_rests_on(summary: dict[str, Any]) -> None:
    page = render_report(summary)
    for words in ("distilled ~ guided", "final split", "drawn again", "1.82", "a" * 16,
                  "musicgen-rl evaluate", "all arms"):  # fmt: skip
        assert words in page
    assert "<audio" not in page
    for claim in summary["claims"]:
        assert claim["verdict"] in page


def test_a_model_is_listed_once_with_the_arms_it_plays(summary: dict[str, Any]) -> None:
    own, end = {"pocket": "a1" * 32}, {"<end>": "b2" * 32}
    weights = {"base": own, "guidance 3": own, "quality": {**own, **end}}
    page = render_report({**summary, "made": {**summary["made"], "weights": weights}})
    assert f"<b>pocket</b> {'a1' * 32} in base, guidance 3, quality" in page
    assert f"<b>&lt;end&gt;</b> {'b2' * 32} in quality" in page
    assert page.count("a1" * 32) == 1
    assert "clips per prompt" in page
    assert "1 check<" in page


def test_figures_come_out_the_same_every_time(summary: dict[str, Any], tmp_path: Path) -> None:
    draw_front(summary, [tmp_path / "a.svg"])
    draw_front(summary, [tmp_path / "b.svg"])
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_every_family_has_a_look_of_its_own() -> None:
    assert set(STYLES) == set(FAMILIES)
    looks = {(colour, mark) for colour, mark, _ in STYLES.values()}
    assert len(looks) == len(FAMILIES)
    assert len({mark for _, mark, _ in STYLES.values()}) == len(FAMILIES)  # told apart in grey


def test_without_any_plane_the_page_still_stands(summary: dict[str, Any]) -> None:
    bare = summary | {"fronts": [], "claims": [], "throughput": []}
    assert "diversity was not measured" in render_report(bare)
