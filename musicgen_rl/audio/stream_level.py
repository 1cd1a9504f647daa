"""Level audio while it is being made, when its loudness as a whole is not known yet.

Each chunk comes back at once, as long as it went in. Three rules make the gain:

1. It starts at what the first audible chunk needs, and then follows the loudness of all heard so
   far: up to 6 dB a second while the first two seconds settle, 0.5 dB a second after that,
   too slow to be heard as pumping. Within a chunk it moves along a straight line in dB, so there
   is no step.
2. True peaks never pass the ceiling. A chunk is known whole before it is given out, so the gain
   comes down over the 5 ms before a peak, to what the highest peak of the chunk allows. Only a
   peak in a chunk's first samples leaves less time than that.
3. After rule 2 the gain stays down and returns at rule 1's slow pace only.

What no method without look-ahead can know is the waveform between a chunk's last sample and the
next chunk's first. It is judged with the next chunk, and the peak between those two samples may
then pass the ceiling by some tenths of a dB; samples themselves never do.
"""

import math
from collections import deque

import numpy as np
from numpy.typing import NDArray

from musicgen_rl.audio.loudness import (
    BLOCK_S,
    STEPS_PER_BLOCK,
    LoudnessConfig,
    gain_to_target,
    gated_loudness,
    integrated_loudness,
    k_weighting,
    true_peak_envelope,
)
from musicgen_rl.errors import ConfigError

_SETTLE_S = 2.0
_SETTLE_DB_PER_S = 6.0
_SLOW_DB_PER_S = 0.5
_ATTACK_S = 0.005
_CONTEXT = 32  # samples of the chunk before, for the waveform across the seam
_ABSOLUTE_GATE = -70.0


class StreamLeveller:
    """A gain that settles in the first seconds of a stream and then moves slowly."""

    def __init__(self, sample_rate: int, num_channels: int, config: LoudnessConfig) -> None:
        """Start before the first sample.

        Args:
            sample_rate: Hz.
            num_channels: C.
            config: target, ceiling and switch.
        """
        self._rate = sample_rate
        self._channels = num_channels
        self._config = config
        self._meter = RunningLoudness(sample_rate, num_channels)
        self._gain_db: float | None = None  # None until something can be heard
        self._heard = 0
        self._tail = np.zeros((num_channels, 0), dtype=np.float32)  # last input samples

    @property
    def gain_db(self) -> float:
        """Gain at the end of the last chunk, dB; 0 before the first audible one."""
        return self._gain_db or 0.0

    def push(self, chunk: NDArray[np.float32]) -> NDArray[np.float32]:
        """Level the next chunk.

        Args:
            chunk: [C, m], any m.

        Returns:
            [C, m] float32, with no sample above the ceiling.

        Raises:
            ConfigError: another number of channels, or samples that are not finite.
        """
        if chunk.ndim != 2 or chunk.shape[0] != self._channels:
            raise ConfigError(
                f"expected chunks [{self._channels}, samples], got shape {list(chunk.shape)}"
            )
        if not np.isfinite(chunk).all():
            raise ConfigError("cannot level samples that are nan or infinite")
        m = chunk.shape[1]
        if m == 0:
            return chunk.astype(np.float32)
        self._meter.push(chunk)
        wanted = self._wanted_db(chunk)
        if self._gain_db is None and wanted is not None:
            self._gain_db = wanted  # what came before was silence: a jump there is not heard
        start = self.gain_db
        aim = start if wanted is None else wanted
        settling = self._heard < _SETTLE_S * self._rate
        pace = _SETTLE_DB_PER_S if settling else _SLOW_DB_PER_S
        reach = pace * m / self._rate
        end = min(max(aim, start - reach), start + reach)
        gain_db = np.linspace(start, end, m + 1, dtype=np.float64)[1:]  # [m]
        gain = self._guard(chunk, 10.0 ** (gain_db / 20.0))
        if self._gain_db is not None:
            self._gain_db = 20.0 * math.log10(gain[-1])
            self._heard += m
        self._tail = np.concatenate([self._tail, chunk], axis=1)[:, -_CONTEXT:]
        return (chunk * gain).astype(np.float32)

    def _wanted_db(self, chunk: NDArray[np.float32]) -> float | None:
        """Gain for all heard so far, dB; None while all is silence."""
        if not self._config.enabled:
            return 0.0
        loudness = self._meter.loudness()
        if loudness == -math.inf and self._gain_db is None:
            loudness = integrated_loudness(chunk, self._rate)  # less than one block so far
        if loudness < _ABSOLUTE_GATE:
            return None
        return 20.0 * math.log10(gain_to_target(loudness, self._config))

    def _guard(self, chunk: NDArray[np.float32], gain: NDArray[np.float64]) -> NDArray[np.float64]:
        """Bring the gain [m] down before the first true peak that would pass the ceiling."""
        context = self._tail.shape[1]
        peaks = true_peak_envelope(np.concatenate([self._tail, chunk], axis=1))[context:]  # [m]
        # float32 rounding of the product must not pass the ceiling either
        ceiling = self._config.ceiling * (1.0 - 1e-6)
        over = np.flatnonzero(peaks * gain > ceiling)
        if over.size == 0:
            return gain
        first = int(over[0])
        allowed = ceiling / float(peaks.max())
        attack = max(1, round(_ATTACK_S * self._rate))
        begin = max(0, first - attack)
        ramp = np.geomspace(gain[begin], allowed, first - begin + 1)
        held = gain.copy()
        held[begin : first + 1] = np.minimum(held[begin : first + 1], ramp)
        held[first:] = np.minimum(held[first:], allowed)
        return held


class RunningLoudness:
    """Integrated loudness of everything so far, sample by sample the same as of the whole."""

    def __init__(self, sample_rate: int, num_channels: int) -> None:
        """Start before the first sample.

        Args:
            sample_rate: Hz.
            num_channels: C.
        """
        self._sections = k_weighting(sample_rate)
        self._state = np.zeros((len(self._sections), num_channels, 2))
        self._step = round(BLOCK_S / STEPS_PER_BLOCK * sample_rate)
        self._pending = np.zeros(0)  # [m] power, summed over channels, of an unfinished step
        self._recent: deque[float] = deque(maxlen=STEPS_PER_BLOCK)
        self._blocks: list[float] = []  # mean power of each gating block

    def push(self, chunk: NDArray[np.float32]) -> None:
        """Take in [C, m] samples."""
        from scipy import signal

        weighted, self._state = signal.sosfilt(
            self._sections, chunk.astype(np.float64), axis=1, zi=self._state
        )
        power = np.concatenate([self._pending, np.square(weighted).sum(axis=0)])
        whole = len(power) // self._step * self._step
        for mean in power[:whole].reshape(-1, self._step).mean(axis=1):
            self._recent.append(float(mean))
            if len(self._recent) == STEPS_PER_BLOCK:
                self._blocks.append(sum(self._recent) / STEPS_PER_BLOCK)
        self._pending = power[whole:]

    def loudness(self) -> float:
        """Return LUFS so far; -inf for silence or less than one block (0.4 s)."""
        return gated_loudness(np.array(self._blocks))
