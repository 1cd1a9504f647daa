import subprocess
import sys

import pytest

from musicgen_rl.errors import ConfigError
from musicgen_rl.merging.recipe import METHODS, MergeConfig


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"lam": 1.5}, "lam must be between 0 and 1, got 1.5"),
        ({"lam": float("nan")}, "lam .* got nan"),
        ({"strength": -0.1}, "strength must be between 0 and 1, got -0.1"),
        ({"method": "ties"}, "'ties': use lerp, slerp, liti"),
    ],
)
def test_what_cannot_be_is_refused_with_its_value(wrong, said):
    with pytest.raises(ConfigError, match=said):
        MergeConfig(**wrong)


def test_only_lerp_needs_no_base():
    assert [m for m in METHODS if not MergeConfig(method=m).needs_base] == ["lerp"]


def test_help_needs_no_torch():
    code = "import sys, musicgen_rl.cli.merge; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
