"""Configuration of models and of generation: frozen dataclasses, the only home of defaults.

Configuration of one training stage lives beside that stage. Every field has a docstring under it;
`field_help` reads them, so that the command line and the documentation say the same.
"""

import ast
import dataclasses
import inspect
import itertools
import math
import numbers
import textwrap
from dataclasses import dataclass
from typing import Any

from musicgen_rl.errors import ConfigError


def field_help(config_class: type[Any]) -> dict[str, str]:
    """Collect the docstring under each field of a dataclass.

    Args:
        config_class: a dataclass written in the style of this file; fields that it inherits count.

    Returns:
        Field name -> help text, whitespace folded.
    """
    found: dict[str, str] = {}
    for one in reversed(config_class.__mro__):
        if dataclasses.is_dataclass(one):
            found |= _own_field_help(one)
    return found


def _own_field_help(config_class: type[Any]) -> dict[str, str]:
    tree = ast.parse(textwrap.dedent(inspect.getsource(config_class)))
    body = tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else []
    found: dict[str, str] = {}
    for field, doc in itertools.pairwise(body):
        is_field = isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        is_doc = isinstance(doc, ast.Expr) and isinstance(doc.value, ast.Constant)
        if is_field and is_doc and isinstance(doc.value.value, str):  # type: ignore[attr-defined]
            found[field.target.id] = " ".join(doc.value.value.split())  # type: ignore[attr-defined]
    return found


def require(condition: bool, message: str) -> None:
    """Raise ConfigError with `message` unless `condition` holds."""
    if not condition:
        raise ConfigError(message)


def plain_numbers(config: Any) -> None:
    """Turn the numpy numbers in a frozen dataclass's fields into Python's own, which JSON knows."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        foreign = isinstance(value, numbers.Real) and not isinstance(value, int | float)
        if foreign and hasattr(value, "item"):
            object.__setattr__(config, field.name, value.item())


def require_number(name: str, value: float, low: float, high: float, *, unit: str = "") -> None:
    """Raise ConfigError unless `value` is a finite number in [low, high].

    Args:
        name: the option as the user knows it.
        value: what was given.
        low: smallest allowed value.
        high: largest allowed value.
        unit: printed after the bounds, for example "s".
    """
    ok = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not ok or not low <= value <= high:
        tail = f" {unit}" if unit else ""
        raise ConfigError(f"{name} must be between {low:g} and {high:g}{tail}, got {value!r}")


@dataclass(frozen=True, kw_only=True)
class LMConfig:
    """Shape of the audio-token language model (MusicGen's decoder)."""

    num_codebooks: int = 4
    """K: token streams of one frame, over all audio channels (stereo has twice a mono codec's)."""
    codebook_size: int = 1024
    """V: entries of one codebook; V itself is the token for padding and start."""
    hidden_size: int = 384
    """Width of the transformer."""
    num_layers: int = 6
    """Transformer blocks."""
    num_heads: int = 6
    """Attention heads; must divide hidden_size."""
    ffn_size: int = 1536
    """Width inside the feed-forward block."""
    text_hidden_size: int = 384
    """D: width of the text states; a projection is added where it differs from hidden_size."""
    audio_channels: int = 1
    """1 mono, 2 stereo (left and right codebooks interleaved)."""
    max_frames: int = 1500
    """Longest context, in frames, the model was trained on; generation slides beyond it."""
    activation: str = "gelu"
    """Feed-forward activation: gelu or relu."""
    dropout: float = 0.0
    """Dropout in training."""

    def __post_init__(self) -> None:
        """Check every field."""
        for name in ("num_codebooks", "codebook_size", "hidden_size", "num_layers", "num_heads",
                     "ffn_size", "text_hidden_size", "max_frames"):  # fmt: skip
            value = getattr(self, name)
            require(isinstance(value, int) and value >= 1, f"{name} must be >= 1, got {value!r}")
        require(
            self.hidden_size % self.num_heads == 0,
            f"hidden_size {self.hidden_size} is not a multiple of num_heads {self.num_heads}",
        )
        require(self.hidden_size % 2 == 0, f"hidden_size must be even, got {self.hidden_size}")
        require(
            self.audio_channels in (1, 2), f"audio_channels must be 1 or 2: {self.audio_channels}"
        )
        require(
            self.num_codebooks % self.audio_channels == 0,
            f"num_codebooks {self.num_codebooks} must be a multiple of audio_channels "
            f"{self.audio_channels}",
        )
        require(
            self.activation in ("gelu", "relu"), f"unknown activation {self.activation!r}: use gelu"
        )
        require_number("dropout", self.dropout, 0.0, 0.9)

    @property
    def head_size(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_heads

    @property
    def pad_token(self) -> int:
        """The token for positions outside the delay pattern, and for the start: V."""
        return self.codebook_size


@dataclass(frozen=True, kw_only=True)
class FrameCodecConfig:
    """Shape of the frame-level codec: log-mel, ConvNeXt, residual VQ, ConvNeXt, inverse STFT."""

    sample_rate: int = 32000
    """Hz."""
    hop_length: int = 640
    """Samples a frame; sample_rate / hop_length is the frame rate."""
    n_fft: int = 2560
    """Length of the STFT window in samples."""
    n_mels: int = 160
    """Mel bins of the encoder's input."""
    num_codebooks: int = 4
    """K: residual quantizers."""
    codebook_size: int = 1024
    """V: entries of each codebook."""
    codebook_dim: int = 64
    """Width of the quantized vectors."""
    encoder_layers: int = 5
    """ConvNeXt blocks before the quantizer."""
    encoder_width: int = 256
    """Channels of the encoder."""
    decoder_layers: int = 8
    """ConvNeXt blocks after the quantizer."""
    decoder_width: int = 384
    """Channels of the decoder."""
    kernel_size: int = 7
    """Frames seen by each depthwise convolution; odd."""

    def __post_init__(self) -> None:
        """Check every field."""
        for name, value in vars(self).items():
            require(isinstance(value, int) and value >= 1, f"{name} must be >= 1, got {value!r}")
        require(self.kernel_size % 2 == 1, f"kernel_size must be odd, got {self.kernel_size}")
        require(
            self.n_fft >= self.hop_length,
            f"n_fft {self.n_fft} is shorter than hop_length {self.hop_length}",
        )

    @property
    def frame_rate(self) -> float:
        """Frames a second."""
        return self.sample_rate / self.hop_length


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """How a token is drawn from the model's logits."""

    guidance_scale: float = 1.0
    """Classifier-free guidance; 1 is off (one row a clip), 3 is MusicGen's usual value."""
    guidance_s: float = 0.0
    """Seconds of new music that guidance steers, from its beginning; 0, or a guidance_scale named
    without it, steers all."""
    temperature: float = 1.0
    """Above 1 more varied and riskier, below 1 safer and more alike; 0 is greedy."""
    top_k: int = 250
    """Draw among the k likeliest tokens; 0 is all of them."""
    top_p: float = 1.0
    """Draw among the likeliest tokens that hold this much probability; 1 is all of them."""
    negative_prompt: str = ""
    """What guidance steers away from; empty means the null prompt. Needs guidance_scale != 1."""

    def __post_init__(self) -> None:
        """Check every field."""
        plain_numbers(self)
        require_number("guidance_scale", self.guidance_scale, 0.0, 50.0)
        require_number("guidance_s", self.guidance_s, 0.0, 600.0, unit="s")
        require_number("temperature", self.temperature, 0.0, 10.0)
        whole = isinstance(self.top_k, int) and not isinstance(self.top_k, bool)
        require(
            whole and 0 <= self.top_k <= 1_000_000,
            f"top_k must be a whole number from 0 (off) to 1000000, got {self.top_k!r}",
        )
        require_number("top_p", self.top_p, 0.0, 1.0)
        require(self.top_p > 0, f"top_p must be above 0, got {self.top_p!r}")
        require(
            isinstance(self.negative_prompt, str),
            f"negative_prompt must be text, got {self.negative_prompt!r:.60}",
        )
        require(
            not self.negative_prompt or self.guidance_scale != 1.0,
            "negative_prompt needs guidance: set guidance_scale above 1, for example 3",
        )
        require(
            not self.guidance_s or self.guidance_scale != 1.0,
            "guidance_s needs guidance: set guidance_scale above 1, for example 2",
        )

    @property
    def guided(self) -> bool:
        """Whether guidance steers, be it for some seconds alone."""
        return self.guidance_scale != 1.0

    @property
    def rows(self) -> int:
        """Rows of cache that a clip has at most: guidance needs a second, and its end a third."""
        return 1 + self.guided + (self.guided and self.guidance_s > 0.0)

    def unguided(self) -> "SamplingConfig":
        """Take guidance off, with what goes with it."""
        return dataclasses.replace(self, guidance_scale=1.0, guidance_s=0.0, negative_prompt="")

    def guided_frames(self, frame_rate: float) -> int:
        """Count the frames that guidance steers; 0 for all."""
        return max(1, round(self.guidance_s * frame_rate)) if self.guidance_s else 0


@dataclass(frozen=True, kw_only=True)
class LeadConfig:
    """Guidance where clips on the dial begin that are held to something.

    What is held takes some say from the words, and the first second says most of what kind of music
    a clip is. Guided there, clips are heard as what was asked for as often as when left free.
    """

    quality_scale: float = 1.0
    """At the quality end; between the ends the scale goes in a straight line."""
    diversity_scale: float = 1.0
    """At the diversity end."""
    guidance_s: float = 1.0
    """Seconds of new music that are guided."""

    def __post_init__(self) -> None:
        """Check every field."""
        require_number("quality_scale", self.quality_scale, 1.0, 50.0)
        require_number("diversity_scale", self.diversity_scale, 1.0, 50.0)
        require_number("guidance_s", self.guidance_s, 0.01, 600.0, unit="s")

    def scale_at(self, diversity: float) -> float:
        """Tell the scale at a position of the dial, 0 quality to 1 diversity."""
        change = self.diversity_scale - self.quality_scale
        return round(self.quality_scale + change * diversity, 4)
