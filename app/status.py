"""The line that says how a job stands, as HTML without a word of the visitor's in it."""

import html

import gradio as gr

from app.service import State, Update
from app.service.pace import in_words

READY = "Ready when you are."


def line(text: str, *, ticking: str = "", kind: str = "", fraction: float | None = None) -> str:
    """Lay out one sentence, and a bar where there is a share to show.

    A screen reader reads `text` aloud whenever it changes, so it may say only what changes seldom.
    That works because Gradio keeps elements of the same place and changes only what differs.

    Args:
        text: plain; escaped here.
        ticking: how the sentence goes on, where that changes by the second: seen, but read only by
            those who go there.
        kind: "", "good" or "bad".
        fraction: 0 to 1; no bar where None.
    """
    bar = ""
    if fraction is not None:
        percent = round(100 * fraction)
        bar = (
            '<div class="bar" role="progressbar" aria-label="Share made" aria-valuemin="0" '
            f'aria-valuemax="100" aria-valuenow="{percent}">'
            f'<div style="width:{percent}%"></div></div>'
        )
    role = "alert" if kind == "bad" else "status"
    return (
        f'<div class="status {kind}"><p><span role="{role}">{html.escape(text)}</span>'
        f"<span>{html.escape(ticking)}</span></p>{bar}</div>"
    )


def waiting(position: int = 0, ticking: str = ".") -> str:
    """Say that a job has not begun.

    Args:
        position: jobs before it.
        ticking: how the sentence ends, as for `line`.
    """
    before = "1 job is" if position == 1 else f"{position} jobs are"
    text = f"Waiting: {before} before yours" if position else "Waiting to start"
    return line(text, ticking=ticking, fraction=0.0)


def describe(
    update: Update,
    *,
    clips: int,
    playing_later: bool,
    kept: bool = False,
    held: str = "",
    takes: int = 1,
) -> str:
    """Say how a job stands.

    Args:
        update: the last look at it.
        clips: variations asked for.
        playing_later: sound is held back until it can play without a gap.
        kept: whether there are files.
        held: what the clips are held to, in words.
        takes: of which each clip is the best; with several nothing is heard meanwhile.
    """
    left = "" if update.seconds_left is None else f", about {in_words(update.seconds_left)} left"
    what = "one clip" if clips == 1 else f"{clips} clips"
    what += f" held to {held}" if held else ""
    what += f", the best of {takes} takes" + ("" if clips == 1 else " each") if takes > 1 else ""
    if update.state is State.WAITING:
        return waiting(update.position, f"{left}.")
    if update.state is State.RUNNING:
        later = ", playing starts when it will not break off" if playing_later else ""
        later = "" if takes > 1 else later
        ticking = f": {round(100 * update.fraction)} %{left}{later}."
        return line(f"Making {what}", ticking=ticking, fraction=update.fraction)
    if update.state is State.DONE:
        return line(f"Done: {what}.", kind="good")
    if update.state is State.STOPPED:
        heard = "What was heard until then is kept below." if kept else "Nothing was heard yet."
        return line(f"Stopped. {heard}", kind="good")
    return line(f"{update.error[:1].upper()}{update.error[1:].rstrip('.')}.", kind="bad")


def refusal(text: str) -> gr.Error:
    """Make a message of a sentence."""
    # Gradio shows a message as HTML, and ours may repeat what the visitor typed.
    message = html.escape(f"{text[:1].upper()}{text[1:]}.")
    return gr.Error(message, title="Not yet", duration=10, print_exception=False)
