"""Takes: which one is kept, that it is a clip like any other, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from musicgen_rl.audio.clip import Clip
from musicgen_rl.audio.io import read_audio, read_tags
from musicgen_rl.audio.tempo import hear_tempo, tempo_gap
from musicgen_rl.checkpoint import checkpoints_folder, read_info
from musicgen_rl.checkpoint.scorer import find_scorer
from musicgen_rl.errors import ConfigError, InputError, MemoryLimitError
from musicgen_rl.pipeline import GenerationConfig, Pipeline
from musicgen_rl.pipeline.files import generate_files
from musicgen_rl.pipeline.replay import compare, read_recipe, remake
from musicgen_rl.pipeline.takes import best_takes, choose
from musicgen_rl.rewards import load_scorer
from tests.audio.test_tempo import clicks
from tests.judged import save_judged


@pytest.fixture(scope="module")
def pipeline(tiny_folder):
    return Pipeline.load(tiny_folder, device="cpu", dtype="fp32")


def without_takes(clip):
    settings = {k: v for k, v in clip.settings.items() if k not in ("takes", "date")}
    return replace(clip, settings=settings)


def test_the_nearest_of_the_variations_is_kept_and_made_again_by_its_index(pipeline):
    kept = pipeline.generate("house, 124 bpm", duration_s=4.0, seed=7, takes=3, clips_per_prompt=2)
    every = pipeline.generate("house, 124 bpm", duration_s=4.0, seed=7, clips_per_prompt=6)
    heard = [hear_tempo(clip.samples, clip.sample_rate) for clip in every]
    gaps = [tempo_gap(bpm, 124.0) for bpm in heard]
    best = [min((0, 1, 2), key=gaps.__getitem__), min((3, 4, 5), key=gaps.__getitem__)]
    assert [clip.settings["index"] for clip in kept] == best
    for clip, index in zip(kept, best, strict=True):
        assert np.array_equal(clip.codes, every[index].codes)
        told = {"of": 3, "named_bpm": 124.0, "heard_bpm": round(heard[index], 1)}
        assert clip.settings["takes"] == told
        recipe = read_recipe(clip.settings)
        assert compare(recipe, remake(pipeline, recipe).codes, pipeline).identical


def test_takes_go_on_from_a_clip_and_are_drawn_as_asked(pipeline):
    t = np.arange(8000) / 8000
    source = Clip((0.3 * np.sin(2000 * t)).astype(np.float32), 8000)
    how = {"duration_s": 4.0, "seed": 7, "continue_from": source, "temperature": 0.5}
    (kept,) = pipeline.generate("house, 124 bpm", takes=2, **how)
    every = pipeline.generate("house, 124 bpm", clips_per_prompt=2, **how)
    same = [np.array_equal(clip.codes, kept.codes) for clip in every]
    assert same.index(True) == kept.settings["index"]
    assert kept.num_samples == 5 * 8000
    assert kept.settings["continued_from"] is not None
    assert kept.settings["sampling"]["temperature"] == 0.5


def test_one_take_is_no_takes(pipeline):
    (clip,) = pipeline.generate("house, 124 bpm", duration_s=0.3, seed=7, takes=1)
    assert "takes" not in clip.settings


def takes(*tempi, complete=None):
    """Make clips of clicks, all of them played to the end unless told otherwise."""
    whole = complete or [True] * len(tempi)
    return [
        Clip(clicks(bpm), 8000, {"complete": done, "index": i})
        for i, (bpm, done) in enumerate(zip(tempi, whole, strict=True))
    ]


def nearest(clips, bpm):
    return choose(clips, bpm, 8.0, None)


def test_the_take_at_the_tempo_named_is_kept():
    assert nearest(takes(80, 150, 125, 100), 126.0).settings["index"] == 2
    assert nearest(takes(80, 150, 110), 40.0).settings["index"] == 0  # its double
    assert nearest(takes(100, 100), 100.0).settings["index"] == 0
    kept = nearest(takes(125, 100, complete=[False, True]), 126.0)
    assert (kept.settings["index"], kept.settings["takes"]["of"]) == (1, 2)
    stopped = nearest(takes(100, 125, complete=[False, False]), 126.0)
    assert stopped.settings["index"] == 1


def test_what_a_clip_goes_on_from_is_not_counted():
    begun = [
        replace(clip, samples=np.concatenate([clicks(126), clip.samples], axis=1))
        for clip in takes(90, 125)
    ]
    assert nearest(begun, 126.0).settings["index"] == 1


def scorer_of(folder):
    return load_scorer(folder / "rewards" / "scorer-training")


def test_without_a_tempo_the_take_that_answers_its_words_best_is_kept(tmp_path):
    folder = save_judged(tmp_path / "judged")
    pipeline = Pipeline.load(folder, device="cpu", dtype="fp32")
    how = {"duration_s": 2.0, "seed": 7}
    kept = pipeline.generate("slow piano", takes=4, clips_per_prompt=2, **how)
    every = pipeline.generate("slow piano", clips_per_prompt=8, **how)
    mono = torch.from_numpy(np.concatenate([clip.samples for clip in every]))
    scorer = scorer_of(folder)
    scores = scorer.score(mono, 16000, ["slow piano"] * 8).numpy()
    best = [int(scores[:4].argmax()), 4 + int(scores[4:].argmax())]
    assert [clip.settings["index"] for clip in kept] == best
    for clip, index in zip(kept, best, strict=True):
        assert np.array_equal(clip.codes, every[index].codes)
        assert clip.settings["takes"] == {
            "of": 4, "score": round(float(scores[index]), 3),
            "scorer_sha256": scorer.identity.sha256,
        }  # fmt: skip


def test_what_was_asked_for_is_told_from_what_was_not_by_the_shipped_scorer():
    pocket = Pipeline.load("pocket", device="cpu")
    words = ["heavy metal with distorted guitars", "solo piano", "techno"]
    clips = pocket.generate(words, duration_s=4.0, seed=2, diversity=0.0, chords="none")
    for index, prompt in enumerate(words):
        asked = [
            replace(clip, settings=clip.settings | {"prompt": prompt, "index": number})
            for number, clip in enumerate(clips)
        ]
        kept = choose(asked, None, 4.0, pocket.chooser)
        assert kept.settings["index"] == index


def test_words_choose_among_takes_at_the_tempo_asked_for_alone(tmp_path):
    scorer = scorer_of(save_judged(tmp_path / "judged"))
    clips = [replace(c, settings=c.settings | {"prompt": "a"}) for c in takes(80, 125, 127, 126)]
    by_words = choose(clips, None, 8.0, scorer).settings
    kept = choose(clips, 126.0, 8.0, scorer).settings
    assert kept["index"] in (1, 2, 3)
    alone = [choose([clip], None, 8.0, scorer).settings["takes"]["score"] for clip in clips]
    assert by_words["index"] == int(np.argmax(alone))
    assert kept["takes"]["score"] == max(alone[1:])
    assert choose(clips, 200.0, 8.0, scorer).settings["index"] == 0  # none has it: the nearest


def test_a_take_that_was_stopped_before_it_could_be_heard_comes_last(tmp_path):
    scorer = scorer_of(save_judged(tmp_path / "judged"))
    clips = [
        Clip(clicks(100)[:, :samples], 8000, {"complete": False, "prompt": "a", "index": i})
        for i, samples in enumerate((400, 24000, 0))
    ]
    assert choose(clips, None, 8.0, scorer).settings["index"] == 1
    assert choose(clips[::2], None, 8.0, scorer).settings["index"] == 0


def test_an_end_of_a_dial_is_judged_by_its_bases_scorer(tiny_folder):
    pocket = checkpoints_folder() / "pocket"
    own = pocket / "rewards" / "scorer-training"
    assert find_scorer(read_info(pocket)) == own
    found = find_scorer(read_info(pocket / "quality"))
    assert found is not None
    assert found.resolve() == own.resolve()
    assert find_scorer(read_info(tiny_folder)) is None


def test_progress_counts_all_takes_and_a_stop_keeps_what_there_is(pipeline):
    seen = []
    pipeline.generate(
        ["a, 90 bpm", "b, 120 bpm"], duration_s=4.0, seed=1, takes=2,
        progress=lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    frames = pipeline.frames_of(GenerationConfig(duration_s=4.0))
    assert {total for _, total in seen} == {4 * frames}
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1][0] == 4 * frames
    asked = []

    def stop():
        asked.append(1)
        return len(asked) > frames

    found = pipeline.generate(["a, 90 bpm"] * 3, duration_s=4.0, seed=1, takes=2, stop=stop)
    assert len(found) == 1
    assert not found[0].settings["complete"]


def test_files_are_named_by_the_take_that_is_kept(pipeline, tmp_path):
    request = GenerationConfig(duration_s=4.0, seed=7, takes=3, clips_per_prompt=2)
    how = {"folder": tmp_path, "format": "flac"}
    prompts = ["house, 124 bpm"]
    paths = list(generate_files(pipeline, prompts, request, pipeline.info.sampling, **how))
    kept = pipeline.generate(prompts, duration_s=4.0, seed=7, takes=3, clips_per_prompt=2)
    indices = [clip.settings["index"] for clip in kept]
    assert [p.name for p in paths] == [f"house-124-bpm-s7-{i}.flac" for i in indices]
    assert sorted(tmp_path.iterdir()) == sorted(paths)  # the other takes leave nothing behind
    for path, clip in zip(paths, kept, strict=True):
        assert read_tags(path)["takes"] == clip.settings["takes"]
        assert np.abs(read_audio(path).samples - clip.samples).max() < 1e-3


@pytest.mark.parametrize(
    ("prompts", "options", "error", "says"),
    [
        (["house, 124 bpm", "slow piano"], {}, InputError, "'slow piano' does not name one"),
        (["slow piano"], {}, InputError, "tiny has no scorer .rewards/scorer-training."),
        (["90 bpm, then 120 bpm"], {}, InputError, "does not name one"),
        (["124 bpm"], {"duration_s": 3.9}, ConfigError, "at least 4 s"),
        (["124 bpm"], {"takes": 65}, ConfigError, "takes must be a whole number from 1 to 64"),
        (["124 bpm"], {"takes": 0}, ConfigError, "takes must be"),
        (["124 bpm"] * 500, {}, ConfigError, "at most 1000"),
    ],
)
def test_takes_of_which_none_could_be_chosen_are_refused(
    pipeline, tmp_path, prompts, options, error, says
):
    given = {"duration_s": 4.0, "takes": 3} | options
    with pytest.raises(error, match=says):
        pipeline.generate(prompts, **given)

    def make_files():
        how = {"folder": tmp_path / "new", "format": "wav"}
        list(generate_files(
            pipeline, prompts, GenerationConfig(**given), pipeline.info.sampling, **how
        ))  # fmt: skip

    with pytest.raises(error, match=says):
        make_files()
    assert not (tmp_path / "new").exists()


def test_takes_that_do_not_fit_in_memory_are_refused_before_any_is_made(pipeline, monkeypatch):
    monkeypatch.setattr("musicgen_rl.pipeline.devices.available_bytes", lambda device: 40_000_000)
    assert pipeline.generate("124 bpm", duration_s=4.0, takes=2, seed=1)
    monkeypatch.setattr(pipeline, "run", None)  # or this would be called
    request = GenerationConfig(duration_s=600.0, takes=64, seed=1)
    with pytest.raises(MemoryLimitError, match=r"64 takes side by side needs about .* fewer"):
        next(best_takes(pipeline, ["124 bpm"], request, pipeline.info.sampling))


def test_clips_too_short_to_tell_apart_are_refused(tmp_path):
    judged = Pipeline.load(save_judged(tmp_path / "judged"), device="cpu", dtype="fp32")
    with pytest.raises(ConfigError, match=r"cannot be heard in 1\.9 s.*at least 2 s"):
        judged.generate("slow piano", duration_s=1.9, takes=2)
