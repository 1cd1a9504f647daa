"""Raters made of numbers: bias, noise, fatigue, a preferred side, and some who do not listen."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musicgen_rl.config import require_number
from musicgen_rl.listening.answers import CHOICES
from musicgen_rl.listening.assignment import ClipKey
from musicgen_rl.listening.study import Question, Study


@dataclass(frozen=True, kw_only=True)
class RaterModel:
    """How simulated people answer; spreads are in points of a five-point scale."""

    effects: dict[str, float] = field(default_factory=dict)
    """Arm -> its true advantage, in points; 0 where it is not named."""
    rater_sd: float = 0.6
    """How differently raters use the scale."""
    prompt_sd: float = 0.6
    """How much prompts differ."""
    rater_arm_sd: float = 0.25
    """How differently raters like an arm: what makes answers of one rater go together."""
    prompt_arm_sd: float = 0.35
    """How differently an arm does from prompt to prompt."""
    noise_sd: float = 0.8
    """Of a single judgement."""
    fatigue: float = 0.3
    """Share by which noise has grown at the end of a session."""
    first_bias: float = 0.15
    """Advantage of what stands first."""
    tie_width: float = 0.5
    """Differences below it are answered as none."""
    careless: float = 0.1
    """Share of raters who answer at random."""

    def __post_init__(self) -> None:
        """Check every field."""
        for name, value in vars(self).items():
            if name not in ("effects", "first_bias"):
                require_number(name, value, 0.0, 1.0 if name == "careless" else 100.0)
        for arm, value in self.effects.items():
            require_number(f"effect of {arm}", value, -10.0, 10.0)


class World:
    """What is true of prompts and raters in one simulated study.

    Args:
        model: spreads.
        study: its arms, prompts and questions.
        raters: how many people.
        rng: draws.
    """

    def __init__(
        self, model: RaterModel, study: Study, raters: int, rng: np.random.Generator
    ) -> None:
        self.model, self.study, self.rng = model, study, rng
        self.arms = {arm.name: index for index, arm in enumerate(study.arms)}
        self.items = {
            (question.id, item.id): index
            for index, (question, item) in enumerate(
                (q, i) for q in study.questions for i in q.items
            )
        }
        A, P, items = len(self.arms), len(study.all_prompts), len(self.items)
        self.effect = np.array([model.effects.get(name, 0.0) for name in self.arms])  # [A]
        self.bias = model.rater_sd * rng.normal(size=raters)  # [R]
        self.prompt = model.prompt_sd * rng.normal(size=P)  # [P]
        self.rater_arm = model.rater_arm_sd * rng.normal(size=(raters, A, items))
        self.prompt_arm = model.prompt_arm_sd * rng.normal(size=(P, A, items))
        self.is_careless = rng.random(raters) < model.careless  # [R]

    def liking(self, rater: Any, prompt: Any, arm: Any, item: Any) -> NDArray[np.float64]:
        """Say how well a rater likes an arm on a prompt, noise aside; indices may be arrays."""
        return (  # type: ignore[no-any-return]
            self.effect[arm] + self.rater_arm[rater, arm, item] + self.prompt_arm[prompt, arm, item]
        )

    def noise(self, share: Any, shape: Any = ()) -> NDArray[np.float64]:
        """Draw the noise of judgements made at a share (0..1) of the session."""
        grown = self.model.noise_sd * (1 + self.model.fatigue * np.asarray(share))
        return grown * self.rng.normal(size=shape)  # type: ignore[no-any-return]

    def points(self, latent: NDArray[np.float64], words: int) -> NDArray[np.float64]:
        """Turn likings into points from 1 to `words`."""
        return np.clip(np.rint((words + 1) / 2 + latent), 1, words)

    def choose(self, difference: NDArray[np.float64], ties: bool) -> NDArray[np.intp]:
        """Turn likings of the first over the second into indices of CHOICES."""
        chosen = np.where(difference > 0, 0, 1)
        return np.where(np.abs(difference) < self.model.tie_width, 2, chosen) if ties else chosen

    def answer(
        self,
        rater: int,
        question: Question,
        heard: Sequence[tuple[ClipKey, ...]],
        share: float,
    ) -> dict[str, Any]:
        """Answer one page.

        Args:
            rater: who, as an index into the world's raters.
            question: what is asked.
            heard: the clips of each player, in the order of the page, the open reference left out.
            share: place in the session, 0 to 1.

        Returns:
            Values as `answers.check_values` takes them.
        """
        if self.is_careless[rater]:
            return {item.id: self._random(question, item.words, heard) for item in question.items}
        return {
            item.id: self._value(rater, question, item.id, len(item.words), heard, share)
            for item in question.items
        }

    def _random(self, question: Question, words: Sequence[str], heard: Sequence[Any]) -> Any:
        if question.kind == "rating":
            return int(self.rng.integers(1, len(words) + 1))
        if question.kind == "mushra":
            return [int(value) for value in self.rng.integers(0, 101, len(heard))]
        ties = question.ties and question.kind != "abx"
        return CHOICES[int(self.rng.integers(3 if ties else 2))]

    def _value(
        self,
        rater: int,
        question: Question,
        item: str,
        words: int,
        heard: Sequence[tuple[ClipKey, ...]],
        share: float,
    ) -> Any:
        index = self.items[question.id, item]
        latent = np.array([self._heard(rater, keys, index, question) for keys in heard])
        if question.kind == "abx":
            return self._same(heard, latent, share)
        latent = latent + self.noise(share, len(heard))
        if question.kind == "rating":
            own = self.bias[rater] + self.prompt[heard[0][0].prompt]
            return int(self.points(latent + own, words)[0])
        if question.kind == "mushra":
            return [int(value) for value in np.clip(np.rint(55 + 12 * latent), 0, 100)]
        difference = latent[0] - latent[1] + self.model.first_bias
        return CHOICES[int(self.choose(difference, question.ties))]

    def _heard(self, rater: int, keys: tuple[ClipKey, ...], item: int, question: Question) -> float:
        """Say how a rater likes what one player plays, noise aside."""
        key = keys[0]
        if key.treatment:
            return {"damaged": -6.0, "low": -3.0, "mid": -1.5}[key.treatment]
        if question.kind == "sets" and len(keys) > 1:
            if len(set(keys)) == 1:
                return -8.0  # one piece several times is not varied
            if len({k.prompt for k in keys}) > 1:
                return 4.0
        if question.kind == "mushra" and key.arm == self.study.reference:
            return 3.5
        return float(self.liking(rater, key.prompt, self.arms[key.arm], item))

    def _same(
        self, heard: Sequence[tuple[ClipKey, ...]], latent: NDArray[np.float64], share: float
    ) -> str:
        """Say which one X is: the nearer in what was heard, each time a little differently."""
        noisy = latent + self.noise(share, len(heard))
        nearer = abs(noisy[2] - noisy[0]) <= abs(noisy[2] - noisy[1])
        return CHOICES[0] if nearer else CHOICES[1]
