"""The studio as it is used: a real Chromium, a tiny model, nothing faked between them."""

import io
import os
import re
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from app.service import State
from tests.app.browsing import (
    PATIENCE,
    SERVED,
    button,
    downloads,
    leave,
    served,
    settle,
    tab,
    tags_of,
    unfold,
)

pytestmark = [*SERVED]

PLAYING = """() => [...document.querySelectorAll('.card *')].some((element) =>
    [...(element.shadowRoot?.querySelectorAll('audio') ?? [])].some((audio) => !audio.paused))"""

PLAYING_CARDS = """() => [...document.querySelectorAll('.card')].filter((c) => c.offsetParent)
    .flatMap((card, i) => [...card.querySelectorAll('*')]
        .flatMap((e) => [...(e.shadowRoot?.querySelectorAll('audio') ?? [])])
        .filter((audio) => !audio.paused).map(() => i))"""


@pytest.fixture(scope="module")
def studio(tiny_folder):
    with served(tiny_folder) as running:
        yield running


def test_generate_gives_sound_that_can_be_heard_and_taken_home(visit, tmp_path):
    page = visit()
    settle(page, "slow sad piano", seconds=3, variations=2, seed=77)
    button(page, "Generate").click()
    page.get_by_text("Done: 2 clips.").wait_for()
    (first, data), (second, _) = downloads(page, 2)
    assert (first, second) == ("slow-sad-piano-s77-0.wav", "slow-sad-piano-s77-1.wav")
    samples, rate = soundfile.read(io.BytesIO(data))
    assert (len(samples), rate) == (24000, 8000)
    assert np.sqrt(np.square(samples).mean()) > 0.01
    tags = tags_of(data, tmp_path, first)
    assert (tags["prompt"], tags["seed"], tags["duration_s"]) == ("slow sad piano", 77, 3)
    times = page.locator(".card:visible time").all_inner_texts()
    assert times.count("0:03") == 2  # both players know the length
    assert page.locator(".card:visible img[alt^='Spectrogram of variation']").count() == 2
    assert page.get_by_text("Yes, also commercially").is_visible()


def test_sound_plays_while_it_is_made_and_stop_is_silence(visit):
    page = visit()
    settle(page, "drums", seconds=120)
    button(page, "Generate").click()
    page.wait_for_function("window.studio.streamed() > 0.2 && window.studio.streamLevel() > 0.003")
    page.get_by_text(re.compile(r"^Making one clip: \d+ %")).wait_for()
    button(page, "Pause").click()
    button(page, "Play on").wait_for()
    button(page, "Play on").click()
    page.wait_for_function("window.studio.streamed() > 0.4")
    button(page, "Stop").click()
    page.get_by_text("Stopped. What was heard").wait_for()
    page.get_by_text(re.compile(r"^Silent after \d+\.\d s\.$")).wait_for()


def test_a_clip_is_heard_to_its_end_while_it_is_made(visit):
    page = visit()
    settle(page, "drums", seconds=2)
    for _ in range(2):  # the next clip plays in the place of the last
        button(page, "Generate").click()
        page.wait_for_function("window.studio.streamed() > 0")
        page.get_by_text("Heard to the end.").wait_for()
        page.wait_for_function("!document.querySelector('#generate').disabled")


def test_sound_is_asked_for_at_the_press_and_only_once(visit):
    page = visit()
    page.wait_for_function("document.querySelector('[data-visit]').dataset.visit")
    settle(page, "drums", seconds=2)
    asked = []
    page.on("request", lambda r: asked.append(r) if "studio/stream" in r.url else None)
    for _ in range(2):
        button(page, "Generate").click()
        page.get_by_text("Heard to the end.").wait_for()
        page.wait_for_function("!document.querySelector('#generate').disabled")
    assert [(r.method, r.url.rsplit("/", 1)[-1]) for r in asked if "stream.js" not in r.url] == [
        ("POST", "stream")
    ] * 2


def test_a_double_click_is_heard_as_one(visit):
    page = visit()
    page.wait_for_function("document.querySelector('[data-visit]').dataset.visit")
    settle(page, "drums", seconds=120)
    button(page, "Generate").dblclick()
    page.wait_for_function("window.studio.streamed() > 1.5")
    button(page, "Stop").click()
    page.get_by_text("Stopped. What was heard").wait_for()


def test_clips_of_the_last_run_make_room_and_are_silent(visit):
    page = visit()
    settle(page, "drums", seconds=20, variations=2)
    button(page, "Generate").click()
    page.get_by_text("Done: 2 clips.").wait_for()
    page.locator(".card:visible time", has_text="0:20").first.wait_for()  # its player is ready
    page.locator(".card:visible .play-pause-button").first.click()
    page.wait_for_function(PLAYING)
    settle(page, "", seconds=120, variations=1)
    button(page, "Generate").click()
    page.get_by_text("The prompt is empty").wait_for()  # refused: what is there stays
    assert page.locator(".card:visible").count() == 2
    page.get_by_label("What to play", exact=True).fill("flute")
    button(page, "Generate").click()
    page.wait_for_function("window.studio.streamed() > 0")
    assert page.locator(".card:visible").count() == 0
    assert not page.evaluate(PLAYING)
    button(page, "Stop").click()
    downloads(page, 1)
    assert page.locator(".card:visible").count() == 1


def test_a_clip_that_is_played_silences_all_others_and_ends_the_jam(visit, studio):
    page = visit()
    settle(page, "drums", seconds=20, variations=2)
    button(page, "Generate").click()
    page.get_by_text("Done: 2 clips.").wait_for()
    page.locator(".card:visible time", has_text="0:20").nth(1).wait_for()
    tab(page, "Live")
    button(page, "Start the jam").click()
    page.wait_for_function("window.studio.live.jam?.played() > 0.3")
    tab(page, "Clips")
    players = page.locator(".card:visible .play-pause-button")
    players.first.click()
    page.wait_for_function(PLAYING)
    page.wait_for_function("window.studio.live.jam.context.state === 'closed'")
    assert page.evaluate(PLAYING_CARDS) == [0]
    players.nth(1).click()
    page.wait_for_function(f"({PLAYING_CARDS})().includes(1)")
    page.wait_for_timeout(300)
    assert page.evaluate(PLAYING_CARDS) == [1]
    players.nth(1).click()  # it pauses as before
    page.wait_for_function(f"!({PLAYING})()")
    tab(page, "Live")
    page.get_by_text(re.compile(r"^Stopped after \d+ s\. You can still keep it")).wait_for()
    assert studio.service.live.playing == 0


def test_stop_keeps_what_was_heard_and_frees_the_page(visit, studio):
    page = visit()
    settle(page, "drums", seconds=120)
    button(page, "Generate").click()
    page.get_by_text(re.compile(r"Making one clip: ([2-9]|\d\d) %")).wait_for()
    (job,) = studio.service._running
    began = time.monotonic()
    button(page, "Stop").click()
    while job.state is not State.STOPPED:
        page.wait_for_timeout(10)
        assert time.monotonic() - began < 5
    ((name, data),) = downloads(page, 1)
    assert name.endswith("-stopped.wav")
    assert 0 < len(soundfile.read(io.BytesIO(data))[0]) < 120 * 8000
    assert button(page, "Generate").is_enabled()
    assert button(page, "Stop").is_disabled()


def test_a_closed_page_frees_its_job(visit, studio):
    page = visit()
    settle(page, "drums", seconds=120)
    button(page, "Generate").click()
    page.get_by_text("Making one clip").wait_for()
    (job,) = studio.service._running
    page.close()
    end = time.monotonic() + 30
    while job.state is not State.STOPPED:
        assert time.monotonic() < end
        time.sleep(0.05)
    assert job.abandoned


def test_two_visitors_get_each_their_own(visit, tmp_path):
    one, two = visit(), visit()
    settle(one, "drums", seconds=20, seed=1)
    settle(two, "flute", seconds=2, variations=2, seed=2)
    two.get_by_label("File format").click()
    two.get_by_role("option", name="flac").click()
    button(one, "Generate").click()
    one.get_by_text(re.compile("Making|Waiting")).first.wait_for()
    button(two, "Generate").click()
    two.get_by_text("Done: 2 clips.").wait_for()
    one.get_by_text("Done: one clip.").wait_for()
    ((name, data),) = downloads(one, 1)
    mine = tags_of(data, tmp_path, name)
    assert (mine["prompt"], mine["seed"], mine["duration_s"]) == ("drums", 1, 20)
    theirs = [tags_of(data, tmp_path, name) for name, data in downloads(two, 2)]
    assert [(t["prompt"], t["seed"], t["index"]) for t in theirs] == [
        ("flute", 2, 0), ("flute", 2, 1),
    ]  # fmt: skip
    assert one.get_by_label("Seed", exact=True).input_value() == "1"


def test_a_seed_is_drawn_each_time_until_it_is_locked(visit):
    page = visit()
    settle(page, "drums", seconds=1)
    seen = []
    for lock in (False, False, True, True):
        page.get_by_label("Lock the seed").set_checked(lock)
        button(page, "Generate").click()
        page.wait_for_function("document.querySelector('#generate').disabled")
        page.wait_for_function("!document.querySelector('#generate').disabled")
        seen.append(page.get_by_label("Seed", exact=True).input_value())
    assert len(set(seen[:2])) == 2
    assert seen[1] == seen[2] == seen[3]


def test_an_answer_that_comes_late_does_not_erase_the_seed(chromium, studio):
    page = chromium.new_context().new_page()
    page.set_default_timeout(PATIENCE)
    held = []  # the first question: what the page asks when it opens
    page.route("**/queue/join*", lambda route: route.continue_() if held else held.append(route))
    page.goto(studio.url)
    button(page, "Generate").wait_for()
    page.wait_for_function("window.studio")
    page.wait_for_function("document.querySelector('#seed input').value === ''")
    settle(page, "drums", seconds=1)
    button(page, "Generate").click()
    page.get_by_text("Done: one clip.").wait_for()
    seed = page.get_by_label("Seed", exact=True).input_value()
    assert int(seed) > 0
    with page.expect_response("**/queue/join*"):
        held[0].continue_()
    page.wait_for_timeout(1500)
    assert page.get_by_label("Seed", exact=True).input_value() == seed
    page.context.close()


def test_no_seed_is_claimed_before_one_was_drawn(visit):
    page = visit()
    seed, lock = page.get_by_label("Seed", exact=True), page.get_by_label("Lock the seed")
    page.wait_for_function("document.querySelector('#seed input').value === ''")
    assert seed.get_attribute("placeholder") == "random"
    settle(page, "drums", seconds=1)
    button(page, "Generate").click()
    page.get_by_text("Done: one clip.").wait_for()
    assert int(seed.input_value()) > 0
    assert not lock.is_checked()
    seed.fill("")  # nothing to hold
    assert not lock.is_checked()
    seed.fill("12")
    page.wait_for_function("document.querySelector('#lock input').checked")


def test_ten_tabs_of_one_browser_all_open(chromium, studio):
    """A browser opens six connections to an address: an open page may not hold one."""
    tabs = chromium.new_context()
    for _ in range(10):
        page = tabs.new_page()
        page.goto(studio.url, timeout=PATIENCE)
        button(page, "Generate").wait_for(timeout=PATIENCE)
    settle(page, "drums", seconds=1)
    button(page, "Generate").click()
    page.get_by_text("Done: one clip.").wait_for(timeout=PATIENCE)
    tabs.close()


def test_the_clips_of_a_closed_page_leave_the_disk(visit, studio):
    """The service's own, and Gradio's copies of them."""
    page = visit()
    settle(page, "drums", seconds=1, variations=2)
    button(page, "Generate").click()
    page.get_by_role("button", name="Download variation 2 ").wait_for()
    seed = page.get_by_label("Seed", exact=True).input_value()

    def held():  # not what is left of browsers that could not say goodbye
        found = Counter()
        for folder, _, names in os.walk(studio.folder):  # goes on where a folder has just gone
            mine = [name for name in names if name.startswith(f"drums-s{seed}-")]
            found.update((Path(folder).parts[-2], Path(name).suffix) for name in mine)
        return found

    kinds = (".wav", ".webp")
    assert held() == {(place, kind): 2 for place in ("cache", "jobs-0") for kind in kinds}
    leave(page)
    end = time.monotonic() + 30
    while left := held():
        assert time.monotonic() < end, left
        page.wait_for_timeout(50)


def test_an_example_is_there_at_once_however_busy_the_server(visit):
    page = visit()
    page.route("**/gradio_api/**", lambda route: None)  # nothing that is asked is answered
    page.locator("#try").get_by_role("button", name="bossa nova for vibraphone").click()
    page.wait_for_function(
        "document.querySelector('#prompt textarea').value === 'bossa nova for vibraphone'"
    )


def test_mistakes_are_answered_in_a_sentence(visit):
    page = visit()
    settle(page, "   ")
    button(page, "Generate").click()
    page.get_by_text("The prompt is empty: say what to play").wait_for()
    settle(page, "drums")
    unfold(page, "More")
    page.get_by_label("Negative prompt").fill("<b>noise</b>")
    button(page, "Generate").click()
    page.get_by_text("Negative_prompt needs guidance").wait_for()
    assert button(page, "Generate").is_enabled()


def test_the_keyboard_is_enough(visit):
    page = visit()
    page.keyboard.type("drums")  # the prompt has the focus when the page opens
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "generate":
            break
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Download variation 1 ").wait_for()
    for _ in range(60):
        page.keyboard.press("Tab")
        if "Download variation 1" in page.evaluate("document.activeElement.innerText || ''"):
            break
    else:
        pytest.fail("the keyboard does not reach the download")
    with page.expect_download() as downloading:
        page.keyboard.press("Enter")
    assert downloading.value.suggested_filename.startswith("drums-s")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_all_of_it_without_sideways_scrolling(visit, scheme):
    page = visit(
        viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True, color_scheme=scheme
    )
    settle(page, "drums", seconds=1, variations=2)
    button(page, "Generate").tap()
    page.get_by_role("button", name="Download variation 2 ").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    for card in page.locator(".card:visible").all():
        box = card.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 390


def test_every_control_has_a_name(visit):
    page = visit()
    unfold(page, "More")
    unnamed = page.evaluate(
        """[...document.querySelectorAll('input, textarea, button, select, audio')]
        .filter(e => e.offsetParent && e.type !== 'file' && !e.labels?.length
            && !e.getAttribute('aria-label') && !e.title && !e.innerText.trim()
            && !e.getAttribute('aria-labelledby'))
        .map(e => e.outerHTML.slice(0, 120))"""
    )
    assert unnamed == []


def test_there_is_no_slider_of_diversity_where_the_model_offers_none(visit):
    page = visit()
    assert page.get_by_text(re.compile("diversity", re.IGNORECASE)).count() == 0


@pytest.mark.parametrize(
    "path",
    [
        "gradio_api/file=/etc/passwd",
        "gradio_api/file=/proc/self/environ",
        "gradio_api/file=../../../../etc/passwd",
        "gradio_api/file=pyproject.toml",
        "gradio_api/file=http://127.0.0.1:9/",
        "file=/etc/passwd",
    ],
)
def test_no_file_of_this_computer_can_be_read(studio, path):
    import httpx

    answer = httpx.get(f"{studio.url}{path}", follow_redirects=False)
    assert answer.status_code in (403, 404)


def test_files_of_jobs_cannot_be_read_where_the_service_keeps_them(studio):
    import httpx

    from app.service import JobRequest

    job = studio.service.submit(JobRequest(prompt="drums", duration_s=1.0), "someone")
    list(studio.service.watch(job))
    (path,) = job.files
    assert path.exists()
    assert httpx.get(f"{studio.url}gradio_api/file={path}").status_code == 403
    studio.service.release(job)


def test_uploads_are_small_or_refused(studio):
    import httpx

    big = {"files": ("big.wav", bytes(3_000_000))}
    assert httpx.post(f"{studio.url}gradio_api/upload", files=big).status_code == 413
