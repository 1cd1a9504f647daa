"""What a file's tags say of its making, checked: nothing in them is trusted."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from musicgen_rl.audio.loudness import LoudnessConfig
from musicgen_rl.checkpoint.holds import BEAT, CHORDS, HOLDS, KEY
from musicgen_rl.config import SamplingConfig
from musicgen_rl.data.chords import NO_CHORDS, read_progression
from musicgen_rl.data.keys import NO_KEY, read_key
from musicgen_rl.errors import ConfigError, InputError
from musicgen_rl.pipeline.asked import BEATS_PER_BAR
from musicgen_rl.pipeline.moves import Begins, Move, read_moves
from musicgen_rl.pipeline.request import (
    MAX_DURATION_S,
    MAX_RETURNING,
    MAX_TEMPO_BPM,
    MIN_TEMPO_BPM,
    GenerationConfig,
    check_prompts,
    override_sampling,
)
from musicgen_rl.pipeline.work import Batch

T = TypeVar("T")

FORMAT = 1
_MOST_ROWS = 4096
_LONGEST_TEXT = 65536
_MOST_FRAMES = 10_000_000


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What the tags of a file say of its making, checked."""

    request: GenerationConfig
    """Length, seed, loudness; one clip."""
    sampling: SamplingConfig
    """How tokens were drawn."""
    batch: Batch
    """As many rows as stood side by side then, all with this clip's prompt and index."""
    position: int
    """Row of this clip."""
    source_name: str
    """File it went on from; empty if it did not."""
    source_sha256: str
    """Hash of that file's codes; empty if it did not go on from any."""
    model: str
    """Name of the model."""
    model_sha256: str
    """Hash of its weights."""
    endpoints: Mapping[str, str]
    """Hashes of the dial's two ends, by end; empty where the base played."""
    window: Mapping[str, Any]
    """Context of generation."""
    device: str
    """Where it was made."""
    dtype: str
    """In which precision."""
    versions: Mapping[str, str]
    """With which software."""
    complete: bool
    """False where it was cut short by a stop."""
    codes_sha256: str
    """Hash of the codes that came out."""
    codes_checks: Mapping[str, Any]
    """A check byte for every few frames."""
    moves: tuple[Move, ...] = ()
    """Of a jam: what changed, and at which frame."""
    frames: int = 0
    """Of a jam: how many there are."""
    held: Mapping[str, str] = field(default_factory=dict)
    """Hashes of what held its tempo, key and chords, by the names of HOLDS, of those that did."""
    begins: Begins = field(default_factory=Begins)
    """Of a jam: to what it was held."""
    policy: str = "recompute"
    """Of a jam: what became of the cache at a move."""
    keeps_s: float | None = None
    """Of a jam: seconds that were still heard once the prompt was another; None for all."""

    @property
    def most_frames(self) -> int:
        """Upper bound of the frames that the check bytes stand for."""
        count = len(base64.b64decode(self.codes_checks["bytes"]))
        return count * int(self.codes_checks["every"])


def read_recipe(settings: Mapping[str, Any]) -> Recipe:
    """Check a file's settings and bring them to a form that can be made again.

    Args:
        settings: from `read_tags`.

    Returns:
        The recipe.

    Raises:
        InputError: a field is missing or cannot be; the tags were edited, or are of a newer format.
    """
    if settings.get("format") != FORMAT:
        raise InputError(
            f"its settings are of format {settings.get('format')!r}, this version reads {FORMAT}: "
            "update musicgen-rl"
        )
    batch = _take(settings, "batch", dict)
    rows = _whole(batch, "clips", 1, _MOST_ROWS)
    source = settings.get("continued_from") or {}
    if not isinstance(source, dict):
        raise _edited("continued_from", source)
    index = _whole(settings, "index", 0, 2**31)
    prompt = _take(settings, "prompt", str)
    moves = read_moves(settings.get("moves"))
    dial, endpoints = _dial(settings)
    orders, held = _holds(settings)
    checks = _take(settings, "codes_checks", dict)
    _whole(checks, "every", 1, 1_000_000)
    try:
        request = GenerationConfig(
            # A jam may last longer than any clip; its frames say how long.
            duration_s=min(_number(settings, "duration_s"), MAX_DURATION_S)
            if moves
            else _number(settings, "duration_s"),
            seed=_whole(settings, "seed", 0, 2**63 - 1),
            first_index=index,
            loudness=_config(LoudnessConfig, _take(settings, "loudness", dict)),
            **dial,
            **orders,
        )
        recipe = Recipe(
            request=request,
            sampling=override_sampling(SamplingConfig(), **_sampling(settings)),
            batch=Batch(
                check_prompts(prompt) * rows,
                [index] * rows,
                _whole(batch, "text_length", 0, _LONGEST_TEXT),
            ),
            position=_whole(batch, "position", 0, rows - 1),
            source_name=str(source.get("file", "")),
            source_sha256=str(source.get("codes_sha256", "")),
            model=_take(settings, "model", str),
            model_sha256=_take(settings, "model_sha256", str),
            endpoints=endpoints,
            window=_take(settings, "window", dict),
            device=_take(settings, "device", str),
            dtype=_take(settings, "dtype", str),
            versions=_take(settings, "versions", dict),
            complete=_take(settings, "complete", bool),
            codes_sha256=_take(settings, "codes_sha256", str),
            codes_checks=checks,
            moves=moves,
            frames=_whole(settings, "frames", 1, _MOST_FRAMES) if moves else 0,
            policy=str(settings.get("policy", "recompute")),
            keeps_s=_keeps(settings) if moves else None,
            held=_held_in_jam(settings) if moves else held,
            begins=_begins(settings) if moves else Begins(),
        )
        if not recipe.most_frames:
            raise _edited("codes_checks", checks)
    except (ConfigError, InputError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"its settings were edited and cannot be: {error}") from error
    return recipe


def _sampling(settings: Mapping[str, Any]) -> dict[str, Any]:
    given = _take(settings, "sampling", dict)
    missing = {f.name for f in fields(SamplingConfig)} - set(given) - {"guidance_s"}
    if missing:  # but one that older files have not
        raise InputError(f"its settings lack sampling {min(missing)!r}: they were edited")
    if not isinstance(given["negative_prompt"], str):
        raise _edited("negative_prompt", given["negative_prompt"])
    return given


def _dial(settings: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Read where the dial stood, and which ends it had; files from before the dial have neither."""
    if settings.get("diversity") is None:
        return {}, {}
    merge = _take(settings, "merge", dict)
    fields_of_request = {
        "diversity": _number(settings, "diversity"),
        "merge_method": _take(merge, "method", str),
        "merge_strength": _number(merge, "strength"),
    }
    hashes = {end: _take(merge, f"{end}_sha256", str) for end in ("quality", "diversity")}
    return fields_of_request, hashes


def _holds(settings: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Read which tempo, key and chords were held, and by what; older files were held to none."""
    orders: dict[str, Any] = {"tempo_bpm": 0.0, "key": NO_KEY, "chords": NO_CHORDS}
    held = {}
    if settings.get(BEAT.holds) is not None:
        tempo = _take(settings, BEAT.holds, dict)
        orders |= {"tempo_bpm": _number(tempo, "bpm")}
        orders |= {"first_beat_s": _number(tempo, "first_beat_s")}
        held[BEAT.name] = _take(tempo, "sha256", str)
    if settings.get(KEY.holds) is not None:
        key = _take(settings, KEY.holds, dict)
        orders["key"] = _take(key, "name", str)
        held[KEY.name] = _take(key, "sha256", str)
    if settings.get(CHORDS.holds) is not None:
        chords = _take(settings, CHORDS.holds, dict)
        orders["chords"] = _take(chords, "name", str)
        orders["beats_per_bar"] = _whole(chords, "beats_per_bar", 1, 16)
        orders["returning"] = _returning(chords)
        held[CHORDS.name] = _take(chords, "sha256", str)
    return orders, held


def _held_in_jam(settings: Mapping[str, Any]) -> dict[str, str]:
    """Read by what a jam's prompts were held, if by anything."""
    found = {hold.name: str(settings.get(f"{hold.name}_sha256", "")) for hold in HOLDS}
    return {name: sha256 for name, sha256 in found.items() if sha256}


def _returning(told: Mapping[str, Any]) -> float:
    """Read how strongly what was played comes back; in older files nothing did."""
    found = _number(told, "returning") if "returning" in told else 0.0
    if not 0.0 <= found <= MAX_RETURNING:
        raise _edited("returning", found)
    return found


def _keeps(settings: Mapping[str, Any]) -> float | None:
    """Read how much was heard on after another prompt; older jams heard all of it."""
    if settings.get("keeps_s") is None:
        return None
    found = _number(settings, "keeps_s")
    if not 0.0 <= found <= MAX_DURATION_S:
        raise _edited("keeps_s", found)
    return found


def _begins(settings: Mapping[str, Any]) -> Begins:
    """Read to what a jam was held; older ones were held to what their prompts named alone."""
    held = _held_in_jam(settings)
    bpm, key, name = None, None, settings.get("steady_key")
    chords, row = None, settings.get("steady_chords")
    if settings.get("steady_bpm") is not None:
        bpm = _number(settings, "steady_bpm")
        if not MIN_TEMPO_BPM <= bpm <= MAX_TEMPO_BPM:
            raise _edited("steady_bpm", bpm)
    if name is not None:
        try:
            key = read_key(name)
        except ConfigError:
            raise _edited("steady_key", name) from None
    if row is not None:
        try:
            chords = read_progression(row)
        except ConfigError:
            raise _edited("steady_chords", row) from None
    bar = BEATS_PER_BAR
    if "beats_per_bar" in settings:
        bar = _whole(settings, "beats_per_bar", 1, 16)
    return Begins(
        which=[hold for hold in HOLDS if hold.name in held], bpm=bpm, key=key, chords=chords,
        beats_per_bar=bar, returning=_returning(settings),
    )  # fmt: skip


def _config(kind: type[LoudnessConfig], given: dict[str, Any]) -> LoudnessConfig:
    unknown = set(given) - {f.name for f in fields(kind)}
    if unknown:
        raise _edited("loudness", min(unknown))
    return kind(**given)


def _take(settings: Mapping[str, Any], name: str, kind: type[T]) -> T:
    if name not in settings:
        raise InputError(f"its settings lack {name!r}: they were edited")
    value = settings[name]
    if not isinstance(value, kind):
        raise _edited(name, value)
    return value


def _whole(settings: Mapping[str, Any], name: str, low: int, high: int) -> int:
    value: int = _take(settings, name, int)
    if isinstance(value, bool) or not low <= value <= high:
        raise _edited(name, value)
    return value


def _number(settings: Mapping[str, Any], name: str) -> float:
    value: object = settings.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _edited(name, value)
    return float(value)


def _edited(name: str, value: object) -> InputError:
    return InputError(f"its settings say {name} = {value!r:.60}, which cannot be: they were edited")
