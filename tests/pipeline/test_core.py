"""The pipeline on tiny random models: exact lengths, the same clip in any company, streams."""

import numpy as np
import pytest
import torch

from musicgen_rl.audio.clip import Clip
from musicgen_rl.audio.io import read_tags
from musicgen_rl.audio.loudness import LoudnessConfig, true_peak
from musicgen_rl.checkpoint import read_info
from musicgen_rl.errors import ConfigError, InputError, MemoryLimitError
from musicgen_rl.pipeline import Pipeline, devices
from musicgen_rl.pipeline.parts import load_codec_of
from musicgen_rl.pipeline.provenance import codes_hash
from musicgen_rl.pipeline.request import MAX_CLIPS

RAW = LoudnessConfig(enabled=False)


@pytest.fixture(scope="module")
def pipeline(tiny_folder):
    return Pipeline.load(tiny_folder, device="cpu", dtype="fp32")


@pytest.mark.parametrize("seconds", [0.05, 0.5, 1.2345, 3.0])
def test_exactly_the_length_asked_for(pipeline, seconds):
    (clip,) = pipeline.generate("slow sad piano", duration_s=seconds, seed=1)
    assert clip.num_samples == round(seconds * 8000)
    assert clip.sample_rate == 8000


def test_a_string_is_one_prompt_and_variations_come_together(pipeline):
    clips = pipeline.generate(["drums", "flute"], duration_s=0.3, seed=2, clips_per_prompt=2)
    assert [(c.settings["prompt"], c.settings["index"]) for c in clips] == [
        ("drums", 0), ("drums", 1), ("flute", 0), ("flute", 1),
    ]  # fmt: skip
    assert len({c.settings["codes_sha256"] for c in clips}) == 4
    assert len(pipeline.generate("drums", duration_s=0.1)) == 1


def test_clip_three_is_the_same_alone_and_among_eight(pipeline):
    eight = pipeline.generate("drums", duration_s=0.6, seed=7, clips_per_prompt=8)
    from musicgen_rl.pipeline.request import GenerationConfig

    request = GenerationConfig(duration_s=0.6, seed=7, first_index=3)
    (alone,) = pipeline.run(["drums"], request, pipeline.info.sampling)
    assert np.array_equal(alone.codes, eight[3].codes)
    assert np.allclose(alone.samples, eight[3].samples, atol=1e-5)


def test_the_batch_size_does_not_change_a_clip(pipeline):
    from musicgen_rl.pipeline.request import GenerationConfig

    made = []
    for most in (1, 3, 8):
        request = GenerationConfig(duration_s=0.4, seed=3, clips_per_prompt=5, max_batch=most)
        clips = pipeline.run(["a", "b c d"], request, pipeline.info.sampling)
        made.append([c.settings["codes_sha256"] for c in clips])
    assert made[0] == made[1] == made[2]
    assert len(set(made[0])) == 10


def test_a_drawn_seed_is_kept_and_makes_the_clip_again(pipeline):
    (first,) = pipeline.generate("drums", duration_s=0.3)
    (again,) = pipeline.generate("drums", duration_s=0.3, seed=first.settings["seed"])
    assert np.array_equal(first.samples, again.samples)


@pytest.mark.parametrize(
    "change",
    [
        {"temperature": 2.0},
        {"top_k": 2},
        {"top_p": 0.3},
        {"guidance_scale": 4.0},
        {"guidance_scale": 4.0, "negative_prompt": "noise"},
    ],
)
def test_every_sampling_option_is_heard(pipeline, change):
    (plain,) = pipeline.generate("drums", duration_s=0.6, seed=1, loudness=RAW)
    (changed,) = pipeline.generate("drums", duration_s=0.6, seed=1, loudness=RAW, **change)
    assert not np.array_equal(plain.codes, changed.codes)
    for name, value in change.items():
        assert changed.settings["sampling"][name] == value


def test_a_negative_prompt_differs_from_the_null_prompt(pipeline):
    a, b = (
        pipeline.generate("drums", duration_s=0.6, seed=1, guidance_scale=4.0, **more)[0]
        for more in ({}, {"negative_prompt": "noise"})
    )
    assert not np.array_equal(a.codes, b.codes)


def test_streamed_parts_join_to_the_clip_made_whole(pipeline):
    (whole,) = pipeline.generate("drums", duration_s=3.33, seed=4, loudness=RAW)
    parts = list(pipeline.stream("drums", duration_s=3.33, seed=4, loudness=RAW))
    joined = np.concatenate([p.samples for p in parts], axis=1)
    assert len(parts) > 5
    assert joined.shape == whole.samples.shape
    scale = min(1.0, LoudnessConfig().ceiling / true_peak(joined))  # the whole is never clipped
    assert (
        np.abs(joined * scale - whole.samples).max() < 1e-4
        or np.abs(joined - whole.samples).max() < 1e-4
    )
    assert parts[-1].settings["codes_sha256"] == whole.settings["codes_sha256"]


def test_a_clip_longer_than_the_window_is_made(pipeline):
    (clip,) = pipeline.generate("drums", duration_s=7.0, seed=1)  # the window is 2 s
    assert clip.num_samples == 56000
    assert clip.codes.shape == (3, 350)


def test_going_on_from_a_clip_keeps_it_and_adds_exactly_what_was_asked(pipeline):
    (first,) = pipeline.generate("drums", duration_s=1.5, seed=1, loudness=RAW)
    (longer,) = pipeline.generate(
        "drums", duration_s=1.0, seed=2, continue_from=first, loudness=RAW
    )
    assert longer.num_samples == 20000
    fade = round(0.03 * 8000)
    scale = longer.samples[0, 50] / first.samples[0, 50]  # never-clip may scale the whole
    untouched = 12000 - fade
    assert np.allclose(
        longer.samples[:, :untouched], first.samples[:, :untouched] * scale, atol=1e-5
    )
    (other,) = pipeline.generate("drums", duration_s=1.0, seed=2, loudness=RAW)
    assert not np.array_equal(other.codes, longer.codes)


def test_a_streamed_continuation_hands_out_only_the_new_music(pipeline):
    (first,) = pipeline.generate("drums", duration_s=1.5, seed=1)
    parts = list(pipeline.stream("drums", duration_s=1.0, seed=2, continue_from=first))
    assert sum(p.num_samples for p in parts) == 8000


def test_stop_keeps_what_is_finished(pipeline):
    asked = []

    def stop():
        asked.append(1)
        return len(asked) > 40

    (clip,) = pipeline.generate("drums", duration_s=3.0, seed=1, stop=stop)
    assert clip.settings["complete"] is False
    assert 0 < clip.duration_s < 1.0
    (whole,) = pipeline.generate("drums", duration_s=3.0, seed=1)
    assert whole.settings["complete"] is True
    assert np.array_equal(whole.codes[:, : clip.codes.shape[1]], clip.codes)


def test_stop_before_the_start_returns_nothing(pipeline):
    assert pipeline.generate("drums", duration_s=1.0, stop=lambda: True) == []


def test_progress_counts_frames_of_all_clips(pipeline):
    seen = []
    pipeline.generate(
        "drums",
        duration_s=0.5,
        seed=1,
        clips_per_prompt=3,
        progress=lambda a, b: seen.append((a, b)),
    )
    assert seen[-1] == (75, 75)
    assert len({made for made, _ in seen}) == 25  # at every step, three rows at a time


def test_settings_say_how_the_clip_was_made(pipeline):
    (clip,) = pipeline.generate("drums", duration_s=0.5, seed=9)
    s = clip.settings
    assert (s["prompt"], s["seed"], s["index"], s["duration_s"]) == ("drums", 9, 0, 0.5)
    assert (s["model"], s["weights_license"], s["dtype"]) == ("tiny", "Apache-2.0", "fp32")
    assert "made by a model" in s["made_by"]
    assert s["codes_sha256"] == codes_hash(clip.codes)
    assert len(s["model_sha256"]) == 64
    assert s["versions"]["torch"] == torch.__version__


def test_levelled_and_never_clipped(pipeline):
    (clip,) = pipeline.generate("drums", duration_s=2.0, seed=9)
    assert true_peak(clip.samples) <= LoudnessConfig().ceiling + 1e-3


def test_out_of_memory_halves_the_batch_and_goes_on(pipeline, monkeypatch):
    expected = pipeline.generate("drums", duration_s=0.3, seed=5, clips_per_prompt=6)
    real, sizes = Pipeline.chunks, []

    def tight(self, batch, *args, **more):
        sizes.append(len(batch.prompts))
        if len(batch.prompts) > 2:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp] not enough memory: you tried")
        return real(self, batch, *args, **more)

    monkeypatch.setattr(Pipeline, "chunks", tight)
    clips = pipeline.generate("drums", duration_s=0.3, seed=5, clips_per_prompt=6)
    assert sizes == [6, 3, 1, 2, 3, 1, 2]
    assert [c.settings["codes_sha256"] for c in clips] == [
        c.settings["codes_sha256"] for c in expected
    ]


def test_a_real_failed_allocation_is_told_from_other_errors():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(10**15)
    assert devices.is_out_of_memory(caught.value)
    assert not devices.is_out_of_memory(RuntimeError("shapes do not fit"))


def test_all_of_a_codec_goes_to_the_device(tiny_folder, tiny_musicgen_folder):
    for folder in (tiny_folder, tiny_musicgen_folder):
        codec = load_codec_of(read_info(folder), torch.device("meta"))
        net = getattr(codec, "model", codec)
        places = {t.device.type for t in (*net.parameters(), *net.buffers())}
        assert places == {"meta"}, folder.name


@pytest.mark.gpu
def test_every_kind_of_model_plays_on_a_gpu(tiny_folder, tiny_musicgen_folder):
    for folder in (tiny_folder, tiny_musicgen_folder):
        pipeline = Pipeline.load(folder, device="cuda")
        (clip,) = pipeline.generate("drums", duration_s=1.0, seed=1)
        (longer,) = pipeline.generate("drums", duration_s=0.5, seed=1, continue_from=clip)
        assert np.isfinite(longer.samples).all()


def test_one_clip_that_does_not_fit_is_an_error_before_the_work(pipeline, monkeypatch):
    monkeypatch.setattr(devices, "available_bytes", lambda device: 1_000_000)
    with pytest.raises(MemoryLimitError, match="make it shorter"):
        pipeline.generate("drums", duration_s=60.0)


@pytest.mark.parametrize(
    "bad",
    [
        {"duration_s": float("nan")}, {"duration_s": float("inf")}, {"duration_s": -1.0},
        {"duration_s": 0.0}, {"duration_s": 86400.0}, {"clips_per_prompt": 0},
        {"clips_per_prompt": MAX_CLIPS + 1}, {"seed": -1}, {"seed": 2**64}, {"seed": 1.5},
        {"temperature": float("nan")}, {"temperature": -1.0}, {"top_k": -1}, {"top_p": 0.0},
        {"top_p": 1.5}, {"guidance_scale": float("inf")}, {"negative_prompt": "x"},
        {"tempo": 3}, {"seed": True}, {"top_k": True}, {"top_k": 2.0}, {"duration_s": "3"},
        {"diversity": "high"}, {"guidance_scale": 3.0, "negative_prompt": 5}, {"loudness": -16},
        {"loudness": 0}, {"merge_method": 3, "diversity": 0.5},
    ],
)  # fmt: skip
def test_options_out_of_range_are_refused_by_name_and_value(pipeline, bad):
    with pytest.raises(ConfigError) as error:
        pipeline.generate("drums", **bad)
    name, value = next((n, v) for n, v in bad.items() if n != "guidance_scale" or len(bad) == 1)
    assert name.removeprefix("merge_").removesuffix("_s") in str(error.value)
    assert repr(value) in str(error.value) or value == "x" or name == "tempo"


def test_numpy_numbers_are_numbers(pipeline, tmp_path):
    options = {"temperature": np.float32(0.5), "guidance_scale": np.float32(2)}
    options |= {"top_k": np.int32(9), "seed": np.int64(3), "duration_s": np.float32(0.25)}
    (clip,) = pipeline.generate("drums", clips_per_prompt=np.int64(1), **options)
    plain = {name: value.item() for name, value in options.items()}
    (again,) = pipeline.generate("drums", **plain)
    undated = {"date": None}  # a second may have passed
    assert again.settings | undated == clip.settings | undated
    assert np.array_equal(again.codes, clip.codes)
    assert np.array_equal(again.samples, clip.samples)
    assert read_tags(clip.save(tmp_path / "a.wav"))["seed"] == 3


@pytest.mark.parametrize("source", [5, np.zeros(8000, np.float32), b"a.wav"])
def test_what_is_neither_a_clip_nor_a_path_cannot_be_gone_on_from(pipeline, source):
    with pytest.raises(InputError, match=type(source).__name__):
        pipeline.generate("drums", duration_s=0.1, continue_from=source)


@pytest.mark.parametrize(
    "prompt", ["", "  \n", "x" * 2001, [], ["ok", ""], "a\0b", "\ud800", 5, None, b"x", ["ok", 5]]
)
def test_prompts_that_cannot_be_are_refused(pipeline, prompt):
    with pytest.raises(InputError):
        pipeline.generate(prompt, duration_s=0.1)


def test_a_source_too_short_to_go_on_from_is_refused(pipeline):
    with pytest.raises(InputError, match=r"0\.01 s"):
        pipeline.generate("drums", continue_from=Clip(np.zeros(80, np.float32), 8000))


def test_a_source_of_another_rate_and_channels_is_converted(pipeline):
    t = np.arange(44100) / 44100
    tone = np.stack([np.sin(2 * np.pi * 440 * t)] * 2).astype(np.float32) * 0.3
    (clip,) = pipeline.generate("drums", duration_s=0.5, seed=1, continue_from=Clip(tone, 44100))
    assert clip.num_channels == 1
    assert clip.num_samples == 8000 + 4000


def test_int8_is_close_to_fp32_and_the_same_in_any_company(tiny_folder):
    if not devices.int8_available():
        pytest.skip("this CPU has no int8 kernels")
    quick = Pipeline.load(tiny_folder, device="cpu", dtype="int8")
    alone = quick.generate("drums", duration_s=0.5, seed=7)[0]
    among = quick.generate("drums", duration_s=0.5, seed=7, clips_per_prompt=4)[0]
    assert np.array_equal(alone.codes, among.codes)


def test_auto_chooses_something_that_is_right_here():
    cpu = torch.device("cpu")
    assert devices.choose_dtype("auto", cpu) in ("int8", "fp32")
    for bad in ("fp64", "int4"):
        with pytest.raises(ConfigError, match=bad):
            devices.choose_dtype(bad, cpu)
    with pytest.raises(ConfigError, match="tpu9"):
        devices.choose_device("tpu9")
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="no CUDA"):
            devices.choose_device("cuda")
