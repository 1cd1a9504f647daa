"""The pages that hold text; the trials themselves are drawn by static/*.js."""

from datetime import UTC, datetime
from html import escape
from typing import Any

from musicgen_rl.listening.assignment import expected_minutes
from musicgen_rl.listening.plan import Plan
from musicgen_rl.listening.retention import first_deletion
from musicgen_rl.listening.store import Store
from musicgen_rl.listening.study import Study

SIMULATED = "A simulated study: no people take part."
STORED = (
    "your answers, when each page was shown and answered, which sounds it had, when and how long "
    "you played each one, the result of the headphone check, when you agreed, and random codes "
    "that stand for you"
)
NOT_STORED = "Your name, e-mail and internet address are not stored."


def start(study: Study) -> str:
    """Tell somebody without an invitation what this is."""
    return _page(
        study.title,
        "<p>This is a listening study. To take part, open the link of your invitation. If you "
        "have begun already, open your personal link.</p>" + _contact(study),
    )


def sentence(study: Study, text: str, path: str = "") -> str:
    """Say one thing, for example why something cannot be had.

    Args:
        study: its title and contact.
        text: without a full stop.
        path: from the page's address to the study's first page, such as "../".
    """
    text = text[:1].upper() + text[1:]
    said = f'<p role="alert">{escape(text)}.</p>'
    return _page(study.title, said + _contact(study), path=path)


def minutes(plan: Plan) -> int:
    """Estimate a session's length, in minutes, for the consent page."""
    return round(max(expected_minutes(plan.study, s) for s in plan.assignment.sessions))


def consent(study: Study, nonce: str, minutes: int, simulated: bool) -> str:
    """Ask for consent; opening this page uses nothing up."""
    paragraphs = "".join(f"<p>{escape(p)}</p>" for p in study.consent.split("\n\n"))
    return _page(
        study.title,
        f"""{paragraphs}
<p>It takes about {max(1, minutes)} minutes; you can stop at any time and go on later, also on
another device.</p>
<p>Stored are {escape(STORED)}. {escape(NOT_STORED)} All of it is deleted
{study.retention_days} days after you agree, by the server or, if it no longer runs then, by those
who run the study; sooner if you ask for it with the code you will be shown. Averages, and tables of
answers without these codes, that were made before may be kept.</p>
{_contact(study)}
<form method="post">
  <input type="hidden" name="nonce" value="{escape(nonce)}">
  <label class="agree"><input type="checkbox" name="agree" value="yes" required>
    I have read this and agree to take part.</label>
  <button class="main" type="submit">Begin</button>
</form>""",
        simulated=simulated,
        path="../",
    )


def shell(study: Study, simulated: bool) -> str:
    """Hold the place where static/session.js draws the session."""
    return _page(
        study.title,
        """<noscript><p role="alert">This page needs JavaScript to play sound.</p></noscript>
<div id="session" aria-live="polite" aria-busy="true"></div>
<script type="module" src="../static/session.js"></script>""",
        simulated=simulated,
        path="../",
    )


def owner(plan: Plan, store: Store, form: str, message: str, links: list[str]) -> str:
    """Show how far the study is, and not what was answered."""
    progress = store.progress()
    day = first_deletion(plan, store)
    gone = f", deleted since: {progress['deleted']}" if progress["deleted"] else ""
    kept = (
        f"<p>What is stored about raters is deleted {plan.study.retention_days} days after each "
        f"began, the first on {day}: this server does it while it runs.</p>"
        if day
        else ""
    )
    totals = [len(session) for session in plan.assignment.sessions]
    people = progress["per_rater"]
    finished = sum(entry["answered"] >= totals[entry["slot"]] for entry in people)
    quiet = [p for p in people if p["answered"] < totals[p["slot"]] and p["hours_since"] > 24]
    rows = "".join(
        f"<tr><td>{p['rater']}</td><td>{p['slot'] + 1}</td>"
        f"<td class='share'><progress max='{totals[p['slot']]}' value='{p['answered']}'>"
        "</progress> "
        f"{p['answered']} of {totals[p['slot']]}</td><td>{escape(p['headphones'])}</td>"
        f"<td>{p['hours_since']:.1f} h ago</td></tr>"
        for p in people
    )
    log = "".join(
        f"<li>{_time(entry['at'])}: {escape(entry['what'])}"
        + (f" ({escape(entry['detail'])})" if entry["detail"] else "")
        + "</li>"
        for entry in store.events()[-30:]
    )
    shown = "".join(f"<li><code>{escape(link)}</code></li>" for link in links)
    ended = store.stopped_at is not None
    phase = "The study has ended." if ended else "The study is open."
    early = any(entry["what"] == "unblinded before the stop" for entry in store.events())
    hidden = f'<input type="hidden" name="form" value="{escape(form)}">'
    invite = (
        ""
        if ended
        else f"""<h2>Invite</h2>
<form method="post">{hidden}<input type="hidden" name="do" value="invite">
<label>New invitations <input type="number" name="count" min="1" max="1000" value="1"></label>
<button type="submit">Make</button></form>"""
    )
    stop = "" if ended else _button(hidden, "stop", "End the study", "No answer is taken after it.")
    unblind = (
        ""
        if ended or early
        else _button(
            hidden,
            "unblind",
            "Unblind before the end",
            "Looking early invites stopping early; the report will say that it was done.",
        )
    )
    report = '<p><a href="owner/report">Report</a></p>' if ended or early else ""
    return _page(
        f"{plan.study.title} (owner)",
        f"""<p role="status">{escape(message)}</p><ul>{shown}</ul>
<p>{phase} Invitations: {progress["invited"]}. Began: {progress["agreed"]}{gone}. Finished:
{finished}. Away for more than a day: {len(quiet)}. Answers stored: {progress["answers"]} of
{sum(totals)} planned.</p>
{kept}
<div class="wide"><table><thead><tr><th>Rater</th><th>Session</th><th>Trials</th>
<th>Headphones</th><th>Last answer</th></tr></thead><tbody>{rows}</tbody></table></div>
{invite}
<h2>End</h2>{stop}{unblind}{report}
<h2>What was done</h2><ol class="log">{log}</ol>""",
        simulated=store.simulated,
    )


def _button(hidden: str, do: str, label: str, note: str) -> str:
    return (
        f'<form method="post">{hidden}<input type="hidden" name="do" value="{do}">'
        f'<label class="agree"><input type="checkbox" required> {escape(note)}</label>'
        f'<button type="submit">{escape(label)}</button></form>'
    )


def _contact(study: Study) -> str:
    return f"<p>Questions: {escape(study.contact)}</p>" if study.contact else ""


def _time(seconds: Any) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"


def _page(title: str, body: str, *, simulated: bool = False, path: str = "") -> str:
    banner = f'<p class="banner">{SIMULATED}</p>' if simulated else ""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>{escape(title)}</title>
<link rel="icon" href="{path}static/icon.svg">
<link rel="stylesheet" href="{path}static/listen.css">
</head>
<body>
{banner}
<main>
<h1>{escape(title)}</h1>
{body}
</main>
</body>
</html>
"""
