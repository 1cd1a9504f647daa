import os

import numpy as np
import pytest

from musicgen_rl.audio.io import read_audio, read_tags
from musicgen_rl.pipeline import GenerationConfig, Pipeline
from musicgen_rl.pipeline.files import generate_files
from tests.pipeline.test_core import RAW


@pytest.fixture(scope="module")
def pipeline(tiny_folder):
    return Pipeline.load(tiny_folder, device="cpu", dtype="fp32")


def make(pipeline, folder, prompts=("slow sad piano",), format="wav", **more):
    outer = {k: more.pop(k) for k in ("source", "stop", "progress") if k in more}
    request = GenerationConfig(**({"duration_s": 0.7, "seed": 3} | more))
    return list(
        generate_files(
            pipeline, list(prompts), request, pipeline.info.sampling,
            folder=folder, format=format, **outer,
        )
    )  # fmt: skip


@pytest.mark.parametrize("format", ["wav", "flac", "ogg", "mp3"])
def test_files_hold_the_clips_and_all_their_settings(pipeline, tmp_path, format):
    (path,) = make(pipeline, tmp_path, format=format)
    assert path.name == f"slow-sad-piano-s3-0.{format}"
    assert read_audio(path).num_samples == round(0.7 * 8000)
    (clip,) = pipeline.generate("slow sad piano", duration_s=0.7, seed=3)
    written = read_tags(path)
    assert {k: v for k, v in written.items() if k != "date"} == {
        k: v for k, v in clip.settings.items() if k != "date"
    }
    if format in ("wav", "flac"):
        assert np.abs(read_audio(path).samples - clip.samples).max() < 1e-3


def test_names_are_never_taken_twice(pipeline, tmp_path):
    first = make(pipeline, tmp_path, clips_per_prompt=2)
    second = make(pipeline, tmp_path, clips_per_prompt=2)
    assert [p.name for p in first] == ["slow-sad-piano-s3-0.wav", "slow-sad-piano-s3-1.wav"]
    assert [p.name for p in second] == ["slow-sad-piano-s3-0-2.wav", "slow-sad-piano-s3-1-2.wav"]
    assert len(os.listdir(tmp_path)) == 4


def test_a_stopped_clip_is_kept_and_says_so(pipeline, tmp_path):
    asked = []

    def stop():
        asked.append(1)
        return len(asked) > 50

    (path,) = make(pipeline, tmp_path, duration_s=5.0, stop=stop)
    assert path.name == "slow-sad-piano-s3-0-stopped.wav"
    assert read_tags(path)["complete"] is False
    assert 0.5 < read_audio(path).duration_s < 1.5


def test_stop_after_the_first_batch_keeps_its_files(pipeline, tmp_path):
    stopped = []
    made = []
    request = GenerationConfig(duration_s=0.3, seed=1, clips_per_prompt=4, max_batch=2)
    for path in generate_files(
        pipeline, ["drums"], request, pipeline.info.sampling, folder=tmp_path,
        stop=lambda: bool(stopped),
    ):  # fmt: skip
        made.append(path)
        stopped.append(1)
    assert len(made) == 2
    assert all(read_tags(p)["complete"] for p in made)
    assert len(os.listdir(tmp_path)) == 2


def test_going_on_from_a_file_starts_with_it(pipeline, tmp_path):
    (first,) = make(pipeline, tmp_path / "a", loudness=RAW)
    source = pipeline.read_source(first)
    (longer,) = make(pipeline, tmp_path / "b", source=source, seed=4, loudness=RAW)
    assert read_audio(longer).num_samples == 2 * round(0.7 * 8000)
    assert read_tags(longer)["continued_from"]["file"] == first.name
    (held,) = pipeline.generate(
        "slow sad piano", duration_s=0.7, seed=4, continue_from=first, loudness=RAW
    )
    assert np.abs(read_audio(longer).samples - held.samples).max() < 1e-3


def test_nothing_is_left_when_the_caller_walks_away(pipeline, tmp_path):
    request = GenerationConfig(duration_s=0.3, seed=1, clips_per_prompt=3)
    files = generate_files(pipeline, ["drums"], request, pipeline.info.sampling, folder=tmp_path)
    next(files)
    files.close()
    assert len(os.listdir(tmp_path)) == 1


def test_parts_are_heard_before_the_file_is_there(pipeline, tmp_path):
    heard = []

    def take(batch, part):
        heard.append((list(batch.indices), part.samples, list(tmp_path.glob("*.wav"))))

    raw = {"clips_per_prompt": 2, "duration_s": 1.1, "loudness": RAW}
    request = GenerationConfig(**(raw | {"seed": 3}))
    paths = list(
        generate_files(
            pipeline, ["drums"], request, pipeline.info.sampling,
            folder=tmp_path, part_frames=10, heard=take,
        )
    )  # fmt: skip
    assert len(heard) == 6  # 55 frames in tens
    assert all(indices == [0, 1] and not files for indices, _, files in heard)
    joined = np.concatenate([samples for _, samples, _ in heard], axis=-1)  # [2, 1, 8800]
    for path, samples in zip(paths, joined, strict=True):
        sound = read_audio(path).samples
        assert sound.shape == samples.shape
        # not levelled, but never clipped: the file may be the parts turned down
        gain = float((sound * samples).sum() / np.square(samples).sum())
        assert np.abs(sound - gain * samples).max() < 1e-3


def test_memory_that_runs_out_after_a_file_does_not_write_it_twice(pipeline, tmp_path, monkeypatch):
    from musicgen_rl.audio.spool import Spool

    real, finished = Spool.finish, []

    def tight(self, *args, **more):
        if finished:
            raise MemoryError
        finished.append(1)
        return real(self, *args, **more)

    monkeypatch.setattr(Spool, "finish", tight)
    with pytest.raises(MemoryError):
        make(pipeline, tmp_path, clips_per_prompt=2)
    assert os.listdir(tmp_path) == ["slow-sad-piano-s3-0.wav"]
