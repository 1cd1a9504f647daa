"""The package imports whole, fast, without warnings, and beside a torch without CUDA."""

import pkgutil
import subprocess
import sys

import pytest
import torch

import musicgen_rl

ALONE = [
    "torchaudio",
    "encodec",
    "peft",
    "librosa",
    "gradio",
]
FROM_TRANSFORMERS = [
    "MusicgenForConditionalGeneration",
    "EncodecModel",
    "T5EncoderModel",
    "ClapModel",
    "AutoProcessor",
]


def run(code: str, *options: str) -> str:
    done = subprocess.run(
        [sys.executable, *options, "-c", code], capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.strip()


def test_everything_that_needs_torchaudio_imports_in_a_fresh_process():
    lines = ["import musicgen_rl", *(f"import {name}" for name in ALONE)]
    lines += [f"from transformers import {name}" for name in FROM_TRANSFORMERS]
    lines += ["print('all', 'in')"]
    assert run("; ".join(lines)) == "all in"


def test_torchaudios_python_parts_work_and_are_right():
    code = """
import musicgen_rl, torch, torchaudio
tone = torch.sin(2 * torch.pi * 440 * torch.arange(16000) / 16000)
mel = torchaudio.transforms.MelSpectrogram(16000, n_fft=1024, n_mels=64)(tone)
up = torchaudio.functional.resample(tone, 16000, 32000)
want = torch.sin(2 * torch.pi * 440 * torch.arange(32000) / 32000)
print(tuple(mel.shape), float((up - want)[1000:-1000].abs().max()) < 1e-2)
"""
    assert run(code) == "(64, 32) True"


def test_the_package_itself_imports_without_torch():
    code = "import musicgen_rl, sys; print([m for m in ('torch', 'numpy') if m in sys.modules])"
    assert run(code, "-W", "error") == "[]"


def test_a_clip_is_written_and_read_without_torch():
    code = (
        "import musicgen_rl.audio.io, sys; "
        "print([m for m in ('torch', 'scipy', 'transformers') if m in sys.modules])"
    )
    assert run(code, "-W", "error") == "[]"


def test_the_pocket_text_encoder_needs_no_transformers():
    # transformers' BertModel costs seconds to import; text/bert.py exists to avoid that.
    code = "import musicgen_rl.text.minilm, sys; print('transformers' in sys.modules)"
    assert run(code, "-W", "error") == "False"


def test_every_module_imports_alone_without_a_warning():
    names = [
        module.name
        for module in pkgutil.walk_packages(musicgen_rl.__path__, "musicgen_rl.")
        if not module.name.endswith("__main__")
    ]
    assert "musicgen_rl.audio.io" in names
    code = f"import importlib; [importlib.import_module(name) for name in {names!r}]; print('ok')"
    assert run(code, "-W", "error").splitlines()[-1] == "ok"


def test_the_cure_is_installed_once():
    code = """
import sys, musicgen_rl
from musicgen_rl import _torchaudio
_torchaudio.install(); _torchaudio.install()
print(sum(type(finder).__name__ == "_ExtensionFinder" for finder in sys.meta_path))
"""
    assert run(code) == "1"


@pytest.mark.parametrize(("cuda", "hip", "answers"), [
    (None, None, True), ("13.0", None, False), (None, "7.1", False),
])  # fmt: skip
def test_the_cure_steps_aside_for_a_torch_with_a_gpu(monkeypatch, cuda, hip, answers):
    from musicgen_rl._torchaudio import _ExtensionFinder

    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(torch.version, "hip", hip)
    finder = _ExtensionFinder()
    assert (finder.find_spec("torchaudio._extension", None) is not None) is answers
    assert finder.find_spec("torchaudio.transforms", None) is None


def test_alignment_explains_why_it_is_missing():
    if torch.version.cuda is not None:
        pytest.skip("here torchaudio has its native library")
    import torchaudio

    with pytest.raises(RuntimeError, match="needs torchaudio's native library"):
        torchaudio.functional.forced_align(torch.zeros(1, 4, 3), torch.ones(1, 2, dtype=torch.long))
