"""Clips for a study: alike in everything but their sound, and refused where they cannot be."""

import json
import os
import re
import shutil
import wave

import numpy as np
import pytest
import soundfile
from safetensors.torch import load_file, save_file

from musicgen_rl.audio.clip import Clip
from musicgen_rl.audio.loudness import integrated_loudness, true_peak
from musicgen_rl.errors import InputError
from musicgen_rl.evaluation.listening_clips import (
    CEILING_DB,
    find_audio,
    make_clips,
    match_loudness,
    refuse_silence,
    shape,
    treat,
)
from musicgen_rl.listening.assignment import ClipKey, required_clips
from musicgen_rl.listening.clips import load_clips
from musicgen_rl.listening.origin import WEIGHTS_FILE
from musicgen_rl.listening.study import Arm, ClipRules
from tests.listening.stored import planned
from tests.listening.studies import MUSHRA, PAIR

RATE = 16000
RULES = ClipRules(duration_s=1.0, sample_rate=RATE)


def tone(level=0.1, seconds=1.0, rate=RATE, hz=440.0, channels=1):
    time = np.arange(round(seconds * rate)) / rate
    return np.tile((level * np.sin(2 * np.pi * hz * time)).astype(np.float32), (channels, 1))


def write(folder, name, samples, rate=RATE):
    folder.mkdir(parents=True, exist_ok=True)
    soundfile.write(folder / name, samples.T, rate, subtype="PCM_16")


@pytest.fixture
def study(tmp_path):
    """Three arms of files: quiet and mono, loud and stereo at another rate, and noise."""
    folder = tmp_path / "s"
    rng = np.random.default_rng(0)
    for prompt in range(1, 5):
        write(folder / "a", f"{prompt:03d}-1.wav", tone(0.02, 1.2, hz=200 + 50 * prompt))
        loud = tone(0.5, 1.5, 44100, 300 + 40 * prompt, channels=2)
        write(folder / "b", f"{prompt}-1.flac", loud, 44100)
        noise = (0.05 * rng.normal(size=(1, RATE))).astype(np.float32)
        write(folder / "c", f"{prompt}-1.wav", noise)
    rules = {"count": 2, "practice": 0, "attention_checks": 2, "repeats": 0,
             "minimum_listening_s": 0}  # fmt: skip
    questions = [PAIR | {"prompts": 4}, MUSHRA | {"prompts": 2}]
    arms = {"plain": {"audio": "a"}, "varied": {"audio": "b"}, "ideal": {"audio": "c"}}
    return planned(folder, arms=arms, reference="ideal", questions=questions, raters=rules,
                   practice_prompts=[], clips={"duration_s": 1.0, "sample_rate": RATE})  # fmt: skip


def test_all_clips_are_of_one_size_form_loudness_and_time_under_random_names(study):
    make_clips(study)
    paths = sorted((study.folder / "clips").iterdir())
    wanted = required_clips(study.assignment)
    assert len(paths) == len(wanted)
    assert {path.stat().st_size for path in paths} == {44 + 2 * RATE}
    assert len({path.stat().st_mtime for path in paths}) == 1
    assert all(len(path.stem) == 16 and set(path.stem) <= set("0123456789abcdef") for path in paths)
    store = load_clips(study.folder, study.study, wanted)
    # Checks and anchors too: who hears a louder page would know which one is a check.
    assert {key.treatment for key in wanted} == {"", "damaged", "low", "mid"}
    levels = {integrated_loudness(store.samples(k).T.astype(np.float32) / 32767, RATE)
              for k in wanted}  # fmt: skip
    assert max(levels) - min(levels) < 0.1
    assert max(levels) == pytest.approx(study.study.clips.target_lufs, abs=0.1)
    assert os.stat(study.folder / "key.json").st_mode & 0o077 == 0


def test_making_again_leaves_no_clip_of_before(study):
    make_clips(study)
    before = {path.name for path in (study.folder / "clips").iterdir()}
    make_clips(study)
    after = {path.name for path in (study.folder / "clips").iterdir()}
    assert len(after) == len(before)
    assert not after & before


def test_a_model_makes_what_no_folder_holds(tmp_path, dial_folder):
    arms = {"quality": {"model": str(dial_folder), "diversity": 0.0},
            "diverse": {"model": str(dial_folder), "diversity": 1.0}}  # fmt: skip
    rules = {"count": 2, "practice": 0, "attention_checks": 0, "repeats": 0,
             "minimum_listening_s": 0}  # fmt: skip
    plan = planned(tmp_path / "s", arms=arms, questions=[PAIR | {"prompts": 1}], raters=rules,
                   practice_prompts=[])  # fmt: skip
    said = []
    make_clips(plan, device="cpu", say=said.append)
    store = load_clips(plan.folder, plan.study, required_clips(plan.assignment))
    first, second = (store.samples(key) for key in store.by_key)
    assert first.shape == second.shape == (4000, 1)
    assert (first != second).any()
    assert said[0] == "making 2 clips"


def of_models(folder, model, **changes):
    """Plan a study whose arms are both ends of a dial."""
    arms = {"quality": {"model": str(model), "diversity": 0.0},
            "diverse": {"model": str(model), "diversity": 1.0}}  # fmt: skip
    rules = {"count": 2, "practice": 0, "attention_checks": 0, "repeats": 0,
             "minimum_listening_s": 0}  # fmt: skip
    return planned(folder, **({"arms": arms, "questions": [PAIR | {"prompts": 1}], "raters": rules,
                               "practice_prompts": []} | changes))  # fmt: skip


def test_a_study_that_is_planned_anew_makes_its_clips_beside_those_of_before(tmp_path, dial_folder):
    plan = of_models(tmp_path / "s", dial_folder)
    with pytest.raises(InputError, match=r"0 of 2 clips are made, it was stopped"):
        make_clips(plan, device="cpu", stop=lambda: True)
    longer = of_models(plan.folder, dial_folder, clips={"duration_s": 0.6, "sample_rate": 8000})
    make_clips(longer, device="cpu")
    wanted = required_clips(longer.assignment)
    store = load_clips(longer.folder, longer.study, wanted)
    assert {store.samples(key).shape for key in wanted} == {(4800, 1)}
    assert len(list(plan.folder.glob("batch-*"))) == 2
    # Back to the first plan, the second one's clips do not pass for its own.
    back = of_models(plan.folder, dial_folder)
    make_clips(back, device="cpu")
    assert len(list(plan.folder.glob("batch-*"))) == 2
    with pytest.raises(InputError, match="before the clip rules of the study were changed"):
        load_clips(longer.folder, longer.study, wanted)


def test_a_batch_begun_in_the_plain_folder_is_gone_on_with(tmp_path, dial_folder):
    plan = of_models(tmp_path / "s", dial_folder)
    make_clips(plan, device="cpu")
    (made,) = plan.folder.glob("batch-*")
    made.rename(plan.folder / "batch")
    make_clips(plan, device="cpu")
    assert [path.name for path in plan.folder.glob("batch*")] == ["batch"]


def with_other_weights(model, part="."):
    """Put the weights of another checkpoint into a model's folder."""
    path = model / part / "model.safetensors"
    tensors = load_file(path)
    save_file({name: tensor * 1.01 for name, tensor in tensors.items()}, path)


@pytest.mark.parametrize(
    ("part", "settings", "named"),
    [
        (".", ("temperature", 0.9, 1.3), "decoder"),
        ("diversity", ("diversity", 0.0, 1.0), "diversity end"),
    ],
)
@pytest.mark.parametrize("stopped", [True, False])
def test_a_model_that_was_replaced_under_its_name_is_refused(
    tmp_path, dial_folder, part, settings, named, stopped
):
    model = shutil.copytree(dial_folder, tmp_path / "model")
    setting, *values = settings
    arms = {name: {"model": str(model), setting: value}
            for name, value in zip(("one", "two"), values, strict=True)}  # fmt: skip
    plan = of_models(tmp_path / "s", model, arms=arms)
    if stopped:
        with pytest.raises(InputError, match="it was stopped"):
            make_clips(plan, device="cpu", stop=lambda: True)
    else:
        make_clips(plan, device="cpu")
    files = sorted(plan.folder.rglob("*"))
    with_other_weights(model, part)
    words = rf"^the model '{model}' is not the one .* its {named} had sha256 .* delete '.*\.json'"
    rules = {"duration_s": 0.6, "sample_rate": 8000}
    for again in (of_models(plan.folder, model, arms=arms, clips=rules),
                  of_models(plan.folder, model, arms=arms)):  # fmt: skip
        with pytest.raises(InputError, match=words):
            make_clips(again, device="cpu")
    assert sorted(plan.folder.rglob("*")) == files
    (plan.folder / WEIGHTS_FILE).unlink()  # the way out
    for _ in range(2):
        make_clips(plan, device="cpu")
    assert len(list(plan.folder.glob("batch-*"))) == 2


def test_a_study_begun_before_weights_were_written_down_goes_on(tmp_path, dial_folder):
    plan = of_models(tmp_path / "s", dial_folder)
    with pytest.raises(InputError, match="it was stopped"):
        make_clips(plan, device="cpu", stop=lambda: True)
    (plan.folder / WEIGHTS_FILE).unlink()
    make_clips(plan, device="cpu")
    assert len(list(plan.folder.glob("batch-*"))) == 1
    assert set(json.loads((plan.folder / WEIGHTS_FILE).read_text())) == {str(dial_folder)}


def test_a_key_of_an_earlier_version_fits_the_study_it_names(study):
    path = make_clips(study)
    wanted = required_clips(study.assignment)
    key = json.loads(path.read_text())
    del key["made_for"]
    path.write_text(json.dumps(key | {"study": study.study.digest()}))
    assert len(load_clips(study.folder, study.study, wanted).by_key) == len(wanted)
    path.write_text(json.dumps(key | {"study": "another"}))
    with pytest.raises(InputError, match=r"before the contents of the study .* listen make"):
        load_clips(study.folder, study.study, wanted)


def test_files_are_found_by_prompt_and_clip_whatever_their_zeros(tmp_path):
    for name in ("1-1.wav", "002-1.wav", "2-02.flac", "notes.txt", "x-1.wav", "3-1-1.wav"):
        write(tmp_path / "a", name, tone()) if not name.endswith("txt") else None
    arm = Arm(name="a", audio="a")
    found = find_audio(arm, [("a", 0, 0), ("a", 1, 0), ("a", 1, 1)], tmp_path)
    assert [path.name for path in found.values()] == ["1-1.wav", "002-1.wav", "2-02.flac"]
    with pytest.raises(InputError, match=r"lacks 1 of 2 clips .* first is 003-1\.wav"):
        find_audio(arm, [("a", 0, 0), ("a", 2, 0)], tmp_path)
    write(tmp_path / "a", "01-1.wav", tone())
    with pytest.raises(InputError, match=r"01-1\.wav and 1-1\.wav are both clip 1 of prompt 1"):
        find_audio(arm, [("a", 0, 0)], tmp_path)
    with pytest.raises(InputError, match="there is no folder"):
        find_audio(Arm(name="b", audio="none"), [], tmp_path)


def test_a_clip_is_cut_resampled_folded_and_faded(tmp_path):
    stereo = Clip(np.concatenate([tone(0.2, 2.0, 48000), tone(0.4, 2.0, 48000)]), 48000)
    made = shape(stereo, RULES, tmp_path)
    assert made.shape == (1, RATE)
    assert np.abs(made).max() == pytest.approx(0.3, rel=0.02)  # the mean of both sides
    assert made[0, 0] == made[0, -1] == 0
    wide = shape(Clip(tone(), RATE), ClipRules(duration_s=1.0, sample_rate=RATE, channels=2),
                 tmp_path)  # fmt: skip
    assert wide.shape == (2, RATE)
    assert (wide[0] == wide[1]).all()
    with pytest.raises(InputError, match=r"lasts 0\.50 s, the study needs 1 s"):
        shape(Clip(tone(seconds=0.5), RATE), RULES, tmp_path)


def test_silence_is_refused(tmp_path):
    with pytest.raises(InputError, match="silent for 100 %"):
        refuse_silence(np.zeros((1, RATE), np.float32), RATE, tmp_path)
    mostly = tone()
    mostly[:, : int(0.6 * RATE)] = 0
    with pytest.raises(InputError, match="silent for 60 %"):
        refuse_silence(mostly, RATE, tmp_path)
    half = tone()
    half[:, : int(0.4 * RATE)] = 0
    refuse_silence(half, RATE, tmp_path)


def test_loudness_is_lowered_for_all_where_one_clip_would_pass_the_ceiling():
    peaky = tone(0.01)
    peaky[0, 8000] = 0.9  # so little room that -20 LUFS cannot be
    clips = {ClipKey("a", 0): tone(0.3), ClipKey("b", 4): peaky}
    levelled, target, cause = match_loudness(clips, RULES)
    assert target < RULES.target_lufs - 3
    assert cause == ClipKey("b", 4)
    peaks = []
    for samples in levelled.values():
        assert integrated_loudness(samples, RATE) == pytest.approx(target, abs=0.1)
        peaks.append(20 * np.log10(true_peak(samples)))
    assert max(peaks) == pytest.approx(CEILING_DB, abs=0.01)  # no lower than needed
    _, target, cause = match_loudness({ClipKey("a", 0): tone(0.3)}, RULES)
    assert (target, cause) == (RULES.target_lufs, None)


def test_which_clip_lowers_the_loudness_of_all_is_said(study):
    peaky = tone(0.01, 1.2)
    peaky[0, 8000] = 0.9
    write(study.folder / "a", "003-1.wav", peaky)
    said = []
    make_clips(study, say=said.append)
    assert re.fullmatch(
        r"loudness lowered from -20 to -[23]\d\.\d LUFS for all clips: the peaks of clip 1 of "
        r"prompt 3 of 'plain' allow no more", said[-1]
    )  # fmt: skip
    target = json.loads((study.folder / "key.json").read_text())["made"]["target_lufs"]
    assert f" to {target:.1f} LUFS" in said[-1]


def test_an_anchor_of_which_nothing_is_left_is_named():
    with pytest.raises(InputError, match=r"clip 1 of prompt 2 of 'a' \(low\) is silent"):
        match_loudness({ClipKey("a", 1, 0, "low"): np.zeros((1, RATE), np.float32)}, RULES)


def test_anchors_are_low_passed_and_a_check_is_plainly_broken():
    rate = 32000
    low, mid, high = (tone(0.1, 1.0, rate, hz) for hz in (1000, 5000, 10000))
    sound = low + mid + high

    def left(treatment, hz):
        spectrum = np.abs(np.fft.rfft(treat(sound, treatment, rate)[0]))
        return spectrum[hz] / np.abs(np.fft.rfft(sound[0]))[hz]  # one bin a Hz

    assert left("low", 1000) == pytest.approx(1, abs=0.01)
    assert left("low", 5000) < 0.01
    assert left("mid", 5000) == pytest.approx(1, abs=0.02)
    assert left("mid", 10000) < 0.01
    assert (treat(sound, "", rate) == sound).all()
    broken = treat(sound, "damaged", rate)
    likeness = np.corrcoef(broken[0], sound[0])[0, 1]
    assert 0.2 < likeness < 0.7  # still the same piece, but far from it
    assert np.abs(broken).max() <= 1
    # Never what forbids the target: its peaks stand low over its loudness, whatever it was made of.
    peaky = tone(0.01, rate=rate)
    peaky[0, 8000] = 0.9
    for made_of in (sound, peaky):
        broken = treat(made_of, "damaged", rate)
        room = CEILING_DB - 20 * np.log10(true_peak(broken))
        assert integrated_loudness(broken, rate) + room > RULES.target_lufs + 3


def test_a_short_file_stops_the_making_and_leaves_no_key(study):
    write(study.folder / "a", "002-1.wav", tone(seconds=0.4))
    with pytest.raises(InputError, match=r"002-1\.wav' lasts 0\.40 s"):
        make_clips(study)
    assert not (study.folder / "key.json").exists()


def test_wav_files_hold_a_header_of_44_bytes_and_samples(study):
    make_clips(study)
    path = next((study.folder / "clips").iterdir())
    assert path.read_bytes()[36:40] == b"data"
    with wave.open(str(path)) as file:
        assert (file.getnchannels(), file.getframerate(), file.getsampwidth()) == (1, RATE, 2)
