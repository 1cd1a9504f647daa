"""The studio: the page on which music is asked for, heard and steered.

Wired here; how it looks is decided in `layout`, `words`, `status` and `cards`, and all work is the
service's. What plays in the page itself is static/studio.js.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import soundfile

from app.cards import draw, held_by
from app.explore import Explorer
from app.gate import address_of
from app.layout import (
    Actions,
    Controls,
    Results,
    header,
    place_clips,
    place_compare,
    place_controls,
    place_jam,
    place_licence,
    place_spread,
    stream_box,
)
from app.programs import offer
from app.routes import SCRIPTS
from app.service import ACTIVE, Service
from app.settings import OWN, Settings, carried_over, fresh_settings, read_query
from app.shelf import Shelf
from app.status import describe, line, refusal, waiting
from app.visits import Run, Visits
from musicgen_rl.audio.io import read_tags
from musicgen_rl.errors import MusicgenRLError

CSS = Path(__file__).parent / "static" / "studio.css"
# Gradio puts this into the page once the page's own script runs: all modules are asked for at once.
HEAD = (
    "".join(
        f'<link rel="modulepreload" href="studio/{name}">'
        for name in sorted(SCRIPTS - {"studio.js"})
    )
    + '<script src="studio/studio.js" type="module"></script>'
)
_LOOK_S = 0.1  # between two looks at a job
_SAY_S = 0.5  # between two sentences about it: each costs the server some milliseconds
_LATER_SHARE = 0.2  # sound held back longer than this is explained
_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
_AS_IT_IS = _QUIET | {"postprocess": False}  # what goes into cards, see `app.cards`


def build(
    services: dict[str, Service],
    shelf: Shelf,
    visits: Visits,
    *,
    front: str = "",
) -> gr.Blocks:
    """Lay out the page.

    Args:
        services: what makes the music, by the name of the model; the first one is the default.
        shelf: where files for the page's own players go.
        visits: of all open pages.
        front: the measured front, as HTML; none where empty.

    Returns:
        The page, its queue set up; theme, css and head go to `launch`.
    """
    service = next(iter(services.values()))
    dialled = any(one.has_dial for one in services.values())
    with gr.Blocks(
        title="musicgen-rl studio",
        analytics_enabled=False,
        delete_cache=(600, round(service.limits.keep_s)),
    ) as page:
        top = gr.HTML(header(service), elem_classes="header")
        with gr.Row(elem_classes="columns"):
            with gr.Column(scale=5, min_width=320, elem_classes="controls"):
                controls, actions = place_controls(services)
            with gr.Column(scale=7, min_width=320, elem_classes="results"):
                with gr.Tabs(elem_id="ways"):
                    with gr.Tab("Clips"):
                        results = place_clips(service)
                    with gr.Tab("Live"):
                        place_jam(services)
                    if dialled:
                        with gr.Tab("Compare"):
                            comparing = place_compare()
                        with gr.Tab("Spread"):
                            spreading = place_spread(front)
                place_licence(services)
        Studio(services, visits, top, controls, actions, results).wire(page)
        if dialled:
            Explorer(services, shelf, controls, visits).wire(comparing, spreading)
        offer(services, shelf)
    page.queue(default_concurrency_limit=None, max_size=None)
    return page


class Studio:
    """What happens on the page.

    A run is four events: one admits the job; one follows it; one shows the clips; one opens the
    page for the next run. Not one alone, because Gradio works through all outputs of an event at
    every update: with the cards among them that took 90 ms, without 5. Clips of the last run are
    hidden by the page itself: taking them away would keep it busy just when sound should start.

    Args:
        services: what makes the music, by model.
        visits: what each open page has asked for.
        top: the page's head.
        controls: what is set on the page.
        actions: its buttons.
        results: what is shown on it.
    """

    def __init__(
        self,
        services: dict[str, Service],
        visits: Visits,
        top: gr.HTML,
        controls: Controls,
        actions: Actions,
        results: Results,
    ) -> None:
        self.services, self.visits, self.top = services, visits, top
        self.controls, self.actions, self.results = controls, actions, results
        self._first = next(iter(services.values()))

    def wire(self, page: gr.Blocks) -> None:
        """Tie events to what they do."""
        controls, actions, results = self.controls, self.actions, self.results
        settings = set(controls.components)
        cards = [component for card in results.cards for component in card.components]
        head = [actions.go, actions.stop, actions.status, results.live]
        begun = gr.on(
            [actions.go.click, controls.prompt.submit],
            self.begin,
            inputs=settings,
            outputs=[*head, results.empty, controls.seed],
            **_QUIET,
        )
        followed = begun.success(self.follow, outputs=[actions.status], **_QUIET)
        shown = followed.success(self.show, outputs=cards, **_AS_IT_IS)
        uncover = {"fn": None, "js": "() => window.studio?.cardsShown()"} | _QUIET
        shown.then(**uncover)
        shown.then(self.reopen, outputs=[*head[:2], actions.history], **_QUIET)
        actions.stop.click(self.stop, queue=False, **_QUIET)
        # A seed that was typed is meant to stay.
        controls.seed.input(
            None, inputs=controls.seed, outputs=controls.locked,
            js="(seed) => seed !== null && seed !== ''", **_QUIET,
        )  # fmt: skip
        for control, told in ((controls.diversity, "dial"), (controls.model, "model")):
            control.change(None, inputs=control, js=f"(v) => window.studio?.{told}(v)", **_QUIET)
        # Only what a visitor does: a run that is restored brings its own.
        own = [controls.by_name[name] for name in OWN]
        for control in (controls.model, controls.base):
            control.input(self.choose, inputs=settings, outputs=own, queue=False, **_QUIET)
        for number, card in enumerate(results.cards):
            card.more.click(
                _of(self.more_like, number),
                outputs=[
                    controls.seed, controls.locked, controls.first, controls.variations,
                    controls.takes,
                    actions.status,
                ],
                **_QUIET,
            )  # fmt: skip
            card.go_on.click(
                _of(self.go_on_from, number), outputs=[actions.status], **_QUIET
            ).success(None, js="() => document.querySelector('#generate').click()", **_QUIET)
            card.use.click(_of(self.use, number), outputs=controls.components, **_QUIET)
        actions.restore.click(
            self.restore,
            inputs=actions.history,
            outputs=[*controls.components, actions.status, results.live, results.empty],
            **_QUIET,
        ).success(self.show_restored, outputs=cards, **_AS_IT_IS).then(**uncover)
        actions.link.click(
            self.link, inputs=settings, outputs=actions.link_text, **_QUIET
        ).success(
            None, inputs=actions.link_text, outputs=actions.link_text,
            js="(q) => location.origin + location.pathname + q", **_QUIET,
        )  # fmt: skip
        # Gradio's number starts at 0 where it is given no value, and is empty only when told so: by
        # the page itself, since an answer that takes long would erase the seed of a first clip.
        empty = [controls.seed, controls.tempo]
        page.load(None, outputs=empty, js="() => [null, null]", **_QUIET)
        page.load(self.open, outputs=[self.top, *controls.components], **_QUIET)

    def open(self, request: gr.Request) -> Any:
        """Tell a page its name, and set the controls as a link says."""
        named = {self.top: header(self._first, _client(request))}
        if not (given := dict(request.query_params)):
            return named
        return named | self._showing(read_query(given, self.services, self._first.limits), request)

    def choose(self, values: dict[Any, Any], request: gr.Request) -> dict[Any, Any]:
        """Draw as the chosen model does by itself, but for what the visitor has set."""
        settings, visit = self.controls.read(values), self.visits.of(_client(request))
        model, base = visit.stands
        before = fresh_settings(self._service(model), base=base)
        after = fresh_settings(self._service(settings.model), base=settings.base)
        visit.stands = settings.model, settings.base
        own = carried_over(settings, before, after)
        # A choice can come twice, with values from before the first answer was drawn: only what
        # changes is told, so that the second changes nothing.
        told: dict[Any, Any] = {self.controls.by_name[name]: gr.skip() for name in OWN}
        for name in OWN:
            if getattr(own, name) != getattr(settings, name):
                told[self.controls.by_name[name]] = getattr(own, name)
        return told

    def begin(self, values: dict[Any, Any], request: gr.Request) -> dict[Any, Any]:
        """Admit a job.

        Raises:
            gr.Error: it cannot be done; says why, in a sentence.
        """
        actions, results, client = self.actions, self.results, _client(request)
        settings, visit = self.controls.read(values), self.visits.of(client)
        service = self._service(settings.model)
        source, visit.source = visit.source, None
        if self._busy(client):
            raise refusal("your last clips are still being made: stop them, or wait a little")
        try:
            wanted = settings.request(service, source)
            job = service.submit(wanted, client, address_of(request))
        except MusicgenRLError as error:
            raise refusal(str(error)) from None
        visit.add(replace(settings, seed=job.seed), job, service)
        return {
            actions.go: gr.update(interactive=False),
            actions.stop: gr.update(interactive=True),
            actions.status: waiting(),
            # Takes are not heard: most of them are not kept.
            results.live: gr.update(value=stream_box(job, service), visible=settings.takes == 1),
            results.empty: gr.update(visible=False),
            self.controls.seed: job.seed,
        }

    async def follow(self, request: gr.Request) -> AsyncIterator[dict[Any, Any]]:
        """Say how the job stands, until it has ended."""
        run = self.visits.known(_client(request)).newest
        if run is None:
            return
        job, service, said, said_at = run.job, run.service, "", 0.0
        clips = job.request.generation.clips_per_prompt
        try:
            while True:
                # Its sound goes to the page another way, see `app.playback`.
                update, now = service.poll(job, sound=False), time.monotonic()
                ended = update.state not in ACTIVE
                later = not job.playing and update.fraction > _LATER_SHARE
                text = describe(
                    update, clips=clips, playing_later=later, kept=job.has_files,
                    held=job.request.held, takes=job.request.generation.takes,
                )  # fmt: skip
                if text != said and (ended or now - said_at > _SAY_S):
                    said, said_at = text, now
                    yield {self.actions.status: text}
                if ended:
                    return
                await asyncio.sleep(_LOOK_S)
        finally:
            if job.state in ACTIVE:  # the page was closed
                service.release(job)

    async def show(self, request: gr.Request) -> dict[Any, Any]:
        """Show the clips of the run that has just ended, whatever was restored meanwhile."""
        visit = self.visits.known(_client(request))
        visit.shown = visit.newest
        return await self._show(visit.shown)

    async def show_restored(self, request: gr.Request) -> dict[Any, Any]:
        """Show the clips of the run that was restored."""
        return await self._show(self.visits.known(_client(request)).shown)

    async def _show(self, run: Run | None) -> dict[Any, Any]:
        """Show a run's clips, and no others; the page gets its own copies of their files."""
        files = run.files() if run is not None else []
        shown: dict[Any, Any] = {}
        for card in self.results.cards:
            shown |= card.hidden()
        for card, path in zip(self.results.cards, files, strict=False):
            try:
                picture = await asyncio.to_thread(draw, path)
                tags = await asyncio.to_thread(read_tags, path)
                held = held_by(tags, soundfile.info(path).duration)
            except (OSError, soundfile.LibsndfileError, MusicgenRLError):
                if path.is_file():
                    raise
                continue  # the page was closed, and its files went with it
            shown |= card.showing(path, picture, held)
        return shown

    def reopen(self, request: gr.Request) -> dict[Any, Any]:
        """Have the page ready for another run, with this one in its history."""
        choices = [(run.label, run.number) for run in self.visits.known(_client(request)).runs()]
        # A page that is being closed has forgotten its runs already.
        newest = choices[0][1] if choices else None
        return {
            self.actions.go: gr.update(interactive=True),
            self.actions.stop: gr.update(interactive=False),
            self.actions.history: gr.update(choices=choices, value=newest),
        }

    def stop(self, request: gr.Request) -> None:
        """Stop this visitor's jobs, and nobody else's."""
        for service in self.services.values():
            for job in service.jobs_of(_client(request)):
                service.stop(job)

    def more_like(self, number: int, request: gr.Request) -> dict[Any, Any]:
        """Hold a clip's seed and number, so that the dial alone changes it."""
        run = self._shown(request)
        first = run.job.request.generation.first_index + number + 1
        if run.job.request.generation.takes > 1:  # any of its takes may have been kept
            first = int(read_tags(self._file(run, number))["index"]) + 1
        said = "Its seed is locked: move the dial, or change a word, and generate again."
        settings = replace(run.settings, locked=True, first=first, variations=1, takes=1)
        held = self.controls.showing(settings, "seed", "locked", "first", "variations", "takes")
        return held | {self.actions.status: line(said)}

    def go_on_from(self, number: int, request: gr.Request) -> str:
        """Have the next run go on from a clip."""
        self.visits.known(_client(request)).source = self._file(self._shown(request), number)
        return line("Going on from this clip.")

    def use(self, number: int, request: gr.Request) -> dict[Any, Any]:
        """Set all controls as they were for a clip."""
        return self._showing(replace(self._shown(request).settings, locked=True), request)

    def restore(self, number: int | None, request: gr.Request) -> dict[Any, Any]:
        """Bring back a run of this visit: its settings; its clips follow, while they are there."""
        visit = self.visits.known(_client(request))
        run = visit.find(int(number)) if number is not None else None
        if run is None:
            raise refusal("nothing was made on this page yet: generate something first")
        if self._busy(_client(request)):
            raise refusal("your clips are still being made: stop them first, or wait a little")
        visit.shown = run
        said = "Restored." if run.files() else "Settings restored; the clips are no longer kept."
        return (
            self._showing(replace(run.settings, locked=True), request)
            | {self.actions.status: line(said)}
            | dict.fromkeys((self.results.empty, self.results.live), gr.update(visible=False))
        )

    def link(self, values: dict[Any, Any]) -> Any:
        """Write the settings into a link's query; the page puts its address before it."""
        settings: Settings = self.controls.read(values)
        fresh = fresh_settings(self._service(settings.model), base=settings.base)
        return gr.update(value=settings.query(fresh), visible=True)

    def _service(self, model: str) -> Service:
        return self.services.get(model, self._first)

    def _busy(self, client: str) -> bool:
        return any(one.jobs_of(client) for one in self.services.values())

    def _showing(self, settings: Settings, request: gr.Request) -> dict[Any, Any]:
        """Update that sets all controls at once."""
        self.visits.of(_client(request)).stands = settings.model, settings.base
        return self.controls.showing(settings)

    def _shown(self, request: gr.Request) -> Run:
        run = self.visits.known(_client(request)).shown
        if run is None:
            raise refusal("this clip is no longer here: generate it again")
        return run

    def _file(self, run: Run, number: int) -> Path:
        """Find a clip of a run."""
        files = run.files()
        if number >= len(files):
            raise refusal("this clip is no longer kept: generate it again first")
        return files[number]


def _of(act: Callable[[int, gr.Request], Any], number: int) -> Callable[[gr.Request], Any]:
    """Tie an action to one card, in a form whose annotation Gradio reads."""

    def acted(request: gr.Request) -> Any:
        return act(number, request)

    return acted


def _client(request: gr.Request) -> str:
    return str(request.session_hash)
