"""A whole study with simulated raters, every answer through the real HTTP interface."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np

from app.listening.play import Player
from app.listening.server import create_app
from app.listening.serving import InBackground, open_context
from musicgen_rl.config import require
from musicgen_rl.listening.analysis import analyse
from musicgen_rl.listening.clips import KEY_FILE, is_sham
from musicgen_rl.listening.files import read_json
from musicgen_rl.listening.plan import freeze, make_plan, read_frozen
from musicgen_rl.listening.raters import RaterModel, World
from musicgen_rl.listening.report import write_report
from musicgen_rl.listening.sham import Ears, write_sham_clips
from musicgen_rl.listening.store import DATABASE


@dataclass
class SimulatedClock:
    """Time that passes when somebody listens."""

    now: float = 1_700_000_000.0

    def __call__(self) -> float:
        """Tell the time."""
        return self.now

    def pass_(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds


def simulate_study(
    folder: Path,
    model: RaterModel,
    *,
    seed: int = 0,
    dropouts: int = 0,
    mixed: bool = True,
    say: Callable[[str], None] = lambda line: None,
) -> list[Path]:
    """Play a study whose file is in `folder`, with clips of noise, and write its report there.

    Args:
        folder: with study.yaml; nobody may have taken part yet.
        model: of the raters.
        seed: of everything random in them.
        dropouts: so many stop halfway.
        mixed: whether to fit mixed models.
        say: prints a line.

    Returns:
        The report's files.

    Raises:
        ConfigError: the folder holds answers, or clips that are not noise.
    """
    require(
        not (folder / DATABASE).exists(),
        f"{str(folder / DATABASE)!r} is there already: simulate in a folder of its own",
    )
    key = folder / KEY_FILE
    require(
        not key.exists() or is_sham(read_json(key, "it is made anew when it is gone")),
        f"{str(key)!r} names real clips, which noise would replace: simulate in a folder of its "
        "own, with a copy of study.yaml",
    )
    plan = make_plan(folder)
    if read_frozen(folder) != plan.hash:  # else the power that was planned with stays beside it
        freeze(plan)
    ears = Ears(write_sham_clips(plan))
    clock = SimulatedClock()
    context = open_context(folder, clock=clock, simulated=True)
    world = World(model, plan.study, plan.study.raters.count, np.random.default_rng(seed))
    tokens = context.store.invite(range(plan.study.raters.count))
    try:
        with (
            InBackground(create_app(context)) as server,
            httpx.Client(base_url=server.url, trust_env=False, timeout=60) as client,
        ):
            for number, token in enumerate(tokens):
                player = Player(client, plan.study, ears, world, number, listen=clock.pass_)
                player.join(token)
                leaves = number < dropouts
                half = len(plan.assignment.sessions[number]) // 2
                answered = player.session(leave_after=half if leaves else None)
                say(f"simulated rater {number + 1} of {len(tokens)}: {answered} answers")
        context.store.stop()
        return write_report(analyse(plan, context.store, mixed=mixed), plan, folder)
    finally:
        context.store.close()
