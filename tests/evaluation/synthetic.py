"""Rows of clips with planted diversity and adherence, so that the right answer is known."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from musicgen_rl.evaluation.table import EMBEDDING, Row

D = 24
IDENTITIES = {
    "encoder report": {
        "name": "e", "sha256": "a" * 64, "kind": "encoder", "role": "report",
        "training_saw_it": False,
    },
    "scorer report": {
        "name": "s", "sha256": "b" * 64, "kind": "scorer", "role": "report",
        "training_saw_it": False,
    },
}  # fmt: skip


@dataclass(frozen=True)
class Planted:
    """What one arm truly is."""

    spread: float
    """How far clips of a prompt lie apart."""
    adherence: float
    """Mean score."""


def planted_rows(
    arms: Mapping[str, Planted],
    prompts: int = 24,
    clips: int = 4,
    seed: int = 0,
    codes: bool = False,
) -> list[Row]:
    """Draw clips: prompts have a place and a difficulty that all arms share."""
    generator = np.random.default_rng(seed)
    homes = generator.normal(size=(prompts, D))
    difficulty = generator.normal(scale=0.3, size=prompts)
    rows: list[Row] = []
    for name, truth in arms.items():
        for p in range(prompts):
            for i in range(clips):
                e = homes[p] + truth.spread * generator.normal(size=D)
                score = truth.adherence + difficulty[p] + 0.1 * generator.normal()
                rows.append(
                    {
                        "arm": name, "prompt_index": p, "prompt": f"prompt {p}", "index": i,
                        "file": "", "duration_s": 4.0, "adherence_report": score,
                        "probe_logp": score - 2.0, "silent": float(generator.uniform() < 0.1),
                        EMBEDDING + "report": (e / np.linalg.norm(e)).astype(np.float32),
                        "codes": generator.integers(0, 50, size=40) if codes else None,
                    }
                )  # fmt: skip
    return rows


def prompts_of(rows: list[Row]) -> list[str]:
    """List the prompts in order."""
    return list(dict.fromkeys(r["prompt"] for r in rows))
