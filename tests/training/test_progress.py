import pytest

from musicgen_rl.training.progress import Plan, Progress


def test_replanning_moves_the_end_and_not_the_present() -> None:
    plan = Plan(100)
    assert plan.progress(25) == 0.25
    shorter = plan.replan(25, seconds_left=50, seconds_per_step=2)
    assert shorter.total_steps == 50
    assert shorter.progress(25) == 0.25
    assert shorter.progress(50) == 1.0
    assert shorter.progress(30) == pytest.approx(0.25 + 0.75 / 5)


def test_a_plan_without_time_left_still_ends() -> None:
    assert Plan(100).replan(40, seconds_left=-3, seconds_per_step=1).total_steps == 41


def test_a_run_of_unknown_length_is_neither_half_done_nor_finished() -> None:
    now = Progress(Plan(4), planned=False, step=4)
    assert (now.share, now.finished) == (0.0, False)
    now.planned = True
    assert (now.share, now.share_after(1), now.finished) == (1.0, 0.25, True)


@pytest.mark.parametrize(("minutes", "total", "planned"), [(2.0, 9, False), (0.0, 30, True)])
def test_what_is_read_back_is_what_was_packed_and_goes_by_steps_without_minutes(
    minutes: float, total: int, planned: bool
) -> None:
    before = Progress(Plan(9, 3, 0.5), planned=False, step=5, seconds=0.1 + 0.2)
    now = Progress(Plan(1), planned=True)
    now.restore(before.pack(), {"kl": 1.5}, minutes=minutes, steps=30)
    assert (now.step, now.seconds, now.last) == (5, 0.1 + 0.2, {"kl": 1.5})
    assert now.plan == Plan(total, 3, 0.5)
    assert now.planned == planned
