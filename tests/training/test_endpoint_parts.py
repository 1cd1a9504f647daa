from pathlib import Path

import pytest

from musicgen_rl.errors import ConfigError, InputError
from musicgen_rl.training.endpoint_parts import check_fit
from tests.training.endpoint_fakes import small_config, small_parts


@pytest.mark.parametrize(("changes", "parts_changes", "error", "message"), [
    ({"prompts_per_step": 7}, {}, InputError, "6 different prompts, a step takes 7"),
    ({"diversity_weight": 1.0}, {"encoder": None}, ConfigError, "needs the training encoder"),
    ({"clip_s": 5.0}, {}, ConfigError, "longer than the model's window of 2 s"),
    ({"train": "norms"}, {}, ConfigError, "cannot distil"),
])  # fmt: skip
def test_what_does_not_fit_is_refused(
    tmp_path: Path, changes: dict, parts_changes: dict, error: type, message: str
) -> None:
    parts = small_parts(tmp_path / "base", **parts_changes)
    with pytest.raises(error, match=message):
        check_fit(parts, small_config(**changes))


def test_an_encoder_of_another_rate_is_refused(tmp_path: Path) -> None:
    parts = small_parts(tmp_path / "base")
    parts.codec.sample_rate = 300
    with pytest.raises(InputError, match="hears 150 Hz, the codec makes 300 Hz"):
        check_fit(parts, small_config())


def test_the_answered_reward_asks_for_a_scorer(tmp_path: Path) -> None:
    parts = small_parts(tmp_path / "base", scorer=None)
    with pytest.raises(ConfigError, match="needs the training scorer"):
        check_fit(parts, small_config(diversity_weight=5.0, reward="answered"))
