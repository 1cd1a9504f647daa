"""Take pictures of the studio: `python -m app.screenshots OUT [--model MODEL]`.

Needs playwright, and a Chromium at /usr/bin/chromium or where CHROMIUM says.
"""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from app.serve import Running, ServeConfig, start
from musicgen_rl.cli.failures import debug_wanted, guarded

CHROMIUM_ARGUMENTS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--no-first-run", "--mute-audio",
    "--autoplay-policy=no-user-gesture-required",
)  # fmt: skip
_DESKTOP = {"viewport": {"width": 1400, "height": 960}}
_PHONE = {
    "viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True,
    "device_scale_factor": 2,
}  # fmt: skip
VIEWS: dict[str, dict[str, Any]] = {
    "desktop": {**_DESKTOP, "color_scheme": "light"},
    "dark": {**_DESKTOP, "color_scheme": "dark"},
    "phone": {**_PHONE, "color_scheme": "light"},
    "live": {**_DESKTOP, "color_scheme": "light"},
    "live-phone": {**_PHONE, "color_scheme": "dark"},
    "compare": {**_DESKTOP, "color_scheme": "light"},
    "spread": {**_DESKTOP, "color_scheme": "light"},
}
_PATIENCE_MS = 120_000


def launch_chromium(playwright: Any) -> Any:
    """Start the system's Chromium, without a window and without a word to the network."""
    return playwright.chromium.launch(
        executable_path=os.environ.get("CHROMIUM", "/usr/bin/chromium"),
        args=list(CHROMIUM_ARGUMENTS),
    )


def take(running: Running, out: Path) -> list[Path]:
    """Take every view, with clips on the page.

    Args:
        running: the studio.
        out: folder for the pictures.

    Returns:
        The pictures' paths.
    """
    from playwright.sync_api import sync_playwright

    out.mkdir(parents=True, exist_ok=True)
    taken = []
    with sync_playwright() as playwright:
        browser = launch_chromium(playwright)
        for name, view in VIEWS.items():
            page = browser.new_context(**view).new_page()
            page.goto(running.url)
            page.get_by_label("What to play", exact=True).fill("slow sad piano")
            act = name.partition("-")[0]
            if act in ("compare", "spread") and not running.service.has_dial:
                continue
            {"live": _jam, "compare": _compare, "spread": _spread}.get(act, _clips)(page)
            if name == "dark":
                page.get_by_text("More", exact=True).click()
                page.wait_for_timeout(600)
            taken.append(out / f"studio-{name}.png")
            page.evaluate("scrollTo(0, 0)")
            page.screenshot(path=taken[-1], full_page=name != "phone")  # whole, it is ten screens
            page.close()
        browser.close()
    return taken


def _clips(page: Any) -> None:
    page.get_by_label("number input for Variations").fill("4")
    page.get_by_role("button", name="Generate", exact=True).click()
    page.get_by_text("Done: 4 clips").wait_for(timeout=_PATIENCE_MS)
    page.get_by_role("button", name="Download variation 4").wait_for(timeout=_PATIENCE_MS)
    page.wait_for_timeout(2500)  # the players draw their waveforms


def _jam(page: Any) -> None:
    page.get_by_role("tab", name="Live").click()
    page.get_by_role("button", name="Start the jam").click()
    page.wait_for_function("window.studio.live.jam?.played() > 2", timeout=_PATIENCE_MS)
    dial = page.get_by_label("Quality to diversity, while it plays")
    if dial.count():
        dial.fill("0.9")
        page.get_by_text("New weights stood").wait_for(timeout=_PATIENCE_MS)
    page.wait_for_timeout(3500)


def _compare(page: Any) -> None:
    page.get_by_role("tab", name="Compare").click()
    page.get_by_role("button", name="Compare", exact=True).click()
    page.get_by_role("button", name="Play both").click(timeout=_PATIENCE_MS)
    page.wait_for_function("window.studio.pairAt() > 1", timeout=_PATIENCE_MS)


def _spread(page: Any) -> None:
    page.get_by_role("tab", name="Spread").click()
    number = page.get_by_label("number input for Clips at each of three positions")
    number.fill("8")
    number.press("Tab")
    page.get_by_role("button", name="Draw the spread").click()
    page.locator(".dot").first.focus(timeout=_PATIENCE_MS)  # another may cover its middle
    page.keyboard.press("Enter")
    page.wait_for_timeout(500)


def command(
    out: Annotated[Path, typer.Argument(help="Folder for the pictures.")],
    model: Annotated[str, typer.Option(help="Which model plays.")] = "pocket",
) -> None:
    """Take pictures of the studio: desktop, dark, phone, and each of its ways to play."""
    running = start(ServeConfig(model=model))
    try:
        for path in take(running, out):
            typer.echo(str(path))
    finally:
        running.close()


if __name__ == "__main__":
    app = typer.Typer(add_completion=False)
    app.command()(command)

    def _run() -> int:
        app(standalone_mode=False)
        return 0

    raise SystemExit(guarded(_run, debug=debug_wanted()))
