"""Existing audio as arms: a folder of DIR/arm/prompt/*.wav, whoever made it."""

from dataclasses import dataclass
from pathlib import Path

import soundfile

from musicgen_rl.audio.encoding import FORMATS
from musicgen_rl.errors import AudioFileError, InputError
from musicgen_rl.evaluation.features import ClipRef
from musicgen_rl.evaluation.prompts import Prompt, require_prompts

PROMPT_FILE = "prompt.txt"
"""In a prompt's folder: the prompt, where the folder's name is not it."""


@dataclass(frozen=True)
class Scan:
    """What a folder of audio holds."""

    arms: list[str]
    """Names of the arms, sorted."""
    prompts: list[Prompt]
    """Those that every arm has."""
    clips: list[ClipRef]
    """All clips of those prompts."""
    sample_rate: int
    """Hz of all of them."""
    duration_s: float
    """Length of all of them."""
    left_out: int
    """Prompts that some arm lacks."""
    not_asked: int
    """Prompts that all arms have and the file of prompts does not."""


def scan_folder(folder: Path, prompts: list[Prompt] | None = None) -> Scan:
    """Find the clips of DIR/arm/prompt/*.wav (or flac, ogg, mp3), reading headers only.

    Args:
        folder: DIR.
        prompts: where their attributes are known; matched by text.

    Raises:
        InputError: no arms, too few prompts that all arms have, none of them among `prompts`, two
            folders of one prompt, single clips of a prompt.
        AudioFileError: a file is not audio, or of another length or rate than the first.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder: give one that holds arm/prompt/*.wav")
    known = {p.text: p for p in prompts or []}
    found: dict[str, dict[str, list[Path]]] = {}
    for own in sorted(p for p in folder.iterdir() if p.is_dir() and p.name[0] != "."):
        for place in sorted(p for p in own.iterdir() if p.is_dir()):
            files = sorted(p for p in place.iterdir() if p.suffix.lower().lstrip(".") in FORMATS)
            if files:
                text, texts = _text_of(place), found.setdefault(own.name, {})
                if text in texts:
                    raise InputError(
                        f"{texts[text][0].parent} and {place} are both of the prompt {text!r:.60}: "
                        f"put their clips into one folder, or mend {PROMPT_FILE} in one of them"
                    )
                texts[text] = files
    if not found:
        raise InputError(f"{folder} holds no arm/prompt/*.wav: put each arm in a folder of its own")
    shared = set.intersection(*(set(texts) for texts in found.values()))
    ordered = [p for p in known if p in shared] if known else sorted(shared)
    if shared and not ordered:
        raise InputError(
            f"the file of prompts has none of the {len(shared)} prompts that all arms in {folder} "
            f"have, such as {min(shared)!r:.60}: name each folder as its prompt is, write the "
            f"prompt into a {PROMPT_FILE} in it, or leave --prompts out"
        )
    asked = " and the file of prompts holds" if known else ""
    require_prompts(len(ordered), f"{folder}, prompts that all {len(found)} arms have{asked}")
    listed = [known.get(text, Prompt(text)) for text in ordered]
    clips = [
        ClipRef(arm=arm, prompt=prompt, prompt_index=p, index=i, path=path)
        for arm, texts in found.items()
        for p, prompt in enumerate(listed)
        for i, path in enumerate(texts[prompt.text])
    ]
    for arm, texts in found.items():
        for prompt in listed:
            if len(texts[prompt.text]) < 2:
                raise InputError(
                    f"arm {arm!r} has one clip of {prompt.text!r:.60}: diversity compares clips of "
                    "one prompt, give at least 2"
                )
    rate, duration = _common_shape(clips)
    everywhere = {text for texts in found.values() for text in texts}
    left_out, not_asked = len(everywhere - shared), len(shared) - len(ordered)
    return Scan(list(found), listed, clips, rate, duration, left_out, not_asked)


def _text_of(place: Path) -> str:
    """Read the prompt of a folder: its prompt.txt, else its name."""
    written = place / PROMPT_FILE
    if not written.is_file():
        return place.name
    try:
        text = written.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {written}: {error}") from error
    return text or place.name


def _common_shape(clips: list[ClipRef]) -> tuple[int, float]:
    """Return the rate and length of the first clip, after checking that all have them."""
    rate, duration = 0, 0.0
    for clip in clips:
        try:
            info = soundfile.info(clip.path)
        except soundfile.SoundFileError as error:
            raise AudioFileError(f"{clip.path} is not a readable audio file: {error}") from error
        if not rate:
            rate, duration = int(info.samplerate), float(info.duration)
        if info.samplerate != rate or abs(info.duration - duration) > 0.02 * duration:
            raise AudioFileError(
                f"{clip.path} has {info.samplerate} Hz and {info.duration:.2f} s, the first clip "
                f"{rate} Hz and {duration:.2f} s: bring all to one rate and one length"
            )
    return rate, duration
