"""How much of everything `make pocket` makes: three sizes, as data."""

from dataclasses import dataclass, field
from typing import Any

from musicgen_rl.training.lookback import Lookback


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
    judges: dict[str, dict[str, Any]]
    """Judge -> fields of its config, as in `JUDGES`; "all" holds for each of them."""
    offsets: int = 1
    """How often each training piece is encoded, each time another part of a frame later."""
    again: dict[str, Any] = field(default_factory=dict)
    """Fields of PretrainConfig for a second run of the language model, with heads built in that
    look back (training/lookback.py); there is none where this is empty."""
    again_dropout: float = 0.0
    """Of the second run."""
    lookback: Lookback = field(default_factory=Lookback)
    """What is built in for it."""
    temperature: float | tuple[float, ...] = 1.0
    """Folded into the language model's heads before the ends are trained (training/temper.py): one,
    or one for each codebook."""
    eased: dict[str, float] = field(default_factory=dict)
    """part and share by which the diversity end is eased (training/ease.py); not where empty."""
    preset: str = "pocket"
    """Of the ends."""
    ends: dict[str, dict[str, Any]] = field(default_factory=dict)
    """quality, diversity -> fields of EndpointConfig, above those of the preset."""
    coded_every: int = 4
    """Of the training pieces, each so-manieth is heard through the codec too."""


JUDGES: dict[str, dict[str, Any]] = {
    "encoder-training": {"role": "training", "half": "a", "seed": 11, "tower": {}},
    "encoder-report": {
        "role": "report", "half": "b", "seed": 22, "learning_rate": 2e-3,
        "tower": {"kind": "conv", "width": 192, "layers": 5},
    },
    "scorer-training": {
        "role": "training", "half": "a", "seed": 55, "start": "encoder-training",
        "muon_learning_rate": 0.01,
    },
    "scorer-report": {"role": "report", "half": "b", "seed": 44, "start": "encoder-report"},
    "probe": {"seed": 33, "start": "encoder-report"},
}  # fmt: skip
"""What judges sound, in the order they are trained: two of a kind share neither architecture, nor
seed, nor half of the training pieces (docs/rewards.md)."""

CODEC_SHAPE = {
    "hop_length": 1280, "num_codebooks": 8, "codebook_dim": 128, "decoder_layers": 6,
}  # fmt: skip
"""25 frames a second: at one bitrate eight codebooks at half the rate keep more of the sound than
four at the full rate (docs/training.md), and the language model makes half the steps."""

_TINY_END = {
    "minutes": 0.0, "steps": 3, "prompts_per_step": 4, "clips_per_prompt": 2, "clip_s": 1.0,
    "long_clip_s": 0.0, "measure_every": 2, "listen_every": 2, "guard_kl_rise": 0.0,
    "guard_entropy": 0.0, "guard_hacking": 0.0, "guard_silence": 1.0, "guard_repeats": 1.0,
}  # fmt: skip
"""Guards are off: what a model of forty steps makes is noise, and they would say so."""

SIZES = {
    "tiny": PocketSize(
        corpus={"hours": 0.12, "valid": 0.3, "min_duration_s": 10.0, "max_duration_s": 20.0},
        codec={"steps": 60, "batch_size": 4, "quantize_after": 20, "valid_every": 60},
        codec_shape={"encoder_layers": 1, "encoder_width": 64, "decoder_layers": 2,
                     "decoder_width": 96},
        lm_shape={"hidden_size": 64, "num_layers": 2, "num_heads": 2, "ffn_size": 128},
        lm={"steps": 40, "batch_size": 4, "crop_frames": 200, "eval_rows": 4, "warmup_steps": 5},
        judges={"all": {"steps": 5, "batch_size": 8, "longest_s": 2.0},
                "probe": {"least_pieces": 3, "shortest_s": 1.6}},
        again={"steps": 20, "batch_size": 4, "crop_frames": 200, "eval_rows": 4,
               "warmup_steps": 5, "loop_share": 0.4, "loop_until": 0.3},
        again_dropout=0.1,
        lookback=Lookback(matching={1: 1}),
        temperature=(1.1, 1.2, 1.2, 1.2),
        eased={"part": 1.0, "share": 1.0},
        ends={"quality": _TINY_END, "diversity": _TINY_END},
    ),
    "cpu": PocketSize(
        corpus={"hours": 40.0, "workers": 2},
        codec={"minutes": 90.0, "batch_size": 6, "crop_s": 1.6},
        codec_shape=CODEC_SHAPE,
        lm_shape={"hidden_size": 384, "num_layers": 6, "num_heads": 6, "ffn_size": 1536},
        lm={"minutes": 480.0, "batch_size": 5, "micro_batch_size": 5, "short_share": 0.65,
            "short_factor": 5, "muon_steps": 4, "ema_decay": 0.999},
        judges={"all": {"minutes": 8.0, "batch_size": 72, "longest_s": 4.0},
                "scorer-training": {"batch_size": 96, "minutes": 3.0},
                "scorer-report": {"batch_size": 96, "minutes": 3.0},
                "probe": {"batch_size": 64, "minutes": 6.0, "shortest_s": 2.0, "longest_s": 5.0}},
    ),
    "gpu": PocketSize(
        corpus={"hours": 150.0, "workers": 14},
        codec={"minutes": 3.25, "batch_size": 96, "crop_s": 1.6, "warmup_steps": 100,
               "quantize_after": 300, "valid_every": 500, "memory_gb": 40},
        codec_shape=CODEC_SHAPE,
        lm_shape={"hidden_size": 384, "num_layers": 6, "num_heads": 6, "ffn_size": 1536,
                  "dropout": 0.1},
        lm={"minutes": 2.0, "batch_size": 64, "micro_batch_size": 64, "short_share": 0.4,
            "short_factor": 5, "warmup_steps": 60, "embedding_std": 0.25, "eval_rows": 128},
        again={"minutes": 6.0, "batch_size": 32, "micro_batch_size": 32, "muon_lr": 0.015,
               "adamw_lr": 0.0015, "loop_share": 0.4, "loop_until": 0.3, "warmup_steps": 50,
               "ema_decay": 0.998, "eval_rows": 128},
        again_dropout=0.2,
        judges={"all": {"minutes": 8.0, "batch_size": 96, "longest_s": 4.0},
                "probe": {"batch_size": 64, "shortest_s": 2.0, "longest_s": 5.0}},
        offsets=3,
        temperature=(1.1, 1.21, 1.21, 1.21, 1.32, 1.32, 1.32, 1.32),
        eased={"part": 1.0, "share": 1.0},
        preset="pocket-gpu",
        coded_every=8,
    ),
}  # fmt: skip
"""tiny tries every stage in minutes; cpu is what two cores make in a night; gpu, for one GPU beside
sixteen cores, is how the shipped model came about, in one go. That one was made in three sittings,
of 71 hours of music instead of 150, with a second run of four minutes instead of six, and its finer
codebooks were heated after the ends were trained, not before (docs/experiments). In one go and with
150 hours it has not been run."""
