"""Services over the tiny model, closed when their test ends."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from app.service import Service, Update
from musicgen_rl.pipeline import Pipeline


@pytest.fixture(scope="session")
def pipeline(tiny_folder) -> Pipeline:
    return Pipeline.load(tiny_folder, device="cpu", dtype="fp32")


@pytest.fixture
def start(pipeline: Pipeline) -> Iterator[Callable[..., Service]]:
    """Start services; they lend the one pipeline to each other, so close one before the next."""
    running: list[Service] = []

    def begin(**options: Any) -> Service:
        for service in running:
            service.close()
        running.append(Service(pipeline, **({"warm_up": False} | options)))
        return running[-1]

    yield begin
    for service in running:
        service.close()


@pytest.fixture(scope="session")
def chromium():
    from playwright.sync_api import sync_playwright

    from app.screenshots import launch_chromium

    with sync_playwright() as playwright:
        browser = launch_chromium(playwright)
        yield browser
        browser.close()


def finish(service: Service, job: Any) -> list[Update]:
    """Watch a job to its end."""
    return list(service.watch(job, interval_s=0.01))
