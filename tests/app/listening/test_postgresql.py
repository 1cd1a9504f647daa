"""The study on PostgreSQL, where LISTENING_TEST_DATABASE holds an empty database's URL."""

import os
import threading

import pytest

from app.listening.server import create_app
from app.listening.serving import InBackground, open_context
from musicgen_rl.errors import InputError, StorageError
from musicgen_rl.listening.analysis import analyse
from musicgen_rl.listening.store import Store
from musicgen_rl.listening.tables import metadata, open_engine
from tests.app.listening.conftest import Served, write_study
from tests.listening.studies import PAIR, RATING

URL = os.environ.get("LISTENING_TEST_DATABASE", "")
pytestmark = pytest.mark.skipif(not URL, reason="LISTENING_TEST_DATABASE names no database")


@pytest.fixture
def context(tmp_path):
    engine = open_engine(URL)
    metadata.drop_all(engine)
    engine.dispose()
    write_study(tmp_path, questions=[RATING, PAIR], reference=None,
                arms={"one": {"audio": "a"}, "two": {"audio": "b"}})  # fmt: skip
    context = open_context(tmp_path, URL)
    yield context
    context.store.close()
    engine = open_engine(URL)
    metadata.drop_all(engine)
    engine.dispose()


def test_sessions_are_played_analysed_and_deleted(context):
    assert context.store._engine.dialect.name == "postgresql"
    with InBackground(create_app(context)) as server:
        served = Served(context, server.url)
        sessions = context.plan.assignment.sessions
        players = [served.player(slot) for slot in range(len(sessions))]
        counts = [player.session() for player in players]
        served.client.close()
    store = context.store
    assert counts == [len(session) for session in sessions]
    stored = [answer.submission for answer in store.answers()]
    assert sorted(stored) == sorted(s for player in players for s, _ in player.acknowledged)
    store.stop()
    result = analyse(context.plan, store, mixed=False)
    assert result["people"]["finished"] == len(sessions)
    assert all("p" in entry for entry in result["planned"])
    assert store.delete_rater(store.raters()[0].code).answers == counts[0]
    assert store.progress()["answers"] == sum(counts[1:])
    assert store.forget().raters == len(sessions) - 1
    assert store.answers() == []


def test_equal_posts_at_once_make_one_row_and_a_correction_another(context):
    store = context.store
    rater = store.rater(store.agree(store.invite([0])[0], "page"))
    results, barrier = [], threading.Barrier(8)

    def post():
        barrier.wait()
        store.show(rater, 0)
        results.append(store.add(rater, 0, "same", {"q": 1}, [], []))

    threads = [threading.Thread(target=post) for _ in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert len(results) == 8
    assert len(store.answers()) == 1
    with pytest.raises(InputError, match="answered already"):
        store.add(rater, 0, "other", {"q": 2}, [], [])
    assert store.add(rater, 0, "other", {"q": 2}, [], [], corrects=0).revision == 1


def test_one_invitation_used_by_many_at_once_lets_one_in(context):
    store = context.store
    (token,) = store.invite([0])
    keys, refused, barrier = [], [], threading.Barrier(6)

    def agree(number):
        barrier.wait()
        try:
            keys.append(store.agree(token, f"page {number}"))
        except InputError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=agree, args=(n,)) for n in range(6)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert (len(keys), len(refused), len(store.raters())) == (1, 5, 1)


def test_a_database_that_is_not_there_is_a_sentence():
    with pytest.raises(StorageError, match="cannot be opened"):
        Store(URL.rpartition("/")[0] + "/no-such-database", "p")
