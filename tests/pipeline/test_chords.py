"""Chords are held where some are asked for, change on the beat, and are found where they may be."""

import copy
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from app.service import JobRequest, Limits
from app.service.request import admit
from musicgen_rl.audio.clip import Clip
from musicgen_rl.audio.loudness import LoudnessConfig
from musicgen_rl.batch import Item, make_plan
from musicgen_rl.checkpoint import read_info
from musicgen_rl.checkpoint.holds import CHORD_SENSE, CHORDS, KEY_SENSE, load_chords, save_hold
from musicgen_rl.data.chords import Progression, read_progression
from musicgen_rl.data.keys import read_key
from musicgen_rl.data.progressions import PROGRESSIONS, in_key
from musicgen_rl.errors import CheckpointError, ConfigError, InputError
from musicgen_rl.lm.chords import ChordAdapter, chord_features
from musicgen_rl.merging.merge import merge_checkpoints
from musicgen_rl.merging.recipe import MergeConfig
from musicgen_rl.pipeline import GenerationConfig, Pipeline
from musicgen_rl.pipeline.holds import begins_with, held_to
from musicgen_rl.pipeline.moves import Begins
from musicgen_rl.pipeline.provenance import describe_codes
from musicgen_rl.pipeline.replay import check_holds, compare, read_recipe, remake
from tests.models import TINY_LM
from tests.pipeline.test_jam import begin, played
from tests.pipeline.test_key import write_key
from tests.pipeline.test_steady import write_sense
from tests.pipeline.test_tempo import codes, write_beat


def write_chords(folder, seed=0, width=TINY_LM.hidden_size):
    torch.manual_seed(seed)
    adapter = ChordAdapter(width, TINY_LM.num_layers)
    torch.nn.init.normal_(adapter.outer.weight, std=0.7)
    save_hold(CHORDS, adapter, folder, {"seed": seed})
    return folder


@pytest.fixture(scope="module")
def folder(dial_folder, tmp_path_factory):
    target = tmp_path_factory.mktemp("models") / "chords"
    shutil.copytree(dial_folder, target)
    write_sense(write_sense(write_key(write_beat(target))), hold=KEY_SENSE)
    return write_sense(write_chords(target), hold=CHORD_SENSE)


@pytest.fixture(scope="module", params=["fp32", "int8"])
def pipeline(folder, request):
    return Pipeline.load(folder, device="cpu", dtype=request.param)


@pytest.fixture(scope="module")
def quick(folder):
    return Pipeline.load(folder, device="cpu", dtype="int8")  # whose rows are alike to the bit


def held(pipeline, prompts="house", first_beat_s=None, **options):
    options = {"duration_s": 0.2, "seed": 7} | options
    if first_beat_s is None:
        return [clip.settings["chords"] for clip in pipeline.generate(prompts, **options)]
    source = pipeline.read_source(options.pop("continue_from"))
    request = GenerationConfig(first_beat_s=first_beat_s, **options)
    made = pipeline.run([prompts], request, pipeline.info.sampling, source=source)
    return [clip.settings["chords"] for clip in made]


def names(pipeline, prompts="house", **options):
    return [told and told["name"] for told in held(pipeline, prompts, **options)]


def test_chords_of_the_prompt_are_held_unless_they_are_switched_off(pipeline):
    prompt = "house with the chords Am F C G, 124 bpm"
    made = codes(pipeline, prompt)
    assert not np.array_equal(made, codes(pipeline, prompt, chords="none"))
    assert np.array_equal(made, codes(pipeline, prompt, chords="Am | F | C | G"))
    assert not np.array_equal(made, codes(pipeline, prompt, chords="Em F C G"))
    assert names(pipeline, prompt, tempo_bpm=0.0) == [None]


def test_chords_bring_a_tempo_with_them(quick):
    (clip,) = quick.generate("house", duration_s=0.2, seed=7, chords="Am F")
    (steady,) = quick.generate("house", duration_s=0.2, seed=7, steady=True)
    assert clip.settings["tempo"] == steady.settings["tempo"]
    for prompt, told in (("pads, no beat", True), ("house", True)):
        (one,) = quick.generate(prompt, duration_s=0.2, seed=7, chords="Am F")
        assert (one.settings["tempo"] is not None) == told
    with pytest.raises(ConfigError, match=r"chords \(Am F\) change on beats"):
        held(quick, chords="Am F", tempo_bpm=0)


def test_a_waltz_has_bars_of_three_and_an_order_stands_above_it(quick):
    def bars(prompt, **how):
        return [told["beats_per_bar"] for told in held(quick, prompt, chords="Am F", **how)]

    assert bars(["house", "a waltz", "piano in 3/4", "waltz in 4/4"]) == [4, 3, 3, 4]
    assert bars("a waltz", beats_per_bar=6) == [6]
    for wrong in (0, 17, 2.5):
        with pytest.raises(ConfigError, match="beats_per_bar"):
            bars("house", beats_per_bar=wrong)


def test_chords_are_found_in_the_key_of_the_clip(quick):
    for prompt, key in (("house in D minor", "D minor"), ("house in Eb", None)):
        (name,) = names(quick, prompt, chords="auto")
        home = read_key(key) if key else quick.holds.key.find(prompt, 7)
        first = Progression.of(*read_progression(name).sections[0].bars)
        assert first.name in {in_key(p, home.tonic).name for p in PROGRESSIONS}
    assert names(quick, chords="auto") == names(quick, chords="auto", key="auto")


def test_found_chords_are_told_in_place_of_the_key_and_others_beside_one_that_is_asked_for(quick):
    asked = (("house", "auto"), ("house in D minor", "auto"), ("house", "Am"),
             ("pads, no beat, in F major", "auto"))  # fmt: skip
    for chords, keys in (
        ("auto", [None, None, None, "F major"]),
        ("Em C G D", [None, "D minor", "A minor", "F major"]),
    ):
        told = [
            quick.generate(prompt, duration_s=0.2, seed=7, chords=chords, key=key)[0].settings
            for prompt, key in asked
        ]
        assert [each["key"] and each["key"]["name"] for each in told] == keys
        assert [each["chords"] is None for each in told] == [False] * 3 + [chords == "auto"]
    (clip,) = quick.generate("pads, no beat", duration_s=0.2, seed=7, chords="auto", key="auto")
    assert clip.settings["key"]["name"] == quick.holds.key.find("pads, no beat", 7).name


def test_variations_find_their_own_and_none_depends_on_its_company(quick):
    alone = [names(quick, p, clips_per_prompt=6, chords="auto") for p in ("house", "sad piano")]
    assert len(set(alone[0])) > 2
    together = ["house", "sad piano", "bells, chords Am F", "pads, no beat"]
    made = names(quick, together, clips_per_prompt=6, chords="auto")
    assert made == [*alone[0], *alone[1], *["Am F"] * 6, *[None] * 6]
    one = codes(quick, together, chords="auto")
    for prompt, made in zip(together, one, strict=True):
        assert np.array_equal(codes(quick, prompt, chords="auto"), made)


def test_the_tags_make_it_again_without_what_found_them(folder, pipeline, tmp_path):
    shutil.copytree(folder, tmp_path / "other")
    for hold in (KEY_SENSE, CHORD_SENSE):
        write_sense(tmp_path / "other", seed=1, hold=hold)
    other = Pipeline.load(tmp_path / "other", device="cpu", dtype=pipeline.dtype)
    for prompt, chords in (
        ("a waltz, 120 bpm", "auto"),
        ("house, chords Am F C G", None),
        ("bells", None),
    ):
        (clip,) = pipeline.generate(prompt, duration_s=3.0, seed=7, chords=chords, diversity=0.5)
        recipe = read_recipe(json.loads(json.dumps(clip.settings)))
        check_holds(recipe, other.info)
        assert remake(other, recipe).codes.tolist() == clip.codes.tolist()
    parts = list(pipeline.stream("house", duration_s=0.8, seed=7, chords="auto"))
    (clip,) = pipeline.generate("house", duration_s=0.8, seed=7, chords="auto")
    assert parts[-1].settings["codes_sha256"] == clip.settings["codes_sha256"]


ROUND = {"duration_s": 10.0, "seed": 7, "chords": "Am", "tempo_bpm": 240.0, "beats_per_bar": 1}


def test_what_was_played_over_the_chords_comes_back_as_strongly_as_is_said(quick):
    lag = round(4.0 * quick.info.frame_rate)

    def coming_back(returning):
        (clip,) = quick.generate("house", **ROUND, returning=returning)
        assert clip.settings["chords"]["returning"] == returning
        return float((clip.codes[:, lag:] == clip.codes[:, :-lag]).mean())

    assert coming_back(0.0) < coming_back(1.0) < coming_back(4.0)
    (usual,), (said,) = (
        quick.generate("house", **ROUND),
        quick.generate("house", **ROUND, returning=1),
    )
    assert np.array_equal(usual.codes, said.codes)
    none = ROUND | {"chords": "none"}
    (one,), (other,) = (quick.generate("house", **none, returning=r) for r in (0.0, 4.0))
    assert np.array_equal(one.codes, other.codes)
    with pytest.raises(ConfigError, match="returning must"):
        quick.generate("house", returning=4.5)


def test_a_clip_is_made_again_with_what_came_back_and_an_older_one_without(pipeline):
    for returning in (0.0, 1.5):
        (clip,) = pipeline.generate("house", **ROUND, returning=returning)
        settings = json.loads(json.dumps(clip.settings))
        if not returning:  # as tags were before anything was called back
            del settings["chords"]["returning"]
        recipe = read_recipe(settings)
        assert recipe.request.returning == returning
        assert remake(pipeline, recipe).codes.tolist() == clip.codes.tolist()


def test_clips_from_before_there_were_chords_are_made_again(pipeline):
    (clip,) = pipeline.generate("house in D minor, 124 bpm, chords Am F", duration_s=0.4, seed=7,
                                chords="none")  # fmt: skip
    recipe = read_recipe({k: v for k, v in clip.settings.items() if k != "chords"})
    assert compare(recipe, remake(pipeline, recipe).codes, pipeline).identical


def test_another_adapter_is_no_replay(folder, quick, tmp_path):
    (clip,) = quick.generate("house", duration_s=0.2, seed=7, chords="Am F")
    shutil.copytree(folder, tmp_path / "other")
    write_chords(tmp_path / "other", seed=1)
    with pytest.raises(CheckpointError, match=r"chords was held by chords\.safetensors of sha256"):
        check_holds(read_recipe(clip.settings), read_info(tmp_path / "other"))


@pytest.mark.parametrize(
    ("field", "value"),
    [("name", "sad"), ("name", 3), ("sha256", None), ("beats_per_bar", 0), ("beats_per_bar", "4")],
)
def test_edited_tags_are_named(quick, field, value):
    (clip,) = quick.generate("house", duration_s=0.2, seed=7, chords="Am F")
    settings = copy.deepcopy(clip.settings)
    settings["chords"][field] = value
    with pytest.raises(InputError, match="edited"):
        read_recipe(settings)


def test_models_that_cannot_are_named(dial_folder, folder, tmp_path):
    plain = Pipeline.load(dial_folder, device="cpu", dtype="fp32")
    assert names(plain, "house, chords Am F") == [None]
    with pytest.raises(ConfigError, match=r"cannot hold chords, so chords Am F .* chords\.safe"):
        names(plain, chords="Am F")
    with pytest.raises(ConfigError, match=r"so chords of 'auto' cannot be set: .* progression"):
        names(plain, chords="auto")
    shutil.copytree(dial_folder, tmp_path / "m")
    write_beat(write_chords(tmp_path / "m"))
    able = Pipeline.load(tmp_path / "m", device="cpu", dtype="fp32")
    with pytest.raises(ConfigError, match=r"lacks tempo\.safetensors; give a tempo too, or"):
        names(able, chords="Am F")
    assert names(able, chords="Am F", tempo_bpm=90.0) == ["Am F"]
    assert names(able, "90 bpm, chords Am F") == ["Am F"]
    assert names(able, "chords Am F") == [None]  # no beat, no change
    for info in (plain.info, able.info):
        assert held_to(info, "house, chords Am F", GenerationConfig()) == ""
    assert held_to(able.info, "90 bpm, chords Am F", GenerationConfig()) == (
        "90 bpm and the chords Am F"
    )


def test_it_is_said_in_words(folder):
    able = read_info(folder)
    assert held_to(able, "house", GenerationConfig(chords="Am F")) == (
        "a steady beat and the chords Am F"
    )
    auto = GenerationConfig(chords="auto", key="auto", steady=True)
    assert held_to(able, "house", auto) == "a steady beat and chords that go with it"
    assert held_to(able, "in D minor, 124 bpm", auto) == (
        "124 bpm, D minor and chords that go with it"
    )
    assert held_to(able, "house", auto, goes_on=True) == "a steady beat"
    assert held_to(able, "pads, no beat", auto) == "one key"


def test_what_goes_on_from_a_clip_goes_on_with_its_chords(quick, tmp_path):
    how = {"chords": "Am F C G", "tempo_bpm": 120.0}
    (clip,) = quick.generate("house", duration_s=1.05, seed=7, **how)  # two beats and a lead-in
    path = clip.save(tmp_path / "a.wav")
    for source in (clip, path):
        (told,) = held(quick, "bells", continue_from=source, chords="auto", tempo_bpm=120.0,
                       first_beat_s=0.0)  # fmt: skip
        assert (told["name"], told["passed"]) == ("Am F C G", 2)
    (told,) = held(quick, "bells", continue_from=clip, **how, first_beat_s=0.5)
    assert told["passed"] == 3
    (told,) = held(quick, "bells", continue_from=clip, chords="Am F C G", tempo_bpm=90.0)
    assert told["passed"] == 0  # another tempo has other bars
    (told,) = held(quick, "bells", continue_from=clip, chords="Dm G", tempo_bpm=120.0)
    assert (told["name"], told["passed"]) == ("Dm G", 0)
    for wrong in ({}, {"chords": {"name": "sad"}}, {"chords": {}}, {"chords": None}):
        other = Clip(clip.samples, clip.sample_rate, wrong)
        assert names(quick, "bells", continue_from=other, chords="auto", tempo_bpm=120.0) == [None]
    edited = clip.settings | {"chords": clip.settings["chords"] | {"passed": float("inf")}}
    other = Clip(clip.samples, clip.sample_rate, edited)
    assert names(quick, "bells", continue_from=other, chords="auto", tempo_bpm=120.0) == [None]
    (on,) = quick.generate("bells", duration_s=0.4, seed=7, continue_from=clip, chords="auto",
                           tempo_bpm=120.0)  # fmt: skip
    recipe = read_recipe(on.settings)
    again = remake(quick, recipe, source=quick.read_source(clip))
    assert again.codes.tolist() == on.codes.tolist()


def test_a_jam_keeps_its_chords_until_others_are_named_and_is_made_again(folder):
    pipeline = Pipeline.load(folder, device="cpu", dtype="fp32")
    chords = read_progression("Am F C G")
    moves = (20, {"prompt": "bells"}, 20, {"prompt": "house, chords Dm G"}, 20)
    kept, other, free = (
        begin(pipeline, begins=Begins(bpm=300.0, chords=what, beats_per_bar=1))
        for what in (chords, read_progression("Dm F"), None)
    )
    for jam in (kept, other, free):
        played(jam, *moves, {"prompt": "house"}, 20)
    made = [jam.joined() for jam in (kept, other, free)]
    assert not np.array_equal(made[0][:, :20], made[2][:, :20])
    assert not np.array_equal(made[0][:, :40], made[1][:, :40])
    assert not np.array_equal(made[0], made[2])
    settings = kept.settings(LoudnessConfig()) | describe_codes(made[0], kept.frames)
    assert (settings["steady_chords"], settings["beats_per_bar"]) == ("Am F C G", 1)
    assert settings["chords_sha256"] == pipeline.holds.chords.sha256
    assert free.settings(LoudnessConfig())["steady_chords"] is None
    recipe = read_recipe(json.loads(json.dumps(settings)))
    check_holds(recipe, pipeline.info)
    again = remake(pipeline, recipe)
    assert compare(recipe, again.codes, pipeline).identical
    undated = [{k: v for k, v in s.items() if k != "date"} for s in (again.settings, settings)]
    assert undated[0] == undated[1]  # so that what is made again can be made again
    for name, wrong in (
        ("steady_chords", "sad"),
        ("steady_chords", 3),
        ("beats_per_bar", 0),
        ("returning", 5.0),
        ("returning", "much"),
    ):
        with pytest.raises(InputError, match=name):
            read_recipe(settings | {name: wrong})
    old = {
        k: v
        for k, v in settings.items()
        if k not in ("steady_chords", "beats_per_bar", "returning")
    }
    assert read_recipe(old).begins.chords is None
    assert (recipe.begins.returning, read_recipe(old).begins.returning) == (1.0, 0.0)


def test_what_a_jam_played_over_its_chords_comes_back(folder):
    pipeline = Pipeline.load(folder, device="cpu", dtype="fp32")
    lag = round(4.0 * pipeline.info.frame_rate)

    def coming_back(returning):
        how = {"bpm": 240.0, "chords": read_progression("Am"), "beats_per_bar": 1}
        jam = begin(pipeline, begins=Begins(**how, returning=returning))
        played(jam, 3 * lag)
        made = jam.joined()
        return float((made[:, lag:] == made[:, :-lag]).mean())

    assert coming_back(0.0) < coming_back(1.0) < coming_back(4.0)


def test_a_jam_whose_prompt_names_a_key_lets_its_chords_go(folder):
    pipeline = Pipeline.load(folder, device="cpu", dtype="fp32")
    kept, bare = (
        begin(pipeline, begins=Begins(bpm=300.0, chords=chords, beats_per_bar=1))
        for chords in (read_progression("Am F C G"), None)
    )
    for jam in (kept, bare):
        played(jam, 20, {"prompt": "house in D minor"}, 20)
    told = [jam._holds.told(20, 20) for jam in (kept, bare)]
    assert torch.equal(*told)
    assert not torch.equal(*(jam._holds.told(0, 20) for jam in (kept, bare)))
    named = begin(pipeline, prompt="house in D minor",
                  begins=Begins(bpm=300.0, chords=read_progression("Dm F")))  # fmt: skip
    assert not torch.equal(named._holds.told(0, 20), bare._holds.told(0, 20))
    for jam in (kept, bare, named):
        jam.close()


def test_what_goes_on_from_a_stopped_clip_goes_on_in_the_bar_where_it_stopped(quick, tmp_path):
    steps = iter(range(10**6))
    how = {"chords": "Am F C G", "tempo_bpm": 120.0, "seed": 7}
    (cut,) = quick.generate("house", duration_s=30.0, stop=lambda: next(steps) > 80, **how)
    assert not cut.settings["complete"]
    assert cut.duration_s < 3.0
    path = cut.save(tmp_path / "cut.wav")
    (told,) = held(quick, "bells", continue_from=path, chords="auto", tempo_bpm=120.0,
                   first_beat_s=0.0)  # fmt: skip
    first_s = cut.settings["tempo"]["first_beat_s"]
    assert told["passed"] == round((cut.duration_s - first_s) * 2)


def test_orders_are_what_a_jam_begins_with(quick):
    def begun(prompt="house", **orders):
        return begins_with(quick.holds, prompt, 7, GenerationConfig(**orders))

    ordered = begun("a waltz", chords="Em C G D", key="auto")
    assert (ordered.chords, ordered.beats_per_bar) == (read_progression("Em C G D"), 3)
    assert ordered.bpm == quick.holds.tempo.find("a waltz", 7)
    assert ordered.key is None
    found = begun(chords="auto", key="auto")
    assert found.key is None
    assert found.chords == quick.holds.chords.find("house", 7, quick.holds.key.find("house", 7))
    assert begun(chords="auto", key="Am").key == read_key("A minor")
    assert found.bpm == quick.holds.tempo.find("house", 7)
    nothing = begun("pads, no beat", chords="auto")
    assert (nothing.bpm, nothing.chords) == (None, None)
    assert begun("pads, no beat", chords="auto", key="auto").key is not None
    for words in ("ambient pad, chords Am F C G", "waltz, chords Am F C G"):
        assert begun(words, chords="auto").bpm == quick.holds.tempo.find(words, 7)  # as a clip does
        assert begun(words, chords="none").bpm is None
    named = begun("house in D minor, 124 bpm", chords="auto")
    assert named.key is None
    assert named.chords == quick.holds.chords.find(
        "house in D minor, 124 bpm", 7, read_key("D minor")
    )
    assert CHORDS not in begun(chords="none").which
    assert CHORDS in begun().which


def test_an_end_alone_and_a_merge_hold_them_too(folder, tmp_path):
    on_dial = names(Pipeline.load(folder, device="cpu", dtype="fp32"), diversity=0.0, chords="auto")
    assert on_dial != [None]
    alone = Pipeline.load(folder / "quality", device="cpu", dtype="fp32")
    assert names(alone, chords="auto") == on_dial
    merge_checkpoints(
        folder / "quality", folder / "diversity", tmp_path / "merged", MergeConfig(lam=0.4)
    )
    merged = Pipeline.load(tmp_path / "merged", device="cpu", dtype="fp32")
    assert names(merged, chords="auto") == on_dial


def test_an_adapter_comes_back_from_disk_and_another_shape_is_named(tiny_folder, tmp_path):
    shutil.copytree(tiny_folder, tmp_path / "m")
    write_chords(tmp_path / "m")
    info = read_info(tmp_path / "m")
    torch.manual_seed(0)
    learnt = ChordAdapter(TINY_LM.hidden_size, TINY_LM.num_layers)
    torch.nn.init.normal_(learnt.outer.weight, std=0.7)
    told = chord_features(list(read_progression("Am F | G").bars[0]))[None]
    assert torch.allclose(load_chords(info)(told), learnt(told), atol=4e-3)  # 16 bits
    write_chords(tmp_path / "m", width=16)
    with pytest.raises(CheckpointError, match="was not trained for tiny"):
        load_chords(info)


def test_nothing_is_looked_for_where_nothing_is_to_be_found(quick, monkeypatch):
    looked = []

    def meaning(text, prompt):
        looked.append(prompt)
        return torch.ones(384)

    for module in ("key", "tempo", "chords"):
        monkeypatch.setattr(f"musicgen_rl.pipeline.{module}.meaning_of", meaning)
    names(quick, ["house", "house in D minor, 124 bpm", "90 bpm, chords Am F"])
    assert looked == []
    names(quick, "bells", chords="auto", tempo_bpm=90.0)
    assert set(looked) == {"bells"}


def test_held_clips_on_the_dial_begin_guided_alike_by_every_door(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "m")
    card = json.loads((tmp_path / "m" / "musicgen_rl.json").read_text())
    card["lead"] = {"quality_scale": 3.0, "diversity_scale": 2.0, "guidance_s": 0.1}
    (tmp_path / "m" / "musicgen_rl.json").write_text(json.dumps(card))
    pipeline = Pipeline.load(tmp_path / "m", device="cpu", dtype="int8")
    how = {"duration_s": 0.4, "seed": 7, "diversity": 0.5}
    (held,) = pipeline.generate("house", chords="auto", **how)
    drawn = held.settings["sampling"]
    assert (drawn["guidance_scale"], drawn["guidance_s"]) == (2.5, 0.1)
    (free,) = pipeline.generate("house", **how)
    assert free.settings["sampling"]["guidance_scale"] == 1.0
    (plain,) = pipeline.generate("house", chords="auto", guidance_scale=1.0, **how)
    assert not np.array_equal(held.codes, plain.codes)
    *_, last = pipeline.stream("house", chords="auto", **how)
    assert last.settings["codes_sha256"] == held.settings["codes_sha256"]
    item = Item(prompt="house", chords="auto", tempo_bpm=None, model=str(tmp_path / "m"), **how)
    plan = make_plan([item, replace(item, chords="none")], device="cpu", dtype="int8")
    assert sorted(c.sampling.guidance_scale for c in plan.clips) == [1.0, 2.5]
    admitted = admit(
        JobRequest(prompt="house", chords="auto", diversity=0.5), Limits(), pipeline.info
    )
    assert admitted.sampling.guidance_scale == 2.5
    recipe = read_recipe(held.settings)
    assert compare(recipe, remake(pipeline, recipe).codes, pipeline).identical
