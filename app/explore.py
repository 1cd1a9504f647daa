"""Two positions of the dial in step, and clips of several as points."""

import asyncio
import html
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import librosa
import numpy as np

from app.figures import dial_colour, plane, spread_svg, wave_svg
from app.gate import address_of
from app.layout import Comparing, Controls, Spreading
from app.service import ACTIVE, Job, Service, State
from app.service.pace import in_words
from app.settings import Settings, carried_over, fresh_settings
from app.shelf import Shelf
from app.status import line, refusal, waiting
from app.visits import Visits
from musicgen_rl.audio.io import read_audio
from musicgen_rl.checkpoint import ModelInfo, checkpoints_folder
from musicgen_rl.errors import MusicgenRLError
from musicgen_rl.rewards.files import DESCRIPTION

ENCODERS = ("rewards/encoder-report", "rewards/encoder-training")
POSITIONS = (0.0, 0.5, 1.0)
SPREAD_S = 5.0
_LOWEST_RATE = 16000  # that the encoder hears as it is
_LOOK_S = 0.15
_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


def find_encoder(info: ModelInfo) -> Path | None:
    """Find the encoder that measures variety: in the model's folder, else in pocket's."""
    homes = (info.folder, checkpoints_folder() / "pocket")
    found = (home / name for home in homes for name in ENCODERS)
    return next((path for path in found if (path / DESCRIPTION).is_file()), None)


class Explorer:
    """Comparisons and spreads of all visitors.

    Args:
        services: what makes the music, by model.
        shelf: where the page fetches clips.
        controls: what is set on the page.
        visits: what each open page has asked for.
    """

    def __init__(
        self,
        services: dict[str, Service],
        shelf: Shelf,
        controls: Controls,
        visits: Visits,
    ) -> None:
        self._services, self._shelf = services, shelf
        self._controls, self._visits = controls, visits
        self._first = next(iter(services.values()))
        self._encoder: Any = None
        self._loading = threading.Lock()

    def wire(self, comparing: Comparing, spreading: Spreading) -> None:
        """Tie events to what they do."""
        self._comparing, self._spreading = comparing, spreading
        settings = set(self._controls.components)
        comparing.go.click(
            self.compare,
            inputs=settings | {comparing.first, comparing.second},
            outputs=[comparing.status, comparing.panel],
            **_QUIET,
        )
        spreading.go.click(
            self.spread,
            inputs=settings | {spreading.clips},
            outputs=[spreading.status, spreading.panel],
            **_QUIET,
        )

    async def compare(
        self, values: dict[Any, Any], request: gr.Request
    ) -> AsyncIterator[dict[Any, Any]]:
        """Make a prompt at two positions, from one seed, and lay out their player."""
        at, lams = self._comparing, (values[self._comparing.first], values[self._comparing.second])
        settings = replace(self._on_the_dial(values), variations=1)
        jobs: list[tuple[Service, Job]] = []
        async for said in self._make("compare", settings, lams, jobs, request):
            yield {at.status: said}
        if len(jobs) == len(lams):
            files = [job.files[0] for _, job in jobs]
            panel = await asyncio.to_thread(self._pair, files, lams)
            yield {at.status: line("Ready: play both, and fade between them."), at.panel: panel}

    async def spread(
        self, values: dict[Any, Any], request: gr.Request
    ) -> AsyncIterator[dict[Any, Any]]:
        """Make a prompt several times at three positions, and draw the clips as points."""
        at = self._spreading
        clips = int(values[at.clips])
        settings = replace(self._on_the_dial(values), variations=clips, duration=SPREAD_S, first=1)
        folder = find_encoder(self._first.info)
        if folder is None:
            said = "The encoder that measures variety is not here: copy the whole model folder."
            yield {at.status: line(said, kind="bad")}
            return
        jobs: list[tuple[Service, Job]] = []
        async for said in self._make("spread", settings, POSITIONS, jobs, request):
            yield {at.status: said}
        if len(jobs) == len(POSITIONS):
            yield {at.status: line("Listening to the clips ...")}
            files = [list(job.files) for _, job in jobs]
            try:
                panel = await asyncio.to_thread(self._points, folder, files)
            except MusicgenRLError as error:
                raise refusal(str(error)) from None
            yield {at.status: line("Ready: click a point."), at.panel: panel}

    def _service(self, settings: Settings) -> Service:
        return self._services.get(settings.model, self._first)

    def _on_the_dial(self, values: dict[Any, Any]) -> Settings:
        """Read the page's settings as for the dial, though the base may play beside it."""
        settings = replace(self._controls.read(values), takes=1)
        if settings.base:
            service = self._service(settings)
            base, dial = fresh_settings(service, base=True), fresh_settings(service)
            settings = carried_over(replace(settings, base=False), base, dial)
        return settings

    async def _make(
        self,
        kind: str,
        settings: Settings,
        lams: tuple[float, ...],
        jobs: list[tuple[Service, Job]],
        request: gr.Request,
    ) -> AsyncIterator[str]:
        """Make one job for each position, one after the other; say how they stand.

        `jobs` is filled at the end if all of them are done.
        """
        service = self._service(settings)
        if not service.has_dial:
            raise refusal(
                f"the model {service.info.name} has no dial, so all positions would be one: choose "
                "one that has, under More"
            )
        client, visit = f"{request.session_hash} {kind}", self._visits.of(str(request.session_hash))
        if service.jobs_of(client):
            raise refusal("the last ones are still being made: wait a little")
        made: list[tuple[Service, Job]] = []
        try:
            visit.replace_others(kind, [])
            for number, lam in enumerate(lams, 1):
                wanted = replace(settings, diversity=float(lam))
                try:
                    job = service.submit(wanted.request(service), client, address_of(request))
                except MusicgenRLError as error:
                    raise refusal(str(error)) from None
                made.append((service, job))
                settings = replace(settings, seed=job.seed, locked=True)  # one seed for all
                async for said in self._follow(service, job, f"{number} of {len(lams)}"):
                    yield said
                if job.state is not State.DONE:
                    return
            jobs += made
        finally:
            if jobs:
                visit.replace_others(kind, made)
            else:
                for service, job in made:
                    service.release(job)

    async def _follow(self, service: Service, job: Job, which: str) -> AsyncIterator[str]:
        said: tuple[int, str] | None = None
        while True:
            update = service.poll(job)
            if update.state is State.FAILED:
                yield line(f"{update.error[:1].upper()}{update.error[1:].rstrip('.')}.", kind="bad")
            if update.state not in ACTIVE:
                return
            left = update.seconds_left
            ticking = "." if left is None else f", about {in_words(left)} left."
            if (now := (update.position, ticking)) != said:
                said = now
                if update.position:
                    yield waiting(update.position, ticking)
                else:
                    text = f"Making position {which}"
                    yield line(text, ticking=ticking, fraction=update.fraction)
            await asyncio.sleep(_LOOK_S)

    def _pair(self, files: list[Path], lams: tuple[float, float]) -> str:
        waves = []
        for path, lam in zip(files, lams, strict=True):
            label = f"Diversity {lam:g}"
            waves.append(
                f"<figure><figcaption>{label}</figcaption>"
                + wave_svg(read_audio(path).samples, dial_colour(lam), f"Loudness of {label}")
                + f'<a href="{html.escape(self._shelf.url(path), quote=True)}" download>Download '
                f"{label.lower()}</a></figure>"
            )
        urls = [html.escape(self._shelf.url(path), quote=True) for path in files]
        return (
            f'<section class="pair" data-studio="pair" data-a="{urls[0]}" data-b="{urls[1]}">'
            f'<div class="waves">{"".join(waves)}</div>'
            '<div class="row"><button class="big" data-studio="pair-play">Play both</button>'
            '<span data-studio="pair-place" class="say"></span>'
            '<span data-studio="pair-status" class="say" role="status"></span></div>'
            '<label class="wide">Place<input type="range" min="0" max="1" step="0.001" value="0" '
            'data-studio="pair-at" aria-label="Place in both clips"></label>'
            f'<label class="wide">Fade from diversity {lams[0]:g} to {lams[1]:g}<input '
            'type="range" min="0" max="1" step="0.01" value="0" data-studio="pair-fade" '
            'aria-label="Fade between the two positions"></label></section>'
        )

    def _points(self, folder: Path, files: list[list[Path]]) -> str:
        import torch

        from musicgen_rl.rewards.diversity import pairwise_diversity
        from musicgen_rl.rewards.encoder import load_encoder

        with self._loading:
            if self._encoder is None:
                self._encoder = load_encoder(folder)
        clips = [read_audio(path) for own in files for path in own]
        shortest = min(clip.num_samples for clip in clips)
        sound = np.stack([clip.samples.mean(axis=0)[:shortest] for clip in clips])
        rate = clips[0].sample_rate
        if rate < _LOWEST_RATE:
            sound = librosa.resample(sound, orig_sr=rate, target_sr=self._encoder.sample_rate)
            rate = self._encoder.sample_rate
        with torch.inference_mode():
            found = self._encoder.embed(torch.from_numpy(sound), rate)
        lams = [lam for lam, own in zip(POSITIONS, files, strict=True) for _ in own]
        urls = [self._shelf.url(path) for own in files for path in own]
        points, shown = plane(found.numpy())
        apart = pairwise_diversity(found.reshape(len(POSITIONS), -1, found.shape[-1])).tolist()
        said = ", ".join(f"{d:.2f} at {lam:g}" for lam, d in zip(POSITIONS, apart, strict=True))
        return (
            f"{spread_svg(points, lams, urls)}"
            '<p class="say" data-studio="spread-status" role="status"></p>'
            f'<p class="hint">Mean distance between clips: {said}. The plane shows '
            f"{round(100 * shown)} % of how they differ, heard by {html.escape(folder.name)}; "
            "points that would cover each other are moved a little apart.</p>"
        )
