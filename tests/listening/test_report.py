"""The report: what must stand in it, and on every section of a simulated one."""

import json
import re
from pathlib import Path

import pytest

from musicgen_rl.listening import report
from musicgen_rl.listening.analysis import analyse
from musicgen_rl.listening.figures import means
from musicgen_rl.listening.plan import load_plan
from musicgen_rl.listening.report import NOBODY, methods, to_html, write_report
from tests.listening.stored import answered, attentive, inattentive, planned
from tests.listening.studies import ABX, ALL, PAIR, RATING

RULES = {"count": 4, "practice": 0, "attention_checks": 2, "repeats": 1, "minimum_listening_s": 0,
         "headphones": False}  # fmt: skip
COMMITTED = Path(__file__).parents[2] / "docs/results/listening-simulated"


def decide(slot, trial):
    items = ["prefer"] if trial.question == "preference" else ["quality", "music"]
    if trial.kind == "check":
        return attentive(trial, items)
    if trial.question == "preference":
        return {"prefer": ("first", "second", "tie")[(slot + trial.prompt) % 3]}
    return {"quality": 1 + (slot + trial.prompt) % 5, "music": 3 + (trial.labels == ("varied",))}


def reported(folder, *, simulated, end=True):
    plan = planned(folder, questions=[PAIR, RATING], raters=RULES, title="Which <b> & why?")
    store = answered(plan, decide, simulated=simulated)
    if end:
        store.stop()
    result = analyse(plan, store, mixed=False)
    store.close()
    return plan, result


def test_a_simulated_report_says_so_in_every_section(tmp_path):
    plan, result = reported(tmp_path / "s", simulated=True)
    page = to_html(result, plan)
    sections = re.findall(r"<section>.*?</section>", page, re.S)
    assert len(sections) >= 6
    assert all(NOBODY in section for section in sections)
    assert f'class="banner">{NOBODY}' in page
    assert "simulated raters" in methods(result, plan)


def test_a_report_about_people_does_not(tmp_path):
    plan, result = reported(tmp_path / "s", simulated=False)
    page = to_html(result, plan)
    assert NOBODY not in page
    assert "simulated" not in page
    for words in (
        "4 invitations were made; 4 raters began and 4 finished; 0 were left out",
        "clips lasted 0.5 s",
        "Holm&#x27;s correction over the 3 comparisons",
        f"sha256 {plan.hash[:16]}",
        "with choices between two clips or none (prefer; 6 prompts, 2 raters each); ratings of "
        "single clips from 1 to 5 (quality, music; 6 prompts, 2 raters each). All clips",
        "had to be heard for at least 0 s before an answer. Each session also held 2 attention "
        "checks, 1 repeated trial.",
    ):
        assert words in page
    assert "The study has not ended" not in page


def test_text_of_the_study_is_text_in_the_page_and_nothing_is_fetched(tmp_path):
    plan, result = reported(tmp_path / "s", simulated=False)
    page = to_html(result, plan)
    assert "Which &lt;b&gt; &amp; why?" in page
    assert "<b>" not in page
    assert not re.search(r"(src|href)=|url\(|<script", page)


def test_deleted_raters_are_counted_and_the_day_of_deletion_is_said(tmp_path):
    plan = planned(tmp_path / "s", questions=[PAIR, RATING], raters=RULES)
    store = answered(plan, decide)
    store.delete_rater(store.raters()[1].code)
    result = analyse(plan, store, mixed=False)
    store.close()
    page = to_html(result, plan)
    said = "4 raters began, the answers of 1 were deleted later and 3 finished;"
    assert said in methods(result, plan)
    # The clock of stored studies starts in 1970, and they are kept for a year.
    assert "<td>stored answers are deleted from</td><td>1971-01-01</td>" in page
    assert "<td>deleted, on request or after the retention time</td><td>1</td>" in page
    simulated, result = reported(tmp_path / "t", simulated=True)
    assert result["deletion_from"] is None
    assert "are deleted from" not in to_html(result, simulated)


def test_a_study_without_anybody_left_in_says_so(tmp_path):
    def careless(slot, trial):
        items = ["prefer"] if trial.question == "preference" else ["quality", "music"]
        return inattentive(trial, items) if trial.kind == "check" else decide(slot, trial)

    plan = planned(tmp_path / "s", questions=[PAIR, RATING], raters=RULES)
    store = answered(plan, careless)
    result = analyse(plan, store, mixed=False)
    store.close()
    words = "Everybody was left out by the frozen rule"
    assert words in to_html(result, plan)
    _, one_in = reported(tmp_path / "t", simulated=False)
    assert words not in to_html(one_in, plan)


@pytest.mark.parametrize("kind", ["rating", "pair", "sets", "mushra", "abx"])
def test_every_kind_of_question_has_its_words_in_the_methods(tmp_path, kind):
    question = next(q for q in ALL if q["kind"] == kind)
    arms = {name: {"audio": name} for name in ("plain", "varied", "ideal")}
    plan = planned(tmp_path, questions=[question], arms=arms, reference="ideal", raters=RULES)
    _, result = reported(tmp_path / "s", simulated=False)
    words = {
        "rating": "ratings of single clips from 1 to 5 (quality, music; 6 prompts,",
        "pair": "choices between two clips or none (prefer; 6 prompts,",
        "sets": "choices between two groups of 3 clips or none (varied, keep; 4 prompts,",
        "mushra": "beside an open reference, with the reference and two low-pass anchors hidden",
        "abx": "ABX discrimination (x; 4 prompts,",
    }
    assert words[kind] in methods(result, plan)


def test_of_abx_two_are_told_apart_and_none_is_favoured(tmp_path):
    plan = planned(tmp_path / "s", questions=[ABX], raters=RULES | {"attention_checks": 0})
    store = answered(plan, lambda slot, trial: {"x": ("first", "second")[slot % 2]})
    result = analyse(plan, store, mixed=False)
    store.close()
    page = to_html(result, plan)
    assert "same, x: plain / varied" in page
    assert "plain - varied" not in page
    assert ">right answers above one half</text>" in page
    assert "favours the first arm (abx: heard apart)" in page


def test_what_few_raters_leave_is_said_where_it_is_so(tmp_path):
    plan, result = reported(tmp_path / "s", simulated=False)
    words = "an interval can be wider than the scale"
    assert [entry["df"] for entry in result["planned"]] == [3, 3, 3]
    assert words not in to_html(result, plan)
    few = [result["planned"][0] | {"df": 2}, *result["planned"][1:]]
    assert words in to_html(result | {"planned": few}, plan)


def test_looking_early_is_said(tmp_path):
    plan, result = reported(tmp_path / "s", simulated=False, end=False)
    page = to_html(result | {"unblinded_early": True}, plan)
    assert "The study has not ended: these numbers may change." in page
    assert "It was unblinded before the end." in page


def test_the_figure_draws_every_planned_comparison_where_its_numbers_are(tmp_path):
    plan, result = reported(tmp_path / "s", simulated=False)
    entries = [
        result["planned"][0] | {"mean": 0.5, "low": 0.25, "high": 1.0, "unit": "points"},
        result["planned"][1] | {"mean": -0.5, "low": -1.0, "high": 0.0, "unit": "points"},
    ]
    page = to_html(result | {"planned": entries}, plan)
    # The line of no difference, and points and ends of intervals at their places around it.
    zero = float(re.search(r'<line class="zero" x1="([\d.]+)"', page)[1])
    scale = (float(re.search(r'<circle cx="([\d.]+)"', page)[1]) - zero) / 0.5
    assert scale > 0
    points = [float(x) for x in re.findall(r'<circle cx="([\d.]+)"', page)[:2]]
    assert points == pytest.approx([zero + 0.5 * scale, zero - 0.5 * scale], abs=0.2)
    ends = re.findall(r'<line class="interval" x1="([\d.]+)" y1="\d+" x2="([\d.]+)"', page)[:2]
    wanted = [(zero + 0.25 * scale, zero + scale), (zero - scale, zero)]
    for (low, high), want in zip(ends, wanted, strict=True):
        assert (float(low), float(high)) == pytest.approx(want, abs=0.2)


def test_an_interval_of_a_grade_is_drawn_within_what_can_be_answered():
    entry = {"question": "q", "item": "i", "arm": "a", "mean": 3.0, "low": -7.0, "high": 4.0,
             "least": 1, "most": 5}  # fmt: skip
    picture = means([entry])
    low = float(re.search(r'class="interval" x1="([\d.]+)"', picture)[1])
    tick = float(re.search(r'x="([\d.]+)" y="\d+" text-anchor="middle" [^>]*>1<', picture)[1])
    assert low == pytest.approx(tick, abs=0.2)
    assert means([]) == ""


def test_json_holds_the_same_numbers_and_no_infinity(tmp_path):
    plan, result = reported(tmp_path / "s", simulated=False)
    page, data = write_report(result | {"extra": [float("inf"), float("nan"), 1.5]}, plan, tmp_path)
    content = json.loads(data.read_text(), parse_constant=pytest.fail)
    assert content["extra"] == [None, None, 1.5]
    assert content["planned"][0]["mean"] == pytest.approx(result["planned"][0]["mean"])
    assert content["schema"] == "musicgen-rl/listening"
    assert page.read_text().startswith("<!doctype html>")


def test_the_committed_simulated_study_is_of_this_program_and_says_that_nobody_took_part():
    plan = load_plan(COMMITTED)  # refuses a plan that was frozen otherwise
    content = json.loads((COMMITTED / "report.json").read_text())
    assert content["simulated"] is True
    assert content["plan"] == plan.hash
    page = (COMMITTED / "report.html").read_text()
    sections = re.findall(r"<section>.*?</section>", page, re.S)
    assert len(sections) >= 6
    assert all(NOBODY in section for section in sections)
    assert page == to_html(content, plan)


def test_what_has_no_value_is_a_dash_and_not_nan():
    assert report._signed(float("nan"), 0.25) == "- (se 0.25)"
    assert report._signed(-0.5, float("inf")) == "-0.50 (se -)"
    assert report._p(float("nan")) == "-"
    assert report._plain(1.25) == "1.25"
