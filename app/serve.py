"""Start the studio: who may reach it, at which address, and how it ends."""

import errno
import gc
import ipaddress
import os
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.passwords import read_account, waiting_checker
from app.service import Limits, Service
from musicgen_rl.cli.stopping import StopSignals
from musicgen_rl.config import require
from musicgen_rl.errors import ConfigError

if TYPE_CHECKING:
    import gradio as gr

    from app.visits import Visits

FIRST_PORT = 7860
REQUESTS_PER_MINUTE = 20  # of one address, where others than this computer's user are let in
_TRIED_PORTS = 50


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """How the studio is served."""

    model: str = "pocket"
    """pocket, a folder, or a hub id such as facebook/musicgen-small."""
    more_models: tuple[str, ...] = ()
    """Others the page offers beside it, each in memory of its own."""
    host: str = "127.0.0.1"
    """Address to listen at; others than this computer's own need --auth or --no-auth."""
    port: int | None = None
    """Port to listen at; without it 7860, or the next free one."""
    auth: tuple[str, ...] = ()
    """USER:HASH of who may use the page, as --hash-password prints it."""
    no_auth: bool = False
    """Let everyone who can reach the address use the page."""
    device: str = "auto"
    """auto, cpu or cuda."""
    dtype: str = "auto"
    """auto (the fastest that is right here), fp32, bf16 or int8."""
    mcp: bool = False
    """Offer the page's function to language models as an MCP tool."""

    def __post_init__(self) -> None:
        """Check every field, and that nobody is let in by mistake."""
        require(
            self.port is None or 1 <= self.port <= 65535,
            f"--port must be from 1 to 65535, got {self.port}",
        )
        require(
            not (self.auth and self.no_auth),
            "--auth and --no-auth contradict each other: give one of them",
        )
        for account in self.auth:
            read_account(account)
        require(
            is_loopback(self.host) or bool(self.auth) or self.no_auth,
            f"--host {self.host} would let others in: add --auth USER:HASH (made by "
            "`musicgen-rl demo --hash-password USER`), or --no-auth if everyone may use it",
        )
        require(
            not (self.mcp and self.auth),
            "--mcp and --auth exclude each other: a tool cannot log in, so serve MCP on this "
            "computer only, or with --no-auth",
        )
        require(
            not self.mcp or find_spec("mcp") is not None,
            "--mcp needs the package mcp: .venv/bin/pip install 'gradio[mcp]'",
        )

    @property
    def for_this_computer(self) -> bool:
        """Whether nobody else is meant to use the page."""
        return is_loopback(self.host) and not self.auth and not self.no_auth


@dataclass
class Running:
    """A studio that can be reached."""

    url: str
    page: "gr.Blocks"
    services: dict[str, Service]
    visits: "Visits"
    folder: Path

    @property
    def service(self) -> Service:
        """The first model's."""
        return next(iter(self.services.values()))

    def close(self) -> None:
        """End all jobs, stop listening, remove every file."""
        self.visits.close()
        for service in self.services.values():
            service.close()
        self.page.close(verbose=False)
        shutil.rmtree(self.folder, ignore_errors=True)


def is_loopback(host: str) -> bool:
    """Tell whether an address is reached from this computer only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def choose_port(host: str, port: int | None) -> int:
    """Choose a port that is free now.

    Args:
        host: address to listen at.
        port: this one or none; None takes the first free one from 7860 on.

    Raises:
        ConfigError: it is taken, or the address is not this computer's.
    """
    tried = [port] if port is not None else range(FIRST_PORT, FIRST_PORT + _TRIED_PORTS)
    for candidate in tried:
        if _is_free(host, candidate):
            return candidate
    if port is not None:
        raise ConfigError(f"port {port} is taken: leave --port out, or name another one")
    raise ConfigError(
        f"ports {FIRST_PORT} to {FIRST_PORT + _TRIED_PORTS - 1} are all taken: name one with --port"
    )


def start(config: ServeConfig, *, limits: Limits | None = None) -> Running:
    """Load the model and open the page; returns once it can be reached.

    Args:
        config: checked.
        limits: of the service.

    Raises:
        ConfigError: the address or the port cannot be had.
        ModelError: the model cannot be used.
    """
    choose_port(config.host, config.port)  # refuse before the model is loaded
    folder = Path(tempfile.mkdtemp(prefix="musicgen-rl-studio-"))
    limits = limits or Limits(
        requests_per_minute=0 if config.for_this_computer else REQUESTS_PER_MINUTE
    )
    accounts = [read_account(text) for text in config.auth]
    services: dict[str, Service] = {}
    page: gr.Blocks | None = None
    try:
        _set_up_gradio(folder)
        from starlette.middleware import Middleware

        from app.front import find_front
        from app.gate import LOGINS_PER_MINUTE, Gate
        from app.layout import theme
        from app.routes import routes
        from app.shelf import Shelf
        from app.studio import CSS, HEAD, build
        from app.visits import Visits
        from musicgen_rl.pipeline import Pipeline

        for model in dict.fromkeys((config.model, *config.more_models)):
            pipeline = Pipeline.load(model, device=config.device, dtype=config.dtype)
            name = pipeline.info.name
            require(
                name not in services,
                f"two models are called {name!r}: rename the folder of one, so that visitors can "
                "tell them apart",
            )
            jobs = folder / f"jobs-{len(services)}"
            services[name] = Service(pipeline, limits=limits, folder=jobs)
        shelf = Shelf()
        fronts = [find_front(one.info) for one in services.values() if one.has_dial]
        visits = Visits(services.values(), folder / "cache")
        page = build(services, shelf, visits, front="".join(fronts))
        _, url, _ = page.launch(
            server_name=config.host,
            # Chosen again: loading took seconds, in which another program may have come.
            server_port=choose_port(config.host, config.port),
            auth=waiting_checker(accounts) if accounts else None,
            auth_message=f"A password may be tried {LOGINS_PER_MINUTE} times a minute.",
            theme=theme(),
            css_paths=[CSS],
            head=HEAD,
            app_kwargs={
                "routes": routes(services, shelf, visits),
                "middleware": [
                    Middleware(Gate, local_only=config.for_this_computer, is_local=is_loopback)
                ],
            },
            prevent_thread_lock=True,
            quiet=True,
            share=False,
            inbrowser=False,
            show_error=False,
            allowed_paths=[],
            max_file_size="1mb",
            enable_monitoring=False,
            ssr_mode=False,
            run_history=False,
            mcp_server=config.mcp,
            footer_links=["api"],
        )
        require(
            not config.mcp or bool(page.mcp_server),
            f"--mcp cannot be offered ({page.mcp_error}): the package mcp may be of a version that "
            "Gradio does not know; .venv/bin/pip install 'gradio[mcp]' brings the right one",
        )
    except BaseException:
        for service in services.values():
            service.close()
        if page is not None:
            page.close(verbose=False)
        shutil.rmtree(folder, ignore_errors=True)
        raise
    # What is loaded now stays: a collection that walked all of it would hold every visitor up.
    gc.collect()
    gc.freeze()
    visits.start()
    return Running(url, page, services, visits, folder)


def serve(config: ServeConfig, say: Callable[[str], None]) -> None:
    """Open the studio, say where it is, and stay until Ctrl-C or SIGTERM.

    Args:
        config: checked.
        say: prints a line.
    """
    ended = threading.Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    say(f"loading {config.model} ...")
    with StopSignals():  # a process that is ended while it loads removes its files, too
        running = start(config)
    try:
        for number in before:
            signal.signal(number, lambda *_: ended.set())
        say(f"the studio is open at {running.url}")
        say("Ctrl-C closes it")
        ended.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        running.close()


def _set_up_gradio(folder: Path) -> None:
    """Set what Gradio reads from the environment: nothing leaves this computer."""
    settings: dict[str, Any] = {
        "GRADIO_ANALYTICS_ENABLED": "False",
        "GRADIO_TEMP_DIR": str(folder / "cache"),
        "GRADIO_SHARE": "False",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    os.environ.update(settings)
    # Gradio asks its own address whether it is up; a proxy would not know.
    listed = [name for name in (os.environ.get("NO_PROXY", ""), "127.0.0.1", "localhost") if name]
    os.environ["NO_PROXY"] = ",".join(dict.fromkeys(listed))


def _is_free(host: str, port: int) -> bool:
    address = host.strip("[]")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except socket.gaierror:
            raise ConfigError(f"--host {host!r} is no address: try 127.0.0.1") from None
        except PermissionError:
            raise ConfigError(
                f"port {port} needs the system's permission: choose one above 1023"
            ) from None
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                raise ConfigError(f"--host {host} is not an address of this computer") from None
            return False
    return True
