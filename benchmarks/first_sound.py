"""From pressing Generate to hearing it, in a real Chromium on the page.

    python benchmarks/first_sound.py --runs 8

What is timed is what a visitor meets: from the click to the moment the player's clock moves. Beside
it stands when the service had its first sound, which leaves the page's own share. Written to
benchmarks/results/first_sound.md and .json.
"""

import argparse
import json
import os
import statistics
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from playwright.sync_api import sync_playwright

from app.screenshots import launch_chromium
from app.serve import ServeConfig, start
from musicgen_rl.evaluation.summary import describe_machine

RESULTS = Path(__file__).parent / "results"
PATIENCE_MS = 120_000
# The page itself notes when it was pressed and when its player's clock first moved.
PRESS = """() => {
    window.heardAt = null;
    window.pressedAt = performance.now();
    document.querySelector('#generate').click();
    const look = () => {
        if (window.studio.streamed() > 0) window.heardAt = performance.now();
        else setTimeout(look, 5);
    };
    look();
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--runs", type=int, default=8)
    parser.add_argument("--variations", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--seconds", type=float, default=10.0, help="length of each clip")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    running = start(ServeConfig(model=options.model))
    rows = []
    try:
        while running.service._pace.seconds(1, 1) == 0:  # until it has warmed up
            time.sleep(0.1)
        with sync_playwright() as playwright:
            browser = launch_chromium(playwright)
            for variations in options.variations:
                page = browser.new_page(viewport={"width": 1400, "height": 960})
                page.goto(running.url)
                page.wait_for_function("document.querySelector('[data-visit]')?.dataset.visit")
                page.get_by_label("What to play", exact=True).fill("slow sad piano")
                for name, value in (("Seconds", options.seconds), ("Variations", variations)):
                    number = page.get_by_label(f"number input for {name}")
                    number.fill(f"{value:g}")
                    number.blur()
                heard, made = [], []
                for _ in range(options.runs + 1):
                    page.evaluate(PRESS)
                    page.wait_for_function("window.heardAt", timeout=PATIENCE_MS)
                    heard.append(page.evaluate("(window.heardAt - window.pressedAt) / 1000"))
                    (job,) = running.service._running or [running.service._ended[-1]]
                    made.append(job.first_sound_s)
                    page.wait_for_function(
                        "!document.querySelector('#generate').disabled", timeout=PATIENCE_MS
                    )
                rows.append(
                    {"variations": variations, "heard_s": heard[1:], "made_s": made[1:],
                     "first_heard_s": heard[0]}
                )  # fmt: skip
                page.close()
            browser.close()
    finally:
        running.close()
    result = {
        "command": "python " + " ".join(sys.argv),
        "date": datetime.now(UTC).date().isoformat(),
        "machine": describe_machine(),
        "cores_used": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 1),
        "model": options.model,
        "clip_s": options.seconds,
        "rows": rows,
    }
    options.results.mkdir(parents=True, exist_ok=True)
    (options.results / "first_sound.json").write_text(json.dumps(result, indent=2) + "\n")
    (options.results / "first_sound.md").write_text(report(result))
    print(report(result))


def report(result: dict) -> str:
    lines = [
        "# From pressing Generate to hearing it", "",
        f"`{result['command']}`, {result['date']}, {result['machine']['processor']}, Chromium, "
        f"page and model together on {result['cores_used']} of {result['machine']['cores']} cores, "
        f"load {result['load']}.", "",
        f"{result['model']}, clips of {result['clip_s']:g} s, {len(result['rows'][0]['heard_s'])} "
        "runs after a page's first, which stands by itself. Seconds from the click.", "",
        "| variations | heard, median | heard, slowest | page's first | first sound made, median |",
        "|---|---|---|---|---|",
    ]  # fmt: skip
    for row in result["rows"]:
        heard, made = row["heard_s"], row["made_s"]
        lines.append(
            f"| {row['variations']} | {statistics.median(heard):.2f} | {max(heard):.2f} | "
            f"{row['first_heard_s']:.2f} | "
            f"{statistics.median(made):.2f} |"
        )
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
