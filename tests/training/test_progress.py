import pytest

from musicgen_rl.training.progress import Pace, Plan, Progress


def test_replanning_moves_the_end_and_not_the_present() -> None:
    plan = Plan(100)
    assert plan.progress(25) == 0.25
    shorter = plan.replan(25, seconds_left=50, seconds_per_step=2)
    assert shorter.total_steps == 50
    assert shorter.progress(25) == 0.25
    assert shorter.progress(50) == 1.0
    assert shorter.progress(30) == pytest.approx(0.25 + 0.75 / 5)


def test_progress_stays_at_its_ends_beyond_them() -> None:
    plan = Plan(50, from_step=25, from_progress=0.25)
    assert plan.progress(20) == 0.25
    assert plan.progress(60) == 1.0


def test_a_plan_without_time_left_still_ends() -> None:
    assert Plan(100).replan(40, seconds_left=-3, seconds_per_step=1).total_steps == 41
    assert Plan(100).replan(40, seconds_left=0, seconds_per_step=0).total_steps == 41


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


class Clock:
    """Seconds that a test lets pass."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def steps_of(
    pace: Pace, progress: Progress, clock: Clock, costs: list[float]
) -> list[tuple[int, int]]:
    """Make steps of so many seconds each; (step, steps in all) wherever a plan was made."""
    plans = []
    for cost in costs:
        clock.now += cost
        progress.seconds += cost
        progress.step += 1
        if pace.replan():
            plans.append((progress.step, progress.plan.total_steps))
    return plans


def pace_of(progress: Progress, clock: Clock, minutes: float = 2.0, **changes: object) -> Pace:
    given = {"warm": 2, "timed": 3, "least": 4, "decide": lambda total: total} | changes
    return Pace(progress, minutes, clock=clock, **given)


def test_the_speed_is_that_of_the_steps_after_those_that_warm_up() -> None:
    progress, clock = Progress(Plan(1), planned=False), Clock()
    pace = pace_of(progress, clock)
    # After 60 + 3 x 2 seconds there are 54 left, of 2 seconds a step.
    assert steps_of(pace, progress, clock, [50.0, 10.0, 2.0, 2.0, 2.0]) == [(5, 5 + 27)]
    assert progress.plan == Plan(32, from_step=5)
    assert progress.share == 0.0


def test_a_plan_is_made_again_when_an_eighth_is_done_and_not_before_so_many_steps() -> None:
    progress, clock = Progress(Plan(80, from_step=0), planned=True), Clock()
    pace = pace_of(progress, clock)
    assert steps_of(pace, progress, clock, [1.0] * 10) == [(10, 10 + 110)]
    assert steps_of(pace, progress, clock, [2.0] * 13) == [(23, 23 + 42)]  # 110 // 8 = 13
    progress, clock = Progress(Plan(8), planned=True), Clock()
    assert steps_of(pace_of(progress, clock), progress, clock, [1.0] * 5) == [(4, 4 + 116)]


def test_a_run_that_goes_on_measures_its_own_steps_alone() -> None:
    progress, clock = Progress(Plan(40, from_step=5), planned=True, step=10, seconds=60.0), Clock()
    assert steps_of(pace_of(progress, clock), progress, clock, [3.0] * 4) == [(14, 14 + 16)]


def test_every_process_takes_the_plan_of_the_first() -> None:
    progress, clock, told = Progress(Plan(1), planned=False), Clock(), []

    def decide(total: float) -> float:
        told.append(total)
        return 77.0

    pace = pace_of(progress, clock, decide=decide)
    assert steps_of(pace, progress, clock, [1.0] * 5) == [(5, 77)]
    assert told == [5 + 115]


@pytest.mark.parametrize(("minutes", "step"), [(0.0, 0), (2.0, 80)])
def test_a_run_by_steps_or_at_its_end_is_not_planned_anew(minutes: float, step: int) -> None:
    progress, clock = Progress(Plan(80), planned=True, step=step), Clock()
    assert steps_of(pace_of(progress, clock, minutes), progress, clock, [1.0] * 70) == []
