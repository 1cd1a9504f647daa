"""The best of several takes in batches: the one that `generate` keeps, side by side with others."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from musicgen_rl.batch import Item, make_plan, read_results, run_batch
from musicgen_rl.batch.estimate import estimate
from musicgen_rl.batch.expand import Defaults, expand
from musicgen_rl.batch.plan import CPU_BATCH, difference
from musicgen_rl.batch.prompts import parse
from musicgen_rl.batch.work import jobs_of, side_by_side
from musicgen_rl.batch.worker import Setup, Worker
from musicgen_rl.checkpoint.scorer import SCORER
from musicgen_rl.errors import CheckpointError, ConfigError, InputError
from musicgen_rl.pipeline import Pipeline
from musicgen_rl.pipeline.replay import compare, read_recipe, remake
from tests.batch.conftest import DATE
from tests.judged import save_judged, save_scorer

S = 2.0


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    return str(save_judged(tmp_path_factory.mktemp("judged") / "m"))


@pytest.fixture(scope="module")
def pipeline(judged):
    return Pipeline.load(judged, device="cpu", dtype="fp32")


def plan_of(model, *wanted, **more):
    items = [
        Item(**({"prompt": "slow piano", "duration_s": S, "model": model} | w)) for w in wanted
    ]
    return make_plan(items, device="cpu", dtype="fp32", date=DATE, **more)


def made_by(plan, pipelines):
    worker = Worker(Setup.of(plan, "wav"), pipelines)
    everything = frozenset(clip.id for clip in plan.clips)
    failed: dict[str, str] = {}
    sounds = [s for job in jobs_of(plan.clips, everything) for s in worker.sounds(job, failed)[0]]
    assert not failed
    return {sound.planned.id: sound for sound in sounds}


def test_takes_of_one_item_stand_together_and_are_the_variations_that_generate_takes():
    items = [Item(prompt="a", takes=3, seed=7), Item(prompt="b", takes=3, seed=8, index=2)]
    found = side_by_side(items)
    assert list(found.prompts) == ["a"] * 3 + ["b"] * 3
    assert list(found.indices) == [0, 1, 2, 6, 7, 8]
    assert list(found.seeds or []) == [7] * 3 + [8] * 3
    assert items[1].request().first_index == 6


def test_the_take_is_kept_that_generate_keeps(judged, pipeline):
    asked = [{"seed": 7, "takes": 3, "index": i} for i in range(2)] + [{"seed": 9, "takes": 3}]
    plan = plan_of(judged, *asked)
    assert len({clip.batch for clip in plan.clips}) == 1
    made = made_by(plan, {judged: pipeline})
    kept = pipeline.generate("slow piano", duration_s=S, seed=7, takes=3, clips_per_prompt=2)
    kept += pipeline.generate("slow piano", duration_s=S, seed=9, takes=3)
    assert {clip.settings["index"] for clip in kept} != {0, 3}  # some other than the first
    for id, clip in zip(plan.ids, kept, strict=True):
        sound = made[id]
        assert sound.settings["index"] == clip.settings["index"]
        assert sound.settings["takes"] == pytest.approx(clip.settings["takes"], abs=2e-3)
        assert np.mean(sound.codes == clip.codes) > 0.9  # rounding depends on the batch's shape
        recipe = read_recipe(sound.settings)
        assert compare(recipe, remake(pipeline, recipe).codes, pipeline).identical


def test_takes_are_part_of_the_id_and_so_is_what_chooses(judged, tmp_path):
    (one,) = plan_of(judged, {}).ids
    (four,) = plan_of(judged, {"takes": 4}).ids
    assert len({one, four, *plan_of(judged, {"takes": 2}).ids}) == 3
    shutil.copytree(judged, tmp_path / "m")
    moved = plan_of(str(tmp_path / "m"), {"takes": 4}, {})
    assert moved.ids == (four, one)
    shutil.rmtree(tmp_path / "m" / SCORER)
    save_scorer(tmp_path / "m" / "rewards", "training")
    other = plan_of(str(tmp_path / "m"), {"takes": 4}, {})
    assert other.ids[0] != four
    assert other.ids[1] == one
    assert difference(moved, other) == [f"the scorer of model {tmp_path / 'm'} changed"]


def test_another_scorer_than_the_plans_is_refused(judged, tmp_path):
    shutil.copytree(judged, tmp_path / "m")
    model = str(tmp_path / "m")
    plan = plan_of(model, {"takes": 2})
    shutil.rmtree(tmp_path / "m" / SCORER)
    save_scorer(tmp_path / "m" / "rewards", "training")
    with pytest.raises(CheckpointError, match="whose scorer has sha256"):
        made_by(plan, {})


def test_batches_hold_as_many_rows_as_without_takes(judged):
    plan = plan_of(judged, *({"takes": 4, "seed": seed} for seed in range(CPU_BATCH)))
    sizes = [sum(clip.batch == number for clip in plan.clips) for number in range(4)]
    assert sizes == [CPU_BATCH // 4] * 4
    mixed = plan_of(judged, {"takes": 4}, {"takes": 2}, {})
    assert len({clip.batch for clip in mixed.clips}) == 3
    many = plan_of(judged, *({"takes": 64, "seed": seed} for seed in range(2)))
    assert len({clip.batch for clip in many.clips}) == 2


def test_a_run_makes_them_tells_them_and_is_whole(judged, pipeline, tmp_path):
    rows = parse(b"prompt,takes,n\nslow piano,3,2\ndrums,,1\n", "csv", "f")
    values = {"model": judged, "duration_s": S}
    items = expand(rows, Defaults(values=values))
    assert [(item.takes, item.index) for item in items] == [(3, 0), (3, 1), (1, 0)]
    plan = make_plan(items, device="cpu", dtype="fp32", date=DATE)
    summary = run_batch(plan, tmp_path / "out", pipelines={judged: pipeline})
    assert (summary.made, summary.missing) == (3, 0)
    results = read_results(tmp_path / "out")
    told = [results[id].settings.get("takes") for id in plan.ids]
    assert [t and t["of"] for t in told] == [3, 3, None]
    manifest = (tmp_path / "out" / "manifest.jsonl").read_text()
    assert manifest.count('"takes": 3') == 2
    again = run_batch(plan, tmp_path / "out", pipelines={judged: pipeline})
    assert (again.made, again.kept) == (0, 3)


def test_one_clip_whose_takes_do_not_fit_says_so(judged, pipeline, monkeypatch):
    plan = plan_of(judged, {"takes": 3})

    def short(*_, **__):
        raise MemoryError

    monkeypatch.setattr(Pipeline, "chunks", short)
    worker = Worker(Setup.of(plan, "wav"), {judged: pipeline})
    (job,) = jobs_of(plan.clips, frozenset(plan.ids))
    done = worker.make(job)
    assert "one clip in 3 takes does not fit in memory" in done.failed[plan.ids[0]]


def test_an_estimate_counts_what_is_kept(judged, pipeline):
    plan = plan_of(judged, {"takes": 3}, {"takes": 3, "seed": 1})
    found = estimate(plan, frozenset(plan.ids), pipeline, format="wav")
    assert (found.clips, found.audio_s) == (2, 2 * S)
    assert found.bytes < 2 * 16000 * 2 * S * 1.5


def test_takes_that_nothing_can_choose_are_refused(judged, model, tmp_path):
    plan = plan_of(model, {"prompt": "124 bpm", "tempo_bpm": None, "takes": 2, "duration_s": 4.0})
    assert plan.models[0].scorer == ""
    with pytest.raises(InputError, match="'slow piano' does not name one"):
        plan_of(model, {"takes": 2, "duration_s": 4.0})
    with pytest.raises(ConfigError, match=r"cannot be heard in 0\.5 s"):
        plan_of(judged, {"takes": 2, "duration_s": 0.5})
    for takes in (0, 65, 1.5):
        with pytest.raises(ConfigError, match="takes must be"):
            Item(prompt="x", takes=takes)
    with pytest.raises(InputError, match="takes takes a whole number"):
        parse(b"prompt,takes\na,many\n", "csv", "f")
    assert replace(Item(prompt="x"), takes=4).to_json() == {"prompt": "x", "takes": 4}
    assert not (Path(tmp_path) / "out").exists()
