import json
import tarfile
from dataclasses import replace

import numpy as np
import pytest

from musicgen_rl.audio.io import read_audio
from musicgen_rl.batch import Item, make_plan, read_results, run_batch, verify
from musicgen_rl.batch import writer as writers
from musicgen_rl.batch.expand import Defaults, expand
from musicgen_rl.batch.prompts import parse
from musicgen_rl.batch.run import RunOptions, adopt, left_of
from musicgen_rl.batch.store import Store
from musicgen_rl.data.manifest import read_manifest
from musicgen_rl.errors import ConfigError, InputError, StorageError
from musicgen_rl.pipeline import Pipeline
from musicgen_rl.pipeline.provenance import codes_hash
from musicgen_rl.pipeline.replay import compare, read_recipe, remake
from tests.batch.conftest import DATE, contents


@pytest.fixture(scope="module")
def made(plan, pipelines, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return folder, run_batch(plan, folder, pipelines=pipelines)


def test_every_clip_is_what_the_pipeline_makes(made, plan, pipelines, model):
    folder, summary = made
    assert (summary.total, summary.made, summary.kept, summary.missing) == (10, 10, 0, 0)
    assert summary.complete
    results = read_results(folder)
    clip = next(c for c in plan.clips if c.item.prompt == "ein Café")
    # Its batch holds four clips of 0.2 s; made together they are what the folder holds.
    rows = [c for c in plan.clips if c.batch == clip.batch]
    for other in rows:
        item = other.item
        (alone,) = pipelines[model].generate(
            item.prompt, duration_s=item.duration_s, seed=item.seed,
            clips_per_prompt=1, **item.named_sampling(),
        ) if item.index == 0 else [None]  # fmt: skip
        if alone is not None:
            assert codes_hash(alone.codes) == results[other.id].codes_sha256
            kept = read_audio(results[other.id].path)
            assert np.allclose(kept.samples, alone.samples, atol=2e-4)  # 16 bits


def test_tags_are_enough_to_make_a_clip_again(made, plan, pipelines, model):
    folder, _ = made
    for result in list(read_results(folder).values())[:3]:
        recipe = read_recipe(read_audio(result.path).settings)
        assert compare(recipe, remake(pipelines[model], recipe).codes, pipelines[model]).identical
        assert result.settings["date"] == DATE
        assert result.settings["item"] == result.id
        assert "codes_checks" not in result.settings


def test_the_same_call_again_makes_nothing(made, plan):
    folder, _ = made
    before = contents(folder)
    again = run_batch(plan, folder)  # and loads no model: none is given
    assert (again.made, again.kept, again.audio_s) == (0, 10, 0.0)
    assert contents(folder) == before


def test_the_manifest_is_one_that_training_reads(made, plan, model):
    folder, summary = made
    entries = read_manifest(summary.manifest)
    assert [e.attributes["id"] for e in entries] == [c.id for c in plan.clips]
    assert all((folder / e.audio).is_file() for e in entries)
    by_prompt = {e.captions[0]: e for e in entries}
    assert by_prompt["ein Café"].attributes["style"] == "pop"
    assert by_prompt["ein Café"].license == "Apache-2.0"
    assert len({e.piece for e in entries}) == 4


def test_facts_whose_names_the_run_needs_for_itself_are_kept(model, pipelines, tmp_path):
    text = b"id,name,index,given,style,prompt\nx,Foo,12,me,pop,drums\ny,,,her,,jazz\n"
    items = expand(parse(text, "csv", "f"), Defaults(values={"model": model, "duration_s": 0.2}))
    plan = make_plan(items, device="cpu", dtype="fp32")
    summary = run_batch(plan, tmp_path, pipelines=pipelines)
    first, second = (e.attributes for e in read_manifest(summary.manifest))
    assert (first["id"], first["name"], first["index"]) == (plan.ids[0], "x", 0)
    assert first["style"] == "pop"
    assert first["given"] == {"name": "Foo", "index": "12", "given": "me"}
    assert second["given"] == "her"  # nothing else stands under it


def test_the_parquet_manifest_says_the_same(made, plan):
    import pyarrow.parquet as pq

    folder, _ = made
    rows = pq.read_table(folder / "manifest.parquet").to_pylist()
    results = read_results(folder)
    assert [r["id"] for r in rows] == list(results)
    for row in rows:
        result = results[row["id"]]
        assert folder / row["audio"] == result.path
        assert row["file_sha256"] == result.file_sha256
        assert row["bytes"] == result.path.stat().st_size
        assert (row["seed"], row["index"]) == (result.item.seed, result.item.index)
        assert row["diversity"] is None


def test_the_summary_is_written(made):
    folder, summary = made
    kept = json.loads((folder / "summary.json").read_text())
    assert (kept["total"], kept["finished"], kept["missing"]) == (10, 10, 0)
    assert kept["calls"] == [summary.to_json()]  # later ones found nothing to do
    assert summary.frames == 6 * 15 + 4 * 10
    assert summary.audio_s == pytest.approx(2.6)


def test_a_changed_option_is_refused_with_the_difference(made, items, plan):
    folder, _ = made
    before = contents(folder)
    other = make_plan(
        [replace(i, temperature=0.5) for i in items], device="cpu", dtype="fp32", batch_size=4
    )
    with pytest.raises(ConfigError, match=r"another batch \(temperature 1 -> 0.5\): give the same"):
        run_batch(other, folder)
    with pytest.raises(ConfigError, match="format flac -> wav; shard_size 1000 -> 7"):
        run_batch(plan, folder, format="wav", shard_size=7)
    with pytest.raises(ConfigError, match="10 clips -> 9"):
        left_of(
            make_plan(items[:9], device="cpu", dtype="fp32", batch_size=4), folder, RunOptions()
        )
    assert contents(folder) == before


def shard_facts(folder):
    found = {}
    for path in sorted((folder / "shards").glob("*.tar")):
        with tarfile.open(path) as tar:
            for name in tar.getnames():
                if name.endswith(".json"):
                    found[name.removesuffix(".json")] = json.load(tar.extractfile(name))
    return found


def test_which_gpu_a_run_goes_on_with_is_as_asked_now(plan, tmp_path):
    asked = [replace(plan, device=f"cuda:{index}") for index in (1, 0)]
    with Store(tmp_path, create=True) as store:
        assert [adopt(a, tmp_path, store, RunOptions()).device for a in asked] == [
            "cuda:1", "cuda:0"
        ]  # fmt: skip
        with pytest.raises(ConfigError, match="device cuda -> cpu"):
            adopt(replace(plan, device="cpu"), tmp_path, store, RunOptions())


@pytest.mark.parametrize("container", ["folder", "tar"])
def test_names_splits_and_facts_of_the_last_call_hold(plan, items, pipelines, tmp_path, container):
    how = {"container": container, "shard_size": 4}
    first = run_batch(plan, tmp_path, pipelines=pipelines, **how)
    assert first.renamed == 0
    sounds = {id: r.file_sha256 for id, r in read_results(tmp_path).items()}
    edited = [
        replace(item, name="again", split="test", attributes={"mood": "low"})
        if item.prompt == "drums" else item
        for item in items
    ]  # fmt: skip
    changed = make_plan(edited, device="cpu", dtype="fp32", batch_size=4)
    summary = run_batch(changed, tmp_path, **how)  # loads no model: none is given
    assert (summary.made, summary.kept, summary.renamed) == (0, 10, 3)
    for entry in read_manifest(summary.manifest):
        mine = entry.captions == ("drums",)
        assert entry.split == ("test" if mine else "train")
        assert entry.attributes.get("mood") == ("low" if mine else None)
        assert (entry.attributes["name"] == "again") is mine
    if container == "tar":
        named = [id for id, about in shard_facts(tmp_path).items() if about["name"] == "again"]
        assert sorted(named) == sorted(c.id for c in plan.clips if c.item.prompt == "drums")
    assert {id: r.file_sha256 for id, r in read_results(tmp_path).items()} == sounds
    assert verify(tmp_path) == []
    again = run_batch(changed, tmp_path, **how)
    assert (again.made, again.renamed) == (0, 0)


def test_facts_that_changed_while_a_run_was_stopped_hold_for_all_its_clips(
    plan, items, pipelines, tmp_path
):
    seen = []
    run_batch(plan, tmp_path, pipelines=pipelines, progress=seen.append, stop=lambda: bool(seen))
    edited = [replace(item, split="valid") for item in items]
    changed = make_plan(edited, device="cpu", dtype="fp32", batch_size=4)
    summary = run_batch(changed, tmp_path, pipelines=pipelines)
    assert summary.complete
    assert {entry.split for entry in read_manifest(summary.manifest)} == {"valid"}


def test_shards_are_written_anew_before_the_plan_says_so(plan, items, pipelines, tmp_path,
                                                         monkeypatch):  # fmt: skip
    run_batch(plan, tmp_path, pipelines=pipelines, container="tar")
    edited = [replace(item, name=f"new {item.name}") for item in items]
    changed = make_plan(edited, device="cpu", dtype="fp32", batch_size=4)

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(writers, "write_shard", killed)
        with pytest.raises(KeyboardInterrupt):
            run_batch(changed, tmp_path, container="tar")
    assert run_batch(changed, tmp_path, container="tar").renamed == 10
    assert all(about["name"].startswith("new ") for about in shard_facts(tmp_path).values())


def test_a_damaged_shard_whose_facts_changed_is_mended_in_the_same_call(
    plan, items, pipelines, tmp_path
):
    run_batch(plan, tmp_path, pipelines=pipelines, container="tar")
    (shard,) = (tmp_path / "shards").iterdir()
    shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2])
    changed = make_plan(
        [replace(item, split="test") for item in items], device="cpu", dtype="fp32", batch_size=4
    )
    summary = run_batch(changed, tmp_path, pipelines=pipelines, container="tar")
    assert summary.complete
    assert 0 < summary.made < 10
    assert not (tmp_path / "clips").exists()
    assert verify(tmp_path) == []


@pytest.mark.parametrize("name", ["manifest.jsonl", "manifest.parquet", "summary.json"])
def test_what_is_no_batchs_is_not_written_over(plan, pipelines, tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(ConfigError, match=f"{name} is there already, and of no batch"):
        run_batch(plan, tmp_path, pipelines=pipelines)
    assert [p.name for p in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "mine"


def test_half_of_a_character_in_a_fact_does_not_cost_the_manifest(model, pipelines, tmp_path):
    item = Item(prompt="p", name="x \ud83d", duration_s=0.2, model=model,
                attributes={"title": "\ud83d"})  # fmt: skip
    plan = make_plan([item], device="cpu", dtype="fp32")
    summary = run_batch(plan, tmp_path, pipelines=pipelines)
    assert summary.complete
    (entry,) = read_manifest(summary.manifest)
    assert entry.attributes["title"] == "\ud83d"


def test_a_stopped_run_keeps_what_is_finished_and_goes_on(plan, pipelines, tmp_path):
    seen = []
    summary = run_batch(
        plan, tmp_path, pipelines=pipelines, progress=seen.append, stop=lambda: bool(seen)
    )
    assert not summary.complete
    assert summary.stopped == "asked to stop"
    assert 0 < summary.made < 10
    assert summary.made + summary.missing == 10
    assert left_of(plan, tmp_path, RunOptions()) == frozenset(
        c.id for c in plan.clips if c.id not in read_results(tmp_path)
    )
    assert run_batch(plan, tmp_path, pipelines=pipelines).kept == summary.made
    assert verify(tmp_path) == []


def test_progress_counts_clips_and_audio(plan, pipelines, tmp_path):
    seen = []
    run_batch(plan, tmp_path, pipelines=pipelines, progress=seen.append)
    assert [s.done for s in seen] == [4, 6, 10]
    assert seen[-1].left_audio_s == pytest.approx(0, abs=1e-9)
    assert seen[0].audio_s == pytest.approx(1.2)


def test_a_file_that_went_away_is_made_again(plan, pipelines, tmp_path):
    run_batch(plan, tmp_path, pipelines=pipelines)
    before = contents(tmp_path)
    results = list(read_results(tmp_path).values())
    results[2].path.unlink()
    results[5].path.write_bytes(b"short")
    again = run_batch(plan, tmp_path, pipelines=pipelines)
    assert (again.made, again.lost) == (2, 2)
    assert contents(tmp_path) == before


def test_a_full_disk_is_said_in_one_line_and_nothing_finished_is_lost(
    plan, pipelines, tmp_path, monkeypatch
):
    real, written = writers.write_whole, []

    def full(path, data, **options):
        if len(written) == 5:
            raise StorageError(f"cannot write {path.name}: the disk is full")
        written.append(path)
        return real(path, data, **options)

    with monkeypatch.context() as patched:
        patched.setattr(writers, "write_whole", full)
        with pytest.raises(StorageError, match=r"disk is full \(5 of 10 clips are finished"):
            run_batch(plan, tmp_path, pipelines=pipelines)
    assert len(read_results(tmp_path)) == 5
    assert run_batch(plan, tmp_path, pipelines=pipelines).made == 5


def test_clips_that_fail_are_listed_and_tried_again(plan, pipelines, tmp_path, monkeypatch):
    from musicgen_rl.batch import worker

    real = worker.level

    def broken(samples, rate, config):
        levelled = real(samples, rate, config)
        return levelled * np.nan if samples.shape[-1] == 1600 else levelled  # those of 0.2 s

    with monkeypatch.context() as patched:
        patched.setattr(worker, "level", broken)
        summary = run_batch(plan, tmp_path / "a", pipelines=pipelines)
        few = run_batch(plan, tmp_path / "b", pipelines=pipelines, max_failures=3)
    assert (summary.made, len(summary.failures), summary.missing) == (6, 4, 0)
    assert "finite" in summary.failures[0].cause
    assert summary.failures[0].name == "loud jazz"
    assert few.stopped == "4 clips failed, at most 3 may"
    assert run_batch(plan, tmp_path / "a", pipelines=pipelines).complete


def test_positions_of_the_dial_differ_and_each_is_merged_once(dial_folder, tmp_path, monkeypatch):
    model = str(dial_folder)
    items = [
        Item(prompt=f"p{i}", duration_s=0.2, diversity=d, model=model)
        for i in range(3) for d in (0.0, 0.5, 1.0)
    ]  # fmt: skip
    plan = make_plan(items, device="cpu", dtype="fp32", batch_size=2)
    pipeline = Pipeline.load(model, device="cpu", dtype="fp32")
    moves = []
    real = pipeline._dial._slider

    def counted(way):
        moves.append(way)
        return real(way)

    monkeypatch.setattr(pipeline._dial, "_slider", counted)
    run_batch(plan, tmp_path, pipelines={model: pipeline})
    assert len(moves) == 3
    results = read_results(tmp_path)
    for i in range(3):
        hashes = {results[plan.ids[3 * i + j]].codes_sha256 for j in range(3)}
        assert len(hashes) == 3
        alone = pipeline.generate(f"p{i}", duration_s=0.2, seed=0, diversity=0.5)[0]
        assert results[plan.ids[3 * i + 1]].codes_sha256 == codes_hash(alone.codes)
        assert results[plan.ids[3 * i + 1]].settings["diversity"] == 0.5


def test_several_models_in_one_plan(model, dial_folder, tmp_path):
    items = [
        Item(prompt="p", duration_s=0.2, model=m, seed=s)
        for s in range(2) for m in (model, str(dial_folder / "quality"))
    ]  # fmt: skip
    plan = make_plan(items, device="cpu", dtype="fp32")
    assert run_batch(plan, tmp_path).complete
    results = read_results(tmp_path)
    assert [results[i].settings["model_sha256"] for i in plan.ids[:2]] == [
        m.sha256 for m in plan.models
    ]
    assert results[plan.ids[0]].codes_sha256 != results[plan.ids[1]].codes_sha256


def test_loaded_pipelines_must_be_the_plans(plan, pipelines, model, tmp_path):
    with pytest.raises(ConfigError, match="serve one local worker"):
        run_batch(plan, tmp_path, pipelines=pipelines, workers=2)
    other = make_plan([Item(prompt="p", duration_s=0.2, model=model)], dtype="int8", device="cpu")
    with pytest.raises(ConfigError, match="plan is for int8"):
        run_batch(other, tmp_path, pipelines=pipelines)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"format": "aac"}, "unknown format 'aac'"),
        ({"container": "zip"}, "unknown container 'zip'"),
        ({"engine": "spark"}, "unknown engine 'spark'"),
        ({"workers": 0}, "workers must be"),
        ({"shard_size": 0}, "shard_size"),
        ({"max_failures": -1}, "max_failures"),
        ({"gpus_per_worker": -1}, "gpus_per_worker"),
        ({"gpus_per_worker": 0.5}, "gpus_per_worker 0.5 shares out a cluster.s GPUs: take engine"),
    ],
)
def test_options_that_cannot_work_are_refused_before_the_folder_is_made(
    plan, tmp_path, options, says
):
    with pytest.raises(ConfigError, match=says):
        run_batch(plan, tmp_path / "new", **options)
    assert not (tmp_path / "new").exists()


def test_a_folder_without_a_run_is_said(tmp_path):
    with pytest.raises(InputError, match="holds no batch"):
        read_results(tmp_path)
