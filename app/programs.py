"""What programs call: one function with an API page of its own, by curl, gradio_client or MCP."""

import asyncio
from typing import Any

import gradio as gr

from app.gate import address_of, root_of
from app.service import ACTIVE, JobRequest, Service, State
from app.shelf import Shelf
from musicgen_rl.errors import MusicgenRLError

_LOOK_S = 0.1


def offer(services: dict[str, Service], shelf: Shelf) -> None:
    """Offer `/generate` on the page that is being laid out.

    Args:
        services: by the name of their model; the first one is the default.
        shelf: where the files can be fetched.
    """
    first = next(iter(services.values()))

    async def generate(
        prompt: str,
        duration: float = 10.0,
        variations: int = 1,
        seed: int = -1,
        diversity: float = -1.0,
        guidance: float = -1.0,
        negative_prompt: str = "",
        temperature: float = -1.0,
        top_k: int = -1,
        format: str = "wav",
        model: str = "",
        tempo: float = -1.0,
        key: str = "",
        steady: bool = False,
        chords: str = "",
        takes: int = 1,
        guidance_seconds: float = -1.0,
        request: gr.Request = None,  # Gradio fills it in
    ) -> dict:  # type: ignore[type-arg]  # what Gradio's API page can say
        """Make music from text; returns the seed, and of each file its name and URL.

        Args:
            prompt: What to play, for example "slow sad piano".
            duration: Seconds of music.
            variations: Clips of this prompt.
            seed: Same seed, same music; -1 draws one.
            diversity: 0 is quality (safer, more alike), 1 diversity; -1 plays the base model.
            guidance: 1 is off; -1 is the model's own: where something is held on the dial, it may
                guide the first second.
            negative_prompt: What to stay away from; needs guidance above 1.
            temperature: How boldly tokens are drawn; -1 is the model's own default.
            top_k: Draw among so many likeliest tokens; -1 is the model's own default.
            format: wav, flac, ogg or mp3.
            model: Which model; empty is the default one.
            tempo: To hold, beats a minute; -1 takes the prompt's ("124 bpm"), 0 holds none.
            key: To hold, such as "D minor"; empty takes the prompt's, "auto" that one or one that
                goes with the prompt, "none" holds none.
            steady: Hold a tempo that goes with the prompt where it names none.
            chords: To hold, a bar each, such as "Am F C G"; empty takes the prompt's ("chords Am
                F"), "auto" those or some that go with the prompt, "none" holds none.
            takes: Play each clip so often and keep the one that answers the prompt best.
            guidance_seconds: Of each clip that guidance steers, 0 for all; -1 is the model's own
                beside a guidance of -1, and all beside another.
        """
        address = address_of(request)
        service = services.get(model or first.info.name)
        if service is None:
            raise gr.Error(
                f"Unknown model: there are {', '.join(services)}.", print_exception=False
            )
        given = {
            "guidance_scale": None if guidance < 0 else guidance,
            "guidance_s": None if guidance_seconds < 0 else guidance_seconds,
            "temperature": None if temperature < 0 else temperature,
            "top_k": None if top_k < 0 else top_k,
            "negative_prompt": negative_prompt or None,
        }
        wanted = JobRequest(
            prompt=prompt,
            duration_s=duration,
            tempo_bpm=None if tempo < 0 else tempo,
            key=key or None,
            chords=chords or None,
            steady=steady and tempo < 0,
            variations=variations,
            takes=takes,
            seed=None if seed < 0 else seed,
            diversity=None if diversity < 0 else diversity,
            format=format,
            sampling=given,
        )
        try:
            job = service.submit(wanted, f"program {request.session_hash or address}", address)
        except MusicgenRLError as error:
            raise gr.Error(str(error), print_exception=False) from None
        try:
            while job.state in ACTIVE:
                await asyncio.sleep(_LOOK_S)
        finally:
            if job.state in ACTIVE:  # the caller has gone
                service.release(job)
        if job.state is not State.DONE:
            raise gr.Error(service.poll(job).error or "Stopped.", print_exception=False)
        files: list[dict[str, Any]] = [
            {"name": path.name, "url": root_of(request) + shelf.url(path)} for path in job.files
        ]
        return {"seed": job.seed, "model": service.info.name, "files": files}

    gr.api(generate, api_name="generate", concurrency_limit=None)
