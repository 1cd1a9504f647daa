"""Whatever is wrong with the data is named line by line before a run begins, by every command."""

import json
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from musicgen_rl.cli import main
from musicgen_rl.codec.frame import FrameCodec
from musicgen_rl.codec.load import save_codec
from tests.models import TINY_CODEC

RATE = 8000
CODEC_SETS = ("sample_rate=8000", "hop_length=160", "n_fft=640", "n_mels=20", "steps=1",
              "crop_s=0.5", "batch_size=2", "encoder_width=16", "decoder_width=16")  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Sound files of every kind of wrong, two that are right, and a manifest of all."""
    t = np.arange(4 * RATE) / RATE
    tone = 0.2 * np.sin(2 * np.pi * 220 * t)
    broken = {"nan": tone.copy(), "silent": np.zeros_like(tone), "short": tone[: RATE // 4],
              "fine": tone, "fine2": tone}  # fmt: skip
    broken["nan"][77] = np.nan
    for name, samples in broken.items():
        soundfile.write(tmp_path / f"{name}.wav", samples, RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "cut.flac", np.random.default_rng(0).uniform(-1, 1, 60000), RATE)
    whole = (tmp_path / "cut.flac").read_bytes()
    (tmp_path / "cut.flac").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "no.wav").write_bytes(b"RIFF and nothing else")
    rows: list[object] = [
        {"audio": "fine.wav", "captions": ["x"], "split": "valid"},
        {"audio": "fine2.wav", "captions": ["x"]},
        *({"audio": f"{name}", "captions": ["x"]}
          for name in ("missing.wav", "no.wav", "cut.flac", "nan.wav", "silent.wav")),
        {"audio": "short.wav", "captions": [" "]},
    ]  # fmt: skip
    lines = [json.dumps(row) for row in rows]
    (tmp_path / "m.jsonl").write_text("\n".join([*lines, "{"]) + "\n")
    save_codec(FrameCodec(TINY_CODEC), tmp_path / "codec")
    return tmp_path


WRONG = {3: "missing.wav", 4: "no.wav cannot be decoded", 5: "cut.flac", 6: "nan", 7: "silent",
         8: "empty caption", 9: "not JSON"}  # fmt: skip


@pytest.mark.parametrize("kind", ["codec", "lm", "encoder", "scorer", "probe"])
def test_a_broken_manifest_is_told_line_by_line_and_nothing_is_begun(
    folder: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    options = {
        "codec": [word for s in CODEC_SETS for word in ("--set", s)],
        "lm": ["--codec", str(folder / "codec")],
    }.get(kind, ["--mels", str(folder / "mels")])
    code = main(["train", kind, "--manifest", str(folder / "m.jsonl"), "--out",
                 str(folder / "run"), *options])  # fmt: skip
    head, *told = capsys.readouterr().err.rstrip("\n").split("\n")
    assert code == 2
    assert head.startswith("error: ")
    assert head.endswith("m.jsonl cannot be learnt from:")
    assert len(told) == len(WRONG)
    for line, (number, words) in zip(told, WRONG.items(), strict=True):
        assert line.startswith(f"  line {number}: ")
        assert words in line
    assert not (folder / "run").exists()
    assert not list(folder.glob("mels/*.safetensors"))


def test_what_a_codec_cannot_use_is_told_in_the_same_round(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    t = np.arange(4 * RATE) / RATE
    soundfile.write(folder / "fast.wav", 0.2 * np.sin(2 * np.pi * 220 * t), 2 * RATE)
    soundfile.write(folder / "brief.wav", 0.2 * np.sin(2 * np.pi * 220 * t[: RATE * 7 // 10]), RATE)
    rows = [("missing.wav", "train"), ("fast.wav", "valid"), ("short.wav", "train"),
            ("brief.wav", "valid"), ("fine.wav", "train"), ("fine2.wav", "valid")]  # fmt: skip
    lines = [json.dumps({"audio": name, "caption": "x", "split": split}) for name, split in rows]
    (folder / "m.jsonl").write_text("\n".join(lines) + "\n")
    code = main(["train", "codec", "--manifest", str(folder / "m.jsonl"), "--out",
                 str(folder / "run"), *(w for s in CODEC_SETS for w in ("--set", s))])  # fmt: skip
    told = capsys.readouterr().err.rstrip("\n").split("\n")[1:]
    assert code == 2
    assert [line.strip().split(":")[0] for line in told] == [f"line {n}" for n in (1, 2, 3, 4)]
    assert "fast.wav has 16000 Hz, the codec 8000 Hz" in told[1]
    assert "short.wav lasts 0.25 s, shorter than the 0.5 s" in told[2]
    assert "brief.wav lasts 0.70 s, shorter than the 1 s of a crop of the valid split" in told[3]
    assert not (folder / "run").exists()


SMALL_CODEC = (*CODEC_SETS[:4], "save_every_s=0", "crop_s=0.5", "batch_size=2", "steps=4",
               "encoder_layers=1", "encoder_width=32", "decoder_layers=1", "decoder_width=32",
               "codebook_size=16", "quantize_after=2")  # fmt: skip


@pytest.mark.slow
def test_a_disk_that_fills_up_in_the_middle_leaves_a_run_that_goes_on(tmp_path: Path) -> None:
    """The limit on a file's size stands for the disk: the first state fits, the second does not."""
    t = np.arange(4 * RATE) / RATE
    rows = []
    for i in range(4):
        tone = 0.2 * np.sin(2 * np.pi * (200 + 30 * i) * t)
        soundfile.write(tmp_path / f"{i}.wav", tone, RATE)
        rows.append({"audio": f"{i}.wav", "captions": ["x"], "split": "valid" if i else "train"})
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["train", "codec", "--manifest", str(tmp_path / "m.jsonl"), "--out",
             str(tmp_path / "run"), *(w for s in SMALL_CODEC for w in ("--set", s))]  # fmt: skip

    def run(limit: int) -> subprocess.CompletedProcess[str]:
        code = (
            "import resource, sys; from musicgen_rl.cli import main\n"
            f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
            f"sys.exit(main({words!r}))"
        )
        return subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=250
        )

    first = run(resource.RLIM_INFINITY)
    assert first.returncode == 0, first.stderr
    state = tmp_path / "run" / "state.safetensors"
    whole, fresh = state.stat().st_size, (tmp_path / "run" / "previous.safetensors")
    assert fresh.exists()
    for path in (tmp_path / "run").rglob("*"):
        if path.is_file():
            path.unlink()
    stopped = run(whole - 1000)
    assert stopped.returncode == 2, stopped.stderr
    assert "free some space and start again with the same folder" in stopped.stderr
    assert 0 < state.stat().st_size < whole  # what was saved before the first step
    again = run(resource.RLIM_INFINITY)
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "run" / "codec" / "model.safetensors").exists()
