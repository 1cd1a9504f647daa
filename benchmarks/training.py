"""Measure an endpoint's step: seconds by part, rollout against plain decoding, memory.

    python benchmarks/training.py [--shape pocket] [--preset pocket] [--end quality]
        [--model FOLDER] [--encoder FOLDER] [--steps 3] [--set NAME=VALUE ...] [--out FILE.json]
    python benchmarks/training.py --shape musicgen-large --preset musicgen-large --end diversity

Weights are random unless --model names a folder: time does not depend on them. Without --encoder
the reward's embedding is a fixed projection, and its time is none. A weight that the preset leaves
to the quality run is 1 here, on which no time depends. With --cpu-time, seconds of the
process instead of the wall's, for machines that others use at the same time.
"""

import argparse
import dataclasses
import datetime
import json
import resource
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from bench.machine import commit, describe_machine, describe_versions
from torch import Tensor

from musicgen_rl.checkpoint import load_lm, read_info
from musicgen_rl.cli.train_endpoints import _assigned
from musicgen_rl.codec.frame import FrameCodec
from musicgen_rl.config import FrameCodecConfig, LMConfig, SamplingConfig
from musicgen_rl.lm.condition import Condition
from musicgen_rl.lm.transformer import MusicLM
from musicgen_rl.sampling.decode import DecodeStream, Window
from musicgen_rl.training.adapters import Student
from musicgen_rl.training.advantages import EmbeddingBank
from musicgen_rl.training.critic import CriticTrainer, EmbeddingCritic
from musicgen_rl.training.endpoint_config import EndpointConfig, read_preset, without_auto
from musicgen_rl.training.endpoint_loop import actor_dtype_of, autocast_of
from musicgen_rl.training.endpoint_step import Clock, EndpointStep
from musicgen_rl.training.rollout import decode_by, frames_of, narrowed

ROOT = Path(__file__).resolve().parents[1]
SHAPES: dict[str, tuple[LMConfig, float]] = {
    "pocket": (LMConfig(num_codebooks=8, text_hidden_size=384, max_frames=1000), 25.0),
    "musicgen-small": (
        LMConfig(num_codebooks=4, codebook_size=2048, hidden_size=1024, num_layers=24, num_heads=16,
                 ffn_size=4096, text_hidden_size=768), 50.0,
    ),
    "musicgen-large": (
        LMConfig(num_codebooks=4, codebook_size=2048, hidden_size=2048, num_layers=48, num_heads=32,
                 ffn_size=8192, text_hidden_size=768), 50.0,
    ),
    "tiny": (LMConfig(num_codebooks=2, codebook_size=64, hidden_size=64, num_layers=2, num_heads=2,
                      ffn_size=128, text_hidden_size=32), 25.0),
}  # fmt: skip


class FixedText:
    """Random states of a usual prompt's length."""

    def __init__(self, hidden_size: int, length: int = 24) -> None:
        self.hidden_size, self.length = hidden_size, length

    def encode(self, prompts: list[str]) -> Condition:
        shape = (len(prompts), self.length)
        return Condition(torch.randn(*shape, self.hidden_size), torch.ones(shape, dtype=torch.bool))


class FixedProjection:
    """An embedding that costs nothing."""

    sample_rate = 32000

    def embed(self, samples: Tensor, sample_rate: int) -> Tensor:
        found = samples[:, : 128 * 16].reshape(len(samples), 128, -1).mean(-1)
        return torch.nn.functional.normalize(found + 1e-3 * torch.randn_like(found), dim=-1)


def main() -> None:
    """Measure and print; write where asked."""
    options = _options()
    config = _config(options)
    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    now = time.process_time if options.cpu_time else time.perf_counter
    teacher, rate, codec = _models(options, device)
    stepper = _stepper(options, config, teacher, codec, device)
    frames = frames_of(config.clip_s, rate)
    rows = [_one_step(stepper, config, frames, step, now) for step in range(options.steps + 1)][1:]
    best = min(rows, key=lambda row: sum(row.values()))
    total, clips = sum(best.values()), config.prompts_per_step * config.clips_per_prompt
    plain = _plain_decode(stepper, clips, frames, now)
    result: dict[str, Any] = {
        "command": "python " + " ".join(sys.argv),
        "date": datetime.date.today().isoformat(),
        "commit": commit(ROOT),
        "machine": describe_machine(),
        "versions": describe_versions(),
        "threads": options.threads,
        "clock": "process" if options.cpu_time else "wall",
        "shape": dataclasses.asdict(teacher.config),
        "settings": dataclasses.asdict(config),
        "clips": clips,
        "frames": frames,
        "seconds_by_part": {k: round(v, 3) for k, v in sorted(best.items(), key=lambda p: -p[1])},
        "seconds_a_step": round(total, 3),
        "clips_per_s": round(clips / total, 3),
        "decoding_share": round(best["rollout"] / total, 3),
        "rollout_frames_per_s": round(clips * frames / best["rollout"], 1),
        "plain_decode_frames_per_s": round(clips * frames / plain, 1),
        "rollout_over_plain": round(plain / best["rollout"], 3),
        "peak_memory_gb": round(_peak_memory(device), 2),
    }
    shown = {k: v for k, v in result.items() if k not in ("machine", "versions", "settings")}
    print(json.dumps(shown, indent=2))
    if options.out:
        Path(options.out).write_text(json.dumps(result, indent=2) + "\n")


def _one_step(
    stepper: EndpointStep, config: EndpointConfig, frames: int, step: int, now: Callable[[], float]
) -> dict[str, float]:
    """Take one whole step, the optimiser's included; seconds by part."""
    stepper.clock = Clock(stepper.device, now)
    prompts = list(range(config.prompts_per_step))
    batch = stepper.make_clips(
        prompts, [f"prompt {p}" for p in prompts], seed=0, first_clip=1000 * step, num_frames=frames
    )
    if config.diversity_weight:
        stepper.hear(batch)
    found, _, states = stepper.gradients(
        batch, kl_weight=1.0, reward_weight=config.diversity_weight, measure=False
    )
    with stepper.clock("update"):
        for name, parameter in stepper.student.parameters.items():
            parameter.grad = found.total[name]
        optimizer = torch.optim.AdamW(stepper.student.parameters.values(), lr=1e-9)
        optimizer.step()
    if states is not None:
        stepper.learn_values(batch, states, step)
    return stepper.clock.seconds


def _plain_decode(
    stepper: EndpointStep, clips: int, frames: int, now: Callable[[], float]
) -> float:
    """Time the decode loop alone, on the same model and rows, at generation's own settings."""
    model = stepper.student.actor
    condition = stepper.text.encode(["prompt"] * clips)
    seconds = []
    for _ in range(2):
        stream = DecodeStream(
            model.config, decode_by(model), condition, SamplingConfig(top_k=250),
            seeds=list(range(clips)), window=Window(frames=frames, keep_frames=1),
            num_frames=frames,
        )  # fmt: skip
        start = now()
        with stepper.autocast() if narrowed(model) else nullcontext():
            stream.advance(frames)
        seconds.append(now() - start)
    return min(seconds)


def _models(
    options: argparse.Namespace, device: torch.device
) -> tuple[MusicLM, float, FrameCodec | Any]:
    if options.model:
        from musicgen_rl.pipeline.parts import load_codec_of

        info = read_info(Path(options.model))
        return load_lm(info).to(device), info.frame_rate, load_codec_of(info, device)
    shape, rate = SHAPES[options.shape]
    codec = FrameCodec(
        FrameCodecConfig(
            hop_length=int(32000 / rate), num_codebooks=shape.num_codebooks,
            codebook_size=shape.codebook_size,
        )
    )  # fmt: skip
    return MusicLM(shape).to(device).eval().requires_grad_(False), rate, codec.to(device).eval()


def _stepper(
    options: argparse.Namespace, config: EndpointConfig, teacher: MusicLM, codec: Any,
    device: torch.device,
) -> EndpointStep:  # fmt: skip
    encoder: Any = FixedProjection()
    if options.encoder:
        from musicgen_rl.rewards.encoder import load_encoder

        encoder = load_encoder(options.encoder, device)
    rate = codec.sample_rate
    size = encoder.embed(torch.randn(1, 2 * rate, device=device), rate).shape[-1]
    student = Student(
        replace(teacher.config, dropout=0.0), teacher.state_dict(), train=config.train,
        rank=config.rank, train_norms=config.train_norms, device=device,
        actor_dtype=actor_dtype_of(config, device),
    )  # fmt: skip
    critic = EmbeddingCritic(teacher.config.hidden_size, size).to(device)
    return EndpointStep(
        config, student, teacher, FixedText(teacher.config.text_hidden_size), codec,
        encoder=encoder, critic=CriticTrainer(critic, 1e-3, config.critic_epochs),
        bank=EmbeddingBank(config.bank_keep), device=device, autocast=autocast_of(config, device),
    )  # fmt: skip


def _config(options: argparse.Namespace) -> EndpointConfig:
    settings = read_preset(options.preset, options.end) if options.preset else {}
    return EndpointConfig(**without_auto({**settings, **_assigned(options.set)}))


def _peak_memory(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=sorted(SHAPES), default="pocket")
    parser.add_argument("--model")
    parser.add_argument("--encoder")
    parser.add_argument("--preset", default="pocket")
    parser.add_argument("--end", choices=("quality", "diversity"), default="quality")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cpu-time", action="store_true")
    parser.add_argument("--out")
    return parser.parse_args()


if __name__ == "__main__":
    main()
