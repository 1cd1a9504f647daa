"""Studies to start from: a commented study.yaml and its prompts."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from musicgen_rl.config import require, require_number

_PLAIN = re.compile(r"[A-Za-z./][\w./-]*")
"""Text that needs no quotes in YAML."""
_CHARACTERS = (
    "slow sad", "bright and quick", "calm", "dark, tense", "playful", "solemn", "dreamy",
    "energetic", "gentle", "proud",
)  # fmt: skip
_SCENES = (
    "solo piano", "string quartet", "acoustic guitar and flute", "jazz trio with walking bass",
    "bossa nova with nylon guitar", "rock band with distorted guitar", "funk with slap bass",
    "reggae with organ", "house beat with synth chords", "ambient pads", "march for brass band",
)  # fmt: skip
_LAST = "waltz for accordion and strings"

_HEAD = """\
# A listening study. `musicgen-rl listen plan FOLDER` checks it, estimates its power and freezes it.
version: 1
title: "Which music sounds better?"
# Everything random (who hears what, in which order) follows from this number.
seed: 20261124

# What raters agree to before anything is stored. Put your institution's words here. The page adds
# how long it takes, what is stored, and when and how it is deleted.
consent: |
  You will listen to short pieces of computer-made music and answer questions about them.
  Taking part is voluntary.
# Whom a rater may ask, and write to for deletion: an e-mail address, for example.
contact: ""
# So many days after a rater began, all that is stored about that person is deleted: by
# `listen serve` while it runs, and by every other command that opens the answers.
retention_days: 365

# What is compared. Raters never see these names.
# An arm is a model with settings (diversity, guidance_scale, guidance_s, temperature, top_k,
# top_p) ...
arms:
  quality:
    model: {model}
    diversity: 0.0
  diverse:
    model: {model}
    diversity: 1.0
# ... or a folder of finished audio, its files named PROMPT-CLIP.wav (001-1.wav, 001-2.wav, ...):
#  other:
#    audio: /data/other-system

# A text file, one prompt a line, or a list.
prompts: prompts.txt
# Heard in the practice trials only.
practice_prompts:
  - "cheerful folk tune with fiddle"
  - "lo-fi beat with electric piano"

# Every clip is brought to this length, rate and loudness.
clips:
  duration_s: {duration}
  sample_rate: 32000
  channels: 1
  target_lufs: -20
  seed: 1

"""
_RATING = """\
  # Single clips on the three scales of the paper, each from 1 to 5 with a word at every point.
  - id: scales
    kind: rating
    prompts: {rated}          # the first so many of the list
    raters_per_prompt: {rating_raters}
    show_prompt: true
    items:
      acoustic_quality:
        ask: "How is the sound quality? Listen for noise, distortion and muffled sound."
        words: [bad, poor, fair, good, excellent]
        # Damaged sound has a low answer: attention checks are judged by this item.
        check: quality
      text_adherence:
        ask: "How well does the music fit the text?"
        words: [not at all, a little, in part, mostly, entirely]
      musicality:
        ask: "How musical is it? Think of melody, harmony, rhythm and form."
        words: [bad, poor, fair, good, excellent]
"""
_SETS = """\
  # Groups of clips, each group made by one arm from one prompt, heard one clip after the other.
  - id: variety
    kind: sets
    prompts: {sets}
    raters_per_prompt: {sets_raters}
    clips_per_set: 4
    ties: true            # "no difference" may be answered
    show_prompt: true
    items:
      more_varied:
        ask: "Which group is more varied?"
        check: variety      # attention checks: one piece repeated against different ones
      keep: "Which group would you rather keep?"
"""
_PAIR = """\
  # Two clips of one prompt.
  - id: preference
    kind: pair
    prompts: {pairs}
    raters_per_prompt: {judges}
    ties: true
    items:
      prefer:
        ask: "Which one do you prefer?"
        check: quality      # attention checks: damaged sound against the same undamaged
"""
_MUSHRA = """\
  # All arms beside an open reference; the reference again and two low-pass anchors are hidden.
  - id: grades
    kind: mushra
    prompts: {rated}
    raters_per_prompt: {judges}
    show_prompt: false
    items:
      grade: "How close does each one sound to the reference?"
  # Is the difference heard at all? X is one of the two.
  - id: same
    kind: abx
    prompts: {pairs}
    raters_per_prompt: {judges}
    show_prompt: false
    items:
      x: "Which one is X?"
"""
_TAIL = """\

raters:
  count: {raters}
  practice: 2               # trials before the first that counts
  attention_checks: 4       # trials with a known answer, for each rater
  repeats: 3                # trials asked twice, to see how steady a rater is
  minimum_listening_s: {minimum}    # of every clip, before an answer is taken
  break_every: 20           # trials between two offers of a pause
  headphones: true          # a short check at the beginning; its result is stored

# Frozen by `listen plan`, before the first answer.
analysis:
  level: 0.05               # for all planned comparisons together (Holm)
  resamples: 2000
  max_attention_failures: 1 # who fails more often is left out; the report shows both
  planned: all              # or a list of {{question: ..., item: ..., arms: [one, other]}}
"""

PRESETS = {
    "paper": "three scales on 101 prompts by 3 raters each, groups of 4 clips on 50 prompts",
    "small": "preference and variety on 12 prompts, for a trial run",
    "mushra": "grades against a reference with anchors, and abx, on 12 prompts",
}
"""Name -> what it asks."""


def preset_prompts(count: int) -> list[str]:
    """Write prompts of our own, all different: at most 101.

    Returns:
        Neighbours differ in character and instruments.
    """
    every = [
        f"{_CHARACTERS[(row + column) % len(_CHARACTERS)]} {_SCENES[row]}"
        for column in range(len(_CHARACTERS))
        for row in range(len(_SCENES))
    ]
    return [*every[:100], _LAST][:count] if count > 100 else every[:count]


@dataclass(frozen=True, kw_only=True)
class Size:
    """What may be changed in a preset without an editor; None keeps its own."""

    prompts: int | None = None
    """At most 101; groups are asked on half of them in the paper's preset."""
    raters: int | None = None
    """How many people; each prompt is judged by no more than there are."""
    duration_s: float | None = None
    """Length of a clip."""
    model: str = "pocket"
    """What makes the clips of both arms: pocket, a folder, or a hub id."""

    def __post_init__(self) -> None:
        """Check every field."""
        for name, value, low, high in (
            ("prompts", self.prompts, 2, 101), ("raters", self.raters, 1, 10_000),
        ):  # fmt: skip
            require(
                value is None or low <= value <= high,
                f"--{name} must be from {low} to {high}, got {value}",
            )
        if self.duration_s is not None:
            require_number("--duration", self.duration_s, 1.0, 120.0, unit="s")


def preset_text(name: str, size: Size | None = None) -> tuple[str, list[str]]:
    """Write a preset's study.yaml and its prompts.

    Raises:
        ConfigError: there is no such preset.
    """
    size = size or Size()
    require(name in PRESETS, f"unknown preset {name!r}: there are {', '.join(PRESETS)}")
    paper = name == "paper"
    rated = size.prompts or (101 if paper else 12)
    raters = size.raters or (12 if paper else 6)
    duration = size.duration_s or (8.0 if paper else 6.0)
    # Both orders of a pair need an even number of judgements.
    sets = max(2, rated // 2) if paper else rated
    judges = min(4, raters)
    sets_raters = min(3, raters) if paper else judges
    values = {
        "rated": rated, "sets": _even(sets, sets_raters), "pairs": _even(rated, judges),
        "raters": raters, "rating_raters": min(3, raters), "sets_raters": sets_raters,
        "judges": judges, "duration": f"{duration:g}", "minimum": f"{min(4.0, duration):g}",
        "model": size.model if _PLAIN.fullmatch(size.model) else json.dumps(size.model),
    }  # fmt: skip
    parts = {"paper": [_RATING, _SETS], "small": [_PAIR, _SETS], "mushra": [_MUSHRA]}[name]
    head, tail = _HEAD, _TAIL
    if name == "mushra":
        head = head.replace(
            "# A text file, one prompt",
            "# The arm that the others are graded against.\nreference: quality\n\n"
            "# A text file, one prompt",
        ).replace(
            "    diversity: 1.0\n",
            "    diversity: 1.0\n  halfway:\n    model: {model}\n    diversity: 0.5\n",
        )
    text = "".join([head, "questions:\n", *parts, tail]).format(**values)
    return text, preset_prompts(rated)


def _even(prompts: int, judges: int) -> int:
    """Take one prompt less where prompts times judges is odd."""
    return prompts - prompts * judges % 2


def write_preset(folder: Path, name: str, size: Size | None = None) -> Path:
    """Write study.yaml and prompts.txt into a folder.

    Args:
        folder: of the study.
        name: of PRESETS.
        size: what differs from the preset.

    Returns:
        The study file.

    Raises:
        ConfigError: there is no such preset, or a study is there already.
    """
    text, prompts = preset_text(name, size)
    path = folder / "study.yaml"
    require(
        not path.exists(), f"{str(path)!r} is there already: name another folder, or edit that file"
    )
    texts = folder / "prompts.txt"
    require(not texts.exists(), f"{str(texts)!r} is there already: name another folder")
    folder.mkdir(parents=True, exist_ok=True)
    texts.write_text("\n".join(prompts) + "\n", encoding="utf-8")
    path.write_text(text, encoding="utf-8")
    return path
