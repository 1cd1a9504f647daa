"""Small studies for tests."""

from pathlib import Path
from typing import Any

from musicgen_rl.listening.reading import parse_study
from musicgen_rl.listening.study import Study

RATING = {
    "id": "scales",
    "kind": "rating",
    "prompts": 6,
    "raters_per_prompt": 2,
    "items": {
        "quality": {"ask": "How does it sound?", "check": "quality"},
        "music": "How musical is it?",
    },
}
PAIR = {
    "id": "preference", "kind": "pair", "prompts": 6, "raters_per_prompt": 2,
    "items": {"prefer": {"ask": "Which do you prefer?", "check": "quality"}},
}  # fmt: skip
SETS = {
    "id": "variety", "kind": "sets", "prompts": 4, "raters_per_prompt": 2, "clips_per_set": 3,
    "items": {"varied": {"ask": "Which group is more varied?", "check": "variety"},
              "keep": "Which group would you keep?"},
}  # fmt: skip
MUSHRA = {
    "id": "grades", "kind": "mushra", "prompts": 3, "raters_per_prompt": 2,
    "items": {"grade": "How good is each against the reference?"},
}  # fmt: skip
ABX = {
    "id": "same", "kind": "abx", "prompts": 4, "raters_per_prompt": 2,
    "items": {"x": "Which one is X?"},
}  # fmt: skip
ALL = [RATING, PAIR, SETS, MUSHRA, ABX]


def content(**changes: Any) -> dict[str, Any]:
    """Write what a small study.yaml holds."""
    return {
        "version": 1,
        "title": "Which music?",
        "consent": "We keep your answers and no name.",
        "arms": {"plain": {"audio": "a"}, "varied": {"audio": "b"}},
        "prompts": [f"tune number {number}" for number in range(8)],
        "practice_prompts": ["a tune to practise"],
        "questions": [RATING, PAIR, SETS],
        "raters": {
            "count": 4, "practice": 2, "attention_checks": 3, "repeats": 2,
            "minimum_listening_s": 0, "headphones": False,
        },
        "clips": {"duration_s": 0.5, "sample_rate": 8000},
        "analysis": {"resamples": 200},
    } | changes  # fmt: skip


def small(**changes: Any) -> Study:
    """Make a small study."""
    return parse_study(content(**changes), Path())


def with_all(**changes: Any) -> Study:
    """Make a study with every kind of question; a third arm is the reference."""
    arms = {"plain": {"audio": "a"}, "varied": {"audio": "b"}, "ideal": {"audio": "c"}}
    return small(arms=arms, reference="ideal", questions=ALL, **changes)
