"""What a step reports of its gradients, and what it does to the weights, by hand."""

import math

import pytest
import torch
from torch import nn

from musicgen_rl.errors import ConfigError
from musicgen_rl.training.endpoint_step import Gradients
from musicgen_rl.training.endpoint_update import Updater
from musicgen_rl.training.processes import Processes
from tests.training.endpoint_fakes import small_config


def updater(**changes) -> Updater:
    return Updater(small_config(**changes), {"w": nn.Parameter(torch.zeros(2))}, Processes())


def take(made: Updater, total: list[float], *, measured: bool = False, step: int = 0, **parts):
    gradients = Gradients({"w": torch.tensor(total)}, **parts)
    return made.take(gradients, step=step, progress=0.0, tokens=10.0, measured=measured)


def measured(even: list[float], odd: list[float]) -> dict[str, object]:
    return {
        "measured": True,
        "kl": {"w": torch.tensor([3.0, 4.0])},
        "halves": [{"w": torch.tensor(even)}, {"w": torch.tensor(odd)}],
    }


def test_the_terms_norms_signal_and_noise_are_those_of_a_whole_clip() -> None:
    made = updater()
    row = take(made, [1.0, 1.0], **measured([1.0, 2.0], [3.0, -0.5]))
    # Ten tokens a clip. Of the halves: product 3 - 1, difference (-2, 2.5), sum (4, 1.5).
    assert row["grad_norm_kl"] == pytest.approx(10 * 5.0)
    assert row["grad_norm_reward"] == pytest.approx(10 * math.sqrt(16 + 2.25))
    assert row["reward_signal"] == pytest.approx(4 * 2.0 * 100)
    assert row["reward_noise"] == pytest.approx((4 + 6.25) * 100)
    assert row["reward_snr"] == pytest.approx(800 / 1025)
    row = take(made, [1.0, 1.0], **measured([1.0, 0.0], [1.0, 1.0]))
    # Older measurements weigh nine tenths: signal 400 and noise 100 are the new ones.
    assert row["reward_snr"] == pytest.approx((0.09 * 800 + 0.1 * 400) / (0.09 * 1025 + 0.1 * 100))


def test_a_step_that_is_not_measured_reports_no_terms() -> None:
    assert set(take(updater(), [1.0, 0.0])) == {"grad_norm", "rate"}


def test_a_long_gradient_is_cut_to_its_limit_and_reported_whole() -> None:
    made = updater(grad_clip=1.0, warmup_steps=0, beta1=0.5)
    row = take(made, [30.0, 40.0])
    assert row["grad_norm"] == pytest.approx(50.0)
    (state,) = made.optimizer.state.values()
    assert state["exp_avg"].tolist() == pytest.approx([0.3, 0.4])  # half of (0.6, 0.8)
    assert made.parameters["w"].grad is None


def test_the_rate_warms_up_with_the_steps_and_the_average_follows() -> None:
    made = updater(warmup_steps=3, learning_rate=0.1, ema_decay=0.5)
    row = take(made, [1.0, -1.0])
    assert row["rate"] == pytest.approx(1 / 4)
    # AdamW's first step is one rate long; the average of the first step is 2 / 11 old.
    assert made.parameters["w"].tolist() == pytest.approx([-0.025, 0.025], rel=1e-3)
    assert made.average.tensors["w"].tolist() == pytest.approx(
        [-0.025 * 9 / 11, 0.025 * 9 / 11], rel=1e-3
    )
    assert take(made, [1.0, -1.0], step=3)["rate"] == pytest.approx(1.0)


class Beside(Processes):
    """Another process, whose gradients are all (3, 4) more than twice this one's."""

    def average(self, tensors) -> None:
        for name, tensor in tensors.items():
            tensors[name] = (3 * tensor + torch.tensor([3.0, 4.0])) / 2


def test_gradients_are_averaged_over_processes_before_they_are_told_and_cut() -> None:
    made = Updater(small_config(), {"w": nn.Parameter(torch.zeros(2))}, Beside())
    row = take(made, [1.0, 0.0], **measured([1.0, 0.0], [0.0, 1.0]))
    assert row["grad_norm"] == pytest.approx(math.hypot(3.0, 2.0))
    assert row["grad_norm_kl"] == pytest.approx(10 * math.hypot(6.0, 8.0))
    # The halves are (3, 2) and (1.5, 3.5) by then.
    assert row["reward_signal"] == pytest.approx(4 * (4.5 + 7.0) * 100)
    assert row["reward_noise"] == pytest.approx((1.5**2 + 1.5**2) * 100)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_leaves_the_weights(bad: float) -> None:
    made = updater()
    with pytest.raises(ConfigError, match="at step 7"):
        take(made, [bad, 1.0], step=7)
    assert made.parameters["w"].tolist() == [0.0, 0.0]
