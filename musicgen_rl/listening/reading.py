"""From study.yaml to a Study; a mistake in the file is one sentence that says where."""

from collections.abc import Mapping
from dataclasses import fields
from itertools import combinations
from pathlib import Path
from typing import Any, TypeVar

import yaml

from musicgen_rl.config import require
from musicgen_rl.errors import ConfigError, InputError
from musicgen_rl.listening.study import (
    FIVE_WORDS,
    Analysis,
    Arm,
    ClipRules,
    Item,
    Planned,
    Question,
    Raters,
    Study,
)

STUDY_FILE = "study.yaml"
_LARGEST = 5_000_000  # bytes
T = TypeVar("T")


def load_study(path: str | Path) -> Study:
    """Read and check a study.

    Args:
        path: study.yaml, or the folder that holds it.

    Raises:
        InputError: there is no such file, or it is not YAML.
        ConfigError: something in it cannot work; the message names it.
    """
    path = Path(path)
    if path.is_dir():
        path = path / STUDY_FILE
    try:
        if path.stat().st_size > _LARGEST:
            raise InputError(f"{path} is larger than 5 MB: this is no study file")
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"there is no study {str(path)!r}: `musicgen-rl listen new FOLDER` writes one"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}") from None
    except (yaml.YAMLError, ValueError) as error:  # such as the date 2026-13-01
        raise InputError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    try:
        return parse_study(content, path.parent)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def parse_study(content: object, folder: Path) -> Study:
    """Turn the file's content into a Study.

    Args:
        content: what YAML gave.
        folder: where a file of prompts is looked for.

    Raises:
        ConfigError: something in it cannot work.
    """
    top = dict(_mapping("the study", content))
    arms = tuple(_arm(n, v) for n, v in _mapping("arms", top.pop("arms", None)).items())
    prompts = _prompts(top.pop("prompts", None), folder)
    questions = tuple(_question(q, prompts) for q in _list("questions", top.pop("questions", None)))
    raters = _build(Raters, "raters", top.pop("raters", {}))
    clips = _build(ClipRules, "clips", top.pop("clips", {}))
    analysis = dict(_mapping("analysis", top.pop("analysis", {})))
    planned = analysis.pop("planned", "all")
    reference = top.get("reference")
    if planned == "all":
        chosen = _every_comparison(arms, questions, reference)
    else:
        chosen = tuple(_planned(entry) for entry in _list("analysis.planned", planned))
    practice = _list("practice_prompts", top.pop("practice_prompts", []))
    rest = dict(top.items())
    return _build(
        Study,
        "the study",
        rest
        | {
            "arms": arms,
            "prompts": prompts,
            "practice_prompts": tuple(_text("practice_prompts", p) for p in practice),
            "questions": questions,
            "raters": raters,
            "clips": clips,
            "analysis": _build(Analysis, "analysis", analysis | {"planned": chosen}),
        },
    )


def _arm(name: object, content: object) -> Arm:
    given = dict(_mapping(f"arm {name!r}", content))
    known = {key: given.pop(key) for key in ("model", "audio") if key in given}
    return _build(Arm, f"arm {name!r}", known | {"name": name, "settings": given})


def _question(content: object, prompts: tuple[str, ...]) -> Question:
    given = dict(_mapping("a question", content))
    name = f"question {given.get('id')!r}"
    items = _mapping(f"items of {name}", given.pop("items", None))
    given.setdefault("prompts", len(prompts))
    built = tuple(_item(id, value, str(given.get("kind"))) for id, value in items.items())
    return _build(Question, name, given | {"items": built})


def _item(id: object, content: object, kind: str) -> Item:
    given: dict[str, Any] = (
        {"ask": content} if isinstance(content, str) else dict(_mapping(f"item {id!r}", content))
    )
    words = _list(f"words of {id!r}", given.get("words", FIVE_WORDS if kind == "rating" else ()))
    given["words"] = tuple(_text(f"words of {id!r}", word) for word in words)
    return _build(Item, f"item {id!r}", given | {"id": id})


def _planned(content: object) -> Planned:
    given = dict(_mapping("a planned comparison", content))
    arms = _list("arms of a planned comparison", given.get("arms"))
    require(len(arms) == 2, f"a planned comparison has two arms, got {len(arms)}: {arms!r}")
    return _build(Planned, "a planned comparison", given | {"arms": tuple(arms)})


def _every_comparison(
    arms: tuple[Arm, ...], questions: tuple[Question, ...], reference: object
) -> tuple[Planned, ...]:
    found = []
    for question in questions:
        hidden = reference if question.kind == "mushra" else None
        names = [arm.name for arm in arms if arm.name != hidden]
        for item in question.items:
            found += [
                Planned(question=question.id, item=item.id, arms=pair)
                for pair in combinations(names, 2)
            ]
    return tuple(found)


def _prompts(content: object, folder: Path) -> tuple[str, ...]:
    if isinstance(content, str):
        path = folder / content
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError) as error:
            raise ConfigError(f"prompts: {str(path)!r} cannot be read: {error}") from None
        found = tuple(line.strip() for line in lines if line.strip())
    else:
        found = tuple(_text("prompts", prompt) for prompt in _list("prompts", content))
    require(bool(found), "the study has no prompts: give a list or the name of a text file")
    return found


def _build(kind: type[T], name: str, given: object) -> T:
    """Make a dataclass of a mapping; an unknown or a missing name is said in a sentence."""
    given = _mapping(name, given)
    known = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    for key in given:
        require(key in known, f"{name}: unknown entry {key!r}: there are {', '.join(known)}")
    try:
        return kind(**given)
    except TypeError as error:
        missing = str(error).partition("argument")[2].lstrip("s:").strip()
        raise ConfigError(f"{name} lacks {missing or error}") from None
    except AttributeError as error:
        raise ConfigError(f"{name}: a value is of the wrong type ({error})") from None


def _mapping(name: str, content: object) -> Mapping[str, Any]:
    require(isinstance(content, dict), f"{name} must be a mapping of names to values")
    assert isinstance(content, dict)
    return content


def _list(name: str, content: object) -> list[Any]:
    require(isinstance(content, list | tuple), f"{name} must be a list, got {content!r:.40}")
    assert isinstance(content, list | tuple)
    return list(content)


def _text(name: str, content: object) -> str:
    require(isinstance(content, str), f"{name}: {content!r} is not text: put it in quotes")
    return str(content)
