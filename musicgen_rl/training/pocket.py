"""`make pocket`: corpus, codec, tokens, language model, model folder, one after the other.

Every stage keeps its own folder under the work folder, goes on where a killed run stopped, and
leaves `STAGE.json` behind when it is done: what it was made with and how many seconds it took.
A stage that is done is skipped, unless its options changed, which is refused rather than mixed.
"""

import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from musicgen_rl.checkpoint import load_state, read_info, save_model
from musicgen_rl.codec.frame import FrameCodec
from musicgen_rl.codec.load import load_codec, save_codec
from musicgen_rl.config import FrameCodecConfig, LMConfig, require
from musicgen_rl.data.pocket.corpus import make_corpus
from musicgen_rl.data.pocket.corpus_config import CorpusConfig
from musicgen_rl.errors import ConfigError, StorageError, UnsupportedModelError
from musicgen_rl.storage import read_json, write_json
from musicgen_rl.training.codec import CodecTrainConfig, train_codec
from musicgen_rl.training.lm_run import encode_manifest, train_lm
from musicgen_rl.training.pocket_card import model_card
from musicgen_rl.training.pretrain_config import PretrainConfig

STAGES = ("corpus", "codec", "tokens", "lm", "ship")
"""In the order they run."""
LICENSE = "Apache-2.0"
"""Of the weights."""


@dataclass(frozen=True, kw_only=True)
class PocketSize:
    """How much of everything; one of `SIZES`."""

    corpus: dict[str, Any]
    """Fields of CorpusConfig."""
    codec: dict[str, Any]
    """Fields of CodecTrainConfig."""
    codec_shape: dict[str, Any] = field(default_factory=dict)
    """Fields of FrameCodecConfig."""
    lm_shape: dict[str, Any] = field(default_factory=dict)
    """Fields of LMConfig."""
    lm: dict[str, Any]
    """Fields of PretrainConfig."""


CODEC_SHAPE = {
    "hop_length": 1280, "num_codebooks": 8, "codebook_dim": 128, "decoder_layers": 6,
}  # fmt: skip
"""25 frames a second: at one bitrate eight codebooks at half the rate keep more of the sound than
four at the full rate (docs/training.md), and the language model makes half the steps."""

SIZES = {
    "tiny": PocketSize(
        corpus={"hours": 0.12, "valid": 0.3, "min_duration_s": 10.0, "max_duration_s": 20.0},
        codec={"steps": 60, "batch_size": 4, "quantize_after": 20, "valid_every": 60},
        codec_shape={"encoder_layers": 1, "encoder_width": 64, "decoder_layers": 2,
                     "decoder_width": 96},
        lm_shape={"hidden_size": 64, "num_layers": 2, "num_heads": 2, "ffn_size": 128},
        lm={"steps": 40, "batch_size": 4, "crop_frames": 200, "eval_rows": 4, "warmup_steps": 5},
    ),
    "cpu": PocketSize(
        corpus={"hours": 40.0, "workers": 2},
        codec={"minutes": 90.0, "batch_size": 6, "crop_s": 1.6},
        codec_shape=CODEC_SHAPE,
        lm_shape={"hidden_size": 384, "num_layers": 6, "num_heads": 6, "ffn_size": 1536},
        lm={"minutes": 480.0, "batch_size": 5, "micro_batch_size": 5, "short_share": 0.65,
            "short_factor": 5, "muon_steps": 4, "ema_decay": 0.999},
    ),
    "gpu": PocketSize(
        corpus={"hours": 150.0, "workers": 8},
        codec={"minutes": 240.0, "batch_size": 32, "crop_s": 1.6},
        codec_shape=CODEC_SHAPE,
        lm_shape={"hidden_size": 768, "num_layers": 8, "num_heads": 12, "ffn_size": 3072},
        lm={"minutes": 600.0, "batch_size": 64, "micro_batch_size": 64, "short_share": 0.3,
            "short_factor": 5, "ema_decay": 0.999, "warmup_steps": 200},
    ),
}  # fmt: skip
"""tiny tries every stage in minutes; cpu is what two cores make in a night; gpu is for one GPU."""


@dataclass(frozen=True, kw_only=True)
class PocketConfig:
    """One making of pocket."""

    work: Path
    """Folder for everything in between; needs some 10 GB at size cpu."""
    output: Path
    """Folder of the finished model."""
    text_encoder: Path
    """Folder of MiniLM."""
    size: str = "cpu"
    """tiny, cpu or gpu."""
    seed: int = 0
    """Of the corpus, the codec and the language model."""
    skip: tuple[str, ...] = ()
    """Stages to leave out: what later ones need of them has to be there."""

    def __post_init__(self) -> None:
        """Check every field."""
        require(self.size in SIZES, f"size must be {', '.join(SIZES)}, got {self.size!r}")
        for name in self.skip:
            require(name in STAGES, f"unknown stage {name!r}: stages are {', '.join(STAGES)}")


def make_pocket(
    config: PocketConfig,
    *,
    report: Callable[[str], None] = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
    live: bool = True,
) -> Path | None:
    """Run every stage that is not done yet.

    Args:
        config: what to make and where.
        report: called with a line for people, before and after each stage.
        stop: asked between stages and between the steps of the language model; True saves and
            returns.
        live: show the live lines of training.

    Returns:
        The finished model's folder, or None where `stop` ended it before.

    Raises:
        ConfigError: a stage was made with other options.
        StorageError: the disk is full; run it again to go on.
    """
    plan = stages(config, stop=stop, live=live)
    for name, (options, run) in plan.items():
        record = config.work / f"{name}.json"
        if name in config.skip:
            report(f"{name}: left out")
            continue
        if record.is_file():
            check_record(name, record, options)
            report(f"{name}: done before")
            continue
        if stop():
            return None
        report(f"{name}: begins")
        begun = time.monotonic()
        figures = run()
        if name == "lm" and not figures["finished"]:
            return None
        seconds = round(time.monotonic() - begun, 1)
        _write(record, {
            "options": options, "figures": figures, "seconds_of_last_run": seconds,
            "machine": machine(),
        })  # fmt: skip
        report(f"{name}: done in {seconds:.0f} s")
    return config.output


def stages(
    config: PocketConfig, *, stop: Callable[[], bool] = lambda: False, live: bool = True
) -> dict[str, tuple[dict[str, Any], Callable[[], dict[str, Any]]]]:
    """List the stages: name -> (the options that decide its result, what runs it)."""
    size, work, seed = SIZES[config.size], config.work, config.seed
    corpus = CorpusConfig(output=work / "corpus", seed=seed, **size.corpus)
    manifest = corpus.output / "manifest.jsonl"
    shape = FrameCodecConfig(**size.codec_shape)
    codec = CodecTrainConfig(
        manifest=str(manifest), folder=str(work / "codec"), codec=shape, seed=seed, **size.codec
    )
    lm_shape, lm = LMConfig(**size.lm_shape), PretrainConfig(seed=seed, **size.lm)
    codec_folder, tokens, run = work / "codec" / "codec", work / "tokens", work / "lm"

    def run_corpus() -> dict[str, Any]:
        make_corpus(corpus)
        return {"pieces": corpus.num_pieces}

    def run_codec() -> dict[str, Any]:
        return {"folder": str(train_codec(codec))}

    def run_tokens() -> dict[str, Any]:
        return asdict(encode_manifest(manifest, codec_folder, tokens))

    def run_lm() -> dict[str, Any]:
        return train_lm(
            tokens, codec_folder, config.text_encoder, run, lm_shape, lm,
            license=LICENSE, stop=stop, live=live,
        )  # fmt: skip

    def run_ship() -> dict[str, Any]:
        return ship(run / "export", config.output, config.text_encoder, work)

    return {
        "corpus": ({**size.corpus, "seed": seed}, run_corpus),
        "codec": ({**size.codec, **size.codec_shape, "seed": seed}, run_codec),
        "tokens": ({}, run_tokens),
        "lm": ({**size.lm_shape, **size.lm, "seed": seed}, run_lm),
        "ship": ({"output": str(config.output)}, run_ship),
    }


def check_record(name: str, record: Path, options: dict[str, Any]) -> None:
    """Refuse a finished stage that was made with other options.

    Raises:
        ConfigError: names what differs.
    """
    before = read_json(record).get("options", {})
    now = json.loads(json.dumps(options))
    changed = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    if changed:
        key = min(changed)
        raise ConfigError(
            f"stage {name} in {record.parent} was made with {key}={before.get(key)!r}, not "
            f"{now.get(key)!r}: use another work folder, or delete {record} and the stage's folder"
        )


def ship(source: Path, target: Path, text_encoder: Path, work: Path) -> dict[str, Any]:
    """Write the finished model folder: weights, codec, and a model card.

    Args:
        source: the run's export.
        target: the model folder.
        text_encoder: MiniLM's folder; the card points to it, relative to `target`.
        work: holds the records of the stages.

    Returns:
        Bytes of the folder.
    """
    info = read_info(source)
    path = os.path.relpath(text_encoder, target)
    shipped = replace(
        info, name=target.name, text_encoder={"type": "minilm", "path": path}, license=LICENSE
    )
    records = {name: read_json(work / f"{name}.json") for name in STAGES
               if (work / f"{name}.json").is_file()}  # fmt: skip
    save_model(target, shipped, load_state(info))
    codec = load_codec(source / "codec")
    if not isinstance(codec, FrameCodec):
        raise UnsupportedModelError(f"{source / 'codec'} is not a frame codec")
    save_codec(codec, target / "codec", dtype=torch.float16)
    try:
        (target / "README.md").write_text(model_card(shipped, records), encoding="utf-8")
    except OSError as error:
        raise StorageError(f"cannot write {target}: {error}") from error
    return {"bytes": sum(p.stat().st_size for p in target.rglob("*") if p.is_file())}


def machine() -> str:
    """Name what a stage ran on."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{torch.get_num_threads()} threads of {platform.machine()}"


def _write(path: Path, content: dict[str, Any]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, content)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error}") from error
