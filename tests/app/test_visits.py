"""Open pages: what they hold while they give signs of life, and that nothing of it stays after."""

import asyncio
import shutil
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import pytest
from gradio.processing_utils import save_file_to_cache

from app import visits as visits_module
from app.service import JobRequest, State
from app.service.jam import JamRequest
from app.settings import Settings
from app.visits import BEAT_S, GONE_S, Visits
from tests.app.conftest import finish

SHORT = JobRequest(prompt="drums", duration_s=0.6, seed=5)


@pytest.fixture
def rooms(start, tmp_path):
    """Hold a service, the visits on it, Gradio's cache, and a clock that the test moves."""
    now = [0.0]
    service, cache = start(), tmp_path / "cache"
    cache.mkdir()
    visits = Visits([service], cache, lambda: now[0])
    return SimpleNamespace(service=service, cache=cache, visits=visits, now=now)


def run(rooms, client, request=SHORT):
    """Have a page make something; the run, done."""
    job = rooms.service.submit(request, client)
    finish(rooms.service, job)
    return rooms.visits.of(client).add(Settings(prompt=request.prompt), job, rooms.service)


def copied(rooms, path, folder):
    """Copy a file as Gradio does when a page shows it."""
    place = rooms.cache / folder
    place.mkdir(exist_ok=True)
    return shutil.copy(path, place / path.name)


def test_a_page_that_is_left_frees_its_job_its_jam_and_its_files(rooms):
    made = run(rooms, "one")
    (path,) = made.files()
    waiting = rooms.service.submit(JobRequest(prompt="for ever", duration_s=110.0), "one")
    jam = rooms.service.live.open(JamRequest(prompt="drums", seed=3), "one")
    others = rooms.service.live.open(JamRequest(prompt="drums", seed=3), "two")
    rooms.visits.leave("one")
    finish(rooms.service, waiting)
    assert (waiting.state, waiting.abandoned) == (State.STOPPED, True)
    assert (jam.ended, others.ended) == (True, False)
    assert not path.exists()
    assert rooms.visits.known("one").runs() == []


def test_a_jam_that_was_kept_goes_with_its_page_and_no_other(rooms):
    live, kept = rooms.service.live, []
    for client in ("one", "two"):
        jam = live.open(JamRequest(prompt="drums", seed=3), client)
        end = time.monotonic() + 30
        while not jam.hear(0.0)[0]:
            assert time.monotonic() < end
            time.sleep(0.02)
        time.sleep(0.1)  # in which some of it is heard
        jam.hear(0.1)
        kept.append(jam.keep())
        jam.stop()
    rooms.visits.leave("one")
    assert [path.exists() for path in kept] == [False, True]


def test_a_page_that_gives_no_sign_is_closed_and_one_that_does_is_not(rooms):
    silent, speaking = run(rooms, "silent"), run(rooms, "speaking")
    rooms.now[0] = GONE_S - BEAT_S
    rooms.visits.beat("speaking")
    rooms.now[0] = GONE_S + 1
    rooms.visits.end_silent()
    assert (silent.files(), len(speaking.files())) == ([], 1)


def test_signs_of_pages_that_asked_for_nothing_are_not_kept(rooms):
    for number in range(3):
        rooms.visits.beat(f"guess {number}")
        assert rooms.visits.known(f"guess {number}").runs() == []
        rooms.visits.leave(f"guess {number}")
    assert rooms.visits._open == {}


def test_copies_go_when_no_open_page_can_show_them(rooms):
    one, two = run(rooms, "one"), run(rooms, "two", JobRequest(prompt="flute", duration_s=0.6))
    mine, theirs = (copied(rooms, made.files()[0], made.settings.prompt) for made in (one, two))
    stray = rooms.cache / "upload" / "big.bin"
    stray.parent.mkdir()
    stray.write_bytes(b"x")
    rooms.visits.tidy()
    assert (mine.exists(), theirs.exists(), stray.exists()) == (True, True, False)
    rooms.visits.leave("one")
    assert [path.name for path in rooms.cache.iterdir()] == ["flute"]


def test_a_copy_that_is_being_made_is_left_alone(rooms):
    """Without it Gradio gives the page the job's own path, which is refused."""
    made = run(rooms, "one")
    ended = threading.Event()

    def tidy():
        while not ended.is_set():
            rooms.visits.tidy()

    tidying = threading.Thread(target=tidy)
    tidying.start()
    try:
        for number in range(50):
            clip = made.files()[0]
            clip.write_bytes(bytes([number]) * 400_000)  # another content, another folder
            copy = Path(save_file_to_cache(clip, str(rooms.cache)))
            assert copy.read_bytes() == clip.read_bytes()
    finally:
        ended.set()
        tidying.join()


def test_a_copy_that_was_never_finished_goes(rooms, monkeypatch):
    run(rooms, "one")
    half = rooms.cache / "dead" / ".flute.wav.x1y2"
    half.parent.mkdir()
    half.write_bytes(b"RIFF")
    rooms.visits.tidy()
    assert half.exists()
    monkeypatch.setattr("app.visits._COPYING_S", 0.0)
    rooms.visits.tidy()
    assert not half.parent.exists()


def test_one_tidies_at_a_time(rooms, monkeypatch):
    """A folder that another thread removes would end the listing."""
    inside, most = [], []

    def slowly(visits, cache):
        inside.append(cache)
        most.append(len(inside))
        time.sleep(0.02)
        inside.pop()

    monkeypatch.setattr(Visits, "_tidy", slowly)
    threads = [threading.Thread(target=rooms.visits.tidy) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1, 1, 1]


def test_copies_of_one_clip_stay_while_any_page_shows_it(rooms):
    one, _ = run(rooms, "one"), run(rooms, "two")  # the same seed, the same name
    copy = copied(rooms, one.files()[0], "same")
    rooms.visits.leave("one")
    assert copy.exists()
    rooms.visits.leave("two")
    assert not copy.exists()


def test_runs_that_leave_the_history_leave_the_disk(rooms, monkeypatch):
    monkeypatch.setattr("app.visits._MOST_RUNS", 2)
    made = [run(rooms, "one", JobRequest(prompt=p, duration_s=0.6)) for p in ("a", "b", "c")]
    assert [len(each.files()) for each in made] == [0, 1, 1]
    assert not made[0].job.folder.exists()
    rooms.visits.leave("one")
    assert [path for path in rooms.service.folder.rglob("*") if path.is_file()] == []


def test_clips_beyond_a_visits_share_go_but_never_the_newest(rooms, monkeypatch):
    first = run(rooms, "one")
    size = first.files()[0].stat().st_size
    monkeypatch.setattr("app.visits._MOST_BYTES", 1.5 * size)
    second = run(rooms, "one")
    assert (first.files(), len(second.files())) == ([], 1)
    monkeypatch.setattr("app.visits._MOST_BYTES", 0.5 * size)
    assert (len(run(rooms, "one").files()), second.files()) == (1, [])


def test_closing_ends_every_visit(rooms):
    made = run(rooms, "one")
    rooms.visits.start()
    rooms.visits.close()
    assert made.files() == []


def make_studio(rooms, *cards):
    from app.layout import Controls, Results
    from app.studio import Studio

    results = Results(None, None, list(cards))
    return Studio({"tiny": rooms.service}, rooms.visits, None, Controls({}), None, results)


def card():
    return SimpleNamespace(hidden=dict, showing=lambda path, picture, held: {path: picture})


def test_a_run_that_ends_is_shown_whatever_was_restored_meanwhile(rooms, monkeypatch):
    old, new = run(rooms, "one"), run(rooms, "one")
    rooms.visits.known("one").shown = old
    monkeypatch.setattr("app.studio.draw", lambda path: path)
    page = make_studio(rooms, card())
    shown = asyncio.run(page.show(SimpleNamespace(session_hash="one")))
    assert list(shown) == new.files()
    assert rooms.visits.known("one").shown is new


def test_nothing_is_restored_while_clips_are_made(rooms):
    old = run(rooms, "one")
    rooms.service.submit(JobRequest(prompt="for ever", duration_s=110.0), "one")
    with pytest.raises(gr.Error, match="still being made"):
        make_studio(rooms).restore(old.number, SimpleNamespace(session_hash="one"))


def test_showing_the_clips_of_a_page_that_has_gone_is_no_error(rooms):
    from app.layout import Actions, Controls, Results
    from app.studio import Studio

    go, stop, history = object(), object(), object()
    actions = Actions(go, stop, None, history, None, None, None)
    studio = Studio(
        {"tiny": rooms.service}, rooms.visits, None, Controls({}), actions, Results(None, None, [])
    )
    request = SimpleNamespace(session_hash="gone")
    assert asyncio.run(studio.show(request)) == {}
    shown = studio.reopen(request)
    assert shown[history]["choices"] == []
    assert shown[history]["value"] is None
    assert rooms.visits._open == {}


def test_clips_that_go_while_they_are_drawn_are_no_error(rooms, monkeypatch):
    studio = make_studio(rooms, card())
    made = run(rooms, "one")
    (path,) = made.files()
    drawn = asyncio.run(studio.show(SimpleNamespace(session_hash="one")))
    assert drawn == {path: path.with_suffix(".webp")}

    def gone(path):
        path.unlink()
        raise FileNotFoundError(path)

    monkeypatch.setattr("app.studio.draw", gone)
    assert asyncio.run(studio.show(SimpleNamespace(session_hash="one"))) == {}


def test_what_goes_wrong_once_does_not_end_the_looking_after(rooms, monkeypatch, caplog):
    monkeypatch.setattr(visits_module, "_SWEEP_S", 0.01)
    run(rooms, "gone")
    tried = []

    def jobs_of(client, own=rooms.service.jobs_of):
        tried.append(client)
        if len(tried) == 1:
            raise OSError("the disk is away for a moment")
        return own(client)

    monkeypatch.setattr(rooms.service, "jobs_of", jobs_of)
    rooms.now[0] = GONE_S + 1.0
    rooms.visits.start()
    ends = time.monotonic() + 10.0
    while "trying again" not in caplog.text and time.monotonic() < ends:
        time.sleep(0.01)
    made = run(rooms, "also gone")
    rooms.now[0] *= 3.0
    while any(path.exists() for path in made.files()) and time.monotonic() < ends:
        time.sleep(0.01)
    assert "the disk is away for a moment" in caplog.text
    assert not any(path.exists() for path in made.files())
    rooms.visits.close()
