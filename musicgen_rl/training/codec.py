"""Train the frame codec on a manifest of audio.

    folder = train_codec(CodecTrainConfig(manifest="corpus/manifest.jsonl", folder="runs/codec"))

The folder receives `metrics.jsonl` (a line every few steps), `state.safetensors` (to resume: the
same call goes on where the last one was killed) and, at the end, `codec/` as `load_codec` reads
it. Metrics: loss (weighted sum), each spectral distance, commitment, replaced (dead entries since
the last line), used and perplexity (share and evenness of codebook entries in the recent
batches), learning_rate, seconds; in valid rows distance (multi-scale log-mel distance of held-out
crops, quantized).
"""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from musicgen_rl.codec.frame import ConvNeXtBlock, FrameCodec
from musicgen_rl.codec.load import save_codec
from musicgen_rl.codec.spectral import PERIOD
from musicgen_rl.config import FrameCodecConfig, require, require_number
from musicgen_rl.data.check import CheckConfig, check_manifest, refuse
from musicgen_rl.errors import CheckpointError, InputError
from musicgen_rl.training.checkpointing import (
    JSON,
    load_training_state,
    pack_optimizer,
    pack_rng,
    restore_optimizer,
    restore_rng,
    save_training_state,
)
from musicgen_rl.training.codec_codebooks import CodebookLearner, usage
from musicgen_rl.training.codec_crops import (
    MAX_TRANSPOSE,
    AudioPool,
    draw_crops,
    fixed_crops,
    read_split,
    unfit_files,
)
from musicgen_rl.training.codec_losses import log_mel_distance, training_distances
from musicgen_rl.training.codec_start import start_codec
from musicgen_rl.training.metrics import MetricsLog, format_seconds
from musicgen_rl.training.optim import Muon, rate_factor, set_rate
from musicgen_rl.training.same_run import require_kind

PITCH_WEIGHT = 2.0
"""Of the pitch distance; mel distances have weight 1 each."""
RECENT_LATENTS = 12288
"""Latents remembered for k-means and for the usage in the metrics."""


@dataclass(frozen=True, kw_only=True)
class CodecTrainConfig:
    """One run of codec training."""

    manifest: str
    """The jsonl manifest; its train split is learnt from, its valid split measured on."""
    folder: str
    """Where the run is kept; an unfinished run in it is continued."""
    minutes: float = 20.0
    """Length of the run, in minutes of training; ignored where steps is set."""
    steps: int = 0
    """Length of the run in steps; 0 takes minutes. Only with steps is a resumed run bit-exact."""
    batch_size: int = 8
    """Crops a step."""
    crop_s: float = 1.0
    """Length of a crop in seconds."""
    transpose: int = 3
    """Crops are played up to so many semitones faster or slower, for more variety; 0 to 4."""
    learning_rate: float = 1.5e-3
    """AdamW's peak; cosine to zero over the run."""
    muon_learning_rate: float = 0.0
    """Muon's peak for the weight matrices of blocks; 0 gives them to AdamW, as all the rest."""
    warmup_steps: int = 50
    """Steps of linear warm-up."""
    quantize_after: int = 150
    """Steps before k-means sets the codebooks; until then latents pass unquantized."""
    commitment_weight: float = 0.5
    """Weight of the distance of latents to their entries."""
    clip_norm: float = 5.0
    """Gradients are scaled down to this norm."""
    valid_every: int = 250
    """Steps between measurements on the valid split."""
    save_every_s: float = 120.0
    """Seconds between savings of the state."""
    memory_gb: int = 6
    """Audio kept in memory, in GiB of 16-bit samples (an hour is 0.21); a GPU takes its crops
    itself where all of it fits."""
    seed: int = 0
    """Of the weights, the crops and the codebooks."""
    codec: FrameCodecConfig = field(default_factory=FrameCodecConfig)
    """Shape of the codec."""

    def __post_init__(self) -> None:
        """Check every field."""
        require_number("minutes", self.minutes, 0.01, 100_000)
        require_number("steps", self.steps, 0, 1e9)
        require_number("batch_size", self.batch_size, 1, 4096)
        require_number("crop_s", self.crop_s, 0.3, 30, unit="s")
        require_number("transpose", self.transpose, 0, MAX_TRANSPOSE)
        require_number("learning_rate", self.learning_rate, 1e-7, 1.0)
        require_number("muon_learning_rate", self.muon_learning_rate, 0.0, 1.0)
        require_number("warmup_steps", self.warmup_steps, 0, 1e9)
        require_number("quantize_after", self.quantize_after, 1, 1e9)
        require_number("commitment_weight", self.commitment_weight, 0.0, 100.0)
        require_number("memory_gb", self.memory_gb, 1, 4096, unit="GiB")
        require_number("clip_norm", self.clip_norm, 1e-3, 1e6)
        require_number("valid_every", self.valid_every, 1, 1e9)
        require_number("save_every_s", self.save_every_s, 0.0, 1e6)
        require(self.manifest != "", "manifest is empty: name a jsonl file")
        require(self.folder != "", "folder is empty: name where the run is kept")

    @property
    def crop_samples(self) -> int:
        """Samples of a crop: whole frames."""
        hop = self.codec.hop_length
        return round(self.crop_s * self.codec.sample_rate / hop) * hop


class CodecRun:
    """The state of a run: everything that a kill must not lose."""

    def __init__(self, config: CodecTrainConfig) -> None:
        self.config = config
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.manual_seed(config.seed)
        self.generator = torch.Generator().manual_seed(config.seed + 1)
        self.model = FrameCodec(config.codec).to(self.device)
        self.codebooks = CodebookLearner(self.model.quantizer)
        self.optimizers = build_codec_optimizers(
            self.model, config.learning_rate, config.muon_learning_rate
        )
        recent = torch.zeros(0, config.codec.codebook_dim)
        self.recent = recent.to(self.device)  # [<= RECENT_LATENTS, D]
        self.step = 0
        self.seconds = 0.0

    def progress(self) -> float:
        """Share of the run that is done, 0..1."""
        if self.config.steps:
            return min(1.0, self.step / self.config.steps)
        return min(1.0, self.seconds / (60.0 * self.config.minutes))

    def save(self) -> None:
        """Write everything to the run's folder."""
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        tensors |= self.codebooks.state() | pack_rng({"codebooks": self.generator})
        tensors["recent"] = self.recent
        state: dict[str, JSON] = {
            "kind": "codec", "step": self.step, "seconds": self.seconds,
            "config": asdict(self.config),
        }  # fmt: skip
        for index, optimizer in enumerate(self.optimizers):
            packed, rest = pack_optimizer(optimizer, f"optimizer{index}")
            tensors |= packed
            state[f"optimizer{index}"] = rest
        save_training_state(self.config.folder, tensors, state)

    def resume(self) -> bool:
        """Go back to what the folder holds; False where it holds nothing.

        Raises:
            CheckpointError: it was begun with another shape, batch, crop, seed or optimiser.
        """
        found = load_training_state(self.config.folder)
        if found is None:
            return False
        tensors, state = found
        begun, now = state["config"], json.loads(json.dumps(asdict(self.config)))
        free = {
            "minutes",
            "steps",
            "save_every_s",
            "valid_every",
            "folder",
            "manifest",
            "memory_gb",
        }
        for key in begun.keys() - free:
            if begun[key] != now.get(key):
                raise CheckpointError(
                    f"the run in {self.config.folder} was begun with {key} {begun[key]}, not "
                    f"{now.get(key)}: use the same value, or another folder"
                )
        weights = {
            k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")
        }
        self.model.load_state_dict(weights)
        self.codebooks.restore(tensors)
        for index, optimizer in enumerate(self.optimizers):
            name = f"optimizer{index}"
            restore_optimizer(optimizer, tensors, state[name], name)
        self.recent = tensors["recent"].to(self.device)
        restore_rng(tensors, {"codebooks": self.generator})
        self.step, self.seconds = state["step"], state["seconds"]
        return True


def build_codec_optimizers(
    model: FrameCodec, learning_rate: float, muon_learning_rate: float
) -> list[torch.optim.Optimizer]:
    """Give the ConvNeXt blocks' matrices to Muon, if its rate is not 0, and the rest to AdamW.

    Returns:
        One or two optimisers; each group remembers its peak rate as `peak_lr`.
    """
    blocks = [m for m in model.modules() if isinstance(m, ConvNeXtBlock)]
    matrices = [w for b in blocks for w in (b.expand.weight, b.contract.weight)]
    chosen = {id(w) for w in matrices} if muon_learning_rate > 0 else set()
    rest = [p for p in model.parameters() if p.requires_grad and id(p) not in chosen]
    groups = [{"params": rest, "peak_lr": learning_rate}]
    built: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.95), weight_decay=0.0)
    ]
    if chosen:
        built.append(
            Muon([{"params": matrices, "peak_lr": muon_learning_rate}], muon_learning_rate)
        )
    return built


def train_codec(
    config: CodecTrainConfig, *, stop: Callable[[], bool] = lambda: False
) -> Path | None:
    """Train a frame codec, or go on with the run in `config.folder`.

    Args:
        config: what to train on, and how; on a GPU where there is one.
        stop: asked after each step; True saves and returns.

    Returns:
        The folder of the finished codec, `config.folder`/codec; None where `stop` ended it before.

    Raises:
        InputError: the manifest or a file in it cannot be used; found before training starts.
        CheckpointError: the folder holds a run of another kind, or one begun with other options.
        StorageError: the disk is full; what was saved is intact.
    """
    require_kind(config.folder, "codec")
    manifest = Path(config.manifest)
    if load_training_state(config.folder) is None:
        require_fit(config)
    rate, length = config.codec.sample_rate, config.crop_samples
    pool = AudioPool(read_split(manifest, "train"), rate, length, config.memory_gb << 30)
    if torch.cuda.is_available():
        pool.hold_on("cuda")
    valid_paths = read_split(manifest, "valid")
    if not valid_paths:
        raise InputError(f"{manifest} has no valid split: mark some lines with split valid")
    valid = fixed_crops(AudioPool(valid_paths, rate, 2 * length), 24, 2 * length)
    run = CodecRun(config)
    resumed = run.resume()
    if not resumed:
        kept = start_run(run, pool)
        # Linear algebra libraries may round otherwise in another process: never start twice.
        run.save()
        sys.stderr.write(f"codec: latents keep {kept:.1%} of what is heard\n")
    path = Path(config.folder) / "metrics.jsonl"
    with MetricsLog(path, resume_step=run.step if resumed else 0, live=sys.stderr) as log:
        saved_at = time.monotonic()
        replaced = 0
        stopped = False
        while run.progress() < 1.0 and not stopped:
            started = time.monotonic()
            losses = train_step(run, next_crops(run, pool))
            replaced += int(losses.pop("replaced", 0))
            run.seconds += time.monotonic() - started
            done = run.progress() >= 1.0
            if run.step % 10 == 0 or done:
                row = {**losses, "seconds": round(run.seconds, 2), "replaced": replaced}
                log.write("train", run.step, **row, **recent_usage(run))
                replaced = 0
                log.show(live_line(run, losses["loss"]))
            if run.step % config.valid_every == 0 or done:
                distance = valid_distance(run.model, valid.to(run.device))
                log.write("valid", run.step, distance=distance, seconds=round(run.seconds, 2))
                log.show(f"{live_line(run, losses['loss'])}, held-out {distance:.3f}", force=True)
            if time.monotonic() - saved_at > config.save_every_s:
                run.save()
                saved_at = time.monotonic()
            stopped = stop()
        run.save()
    if run.progress() < 1.0:
        return None
    finished = Path(config.folder) / "codec"
    save_codec(run.model, finished)
    return finished


def require_fit(config: CodecTrainConfig) -> None:
    """Refuse a manifest that a codec cannot be trained on, with everything that is wrong with it.

    Raises:
        InputError: a line for each problem.
    """
    manifest, length = Path(config.manifest), config.crop_samples
    check = CheckConfig(min_duration_s=0.0, same_rate=False, splits=("train", "valid"))
    problems = check_manifest(manifest, check)
    problems += unfit_files(
        manifest, config.codec.sample_rate, {"train": length, "valid": 2 * length}
    )
    refuse(manifest, sorted(problems, key=lambda problem: problem.line))


def next_crops(run: CodecRun, pool: AudioPool) -> Tensor:
    """Draw the crops of the run's next step, [B, M]."""
    c = run.config
    return draw_crops(pool, c.batch_size, c.crop_samples, c.seed, run.step, c.transpose, run.device)


def start_run(run: CodecRun, pool: AudioPool) -> float:
    """Set a fresh run's straight paths; return the share of variance that the latents keep."""
    length = min(4 * run.config.crop_samples, *pool.lengths)
    return start_codec(run.model, fixed_crops(pool, 64, length).to(run.device))


def train_step(run: CodecRun, crops: Tensor) -> dict[str, float]:
    """Take one step on crops [B, M]; return what the metrics show."""
    config, model = run.config, run.model
    share = rate_factor(run.step, run.progress(), config.warmup_steps, 0.0)
    set_rate(run.optimizers, share)
    latents = model.latents(crops)
    run.recent = torch.cat([run.recent, latents.detach().flatten(0, 1)])[-RECENT_LATENTS:]
    if run.step == config.quantize_after:
        run.codebooks.start(run.recent, run.generator)
    found: dict[str, float] = {}
    commitment = torch.zeros((), device=run.device)
    if run.step >= config.quantize_after:
        latents, commitment, _, replaced = run.codebooks.quantize(latents, run.generator)
        found = {"replaced": replaced}
    starts = torch.randint(0, PERIOD, (len(crops),), generator=run.generator)
    made = model.synthesize(latents, starts)
    distances = training_distances(made, crops, config.codec.sample_rate)
    spectral = sum(PITCH_WEIGHT * d if name == "pitch" else d for name, d in distances.items())
    loss = spectral + config.commitment_weight * commitment
    for optimizer in run.optimizers:
        optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
    if not torch.isfinite(norm):
        raise InputError(
            f"the loss is not finite at step {run.step}: look for broken audio in the manifest, or "
            f"lower learning_rate (now {config.learning_rate:g})"
        )
    for optimizer in run.optimizers:
        optimizer.step()
    run.step += 1
    # Read together: on a GPU, each number asked for waits for all that was launched before.
    names = ["loss", *distances, "commitment", "gradient_norm"]
    numbers = torch.stack([loss, *distances.values(), commitment, norm]).tolist()
    found |= {name: round(number, 4) for name, number in zip(names, numbers, strict=True)}
    return {**found, "learning_rate": round(share * config.learning_rate, 8)}


@torch.no_grad()
def valid_distance(model: FrameCodec, samples: Tensor) -> float:
    """Multi-scale log-mel distance of samples [B, M] to their reconstruction."""
    total = 0.0
    for batch in torch.split(samples, 8):
        made = model.decode(model.encode(batch[:, None]))[:, 0, : batch.shape[1]]
        total += float(log_mel_distance(made, batch, model.sample_rate)) * len(batch)
    return round(total / len(samples), 4)


def recent_usage(run: CodecRun) -> dict[str, JSON]:
    """Usage of the codebooks by the recent latents; empty before they are set."""
    if run.step <= run.config.quantize_after or run.step % 50:
        return {}
    codes = run.model.quantizer.encode(run.recent[None])
    shares, perplexities = usage(codes, run.config.codec.codebook_size)
    return {"used": [round(s, 3) for s in shares], "perplexity": [round(p) for p in perplexities]}


def live_line(run: CodecRun, loss: float) -> str:
    """Say where the run is, for people."""
    progress = run.progress()
    left = format_seconds(run.seconds * (1.0 - progress) / max(progress, 1e-6))
    speed = run.config.batch_size * run.config.crop_s * run.step / max(run.seconds, 1e-6)
    return (
        f"codec step {run.step}, {progress:.0%}, loss {loss:.3f}, {speed:.1f} s of audio a second, "
        f"{left} left"
    )
