"""The parts around an LM, built from what its folder says."""

import torch
from torch import Tensor

from musicgen_rl.checkpoint import ModelInfo, part_folder, weight_files
from musicgen_rl.codec.base import Codec
from musicgen_rl.errors import CheckpointError, UnsupportedModelError
from musicgen_rl.storage import read_json, read_tensors
from musicgen_rl.text.base import TextEncoder


def load_text_encoder(info: ModelInfo, device: torch.device) -> TextEncoder:
    """Load what encodes this model's prompts.

    Raises:
        UnsupportedModelError: a kind that does not run here.
        CheckpointError: a file or tensor is missing.
    """
    kind = info.text_encoder.get("type")
    encoder: TextEncoder
    if kind == "minilm":
        from musicgen_rl.text.minilm import MiniLM

        encoder = MiniLM.load(part_folder(info, info.text_encoder), device)
    elif kind == "t5":
        from musicgen_rl.text.t5 import T5Text

        config = read_json(info.folder / "config.json")["text_encoder"]
        state = _composite(info, "text_encoder.")
        encoder = T5Text.from_config_and_state(config, state, info.folder, device)
    else:
        raise UnsupportedModelError(f"{info.name}: unknown text encoder {kind!r}")
    if encoder.hidden_size != info.lm.text_hidden_size:
        raise CheckpointError(
            f"{info.name}: the text encoder gives states of {encoder.hidden_size}, the LM reads "
            f"{info.lm.text_hidden_size}"
        )
    return encoder


def load_codec_of(info: ModelInfo, device: torch.device) -> Codec:
    """Load the codec whose codes this model writes.

    Raises:
        UnsupportedModelError: a kind that does not run here.
        CheckpointError: a file or tensor is missing, or the codec is not this LM's.
    """
    kind = info.codec.get("type")
    codec: Codec
    if kind == "frame":
        from musicgen_rl.codec.load import load_codec

        codec = load_codec(part_folder(info, info.codec))
    elif kind == "encodec":
        from musicgen_rl.codec.encodec import encodec_from_tensors

        config = read_json(info.folder / "config.json")["audio_encoder"]
        codec = encodec_from_tensors(
            config, _composite(info, "audio_encoder."), audio_channels=info.lm.audio_channels
        )
    else:
        raise UnsupportedModelError(f"{info.name}: unknown codec {kind!r}")
    for name in ("num_codebooks", "codebook_size"):
        of_codec, of_lm = getattr(codec, name), getattr(info.lm, name)
        if of_codec != of_lm:
            raise CheckpointError(
                f"{info.name}: the codec has {name} {of_codec}, the LM {of_lm}: they are not of "
                "one model"
            )
    codec.to(device)
    return codec


def codec_bytes(codec: Codec, frames: int) -> int:
    """Estimate the working memory of decoding so many frames of one clip at once.

    Measured: EnCodec holds three and a half layers of all its filters for every sample, float32
    (0.57 MB a frame in MusicGen's shape); the frame codec holds ten numbers.
    """
    net = getattr(codec, "model", None)
    numbers = 10.0 if net is None else 3.5 * net.config.num_filters
    return int(4 * numbers * frames * codec.hop_length * codec.audio_channels)


def _composite(info: ModelInfo, prefix: str) -> dict[str, Tensor]:
    """Read one part's tensors of a model in MusicGen's own format, prefix taken off."""
    state = read_tensors(weight_files(info.folder), (prefix,))
    return {name.removeprefix(prefix): tensor for name, tensor in state.items()}
