import shutil

import pytest

from musicgen_rl.audio.io import read_audio, write_clip
from musicgen_rl.batch import read_results, run_batch, verify
from musicgen_rl.batch.lock import only_run
from musicgen_rl.batch.store import Store
from musicgen_rl.errors import ConfigError
from tests.batch.conftest import contents


@pytest.fixture(scope="module")
def finished(plan, pipelines, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    run_batch(plan, folder, pipelines=pipelines)
    return folder


@pytest.fixture
def folder(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"


def test_a_whole_run_has_no_faults_and_all_clips_are_looked_at(folder, plan):
    seen = []
    assert verify(folder, progress=lambda done, total: seen.append((done, total))) == []
    assert seen[-1] == (10, 10)


def test_every_kind_of_fault_is_found_and_repaired(folder, plan, pipelines):
    before = contents(folder)
    results = list(read_results(folder).values())
    results[0].path.unlink()
    data = bytearray(results[1].path.read_bytes())
    data[-20] ^= 1
    results[1].path.write_bytes(data)
    results[2].path.write_bytes(b"x")
    results[3].path.write_bytes(results[4].path.read_bytes())
    faults = verify(folder)
    assert [f.id for f in faults] == [r.id for r in results[:4]]
    assert faults[0].cause == "the file is gone"
    assert faults[1].cause == "its bytes have changed"
    assert faults[2].cause.startswith("1 bytes instead of")
    assert verify(folder) == faults  # looking alone changes nothing
    assert verify(folder, repair=True) == faults
    summary = run_batch(plan, folder, pipelines=pipelines)
    assert summary.made == 4
    assert verify(folder) == []
    assert contents(folder) == before


def rewrite(folder, change):
    """Write another file and its hash into the record, as a faulty writer would."""
    import hashlib
    from dataclasses import replace

    with Store(folder) as store:
        record = next(store.records())
        path = folder / record.path
        clip = read_audio(path)
        write_clip(change(clip), path, overwrite=True)
        data = path.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        store.record([replace(record, size=len(data), file_sha256=digest)], {})


def test_a_file_of_another_length_is_found(folder):
    from dataclasses import replace

    rewrite(folder, lambda clip: replace(clip, samples=clip.samples[:, :-1]))
    assert verify(folder)[0].cause == "2399 samples instead of 2400"


def test_tags_of_another_clip_are_found(folder):
    from dataclasses import replace

    rewrite(folder, lambda clip: replace(clip, settings=clip.settings | {"seed": 99}))
    assert verify(folder)[0].cause == "its tags say seed 99 instead of 0"


def test_a_record_that_holds_no_sound_is_found(folder):
    import hashlib
    from dataclasses import replace

    with Store(folder) as store:
        record = next(store.records())
        (folder / record.path).write_bytes(b"noise")
        digest = hashlib.sha256(b"noise").hexdigest()
        store.record([replace(record, size=5, file_sha256=digest)], {})
    assert verify(folder)[0].cause.startswith("it does not open")


def test_what_is_not_made_yet_is_listed(plan, pipelines, tmp_path):
    seen = []
    run_batch(plan, tmp_path, pipelines=pipelines, progress=seen.append, stop=lambda: bool(seen))
    faults = verify(tmp_path)
    assert len(faults) == 10 - len(read_results(tmp_path)) > 0
    assert {f.cause for f in faults} == {"not made yet"}


def test_a_run_that_is_going_on_is_not_disturbed(folder):
    with only_run(folder), pytest.raises(ConfigError, match="another run"):
        verify(folder)
