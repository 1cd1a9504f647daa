"""How far a run is, and how far it is to go."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class Plan:
    """How far the run is at a given step; replaced when a run by minutes measures its speed.

    Progress is a straight line from (`from_step`, `from_progress`) to (`total_steps`, 1), so it
    never jumps when the total changes, and a resumed run that reads the plan repeats it exactly.
    """

    total_steps: int
    from_step: int = 0
    from_progress: float = 0.0

    def progress(self, step: int) -> float:
        """Share of the run that is done after `step` steps, 0 to 1."""
        span = max(1, self.total_steps - self.from_step)
        share = min(1.0, max(0.0, (step - self.from_step) / span))
        return self.from_progress + (1 - self.from_progress) * share

    def replan(self, step: int, seconds_left: float, seconds_per_step: float) -> "Plan":
        """Fit the rest of the run into the time left, at least one more step."""
        more = max(1, int(seconds_left / max(1e-9, seconds_per_step)))
        return Plan(step + more, step, self.progress(step))


@dataclass
class Progress:
    """How far a run is."""

    plan: Plan
    planned: bool
    """Whether the plan is known: a run by minutes measures its speed first."""
    step: int = 0
    seconds: float = 0.0
    """Of training, over all starts."""
    last: dict[str, Any] = field(default_factory=dict)
    """The last values of what was measured."""

    @property
    def finished(self) -> bool:
        """Whether every planned step is done."""
        return self.planned and self.step >= self.plan.total_steps

    @property
    def share(self) -> float:
        """Share of the run that is done, 0 where its length is not known yet."""
        return self.share_after(self.step)

    def share_after(self, step: int) -> float:
        """Share of the run that is done after `step` steps, 0 where its length is not known yet."""
        return self.plan.progress(step) if self.planned else 0.0

    def pack(self) -> dict[str, Any]:
        """Lay out for the training state, but for what was measured."""
        return {
            "step": self.step, "seconds": self.seconds, "plan": asdict(self.plan),
            "planned": self.planned,
        }  # fmt: skip

    def restore(
        self, state: Mapping[str, Any], last: dict[str, Any], *, minutes: float, steps: int
    ) -> None:
        """Read what `pack` laid out.

        Args:
            state: holds it.
            last: the last values of what was measured.
            minutes: that the run has now; at 0 it goes by steps, however it was begun.
            steps: that it has then.
        """
        self.step, self.seconds, self.last = state["step"], state["seconds"], last
        self.plan, self.planned = Plan(**state["plan"]), state["planned"]
        if minutes == 0:
            self.plan, self.planned = replace(self.plan, total_steps=steps), True


class Pace:
    """Measures a run's speed, and fits its steps to its minutes.

    Args:
        progress: of the run, whose plan is replaced.
        minutes: of the run; at 0 it goes by steps, and no plan is made.
        warm: steps that warm up caches and compilers, before the speed is measured at all.
        timed: steps after those, from which the first plan is made.
        least: steps between two plans, at least.
        decide: gives every process the first one's number.
        clock: seconds.
    """

    def __init__(
        self,
        progress: Progress,
        minutes: float,
        *,
        warm: int,
        timed: int,
        least: int,
        decide: Callable[[float], float],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._progress, self._minutes, self._decide, self._clock = progress, minutes, decide, clock
        self._warm, self._timed, self._least = warm, timed, least
        self._begin()

    def _begin(self) -> None:
        """Measure from here on."""
        self._since, self._from_step = self._clock(), self._progress.step

    def replan(self) -> bool:
        """Plan after a step: once the speed is known, then whenever an eighth is done.

        Returns:
            Whether the plan changed.
        """
        now, done = self._progress, self._progress.step - self._from_step
        if self._minutes == 0 or now.finished:
            return False
        if not now.planned and self._warm:
            if done == self._warm:
                self._warm = 0
                self._begin()
            return False
        eighth = (now.plan.total_steps - now.plan.from_step) // 8
        if done < (max(self._least, eighth) if now.planned else self._timed):
            return False
        plan = now.plan if now.planned else Plan(total_steps=now.step, from_step=now.step)
        per_step = (self._clock() - self._since) / done
        plan = plan.replan(now.step, self._minutes * 60 - now.seconds, per_step)
        total = round(self._decide(plan.total_steps))
        now.plan, now.planned = replace(plan, total_steps=total), True
        self._begin()
        return True
