"""What stops a bad run early, and says why.

Every guard looks at smoothed figures, because single steps are noisy, and gives a sentence with the
numbers and what to try. Its memory is plain JSON, so that a run that goes on guards as before.
"""

from collections.abc import Mapping
from typing import Any

from musicgen_rl.training.endpoint_config import EndpointConfig

SMOOTH = 0.8
"""Weight of the old smoothed value at each step."""
PATIENCE = 10
"""Steps, or where it is heard only now and then a third of it hearings, before a guard may stop."""
AGAIN = "begin again in a new folder with"
"""What to do: a stopped run's folder holds the weights that went wrong."""


def paid_figure(config: EndpointConfig) -> str:
    """Name the figure of a step that the reward raises, "diversity" where none is paid."""
    paid = config.diversity_weight > 0 and config.reward != "cosine"
    return config.reward if paid else "diversity"


def unguarded(*, held_out: bool, scorer: bool) -> str | None:
    """Say in one line what `guard_hacking` cannot notice.

    Args:
        held_out: there is an encoder that training never sees.
        scorer: there is a scorer of sound and text.

    Returns:
        The line; None where both are there.
    """
    missing = [
        words for there, words in (
            (held_out, ("held-out encoder", "a training encoder that is fooled", "encoder-report")),
            (scorer, ("scorer", "clips that leave their prompts", "scorer-training")),
        ) if not there
    ]  # fmt: skip
    if not missing:
        return None
    what, unnoticed, folders = zip(*missing, strict=True)
    return (
        f"no {' and no '.join(what)}: {' and '.join(unnoticed)} will not be noticed; give "
        f"--instruments FOLDER with {' and '.join(folders)}, and not --no-held-out"
    )


class Guards:
    """Watches a run.

    Args:
        config: thresholds.
    """

    def __init__(self, config: EndpointConfig) -> None:
        self.config = config
        self.smooth: dict[str, float] = {}
        self.first: dict[str, float] = {}
        self.best_cost: float | None = None
        self.steps = 0
        self.hearings = 0

    def pack(self) -> dict[str, Any]:
        """Return the memory as JSON."""
        return {k: v for k, v in vars(self).items() if k != "config"}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Read what `pack` returned.

        A memory that lacks the figure that is paid was judged by another, and is begun anew.
        """
        paid = paid_figure(self.config)
        if paid == "diversity" or paid in state["first"]:
            vars(self).update(state)

    def after_step(self, figures: Mapping[str, Any], reward_weight: float) -> str | None:
        """Look at one step.

        Args:
            figures: kl and entropy of it, and what is paid (`paid_figure`) where it was measured.
            reward_weight: beta of this step.

        Returns:
            Why to stop, or None.
        """
        self.steps += 1
        paid = paid_figure(self.config)
        for name in ("kl", "entropy", paid):
            if name in figures:
                self._take(name, float(figures[name]))
        if self.steps < PATIENCE:
            return None
        gained = self.smooth.get(paid, 0.0) - self.first.get(paid, 0.0)
        cost = self.smooth["kl"] - reward_weight * max(0.0, gained)  # what no reward has paid for
        self.best_cost = cost if self.best_cost is None else min(self.best_cost, cost)
        return self._kl(cost) or self._entropy() or self._objective(reward_weight * gained)

    def after_hearing(self, heard: Mapping[str, float]) -> str | None:
        """Look at one hearing.

        Args:
            heard: silent, repeated, held_out_diversity, score, and what is paid (`paid_figure`).

        Returns:
            Why to stop, or None.
        """
        self.hearings += 1
        for name, value in heard.items():
            self._take(f"heard_{name}", value)
        if self.hearings < 2:
            return None
        limits = (
            ("silent", self.config.guard_silence, "of the clips are silent"),
            ("repeated", self.config.guard_repeats, "of the frames repeat the frame before"),
        )
        for name, limit, what in limits:
            share = self.smooth.get(f"heard_{name}", 0.0)
            if share > limit:
                return f"{share:.0%} {what}: {AGAIN} a lower learning_rate or diversity_weight"
        return self._hacking() if self.hearings > PATIENCE // 3 else None

    def _kl(self, cost: float) -> str | None:
        share = self.config.guard_kl_rise
        best = self.best_cost if self.best_cost is not None else cost
        allowed = best + share * max(self.first["kl"], abs(best)) if share else None
        if allowed is None or cost <= allowed:
            return None
        return (
            f"the KL rose to {self.smooth['kl']:.1f} nats a clip, {cost - best:.1f} above the best "
            f"after what the reward paid for: {AGAIN} a lower learning_rate or diversity_weight, "
            "or more clips a step"
        )

    def _entropy(self) -> str | None:
        share = self.config.guard_entropy
        now, first = self.smooth["entropy"], self.first["entropy"]
        if not share or now >= share * first:
            return None
        return (
            f"the entropy collapsed from {first:.2f} to {now:.2f} nats a token: {AGAIN} a lower "
            "guidance_scale or learning_rate"
        )

    def _objective(self, reward: float) -> str | None:
        share = self.config.guard_objective
        if not share:
            return None
        change = reward - (self.smooth["kl"] - self.first["kl"])
        if change >= -share * self.first["kl"]:
            return None
        return (
            f"-KL + beta D fell by {-change:.1f} since the start: the noise of the reward costs "
            f"more than the reward pays; {AGAIN} more clips a step or a lower learning_rate"
        )

    def _hacking(self) -> str | None:
        share = self.config.guard_hacking
        paid = paid_figure(self.config)
        if not share or self.config.diversity_weight == 0 or f"heard_{paid}" not in self.first:
            return None
        if self._change(paid) <= 0.0:
            return None
        for name, what in (
            ("held_out_diversity", "the held-out encoder's diversity"),
            ("score", "the scorer's adherence"),
        ):
            if f"heard_{name}" in self.first and self._change(name) < -share:
                return (
                    f"the reward rose while {what} fell from {self.first[f'heard_{name}']:.3f} to "
                    f"{self.smooth[f'heard_{name}']:.3f}: the encoder is being fooled; {AGAIN} a "
                    "lower diversity_weight or another training encoder"
                )
        return None

    def _change(self, name: str) -> float:
        """Return the change since the first hearing, as a share of the first."""
        first, now = self.first[f"heard_{name}"], self.smooth[f"heard_{name}"]
        return (now - first) / max(abs(first), 1e-6)

    def _take(self, name: str, value: float) -> None:
        old = self.smooth.setdefault(name, value)
        self.first.setdefault(name, value)
        self.smooth[name] = SMOOTH * old + (1 - SMOOTH) * value
