"""Simulated raters who play whole sessions over HTTP, as a browser would."""

import html
import io
import re
import time
import wave
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np

from musicgen_rl.listening.raters import World
from musicgen_rl.listening.sham import Ears
from musicgen_rl.listening.study import Study

_NONCE = re.compile(r'name="nonce" value="([^"]+)"')


class Player:
    """One simulated person in front of the pages.

    Args:
        client: HTTP, its base_url that of the server.
        study: what the questions are.
        ears: tell clips apart by their sound.
        world: how this person answers.
        rater: which person of the world.
        listen: waits while a sound plays; gets seconds.
        retry_s: for how long a lost connection is tried again, 0 not at all.
    """

    def __init__(
        self,
        client: httpx.Client,
        study: Study,
        ears: Ears,
        world: World,
        rater: int,
        *,
        listen: Callable[[float], None] = lambda seconds: None,
        retry_s: float = 0.0,
    ) -> None:
        self.client, self.study, self.ears, self.world = client, study, ears, world
        self.rater, self.listen, self.retry_s = rater, listen, retry_s
        self.key = ""
        self.acknowledged: list[tuple[str, str]] = []
        """(submission, trial id) of every answer the server said is stored."""

    def join(self, token: str) -> None:
        """Open an invitation and agree."""
        page = self._call("GET", f"i/{token}").text
        match = _NONCE.search(page)
        if match is None:
            raise ValueError("the invitation's page holds no form")
        nonce = html.unescape(match.group(1))
        reply = self._call("POST", f"i/{token}", data={"nonce": nonce, "agree": "yes"})
        self.key = reply.headers["location"].rsplit("/", 1)[1]

    def session(self, most: int = 10_000, *, leave_after: int | None = None) -> int:
        """Answer until the end, or until `leave_after` answers.

        Returns:
            How many answers were acknowledged.
        """
        state = self._call("GET", f"r/{self.key}/state").json()
        for _ in range(most):
            if state["stage"] == "headphones":
                body = {"answers": None}
                state = self._call("POST", f"r/{self.key}/headphones", json=body).json()
            elif state["stage"] != "trial" or len(self.acknowledged) == leave_after:
                break
            else:
                state = self.answer(state)
        return len(self.acknowledged)

    def answer(self, state: dict[str, Any]) -> dict[str, Any]:
        """Hear a page's sounds and answer it."""
        trial = state["trial"]
        names = [*trial["players"], *([trial["reference"]] if trial["reference"] else [])]
        heard, seconds = [], []
        for name in names:
            data = self._call("GET", f"r/{self.key}/sound/{name}").content
            with wave.open(io.BytesIO(data)) as file:
                frames = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2")
                samples = frames.reshape(-1, file.getnchannels())
                seconds.append(file.getnframes() / file.getframerate())
            heard.append(self.ears.hear(samples))
            self.listen(seconds[-1])
        items = [item["id"] for item in trial["items"]]
        question = next(
            q
            for q in self.study.questions
            if q.kind == trial["kind"] and [item.id for item in q.items] == items
        )
        share = trial["position"] / state["total"]
        values = self.world.answer(self.rater, question, heard[: len(trial["players"])], share)
        submission = f"{self.rater:06d}-{trial['id']}"[:64]
        plays = [
            {"player": n, "seconds": s, "at_s": sum(seconds[:n])} for n, s in enumerate(seconds)
        ]
        body = {
            "trial": trial["id"], "submission": submission, "values": values, "plays": plays,
            "corrects": trial["revision"],
        }  # fmt: skip
        reply = self._call("POST", f"r/{self.key}/answers", json=body)
        self.acknowledged.append((submission, trial["id"]))
        return reply.json()  # type: ignore[no-any-return]

    def _call(self, method: str, path: str, **options: Any) -> httpx.Response:
        end = time.monotonic() + self.retry_s
        while True:
            try:
                reply = self.client.request(method, path, **options)
                if reply.status_code < 500:
                    if reply.status_code >= 400:
                        raise ValueError(f"{method} {path}: {reply.status_code} {reply.text[:300]}")
                    return reply
                problem: object = reply.status_code
            except httpx.TransportError as error:
                problem = error
            if time.monotonic() > end:
                raise ConnectionError(f"{method} {path}: {problem}")
            time.sleep(0.2)
