"""What tests of the page share: a served studio, visitors whose page must stay free of errors."""

from contextlib import contextmanager
from types import SimpleNamespace

import pytest

PATIENCE = 60_000  # ms
SERVED = (
    pytest.mark.browser,  # or, without one, a server of seconds
    # Gradio's and uvicorn's own, on shutting a server down while a page is still open.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
)
"""Marks of tests that serve pages."""


SEED_STANDS = "(any) => any || document.querySelector('#seed input')?.value === ''"
FRAMES = """async (count) => {
  while (count--) await new Promise((go) => requestAnimationFrame(go)); }"""
FOLDED = {"More": "#negative textarea", "History and links": "#runs input"}
"""Folded parts of the page, and what is in them."""
TABS = {
    "Clips": "#empty, .card",
    "Live": "#jam button",
    "Compare": "#pair-go",
    "Spread": "#spread-clips input",
}


@contextmanager
def served(folder, *, limits=None, **config):
    """Serve the studio with a model; nothing of it may stay on the disk."""
    from app.serve import ServeConfig, start

    running = start(ServeConfig(model=str(folder), dtype="fp32", **config), limits=limits)
    try:
        yield running
    finally:
        running.close()
    assert not running.folder.exists()


LEFT = set()
"""Pages that were left."""


def opened(chromium, studio):
    """Open the page as one visitor; nothing may go wrong in it, and nothing leave the computer."""
    visitors = []

    def open_page(address="", **options):
        options.setdefault("viewport", {"width": 1400, "height": 960})
        page = chromium.new_context(**options).new_page()
        page.set_default_timeout(PATIENCE)
        seen = SimpleNamespace(page=page, problems=[], outside=[])
        page.on(
            "console",
            lambda m: (
                seen.problems.append(m.text)
                if m.type == "error" and "400 (Bad Request)" not in m.text and page not in LEFT
                else None
            ),
        )
        page.on(
            "pageerror",
            lambda error: None if page in LEFT else seen.problems.append(str(error)),
        )
        page.on(
            "request",
            lambda r: (
                None
                if r.url.startswith((studio.url, "blob:", "data:"))
                else seen.outside.append(r.url)
            ),
        )
        visitors.append(seen)
        page.goto(address or studio.url)
        button(page, "Generate").wait_for()
        page.wait_for_function("window.studio")  # the page's own script comes after Gradio's
        # It empties the seed as it opens, which without a link is where that stands.
        page.wait_for_function(SEED_STANDS, arg=bool(address))
        return page

    open_page.visitors = visitors
    yield open_page
    for seen in visitors:
        seen.page.context.close()
        assert not seen.problems, seen.problems
        assert not seen.outside, seen.outside


def described(seen):
    """Say what a page shows, for a report of what went wrong on it."""
    try:
        said = seen.page.evaluate(
            """[...document.querySelectorAll('#status, .toast-body, [data-studio$=status]')]
            .map((e) => e.innerText.trim().replaceAll(/\\s+/g, ' '))"""
        )
        values = seen.page.evaluate(
            """[...document.querySelectorAll('input, textarea')].filter((e) => e.offsetParent)
            .map((e) => [e.getAttribute('aria-label') ?? e.labels?.[0]?.innerText.split('\\n')[0],
                e.type === 'checkbox' ? e.checked : e.value].join(': '))"""
        )
    except Exception as error:  # the page may be what broke
        return f"nothing: {error}"
    return "\n".join([seen.page.url, *filter(None, said), *values, *map(str, seen.problems)])


def leave(page):
    """Leave a page; what its scripts say while they are torn down is no fault."""
    LEFT.add(page)
    page.goto("about:blank")


def button(page, name):
    return page.get_by_role("button", name=name, exact=True)


def unfold(page, name):
    """Open a folded part of the page, and wait until what is set in it stays.

    Gradio makes a part's controls when it is opened first, and sets them to their own values one
    frame after they are there: faster than a hand, but not than a test.
    """
    page.get_by_text(name, exact=True).click()
    page.locator(FOLDED[name]).wait_for()
    page.evaluate(FRAMES, 4)


def tab(page, name):
    """Turn to a tab, made when it is opened first as folded parts are."""
    page.get_by_role("tab", name=name).click()
    page.locator(TABS[name]).first.wait_for(state="attached")
    page.evaluate(FRAMES, 4)


def settle(page, prompt, *, seconds=2, variations=1, seed=None):
    page.get_by_label("What to play", exact=True).fill(prompt)
    for name, value in (("Seconds", seconds), ("Variations", variations)):
        number = page.get_by_label(f"number input for {name}")
        number.fill(str(value))
        number.blur()
    if seed is not None:
        page.get_by_label("Seed", exact=True).fill(str(seed))
        page.wait_for_function("document.querySelector('#lock input').checked")


def downloads(page, count):
    """Wait for the clips and fetch their files, as the download button would."""
    for number in range(1, count + 1):
        page.get_by_role("button", name=f"Download variation {number} ").wait_for()
    files = []
    for number in range(1, count + 1):
        with page.expect_download() as downloading:
            page.get_by_role("button", name=f"Download variation {number} ").click()
        path = downloading.value.path()
        files.append((downloading.value.suggested_filename, path.read_bytes()))
    return files


def tags_of(data, tmp_path, name):
    from musicgen_rl.audio.io import read_tags

    path = tmp_path / name
    path.write_bytes(data)
    return read_tags(path)


FAINT = """() => {
  const light = (c) => c.map((x) => x / 255)
    .map((x) => (x <= 0.03928 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4))
    .reduce((sum, x, i) => sum + x * [0.2126, 0.7152, 0.0722][i], 0);
  const read = (text) => { const c = text.match(/[0-9.]+/g).map(Number);
    return c.length < 4 ? [...c, 1] : c; };
  const over = (top, below) => below.map((v, i) => v * (1 - top[3]) + top[i] * top[3]);
  const behind = (e) => (e ? over(read(getComputedStyle(e).backgroundColor),
    behind(e.parentElement)) : [255, 255, 255]);
  const faint = [];
  for (const e of document.querySelectorAll("body *")) {
    const words = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    const style = getComputedStyle(e);
    if (!words || !e.offsetParent || style.fontSize === "0px" || e.closest("[disabled]")) continue;
    const [a, b] = [behind(e), over(read(style.color), behind(e))].map(light);
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < 4.5) faint.push(`${contrast.toFixed(2)}: ${e.textContent.trim().slice(0, 40)}`);
  }
  return faint;
}"""
"""Lists the words on a page whose contrast to what stands behind them is below WCAG's 4.5."""
