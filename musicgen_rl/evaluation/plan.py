"""What an evaluation will do, decided and checked before anything is made."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from musicgen_rl.batch import Item
from musicgen_rl.config import require, require_number
from musicgen_rl.errors import ConfigError, InputError, StorageError
from musicgen_rl.evaluation.analyse import StatisticsConfig
from musicgen_rl.evaluation.arms import COMMON, Arm
from musicgen_rl.evaluation.bootstrap import MIN_PROMPTS
from musicgen_rl.evaluation.prompts import Prompt, hash_attributes, hash_prompts
from musicgen_rl.storage import read_json, write_json

PLAN = "plan.json"
SPLITS = ("", "development", "final")
_HOW = ("device", "dtype", "parts")
_NOT_IN_ALL = ("attributes", "sounds", *_HOW)  # a plan on disk without them belongs to any
_NOT_OF_USE = ("date", "attributes", *_HOW)  # no part of the digests that lists of uses hold


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """How much is made, and how it is compared."""

    num_prompts: int = 60
    """Prompts, spread evenly over the file; 0 takes all."""
    clips_per_prompt: int = 8
    """Clips of each arm and prompt."""
    duration_s: float = 10.0
    """Length of every clip in seconds."""
    seed: int = 0
    """Of the clips: one more for each prompt, the same for every arm."""
    split: str = ""
    """development or final, for prompts kept apart; every use of the final one is counted."""
    statistics: StatisticsConfig = field(default_factory=StatisticsConfig)
    """How uncertainty is measured."""
    real_clips: int = 400
    """Real clips that distances are measured to."""
    throughput: bool = True
    """Measure what guidance costs, one clip and 32 side by side."""

    def __post_init__(self) -> None:
        """Check every field."""
        require_number("duration", self.duration_s, 1.0, 600.0, unit="s")
        for name, low, high in (("num_prompts", 0, 100_000), ("clips_per_prompt", 2, 1000),
                                ("seed", 0, 2**31), ("real_clips", 32, 100_000)):  # fmt: skip
            value = getattr(self, name)
            whole = isinstance(value, int) and not isinstance(value, bool)
            hint = ": diversity compares clips of one prompt" if name == "clips_per_prompt" else ""
            require(
                whole and low <= value <= high,
                f"{name} must be a whole number from {low} to {high}, got {value!r}{hint}",
            )
        require(
            self.num_prompts == 0 or self.num_prompts >= MIN_PROMPTS,
            f"num_prompts must be 0 (all) or at least {MIN_PROMPTS}, better 30, to tell chance "
            f"from difference, got {self.num_prompts}",
        )
        require(self.split in SPLITS, f"unknown split {self.split!r}: use development or final")

    @classmethod
    def quick(cls, **given: Any) -> "EvaluationConfig":
        """Return what a few minutes on two cores allow; `given` replaces fields."""
        small: dict[str, Any] = {
            "num_prompts": 8, "clips_per_prompt": 4, "duration_s": 4.0, "real_clips": 64,
            "throughput": False,
        }  # fmt: skip
        return cls(**(small | given))


def items_of(
    arm: Arm, model: str, prompts: Sequence[Prompt], config: EvaluationConfig
) -> list[Item]:
    """List the clips of an arm, by prompt and index.

    Two arms hear the same noise for the same prompt and index, so that they differ by what is
    compared and by nothing else.

    Args:
        arm: what to make.
        model: folder, name or hub id that plays it.
        prompts: those of the evaluation.
        config: how many and how long.
    """
    sampling = {**COMMON, **arm.sampling}
    return [
        Item(
            prompt=prompt.text,
            seed=config.seed + p,
            index=i,
            duration_s=config.duration_s,
            diversity=arm.diversity,
            merge_method=arm.merge_method,
            model=model,
            name=f"{p:04d}-{i:03d}",
            split="test",
            **sampling,
        )
        for p, prompt in enumerate(prompts)
        for i in range(config.clips_per_prompt)
    ]


def describe_plan(
    config: EvaluationConfig, arms: Sequence[Arm], prompts: Sequence[Prompt], model: str
) -> dict[str, Any]:
    """Return all that decides the clips and what is asked of them, JSON-able."""
    return {
        "model": model,
        "config": asdict(config),
        "prompts": {"count": len(prompts), "sha256": hash_prompts(prompts)},
        "attributes": hash_attributes(prompts),
        "arms": [arm.describe() for arm in arms],
    }


def claim_folder(folder: Path, plan: dict[str, Any]) -> None:
    """Make the output folder this plan's, or find that it is already.

    Raises:
        ConfigError: it belongs to another plan, or holds other things.
        StorageError: it cannot be written.
    """
    path = folder / PLAN
    if path.is_file():
        # What only reads the clips may change between two calls.
        ours, theirs = (_of_clips(p) for p in (plan, read_json(path)))
        if names := _differing(ours, theirs):
            raise ConfigError(
                f"{folder} holds an evaluation with other {', '.join(names)}: name a new folder, "
                "or call it as before to go on"
            )
    elif folder.is_dir() and any(folder.iterdir()):
        raise ConfigError(f"{folder} is not empty: name a new folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(path, plan)
    except OSError as error:
        raise StorageError(f"cannot write to {folder}: {error.strerror or error}") from error


def require_final(split: str, again: bool) -> None:
    """Refuse to use a final split again where no final split is used.

    Raises:
        ConfigError: `again` without it.
    """
    if again and split != "final":
        raise ConfigError(
            f"--again is for a final split, and the split is {split!r}: say --split final too, or "
            "leave --again out"
        )


def refuse_second_look(prompts: Path, plan: dict[str, Any], split: str, again: bool) -> None:
    """Refuse a final split that another plan has used, before anything is made.

    Args:
        prompts: the file; its uses are in NAME.uses.jsonl.
        plan: from `describe_plan`.
        split: as the user says.
        again: the user knows, and wants it.

    Raises:
        ConfigError: it was used by another plan, or it is a final split and called otherwise.
        InputError: the list of uses is damaged.
    """
    ledger = _ledger(prompts)
    uses = _uses(ledger)
    if not uses:
        return
    if split != "final":
        raise ConfigError(
            f"{prompts} is a final split, its uses are in {ledger.name}: say --split final, or "
            "choose by other prompts"
        )
    if not uses.keys() & set(_digests(plan)) and not again:
        raise ConfigError(
            f"{prompts} was used already ({', '.join(uses.values())}), and a final split "
            "shows what is true only once: take other prompts, or say --again, and the report tells"
        )


def count_use(prompts: Path, plan: dict[str, Any]) -> int:
    """Write down beside a final split that it was used, and say how often by now.

    The same plan counts once: going on after a crash, or making the same clips anew, is no second
    look.

    Args:
        prompts: the file; its uses are in NAME.uses.jsonl.
        plan: from `describe_plan`.

    Raises:
        StorageError: it cannot be written down.
    """
    ledger, digests = _ledger(prompts), _digests(plan)
    uses = _uses(ledger)
    if not uses.keys() & set(digests):
        row = {"date": datetime.now(UTC).isoformat(timespec="seconds"), "plan": digests[0]}
        row["model"] = str(plan.get("model", "existing audio"))
        try:
            with ledger.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            raise StorageError(
                f"cannot write down in {ledger} that the final split is used: "
                f"{error.strerror or error}"
            ) from error
        uses[digests[0]] = row["date"]
    return len(uses)


def _ledger(prompts: Path) -> Path:
    return prompts.with_name(f"{prompts.stem}.uses.jsonl")


def _digests(plan: dict[str, Any]) -> list[str]:
    """Hash what decides the clips: as it is, and with weights by last names, as ledgers may."""
    content = {k: v for k, v in _of_clips(plan).items() if k not in _NOT_OF_USE}
    ways = [content]
    if "weights" in content:
        ways.append(content | {"weights": _by_last_name(content["weights"])})
    return [hashlib.sha256(json.dumps(w, sort_keys=True).encode()).hexdigest() for w in ways]


def _by_last_name(weights: dict[str, Any]) -> dict[str, Any]:
    """Name each arm's weights by the folder alone, of two that are alike the last."""
    return {arm: {Path(n).name: h for n, h in own.items()} for arm, own in weights.items()}


def _differing(ours: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    """Name what differs between two plans: of names both, of what is kept by name the first."""
    found = []
    for key in dict.fromkeys([*ours, *theirs]):
        one, two = ours.get(key), theirs.get(key)
        if one == two or (key in _NOT_IN_ALL and two is None):
            continue
        if isinstance(one, dict) and isinstance(two, dict):
            if key == "weights" and _by_last_name(one) == two:
                continue
            first = next(k for k in [*one, *two] if one.get(k) != two.get(k))
            found.append(f"{key} ({first})")
        elif key in ("model", "device", "dtype"):
            found.append(f"{key} ({two}, not {one})")
        else:
            found.append(key)
    return found


def _uses(ledger: Path) -> dict[str, str]:
    """Read the uses of a final split: digest of the plan -> date."""
    try:
        lines = ledger.read_text(encoding="utf-8").splitlines() if ledger.is_file() else []
        rows = [json.loads(line) for line in lines if line.strip()]
        return {str(row["plan"]): str(row["date"])[:10] for row in rows}
    except OSError as error:
        raise StorageError(f"cannot read {ledger}: {error.strerror or error}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{ledger} is not a list of uses ({error}): mend it") from error


def _of_clips(plan: dict[str, Any]) -> dict[str, Any]:
    """Keep what decides the clips; statistics may be done again in other ways."""
    content: dict[str, Any] = json.loads(json.dumps(plan))
    for name in ("statistics", "throughput"):
        content["config"].pop(name, None)
    return content
