import pytest

from musicgen_rl.training.endpoint_schedule import kl_weight_at, reward_weight_at
from tests.training.endpoint_fakes import small_config


def test_schedules_by_hand() -> None:
    config = small_config(
        diversity_weight=10.0, reward_delay=0.2, reward_ramp=0.4, kl_weight=1.0,
        kl_weight_final=0.5,
    )  # fmt: skip
    assert [reward_weight_at(config, p) for p in (0.0, 0.2, 0.4, 0.6, 1.0)] == pytest.approx(
        [0.0, 0.0, 5.0, 10.0, 10.0]
    )
    assert [kl_weight_at(config, p) for p in (0.0, 0.5, 1.0)] == [1.0, 0.75, 0.5]
    assert reward_weight_at(small_config(diversity_weight=3.0), 0.0) == 3.0
