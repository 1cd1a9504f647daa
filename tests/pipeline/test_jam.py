"""The endless clip: moves take effect, leave no click, and make it again."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from musicgen_rl.audio.loudness import LoudnessConfig
from musicgen_rl.config import SamplingConfig
from musicgen_rl.errors import ConfigError, InputError
from musicgen_rl.pipeline import Pipeline
from musicgen_rl.pipeline.jam import KEEPS_S, Jam, decode_codes, play_again
from musicgen_rl.pipeline.moves import Move, read_moves
from musicgen_rl.pipeline.provenance import describe_codes
from musicgen_rl.pipeline.replay import check_holds, compare, read_recipe, remake
from tests.pipeline.test_tempo import write_beat

PLAIN = SamplingConfig(top_k=20)


@pytest.fixture(scope="module")
def pipeline(dial_folder):
    return Pipeline.load(dial_folder, device="cpu", dtype="fp32")


def begin(pipeline, **changes):
    options = {name: changes.pop(name) for name in ("policy", "begins") if name in changes}
    first = Move(**({"frame": 0, "prompt": "drums", "sampling": PLAIN, "diversity": 0.2} | changes))
    return Jam(pipeline, first, 7, **options)


def played(jam, *steps):
    """Advance by numbers, change by dicts; all samples."""
    sound = []
    for step in steps:
        if isinstance(step, dict):
            jam.change(**step)
        else:
            sound.append(jam.advance(step))
    return np.concatenate(sound, axis=1)


def test_a_jam_without_moves_is_the_clip_of_its_seed(pipeline):
    jam = begin(pipeline)
    played(jam, 10, 25, 15)
    (clip,) = pipeline.generate(
        "drums", duration_s=1.0, seed=7, diversity=0.2, top_k=20, temperature=1.0
    )
    # The clip ends there: padding takes the place of codes that its last two frames see.
    assert np.array_equal(jam.joined()[:, :48], clip.codes[:, :48])


@pytest.mark.parametrize(
    "change",
    [
        {"diversity": 0.9},
        {"prompt": "slow sad flute"},
        {"sampling": replace(PLAIN, guidance_scale=4.0)},
        {"sampling": replace(PLAIN, temperature=2.0)},
    ],
)
def test_a_change_keeps_the_past_and_is_heard_from_its_frame_on(pipeline, change):
    still, moved = begin(pipeline), begin(pipeline)
    played(still, 30, 60)
    played(moved, 30, change, 60)
    assert np.array_equal(still.joined()[:, :30], moved.joined()[:, :30])
    assert not np.array_equal(still.joined()[:, 30:45], moved.joined()[:, 30:45])
    assert [m.frame for m in moved.moves] == [0, 30]


def test_a_negative_prompt_can_be_taken_back(pipeline):
    guided = replace(PLAIN, guidance_scale=4.0)
    negative = replace(guided, negative_prompt="slow flute")
    back, never, kept = begin(pipeline, sampling=negative), None, begin(pipeline, sampling=negative)
    played(back, 5, {"sampling": guided}, 30)
    played(kept, 5, 30)
    assert not np.array_equal(back.joined(), kept.joined())
    never = begin(pipeline, sampling=negative)
    played(never, 5, {"sampling": guided}, 30)
    assert np.array_equal(back.joined(), never.joined())


def test_sound_across_a_move_is_that_of_the_codes_decoded_in_one_go(pipeline):
    jam = begin(pipeline)
    sound = played(jam, 20, {"diversity": 1.0}, 20, {"diversity": 0.0}, 40)
    whole = np.concatenate(list(decode_codes(pipeline, jam.joined())), axis=1)
    assert np.allclose(sound, whole[:, : sound.shape[1]], atol=1e-4)
    assert 0 < whole.shape[1] - sound.shape[1] <= 160 * pipeline.codec.context_frames[1]


def test_the_policies_differ_after_a_move_and_only_then(pipeline):
    kept, again = begin(pipeline, policy="keep"), begin(pipeline)
    for jam in (kept, again):
        played(jam, 60, {"diversity": 1.0}, 30)
    assert np.array_equal(kept.joined()[:, :60], again.joined()[:, :60])
    assert not np.array_equal(kept.joined()[:, 60:], again.joined()[:, 60:])


def test_jams_take_turns_without_hearing_each_other(pipeline):
    alone = begin(pipeline, diversity=0.9)
    played(alone, 20, 20, 20)
    one, two = begin(pipeline, diversity=0.9), begin(pipeline, diversity=0.1)
    for _ in range(3):
        played(one, 20)
        played(two, 20)
        pipeline.move(None)
    assert np.array_equal(one.joined(), alone.joined())


@pytest.mark.parametrize("policy", ["recompute", "keep"])
def test_a_jam_is_made_again_from_its_tags(pipeline, policy):
    jam = begin(pipeline, policy=policy)
    steps = (13, {"diversity": 0.8}, 7, {"prompt": "flute"}, 90, {"diversity": 0.1}, 31)
    played(jam, *steps)
    codes = jam.joined()
    settings = jam.settings(LoudnessConfig()) | describe_codes(codes, jam.frames)
    recipe = read_recipe(json.loads(json.dumps(settings)))
    again = remake(pipeline, recipe)
    assert compare(recipe, again.codes, pipeline).identical
    assert again.num_samples == codes.shape[1] * 160
    elsewhere = [replace(m, frame=m.frame + (m.frame > 0)) for m in recipe.moves]
    other = play_again(pipeline, elsewhere, 7, jam.frames, merge_method="lerp", policy=policy)
    assert not np.array_equal(np.concatenate(list(other), axis=1), codes)


def test_moves_at_one_frame_leave_one_and_none_leaves_none(pipeline):
    jam = begin(pipeline)
    played(jam, 10, {"diversity": 0.5}, {"diversity": 0.6}, {"diversity": 0.6}, {}, 5)
    assert [(m.frame, m.diversity) for m in jam.moves] == [(0, 0.2), (10, 0.6)]


def test_what_cannot_be_is_refused(pipeline, tiny_folder):
    plain = Pipeline.load(tiny_folder, device="cpu", dtype="fp32")
    with pytest.raises(ConfigError, match="no dial"):
        begin(plain)
    jam = begin(plain, diversity=None)
    with pytest.raises(ConfigError, match="no dial"):
        jam.change(diversity=0.5)
    with pytest.raises(InputError, match="empty"):
        jam.change(prompt=" ")
    with pytest.raises(ConfigError, match="forget"):
        begin(pipeline, policy="forget")
    assert len(jam.moves) == 1


@pytest.mark.parametrize(
    "stored",
    ["x", [], [{}], [{"frame": 3}], [1]],
)
def test_edited_moves_are_refused(stored):
    with pytest.raises(InputError):
        read_moves(stored)
    good = Move(frame=0, prompt="a", sampling=PLAIN).described()
    assert read_moves([good])[0].prompt == "a"
    with pytest.raises(InputError, match="in order"):
        read_moves([good, good])


def test_a_twin_moves_weights_of_its_own(dial_folder):
    first = Pipeline.load(dial_folder, device="cpu", dtype="fp32")
    first.move(0.3)
    twin = first.twin()
    expected = first.generate("drums", duration_s=0.3, seed=1, diversity=0.3)[0].codes
    twin.move(1.0)
    assert np.array_equal(
        first.generate("drums", duration_s=0.3, seed=1, diversity=0.3)[0].codes, expected
    )
    assert np.array_equal(
        twin.generate("drums", duration_s=0.3, seed=1, diversity=0.3)[0].codes, expected
    )
    assert twin._dial.ends() is first._dial.ends()


def test_an_int8_twin_is_the_same_model(dial_folder):
    try:
        first = Pipeline.load(dial_folder, device="cpu", dtype="int8")
    except ConfigError:
        pytest.skip("no int8 here")
    first.move(0.3)
    twin = first.twin()
    made = [
        p.generate("drums", duration_s=0.3, seed=1, diversity=lam)[0].codes
        for lam in (0.3, 0.8)
        for p in (first, twin)
    ]
    assert np.array_equal(made[0], made[1])
    assert np.array_equal(made[2], made[3])


def test_a_model_without_a_dial_shares_its_weights_with_its_twin(tiny_folder):
    first = Pipeline.load(tiny_folder, device="cpu", dtype="fp32")
    assert first.twin()._runners.model is first._runners.model


def test_the_first_part_may_be_shorter_than_the_others(pipeline):
    from musicgen_rl.pipeline import GenerationConfig

    request = GenerationConfig(duration_s=1.0, seed=1)
    (batch,) = pipeline.plan(["drums"], request, PLAIN)
    sizes = [
        part.codes.shape[-1] for part in pipeline.chunks(batch, request, PLAIN, frames=(5, 10, 20))
    ]
    assert sizes == [5, 10, 20, 15]


def test_a_jam_holds_the_tempo_of_the_moment_and_is_made_again(dial_folder, tmp_path):
    shutil.copytree(dial_folder, tmp_path / "held")
    write_beat(tmp_path / "held")
    pipeline = Pipeline.load(tmp_path / "held", device="cpu", dtype="fp32")
    moves = (
        20, {"prompt": "house, 124 bpm"}, 50, {"diversity": 0.9}, 45,
        {"prompt": "house, 90 bpm"}, 20, {"prompt": "house"}, 20,
    )  # fmt: skip
    jam = begin(pipeline)
    played(jam, *moves)  # longer than a window
    free = begin(Pipeline.load(dial_folder, device="cpu", dtype="fp32"))
    played(free, *moves)
    assert np.array_equal(jam.joined()[:, :20], free.joined()[:, :20])
    assert not np.array_equal(jam.joined(), free.joined())
    settings = jam.settings(LoudnessConfig()) | describe_codes(jam.joined(), jam.frames)
    recipe = read_recipe(json.loads(json.dumps(settings)))
    check_holds(recipe, pipeline.info)
    assert compare(recipe, remake(pipeline, recipe).codes, pipeline).identical
    old = {k: v for k, v in settings.items() if k != "beat_sha256"}  # before there was a beat
    old |= describe_codes(free.joined(), free.frames)
    recipe = read_recipe(old)
    assert compare(recipe, remake(pipeline, recipe).codes, pipeline).identical
    assert free.settings(LoudnessConfig())["beat_sha256"] == ""
    silent = begin(pipeline)
    played(silent, 10, {"diversity": 0.9}, 10)
    assert silent.settings(LoudnessConfig())["beat_sha256"] == ""  # no tempo, nothing to check


def test_a_new_prompt_is_guided_anew_and_a_move_of_the_dial_is_not(pipeline):
    early = replace(PLAIN, guidance_scale=3.0, guidance_s=0.1)  # 5 frames
    jam = begin(pipeline, sampling=early)
    rows = [jam._stream.rows]
    for step in (20, {"diversity": 0.9}, 20, {"prompt": "slow sad flute"}, 20):
        if isinstance(step, dict):
            jam.change(**step)
        else:
            jam.advance(step)
        rows.append(jam._stream.rows)
    assert rows == [2, 1, 1, 1, 2, 1]
    parts = play_again(
        pipeline, jam.moves, 7, jam.frames, merge_method="lerp", policy="recompute"
    )  # fmt: skip
    assert np.array_equal(np.concatenate(list(parts), axis=1), jam.joined())


@pytest.mark.parametrize(
    "between",
    [
        [{"prompt": "slow flute"}, {"prompt": "drums"}],
        [{"prompt": "slow flute"}, {"diversity": 0.9}, {"prompt": "drums"}],
        [{"sampling": PLAIN}, {"sampling": replace(PLAIN, guidance_scale=3.0, guidance_s=0.2)}],
        [{"prompt": "slow flute"}, {"prompt": "loud jazz"}],
    ],
)
@pytest.mark.parametrize("played_before", [0, 4, 30])
def test_what_was_taken_back_before_a_frame_was_made_guides_nothing(
    pipeline, between, played_before
):
    jam = begin(pipeline, sampling=replace(PLAIN, guidance_scale=3.0, guidance_s=0.2))
    jam.advance(played_before)
    for change in between:
        jam.change(**change)
    jam.advance(30)
    parts = play_again(
        pipeline, jam.moves, 7, jam.frames, merge_method="lerp", policy="recompute"
    )  # fmt: skip
    assert np.array_equal(np.concatenate(list(parts), axis=1), jam.joined())


def test_another_prompt_is_played_as_if_hardly_anything_had_been_before(pipeline):
    jams = [begin(pipeline, prompt=prompt) for prompt in ("drums", "slow sad piano")]
    for jam in jams:
        jam.advance(30)
        jam.change(prompt="loud jazz")
    assert not np.array_equal(jams[0].joined(), jams[1].joined())
    kept = [np.array(jam.joined()[:, -4:]) for jam in jams]
    jams[1]._stream._grid.copy_(jams[0]._stream._grid)  # the same last frames, whatever came before
    jams[1]._stream._grid[..., :26] = 0
    for jam in jams:
        jam.advance(20)
    assert np.array_equal(jams[0].joined()[:, 30:], jams[1].joined()[:, 30:])
    assert not np.array_equal(kept[0], kept[1])


def test_a_jam_from_before_anything_was_forgotten_hears_all_of_it(pipeline):
    older = begin(pipeline)
    older.keeps_s = None
    now = begin(pipeline)
    for jam in (older, now):
        jam.advance(30)
        jam.change(prompt="slow sad flute")
        jam.advance(40)
    assert np.array_equal(older.joined()[:, :30], now.joined()[:, :30])
    assert not np.array_equal(older.joined(), now.joined())
    for jam, keeps_s in ((older, None), (now, KEEPS_S)):
        parts = play_again(
            pipeline, jam.moves, 7, 70, merge_method="lerp", policy="recompute", keeps_s=keeps_s
        )  # fmt: skip
        assert np.array_equal(np.concatenate(list(parts), axis=1), jam.joined())
    told = older.settings(LoudnessConfig()) | describe_codes(older.joined(), 70)
    assert told.pop("keeps_s") is None  # which files from before lack
    recipe = read_recipe(json.loads(json.dumps(told)))
    assert compare(recipe, remake(pipeline, recipe).codes, pipeline).identical
    for wrong in (-1, "x", 1e9):
        with pytest.raises(InputError):
            read_recipe(told | {"keeps_s": wrong})
