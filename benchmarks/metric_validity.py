"""Do the measures see what they should? Real clips, changed on purpose, more and more.

    python benchmarks/metric_validity.py --manifest M.jsonl

Each held-out piece stands for a prompt and four places in it for its clips. Five changes are made
at growing strength, and every measure is correlated (Spearman) with the strength:

    noise    white noise, down to 0 dB
    style    clips replaced by clips of other pieces, whose captions they then do not fit
    copies   clips replaced by the first clip of their prompt
    pitch    shifted up by 1.5, 3, 4.5 and 6 semitones
    mixing   another piece played into each clip, up to equal loudness

What should happen is written beside what does (EXPECTED): a measure that does not move where it
should, or moves where it should not, is worth knowing before a model is judged by it.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import librosa
import numpy as np
import torch
from scipy import stats

from musicgen_rl.checkpoint import checkpoints_folder
from musicgen_rl.data.manifest import read_manifest
from musicgen_rl.evaluation.bootstrap import draw_prompts
from musicgen_rl.evaluation.features import BATCH, measure
from musicgen_rl.evaluation.instruments import Instruments, find_instruments, load_instruments
from musicgen_rl.evaluation.measures import describe, estimate_arm, table_centres
from musicgen_rl.evaluation.prompts import Prompt
from musicgen_rl.evaluation.real import cut_clip, stack_features
from musicgen_rl.evaluation.table import Row, build_table

RATE, SECONDS, CLIPS = 32_000, 4.0, 4
STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
EXPECTED = {
    "noise": {"kid": "+", "frechet": "+", "probe_logp": "-", "probe_right": "-", "adherence": "-",
              "share": "-", "distinct": "+"},
    "style": {"probe_logp": "-", "probe_right": "-", "adherence": "-", "diversity": "+", "raw": "+",
              "share": "-", "vendi": "+", "kid": "0", "frechet": "0"},
    "copies": {"diversity": "-", "raw": "-", "vendi": "-", "distinct": "-", "share": "+",
               "probe_logp": "0", "probe_right": "0", "adherence": "0"},
    "pitch": {"kid": "+", "frechet": "+", "diversity": "0", "raw": "0", "vendi": "0",
              "share": "0"},
    "mixing": {"probe_logp": "-", "probe_right": "-", "adherence": "-", "kid": "+",
               "frechet": "+", "share": "-"},
}  # fmt: skip
"""Change -> kind of measure -> which way it should move; 0: by less than a sixth of the most that
any change moves it; not named: no opinion."""

Sound = np.ndarray
Change = Callable[[Sound, float, np.random.Generator], Sound]


def noise(clips: Sound, strength: float, generator: np.random.Generator) -> Sound:
    """Add white noise, [P, N, M]; 0 dB at full strength."""
    level = np.sqrt(np.mean(clips**2, axis=-1, keepdims=True))
    gain = 0.0 if strength == 0 else 10 ** (-(1 - strength) * 40 / 20)
    return clips + gain * level * generator.normal(size=clips.shape)


def style(clips: Sound, strength: float, generator: np.random.Generator) -> Sound:
    """Put clips of the prompt furthest away in the list in place of a share of each prompt's."""
    out, count = clips.copy(), round(strength * clips.shape[1])
    for k in range(count):
        out[:, k] = np.roll(clips[:, k], 1 + k, axis=0)
    return out


def copies(clips: Sound, strength: float, generator: np.random.Generator) -> Sound:
    """Replace clips by the first of their prompt; at full strength all are one."""
    out, count = clips.copy(), round(strength * (clips.shape[1] - 1))
    out[:, 1 : 1 + count] = clips[:, :1]
    return out


def pitch(clips: Sound, strength: float, generator: np.random.Generator) -> Sound:
    """Shift up by up to six semitones; every second step ends on a quarter tone."""
    if strength == 0:
        return clips
    return librosa.effects.pitch_shift(clips, sr=RATE, n_steps=6 * strength)


def mixing(clips: Sound, strength: float, generator: np.random.Generator) -> Sound:
    """Play the clips of other prompts into each, up to equal loudness."""
    return (clips + strength * np.roll(clips, 1, axis=0)) / (1 + strength)


CHANGES: dict[str, Change] = {
    "noise": noise, "style": style, "copies": copies, "pitch": pitch, "mixing": mixing,
}  # fmt: skip


def main() -> None:
    """Cut, change, measure, correlate, write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--instruments", default="")
    parser.add_argument("--pieces", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    torch.set_num_threads(1)
    start = time.monotonic()
    folder = find_instruments(options.instruments, checkpoints_folder() / "pocket")
    instruments = load_instruments(folder)
    prompts, clips, others = _pieces(options.manifest, options.pieces)
    real = stack_features(_rows(others, [Prompt("music")] * len(others), instruments))
    values: dict[str, dict[str, list[float]]] = {}
    for name, change in CHANGES.items():
        for strength in STRENGTHS:
            found = _estimates(
                change(clips, strength, np.random.default_rng(0)), prompts, instruments, real
            )
            for key, value in found.items():
                values.setdefault(name, {}).setdefault(key, []).append(value)
        print(f"{name}: {time.monotonic() - start:.0f} s", flush=True)
    result: dict = {
        "command": "python benchmarks/metric_validity.py --manifest M.jsonl "
        f"--pieces {options.pieces}",
        "pieces": len(prompts), "clips_a_piece": CLIPS, "seconds_a_clip": SECONDS,
        "strengths": STRENGTHS, "instruments": instruments.identities(), "values": values,
        "correlations": {
            change: {key: _correlation(v) for key, v in own.items()}
            for change, own in values.items()
        },
    }  # fmt: skip
    result["as_expected"] = {
        change: {
            key: {"want": want, "right": right}
            for key in own
            for want, right in [judged(result, change, key)]
            if want
        }
        for change, own in values.items()
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "metric_validity.json").write_text(json.dumps(result, indent=1) + "\n")
    draw(result, options.out / "metric_validity.png")


def _pieces(manifest: Path, count: int) -> tuple[list[Prompt], Sound, Sound]:
    """Cut clips [P, N, M] of held-out pieces, and clips [m, M] of other held-out pieces."""
    entries = [
        e for e in read_manifest(manifest)
        if e.split != "train" and (e.duration_s or 0) >= CLIPS * SECONDS
    ]  # fmt: skip
    order = [entries[i] for i in np.random.default_rng(0).permutation(len(entries))]
    chosen, rest = order[:count], order[count : 3 * count]
    at = [(k + 0.5) / CLIPS for k in range(CLIPS)]

    def cut(entry: object) -> list[Sound]:
        return [cut_clip(manifest.parent, entry, a, RATE, SECONDS) for a in at]

    prompts = [Prompt(max(e.captions, key=len), e.attributes, from_words=False) for e in chosen]
    clips = np.stack([np.stack(cut(e)) for e in chosen])
    return prompts, clips, np.stack([c for e in rest for c in cut(e)])


def _rows(clips: Sound, prompts: list[Prompt], instruments: Instruments) -> list[Row]:
    rows: list[Row] = []
    for start in range(0, len(clips), BATCH):
        part = clips[start : start + BATCH].astype(np.float32)
        rows += measure(part, RATE, prompts[start : start + BATCH], instruments)
    return rows


def _estimates(
    clips: Sound, prompts: list[Prompt], instruments: Instruments, real: dict[str, np.ndarray]
) -> dict[str, float]:
    P, N, M = clips.shape
    repeated = [p for p in prompts for _ in range(N)]
    rows = _rows(clips.reshape(P * N, M), repeated, instruments)
    texts = [f"{p}: {prompt.text}" for p, prompt in enumerate(prompts)]
    for n, row in enumerate(rows):
        row |= {
            "arm": "a", "prompt": texts[n // N], "index": n % N, "file": "", "duration_s": SECONDS,
        }  # fmt: skip
    table = build_table(rows, ["a"], texts)
    draws = draw_prompts(P, 200)
    found = estimate_arm(table, 0, draws, table_centres(table, real), real)
    return {key: e.value for key, e in found.items()}


def _correlation(values: list[float]) -> float | None:
    """Correlate with the strength; None where nothing moves."""
    if np.ptp(values) < 1e-9:
        return None
    return round(float(stats.spearmanr(STRENGTHS, values).statistic), 3)


def judged(result: dict, change: str, key: str) -> tuple[str, bool]:
    """Say which way a measure should move under a change, and whether it does."""
    want = EXPECTED[change].get(key, EXPECTED[change].get(key.split("_")[0], ""))
    rho = result["correlations"][change][key]
    if want == "0":
        moves = {c: v[key][-1] - v[key][0] for c, v in result["values"].items()}
        return want, abs(moves[change]) < max(abs(m) for m in moves.values()) / 6
    if not want:
        return want, True
    return want, rho is not None and (rho if want == "+" else -rho) > 0.5


def draw(result: dict, path: Path) -> None:
    """Draw measures by changes: how far each moved, and whether it should have."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "musicgen-rl"
    from matplotlib import pyplot as plt

    changes = list(result["values"])
    keys = [
        k
        for k in result["values"][changes[0]]
        if k not in ("clipped", "silent", "looped", "drifting")
    ]
    figure, axes = plt.subplots(
        len(keys), len(changes), figsize=(2.1 * len(changes), 0.85 * len(keys)), sharex=True,
        sharey="row", layout="constrained", squeeze=False,
    )  # fmt: skip
    for row, key in enumerate(keys):
        for column, change in enumerate(changes):
            axis = axes[row][column]
            want, right = judged(result, change, key)
            rho = result["correlations"][change][key]
            colour = "#999999" if not want else "#0072B2" if right else "#D55E00"
            axis.plot(
                result["strengths"], result["values"][change][key], color=colour,
                marker="o" if right else "X", markersize=3, linestyle="-" if want else ":",
            )  # fmt: skip
            said = "–" if rho is None else f"{rho:+.2f}"
            axis.set_title(
                said + (f" (want {want})" if want else ""), fontsize=6, color=colour, pad=2
            )
            axis.tick_params(labelsize=5)
            if column == 0:
                axis.set_ylabel(
                    describe(key).label.replace(", ", ",\n"), fontsize=6, rotation=0, ha="right"
                )
            if row == len(keys) - 1:
                axis.set_xlabel(change, fontsize=8)
    figure.suptitle(
        "Measures against planted changes of growing strength (number: Spearman's correlation). "
        "Blue: moves as it should.\nOrange cross: does not. Grey, dotted: no opinion.", fontsize=8,
    )  # fmt: skip
    figure.savefig(path, dpi=130, metadata={"Date": None} if path.suffix == ".svg" else None)
    plt.close(figure)


if __name__ == "__main__":
    main()
