"""Services over the tiny model, closed when their test ends."""

from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from app.service import Service, Update
from musicgen_rl.checkpoint.holds import CHORD_SENSE, KEY_SENSE
from musicgen_rl.pipeline import Pipeline
from musicgen_rl.rewards.encoder import EncoderNet
from musicgen_rl.rewards.files import save_reward_model
from musicgen_rl.rewards.towers import TowerConfig
from tests.app.browsing import described, opened
from tests.judged import save_scorer
from tests.models import save_tiny_dial
from tests.pipeline.test_chords import write_chords
from tests.pipeline.test_key import write_key
from tests.pipeline.test_steady import write_sense
from tests.pipeline.test_tempo import write_beat


@pytest.fixture(scope="session")
def pipeline(tiny_folder) -> Pipeline:
    return Pipeline.load(tiny_folder, device="cpu", dtype="fp32")


@pytest.fixture(scope="session")
def hearing_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Hold a tiny model with a dial, what holds tempo, key and chords, an encoder and a scorer."""
    folder = save_tiny_dial(tmp_path_factory.mktemp("models") / "hearing")
    write_sense(write_sense(write_key(write_beat(folder))), hold=KEY_SENSE)
    write_sense(write_chords(folder), hold=CHORD_SENSE)
    tower = TowerConfig(width=16, layers=2, heads=2, patch_frames=8, window_s=2.0)
    torch.manual_seed(1)
    save_reward_model(
        EncoderNet(tower, 8), folder / "rewards" / "encoder-report", name="tiny encoder",
        kind="encoder", role="report", tower=tower, shape={"dim": 8},
        facts={"data": "none", "license": "CC0-1.0", "figures": {}},
    )  # fmt: skip
    save_scorer(folder / "rewards", "training")
    return folder


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


@pytest.fixture
def visit(chromium, studio):
    """Open pages of the studio that the test's own module serves."""
    yield from opened(chromium, studio)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: Any, call: Any) -> Generator[None, Any, Any]:
    """Tell what the pages of a test showed when it failed."""
    report = yield
    if report.when == "call" and report.failed:
        for seen in getattr(item.funcargs.get("visit"), "visitors", ()):
            report.sections.append(("the page", described(seen)))
    return report


def finish(service: Service, job: Any) -> list[Update]:
    """Watch a job to its end."""
    return list(service.watch(job, interval_s=0.01))


def finished_files(service: Service, job: Any) -> list[Path]:
    """Watch a job to its end and list its files, whichever updates brought them."""
    return [path for update in finish(service, job) for path in update.files]
