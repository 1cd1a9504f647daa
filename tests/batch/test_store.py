import sqlite3

import pytest

from musicgen_rl.batch.store import DONE, FAILED, FILE, MISSING, Record, Store
from musicgen_rl.errors import InputError, StorageError


def record(id, **changes):
    return Record(**({
        "id": id, "path": f"clips/{id}", "member": None, "size": 5, "file_sha256": "f",
        "codes_sha256": "c", "num_frames": 3, "duration_s": 0.06, "settings": {"seed": 1}}
        | changes))  # fmt: skip


@pytest.fixture
def store(tmp_path, plan):
    with Store(tmp_path, create=True) as opened:
        opened.write_plan(plan, {"format": "flac"})
        yield opened


def test_a_plan_comes_back_equal(store, plan):
    assert store.read_plan() == (plan, {"format": "flac"})


def test_a_plan_with_equal_items_remembers_whose_id_is_whose(tmp_path, items):
    from musicgen_rl.batch import make_plan

    twice = make_plan([items[0], items[0], items[3]], device="cpu", dtype="fp32")
    with Store(tmp_path, create=True) as store:
        store.write_plan(twice, {})
        assert store.read_plan()[0].ids == twice.ids


def test_it_is_written_ahead_so_that_others_can_read_meanwhile(store, tmp_path):
    connection = sqlite3.connect(tmp_path / FILE)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("SELECT count(*) FROM clips").fetchone() == (10,)
    connection.close()


def test_states_follow_what_is_recorded(store, plan):
    a, b, c = plan.ids[0], plan.clips[4].id, plan.clips[5].id
    store.record([record(b), record(a)], {c: "broken"})
    states = store.states()
    assert (states[a], states[b], states[c]) == (DONE, DONE, FAILED)
    assert sum(s == MISSING for s in states.values()) == 7
    assert store.failures() == {c: "broken"}
    assert {r.id for r in store.records()} == {a, b}
    assert list(store.records([a])) == [record(a)]
    assert next(store.records([a], settings=False)).settings == {}
    store.move([a], "shards/s.tar", {a: "m"})
    assert list(store.records([a])) == [record(a, path="shards/s.tar", member="m")]
    store.forget([a, c])
    assert {r.id for r in store.records()} == {b}
    assert store.failures() == {}


def test_half_a_record_is_none(store, plan):
    bad = record(plan.clips[1].id, settings={"x": 1}, size={"not": "a number"})
    with pytest.raises(Exception, match=r"not supported|Error binding"):
        store.record([record(plan.clips[0].id), bad], {})
    assert list(store.records()) == []


def test_a_missing_an_empty_and_a_damaged_database_are_told_apart(tmp_path):
    with pytest.raises(InputError, match="holds no batch"):
        Store(tmp_path)
    with Store(tmp_path, create=True) as store:
        assert store.read_plan() is None
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / FILE).write_bytes(b"not a database at all" * 100)
    with Store(tmp_path / "x") as store, pytest.raises(StorageError, match="is damaged"):
        store.read_plan()


def test_a_newer_format_is_refused(store, tmp_path):
    connection = sqlite3.connect(tmp_path / FILE)
    connection.execute("UPDATE meta SET value = '99' WHERE key = 'format'")
    connection.commit()
    connection.close()
    with pytest.raises(InputError, match="format 99"):
        store.read_plan()


def test_a_full_disk_is_a_storage_error(store, plan):
    with store._transaction() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")
    with pytest.raises(StorageError, match="full; free some space"):
        store.record([record(plan.clips[0].id, settings={"x": "y" * 100_000})], {})
