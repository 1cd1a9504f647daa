"""Serve a study: alone, on an address of one's choice, without a log of who came."""

import logging
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from app.listening.server import create_app
from app.listening.session import Context
from app.passwords import read_account
from app.serve import choose_port, is_loopback
from musicgen_rl.config import require
from musicgen_rl.listening.analysis import analyse
from musicgen_rl.listening.assignment import required_clips
from musicgen_rl.listening.clips import load_clips
from musicgen_rl.listening.elsewhere import note_database, require_database
from musicgen_rl.listening.links import base_address
from musicgen_rl.listening.plan import load_plan
from musicgen_rl.listening.report import to_html
from musicgen_rl.listening.retention import delete_due
from musicgen_rl.listening.store import Store, store_url, withdrawal

_EVERY_S = 3600.0


@dataclass(frozen=True, kw_only=True)
class StudyServer:
    """How a study is served."""

    folder: Path
    """Of the study."""
    host: str = "127.0.0.1"
    """Address to listen at; raters on other devices need 0.0.0.0 or a proxy before it."""
    port: int | None = None
    """Port to listen at; without it 7860, or the next free one."""
    owner: tuple[str, ...] = ()
    """USER:HASH of who may open the owner's page, as `demo --hash-password` prints it."""
    database: str | None = None
    """SQLAlchemy URL; without it the folder's own answers.sqlite."""
    address: str | None = None
    """Where raters reach it, for the owner's links; without it as the owner's page was called."""

    def __post_init__(self) -> None:
        """Check every field."""
        require(
            self.port is None or 1 <= self.port <= 65535,
            f"--port must be from 1 to 65535, got {self.port}",
        )
        if self.address is not None:
            base_address(self.address)
        for account in self.owner:
            read_account(account)


def open_context(
    folder: Path, database: str | None = None, *, clock: Callable[[], float] = time.time,
    simulated: bool = False,
) -> Context:  # fmt: skip
    """Load plan, clips and database, and check that they belong together.

    Raises:
        InputError: one of them is missing, changed, or of another study.
    """
    plan = load_plan(folder)
    wanted = required_clips(plan.assignment)
    clips = load_clips(plan.folder, plan.study, wanted, simulated=simulated)
    store = Store(
        store_url(plan.folder, database), plan.hash, slots=len(plan.assignment.sessions),
        clock=clock, simulated=simulated,
    )  # fmt: skip
    return Context(plan, store, clips)


def build(config: StudyServer) -> tuple[FastAPI, Context]:
    """Make the application of a study."""
    require_database(config.folder, config.database)
    context = open_context(config.folder, config.database)
    note_database(config.folder, config.database)

    def report() -> str:
        return to_html(analyse(context.plan, context.store, mixed=False), context.plan)

    owners = [read_account(text) for text in config.owner]
    address = None if config.address is None else base_address(config.address)
    return create_app(context, owners=owners, report=report, address=address), context


def serve(config: StudyServer, say: Callable[[str], None]) -> None:
    """Serve until Ctrl-C or SIGTERM.

    Args:
        config: checked.
        say: prints a line.

    Raises:
        ConfigError: the address or the port cannot be had.
        InputError: the study is not ready.
    """
    app, context = build(config)
    if context.store.withdrawn:
        say(withdrawal(context.store.withdrawn))
    with kept_promise(context, say):
        _run(app, context, config, say)


@contextmanager
def kept_promise(
    context: Context, say: Callable[[str], None], every_s: float = _EVERY_S
) -> Iterator[None]:
    """Delete whose retention time is over: now, and every hour until the end of the context.

    Args:
        context: of the study.
        say: prints a line.
        every_s: seconds between two looks.

    Raises:
        StorageError: the first look failed; later ones say so and try again.
    """
    ended = threading.Event()
    for line in delete_due(context.plan, context.store):
        say(line)

    def keep() -> None:
        while not ended.wait(every_s):
            try:
                for line in delete_due(context.plan, context.store):
                    say(line)
            except Exception as error:  # a full disk now is no reason to stop trying
                say(f"could not delete whose retention time is over, trying again: {error}")

    thread = threading.Thread(target=keep, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(timeout=60)


def _run(app: FastAPI, context: Context, config: StudyServer, say: Callable[[str], None]) -> None:
    port = choose_port(config.host, config.port)
    shown = config.host if is_loopback(config.host) else socket.gethostname()
    here = f"http://{shown}:{port}"
    base = here if config.address is None else base_address(config.address)
    say(f"the study is open at {here}" + (f", for raters at {base}" if base != here else ""))
    if not context.store.progress()["invited"]:
        say("nobody is invited yet: `musicgen-rl listen invite FOLDER` makes personal links")
    say(f"the owner's page is {base}/owner" if config.owner else "no owner's page: no --owner")
    server = uvicorn.Server(settings(app, config.host, port))
    # The server takes these signals, ends, and raises them once more: by then there is nothing to
    # do but to close the database.
    before = {s: signal.signal(s, lambda *_: None) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        server.run()
    finally:
        context.store.close()
        for number, handler in before.items():
            signal.signal(number, handler)


def settings(app: FastAPI, host: str, port: int) -> uvicorn.Config:
    """Set the server up: no log of addresses, no name of the program in replies."""
    return uvicorn.Config(
        app, host=host, port=port, access_log=False, log_level=logging.ERROR, server_header=False,
        date_header=False, proxy_headers=False, ws="none", timeout_graceful_shutdown=5,
    )  # fmt: skip


class InBackground:
    """A server in a thread of this process, for simulations and tests; use it as a context."""

    def __init__(self, app: FastAPI, port: int = 0) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("127.0.0.1", port))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._server = uvicorn.Server(settings(app, "127.0.0.1", 0))
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True
        )

    def __enter__(self) -> "InBackground":
        """Start, and wait until it answers."""
        self._thread.start()
        while not self._server.started and self._thread.is_alive():
            time.sleep(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self._server.should_exit = True
        self._thread.join(timeout=20)
        self._socket.close()
