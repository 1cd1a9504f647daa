"""Choose pocket's sampling defaults: does a clip sound like the style its prompt names?

A small probe (means and deviations of log-mel bins, onset rate, chroma; logistic regression) learns
styles from the training pieces as the codec plays them. Then clips are generated from captions of
held-out pieces at each setting, and the table says how often the probe hears the style that was
asked for, how different the clips of one prompt are from each other, how often the strongest pitch
class moves (a drone hardly does), and whether any is silent. The same probe on the held-out pieces
themselves is the ceiling.

    python benchmarks/pocket_sampling.py --model DIR --tokens DIR [--prompts 40] [--out FILE]
"""

import argparse
import json
import time
from pathlib import Path

import librosa
import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from musicgen_rl.data.keys import NO_KEY
from musicgen_rl.pipeline import GenerationConfig, Pipeline
from musicgen_rl.pipeline.request import override_sampling
from musicgen_rl.training.tokens import TokenPiece, load_tokens

SECONDS = 6.0
SETTINGS = [
    {"guidance_scale": g, "temperature": t, "top_k": k}
    for g, t, k in [
        (1.0, 1.0, 250), (1.0, 0.9, 100), (1.5, 1.0, 250), (2.0, 1.0, 250), (2.0, 1.1, 250),
        (3.0, 1.0, 250), (3.0, 1.1, 250), (4.0, 1.0, 250),
    ]
]  # fmt: skip


def features(samples: np.ndarray, rate: int) -> np.ndarray:
    """Summarise a clip [M] in about 200 numbers that do not depend on its level."""
    mel = librosa.feature.melspectrogram(y=samples, sr=rate, n_mels=64, n_fft=2048, hop_length=640)
    log = np.log(mel + 1e-6 * mel.max() + 1e-12)
    log = log - log.mean()
    flux = np.maximum(np.diff(log, axis=1), 0)
    onset = flux.mean(0) - flux.mean()
    lags = np.correlate(onset, onset, "full")[len(onset) : len(onset) + 60]
    chroma = librosa.feature.chroma_stft(y=samples, sr=rate, n_fft=4096, hop_length=1280)
    parts = [log.mean(1), log.std(1), flux.mean(1), lags / (onset @ onset + 1e-9)]
    return np.concatenate([*parts, np.sort(chroma.mean(1)), chroma.std(1)]).astype(np.float32)


def moves(samples: np.ndarray, rate: int) -> float:
    """Count how often a second the strongest pitch class changes (in blocks of 0.16 s)."""
    chroma = librosa.feature.chroma_stft(y=samples, sr=rate, n_fft=8192, hop_length=1280)
    blocks = chroma[:, : chroma.shape[1] // 4 * 4].reshape(12, -1, 4).mean(2)
    return float((np.diff(blocks.argmax(0)) != 0).sum() / (len(samples) / rate))


def real_clips(pieces: list[TokenPiece], pipeline: Pipeline, each: int) -> tuple[list, list, float]:
    """Decode `each` clips of every piece through the codec: features, styles, moves."""
    frames = round(SECONDS * pipeline.info.frame_rate)
    xs, ys, zs = [], [], []
    for piece in pieces:
        T = piece.codes.shape[-1]
        for start in np.linspace(0, max(T - frames, 0), each).astype(int):
            codes = piece.codes[:, start : start + frames].long().unsqueeze(0)
            samples = pipeline.codec.decode(codes)[0, 0].numpy()
            xs.append(features(samples, pipeline.sample_rate))
            ys.append(piece.attributes["style"])
            zs.append(moves(samples, pipeline.sample_rate))
    return xs, ys, float(np.mean(zs))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--tokens", required=True, type=Path)
    parser.add_argument("--prompts", type=int, default=40)
    parser.add_argument("--clips", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/pocket_sampling.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    pipeline = Pipeline.load(options.model, device="cpu")
    _, pieces = load_tokens(options.tokens)
    train = [p for p in pieces if p.split == "train"]
    held = [p for p in pieces if p.split != "train"]
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.03, max_iter=2000))
    xs, ys, real_moves = real_clips(train, pipeline, 1)
    probe.fit(xs, ys)
    classes = list(probe.classes_)
    held = [p for p in held if p.attributes["style"] in classes]
    xs, ys, _ = real_clips(held, pipeline, 2)
    ceiling = float(probe.score(xs, ys))
    print(
        f"{len(train)} training pieces, {len(classes)} styles; held-out pieces {ceiling:.2f}, "
        f"{real_moves:.2f} moves a second"
    )
    rng = np.random.default_rng(0)
    chosen = rng.permutation(len(held))[: options.prompts]
    prompts = [held[i].captions[int(rng.integers(len(held[i].captions)))] for i in chosen]
    styles = [held[i].attributes["style"] for i in chosen]
    rows = []
    for setting in SETTINGS:
        begun = time.perf_counter()
        request = GenerationConfig(
            duration_s=SECONDS,
            seed=1,
            clips_per_prompt=options.clips,
            tempo_bpm=0.0,
            key=NO_KEY,
        )
        sampling = override_sampling(pipeline.info.sampling, **setting, top_p=1.0)
        clips = pipeline.run(prompts, request, sampling)
        x = np.stack([features(c.samples[0], c.sample_rate) for c in clips])
        p = probe.predict_proba(x)
        wanted = np.repeat([classes.index(s) for s in styles], options.clips)
        z = probe[0].transform(x)
        z = (z / np.linalg.norm(z, axis=1, keepdims=True)).reshape(len(prompts), options.clips, -1)
        spread = 1 - (z[:, 0] * z[:, 1]).sum(-1) if options.clips > 1 else np.zeros(1)
        levels = [float(np.sqrt((c.samples**2).mean())) for c in clips]
        rows.append(
            setting | {
                "style_right": float((p.argmax(1) == wanted).mean()),
                "log_p_style": float(np.log(p[np.arange(len(p)), wanted] + 1e-9).mean()),
                "spread": float(spread.mean()),
                "moves": float(np.mean([moves(c.samples[0], c.sample_rate) for c in clips])),
                "silent": sum(v < 1e-3 for v in levels),
                "peak": max(float(np.abs(c.samples).max()) for c in clips),
                "seconds": time.perf_counter() - begun,
            }
        )  # fmt: skip
        print(json.dumps(rows[-1]), flush=True)
    result = {
        "model": pipeline.info.name, "model_sha256": pipeline.model_sha256, "prompts": len(prompts),
        "clips_per_prompt": options.clips, "styles": len(classes), "ceiling": ceiling,
        "real_moves": real_moves, "rows": rows,
    }  # fmt: skip
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
