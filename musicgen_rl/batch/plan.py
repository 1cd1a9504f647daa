"""The plan: what will be made, in which batches, decided before anything is made.

Two things follow from deciding the batches here and keeping them. A clip has the same company
whoever makes it and however often the run died, so that arithmetic that rounds by the batch's
shape (fp32, bf16) gives the same tokens on one process, on eight, and on a cluster. And what is
left after a crash is a question to the plan, not to a folder.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import torch

from musicgen_rl.audio.loudness import LoudnessConfig
from musicgen_rl.batch.identity import ModelIdentity, identify
from musicgen_rl.batch.item import Item
from musicgen_rl.checkpoint import ModelInfo, find_model, read_info
from musicgen_rl.checkpoint.holds import ALL
from musicgen_rl.config import SamplingConfig, require
from musicgen_rl.data.progressions import FORMS
from musicgen_rl.errors import ConfigError, InputError
from musicgen_rl.pipeline import devices
from musicgen_rl.pipeline.asked import (
    asked_chords,
    asked_key,
    asked_tempo,
    beats_per_bar,
    finds_chords,
    finds_key,
    finds_tempo,
)
from musicgen_rl.pipeline.dial import sampling_at
from musicgen_rl.pipeline.holds import asked_for, require_holds
from musicgen_rl.pipeline.takes import check_takes
from musicgen_rl.pipeline.tempo import within_reach

CPU_BATCH, GPU_BATCH = 16, 256
"""Clips side by side where nobody says. On a CPU the rate is flat beyond 16 (docs/performance.md);
on a GPU it still grows there, and memory decides."""
_BATCHES_PAY = 4  # for starting another process
_MOST_WORKERS = 16
_PROCESS_BYTES = 500_000_000  # torch, the codec, the text encoder
_FREE_SHARE = 0.7  # of the memory that is free when a run begins
_MEMORY_SHARE = 0.4  # of all there is; what else runs is not known, and may change
_ID_CHARACTERS = 20  # 80 bits: of ten million clips two share an id with probability 4e-11


@dataclass(frozen=True, kw_only=True)
class PlannedClip:
    """One clip of a plan."""

    id: str
    """Made of all that decides its sound."""
    item: Item
    """What was asked for."""
    sampling: SamplingConfig
    """How tokens are drawn, the model's own defaults filled in."""
    batch: int
    """Which batch it is made in."""
    row: int
    """Where in that batch."""
    position: int
    """Where in the plan, in the order of making."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All clips of a run, in the order of making."""

    clips: tuple[PlannedClip, ...]
    """Each sound once."""
    ids: tuple[str, ...]
    """The id of each item that was given, in its order; two items of one sound share an id."""
    models: tuple[ModelIdentity, ...]
    """Who the models are."""
    device: str
    """cpu or cuda; which of several GPUs, where one was named, is no part of the clips' ids."""
    dtype: str
    """fp32, bf16 or int8."""
    batch_size: int
    """Most clips side by side that was asked for; 0 let the machine decide."""
    date: str
    """ISO 8601; the clips' tags carry it, so that a clip made again is the same file."""

    @property
    def audio_s(self) -> float:
        """Seconds of audio in all."""
        return sum(clip.item.duration_s for clip in self.clips)


def make_plan(
    items: Iterable[Item],
    *,
    device: str = "auto",
    dtype: str = "auto",
    batch_size: int = 0,
    date: str | None = None,
) -> Plan:
    """Decide ids and batches; reads the models' cards and hashes, loads none.

    Args:
        items: the clips to make, in any order; those of equal sound become one.
        device: auto, cpu or cuda.
        dtype: auto, fp32, bf16 or int8.
        batch_size: most clips side by side; 0 decides by device and memory.
        date: of the tags; SOURCE_DATE_EPOCH or now where None.

    Raises:
        InputError: there are no items.
        ConfigError: an option that cannot work here, or a dial that a model does not have.
        ModelError: a model is not there, or broken.
    """
    listed = list(items)
    if not listed:
        raise InputError("nothing to make: give at least one item")
    require(
        isinstance(batch_size, int) and 0 <= batch_size <= 4096,
        f"batch_size must be a whole number from 0 (by itself) to 4096, got {batch_size!r}",
    )
    where = devices.choose_device(device)
    precision = devices.choose_dtype(dtype, where)
    known: dict[str, tuple[ModelInfo, ModelIdentity]] = {}
    held: dict[tuple[Any, ...], bool] = {}
    for name in dict.fromkeys(item.model for item in listed):
        on_dial = any(i.diversity is not None for i in listed if i.model == name)
        orders = {_orders(i): i for i in listed if i.model == name}  # alike for most clips
        requests = {order: item.request() for order, item in orders.items()}
        held |= {order: request.holds for order, request in requests.items()}
        of_it = {(i.prompt, requests[_orders(i)]) for i in listed if i.model == name}
        holds = [h for h in ALL if any(asked_for(h, *one) for one in of_it)]
        takes = any(i.takes > 1 for i in listed if i.model == name)
        known[name] = identify(name, on_dial=on_dial, holds=holds, takes=takes)
        for request in requests.values():
            require_holds(known[name][0], request)
        if takes:
            _check_takes(known[name][0], [i for i in listed if i.model == name])
    chosen: dict[str, tuple[Item, SamplingConfig]] = {}
    ids: list[str] = []
    samplings: dict[tuple[Any, ...], SamplingConfig] = {}
    for item in listed:
        info, identity = known[item.model]
        named = item.named_sampling()
        asked = held[_orders(item)]
        drawn = (item.model, item.diversity, asked, *named.items())
        if drawn not in samplings:
            samplings[drawn] = sampling_at(info, item.diversity, holds=asked, **named)
        sampling = samplings[drawn]
        ids.append(clip_id(item, sampling, identity, where.type, precision))
        chosen.setdefault(ids[-1], (item, sampling))
    infos = {name: info for name, (info, _) in known.items()}
    return Plan(
        clips=lay_out(chosen, infos, where, precision, batch_size),
        ids=tuple(ids),
        models=tuple(identity for _, identity in known.values()),
        device=str(where),
        dtype=precision,
        batch_size=batch_size,
        date=date or plan_date(),
    )


def _check_takes(info: ModelInfo, items: Iterable[Item]) -> None:
    """Refuse takes of which none could be chosen."""
    seen = set()
    for item in items:
        asked = item.prompt, item.takes, item.duration_s, _orders(item)
        if item.takes > 1 and asked not in seen:
            seen.add(asked)
            check_takes(info, [item.prompt], item.request())


def clip_id(
    item: Item, sampling: SamplingConfig, model: ModelIdentity, device: str, dtype: str
) -> str:
    """Make the stable id of a clip: a hash of everything that decides its sound.

    Name, split and attributes are no part of it, nor is the model's path: the hashes of its files
    stand for it.
    """
    sound = {
        "prompt": item.prompt,
        "noise": [item.seed, item.index],
        "duration_s": float(item.duration_s),
        "diversity": None if item.diversity is None else float(item.diversity),
        "merge": item.merge(),
        "sampling": _fields_of(sampling),
        "loudness": _fields_of(item.loudness),
        "model": model.sound() | ({} if item.diversity is not None else {"ends": {}}),
        "device": device,
        "dtype": dtype,
    }
    if item.takes > 1:
        sound["takes"] = {"of": item.takes, "scorer": model.scorer}
    if model.holds():  # others keep the id they had before anything could be held
        sound |= _told(item, model)
    packed = json.dumps(sound, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(packed.encode()).hexdigest()[:_ID_CHARACTERS]


def _told(item: Item, model: ModelIdentity) -> dict[str, Any]:
    """Collect what a clip is held to by a model that can, and by what."""
    told: dict[str, Any] = {}
    request = item.request()
    asked = asked_tempo(item.prompt, request) if model.beat else None
    if asked is not None:
        told["tempo"] = {"bpm": within_reach(asked), "beat": model.beat}
    elif model.beat and model.tempo and finds_tempo(item.prompt, request):
        told["tempo"] = {"found": model.tempo, "beat": model.beat}
    key = asked_key(item.prompt, request) if model.key else None
    if key is not None:
        told["key"] = {"name": key.name, "key": model.key}
    elif model.key and model.scale and finds_key(item.prompt, request):
        told["key"] = {"found": model.scale, "key": model.key}
    chords = asked_chords(item.prompt, request) if model.chords else None
    bar = beats_per_bar(item.prompt, request)
    if chords is not None:
        told["chords"] = {"name": chords.name, "bar": bar, "chords": model.chords}
    elif model.chords and model.progression and finds_chords(item.prompt, request):
        told["chords"] = {
            "found": model.progression, "forms": FORMS, "scale": model.scale, "bar": bar,
            "chords": model.chords,
        }  # fmt: skip
    if "chords" in told:
        told["returning"] = _number(item.returning)
    return told


def group_of(item: Item, sampling: SamplingConfig) -> tuple[Any, ...]:
    """Collect all that clips which stand side by side have in common, hashable.

    A batch is one request of the pipeline, so its orders are those of each of its clips; what the
    prompts name is each clip's own.
    """
    return (
        item.model, item.merge(), item.diversity, item.duration_s, sampling, item.loudness,
        *_orders(item), item.beats_per_bar, item.returning, item.takes,
    )  # fmt: skip


def lay_out(
    chosen: Mapping[str, tuple[Item, SamplingConfig]],
    infos: Mapping[str, ModelInfo],
    device: torch.device,
    dtype: str,
    batch_size: int,
) -> tuple[PlannedClip, ...]:
    """Group clips that can stand side by side, and cut the groups into batches.

    Groups of one model stand together, and in them those of one merge and position of the dial: so
    a worker loads each model once and moves the weights once for each position.
    """
    groups: dict[tuple[Any, ...], list[str]] = {}
    for id, (item, sampling) in chosen.items():
        groups.setdefault(group_of(item, sampling), []).append(id)
    models = list(infos)
    ordered = sorted(
        groups.items(),
        key=lambda g: (models.index(g[0][0]), g[0][1] or (), -1.0 if g[0][2] is None else g[0][2]),
    )
    clips: list[PlannedClip] = []
    batch = 0
    for (model, _, _, duration_s, sampling, *_), members in ordered:
        takes = chosen[members[0]][0].takes
        size = batch_size or find_batch_size(
            infos[model], duration_s, sampling, device, dtype, takes
        )  # fmt: skip
        for start in range(0, len(members), size):
            for row, id in enumerate(members[start : start + size]):
                clips.append(
                    PlannedClip(
                        id=id,
                        item=chosen[id][0],
                        sampling=chosen[id][1],
                        batch=batch,
                        row=row,
                        position=len(clips),
                    )
                )
            batch += 1
    return tuple(clips)


def find_batch_size(
    info: ModelInfo,
    duration_s: float,
    sampling: SamplingConfig,
    device: torch.device,
    dtype: str,
    takes: int = 1,
) -> int:
    """Choose how many clips to decode side by side: what pays, as far as memory goes.

    It depends on the machine's whole memory, not on what is free now, so that the same plan made
    twice on one machine is the same; what does not fit after all is halved when it comes to it.
    """
    one = _clip_bytes(info, duration_s, sampling, device, dtype) * takes
    largest = max(1, (GPU_BATCH if device.type == "cuda" else CPU_BATCH) // takes)
    fits = int(_total_bytes(device) * _MEMORY_SHARE) // one
    while largest > 1 and largest > fits:
        largest //= 2
    return largest


def choose_workers(plan: Plan, missing: frozenset[str]) -> int:
    """Choose how many processes of this machine share a run, where nobody says.

    On a CPU a process on each core is 1.4 to 1.6 times as fast as one that spreads over all of
    them (docs/scaling.md). Each has a model of its own, so there are only as many as free memory
    holds, and as pay for being started.

    Args:
        plan: of the run.
        missing: ids to make.

    Raises:
        ModelError: a model is no longer there.
    """
    batches: dict[int, list[PlannedClip]] = {}
    for clip in plan.clips:
        if clip.id in missing:
            batches.setdefault(clip.batch, []).append(clip)
    device = torch.device(plan.device)
    most = min(torch.get_num_threads(), len(batches) // _BATCHES_PAY, _MOST_WORKERS)
    if device.type != "cpu" or most <= 1:
        return 1
    infos = {model.name: read_info(find_model(model.name)) for model in plan.models}
    models = max(devices.load_bytes(info.lm, plan.dtype) for info in infos.values())
    largest = max(
        len(own) * own[0].item.takes * _clip_bytes(
            infos[own[0].item.model], own[0].item.duration_s, own[0].sampling, device, plan.dtype
        )
        for own in batches.values()
    )  # fmt: skip
    free = devices.available_bytes(device)
    if free is not None:
        most = min(most, int(free * _FREE_SHARE) // (models + largest + _PROCESS_BYTES))
    return max(1, most)


def _clip_bytes(
    info: ModelInfo, duration_s: float, sampling: SamplingConfig, device: torch.device, dtype: str
) -> int:
    """Estimate the memory of one clip in a batch: its cache and its sound."""
    rows = sampling.rows
    frames = duration_s * info.frame_rate
    steps = int(min(frames, info.window.frames)) + info.lm.num_codebooks
    # The sound is held about four times over: decoded, joined, levelled, encoded; 96 kHz at most.
    sound = 4 * 4 * int(duration_s * 96_000) * info.lm.audio_channels
    return devices.cache_bytes(info.lm, rows, steps, dtype, device) + sound


def plan_date() -> str:
    """Return the date for the tags: SOURCE_DATE_EPOCH where it is set, else now."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    if not epoch:
        return datetime.now(UTC).isoformat(timespec="seconds")
    try:
        return datetime.fromtimestamp(int(epoch), UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):
        raise ConfigError(
            f"SOURCE_DATE_EPOCH must be whole seconds since 1970, got {epoch!r}"
        ) from None


def difference(old: Plan, new: Plan) -> list[str]:
    """Say what differs between the plan of a folder and another one, shortest first.

    Returns:
        Phrases such as "duration_s 10 -> 20"; empty where both are the same work.
    """
    said = [
        f"{name} {then} -> {now}"
        for name, then, now in (
            ("device", torch.device(old.device).type, torch.device(new.device).type),
            ("dtype", old.dtype, new.dtype),
        )
        if then != now
    ]
    if new.batch_size and new.batch_size != old.batch_size:
        said.append(f"batch_size {old.batch_size or 'by itself'} -> {new.batch_size}")
    before, after = {c.id: c for c in old.clips}, {c.id: c for c in new.clips}
    if before.keys() == after.keys():
        return said
    known = {m.name: m for m in old.models}
    for model in new.models:
        if (then := known.get(model.name)) is None:
            continue
        was, now = then.sound(), model.sound()
        changed = [part for part in now if was[part] != now[part]][:1]
        was, now = then.hashes(), model.hashes()
        beside = (*(hold.name for hold in ALL), "scorer")  # what is no part of all its sounds
        changed += [p for p in beside if p in was and p in now and was[p] != now[p]]
        said += [f"the {part} of model {model.name} changed" for part in changed]
    for field in _COMPARED:
        then_values = {_shown(c, field) for c in old.clips}
        now_values = {_shown(c, field) for c in new.clips}
        if then_values != now_values:
            said.append(f"{field} {_few(then_values)} -> {_few(now_values)}")
        else:
            each = _by_prompt(old, field), _by_prompt(new, field)
            count = sum(each[0][p] != each[1][p] for p in each[0].keys() & each[1].keys())
            said += [f"{field} of {count} prompt{'s' if count > 1 else ''}"] if count else []
    prompts = {c.item.prompt for c in old.clips}, {c.item.prompt for c in new.clips}
    for count, what in (
        (len(prompts[1] - prompts[0]), "prompts added"),
        (len(prompts[0] - prompts[1]), "prompts removed"),
    ):
        if count:
            said.append(f"{count} {what}")
    if len(old.clips) != len(new.clips):
        said.append(f"{len(old.clips)} clips -> {len(new.clips)}")
    return said or [f"{len(after.keys() - before.keys())} clips are others"]


_COMPARED = (
    "model", "duration_s", "seed", "diversity", "merge_method", "merge_strength", "guidance_scale",
    "guidance_s", "takes", "temperature", "top_k", "top_p", "negative_prompt", "loudness",
    "tempo_bpm", "steady", "key", "chords", "beats_per_bar", "returning",
)  # fmt: skip


def _shown(clip: PlannedClip, field: str) -> str:
    value = getattr(clip.sampling if hasattr(clip.sampling, field) else clip.item, field)
    if field == "loudness":
        return f"{value.target_lufs:g} LUFS" if value.enabled else "off"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _by_prompt(plan: Plan, field: str) -> dict[str, set[str]]:
    """Collect what a field says for each prompt."""
    found: dict[str, set[str]] = {}
    for clip in plan.clips:
        found.setdefault(clip.item.prompt, set()).add(_shown(clip, field))
    return found


def _few(values: set[str]) -> str:
    listed = sorted(values)
    return ", ".join(listed[:3]) + (f" and {len(listed) - 3} more" if len(listed) > 3 else "")


def _orders(item: Item) -> tuple[Any, ...]:
    """Collect what decides, with the prompt, what a clip is held to."""
    return item.tempo_bpm, item.steady, item.key, item.chords


@lru_cache(maxsize=256)
def _fields_of(config: SamplingConfig | LoudnessConfig) -> dict[str, Any]:
    """Name the fields of a config for an id; most clips of a plan have the same ones."""
    named = {k: _number(v) for k, v in asdict(config).items()}
    if not named.get("guidance_s", True):
        del named["guidance_s"]  # others keep the id they had before guidance could end
    return named


def _number(value: Any) -> Any:
    """Write 3 and 3.0 alike: Python takes both for the same setting, and so does the id."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _total_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[1])
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return 8 << 30
