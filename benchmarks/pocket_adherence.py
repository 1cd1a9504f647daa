"""Does guidance buy adherence with diversity? Pocket at five scales and three temperatures.

Clips are generated from captions of held-out pieces, one a piece, several takes each. A probe says
whether each clip has what its caption names (style, instruments, tempo, mood), two scorers how well
clip and caption fit, two encoders how different the takes of one caption are. The pieces
themselves, as they are and as the codec plays them, are the ceiling: the same captions, the same
questions. Intervals are bootstrapped over captions (95 %), differences paired by caption.

    python benchmarks/pocket_adherence.py --manifest held_out/manifest.jsonl [--model pocket]
        [--prompts 32] [--clips 4] [--seconds 5] [--out benchmarks/results/pocket_adherence.json]

A run that was stopped goes on: settings in the result are not made again. The committed result is
of `musicgen-rl data make held_out --hours 3 --seed 910 --valid .49 --test .49`.
"""

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from musicgen_rl.checkpoint import checkpoints_folder
from musicgen_rl.data.keys import NO_KEY
from musicgen_rl.data.manifest import Entry
from musicgen_rl.data.pocket.prompts import choose_captions, corpora_of, corpora_words
from musicgen_rl.evaluation.bootstrap import Estimate, draw_prompts, mean_estimate
from musicgen_rl.pipeline import GenerationConfig, Pipeline
from musicgen_rl.pipeline.request import override_sampling
from musicgen_rl.rewards import load_encoder, load_probe, load_scorer
from musicgen_rl.rewards.diversity import centred, pairwise_diversity, vendi_score
from musicgen_rl.rewards.probe import log_likelihood, right_share
from musicgen_rl.storage import write_json
from musicgen_rl.training.reward_mels import read_mono

GUIDANCE = (1.0, 1.5, 2.0, 3.0, 5.0)
TEMPERATURES = (0.8, 1.0, 1.2)
ROLES = ("training", "report")
DRAWS = 2000
RESULT = Path("benchmarks/results/pocket_adherence.json")
COLUMNS = (
    "style", "named", "log p(style)", "score, report", "score, training",
    "diversity, report", "diversity, training", "vendi, report",
)  # fmt: skip


class Judges:
    """All instruments, applied to a batch of clips."""

    def __init__(self, folder: Path) -> None:
        self.probe = load_probe(folder / "probe")
        self.scorers = {r: load_scorer(folder / f"scorer-{r}") for r in ROLES}
        self.encoders = {r: load_encoder(folder / f"encoder-{r}") for r in ROLES}

    def identities(self) -> list[dict[str, str]]:
        known = [self.probe.identity]
        known += [s.identity for s in self.scorers.values()]
        known += [e.identity for e in self.encoders.values()]
        return [identity.to_json() for identity in known]

    def measure(
        self, samples: torch.Tensor, rate: int, captions: list[str], wishes: list[dict[str, Any]]
    ) -> tuple[dict[str, np.ndarray], dict[str, torch.Tensor]]:
        """Judge clips [B, M]: numbers [B] by name, and embeddings [B, d] by role."""
        heard = self.probe.log_probs(samples, rate)
        shares = right_share(heard, self.probe.classes, wishes)
        styles = log_likelihood(
            heard["style"], self.probe.classes["style"], [w.get("style") for w in wishes]
        )
        found = {f"right: {name}": share for name, share in shares.items()}
        found["style"] = shares["style"]
        found["named"] = torch.stack(list(shares.values())).nanmean(0)
        found["log p(style)"] = styles
        for role, scorer in self.scorers.items():
            found[f"score, {role}"] = scorer.score(samples, rate, captions)
        embeddings = {r: e.embed(samples, rate) for r, e in self.encoders.items()}
        return {name: v.numpy().astype(np.float64) for name, v in found.items()}, embeddings


def per_prompt(numbers: Mapping[str, np.ndarray], clips: int) -> dict[str, list[float]]:
    """Average over the takes of each caption; nan where nothing was asked."""
    return {
        name: [
            float(np.nanmean(row)) if np.isfinite(row).any() else float("nan")
            for row in values.reshape(-1, clips)
        ]
        for name, values in numbers.items()
    }


def estimate(values: Sequence[float | None], draws: np.ndarray) -> Estimate | None:
    return mean_estimate(np.array([np.nan if v is None else v for v in values], float), draws)


def real_rows(
    chosen: Sequence[tuple[Path, Entry, str, dict[str, Any]]],
    judges: Judges,
    pipeline: Pipeline,
    seconds: float,
    clips: int,
) -> list[dict[str, Any]]:
    """Judge the pieces themselves: as they are, and as the codec plays them."""
    rate, length = pipeline.sample_rate, round(seconds * pipeline.sample_rate)
    parts = []
    for path, *_ in chosen:
        samples, _ = read_mono(path)
        starts = np.linspace(0, max(0, len(samples) - length), clips + 2)[1:-1].astype(int)
        parts += [samples[s : s + length] for s in starts]
    originals = torch.stack(parts)
    with torch.inference_mode():
        played = [
            pipeline.codec.decode(pipeline.codec.encode(part[:, None]))[:, 0, :length]
            for part in torch.split(originals, 16)
        ]
    captions = [c for _, _, c, _ in chosen for _ in range(clips)]
    wishes = [w for *_, w in chosen for _ in range(clips)]
    rows = []
    for name, samples in (("real", originals), ("real, through the codec", torch.cat(played))):
        numbers, _ = judges.measure(samples.clone(), rate, captions, wishes)
        rows.append({"name": name, "prompts": per_prompt(numbers, clips)})
    return rows


def generated_row(
    chosen: Sequence[tuple[Path, Entry, str, dict[str, Any]]],
    judges: Judges,
    pipeline: Pipeline,
    setting: dict[str, float],
    options: argparse.Namespace,
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Generate and judge the takes of one setting."""
    begun = time.perf_counter()
    texts = [c for _, _, c, _ in chosen]
    request = GenerationConfig(
        duration_s=options.seconds,
        seed=options.seed,
        clips_per_prompt=options.clips,
        tempo_bpm=0.0,
        key=NO_KEY,
    )
    sampling = override_sampling(pipeline.info.sampling, **setting, top_p=1.0)
    made = pipeline.run(texts, request, sampling)
    samples = torch.from_numpy(np.stack([c.samples.mean(axis=0) for c in made]))
    captions = [text for text in texts for _ in range(options.clips)]
    wishes = [w for *_, w in chosen for _ in range(options.clips)]
    numbers, embeddings = judges.measure(samples, pipeline.sample_rate, captions, wishes)
    prompts = per_prompt(numbers, options.clips)
    shaped = {r: e.view(len(texts), options.clips, -1) for r, e in embeddings.items()}
    for role, e in shaped.items():
        prompts[f"diversity, {role}"] = pairwise_diversity(e).tolist()
        prompts[f"vendi, {role}"] = vendi_score(e).tolist()
    prompts["level, dB"] = per_prompt(
        {"x": 20 * np.log10(samples.square().mean(1).sqrt().double().numpy() + 1e-9)}, options.clips
    )["x"]
    row = {"name": label(setting), **setting, "prompts": prompts,
           "seconds": round(time.perf_counter() - begun, 1)}  # fmt: skip
    return row, shaped


def label(setting: Mapping[str, float]) -> str:
    return f"guidance {setting['guidance_scale']:g}, temperature {setting['temperature']:g}"


def summarise(rows: list[dict[str, Any]], prompts: int) -> dict[str, Any]:
    """Estimate every column of every row, and guidance 3 against 1 at each temperature."""
    draws = draw_prompts(prompts, DRAWS, 0)
    by_name = {row["name"]: row["prompts"] for row in rows}
    table = {
        name: {k: e.to_json() for k, v in values.items() if (e := estimate(v, draws))}
        for name, values in by_name.items()
    }
    differences: dict[str, Any] = {}
    for temperature in TEMPERATURES:
        names = [label({"guidance_scale": g, "temperature": temperature}) for g in (3.0, 1.0)]
        pair = [by_name[name] for name in names if name in by_name]
        if len(pair) < 2:
            continue
        found = {}
        for column in (*COLUMNS, "diversity, report, centred", "diversity, training, centred"):
            if column in pair[0] and column in pair[1]:
                guided, plain = (estimate(p[column], draws) for p in pair)
                if guided is not None and plain is not None:
                    difference = guided - plain
                    found[column] = difference.to_json() | {"p": difference.p_two_sided()}
        differences[f"temperature {temperature:g}: guidance 3 minus 1"] = found
    ceiling = table.get("real, through the codec", {})
    share = {
        name: {k: values[k]["value"] / ceiling[k]["value"] for k in ("style", "named")
               if k in values and k in ceiling and ceiling[k]["value"]}
        for name, values in table.items() if not name.startswith("real")
    }  # fmt: skip
    return {"table": table, "differences": differences, "share of real": share}


def markdown(summary: dict[str, Any], corpora: Sequence[Mapping[str, Any]] = ()) -> str:
    """Write the estimates as tables, half the interval's width behind each."""

    def cell(entry: dict[str, float] | None) -> str:
        if entry is None:
            return ""
        return f"{entry['value']:.2f} ± {(entry['high'] - entry['low']) / 2:.2f}"

    words = "Made by `benchmarks/pocket_adherence.py`; its first lines say what is shown."
    lines = [" ".join(filter(None, (words, corpora_words(corpora)))), ""]
    lines += [f"| | {' | '.join(COLUMNS)} |", f"|{'---|' * (len(COLUMNS) + 1)}"]
    for name, values in summary["table"].items():
        lines.append(f"| {name} | {' | '.join(cell(values.get(c)) for c in COLUMNS)} |")
    lines += ["", "| guidance 3 minus 1 | difference | 95 % | p |", "|---|---|---|---|"]
    for name, found in summary["differences"].items():
        for column, d in found.items():
            lines.append(
                f"| {name.split(':')[0]}, {column} | {d['value']:+.3f} | {d['low']:+.3f} to "
                f"{d['high']:+.3f} | {d['p']:.3g} |"
            )
    return "\n".join(lines) + "\n"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--manifest", required=True, type=Path, action="append")
    parser.add_argument("--rewards", type=Path, default=checkpoints_folder() / "pocket/rewards")
    parser.add_argument("--prompts", type=int, default=32)
    parser.add_argument("--clips", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--guidance", type=float, nargs="+", default=GUIDANCE)
    parser.add_argument("--temperatures", type=float, nargs="+", default=TEMPERATURES)
    parser.add_argument(
        "--out", type=Path, default=Path("benchmarks/results/pocket_adherence.json")
    )
    return parser.parse_args()


def main() -> None:
    options = parse()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    judges = Judges(options.rewards)
    chosen = choose_captions(options.manifest, options.prompts)
    pipeline = Pipeline.load(options.model, device="cpu")
    about = {
        "model": pipeline.info.name, "model_sha256": pipeline.model_sha256,
        "judges": judges.identities(), "captions": [c for _, _, c, _ in chosen],
        "asked": [w for *_, w in chosen], "clips_per_prompt": options.clips,
        "seconds": options.seconds, "seed": options.seed,
    }  # fmt: skip
    corpora = corpora_of(options.manifest)
    rows: list[dict[str, Any]] = []
    centre: dict[str, list[float]] = {}
    if options.out.exists():
        before = json.loads(options.out.read_text())
        if before["about"] == json.loads(json.dumps(about)):
            rows, centre = before["rows"], before["centre"]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    if not rows:
        rows += real_rows(chosen, judges, pipeline, options.seconds, options.clips)
    grid = [
        {"guidance_scale": g, "temperature": t}
        for t in sorted(options.temperatures, key=lambda t: t != 1.0)
        for g in options.guidance
    ]
    for setting in grid:
        if any(row["name"] == label(setting) for row in rows):
            continue
        row, shaped = generated_row(chosen, judges, pipeline, setting, options)
        if not centre:  # what all clips of the first setting share
            centre = {r: e.flatten(0, 1).mean(0).tolist() for r, e in shaped.items()}
        for role, e in shaped.items():
            left = centred(e, torch.tensor(centre[role]))
            row["prompts"][f"diversity, {role}, centred"] = pairwise_diversity(left).tolist()
        rows.append(row)
        save(options.out, about, rows, centre, corpora)
        print(f"{row['name']}: {row['seconds']} s", flush=True)
    print(save(options.out, about, rows, centre, corpora))


def save(
    path: Path, about: dict[str, Any], rows: list[dict[str, Any]], centre: Any,
    corpora: list[dict[str, Any]],
) -> str:  # fmt: skip
    """Write the result, and its tables beside it; return the tables."""
    plain = json.loads(json.dumps(rows).replace("NaN", "null"))
    summary = summarise(plain, len(about["captions"]))
    told = {"about": about, "corpora": corpora}
    write_json(path, {**told, **summary, "centre": centre, "rows": plain})
    text = markdown(summary, corpora)
    path.with_suffix(".md").write_text(text)
    return text


if __name__ == "__main__":
    main()
