"""The store: once, never overwritten, deletable."""

import sqlite3
import threading

import pytest
from sqlalchemy import select

from musicgen_rl.errors import ConfigError, InputError
from musicgen_rl.listening import database
from musicgen_rl.listening.store import Store, store_url
from musicgen_rl.listening.tables import invitations, open_engine


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        self.now += 1
        return self.now


@pytest.fixture
def make(tmp_path):
    opened = []

    def _make(plan="p", **options):
        opened.append(Store(store_url(tmp_path), plan, **({"clock": Clock()} | options)))
        return opened[-1]

    yield _make
    for store in opened:
        store.close()


def join(store):
    (token,) = store.invite(store.next_slots(1, 4))
    return store.rater(store.agree(token, "nonce"))


def add(store, rater, position=0, submission="s1", value=3, **more):
    store.show(rater, position)
    return store.add(rater, position, submission, {"q": value}, [], [["h"]], **more)


def test_an_invitation_works_once_and_again_for_the_same_page_only(make):
    store = make()
    (token,) = store.invite([2])
    store.require_invitation(token)
    with pytest.raises(InputError, match="not known"):
        store.require_invitation("other")
    key = store.agree(token, "page")
    assert store.agree(token, "page") == key  # the reply was lost, the page asks again
    with pytest.raises(InputError, match="used already"):
        store.agree(token, "another page")
    with pytest.raises(InputError, match="not known"):
        store.agree("other", "page")
    with pytest.raises(InputError, match="used already"):
        store.require_invitation(token)
    assert store.rater(key).slot == 2
    assert len(store.raters()) == 1
    with pytest.raises(InputError, match="personal link"):
        store.rater("wrong")


def test_an_invitation_expires_but_not_for_who_has_begun(make):
    clock = Clock()
    store = make(clock=clock)
    early, late = store.invite([0, 1], days=2)
    key = store.agree(early, "page")
    clock.now += 2 * 86400
    for use in (store.require_invitation, lambda token: store.agree(token, "page")):
        with pytest.raises(InputError, match="has expired"):
            use(late)
    assert store.agree(early, "page") == key
    assert store.rater(key).slot == 0
    assert len(store.raters()) == 1


def test_new_invitations_go_to_the_slots_with_fewest(make):
    store = make()
    store.invite(store.next_slots(3, 4))
    assert store.next_slots(3, 4) == [3, 0, 1]


def test_the_same_submission_is_stored_once(make):
    store = make()
    rater = join(store)
    first = add(store, rater)
    assert add(store, rater) == first
    assert len(store.answers()) == 1
    with pytest.raises(InputError, match="same number"):
        add(store, rater, value=4)


def test_an_answer_is_never_overwritten_and_a_correction_is_a_new_row(make):
    store = make()
    rater = join(store)
    add(store, rater)
    with pytest.raises(InputError, match="answered already"):
        add(store, rater, submission="s2", value=5)
    add(store, rater, submission="s2", value=5, corrects=0)
    assert [(a.revision, a.values["q"]) for a in store.answers()] == [(0, 3), (1, 5)]
    with pytest.raises(InputError, match="answered already"):
        add(store, rater, submission="s3", corrects=0)
    assert store.last_revisions(rater) == {0: 1}


def test_what_was_not_shown_cannot_be_answered(make):
    store = make()
    rater = join(store)
    with pytest.raises(InputError, match="not shown"):
        store.add(rater, 5, "s", {}, [], [])
    with pytest.raises(InputError, match="no such answer"):
        add(store, rater, corrects=0)
    assert store.answers() == []


def test_the_first_showing_counts(make):
    store = make()
    rater = join(store)
    first = store.show(rater, 0)
    assert store.show(rater, 0) == first
    assert store.shown_at(rater, 0) == first
    assert store.shown_at(rater, 1) is None
    assert add(store, rater).shown_at == first


def test_equal_posts_at_once_make_one_row(make):
    store = make()
    rater = join(store)
    store.show(rater, 0)
    results, barrier = [], threading.Barrier(8)

    def post():
        barrier.wait()
        results.append(store.add(rater, 0, "same", {"q": 1}, [], []))

    threads = [threading.Thread(target=post) for _ in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert len(results) == 8
    assert len(store.answers()) == 1


def test_after_the_stop_nothing_is_taken_but_a_repeat_is_still_acknowledged(make):
    store = make()
    rater = join(store)
    stored = add(store, rater)
    (open_token,) = store.invite([0])
    assert store.stopped_at is None
    store.stop()
    assert store.stopped_at is not None
    assert add(store, rater) == stored
    with pytest.raises(InputError, match="has ended"):
        add(store, rater, position=1, submission="s2")
    for use in (lambda: store.agree(open_token, "n"), lambda: store.invite([0]),
                lambda: store.require_invitation(open_token)):  # fmt: skip
        with pytest.raises(InputError, match="has ended"):
            use()


def test_it_is_the_same_after_opening_again_and_refuses_another_plan(make):
    store = make()
    rater = join(store)
    add(store, rater)
    name = store.mac("a", 1)
    again = make()
    assert again.mac("a", 1) == name
    assert again.mac("a1") != name
    assert len(again.answers()) == 1
    with pytest.raises(InputError, match="changed after people took part"):
        make("another plan")


def test_a_plan_may_change_while_nobody_took_part_and_invitations_to_its_sessions_stay(make):
    clock = Clock()
    store = make(slots=4, clock=clock)
    first, last, _ = store.invite([0, 3, 3])
    store.invite([3], days=1)
    clock.now += 2 * 86400
    assert (make("p", slots=2).withdrawn, store.progress()["invited"]) == (0, 4)
    new = make("new", slots=3, clock=clock)
    new.require_invitation(first)
    with pytest.raises(InputError, match="not known"):
        new.require_invitation(last)
    assert new.withdrawn == 2  # one had expired
    event = new.events()[-1]
    assert event["what"] == "invitations withdrawn"
    assert event["detail"] == "2, the new plan has 3 sessions"
    assert make("new", slots=3).withdrawn == 0


def test_whoever_opened_it_before_the_plan_changed_takes_nobody_in_any_more(make):
    old = make(slots=4)
    (token,) = old.invite([0])
    new = make("new", slots=4)
    for use in (lambda: old.require_invitation(token), lambda: old.agree(token, "page"),
                lambda: old.invite([1])):  # fmt: skip
        with pytest.raises(InputError, match="planned anew"):
            use()
    assert new.raters() == []
    assert new.rater(new.agree(token, "page")).slot == 0


def test_one_rater_is_deleted_whole_and_the_file_keeps_no_trace(make, tmp_path):
    store = make()
    one, two = join(store), join(store)
    store.show(one, 0)
    store.add(one, 0, "s", {"q": "TRACE-OF-ONE"}, [], [])
    add(store, two)
    with store._engine.begin() as connection:
        times = [row.used_at for row in connection.execute(select(invitations))]
    done = store.delete_rater(one.code.upper())
    assert (done.raters, done.answers, done.wiped) == (1, 1, True)
    with store._engine.begin() as connection:  # the invitation stays used, and says no more
        (row,) = connection.execute(select(invitations).where(invitations.c.used_by.is_(None)))
    assert row.used_at == row.made_at
    assert row.used_at not in times
    assert [r.id for r in store.raters()] == [two.id]
    assert {a.rater for a in store.answers()} == {two.id}
    with pytest.raises(InputError, match="no rater with the code"):
        store.delete_rater(one.code)
    store.close()
    for path in tmp_path.iterdir():
        assert b"TRACE-OF-ONE" not in path.read_bytes()
    assert [e["what"] for e in store.events()] == ["invited", "invited", "rater deleted"]


def test_forgetting_deletes_all_raters(make):
    store = make()
    add(store, join(store))
    done = store.forget()
    assert (done.raters, done.answers, done.wiped) == (1, 1, True)
    assert (store.raters(), store.answers()) == ([], [])
    assert store.events()[-1]["what"] == "all raters deleted"


def test_a_reader_that_keeps_traces_in_the_files_is_noticed_and_the_next_try_removes_them(
    make, tmp_path, monkeypatch
):
    monkeypatch.setattr(database, "WIPE_PATIENCE_S", 0.2)
    store = make()
    rater = join(store)
    store.show(rater, 0)
    store.add(rater, 0, "s", {"q": "TRACE-OF-ONE"}, [], [])

    def traces():
        return any(b"TRACE-OF-ONE" in path.read_bytes() for path in tmp_path.iterdir())

    reader = sqlite3.connect(tmp_path / "answers.sqlite")
    reader.execute("BEGIN")
    assert reader.execute("SELECT COUNT(*) FROM answers").fetchone() == (1,)
    done = store.delete_rater(rater.code)
    assert (done.answers, done.wiped) == (1, False)
    assert store.answers() == []
    assert traces()  # said, because it is so
    assert store.delete_expired(365).wiped is False
    reader.close()
    assert store.delete_expired(365).wiped is True  # nobody is due: it tries again all the same
    assert not traces()
    assert "traces remain" not in [e["what"] for e in store.events()]
    with store._engine.connect() as ours:
        assert ours.exec_driver_sql("PRAGMA busy_timeout").scalar() == 30_000


def test_whose_retention_time_is_over_is_deleted_and_nobody_else(make):
    clock = Clock()
    store = make(clock=clock)
    assert store.first_expiry(10) is None
    early = join(store)
    add(store, early)
    began = clock.now
    clock.now += 5 * 86400
    late = join(store)
    add(store, late)
    assert store.first_expiry(10) == pytest.approx(began + 10 * 86400, abs=5)
    clock.now = began + 10 * 86400 - 60
    assert store.delete_expired(10).raters == 0
    clock.now += 120
    done = store.delete_expired(10)
    assert (done.raters, done.answers, done.wiped) == (1, 1, True)
    assert [r.id for r in store.raters()] == [late.id]
    assert {a.rater for a in store.answers()} == {late.id}
    assert store.shown_at(early, 0) is None
    assert store.events()[-1]["what"] == "raters deleted"
    assert store.delete_expired(10).raters == 0
    progress = store.progress()
    assert (progress["agreed"], progress["deleted"], progress["invited"]) == (1, 1, 2)


def test_simulated_raters_are_not_deleted_by_time(make):
    clock = Clock()
    store = make(clock=clock, simulated=True)
    add(store, join(store))
    clock.now += 1000 * 86400
    assert store.first_expiry(10) is None
    assert store.delete_expired(10).raters == 0
    assert len(store.answers()) == 1


def test_sessions_of_expired_invitations_and_deleted_raters_are_given_to_others(make):
    clock = Clock()
    store = make(clock=clock)
    tokens = store.invite([0, 1, 2, 3], days=2)
    raters = [store.rater(store.agree(token, "page")) for token in tokens[:3]]
    assert store.next_slots(4, 4) == [0, 1, 2, 3]
    clock.now += 3 * 86400
    assert store.next_slots(1, 4) == [3]  # nobody came
    store.delete_rater(raters[1].code)
    assert store.next_slots(2, 4) == [1, 3]


def test_progress_counts_people_and_trials_not_corrections(make):
    store = make()
    rater = join(store)
    store.invite([1])
    add(store, rater)
    add(store, rater, submission="s2", corrects=0)
    progress = store.progress(now=store.clock() + 7200)
    assert (progress["invited"], progress["agreed"], progress["answers"]) == (2, 1, 1)
    assert progress["per_rater"][0]["hours_since"] == pytest.approx(2, abs=0.01)
    assert "3" not in str(progress["per_rater"][0].get("values", ""))


def test_answers_are_on_the_disk_before_they_are_acknowledged(make, tmp_path):
    store = make()
    add(store, join(store))
    connection = sqlite3.connect(tmp_path / "answers.sqlite")
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()
    with store._engine.connect() as ours:
        assert ours.exec_driver_sql("PRAGMA synchronous").scalar() == 2  # FULL
    assert store.check() == "ok"


def test_tokens_and_keys_are_kept_as_hashes_only(make, tmp_path):
    store = make()
    (token,) = store.invite([0])
    key = store.agree(token, "nonce-of-the-page")
    store.close()
    data = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    for secret in (token, key, "nonce-of-the-page"):
        assert secret.encode() not in data


def test_urls_that_are_none_are_refused():
    with pytest.raises(ConfigError, match="URL"):
        open_engine("nonsense")
