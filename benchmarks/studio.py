"""Load on the studio: many visitors, each pressing Generate again and again, over loopback.

    python benchmarks/studio.py --visitors 20 --minutes 5

Visitors speak Gradio's own protocol, as the page does: they join the queue, listen to events, and
note when the first sound is there and when they have fetched the last clip, with its picture.
Positions of the dial, prompts and numbers of clips differ between them. Written to
benchmarks/results/studio.md and .json.
"""

import argparse
import asyncio
import json
import os
import random
import re
import statistics
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from app.serve import ServeConfig, start
from app.service import Limits
from app.settings import fresh_settings
from app.visits import BEAT_S
from app.words import EXAMPLES
from musicgen_rl.evaluation.summary import describe_machine

RESULTS = Path(__file__).parent / "results"
POSITIONS = (0.0, 0.5, 1.0)
_THINK_S = (1.0, 6.0)
_WARM_S = 45.0
_CLOSED_S = 12.0  # one look of the server at what is left


@dataclass
class Seen:
    """What the visitors met."""

    first_sound_s: list[float] = field(default_factory=list)
    done_s: list[float] = field(default_factory=list)
    full: int = 0
    most_disk: int = 0
    errors: list[str] = field(default_factory=list)


class Visitor:
    """One open page that presses Generate."""

    def __init__(
        self, url: str, config: dict[str, Any], number: int, fresh: dict[str, Any]
    ) -> None:
        self.url, self.config, self.fresh = url, config, fresh
        self.random = random.Random(number)
        self.session = f"visitor{number:05d}"
        named = {d["id"]: d for d in config["dependencies"]}
        by_label = {c["id"]: c.get("props", {}).get("elem_id") for c in config["components"]}
        go = next(i for i, name in by_label.items() if name == "generate")
        self.begin = next(
            d["id"] for d in named.values() if [go, "click"] in [list(t) for t in d["targets"]]
        )
        (self.follow,) = (d["id"] for d in named.values() if d["trigger_after"] == self.begin)
        # The first of those that come after it shows the clips.
        self.show = min(d["id"] for d in named.values() if d["trigger_after"] == self.follow)
        self.inputs = [by_label[i] for i in named[self.begin]["inputs"]]

    async def press(self, client: httpx.AsyncClient, seen: Seen, seconds: float) -> None:
        """Ask for clips and listen until they are there."""
        began = time.monotonic()
        values = {
            **self.fresh,
            "prompt": self.random.choice(EXAMPLES),
            "dial": self.random.choice(POSITIONS),
            "duration": seconds,
            "variations": self.random.choice((1, 1, 2)),
        }
        data = [values.get(name) for name in self.inputs]
        named: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        hearing = asyncio.create_task(self._hear(client, named))
        error, answer = await self._run(client, self.begin, data)
        address = re.search(r"studio/stream/[\w-]+", answer)
        if error or address is None:
            hearing.cancel()
            if "full" in error:
                seen.full += 1
            else:
                seen.errors.append(error or "no clip was named")
            return
        named.set_result(address[0])
        heard, (error, _) = await asyncio.gather(hearing, self._run(client, self.follow, []))
        if not error:
            error = await self._fetch(client, clips=values["variations"])
        if error:
            seen.errors.append(error)
        elif heard is not None:
            seen.first_sound_s.append(heard - began)
            seen.done_s.append(time.monotonic() - began)
        else:
            seen.errors.append("ended without a sound")

    async def stay(self, client: httpx.AsyncClient) -> None:
        """Say again and again that the page is open, as static/visit.js does."""
        while True:
            await asyncio.sleep(BEAT_S)
            await self._say(client, "beat")

    async def leave(self, client: httpx.AsyncClient) -> None:
        """Close the page."""
        await self._say(client, "leave")

    async def _say(self, client: httpx.AsyncClient, what: str) -> None:
        with suppress(httpx.HTTPError):  # the next one may come through
            await client.post(f"{self.url}studio/visit/{what}", json={"visit": self.session})

    async def _hear(self, client: httpx.AsyncClient, named: asyncio.Future[str]) -> float | None:
        """Take a clip's sound while it is made; when the first of it came.

        It is asked for at the press, and by its address where the press is answered too late.
        """
        options = {"json": {"visit": self.session}, "timeout": None}
        async with client.stream("POST", f"{self.url}studio/stream", **options) as answer:
            if answer.status_code == httpx.codes.OK:
                return await _first_byte(answer)
        async with client.stream("GET", f"{self.url}{await named}", timeout=None) as answer:
            return await _first_byte(answer)

    async def _fetch(self, client: httpx.AsyncClient, clips: int) -> str:
        """Have the clips shown and take their files; what went wrong, empty if nothing."""
        error, answer = await self._run(client, self.show, [])
        files = set(re.findall(r'"url":\s*"([^"]+)"', answer))
        if error or len(files) < 2 * clips:  # the sound and the picture of each
            return error or f"{len(files)} files for {clips} clips"
        for file in files:
            got = await client.get(file)
            if not got.is_success or not got.content:
                return f"{got.status_code} for a clip's file"
        return ""

    async def _run(self, client: httpx.AsyncClient, number: int, data: Any) -> tuple[str, str]:
        """Run one event; the error it ended with, empty if none, and its answer as it came."""
        join = {"fn_index": number, "data": data, "session_hash": self.session, "trigger_id": None}
        answer = await client.post(f"{self.url}gradio_api/queue/join", json=join)
        answer.raise_for_status()
        events = f"{self.url}gradio_api/queue/data?session_hash={self.session}"
        async with client.stream("GET", events, timeout=None) as stream:
            async for row in stream.aiter_lines():
                if not row.startswith("data:"):
                    continue
                event = json.loads(row[5:])
                if event["msg"] == "process_completed":
                    if not event.get("success", True):
                        return str(event["output"].get("error") or event["output"]), row
                    return "", row
        return "the connection was closed", ""


async def _first_byte(answer: httpx.Response) -> float | None:
    """Take all of an answer; when the first of it came."""
    answer.raise_for_status()
    first = None
    async for part in answer.aiter_bytes():
        if part and first is None:
            first = time.monotonic()
    return first


async def load(
    url: str,
    folder: Path,
    fresh: dict[str, Any],
    visitors: int,
    seconds: float,
    clip_s: float,
) -> Seen:
    """Have visitors come and go until the time is over."""
    seen, until = Seen(), time.monotonic() + seconds
    async with httpx.AsyncClient(timeout=60, limits=httpx.Limits(max_connections=200)) as client:
        config = (await client.get(f"{url}config")).json()

        async def visit(number: int) -> None:
            visitor = Visitor(url, config, number, fresh)
            await asyncio.sleep(visitor.random.uniform(0, min(5.0, seconds / 4)))
            page = asyncio.create_task(visitor.stay(client))
            while time.monotonic() < until:
                try:
                    await visitor.press(client, seen, clip_s)
                except httpx.HTTPError as error:
                    seen.errors.append(f"{type(error).__name__}: {error}")
                await asyncio.sleep(visitor.random.uniform(*_THINK_S))
            seen.most_disk = max(seen.most_disk, folder_bytes(folder))
            page.cancel()
            await asyncio.gather(page, return_exceptions=True)
            await visitor.leave(client)

        await asyncio.gather(*(visit(number) for number in range(visitors)))
    return seen


def folder_bytes(folder: Path) -> int:
    """Add up the files of a folder; what goes while it is counted does not count."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                total += (Path(place) / name).stat().st_size
    return total


def quantile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--visitors", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seconds", type=float, default=10.0, help="length of each clip")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    limits = Limits(max_waiting=2 * options.visitors)
    running = start(ServeConfig(model=options.model), limits=limits)
    try:
        while running.service._pace.seconds(1, 1) == 0:  # until it has warmed up
            time.sleep(0.1)
        own = fresh_settings(running.service)
        fresh = {
            "locked": False, "lock": False, "seed": 0, "first": 1, "format": "wav",
            "base": not running.service.has_dial, "levelled": own.levelled,
            "loudness": own.loudness, "method": own.method, "guidance": own.guidance,
            "negative": own.negative, "temperature": own.temperature, "top-k": own.top_k,
            "model": own.model,
        }  # fmt: skip
        process = psutil.Process()
        asyncio.run(  # what is loaded once, and what so many need at all, is no growth
            load(running.url, running.folder, fresh, options.visitors, _WARM_S, options.seconds)
        )
        time.sleep(_CLOSED_S)
        before = process.memory_info().rss, folder_bytes(running.folder)
        seen = asyncio.run(
            load(
                running.url, running.folder, fresh, options.visitors, 60 * options.minutes,
                options.seconds,
            )
        )  # fmt: skip
        time.sleep(_CLOSED_S)
        after = process.memory_info().rss, folder_bytes(running.folder)
        metrics = running.service.rendered_metrics()
    finally:
        running.close()
    clips = {"files left behind": running.folder.exists()}
    row = {
        "command": "python " + " ".join(sys.argv),
        "date": datetime.now(UTC).date().isoformat(),
        "machine": describe_machine(),
        "model": options.model, "visitors": options.visitors, "minutes": options.minutes,
        "clip_s": options.seconds, "runs": len(seen.done_s), "full": seen.full,
        "errors": len(seen.errors), "error_texts": sorted(set(seen.errors))[:5],
        "first_sound_s": {q: quantile(seen.first_sound_s, q / 100) for q in (50, 95)},
        "done_s": {q: quantile(seen.done_s, q / 100) for q in (50, 95)},
        "mean_first_sound_s": statistics.fmean(seen.first_sound_s) if seen.first_sound_s else None,
        "memory_mb": [round(b[0] / 1e6) for b in (before, after)],
        "most_disk_mb": round(seen.most_disk / 1e6, 1),
        "load": round(os.getloadavg()[0], 1),
        "disk_mb": [round(b[1] / 1e6, 1) for b in (before, after)],
        **clips,
        "metrics": metrics,
    }  # fmt: skip
    options.results.mkdir(parents=True, exist_ok=True)
    (options.results / "studio.json").write_text(json.dumps(row, indent=2) + "\n")
    (options.results / "studio.md").write_text(report(row))
    print(report(row))


def report(row: dict[str, Any]) -> str:
    first, done = row["first_sound_s"], row["done_s"]
    return f"""# The studio under load

`{row["command"]}`, {row["date"]}, {row["machine"]["processor"]}, {row["machine"]["cores"]} cores,
load at the end {row["load"]}: other work ran on the machine where it is well above 1.

{row["visitors"]} visitors for {row["minutes"]:g} minutes, clips of {row["clip_s"]:g} s at three
positions of the dial, {_THINK_S[0]:g} to {_THINK_S[1]:g} s between two runs of one visitor; then
each closes its page.

| | p50 | p95 |
|---|---|---|
| press to first sound, s | {first[50]:.2f} | {first[95]:.2f} |
| press to all clips on the page, s | {done[50]:.2f} | {done[95]:.2f} |

| | |
|---|---|
| runs | {row["runs"]} |
| told that the queue is full | {row["full"]} |
| errors | {row["errors"]} {"; ".join(row["error_texts"])} |
| memory before and after, MB | {row["memory_mb"][0]}, {row["memory_mb"][1]} |
| disk before, at its fullest, and after all pages were closed, MB | {row["disk_mb"][0]}, \
{row["most_disk_mb"]}, {row["disk_mb"][1]} |
| anything left after closing | {"yes" if row["files left behind"] else "no"} |
"""


if __name__ == "__main__":
    main()
