"""Arms: the ways of making clips that are compared."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from musicgen_rl.config import SamplingConfig, require, require_number
from musicgen_rl.errors import ConfigError, InputError
from musicgen_rl.merging.recipe import MergeConfig
from musicgen_rl.pipeline.request import override_sampling

COMMON = {"guidance_scale": 1.0, "temperature": 1.0, "top_p": 1.0, "negative_prompt": ""}
"""Sampling of every arm unless it says otherwise: the policy itself, top-k the model's own."""

FAMILIES = {
    "base": "the model as it is, no guidance",
    "guidance": "guidance on the base",
    "temperature": "temperature on the base",
    "top-p": "top-p on the base",
    "merge": "the line between the ends (LERP)",
    "slerp": "the arc between the ends (SLERP)",
    "liti": "the arc, back towards the base (LITI)",
    "guided merge": "guidance on a merge",
    "control": "controls",
    "other": "other arms",
}
"""Family -> what its arms share; a line of the figure each."""

ROLES = ("", "beta-0", "half-way", "continued")
"""What a control stands for in the claims."""

TRAINED = {"beta0": "beta-0", "continued": "continued"}
"""Name -> role of the controls that must be trained."""

_TOP = ("reference", "sampling", "arms")
"""What an arms file holds."""

_OTHER = re.compile(r"model\s+(?P<model>\S.*?)\s+as\s+(?P<name>\S.*)")


@dataclass(frozen=True, kw_only=True)
class Mix:
    """Two models' weights mixed into an arm's."""

    first: str
    """base, quality or diversity of the evaluated model; or a folder, a name, a hub id."""
    second: str
    """As `first`; this one has the weight lam."""
    config: MergeConfig = field(default_factory=MergeConfig)
    """How."""


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way of making clips."""

    name: str
    """Short, for the figure; unique."""
    family: str = "other"
    """Which line of the figure it belongs to: a key of FAMILIES."""
    sampling: Mapping[str, Any] = field(default_factory=dict)
    """What differs from COMMON."""
    model: str = ""
    """A folder, name or hub id; empty is the evaluated model."""
    diversity: float | None = None
    """Where the evaluated model's dial stands; None is the base."""
    merge_method: str = "lerp"
    """The dial's way between the ends."""
    mix: Mix | None = None
    """Weights made of two models; written to a folder before the run."""
    role: str = ""
    """What a control stands for: one of ROLES."""

    def __post_init__(self) -> None:
        """Check what can be checked without the model."""
        require(bool(self.name.strip()), "an arm needs a name")
        require(
            isinstance(self.family, str) and self.family in FAMILIES,
            f"arm {self.name!r}: unknown family {self.family!r}: use {', '.join(FAMILIES)}",
        )
        require(
            self.role in ROLES,
            f"arm {self.name!r}: unknown role {self.role!r}: use {', '.join(ROLES[1:])}",
        )
        ways = [bool(self.model), self.diversity is not None, self.mix is not None]
        require(
            sum(ways) <= 1, f"arm {self.name!r}: give one of model, diversity and merge, not more"
        )
        try:
            if self.diversity is not None:
                MergeConfig(lam=self.diversity, method=self.merge_method)
            override_sampling(SamplingConfig(), **{**COMMON, **self.sampling})
        except ConfigError as error:
            raise ConfigError(f"arm {self.name!r}: {error}") from error

    @property
    def slug(self) -> str:
        """The name as a folder's name."""
        return re.sub(r"[^a-z0-9.]+", "-", self.name.lower()).strip("-.") or "arm"

    @property
    def guidance_scale(self) -> float:
        """Guidance of this arm; 1 is off."""
        return float(self.sampling.get("guidance_scale", COMMON["guidance_scale"]))

    @property
    def temperature(self) -> float:
        """Temperature of this arm."""
        return float(self.sampling.get("temperature", COMMON["temperature"]))

    @property
    def lam(self) -> float | None:
        """Where between two models its weights stand; None where they are one model's."""
        return self.mix.config.lam if self.mix is not None else self.diversity

    def describe(self) -> dict[str, Any]:
        """Return what makes this arm, JSON-able."""
        weights: dict[str, Any] = {"model": self.model or "the evaluated model"}
        if self.diversity is not None:
            weights |= {"diversity": self.diversity, "method": self.merge_method}
        if self.mix is not None:
            weights = {"first": self.mix.first, "second": self.mix.second}
            weights |= {"lam": self.mix.config.lam, "method": self.mix.config.method}
        return {
            "name": self.name, "family": self.family, "role": self.role, "weights": weights,
            "sampling": {**COMMON, **self.sampling},
        }  # fmt: skip


def default_arms(
    *,
    dial: bool,
    pair: tuple[str, str] | None = None,
    beta0: str = "",
    continued: str = "",
    quick: bool = False,
) -> list[Arm]:
    """Build the arms everyone asks for.

    Args:
        dial: whether the model has a quality and a diversity end of its own.
        pair: two models, folders or hub ids, to stand for its ends; merges of them are written.
        beta0: folder of the control trained with the same steps without the reward, if any.
        continued: folder of the control of plain continued training, if any.
        quick: the six that show the most.
    """
    arms = [Arm(name="base", family="base")]
    for scale in (3.0,) if quick else (1.25, 1.5, 2.0, 3.0):
        sampling = {"guidance_scale": scale}
        arms.append(Arm(name=f"guidance {scale:g}", family="guidance", sampling=sampling))
    for temperature in (1.2,) if quick else (0.9, 1.1, 1.2):
        sampling = {"temperature": temperature}
        arms.append(Arm(name=f"temperature {temperature:g}", family="temperature",
                        sampling=sampling))  # fmt: skip
    if not quick:
        arms.append(Arm(name="top-p 0.9", family="top-p", sampling={"top_p": 0.9}))
    if dial or pair is not None:
        arms += [_on_line(lam, pair) for lam in ((0, 0.5, 1) if quick else (0, 0.25, 0.5, 0.75, 1))]
    if (dial or pair is not None) and not quick:
        arms += [
            _between("slerp 0.5", "slerp", pair, method="slerp"),
            _between("liti 0.5", "liti", pair, method="liti"),
            _between("merge 0.5 at guidance 1.5", "guided merge", pair,
                     sampling={"guidance_scale": 1.5}),
            Arm(name="base with quality 0.5", family="control", role="half-way",
                mix=Mix(first="base", second="quality" if pair is None else pair[0])),
        ]  # fmt: skip
    return arms + trained_controls(beta0, continued)


def trained_controls(beta0: str, continued: str) -> list[Arm]:
    """Make arms of the controls that must be trained; an empty folder makes none."""
    given = zip(TRAINED, (beta0, continued), strict=True)
    return [model_arm(folder, name) for name, folder in given if folder]


def model_arm(model: str, name: str) -> Arm:
    """Make an arm of another model: a control where its name is one of TRAINED, else itself.

    Args:
        model: a folder, name or hub id.
        name: of the arm.
    """
    role = TRAINED.get(name, "")
    return Arm(name=name, family="control" if role else "other", role=role, model=model)


def read_arms(path: Path) -> tuple[list[Arm], str]:
    """Read an arms file.

    Args:
        path: JSON: {"reference": NAME, "sampling": {...}, "arms": [{"name", "family", "role",
            "sampling", and one of "model", "diversity" (with "merge_method"), "merge"}]}.

    Returns:
        The arms and the name of the one that others are compared with.

    Raises:
        InputError: it cannot be read.
        ConfigError: an arm that cannot be made, two of one name, no such reference, an unknown key.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"cannot read the arms {path}: {error}") from error
    rows = content.get("arms") if isinstance(content, dict) else None
    if not isinstance(rows, list) or not rows:
        raise InputError(f'{path} holds no arms: write {{"arms": [{{"name": "base"}}, ...]}}')
    if unknown := sorted(set(content) - set(_TOP)):
        raise ConfigError(f"{path}: unknown {unknown[0]!r}: use {', '.join(_TOP)}")
    common = _sampling(content, str(path))
    arms = [_arm(row, common) for row in rows]
    reference = _text(content, "reference", str(path)) or arms[0].name
    check_arms(arms, reference)
    return arms, reference


def check_arms(arms: list[Arm], reference: str) -> None:
    """Refuse arms that cannot be told apart, or a reference that is not among them.

    Raises:
        ConfigError: says which.
    """
    slugs: dict[str, str] = {}
    for arm in arms:
        if arm.slug in slugs:
            raise ConfigError(
                f"arms {slugs[arm.slug]!r} and {arm.name!r} have one name for a folder: rename one"
            )
        slugs[arm.slug] = arm.name
    if reference not in slugs.values():
        raise ConfigError(
            f"there is no arm {reference!r} to compare with: there are "
            f"{', '.join(a.name for a in arms)}"
        )


def choose_arms(arms: list[Arm], wanted: list[str], reference: str) -> list[Arm]:
    """Keep the arms of some names, and add other models.

    Args:
        arms: to choose from.
        wanted: their names, "default" for all of them, "model PATH as NAME" for another model.
        reference: kept too, as are trained controls: those were asked for one by one.

    Raises:
        ConfigError: one does not exist.
    """
    known = {a.name for a in arms}
    names, added = {reference, *TRAINED}, []
    for text in wanted:
        if other := _OTHER.fullmatch(text):
            added.append(model_arm(other["model"], other["name"]))
        elif text == "default":
            names |= known
        elif text in known:
            names.add(text)
        else:
            raise ConfigError(
                f"there is no arm {text!r}: there are {', '.join(sorted(known))}; another model is "
                "written as model PATH as NAME"
            )
    return [a for a in arms if a.name in names] + added


def _on_line(lam: float, pair: tuple[str, str] | None) -> Arm:
    name = {0.0: "quality", 1.0: "diversity"}.get(lam, f"merge {lam:g}")
    return _between(name, "merge", pair, lam=float(lam))


def _between(
    name: str,
    family: str,
    pair: tuple[str, str] | None,
    *,
    lam: float = 0.5,
    method: str = "lerp",
    sampling: Mapping[str, Any] | None = None,
) -> Arm:
    """Make an arm on the model's dial, or between two models."""
    more: dict[str, Any] = {"diversity": lam, "merge_method": method}
    if pair is not None:
        config = MergeConfig(lam=lam, method=method)
        more = {"mix": Mix(first=pair[0], second=pair[1], config=config)}
    return Arm(name=name, family=family, sampling=sampling or {}, **more)


def _arm(row: Any, common: Mapping[str, Any]) -> Arm:
    if not isinstance(row, dict) or not isinstance(row.get("name"), str):
        raise InputError(f"an arm must be an object with a name, got {row!s:.80}")
    known = {"name", "family", "role", "sampling", "model", "diversity", "merge_method", "merge"}
    if unknown := sorted(set(row) - known):
        raise ConfigError(f"arm {row['name']!r}: unknown {unknown[0]!r}: use {', '.join(known)}")
    where = f"arm {row['name']!r}"
    fields = {k: row[k] for k in row if k not in ("merge", "sampling", "diversity")}
    for key in ("model", "merge_method"):
        _text(row, key, where)
    if row.get("merge_method") is not None and row.get("diversity") is None:
        raise ConfigError(
            f'{where}: merge_method {row["merge_method"]!r} is for "diversity", which is missing: '
            'give it, or say "method" in "merge"'
        )
    if row.get("diversity") is not None:
        require_number(f"{where}: diversity", row["diversity"], 0.0, 1.0)
        fields["diversity"] = float(row["diversity"])
    if row.get("merge") is not None:
        try:
            fields["mix"] = _mix(row["merge"])
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from error
    return Arm(sampling={**common, **_sampling(row, where)}, **fields)


def _sampling(row: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    """Read "sampling" of a file or an arm; empty where it is not there."""
    found = row.get("sampling")
    if found is not None and not isinstance(found, dict):
        raise ConfigError(
            f'{where}: "sampling" must be an object such as {{"temperature": 1.1}}, got '
            f"{found!r:.80}"
        )
    return found or {}


def _text(row: Mapping[str, Any], key: str, where: str) -> str:
    """Read a text of a file or an arm; "" where it is not there."""
    found = row.get(key)
    if found is not None and not isinstance(found, str):
        raise ConfigError(f"{where}: {key!r} must be text, got {found!r:.80}")
    return found or ""


def _mix(merge: Any) -> Mix:
    """Read an arm's "merge"."""
    how = ("lam", "method", "strength")
    known = ("quality", "diversity", *how)
    if not isinstance(merge, dict):
        raise ConfigError(
            f'"merge" must be an object with {", ".join(known)}, got {merge!r:.80}: for a place on '
            'the model\'s own dial write "diversity"'
        )
    if unknown := sorted(set(merge) - set(known)):
        raise ConfigError(f'unknown {unknown[0]!r} in "merge": use {", ".join(known)}')
    return Mix(
        first=str(merge.get("quality", "quality")),
        second=str(merge.get("diversity", "diversity")),
        config=MergeConfig(**{k: merge[k] for k in how if k in merge}),
    )
