from dataclasses import replace

import pytest
import torch

from musicgen_rl.batch import Item, make_plan, plan
from musicgen_rl.batch.identity import ModelIdentity
from musicgen_rl.batch.plan import choose_workers, clip_id, difference, find_batch_size
from musicgen_rl.checkpoint import read_info
from musicgen_rl.config import SamplingConfig
from musicgen_rl.errors import ConfigError, InputError, ModelNotFoundError
from musicgen_rl.pipeline import devices
from tests.models import save_tiny
from tests.pretended_gpu import pretended_gpus

CPU = torch.device("cpu")


@pytest.fixture
def item(model):
    return Item(prompt="slow piano", duration_s=0.3, model=model)


def plan_of(*items, **options):
    return make_plan(items, **({"device": "cpu", "dtype": "fp32"} | options))


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": "slow pianos"}, {"seed": 1}, {"index": 1}, {"duration_s": 0.31},
        {"guidance_scale": 3.0},
        {"takes": 2, "duration_s": 4.0, "prompt": "124 bpm", "tempo_bpm": None},
        {"temperature": 0.9}, {"top_k": 7}, {"top_p": 0.5},
    ],
)  # fmt: skip
def test_everything_that_decides_the_sound_changes_the_id(item, change):
    assert plan_of(replace(item, **change)).ids != plan_of(item).ids


def test_where_guidance_ends_changes_the_id(item):
    guided = replace(item, guidance_scale=2.0)
    ids = {plan_of(replace(guided, guidance_s=s)).ids for s in (0.0, 0.1, 0.2)}
    assert len(ids) == 3
    assert plan_of(guided).ids == plan_of(replace(guided, guidance_s=0.0)).ids
    said = difference(plan_of(guided), plan_of(replace(guided, guidance_s=0.1)))
    assert said == ["guidance_s 0 -> 0.1"]


@pytest.mark.parametrize(
    "change", [{"diversity": 0.5}, {"merge_method": "slerp", "diversity": 0.4}]
)
def test_the_dial_changes_the_id(dial_folder, change):
    base = Item(prompt="p", diversity=0.4, model=str(dial_folder))
    assert plan_of(replace(base, **change)).ids != plan_of(base).ids


def test_the_ends_of_the_dial_count_only_on_the_dial(dial_folder, tmp_path):
    import shutil

    from musicgen_rl.checkpoint import load_state, save_model

    copy = tmp_path / "copy"
    shutil.copytree(dial_folder, copy)
    info = read_info(copy / "quality")
    state = {name: tensor + 0.01 for name, tensor in load_state(info).items()}
    save_model(copy / "quality", info, state, dtype=torch.float32)
    for diversity, same in ((None, True), (0.5, False)):
        ids = {
            plan_of(Item(prompt="p", diversity=diversity, model=str(m))).ids
            for m in (dial_folder, copy)
        }
        assert (len(ids) == 1) is same


def test_names_facts_and_the_place_of_the_model_do_not_change_the_id(item, tmp_path):
    import shutil

    shutil.copytree(item.model, tmp_path / "elsewhere")
    moved = replace(
        item, model=str(tmp_path / "elsewhere"), name="x", split="test", attributes={"a": 1}
    )
    assert plan_of(moved).ids == plan_of(item).ids


def test_other_weights_change_the_id(item, tmp_path):
    other = save_tiny(tmp_path / "other", seed=1)
    assert plan_of(replace(item, model=str(other))).ids != plan_of(item).ids


def test_a_default_that_is_named_gives_the_same_id(item, model):
    named = replace(item, top_k=read_info(__import__("pathlib").Path(model)).sampling.top_k)
    assert plan_of(named).ids == plan_of(item).ids


def test_which_gpu_is_kept_for_the_run_and_no_part_of_the_id(item):
    with pretended_gpus():
        some, second = (plan_of(item, device=device) for device in ("cuda", "cuda:1"))
    assert (some.device, second.device) == ("cuda", "cuda:1")
    assert some.ids == second.ids != plan_of(item).ids
    assert difference(some, second) == []
    assert difference(some, plan_of(item))[0] == "device cuda -> cpu"


def test_equal_sounds_are_planned_once_and_both_items_know_the_id(item):
    made = plan_of(item, replace(item, name="again"), replace(item, seed=2))
    assert len(made.clips) == 2
    assert made.ids[0] == made.ids[1] != made.ids[2]


def test_batches_hold_clips_of_one_setting_and_nothing_is_lost(model):
    items = [
        Item(prompt=f"p{i}", seed=i, duration_s=d, guidance_scale=g, model=model)
        for i in range(5) for d in (0.2, 0.3) for g in (1.0, 3.0)
    ]  # fmt: skip
    made = plan_of(*items, batch_size=3)
    batches = {}
    for clip in made.clips:
        batches.setdefault(clip.batch, []).append(clip)
    assert sorted(len(b) for b in batches.values()) == [2] * 4 + [3] * 4
    for rows in batches.values():
        assert len({(c.item.duration_s, c.sampling) for c in rows}) == 1
        assert [c.row for c in rows] == list(range(len(rows)))
    assert [c.position for c in made.clips] == list(range(20))
    assert {c.id for c in made.clips} == set(made.ids)


def test_what_clips_have_in_common_is_worked_out_once(model, monkeypatch):
    counted = []
    for name in ("sampling_at", "require_holds", "asdict"):
        real = getattr(plan, name)
        monkeypatch.setattr(
            plan, name, lambda *a, real=real, name=name, **k: counted.append(name) or real(*a, **k)
        )
    plan_of(*(Item(prompt=f"p{n}", temperature=0.123, model=model) for n in range(20)))
    assert counted.count("sampling_at") == counted.count("require_holds") == 1
    assert counted.count("asdict") <= 2  # of the sampling and of the loudness


def test_positions_of_the_dial_are_contiguous_so_each_is_merged_once(dial_folder):
    items = [
        Item(prompt=f"p{i}", diversity=d, model=str(dial_folder))
        for i in range(4) for d in (1.0, None, 0.0, 0.5)
    ]  # fmt: skip
    order = [c.item.diversity for c in plan_of(*items, batch_size=2).clips]
    assert order == [None] * 4 + [0.0] * 4 + [0.5] * 4 + [1.0] * 4


def test_guidance_is_off_on_the_dial_unless_named(dial_folder):
    on = Item(prompt="p", diversity=0.5, model=str(dial_folder))
    made = plan_of(on, replace(on, guidance_scale=2.0))
    assert sorted(c.sampling.guidance_scale for c in made.clips) == [1.0, 2.0]


def test_a_missing_dial_and_a_missing_model_are_said_before_any_work(item):
    with pytest.raises(ConfigError, match="has no dial"):
        plan_of(replace(item, diversity=0.5))
    with pytest.raises(ModelNotFoundError, match="no model"):
        plan_of(replace(item, model="nowhere"))
    with pytest.raises(InputError, match="nothing to make"):
        plan_of()
    with pytest.raises(ConfigError, match="batch_size"):
        plan_of(item, batch_size=-1)


def test_the_batch_is_as_large_as_pays_and_as_memory_allows(model, monkeypatch):
    info = read_info(__import__("pathlib").Path(model))
    short = (info, 1.0, SamplingConfig(), CPU, "fp32")
    assert find_batch_size(*short) == 16
    monkeypatch.setattr(plan, "_total_bytes", lambda _: 30 << 20)
    small = find_batch_size(*short)
    assert 1 < small < 16
    assert find_batch_size(info, 600.0, SamplingConfig(), CPU, "fp32") == 1


def test_beyond_the_models_window_a_clip_takes_no_more_memory_but_for_its_sound(model):
    info = read_info(__import__("pathlib").Path(model))
    window_s = info.window.frames / info.frame_rate
    sizes = [
        plan._clip_bytes(info, seconds * window_s, SamplingConfig(), CPU, "fp32")
        for seconds in (0.5, 1.0, 2.0, 3.0)
    ]
    sound = 16 * 96_000 * window_s * info.lm.audio_channels
    assert sizes[2] - sizes[1] == pytest.approx(sound, rel=1e-4)
    assert sizes[3] - sizes[2] == pytest.approx(sound, rel=1e-4)
    assert sizes[1] - sizes[0] > sound / 2


def test_a_run_that_pays_for_it_takes_a_process_for_each_core_as_memory_allows(
    plan, model, monkeypatch
):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    monkeypatch.setattr(devices, "available_bytes", lambda device: 10**12)
    many = make_plan(
        [Item(prompt="drums", seed=seed, duration_s=0.2, model=model) for seed in range(64)],
        device="cpu", dtype="fp32", batch_size=4,
    )  # fmt: skip
    everything = frozenset(many.ids)
    assert choose_workers(many, everything) == 4
    assert choose_workers(many, frozenset(c.id for c in many.clips[:40])) == 2
    assert choose_workers(many, frozenset(many.ids[:9])) == 1
    assert choose_workers(many, frozenset()) == 1
    assert choose_workers(plan, frozenset(plan.ids)) == 1
    assert choose_workers(replace(many, device="cuda"), everything) == 1
    monkeypatch.setattr(devices, "available_bytes", lambda device: 2 * 10**9)
    assert choose_workers(many, everything) == 2
    monkeypatch.setattr(devices, "available_bytes", lambda device: 10**6)
    assert choose_workers(many, everything) == 1


def test_the_date_is_the_reproducible_one_where_it_is_set(item, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000000000")
    assert plan_of(item).date == "2001-09-09T01:46:40+00:00"
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "soon")
    with pytest.raises(ConfigError, match="'soon'"):
        plan_of(item)


def test_the_difference_names_what_changed(item):
    before = plan_of(item, replace(item, prompt="b"))
    assert difference(before, plan_of(replace(item, prompt="b", name="x"), item)) == []
    assert difference(before, plan_of(item, replace(item, prompt="b"), batch_size=8)) == [
        "batch_size by itself -> 8"
    ]
    longer = [replace(item, duration_s=2.0), replace(item, prompt="b", duration_s=2.0)]
    assert difference(before, plan_of(*longer)) == ["duration_s 0.3 -> 2"]
    some = [replace(item, prompt=p, duration_s=s) for p, s in (("a", 2.0), ("b", 0.3), ("c", 0.3))]
    turned = [some[0], replace(some[1], duration_s=2.0), some[2]]
    assert difference(plan_of(*some), plan_of(*turned)) == ["duration_s of 1 prompt"]
    assert difference(before, plan_of(item, replace(item, prompt="c"), replace(item, seed=4))) == [
        "seed 0 -> 0, 4", "1 prompts added", "1 prompts removed", "2 clips -> 3",
    ]  # fmt: skip


def test_a_difference_lists_three_values_and_counts_the_others(item):
    before = plan_of(item)

    def seeds(*values):
        said = difference(before, plan_of(*(replace(item, seed=seed) for seed in values)))
        return next(s for s in said if s.startswith("seed"))

    assert seeds(1, 2, 3) == "seed 0 -> 1, 2, 3"
    assert seeds(1, 2, 3, 4, 5) == "seed 0 -> 1, 2, 3 and 2 more"


def test_changed_weights_behind_the_same_name_are_a_difference(item, tmp_path):
    import shutil

    shutil.copytree(item.model, tmp_path / "m")
    moved = replace(item, model=str(tmp_path / "m"))
    before = plan_of(moved)
    save_tiny(tmp_path / "m", seed=3)
    said = difference(before, plan_of(moved))
    assert any(f"the sha256 of model {tmp_path / 'm'} changed" in s for s in said)


@pytest.mark.parametrize(
    ("item", "sampling", "dtype", "id"),
    [
        (
            Item(prompt="slow sad piano", seed=7, index=2),
            SamplingConfig(guidance_scale=3.0), "fp32", "314abc8df7facb5e7d08",
        ),
        (
            Item(prompt="café", duration_s=5, diversity=0.5),
            SamplingConfig(), "int8", "c0fbc64d965b8a31208f",
        ),
    ],
)  # fmt: skip
def test_ids_are_those_of_runs_begun_before(item, sampling, dtype, id):
    """A run that goes on finds its clips by their ids: another way of hashing loses them all."""
    model = ModelIdentity(
        name="m", sha256="a" * 64, parts={"codec": "b" * 64, "text_encoder": "c" * 64},
        ends={"quality": "d" * 64, "diversity": "e" * 64},
        window={"frames": 1500, "keep_frames": 1000}, license="",
    )  # fmt: skip
    assert clip_id(item, sampling, model, "cpu", dtype) == id
