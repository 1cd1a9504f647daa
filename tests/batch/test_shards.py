import gc
import tarfile
import warnings

import pytest

from musicgen_rl.batch import read_results, run_batch, verify
from musicgen_rl.batch.shards import Sample, read_member, read_shard, shard_path, write_shard
from musicgen_rl.errors import InputError
from tests.batch.conftest import DATE, contents


def sample(key, sound=b"sound"):
    return Sample(key=key, extension="flac", sound=sound, caption="p ü", about={"seed": 1})


def test_a_shard_is_read_by_the_webdataset_library_itself(plan, pipelines, tmp_path):
    webdataset = pytest.importorskip("webdataset")
    run_batch(plan, tmp_path, container="tar", shard_size=4, pipelines=pipelines)
    url = str(tmp_path / "shards" / "shard-{000000..000002}.tar")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # the library leaves its files open
        found = list(webdataset.WebDataset(url, shardshuffle=False, empty_check=False))
        dataset = webdataset.WebDataset(url, shardshuffle=False, empty_check=False).decode()
        dataset = list(dataset)
        gc.collect()
    assert not (tmp_path / "clips").exists()  # where the files lay before they were packed
    results = read_results(tmp_path)
    assert [s["__key__"] for s in found] == [c.id for c in plan.clips]
    for raw, decoded in zip(found, dataset, strict=True):
        result = results[raw["__key__"]]
        assert decoded["txt"] == result.item.prompt
        assert decoded["json"]["codes_sha256"] == result.codes_sha256
        assert decoded["json"]["attributes"] == dict(result.item.attributes)
        assert raw["flac"] == read_member(result.path, result.member)


def test_the_bytes_of_a_shard_depend_on_its_samples_alone(tmp_path):
    for name in ("a.tar", "b.tar"):
        size = write_shard(tmp_path / name, iter([sample("x"), sample("y")]), DATE)
        assert size == (tmp_path / name).stat().st_size
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()
    with tarfile.open(tmp_path / "a.tar") as tar:
        assert tar.getnames() == ["x.flac", "x.json", "x.txt", "y.flac", "y.json", "y.txt"]
        assert {(m.mtime, m.uid, m.uname) for m in tar} == {(1795478400, 0, "")}


def test_a_damaged_shard_gives_what_is_whole(tmp_path):
    path = tmp_path / "s.tar"
    write_shard(path, iter([sample("x"), sample("y", b"z" * 3000)]), DATE)
    assert read_shard(path, (".flac",)) == {"x.flac": b"sound", "y.flac": b"z" * 3000}
    path.write_bytes(path.read_bytes()[:4096])
    assert read_shard(path, (".flac",)) == {"x.flac": b"sound"}
    with pytest.raises(InputError, match=r"'y.flac' cannot be read"):
        read_member(path, "y.flac")
    assert read_shard(tmp_path / "none.tar", (".flac",)) == {}


def test_clips_missing_from_a_shard_are_found_and_put_back(plan, pipelines, tmp_path):
    run_batch(plan, tmp_path, container="tar", shard_size=4, pipelines=pipelines)
    before = contents(tmp_path)
    shard = tmp_path / shard_path(1)
    with tarfile.open(shard) as tar:
        cut = tar.getmembers()[3].offset_data + 9  # in the sound of the second clip
    shard.write_bytes(shard.read_bytes()[:cut])
    faults = verify(tmp_path, repair=True)
    assert len(faults) == 3
    assert {f.cause for f in faults} == {"the file is gone"}
    again = run_batch(plan, tmp_path, container="tar", shard_size=4, pipelines=pipelines)
    assert again.made == len(faults)
    assert contents(tmp_path) == before


def test_a_shard_that_is_gone_is_made_again(plan, pipelines, tmp_path):
    run_batch(plan, tmp_path, container="tar", shard_size=4, pipelines=pipelines)
    before = contents(tmp_path)
    (tmp_path / shard_path(0)).unlink()
    again = run_batch(plan, tmp_path, container="tar", shard_size=4, pipelines=pipelines)
    assert (again.lost, again.made) == (4, 4)
    assert contents(tmp_path) == before
    assert shard_path(12) == "shards/shard-000012.tar"
