import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from musicgen_rl.lm import compiled_native
from musicgen_rl.lm.compiled_native import Block, native_function

LERP = "musicgen_rl.lm.compiled_kernels", "lerp_quantize"


def quantize(function) -> list[int]:
    """Quantize one row of three numbers between two ends."""
    numbers, scale = np.full((1, 4), 9, np.int8), np.zeros(1, np.float32)
    ends = [np.array([row], np.float32) for row in ([1.0, -2.0, 0.5], [3.0, 0.0, 0.5])]
    block = Block(*ends, np.array([0.5]), np.empty(3, np.float32), numbers, scale)
    function(0, block.address)
    assert scale[0] == pytest.approx(2.0 / 127)
    return numbers[0].tolist()


EXPECTED = [127, -64, 32, 0]  # 2, -1 and 0.5 of 2, halves to even; then padding


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))
    native_function.cache_clear()
    yield tmp_path / "cache"
    native_function.cache_clear()


def test_a_function_is_compiled_once_and_then_read(empty_cache, monkeypatch):
    assert quantize(native_function(*LERP)) == EXPECTED
    (file,) = empty_cache.iterdir()
    native_function.cache_clear()

    def refuse(module, name):
        raise AssertionError("compiled again")

    monkeypatch.setattr(compiled_native, "_compile", refuse)
    assert quantize(native_function(*LERP)) == EXPECTED
    assert list(empty_cache.iterdir()) == [file]


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b[:200] + b"?" + b[201:], len])
def test_a_damaged_file_is_not_linked_but_written_again(empty_cache, damage):
    native_function(*LERP)
    (file,) = empty_cache.iterdir()
    whole = file.read_bytes()
    damaged = damage(whole)
    file.write_bytes(damaged if isinstance(damaged, bytes) else b"")
    native_function.cache_clear()
    assert quantize(native_function(*LERP)) == EXPECTED
    digest, rest = file.read_bytes().split(b"\n", 1)
    assert hashlib.sha256(rest.replace(b"\n", b"", 1)).hexdigest().encode() == digest


def test_where_nothing_can_be_kept_it_runs_all_the_same(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "file"))
    native_function.cache_clear()
    assert quantize(native_function(*LERP)) == EXPECTED
    native_function.cache_clear()


def test_what_was_compiled_is_called_without_numba():
    native_function(*LERP)
    program = (
        "import sys; from musicgen_rl.sampling.draw import link_native; link_native(); "
        "link_native(); print('numba' in sys.modules)"
    )
    for _ in range(2):  # the first may have to compile
        said = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True,
            env=os.environ, cwd=Path(__file__).parents[2],
        )  # fmt: skip
    assert said.stdout.strip() == "False"


def test_arrays_in_another_order_are_refused():
    with pytest.raises(ValueError, match="C order"):
        Block(np.zeros((3, 4)).T)
