import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file

from musicgen_rl.codec.load import load_codec
from musicgen_rl.config import field_help
from musicgen_rl.errors import CheckpointError, ConfigError, InputError
from musicgen_rl.training.checkpointing import load_training_state, save_training_state
from musicgen_rl.training.codec import (
    CodecRun,
    CodecTrainConfig,
    next_crops,
    start_run,
    train_codec,
    train_step,
)
from musicgen_rl.training.codec_crops import AudioPool, fixed_crops, read_split
from musicgen_rl.training.codec_report import chroma_correlation
from musicgen_rl.training.codec_start import start_codec
from tests.codec.tiny import TINY, sine


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Chords of sines with a little noise, six files of three seconds."""
    rows = []
    random = np.random.default_rng(0)
    for i in range(6):
        tones = [sine(110.0 * 2 ** (k / 12), 3.0, 8000, 0.2) for k in random.integers(0, 30, 3)]
        samples = torch.stack(tones).sum(0).numpy() + random.normal(0, 0.003, 24000)
        soundfile.write(tmp_path / f"{i}.wav", samples, 8000)
        split = "valid" if i == 5 else "train"
        rows.append({"audio": f"{i}.wav", "caption": "a chord", "split": split})
    path = tmp_path / "manifest.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def settings(manifest: Path, folder: Path, **changes: object) -> CodecTrainConfig:
    config = CodecTrainConfig(
        manifest=str(manifest), folder=str(folder), steps=8, batch_size=2, crop_s=0.4,
        quantize_after=3, warmup_steps=2, valid_every=4, save_every_s=0.0, codec=TINY,
    )  # fmt: skip
    return replace(config, **changes)  # type: ignore[arg-type]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "codec" / "model.safetensors")


def test_a_run_ends_with_a_codec_that_loads_and_metrics(manifest: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert train_codec(settings(manifest, folder)) == folder / "codec"
    codec = load_codec(folder / "codec")
    assert codec.decode(codec.encode(torch.randn(1, 1, 1600))).shape == (1, 1, 1600)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if row["kind"] == "valid"] == [4, 8]
    last = [row for row in rows if row["kind"] == "train"][-1]
    assert last["learning_rate"] < 1e-4
    assert {"loss", "pitch", "mel_2048", "commitment", "replaced", "seconds"} <= last.keys()


def begin(config: CodecTrainConfig) -> tuple[CodecRun, AudioPool]:
    run = CodecRun(config)
    pool = AudioPool(read_split(Path(config.manifest), "train"), 8000, config.crop_samples)
    start_run(run, pool)
    run.save()
    return run, pool


def test_a_run_cut_short_and_resumed_is_the_run_made_whole(manifest: Path, tmp_path: Path) -> None:
    run, pool = begin(settings(manifest, tmp_path / "cut"))
    shutil.copytree(tmp_path / "cut", tmp_path / "whole")
    train_codec(settings(manifest, tmp_path / "whole"))
    for _ in range(5):
        train_step(run, next_crops(run, pool))
    run.save()
    torch.rand(17)  # whatever else the process drew must not matter
    train_codec(settings(manifest, tmp_path / "cut"))
    whole, cut = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert whole.keys() == cut.keys()
    assert all(torch.equal(whole[name], cut[name]) for name in whole)
    assert not torch.equal(whole["tone_head.weight"], torch.zeros_like(whole["tone_head.weight"]))


@pytest.mark.slow
def test_a_run_that_is_stopped_goes_on_to_the_same_codec(manifest: Path, tmp_path: Path) -> None:
    begin(settings(manifest, tmp_path / "cut"))
    shutil.copytree(tmp_path / "cut", tmp_path / "whole")
    train_codec(settings(manifest, tmp_path / "whole"))
    asked = iter([False, False, True])
    assert train_codec(settings(manifest, tmp_path / "cut"), stop=lambda: next(asked)) is None
    assert not (tmp_path / "cut" / "codec").exists()
    assert train_codec(settings(manifest, tmp_path / "cut")) == tmp_path / "cut" / "codec"
    whole, cut = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


def test_kill_minus_nine_changes_nothing(manifest: Path, tmp_path: Path) -> None:
    begin(settings(manifest, tmp_path / "whole", steps=30))
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    train_codec(settings(manifest, tmp_path / "whole", steps=30))
    program = (
        "import sys, json, torch; torch.set_num_threads(1)\n"
        "from tests.training.test_codec import settings\n"
        "from musicgen_rl.training.codec import train_codec\n"
        "from pathlib import Path\n"
        "train_codec(settings(Path(sys.argv[1]), Path(sys.argv[2]), steps=30))\n"
    )
    command = [sys.executable, "-c", program, str(manifest), str(tmp_path / "cut")]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    state = tmp_path / "cut" / "state.safetensors"
    begun = state.stat().st_ino
    while not state.exists() or state.stat().st_ino == begun:
        assert process.poll() is None
        time.sleep(0.02)
    time.sleep(0.2)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    found = load_training_state(tmp_path / "cut")
    assert found is not None
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    whole, cut = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


def fixed_losses(manifest: Path, muon: float, steps: int) -> list[float]:
    """Losses of steps on the same crops again and again, quantized from the second on."""
    run, pool = begin(
        settings(manifest, manifest.parent / f"muon{muon}", muon_learning_rate=muon,
                 quantize_after=1, steps=10 * steps)
    )  # fmt: skip
    crops = next_crops(run, pool)
    return [train_step(run, crops)["loss"] for _ in range(steps)]


def test_training_brings_the_loss_down_with_either_optimiser(manifest: Path) -> None:
    adamw, muon = fixed_losses(manifest, 0.0, 25), fixed_losses(manifest, 5e-3, 25)
    assert adamw[-1] < 0.85 * adamw[1]
    assert muon[-1] < 0.85 * muon[1]
    assert adamw != muon


def test_the_start_already_sounds_like_the_original(manifest: Path) -> None:
    torch.manual_seed(0)
    run = CodecRun(settings(manifest, Path("unused")))
    samples = fixed_crops(AudioPool(read_split(manifest, "train"), 8000, 16000), 5, 16000)

    def pitch() -> float:
        with torch.no_grad():
            made = run.model.synthesize(run.model.latents(samples), torch.zeros(5).long())
        return sum(chroma_correlation(made[i], samples[i], 8000) for i in range(5)) / 5

    before = pitch()
    kept = start_codec(run.model, samples)
    assert 0.5 < kept <= 1.0
    assert before < 0.3
    assert pitch() > 0.6


def test_another_shape_or_seed_in_the_same_folder_is_refused(
    manifest: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    train_codec(settings(manifest, folder, steps=2))
    with pytest.raises(CheckpointError, match="begun with seed 0, not 1"):
        train_codec(settings(manifest, folder, steps=4, seed=1))
    with pytest.raises(CheckpointError, match="begun with codec"):
        train_codec(settings(manifest, folder, steps=4, codec=replace(TINY, num_codebooks=2)))


def test_a_run_of_another_kind_is_not_gone_on_with(manifest: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    for place in (folder / "state", folder):
        save_training_state(place, {"step": torch.zeros(1)}, {"kind": "encoder"})
        with pytest.raises(CheckpointError, match="a run of `train encoder`, not of `train codec`"):
            train_codec(settings(manifest, folder))
        shutil.rmtree(folder)
    train_codec(settings(manifest, folder, steps=1))
    found = load_training_state(folder)
    assert found is not None
    tensors, state = found
    assert state.pop("kind") == "codec"  # as before it was told
    save_training_state(folder, tensors, state)
    assert train_codec(settings(manifest, folder, steps=2)) == folder / "codec"


def test_a_manifest_without_held_out_audio_is_refused(manifest: Path, tmp_path: Path) -> None:
    lines = [line for line in manifest.read_text().splitlines() if '"valid"' not in line]
    manifest.write_text("\n".join(lines))
    with pytest.raises(InputError, match="no valid split"):
        train_codec(settings(manifest, tmp_path / "run"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("minutes", 0.0), ("steps", -1), ("batch_size", 0), ("crop_s", 0.0), ("manifest", ""),
        ("learning_rate", float("nan")), ("commitment_weight", -1.0), ("folder", ""),
    ],
)  # fmt: skip
def test_options_that_cannot_work_are_named(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=name):
        CodecTrainConfig(**({"manifest": "m", "folder": "f"} | {name: value}))  # type: ignore[arg-type]


def test_every_option_is_explained() -> None:
    assert field_help(CodecTrainConfig).keys() == CodecTrainConfig.__dataclass_fields__.keys()
