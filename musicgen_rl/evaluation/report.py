"""report.html: one file that shows and explains an evaluation."""

import json
from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources
from string import Template
from typing import Any

from musicgen_rl.evaluation.figures import front_svg

GROUPS = {
    "adherence": "Does it play what was asked?",
    "quality": "Does it sound like real clips?",
    "diversity": "Are the clips of a prompt different?",
    "artefacts": "Faults, as rates (read them beside those of real clips)",
}

_METHOD = """
<p>Every arm played the same prompts with the same random numbers, {clips} clips a prompt of
{duration:g} s. Arms therefore differ only by what is compared. {prompts} prompts were drawn again
with replacement {draws} times, all their clips with them; every interval is what {level:.0%} of
the draws gave (widened as for a t-test, since prompts are few). Differences are taken draw by draw,
so they are paired by prompt.</p>
<p>Diversity is counted in an encoder that no training has seen, around the mean of
{centre}; the encoder that training used stands beside it. Noise also makes clips different: the
share of variety that lies between prompts falls towards 0 where that is so.</p>
<p>Distances to real clips depend on the encoder; compare them within this report only.
A point is said to dominate another only where both differences pass a test.</p>
"""


def render_report(
    summary: Mapping[str, Any],
    samples: Mapping[str, Sequence[tuple[str, str]]] | None = None,
    title: str = "Quality and diversity",
) -> str:
    """Write the page.

    Args:
        summary: as `build_summary` makes it.
        samples: arm's name -> (prompt, audio path relative to the page); none for a page that
            is to be read without sound.
        title: of the page.

    Returns:
        HTML that needs nothing from elsewhere but the audio.
    """
    samples = samples or {}
    boot, made = summary["bootstrap"], summary["made"]
    first = next(iter(summary["fronts"]), None)
    page = resources.files("musicgen_rl.evaluation").joinpath("report.html").read_text("utf-8")
    return Template(page).substitute(
        title=escape(title),
        subtitle=escape(
            f"{len(summary['arms'])} arms, {boot['prompts']} prompts, "
            f"{made.get('clips_per_prompt', '?')} clips each; {summary['created'][:10]}"
            + (f"; {made['split']} split" if made.get("split") else "")
            + (f", use number {made['uses_of_final_split']}"
               if made.get("uses_of_final_split") else "")
        ),
        reading=(
            "Up is better, right is more diverse; a good model is far from the lower left corner. "
            "Bars are intervals; where bars cross, look at the tests below and not at the figure."
        ),
        svg=front_svg(summary) if first else "<p>No plane: diversity was not measured.</p>",
        hover="Point at an arm to hear its first clip." if samples else "",
        level=f"{boot['level']:.0%}",
        reference=escape(summary["reference_arm"]),
        claims=_claims(summary["claims"]),
        tables="".join(_table(summary, g, words) for g, words in GROUPS.items()),
        areas=_areas(summary),
        throughput=_throughput(summary["throughput"]),
        samples=_samples(samples),
        method=_METHOD.format(
            clips=made.get("clips_per_prompt", "several"), duration=made.get("duration_s", 0.0),
            prompts=boot["prompts"], draws=boot["draws"], level=boot["level"],
            centre="real clips" if summary["real"] else "all arms' clips",
        ) + _measures(summary),
        made=_made(summary),
        data=_data(summary, samples, first),
    )  # fmt: skip


def number(value: float | None) -> str:
    """Write a number with three significant digits."""
    return "–" if value is None else f"{value:.3g}"


def _cell(row: Mapping[str, float], bold: bool = False) -> str:
    text = f"<b>{number(row['value'])}</b>" if bold else number(row["value"])
    return f"{text} <small>{number(row['low'])} … {number(row['high'])}</small>"


def _rows(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """Lay out a table; cells are HTML."""
    top = "".join(f"<th>{h}</th>" for h in head)
    lines = "".join(f"<tr>{''.join(f'<td>{c}</td>' for c in cells)}</tr>" for cells in body)
    return (
        f'<div class="scroll"><table><thead><tr>{top}</tr></thead>'
        f"<tbody>{lines}</tbody></table></div>"
    )


def _table(summary: Mapping[str, Any], group: str, words: str) -> str:
    keys = [k for k, m in summary["measures"].items() if m["group"] == group]
    if not keys:
        return ""
    limit = 1 - summary["bootstrap"]["level"]
    arrows = {1: " ↑", -1: " ↓", 0: ""}
    head = [escape(words)] + [
        f'<span title="{escape(m["says"])}">{escape(m["label"])}{arrows[m["better"]]}</span>'
        for m in (summary["measures"][k] for k in keys)
    ]
    body = []
    for arm in summary["arms"]:
        cells = [escape(arm["name"])]
        for key in keys:
            sure = arm["differences"].get(key, {}).get("p_holm", 1.0) < limit
            cells.append(_cell(arm["estimates"][key], sure) if key in arm["estimates"] else "–")
        body.append(cells)
    for line, values in summary["lines"].items():
        if any(k in values for k in keys):
            body.append([f"<i>{escape(line)}</i>"] + [number(values.get(k)) for k in keys])
    return _rows(head, body)


def _claims(claims: Sequence[Mapping[str, Any]]) -> str:
    if not claims:
        return "<p>No claims were tested: adherence or diversity was not measured.</p>"
    body = []
    for claim in claims:
        kind = claim["verdict"].replace(" ", "-")
        checks = _rows(
            ["check", "value", "interval", "p"],
            [
                [
                    f'<span class="{c["verdict"]}">{escape(c["what"])}</span>',
                    number(c["value"]), f"{number(c['low'])} … {number(c['high'])}",
                    number(c["p"]),
                ]
                for c in claim["checks"]
            ],
        )  # fmt: skip
        count = len(claim["checks"])
        many = f"{count} check" + ("s" if count > 1 else "")
        more = f"<details><summary>{many}</summary>{checks}</details>"
        note = f'<div class="quiet">{escape(claim["note"])}</div>' if claim["note"] else ""
        body.append(
            [
                f"<b>{escape(claim['name'])}</b>",
                escape(claim["says"]) + note + (more if claim["checks"] else ""),
                f'<span class="{kind}">{escape(claim["verdict"])}</span>',
            ]
        )
    return _rows(["claim", "what must be shown", "verdict"], body) + (
        "<p class=quiet>“holds”: shown at the level, corrected for the number of checks; “fails”: "
        "the opposite is shown; “open”: neither.</p>"
    )


def _areas(summary: Mapping[str, Any]) -> str:
    body = []
    for front in summary["fronts"]:
        corner = ", ".join(number(v) for v in front["reference_point"])
        for family, area in front["areas"].items():
            gain = front["area_gains_of_merge"].get(family)
            body.append(
                [
                    escape(f"{summary['measures'][front['y']]['label']} against diversity"),
                    escape(family), _cell(area), "" if gain is None else _cell(gain),
                    f"({corner})",
                ]
            )  # fmt: skip
    return _rows(["plane", "family", "area", "area of merge minus this", "corner"], body)


def _throughput(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return ""
    body = [
        [str(r["clips"]), f"{r['one_row_audio_s_per_s']:.1f}", f"{r['two_rows_audio_s_per_s']:.1f}",
         f"{r['ratio']:.2f}"]
        for r in rows
    ]  # fmt: skip
    head = ["clips side by side", "no guidance, x real time", "guidance 3, x real time", "ratio"]
    return f"<h2>What guidance costs</h2>{_rows(head, body)}"


def _samples(samples: Mapping[str, Sequence[tuple[str, str]]]) -> str:
    if not samples:
        return ""
    prompts = list(dict.fromkeys(p for own in samples.values() for p, _ in own))[:4]
    body = []
    for arm, own in samples.items():
        cells = [escape(arm)]
        for prompt in prompts:
            players = [
                f'<audio controls preload="none" src="{escape(path)}"></audio>'
                for text, path in own if text == prompt
            ]  # fmt: skip
            cells.append("<br>".join(players))
        body.append(cells)
    return f'<h2 class="screen">Listen</h2>{_rows(["arm", *map(escape, prompts)], body)}'


def _measures(summary: Mapping[str, Any]) -> str:
    body = [
        [escape(m["label"]), escape(m["says"]), escape(m["instrument"])]
        for m in summary["measures"].values()
    ]
    return "<details><summary>Every measure in a sentence</summary>" + (
        _rows(["measure", "what it is", "instrument"], body) + "</details>"
    )


def _made(summary: Mapping[str, Any]) -> str:
    body = [
        [escape(k.replace("_", " ")), _weights(v) if k == "weights" else escape(_plain(v))]
        for k, v in summary["made"].items()
    ]
    body += [["machine", escape(_plain(summary["machine"]))]]
    body += [["versions", escape(_plain(summary["versions"]))]]
    if summary["real"]:
        body += [["real clips", escape(_plain(summary["real"]))]]
    who = [
        [escape(key), escape(i["name"]), escape(i["sha256"][:16]),
         "yes" if i["training_saw_it"] else "no"]
        for key, i in summary["instruments"].items()
    ]  # fmt: skip
    return _rows(["", ""], body) + _rows(["instrument", "name", "sha256", "seen in training"], who)


def _weights(weights: Mapping[str, Mapping[str, str]]) -> str:
    """List each model with its hash and the arms it plays, a line a model."""
    arms: dict[tuple[str, str], list[str]] = {}
    for arm, models in weights.items():
        for name, sha256 in models.items():
            arms.setdefault((name, sha256), []).append(arm)
    return "<br>".join(
        f"<b>{escape(name)}</b> {escape(sha256)} in {escape(', '.join(played))}"
        for (name, sha256), played in arms.items()
    )


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {_plain(v)}" for k, v in value.items())
    return f"{value:g}" if isinstance(value, float) else str(value)


def _data(
    summary: Mapping[str, Any],
    samples: Mapping[str, Sequence[tuple[str, str]]],
    front: Mapping[str, Any] | None,
) -> str:
    """Return what the script needs: for each arm a sentence and a clip, safe inside <script>."""
    rows = []
    for arm in summary["arms"]:
        text = arm["name"]
        for key in () if front is None else (front["x"], front["y"]):
            if key in arm["estimates"]:
                label, e = summary["measures"][key]["label"], arm["estimates"][key]
                text += (
                    f"; {label} {number(e['value'])} ({number(e['low'])} to {number(e['high'])})"
                )
        own = samples.get(arm["name"], ())
        rows.append({"text": text, "audio": own[0][1] if own else ""})
    return json.dumps(rows, ensure_ascii=True).replace("<", "\\u003c")
