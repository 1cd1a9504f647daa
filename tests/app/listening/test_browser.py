"""Whole sessions in a real Chromium: mouse, keyboard only, and a phone's width.

Every wait is for a state of the page, so a slow machine makes it slower and nothing else.
"""

import pytest

from app.listening.driving import choose, hear, send, state_of, wait_for_trial
from app.listening.server import create_app
from app.listening.serving import InBackground, open_context
from tests.app.browsing import SERVED
from tests.app.listening.conftest import ARMS, write_study
from tests.listening.studies import ALL, RATING

pytestmark = [*SERVED]
BROKEN_WORDS = """() => {
  const broken = [], walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const text = walk.currentNode.textContent;
    for (const word of text.matchAll(/[A-Za-z]+/g)) {
      const range = document.createRange();
      range.setStart(walk.currentNode, word.index);
      range.setEnd(walk.currentNode, word.index + word[0].length);
      const lines = new Set([...range.getClientRects()].map((box) => Math.round(box.top)));
      if (lines.size > 1) broken.push(word[0]);
    }
  }
  return broken;
}"""
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
MINIMUM_S = 0.3
RATERS = {"count": 4, "practice": 1, "attention_checks": 1, "repeats": 1, "break_every": 5,
          "minimum_listening_s": MINIMUM_S, "headphones": True}  # fmt: skip
# Each rater meets one prompt of every question: all kinds of pages, and few of each.
# Words as the presets have them, so that a phone's width is tried on what people will see.
WORDS = {
    "quality": {"ask": "How does it sound?", "check": "quality"},
    "adherence": {
        "ask": "How well does it fit the text?",
        "words": ["not at all", "a little", "in part", "mostly", "entirely"],
    },
}
QUESTIONS = [
    question
    | {"prompts": 4, "raters_per_prompt": 1, "show_prompt": question["kind"] in ("rating", "sets")}
    | ({"items": WORDS} if question["kind"] == "rating" else {})
    for question in ALL
]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser") / "s"
    write_study(folder, raters=RATERS, questions=QUESTIONS)
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
    trial = state["trial"]
    hear(page, trial)
    grades = [20 + 10 * number for number in range(len(trial["players"]))]
    choose(page, trial, grades if trial["kind"] == "mushra" else [0] * len(trial["items"]))
    send(page)


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


@pytest.mark.parametrize("options", [{}, PHONE], ids=["desktop", "phone"])
def test_a_whole_session_ends_with_every_answer_stored(visit, study, options):
    context, _ = study
    page = visit(0 if options else 1, **options)
    begin_session(page)
    page.locator("button.play:enabled").nth(2).wait_for()
    assert page.get_by_text("heard", exact=True).count() == 0  # nothing was played yet
    page.locator("button.play").first.click()
    page.get_by_text("heard", exact=True).wait_for()
    assert page.get_by_text("heard", exact=True).count() == 1
    for number in range(3):
        page.locator(f"fieldset:has(input[name='round-{number}']) label").first.click()
    page.get_by_role("button", name="Next", exact=True).click()
    total = state_of(page)["total"]
    state = wait_for_trial(page, 0, total)
    kinds = set()
    for done in range(total):
        kinds.add(state["trial"]["kind"])
        text = page.locator("main").inner_text()
        assert "null" not in text
        assert "undefined" not in text
        assert (state["trial"]["prompt"] or "listen") in text
        if options:
            assert page.evaluate("document.documentElement.scrollWidth") <= 390
            assert page.evaluate(BROKEN_WORDS) == []
        answer(page, state)
        state = wait_for_trial(page, done + 1, total)
    rater = context.store.rater(page.url.rsplit("/", 1)[1])
    rows = context.store.answers(rater)
    assert len(rows) == total
    assert kinds == {question["kind"] for question in ALL}
    assert rater.headphones in ("passed", "failed")
    for row in rows:
        # One play may be short, cut off by another; what counts is how long each player sounded.
        for player, clips in enumerate(row.shown_order):
            heard = sum(play["seconds"] for play in row.plays if play["player"] == player)
            assert heard >= MINIMUM_S * len(clips) - 0.06
        # One player sounds at a time, so what was heard fits into the time the page was there.
        assert sum(play["seconds"] for play in row.plays) <= row.received_at - row.shown_at + 0.1


@pytest.mark.parametrize(
    ("words", "side_by_side"),
    [
        (["bad", "poor", "fair", "good", "excellent"], True),
        (["not at all", "a little", "in part", "mostly", "entirely"], True),
        (
            ["incomprehensible", "unconvincing", "acceptable", "recommendable", "extraordinary"],
            False,
        ),
        ([f"step {number}" for number in range(11)], False),
    ],
)
def test_words_of_a_scale_are_whole_on_a_phone(chromium, tmp_path, words, side_by_side):
    items = {"sound": {"ask": "How does it sound?", "words": words}}
    write_study(tmp_path, questions=[RATING | {"items": items}],
                raters=RATERS | {"attention_checks": 0, "headphones": False})  # fmt: skip
    context = open_context(tmp_path)
    with InBackground(create_app(context)) as server:
        page = chromium.new_context(**PHONE).new_page()
        page.goto(f"{server.url}/i/{context.store.invite([0])[0]}")
        page.get_by_label("I have read this").check()
        page.get_by_role("button", name="Begin").click()
        page.locator("button.play:enabled").first.wait_for()
        assert page.evaluate(BROKEN_WORDS) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        boxes = [choice.bounding_box() for choice in page.locator(".choice").all()]
        assert len(boxes) == len(words)
        assert all(box["x"] + box["width"] <= 390 for box in boxes)
        assert (len({round(box["y"]) for box in boxes}) == 1) is side_by_side
        page.context.close()
    context.store.close()


def test_the_keyboard_is_enough(visit, study):
    context, _ = study
    page = visit(2)
    begin_session(page, keyboard=True)
    _tab_to(page, "I have no headphones")
    page.keyboard.press("Enter")
    total = state_of(page)["total"]
    state = wait_for_trial(page, 0, total)
    kinds = set()
    for done in range(total):
        trial = state["trial"]
        kinds.add(trial["kind"])
        buttons = page.locator("button.play")
        hear(
            page,
            trial,
            lambda n, b=buttons: page.keyboard.press(b.nth(n).get_attribute("aria-keyshortcuts")),
        )
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
        state = wait_for_trial(page, done + 1, total)
        if kinds == {question["kind"] for question in ALL}:
            break
    assert kinds == {question["kind"] for question in ALL}
    rater = context.store.rater(page.url.rsplit("/", 1)[1])
    assert len(context.store.answers(rater)) == done + 1


def test_nothing_can_be_answered_before_everything_is_heard(visit, study):
    page = visit(3)
    begin_session(page)
    page.get_by_role("button", name="I have no headphones").click()
    state = wait_for_trial(page, 0, state_of(page)["total"])
    page.locator("button.play:enabled").first.wait_for()
    controls = "input[type=radio], input[type=range]"
    assert page.locator(controls).count() > 0
    assert page.locator("input[type=radio]:enabled, input[type=range]:enabled").count() == 0
    page.get_by_role("button", name="Next", exact=True).click()
    page.get_by_text("Please listen first.").wait_for()
    hear(page, state["trial"])
    assert page.locator("input[type=radio]:disabled, input[type=range]:disabled").count() == 0
    assert state_of(page)["done"] == 0


def test_an_answer_given_without_a_connection_is_stored_when_it_is_back(visit, study):
    page = visit(3)
    begin_session(page)
    page.get_by_role("button", name="I have no headphones").click()
    total = state_of(page)["total"]
    state = wait_for_trial(page, 0, total)
    page.route("**/answers", lambda route: route.abort())
    answer(page, state)
    page.get_by_text("Not stored yet").wait_for()
    assert state_of(page)["done"] == 0
    page.unroute("**/answers")
    wait_for_trial(page, 1, total)


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
