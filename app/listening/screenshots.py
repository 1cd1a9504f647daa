"""Take pictures of a study: `python -m app.listening.screenshots STUDY OUT`.

STUDY is planned and made, and has no answers. Two sessions are played in Chromium, as people would
play them, but nobody listens: the answers are drawn at random and the study is marked as simulated.
"""

import random
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from app.listening.driving import begin, choose, hear, send, state_of, wait_for_trial
from app.listening.server import create_app
from app.listening.serving import InBackground, open_context
from app.passwords import hash_password, read_account
from app.screenshots import VIEWS, launch_chromium
from musicgen_rl.cli.failures import debug_wanted, guarded
from musicgen_rl.config import require
from musicgen_rl.listening.analysis import analyse
from musicgen_rl.listening.report import write_report
from musicgen_rl.listening.store import DATABASE

_DESKTOP = {"viewport": {"width": 760, "height": 900}, "color_scheme": "light"}
_PATIENCE_MS = 120_000


def take(
    study: Path, out: Path, answers: int, say: Callable[[str], None], report: Path | None = None
) -> list[Path]:
    """Play sessions in a browser, take pictures on the way, and write the study's report.

    Args:
        study: folder of a study without answers.
        out: folder for the pictures.
        answers: trials to answer, by two raters in turn; from 2 on.
        say: prints a line.
        report: whose figure is taken; the study's own if None.

    Returns:
        The pictures' paths.

    Raises:
        ConfigError: the study holds answers already.
    """
    from playwright.sync_api import sync_playwright

    require(
        not (study / DATABASE).exists(),
        f"{str(study / DATABASE)!r} is there already: pictures are taken of a study of their own",
    )
    out.mkdir(parents=True, exist_ok=True)
    context = open_context(study, simulated=True)
    password = secrets.token_urlsafe(12)
    owners = [read_account(hash_password("owner", password))]
    taken: list[Path] = []
    try:
        with (
            InBackground(create_app(context, owners=owners)) as server,
            sync_playwright() as playwright,
        ):
            browser = launch_chromium(playwright)
            tokens = context.store.invite([0, 1])
            for token, view, name, kind in zip(
                tokens, (_DESKTOP, VIEWS["phone"]), ("", "-phone"), ("rating", "sets"), strict=True
            ):
                page = browser.new_context(**view).new_page()
                page.set_default_timeout(_PATIENCE_MS)
                page.goto(f"{server.url}/i/{token}")
                if not name:
                    taken.append(_picture(page, out / "listening-consent.png"))
                picture = out / f"listening-{kind}{name}.png"
                taken += _session(page, kind, picture, answers // 2, say)
                page.context.close()
            login = {"username": "owner", "password": password}
            page = browser.new_context(http_credentials=login, **_DESKTOP).new_page()
            page.goto(f"{server.url}/owner")
            taken.append(_picture(page, out / "listening-owner.png"))
            context.store.stop()
            own = write_report(analyse(context.plan, context.store), context.plan, study)[0]
            taken.append(_figure(browser, report or own, out / "listening-report.png"))
            browser.close()
    finally:
        context.store.close()
    return taken


def _figure(browser: Any, report: Path, picture: Path) -> Path:
    """Take the first section of a report that holds a figure."""
    # So tall that nothing is scrolled: the banner would lie over the section's heading.
    page = browser.new_context(viewport={"width": 1000, "height": 6000}).new_page()
    page.goto(report.resolve().as_uri())
    page.locator("section").filter(has=page.locator("svg")).first.screenshot(path=picture)
    page.context.close()
    return picture


def _session(
    page: Any, kind: str, picture: Path, answers: int, say: Callable[[str], None]
) -> list[Path]:
    """Answer trials at random, and take a picture of the first counted one of a kind."""
    rng = random.Random(kind)
    begin(page)
    state = state_of(page)
    if state["stage"] == "headphones":
        page.get_by_role("button", name="I have no headphones").click()
    total = state["total"]
    state = wait_for_trial(page, 0, total)
    taken: list[Path] = []
    for done in range(min(answers, total)):
        trial = state["trial"]
        hear(page, trial)
        if trial["kind"] == "mushra":
            places = [rng.randrange(101) for _ in trial["players"]]
        else:
            points = len(trial["items"][0]["words"]) or 2 + trial["ties"]
            places = [rng.randrange(points) for _ in trial["items"]]
        choose(page, trial, places)
        if trial["kind"] == kind and not trial["practice"] and not taken:
            taken.append(_picture(page, picture))
        send(page)
        state = wait_for_trial(page, done + 1, total)
        say(f"{kind}: {done + 1} of {min(answers, total)} answers")
    return taken


def _picture(page: Any, path: Path) -> Path:
    page.screenshot(path=path, full_page=True)
    return path


def command(
    study: Annotated[Path, typer.Argument(help="Folder of a study without answers.")],
    out: Annotated[Path, typer.Argument(help="Folder for the pictures.")],
    answers: Annotated[int, typer.Option(help="Trials to answer, in two sessions.")] = 20,
    report: Annotated[
        Path | None, typer.Option(help="Whose figure is taken.", show_default="the study's own")
    ] = None,
) -> None:
    """Take pictures of a study's pages: consent, trials, owner's page, report."""
    for path in take(study, out, answers, lambda line: typer.echo(line, err=True), report):
        typer.echo(str(path))


if __name__ == "__main__":
    app = typer.Typer(add_completion=False)
    app.command()(command)

    def _run() -> int:
        app(standalone_mode=False)
        return 0

    raise SystemExit(guarded(_run, debug=debug_wanted()))
