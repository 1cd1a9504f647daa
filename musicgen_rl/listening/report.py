"""The report: one HTML page that asks nothing of the network, and the same numbers as JSON."""

from collections.abc import Mapping, Sequence
from html import escape
from math import isfinite
from pathlib import Path
from typing import Any

from musicgen_rl.listening.figures import compared, differences, means
from musicgen_rl.listening.files import write_json, write_text
from musicgen_rl.listening.plan import Plan
from musicgen_rl.listening.study import Question

REPORT_FILES = ("report.html", "report.json")
_FEW = 3
"""Degrees of freedom below which an interval says little."""
NOBODY = "Simulated: no people took part in this study."
_CSS = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:0 auto;padding:1rem;color:#1d2129;
background:#fff}table{border-collapse:collapse;width:100%;margin:.6rem 0}th,td{text-align:left;
padding:.25rem .5rem;border-bottom:1px solid #d4d8e0;font-variant-numeric:tabular-nums}
.wide{overflow-x:auto}.banner{position:sticky;top:0;background:#8a4b00;color:#fff;
padding:.4rem 1rem;text-align:center;margin:0}h2{margin-top:2rem}
code{overflow-wrap:anywhere}svg{width:100%;height:auto}.note{color:#5a6272}
@media print{.banner{position:fixed;top:0;left:0;right:0;-webkit-print-color-adjust:exact;
print-color-adjust:exact}section{break-before:page;padding-top:2.5rem}}
"""


def write_report(result: Mapping[str, Any], plan: Plan, folder: Path) -> list[Path]:
    """Write report.html and report.json.

    Returns:
        Their paths.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return [
        write_text(folder / REPORT_FILES[0], to_html(result, plan)),
        write_json(folder / REPORT_FILES[1], _finite(result)),
    ]


def to_html(result: Mapping[str, Any], plan: Plan) -> str:
    """Lay out a report; see `analysis.analyse`."""
    banner = f'<p class="banner">{NOBODY}</p>' if result["simulated"] else ""
    warnings = []
    if not result["stopped"]:
        warnings.append("The study has not ended: these numbers may change.")
    people = result["people"]
    if people["left_out"] == people["began"] - people["deleted"]:
        warnings.append(
            "Everybody was left out by the frozen rule: there is no main analysis, only the one "
            "with nobody left out."
        )
    if result["unblinded_early"]:
        warnings.append("It was unblinded before the end.")
    parts = [
        f"<section><h2>Methods</h2><p>{escape(methods(result, plan))}</p></section>",
        _section("People", result, _people(result["people"], result["deletion_from"])),
        _section(
            "Planned comparisons", result,
            differences(result["planned"], result["level"])
            + _table(result["planned"], planned=True)
            + '<p class="note">Intervals and p-values respect that answers share raters and '
            "prompts. The naive column treats them as independent; it is there to show how "
            "misleading that would be."
            + (
                " Where two or three raters or prompts are left, an interval can be wider than the "
                "scale."
                if any(entry.get("df", _FEW) < _FEW for entry in result["planned"])
                else ""
            )
            + "</p>",
        ),
    ]  # fmt: skip
    if result["all_raters"]:
        parts.append(
            _section("The same with nobody left out", result, _table(result["all_raters"]))
        )
    if result["arms"]:
        rows = [
            [e["question"], e["item"], e["arm"], _interval(e, ""), str(e["n"])]
            for e in result["arms"]
        ]
        parts.append(
            _section(
                "Mean grades",
                result,
                means(result["arms"])
                + _rows(["question", "item", "arm", "mean and interval", "answers"], rows)
                + '<p class="note">All answers. The comparisons above take only prompts of which '
                "a rater graded both arms, so where sessions were not finished their differences "
                "can deviate from those of these means.</p>",
            )
        )
    if result["paired"]:
        parts.append(_section("Choices: strength and position bias", result, _choices(result)))
    parts.append(_section("Agreement", result, _agreement(result["agreement"])))
    if result["mixed"]:
        parts.append(_section("Mixed models", result, _mixed(result["mixed"])))
    if result["exploratory"]:
        parts.append(
            _section(
                "Exploratory: not planned, not corrected for many comparisons",
                result,
                _table(result["exploratory"]),
            )
        )
    rules = "".join(
        f"<li>{escape(name)}: {escape(text)}</li>" for name, text in result["rules"].items()
    )
    parts.append(
        _section(
            "The frozen plan",
            result,
            f"<p>Hash <code>{escape(result['plan'])}</code></p><ul>{rules}</ul>",
        )
    )
    said = "".join(f"<p><strong>{escape(text)}</strong></p>" for text in warnings)
    title = escape(result["title"])
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_CSS}</style></head>\n<body>{banner}<h1>{title}</h1>{said}\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def methods(result: Mapping[str, Any], plan: Plan) -> str:
    """Write the methods paragraph, for a paper."""
    study, people = plan.study, result["people"]
    asked = [
        f"{_asked(question)} ({', '.join(item.id for item in question.items)}; {question.prompts} "
        f"prompts, {question.raters_per_prompt} raters each)"
        for question in study.questions
    ]
    rules = study.raters
    parts = [
        *(["a headphone check"] if rules.headphones else []),
        *(f"{count} {name}{'s' * (count > 1)}" for count, name in (
            (rules.practice, "practice trial"), (rules.attention_checks, "attention check"),
            (rules.repeats, "repeated trial")) if count),
    ]  # fmt: skip
    held = f"Each session also held {', '.join(parts)}. " if parts else ""
    who = "simulated raters" if result["simulated"] else "raters"
    was = "was" if people["left_out"] == 1 else "were"
    gone = f", the answers of {people['deleted']} were deleted later" if people["deleted"] else ""
    return (
        f"{NOBODY + ' ' if result['simulated'] else ''}"
        f"We compared {len(study.arms)} conditions in a blind listening study with "
        f"{'; '.join(asked)}. "
        f"All clips lasted {study.clips.duration_s:g} s and were matched in loudness "
        f"(ITU-R BS.1770). Orders were balanced within prompts and raters, and every clip "
        f"had to be heard for at least {rules.minimum_listening_s:g} s before an answer. {held}"
        f"{people['invited']} invitations were made; {people['began']} {who} began{gone} and "
        f"{people['finished']} finished; {people['left_out']} {was} left out by a rule fixed "
        f"beforehand (more than "
        f"{study.analysis.max_attention_failures} of {people['checks_each']} attention checks "
        f"failed). Differences are given with {100 * (1 - result['level']):g} % intervals from a "
        f"bootstrap that resamples raters and prompts crossed ({study.analysis.resamples} draws), "
        f"its spread set to two-way cluster-robust standard errors, and tested with Holm's "
        f"correction over the {len(result['planned'])} comparisons that were planned. Assignment "
        f"and analysis were frozen before the first answer (sha256 {result['plan'][:16]})."
    )


def _asked(question: Question) -> str:
    """Name a kind of question as a paper would."""
    ties = " or none" if question.ties else ""
    points = sorted({len(item.words) for item in question.items})
    return {
        "rating": f"ratings of single clips from 1 to {' or '.join(map(str, points))}",
        "pair": f"choices between two clips{ties}",
        "sets": f"choices between two groups of {question.clips_per_set} clips{ties}",
        "mushra": "grades from 0 to 100 beside an open reference, with the reference and two "
        "low-pass anchors hidden among the clips",
        "abx": "ABX discrimination",
    }[question.kind]


def _section(title: str, result: Mapping[str, Any], body: str) -> str:
    note = f'<p class="note">{NOBODY}</p>' if result["simulated"] else ""
    return f"<section><h2>{escape(title)}</h2>{note}{body}</section>"


def _people(people: Mapping[str, Any], deletion_from: str | None) -> str:
    rows = [
        ["invitations, people who began, who finished",
         f"{people['invited']}, {people['began']}, {people['finished']}"],
        ["deleted, on request or after the retention time", str(people["deleted"])],
        ["answers stored of those planned", f"{people['answers']} of {people['planned_answers']}"],
        ["answers corrected by the rater", str(people["corrected"])],
        ["left out by the frozen rule", str(people["left_out"])],
        ["attention checks failed, by rater", ", ".join(map(str, people["attention_failures"]))],
        ["headphone check", ", ".join(f"{k} {v}" for k, v in people["headphones"].items())],
        ["median minutes", f"{people['median_minutes']:g}"],
    ]  # fmt: skip
    if deletion_from is not None:
        rows.append(["stored answers are deleted from", deletion_from])
    return _rows(["", ""], rows)


def _table(entries: Sequence[Mapping[str, Any]], *, planned: bool = False) -> str:
    head = ["question", "item", "difference", "mean and interval", "p"]
    head += (["p (Holm)", "found"] if planned else []) + ["naive interval", "answers"]
    rows = []
    for e in entries:
        row = [e["question"], e["item"], compared(e)]
        if "reason" in e:
            rows.append([*row, e["reason"], *[""] * (len(head) - 4)])
            continue
        row += [f"{_interval(e)} {e['unit']}", _p(e["p"])]
        if planned:
            row += [_p(e["p_holm"]), "yes" if e["found"] else "no"]
        naive = f"{e['naive_low']:+.2f} to {e['naive_high']:+.2f}"
        rows.append([*row, naive, f"{e['n']} by {e['raters']} on {e['prompts']}"])
    return _rows(head, rows)


def _choices(result: Mapping[str, Any]) -> str:
    rows = []
    for e in result["paired"]:
        if "reason" in e:
            rows.append([e["question"], e["item"], e["reason"], "", ""])
            continue
        strengths = ", ".join(
            f"{s['arm']} {_signed(s['log_strength'], s['se'])}" for s in e["strengths"]
        )
        counts = f"{e['first']} first, {e['ties']} ties, {e['second']} second"
        order = f"{_signed(e['order_effect'], e['order_se'])}, p {_p(e['order_p'])}"
        rows.append([e["question"], e["item"], strengths, counts, order])
    return _rows(
        ["question", "item", "log strength (Davidson)", "answers by place", "order effect"], rows
    )


def _agreement(entries: Sequence[Mapping[str, Any]]) -> str:
    def shown(value: float | None) -> str:
        return "-" if value is None else f"{value:.2f}"

    rows = [
        [
            e["question"], e["item"], f"{shown(e['alpha'])} ({e['metric']})", str(e["repeats"]),
            shown(e["repeats_equal"]), shown(e["repeats_alpha"]),
        ]
        for e in entries
    ]  # fmt: skip
    return _rows(
        ["question", "item", "Krippendorff's alpha", "repeated", "answered alike", "their alpha"],
        rows,
    )


def _mixed(entries: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for e in entries:
        about = [e["question"], e["item"], " - ".join(e["arms"])]
        if "reason" in e:
            rows.append([*about, e["reason"], ""])
            continue
        variances = (
            f"raters {_plain(e['rater_variance'])}, prompts {_plain(e['prompt_variance'])}, "
            f"rest {_plain(e['residual_variance'])}"
        )
        rows.append([*about, _signed(e["difference"], e["se"]), variances])
    note = (
        '<p class="note">Random intercepts of raters and prompts, no random slopes: it tends to be '
        "surer than the planned analysis.</p>"
    )
    return _rows(["question", "item", "difference", "estimate", "variances"], rows) + note


def _rows(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows
    )
    return (
        f'<div class="wide"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _interval(entry: Mapping[str, Any], sign: str = "+") -> str:
    mean, low, high = (f"{entry[name]:{sign}.2f}" for name in ("mean", "low", "high"))
    return f"{mean} ({low} to {high})"


def _p(value: float) -> str:
    return "-" if not isfinite(value) else "< 0.001" if value < 0.001 else f"{value:.3f}"


def _plain(value: float) -> str:
    """Write a number; "-" where too few answers leave it without a value."""
    return f"{value:.2f}" if isfinite(value) else "-"


def _signed(value: float, error: float) -> str:
    """Write a signed number with its standard error, either "-" where it has no value."""
    return f"{f'{value:+.2f}' if isfinite(value) else '-'} (se {_plain(error)})"


def _finite(content: Any) -> Any:
    """Replace what JSON cannot hold by null."""
    if isinstance(content, Mapping):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    if isinstance(content, float) and not abs(content) < float("inf"):
        return None
    return content
