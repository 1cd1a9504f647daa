"""One visitor's jam: what was asked of it, what is made of it, and keeping it as a file."""

import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from app.service.metrics import Metrics
from app.service.request import Limits, checked_text
from musicgen_rl.audio.files import file_name, prepare_folder
from musicgen_rl.audio.loudness import LoudnessConfig
from musicgen_rl.audio.spool import Spool
from musicgen_rl.audio.stream_level import StreamLeveller
from musicgen_rl.checkpoint import ModelInfo
from musicgen_rl.config import SamplingConfig
from musicgen_rl.errors import ConfigError
from musicgen_rl.pipeline.core import Pipeline
from musicgen_rl.pipeline.dial import require_endpoints, sampling_at
from musicgen_rl.pipeline.holds import begins_with
from musicgen_rl.pipeline.jam import Jam, decode_codes
from musicgen_rl.pipeline.moves import Move
from musicgen_rl.pipeline.provenance import describe_codes
from musicgen_rl.pipeline.request import GenerationConfig

LEAD_S = 2.2
"""Seconds of music decided ahead of what is heard."""
PLAYS_ON_S = 1.5
"""For so long a jam is taken to play on untold: longer than one request for sound waits."""
GONE_S = 15.0
"""A jam nobody has listened to for so long ends."""


class Room(Protocol):
    """What a jam needs of the room that makes it."""

    pipeline: Pipeline
    limits: Limits
    folder: Path
    metrics: Metrics

    def clock(self) -> float:
        """Tell the time, seconds, monotonic."""
        ...

    def wake(self) -> None:
        """Look at once whether something is due."""
        ...

    def end(self, jam: "LiveJam", error: str = "") -> None:
        """End a jam; no other one notices."""
        ...


@dataclass(frozen=True, kw_only=True)
class JamRequest:
    """What a jam starts with, unchecked."""

    prompt: str
    """What to play."""
    diversity: float | None = None
    """Where the dial stands; None is the base."""
    merge_method: str = "lerp"
    """Way between the two ends."""
    seed: int | None = None
    """Drawn where None."""
    tempo_bpm: float | None = None
    """Tempo to begin with, where the words name none; each is then held until another is named. 0
    holds none."""
    steady: bool = False
    """Begin with a tempo that goes with the words."""
    key: str | None = None
    """Key to begin with, likewise, "auto" one that goes with the words; "none" holds none."""
    chords: str | None = None
    """Chords to begin with, likewise, "auto" some that go with the words; "none" holds none."""
    sampling: Mapping[str, Any] = field(default_factory=dict)
    """Fields of SamplingConfig the visitor set."""

    def held(self) -> GenerationConfig:
        """Say to what it is to be held, checked.

        Raises:
            ConfigError: a tempo, a key or chords that cannot be.
        """
        return GenerationConfig(
            tempo_bpm=self.tempo_bpm, steady=self.steady, key=self.key, chords=self.chords
        )


@dataclass(frozen=True, kw_only=True)
class Moved:
    """What became of one change."""

    number: int
    """Of the change, from 1."""
    weights_ms: float
    """From the request to the new weights, milliseconds."""
    heard_at_s: float
    """Where in the jam it is first heard, seconds."""

    def described(self) -> dict[str, float]:
        """Bring it to JSON."""
        return {
            "number": self.number,
            "weights_ms": round(self.weights_ms, 1),
            "heard_at_s": round(self.heard_at_s, 3),
        }


class LiveJam:
    """One visitor's jam. All methods may be called from any thread."""

    def __init__(
        self, room: Room, request: JamRequest, first: Move, seed: int, client: str
    ) -> None:
        self.id = secrets.token_urlsafe(16)
        self.client, self.seed = client, seed
        self.folder = room.folder / self.id
        self._room, self._first = room, first
        self._merge_method, self._held = request.merge_method, request.held()
        self._named = {k: v for k, v in request.sampling.items() if v is not None}
        self._lock = threading.Lock()
        self._sound: list[np.ndarray[Any, np.dtype[np.int16]]] = []
        self._wanted: list[tuple[int, float, dict[str, Any]]] = []  # number, when, what
        self._moved: list[Moved] = []
        self._numbers = 0
        self._played_s = 0.0  # as it was told last
        self._told_at = 0.0
        self._given_s = 0.0
        self._began_at: float | None = None  # when its first sound was there
        self._listened_at = room.clock()
        self.ended_at: float | None = None
        self.error = ""
        self.jam: Jam | None = None  # the room's thread's alone, under `_making`
        self._making = threading.Lock()
        self._leveller = StreamLeveller(
            room.pipeline.sample_rate, room.pipeline.codec.audio_channels, LoudnessConfig()
        )

    @property
    def ended(self) -> bool:
        """Whether it makes no more sound."""
        return self.ended_at is not None

    def change(
        self,
        *,
        prompt: str | None = None,
        diversity: float | None = None,
        sampling: Mapping[str, Any] | None = None,
    ) -> int:
        """Have it go on otherwise, as soon as its next part is made.

        Args:
            prompt: what to play.
            diversity: where the dial stands.
            sampling: fields of SamplingConfig; the model's own where None.

        Returns:
            The number of this change, which `hear` reports on.

        Raises:
            InputError, ConfigError: it cannot be; the jam goes on as it was.
        """
        if self.ended:
            raise ConfigError("this jam has ended: start another one")
        room = self._room
        wanted: dict[str, Any] = {}
        if prompt is not None:
            wanted["prompt"] = checked_text(prompt, "the prompt", room.limits.max_prompt_characters)
        if diversity is not None:
            require_endpoints(room.pipeline.info, diversity)
            wanted["diversity"] = replace(self._first, diversity=diversity).diversity
        with self._lock:
            if sampling is not None:
                given = {k: v for k, v in sampling.items() if v is not None}
                ended = {"guidance_s"} if "guidance_scale" in given else set()  # the other's end
                named = {k: v for k, v in self._named.items() if k not in ended} | given
                stands = self._first.diversity if diversity is None else diversity
                wanted["sampling"] = sampling_of(room, stands, named)
                self._named = named
            self._numbers += 1
            self._wanted.append((self._numbers, room.clock(), wanted))
        room.wake()
        return self._numbers

    def hear(self, played_s: float) -> tuple[bytes, list[Moved]]:
        """Take the sound that is new, and what became of changes.

        Args:
            played_s: how much has been heard until now; making goes on from there.

        Returns:
            16-bit samples, channels interleaved, and the changes that took effect since.
        """
        now = self._room.clock()
        with self._lock:
            self._listened_at = now
            # Nobody hears faster than time goes: a wrong number must not make the machine run.
            most = 0.0 if self._began_at is None else now - self._began_at + 1.0
            if min(played_s, most) > self._played_s:
                self._played_s, self._told_at = min(played_s, most), now
            self._given_s += (
                sum(len(part) for part in self._sound) / self._room.pipeline.sample_rate
            )
            sound, self._sound = self._sound, []
            moved, self._moved = self._moved, []
        if sound:
            self._room.wake()
        return b"".join(part.tobytes() for part in sound), moved

    def keep(self, format: str = "wav") -> Path:
        """Write what was heard until now to a file whose tags hold the moves, so that it replays.

        Args:
            format: wav, flac, ogg or mp3.

        Raises:
            ConfigError: nothing was heard yet.
            StorageError: the disk is full.
        """
        pipeline = self._room.pipeline
        hop, rate = pipeline.codec.hop_length, pipeline.sample_rate
        with self._making:
            frames = 0 if self.jam is None else self.jam.frames
            with self._lock:
                frames = min(frames, int(self._played_s * rate) // hop)
            if self.jam is None or not frames:
                raise ConfigError("nothing has been heard yet: keep the jam a little later")
            codes = self.jam.joined()[:, :frames].copy()
            settings = self.jam.settings(LoudnessConfig())
        settings |= {
            "frames": frames,
            "duration_s": frames * hop / rate,
            "moves": [m for m in settings["moves"] if m["frame"] < frames],
        } | describe_codes(codes, frames)
        folder = prepare_folder(self.folder)
        name = Path(file_name(self._first.prompt, self.seed, 0, format))
        with Spool(folder, rate, pipeline.codec.audio_channels, LoudnessConfig()) as spool:
            for part in decode_codes(pipeline, codes):
                spool.push(part)
            return spool.finish(folder / name.with_stem(f"{name.stem}-jam"), format, settings)

    def stop(self) -> None:
        """End it; what was heard can still be kept for a while."""
        self._room.end(self)

    def due(self, now: float) -> bool:
        """Tell whether its next part should be made now."""
        with self._lock:
            return self.jam is None or self._ahead_s(self.jam) - self._heard_s(now) < LEAD_S

    def _heard_s(self, now: float) -> float:
        """Estimate what is heard by now: once it plays it plays on, until there is no more.

        A visitor who waits for sound tells nothing meanwhile. Making that stood still for as long
        would use up what is ahead.
        """
        if not self._played_s:
            return 0.0
        return min(self._played_s + min(now - self._told_at, PLAYS_ON_S), self._given_s)

    def _ahead_s(self, jam: Jam) -> float:
        """Tell the first moment that what is decided next can still change.

        The delay pattern has the coarse codes of the next frames decided already.
        """
        info = self._room.pipeline.info
        lm = info.lm
        late = lm.num_codebooks // lm.audio_channels - 1
        return (jam.frames + late) / info.frame_rate

    def gone(self, now: float) -> bool:
        """Tell whether nobody listens any more, or it is as long as a jam may be."""
        with self._lock:
            most = self._room.limits.max_jam_s
            long = self.jam is not None and self._ahead_s(self.jam) > most
            return long or now - self._listened_at > GONE_S

    def make(self, pipeline: Pipeline, slice_frames: int) -> float:
        """Make the next part, in the room's thread.

        Returns:
            Seconds of sound that came of it.
        """
        with self._making:
            if self.jam is None:
                self.jam = Jam(
                    pipeline, self._first, self.seed, merge_method=self._merge_method,
                    begins=begins_with(
                        pipeline.holds, self._first.prompt, self.seed, self._held
                    ),
                )  # fmt: skip
            jam = self.jam
            with self._lock:
                wanted, self._wanted = self._wanted, []
            for number, asked_at, what in wanted:
                jam.change(**what)
                seconds = self._room.clock() - asked_at
                self._room.metrics.moved(seconds)
                moved = Moved(
                    number=number, weights_ms=1000 * seconds, heard_at_s=self._ahead_s(jam)
                )
                with self._lock:
                    self._moved.append(moved)
            samples = self._leveller.push(jam.advance(slice_frames))
        if samples.shape[1]:
            with self._lock:
                self._sound.append(np.round(samples.T * 32767).astype("<i2"))
                if self._began_at is None:
                    self._began_at = self._room.clock()
        return float(samples.shape[1] / pipeline.sample_rate)

    def finish(self, error: str = "") -> None:
        """Note that no more is made of it, once the part that is being made is there."""
        with self._making:
            with self._lock:
                self.error = error
                self.ended_at = self._room.clock()
            if self.jam is not None:
                self.jam.close()


def begun(info: ModelInfo, request: JamRequest) -> dict[str, Any]:
    """Add to what a visitor named how the model's held music begins, where no guidance is named.

    It stays for all of the jam, wherever its dial is moved: each new prompt begins so.
    """
    named = {k: v for k, v in request.sampling.items() if v is not None}
    if "guidance_scale" in named or request.diversity is None:
        return named
    own = sampling_at(info, request.diversity, holds=request.held().holds, **named)
    if own.guided:
        named |= {"guidance_scale": own.guidance_scale, "guidance_s": own.guidance_s}
    return named


def sampling_of(room: Room, diversity: float | None, named: dict[str, Any]) -> SamplingConfig:
    """Complete the settings that a visitor named.

    Args:
        room: of the jam.
        diversity: where the dial stands.
        named: fields of SamplingConfig.

    Raises:
        InputError, ConfigError: they cannot be.
    """
    if named.get("guidance_scale") == 1.0:
        without = ("negative_prompt", "guidance_s")  # which go with guidance
        named = {k: v for k, v in named.items() if k not in without}
    negative = named.get("negative_prompt")
    if negative:
        most = room.limits.max_prompt_characters
        named = named | {"negative_prompt": checked_text(negative, "the negative prompt", most)}
    return sampling_at(room.pipeline.info, diversity, **named)
