"""The prompts of an evaluation, and what each of them asks for."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from musicgen_rl.data.manifest import numbered_lines, parse_entry, parse_object
from musicgen_rl.errors import InputError
from musicgen_rl.evaluation.bootstrap import MIN_PROMPTS
from musicgen_rl.pipeline.request import check_prompts

_OBJECTS = (".jsonl", ".json")
_ENDINGS = ("", ".txt", *_OBJECTS)


@dataclass(frozen=True)
class Prompt:
    """One prompt."""

    text: str
    """What is asked of the model."""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    """Attribute -> value, or list of values, that the text asks for."""
    from_words: bool = True
    """Only attributes whose value is a word of the text count; False takes them as they are."""


def read_prompts(path: Path) -> list[Prompt]:
    """Read a prompts file.

    Args:
        path: .txt with a prompt a line (empty lines and lines that start with # are skipped), or
            .jsonl with objects: {"prompt": ..., "attributes": {...}}, where the attributes are
            those the prompt asks for; or a manifest's lines, of which the first caption counts.

    Returns:
        The prompts in order.

    Raises:
        InputError: naming file, line and fault, NaN and a key given twice among them; or another
            kind of file, too few prompts, or one given twice.
    """
    ending = path.suffix.lower()
    if ending not in _ENDINGS:
        raise InputError(
            f"{path}: a file that ends in {ending} is not read as prompts: write them to a .txt, "
            'one a line, or to a .jsonl of {"prompt": ..., "attributes": {...}}'
        )
    found: list[Prompt] = []
    seen: dict[str, int] = {}
    for number, line in numbered_lines(path):
        if line.lstrip().startswith("#"):
            continue
        try:
            prompt = _parse(line) if ending in _OBJECTS else Prompt(line)
            check_prompts(prompt.text)
        except InputError as error:
            raise InputError(f"{path}, line {number}: {error}") from error
        text = prompt.text.strip()
        if text in seen:
            raise InputError(
                f"{path}, line {number}: the prompt {text!r:.60} is there already, on line "
                f"{seen[text]}: each prompt counts once"
            )
        seen[text] = number
        found.append(Prompt(text, prompt.attributes, prompt.from_words))
    require_prompts(len(found), str(path))
    return found


def require_prompts(count: int, where: str) -> None:
    """Refuse fewer prompts than the bootstrap can bear.

    Raises:
        InputError: fewer than MIN_PROMPTS.
    """
    if count < MIN_PROMPTS:
        raise InputError(
            f"{where}: {count} prompts are too few to tell chance from difference: give at least "
            f"{MIN_PROMPTS}, better 30"
        )


def spread_prompts(prompts: Sequence[Prompt], count: int) -> list[Prompt]:
    """Choose `count` prompts spread evenly over the file; all where count is 0 or larger."""
    if not 0 < count < len(prompts):
        return list(prompts)
    return [prompts[i * len(prompts) // count] for i in range(count)]


def hash_prompts(prompts: Sequence[Prompt]) -> str:
    """Hash the texts in order: sha256, hexadecimal."""
    return hashlib.sha256("\n".join(p.text for p in prompts).encode()).hexdigest()


def hash_attributes(prompts: Sequence[Prompt]) -> str:
    """Hash what the prompts' file says that they ask for, in order: sha256, hexadecimal."""
    told = [[dict(p.attributes), p.from_words] for p in prompts]
    return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()


def asked(prompt: Prompt, classes: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Say what a prompt asks for, in a probe's own classes.

    Args:
        prompt: as read.
        classes: attribute -> class names, from the probe.

    Returns:
        Attribute -> value or values. Where the prompt's file does not say what is asked for, an
        attribute counts if exactly one of its classes stands in the text, word for word.
    """
    if not prompt.from_words:
        return {k: v for k, v in prompt.attributes.items() if k in classes}
    found: dict[str, Any] = {}
    for attribute, names in classes.items():
        given = prompt.attributes.get(attribute)
        allowed = names if given is None else _listed(given)
        named = _longest([n for n in allowed if n in names and _stands_in(n, prompt.text)])
        if len(named) == 1:
            found[attribute] = named[0]
    return found


def _parse(line: str) -> Prompt:
    row = parse_object(line)
    if "prompt" not in row:
        entry = parse_entry(line if "audio" in row else json.dumps({"audio": "-"} | row))
        return Prompt(entry.captions[0], entry.attributes)
    text, attributes = row["prompt"], row.get("attributes") or {}
    if not isinstance(text, str) or not isinstance(attributes, dict):
        raise InputError('"prompt" must be text and "attributes" an object')
    return Prompt(text, attributes, from_words=not attributes)


def _listed(value: Any) -> list[str]:
    return [str(v) for v in value] if isinstance(value, list | tuple) else [str(value)]


def _stands_in(name: str, text: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(name.lower())}(?!\w)", text.lower()) is not None


def _longest(names: list[str]) -> list[str]:
    """Leave out names that are part of another: "pop" where "synth pop" was said."""
    return [n for n in names if not any(n != m and _stands_in(n, m) for m in names)]
