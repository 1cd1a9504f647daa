"""Whole sessions in a real Chromium: mouse, keyboard only, and a phone's width."""

from contextlib import suppress

import httpx
import pytest

from app.listening.server import create_app
from app.listening.serving import InBackground, open_context
from tests.app.listening.conftest import ARMS, write_study
from tests.listening.studies import ALL

pytestmark = [
    pytest.mark.browser,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
RATERS = {"count": 4, "practice": 1, "attention_checks": 1, "repeats": 1, "break_every": 5,
          "minimum_listening_s": 0.3, "headphones": True}  # fmt: skip


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser") / "s"
    write_study(folder, raters=RATERS)
    context = open_context(folder)
    with InBackground(create_app(context)) as server:
        yield context, server.url
    context.store.close()


@pytest.fixture(scope="module")
def chromium():
    from playwright.sync_api import sync_playwright

    from app.screenshots import launch_chromium

    with sync_playwright() as playwright:
        browser = launch_chromium(playwright)
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium, study):
    """Open an invitation; nothing may go wrong in the page, leave this computer, or tell an arm."""
    context, url = study
    opened = []

    def begin(slot, **options):
        page = chromium.new_context(**options).new_page()
        page.set_default_timeout(60_000)
        problems, outside, bodies = [], [], []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on(
            "console",
            lambda m: (
                problems.append(m.text)
                if m.type == "error"
                and "net::ERR_FAILED" not in m.text  # a post cut off on purpose
                else None
            ),
        )
        page.on(
            "request", lambda r: None if r.url.startswith((url, "blob:")) else outside.append(r.url)
        )

        def keep(reply):
            if reply.request.resource_type in ("document", "fetch", "xhr") and reply.status == 200:
                bodies.append((reply.url, str(reply.headers), reply.body()))

        page.on("requestfinished", lambda request: keep(request.response()))
        opened.append((page, problems, outside, bodies))
        page.goto(f"{url}/i/{context.store.invite([slot])[0]}")
        return page

    yield begin
    for page, problems, outside, bodies in opened:
        text = page.evaluate("document.documentElement.outerHTML")
        page.context.close()
        assert problems == []
        assert outside == []
        seen = b" ".join([text.encode(), *(f"{u} {h} ".encode() + b for u, h, b in bodies)]).lower()
        for secret in [*ARMS, "hidden-path", "key.json", "damaged", "sham"]:
            assert secret.encode() not in seen, secret


def answer(page, state):
    """Hear every player and answer, by mouse or finger."""
    from playwright.sync_api import TimeoutError as Late

    trial = state["trial"]
    count = len(trial["players"]) + (trial["reference"] is not None)
    plays = page.locator("button.play:enabled")
    for number in range(count):
        plays.nth(number).wait_for()
        heard = page.locator(".player").nth(number).get_by_text("heard", exact=True)
        for _ in range(20):  # a sound that goes on near its end is too short: play it again
            plays.nth(number).click()
            with suppress(Late):
                heard.wait_for(timeout=4_000)
                break
        heard.wait_for(timeout=100)
    if trial["kind"] == "mushra":
        for number in range(len(trial["players"])):
            page.get_by_label(f"Grade of sound {number + 1}").fill(str(20 + 10 * number))
    else:
        for item in trial["items"]:
            page.locator(f"fieldset:has(input[name='{item['id']}']) label").first.click()
    page.get_by_role("button", name="Next", exact=True).click()


def state_of(page):
    return httpx.get(page.url + "/state", trust_env=False, timeout=60).json()


def begin_session(page, *, keyboard=False):
    if keyboard:
        page.keyboard.press("Tab")
        page.keyboard.press("Space")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
    else:
        page.get_by_label("I have read this").check()
        page.get_by_role("button", name="Begin").click()
    page.get_by_role("heading", name="Headphones").wait_for()


def wait_for_more(page, done):
    """Wait until an answer counts, and step over the offer of a pause."""
    for _ in range(600):
        state = state_of(page)
        if state["done"] > done:
            break
        page.wait_for_timeout(50)
    page.locator("h2").first.wait_for()
    page.wait_for_timeout(100)
    if page.get_by_role("heading", name="Time for a pause?").count():
        page.get_by_role("button", name="Go on").press("Enter")
    return state


@pytest.mark.parametrize("options", [{}, PHONE], ids=["desktop", "phone"])
def test_a_whole_session_ends_with_every_answer_stored(visit, study, options):
    context, _ = study
    page = visit(0 if options else 1, **options)
    begin_session(page)
    for number in range(3):
        page.locator(f"fieldset:has(input[name='round-{number}']) label").first.click()
    page.get_by_role("button", name="Next", exact=True).click()
    page.locator("button.play").first.wait_for()
    state = state_of(page)
    kinds = set()
    while state["stage"] == "trial":
        kinds.add(state["trial"]["kind"])
        if options:
            assert page.evaluate("document.documentElement.scrollWidth") <= 390
        answer(page, state)
        state = wait_for_more(page, state["done"])
    page.get_by_role("heading", name="That was all").wait_for()
    rater = context.store.rater(page.url.rsplit("/", 1)[1])
    rows = context.store.answers(rater)
    assert len(rows) == state["total"]
    assert kinds == {question["kind"] for question in ALL}
    assert all(play["seconds"] >= 0.25 for row in rows[:1] for play in row.plays)
    assert rater.headphones in ("passed", "failed")


def test_the_keyboard_is_enough(visit, study):
    context, _ = study
    page = visit(2)
    begin_session(page, keyboard=True)
    _tab_to(page, "I have no headphones")
    page.keyboard.press("Enter")
    page.locator("button.play").first.wait_for()
    state = state_of(page)
    for _ in range(6):
        trial = state["trial"]
        count = len(trial["players"]) + (trial["reference"] is not None)
        page.locator("button.play:enabled").nth(count - 1).wait_for()
        for number in range(count):
            button = page.locator("button.play").nth(number)
            page.keyboard.press(button.get_attribute("aria-keyshortcuts"))
            page.locator(".player").nth(number).get_by_text("heard", exact=True).wait_for()
        if trial["kind"] == "mushra":
            for number in range(len(trial["players"])):
                _tab_to(page, f"Grade of sound {number + 1}")
                page.keyboard.press("ArrowRight")
        else:
            for item in trial["items"]:
                _tab_to(page, item["id"])
                page.keyboard.press("Space")
        _tab_to(page, "Next")
        page.keyboard.press("Enter")
        state = wait_for_more(page, state["done"])
    assert len(context.store.answers(context.store.rater(page.url.rsplit("/", 1)[1]))) == 6


def test_nothing_can_be_answered_before_everything_is_heard(visit, study):
    page = visit(3)
    begin_session(page)
    page.get_by_role("button", name="I have no headphones").click()
    page.locator("button.play:enabled").first.wait_for()
    assert page.locator("input[type=radio]:enabled, input[type=range]:enabled").count() == 0
    page.get_by_role("button", name="Next", exact=True).click()
    page.get_by_text("Please listen first.").wait_for()
    assert state_of(page)["done"] == 0


def test_an_answer_given_without_a_connection_is_stored_when_it_is_back(visit, study):
    page = visit(3)
    begin_session(page)
    page.get_by_role("button", name="I have no headphones").click()
    page.locator("button.play:enabled").first.wait_for()
    state = state_of(page)
    page.route("**/answers", lambda route: route.abort())
    errors = page.get_by_text("Not stored yet")
    answer(page, state)
    errors.wait_for()
    assert state_of(page)["done"] == 0
    page.unroute("**/answers")
    assert wait_for_more(page, 0)["done"] == 1


def _tab_to(page, name):
    """Press Tab until the focus is on a control of that name or text."""
    for _ in range(60):
        page.keyboard.press("Tab")
        here = page.evaluate(
            "[document.activeElement.name, document.activeElement.ariaLabel,"
            " document.activeElement.innerText].map(t => t ?? '')"
        )
        if name in here:
            return
    pytest.fail(f"the keyboard does not reach {name!r}")
