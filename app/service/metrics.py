"""What the service has done, in the text format that Prometheus reads."""

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping

_PREFIX = "musicgen_rl"
FIRST_SOUND_S = (0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """Counts, from any thread; nothing in them tells who asked for what."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._jobs: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self._audio_s = self._work_s = self._first_s = self._jam_s = 0.0
        self._first = [0] * (len(FIRST_SOUND_S) + 1)
        self._moves = 0
        self._move_s = 0.0

    def ended(self, state: str) -> None:
        """Count a job by how it ended."""
        with self._lock:
            self._jobs[state] += 1

    def refused(self, reason: str) -> None:
        """Count a request that was not taken."""
        with self._lock:
            self._refused[reason] += 1

    def worked(self, audio_s: float, seconds: float) -> None:
        """Add seconds of sound made, and the seconds that took."""
        with self._lock:
            self._audio_s += audio_s
            self._work_s += seconds

    def first_sound(self, seconds: float) -> None:
        """Add the time from a request to its first sound."""
        with self._lock:
            self._first[bisect_left(FIRST_SOUND_S, seconds)] += 1
            self._first_s += seconds

    def jammed(self, audio_s: float) -> None:
        """Add seconds of a jam."""
        with self._lock:
            self._jam_s += audio_s

    def moved(self, seconds: float) -> None:
        """Add a move of a jam's dial."""
        with self._lock:
            self._moves += 1
            self._move_s += seconds

    def render(self, *, waiting: int, running: int, jams: int, model: str) -> str:
        """Write all of it.

        Args:
            waiting: jobs in the queue now.
            running: jobs in work now.
            jams: jams that play now.
            model: the model's name.

        Returns:
            Text in version 0.0.4 of the exposition format.
        """
        with self._lock:
            speed = self._audio_s / self._work_s if self._work_s else 0.0
            lines = _metric("queue_jobs", "gauge", "Jobs that wait.", {"": waiting})
            lines += _metric("running_jobs", "gauge", "Jobs in work.", {"": running})
            lines += _metric("jams", "gauge", "Jams that play.", {"": jams})
            states = {f'{{state="{s}"}}': self._jobs[s] for s in ("done", "stopped", "failed")}
            lines += _metric("jobs_total", "counter", "Jobs that ended, by how.", states)
            failed = {"": self._jobs["failed"]}
            lines += _metric("errors_total", "counter", "Jobs that failed.", failed)
            reasons = {f'{{reason="{r}"}}': n for r, n in sorted(self._refused.items())}
            lines += _metric("refused_total", "counter", "Requests not taken, by why.", reasons)
            lines += _metric(
                "audio_seconds_total", "counter", "Sound made for jobs, seconds.",
                {"": self._audio_s},
            )  # fmt: skip
            lines += _metric(
                "work_seconds_total", "counter", "Time spent on jobs, seconds.", {"": self._work_s}
            )
            lines += _metric(
                "realtime_factor", "gauge", "Seconds of sound made in a second of work.",
                {"": speed},
            )  # fmt: skip
            lines += _metric(
                "jam_audio_seconds_total", "counter", "Sound of jams, seconds.", {"": self._jam_s}
            )
            lines += _metric("moves_total", "counter", "Changes in jams.", {"": self._moves})
            lines += _metric(
                "move_seconds_total", "counter", "Time until new weights stood, seconds.",
                {"": self._move_s},
            )  # fmt: skip
            lines += self._histogram()
        lines += _metric("model_info", "gauge", "The model.", {f'{{model="{_label(model)}"}}': 1})
        return "\n".join(lines) + "\n"

    def _histogram(self) -> list[str]:
        buckets: dict[str, float] = {}
        count = 0
        for bound, number in zip((*FIRST_SOUND_S, float("inf")), self._first, strict=True):
            count += number
            le = "+Inf" if bound == float("inf") else f"{bound:g}"
            buckets[f'_bucket{{le="{le}"}}'] = count
        buckets |= {"_sum": self._first_s, "_count": count}
        what = "From a request to its first sound, seconds."
        return _metric("first_sound_seconds", "histogram", what, buckets)


def together(texts: Mapping[str, str]) -> str:
    """Join what several services wrote into one page, in which every name is explained once.

    Args:
        texts: of `Metrics.render`, by the name of the model; one alone stays as it is.

    Returns:
        The same numbers, each labelled with its model.
    """
    if len(texts) == 1:
        return next(iter(texts.values()))
    families: dict[str, list[str]] = {}
    for model, text in texts.items():
        family: list[str] = []
        for row in text.splitlines():
            if row.startswith("# HELP "):
                family = families.setdefault(row, [])
            elif row.startswith("#"):
                if row not in family:
                    family.insert(0, row)
            else:
                family.append(_labelled(row, model))
    return "".join(f"{row}\n" for head, rows in families.items() for row in (head, *rows))


def _labelled(row: str, model: str) -> str:
    name, _, value = row.rpartition(" ")
    name, bracket, labels = name.partition("{")
    if 'model="' in labels:
        return row
    more = f",{labels}" if bracket else "}"
    return f'{name}{{model="{_label(model)}"{more} {value}'


def _metric(name: str, kind: str, what: str, values: Mapping[str, float]) -> list[str]:
    full = f"{_PREFIX}_{name}"
    head = [f"# HELP {full} {what}", f"# TYPE {full} {kind}"]
    return head + [f"{full}{suffix} {value:.10g}" for suffix, value in values.items()]


def _label(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
