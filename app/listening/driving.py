"""Sessions played in a real browser, for pictures and tests: every wait is for a state of the page.

Nobody listens: answers come from the caller.
"""

from collections.abc import Callable
from typing import Any

import httpx

_POLL_MS = 500
_MOST_PRESSES = 200


def state_of(page: Any) -> dict[str, Any]:
    """Ask the server what the session on the page is at."""
    reply = httpx.get(page.url + "/state", trust_env=False, timeout=60)
    return reply.raise_for_status().json()  # type: ignore[no-any-return]


def begin(page: Any) -> None:
    """Agree by mouse or finger, and wait for what comes next."""
    page.get_by_label("I have read this").check()
    page.get_by_role("button", name="Begin").click()
    page.locator("#session h2").first.wait_for()


def wait_for_trial(page: Any, done: int, total: int) -> dict[str, Any]:
    """Wait until the page shows the trial after so many answers, or the end.

    Steps over the offer of a pause; the headphone check, which has players and answers of its
    own, must be behind.

    Args:
        page: of the session.
        done: trials answered.
        total: trials in the session.

    Returns:
        The state the server tells.
    """
    if done == total:
        page.get_by_role("heading", name="That was all").wait_for()
    else:
        page.locator(".progress").get_by_text(f"{done} of {total}", exact=True).wait_for()
        # The page is drawn as a whole: the heading beside that progress belongs to it.
        if page.get_by_role("heading", name="Time for a pause?").count():
            page.get_by_role("button", name="Go on").press("Enter")
        page.locator("button.play").first.wait_for()
    return state_of(page)


def hear(page: Any, trial: dict[str, Any], press: Callable[[int], object] | None = None) -> None:
    """Play every sound of a trial until the page says that it was heard long enough.

    Args:
        page: of a trial.
        trial: as the server describes it.
        press: starts or stops the player of a number; a click on its button if None.
    """
    from playwright.sync_api import TimeoutError as Late

    press = press or (lambda number: page.locator("button.play").nth(number).click())
    count = len(trial["players"]) + (trial["reference"] is not None)
    page.wait_for_function(
        "count => document.querySelectorAll('button.play:enabled').length === count", arg=count
    )
    for number in range(count):
        player = page.locator(".player").nth(number)
        heard = player.get_by_text("heard", exact=True)
        for _ in range(_MOST_PRESSES):
            # A sound may end before it is enough, as where it goes on near its end: play it again.
            if not heard.count() and player.get_by_role("button", name="Play").count():
                press(number)
            try:
                heard.wait_for(timeout=_POLL_MS)
                break
            except Late:
                continue
        heard.wait_for()


def choose(page: Any, trial: dict[str, Any], places: list[int]) -> None:
    """Answer each item by mouse or finger, without sending it.

    Args:
        page: of a trial that was heard.
        trial: as the server describes it.
        places: for each item which choice, from 0; of mushra each sound's grade.
    """
    if trial["kind"] == "mushra":
        for number, grade in enumerate(places):
            page.get_by_label(f"Grade of sound {number + 1}").fill(str(grade))
        return
    for item, place in zip(trial["items"], places, strict=True):
        page.locator(f"fieldset:has(input[name='{item['id']}']) label").nth(place).click()


def send(page: Any) -> None:
    """Press Next."""
    page.get_by_role("button", name="Next", exact=True).click()
