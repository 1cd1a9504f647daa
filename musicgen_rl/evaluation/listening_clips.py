"""Clips for a listening study: generated or given, brought to one length, loudness and form.

Everything that could tell one arm from another without listening is made equal here: format,
length, rate, loudness, name, time stamp. What is left is the sound.
"""

import hashlib
import math
import os
import secrets
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from musicgen_rl.audio.clip import Clip
from musicgen_rl.audio.io import read_audio
from musicgen_rl.audio.loudness import integrated_loudness, true_peak
from musicgen_rl.errors import ConfigError, InputError
from musicgen_rl.listening.assignment import DAMAGED, ClipKey, required_clips
from musicgen_rl.listening.clips import (
    CLIPS_FOLDER,
    StoredClip,
    clips_are_made,
    wav_bytes,
    write_key,
)
from musicgen_rl.listening.origin import claim_weights
from musicgen_rl.listening.plan import Plan
from musicgen_rl.listening.study import ANCHORS, Arm, ClipRules, Study

if TYPE_CHECKING:
    from musicgen_rl.batch import Item
    from musicgen_rl.batch import Plan as BatchPlan

SILENCE_DB = -60.0
"""A clip below this RMS, or silent below it for more than half of its length, is refused."""
CEILING_DB = -1.0
_FADE_S = 0.01
_DAMAGE_HZ = 1000.0
_ENDINGS = (".wav", ".flac", ".ogg", ".mp3")
_SAME_TIME = 946_684_800  # 2000-01-01: a file's time says nothing about when it was made
Floats = NDArray[np.float32]


def make_clips(
    plan: Plan,
    *,
    device: str = "auto",
    say: Callable[[str], None] = lambda line: None,
    stop: Callable[[], bool] | None = None,
) -> Path:
    """Make every clip a study needs, with its key.

    Args:
        plan: of the study.
        device: for models: auto, cpu or cuda.
        say: prints a line.
        stop: asked between batches; what is made is kept for the next call.

    Returns:
        The key's path.

    Raises:
        InputError: a file is missing, too short, silent, generation did not finish, or a model is
            not the one that the clips were begun with.
        ConfigError, ModelError: a model or a setting cannot be used.
    """
    wanted = required_clips(plan.assignment)
    plain = sorted(
        {(key.arm, key.prompt, key.index) for key in wanted}, key=lambda k: (k[0], k[1], k[2])
    )
    sources: dict[tuple[str, int, int], Path] = {}
    for arm in plan.study.arms:
        mine = [key for key in plain if key[0] == arm.name]
        if arm.audio is not None:
            sources |= find_audio(arm, mine, plan.folder)
    models = [key for key in plain if key not in sources]
    if models:
        sources |= _generate(plan, models, device, say, stop)
    say(f"levelling {len(plain)} clips")
    rules = plan.study.clips
    shaped = {key: shape(read_audio(path), rules, path) for key, path in sources.items()}
    # Treated first, levelled after: an anchor or a check must not stand out by its loudness.
    treated = {
        key: treat(shaped[key.arm, key.prompt, key.index], key.treatment, rules.sample_rate)
        for key in wanted
    }
    levelled, target, peaky = match_loudness(treated, rules)
    folder = plan.folder / CLIPS_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    before = set(folder.glob("*.wav"))
    stored = [_write(folder, key, levelled[key], rules) for key in wanted]
    made = {"target_lufs": target, "asked_lufs": rules.target_lufs}
    path = write_key(plan.folder, plan.study, stored, made)
    for old in before:  # of an earlier call: only what the key names is kept
        old.unlink(missing_ok=True)
    if peaky is not None:
        say(
            f"loudness lowered from {rules.target_lufs:g} to {target:.1f} LUFS for all clips: the "
            f"peaks of {_named(peaky)} allow no more"
        )
    return path


def check_models(plan: Plan) -> None:
    """Refuse arms whose models or settings `make_clips` would refuse, without loading any.

    Folders of finished audio may still be empty when a study is planned, and a study whose clips
    are made needs its models no more.

    Args:
        plan: of the study.

    Raises:
        ModelError: a model is not there, or broken.
        ConfigError: a model lacks the dial that an arm turns, or a setting cannot be used.
    """
    if clips_are_made(plan.folder, plan.study, required_clips(plan.assignment)):
        return
    from musicgen_rl.checkpoint import find_model, read_info
    from musicgen_rl.pipeline.dial import require_endpoints, sampling_at

    for arm in plan.study.arms:
        if arm.model is not None:
            item = _item(plan.study, arm, 0, 0)
            info = read_info(find_model(arm.model))
            require_endpoints(info, item.diversity)
            sampling_at(info, item.diversity, **item.named_sampling())


def find_audio(
    arm: Arm, keys: Iterable[tuple[str, int, int]], folder: Path
) -> dict[tuple[str, int, int], Path]:
    """Find an arm's files, named PROMPT-CLIP, both from 1, with or without leading zeros.

    Raises:
        InputError: the folder or a file is missing, or two files have one number.
    """
    assert arm.audio is not None
    where = folder / arm.audio
    if not where.is_dir():
        raise InputError(f"arm {arm.name!r}: there is no folder {str(where)!r}")
    found: dict[tuple[int, int], Path] = {}
    for path in sorted(where.iterdir()):
        parts = path.stem.split("-")
        if path.suffix.lower() not in _ENDINGS or len(parts) != 2:
            continue
        if not all(part.isdecimal() for part in parts):
            continue
        number = (int(parts[0]), int(parts[1]))
        if number in found:
            raise InputError(
                f"arm {arm.name!r}: {found[number].name} and {path.name} are both clip "
                f"{number[1]} of prompt {number[0]}"
            )
        found[number] = path
    keys = list(keys)
    missing = [key for key in keys if (key[1] + 1, key[2] + 1) not in found]
    if missing:
        _, prompt, index = missing[0]
        raise InputError(
            f"arm {arm.name!r} lacks {len(missing)} of {len(keys)} clips in {str(where)!r}, the "
            f"first is {prompt + 1:03d}-{index + 1}.wav"
        )
    return {key: found[key[1] + 1, key[2] + 1] for key in keys}


def shape(clip: Clip, rules: ClipRules, path: Path) -> Floats:
    """Bring a clip to the study's rate, channels and length, with short fades.

    Args:
        clip: any.
        rules: of the study.
        path: for messages.

    Returns:
        [C, M].

    Raises:
        InputError: it is too short or silent.
    """
    samples = clip.samples
    if clip.duration_s < rules.duration_s - 0.01:
        raise InputError(
            f"{str(path)!r} lasts {clip.duration_s:.2f} s, the study needs {rules.duration_s:g} s: "
            "give longer clips or lower clips.duration_s"
        )
    if clip.sample_rate != rules.sample_rate:
        import soxr

        samples = soxr.resample(samples.T, clip.sample_rate, rules.sample_rate).T
    if rules.channels == 1:
        samples = samples.mean(0, keepdims=True)
    elif len(samples) == 1:
        samples = np.repeat(samples, 2, 0)
    M = round(rules.duration_s * rules.sample_rate)
    samples = np.pad(samples[:, :M], ((0, 0), (0, max(0, M - samples.shape[1]))))
    refuse_silence(samples, rules.sample_rate, path)
    fade = round(_FADE_S * rules.sample_rate)
    ramp = np.ones(M, dtype=np.float32)
    ramp[:fade] = np.linspace(0, 1, fade)
    ramp[M - fade :] = np.linspace(1, 0, fade)
    return np.ascontiguousarray(samples * ramp, dtype=np.float32)


def refuse_silence(samples: Floats, sample_rate: int, path: Path) -> None:
    """Raise InputError for a clip without sound, or with more than half of it silent."""
    block = max(1, sample_rate // 10)
    blocks = samples[:, : samples.shape[1] // block * block].reshape(len(samples), -1, block)
    rms = np.sqrt(np.square(blocks).mean((0, 2)))  # [blocks]
    silent = float((rms < 10 ** (SILENCE_DB / 20)).mean())
    if silent > 0.5:
        raise InputError(f"{str(path)!r} is silent for {100 * silent:.0f} % of its length")


def match_loudness(
    clips: Mapping[ClipKey, Floats], rules: ClipRules
) -> tuple[dict[ClipKey, Floats], float, ClipKey | None]:
    """Bring all clips to one loudness, the highest up to the target that no peak forbids.

    One gain a clip and no limiter: a limiter would change the arms with sharper attacks more than
    the others, and that would be heard as the arm's own sound.

    Args:
        clips: [C, M] each.
        rules: target and rate.

    Returns:
        The clips; the loudness they all have, LUFS; and the clip whose peaks forbid the target,
        None where all of them allow it.

    Raises:
        InputError: a clip is silent.
    """
    loudness = {key: integrated_loudness(x, rules.sample_rate) for key, x in clips.items()}
    for key, value in loudness.items():
        if not math.isfinite(value):
            raise InputError(f"{_named(key)} is silent: replace it")
    room = {
        key: loudness[key] + CEILING_DB - 20 * math.log10(max(true_peak(x), 1e-9))
        for key, x in clips.items()
    }
    peaky = min(room, key=lambda key: room[key])
    target = min(rules.target_lufs, room[peaky])
    gains = {key: np.float32(10 ** ((target - loudness[key]) / 20)) for key in clips}
    levelled = {key: x * gains[key] for key, x in clips.items()}
    return levelled, target, peaky if target < rules.target_lufs else None


def treat(samples: Floats, treatment: str, sample_rate: int) -> Floats:
    """Damage a clip on purpose: an anchor's low-pass, or plainly broken sound.

    Args:
        samples: [C, M].
        treatment: "" for none, "low" or "mid" (ITU-R BS.1534-3), or "damaged": muffled, noisy and
            overdriven.
        sample_rate: Hz.

    Returns:
        [C, M], of another loudness.
    """
    from scipy import signal

    if not treatment:
        return samples
    rms = float(np.sqrt(np.square(samples).mean()))
    cut = ANCHORS.get(treatment, _DAMAGE_HZ)
    if cut < sample_rate / 2:
        filters = signal.butter(8, cut, fs=sample_rate, output="sos")
        samples = signal.sosfiltfilt(filters, samples, axis=1).astype(np.float32)
    if treatment == DAMAGED:
        noise = np.random.default_rng(0).normal(size=samples.shape)
        # Overdriven, it has low peaks: a check is never what lowers the loudness of all clips.
        driven = np.tanh((samples + 0.7 * rms * noise) / max(2 * rms, 1e-9))
        samples = driven.astype(np.float32)
    return samples


def _named(key: ClipKey) -> str:
    which = f"clip {key.index + 1} of prompt {key.prompt + 1} of {key.arm!r}"
    return f"{which} ({key.treatment})" if key.treatment else which


def _write(folder: Path, key: ClipKey, samples: Floats, rules: ClipRules) -> StoredClip:
    whole = np.clip(np.rint(samples.T * 32767), -32768, 32767).astype(np.int16)  # [M, C]
    data = wav_bytes(whole, rules.sample_rate)
    path = folder / f"{secrets.token_hex(8)}.wav"
    path.write_bytes(data)
    os.utime(path, (_SAME_TIME, _SAME_TIME))
    return StoredClip(key, path.name, hashlib.sha256(data).hexdigest())


def _generate(
    plan: Plan,
    keys: list[tuple[str, int, int]],
    device: str,
    say: Callable[[str], None],
    stop: Callable[[], bool] | None,
) -> dict[tuple[str, int, int], Path]:
    """Make clips through the batch; called again after a stop it goes on."""
    from musicgen_rl.batch import make_plan, read_results, run_batch

    arms = {arm.name: arm for arm in plan.study.arms}
    items = [_item(plan.study, arms[name], prompt, index) for name, prompt, index in keys]
    batch = make_plan(items, device=device)
    claim_weights(plan.folder, {model.name: model.hashes() for model in batch.models})
    say(f"making {len(keys)} clips")
    folder = _batch_folder(plan.folder, batch)
    summary = run_batch(batch, folder, stop=stop)
    if not summary.complete:
        why = "it was stopped" if summary.stopped else f"{len(summary.failures)} clips failed"
        raise InputError(
            f"{summary.made + summary.kept} of {summary.total} clips are made, {why}: run "
            "`musicgen-rl listen make` again to go on"
        )
    results = read_results(folder)
    return {key: results[id].path for key, id in zip(keys, batch.ids, strict=True)}


def _item(study: Study, arm: Arm, prompt: int, index: int) -> "Item":
    """Ask for a clip of a model's arm."""
    from musicgen_rl.batch import Item

    settings: dict[str, Any] = dict(arm.settings)
    if "top_k" in settings:
        settings["top_k"] = int(settings["top_k"])
    # One seed a prompt, the same for every arm: arms differ by what the study says, not luck.
    return Item(
        model=str(arm.model),
        prompt=study.all_prompts[prompt],
        seed=(study.clips.seed + prompt) % 2**63,
        index=index,
        duration_s=study.clips.duration_s,
        **settings,
    )


def _batch_folder(folder: Path, batch: "BatchPlan") -> Path:
    """Choose where a batch is made: where it was begun, else in a folder named by its clips.

    So a study that was planned anew makes its clips beside those of the plan before.
    """
    from musicgen_rl.batch.run import RunOptions, left_of

    plain = folder / "batch"
    if plain.is_dir():
        try:
            left_of(batch, plain, RunOptions())
            return plain
        except ConfigError:  # it holds other clips
            pass
    name = hashlib.sha256(" ".join(sorted(set(batch.ids))).encode()).hexdigest()[:12]
    return folder / f"batch-{name}"
