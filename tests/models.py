"""Tiny random models, whole folders, for tests of everything above the LM."""

import json
from pathlib import Path

import torch

from musicgen_rl.checkpoint import ModelInfo, checkpoints_folder, save_model
from musicgen_rl.codec.frame import FrameCodec
from musicgen_rl.codec.load import save_codec
from musicgen_rl.config import FrameCodecConfig, LMConfig, SamplingConfig
from musicgen_rl.lm.transformer import MusicLM
from musicgen_rl.sampling.decode import Window

TINY_LM = LMConfig(
    num_codebooks=3, codebook_size=40, hidden_size=32, num_layers=2, num_heads=2, ffn_size=48,
    text_hidden_size=384, max_frames=120,
)  # fmt: skip
TINY_CODEC = FrameCodecConfig(
    sample_rate=8000, hop_length=160, n_fft=640, n_mels=20, num_codebooks=3, codebook_size=40,
    codebook_dim=8, encoder_layers=1, encoder_width=16, decoder_layers=1, decoder_width=16,
)  # fmt: skip


def tiny_info(folder: Path, **changes: object) -> ModelInfo:
    """Describe the tiny model; `changes` replace fields."""
    fields = {
        "name": "tiny",
        "folder": folder,
        "lm": TINY_LM,
        "window": Window(frames=100, keep_frames=40),
        "frame_rate": 50.0,
        "sampling": SamplingConfig(top_k=20),
        "text_encoder": {"type": "minilm", "path": str(checkpoints_folder() / "minilm")},
        "codec": {"type": "frame", "path": "codec"},
        "license": "Apache-2.0",
    }
    return ModelInfo(**(fields | changes))


def save_tiny(folder: Path, seed: int = 0, **changes: object) -> Path:
    """Write a tiny random model of our own kind (50 frames/s, 8 kHz, K = 3)."""
    torch.manual_seed(seed)
    model, codec = MusicLM(TINY_LM), FrameCodec(TINY_CODEC)
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.add_(torch.randn_like(tensor) * 0.3)
    for tensor in codec.state_dict().values():
        if tensor.is_floating_point():
            tensor.add_(torch.randn_like(tensor) * 0.05)
    save_model(folder, tiny_info(folder, **changes), model.state_dict(), dtype=torch.float32)
    save_codec(codec, folder / "codec")
    return folder


def save_tiny_musicgen(folder: Path, *, stereo: bool = False, sample_rate: int = 8000) -> Path:
    """Write a tiny random model in MusicGen's own format, by transformers."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        EncodecConfig,
        MusicgenConfig,
        MusicgenForConditionalGeneration,
        PreTrainedTokenizerFast,
        T5Config,
    )
    from transformers.models.musicgen.configuration_musicgen import MusicgenDecoderConfig

    torch.manual_seed(0)
    channels = 2 if stereo else 1
    text = T5Config(
        vocab_size=60, d_model=24, d_kv=8, d_ff=32, num_layers=2, num_heads=3,
        pad_token_id=0, eos_token_id=1, decoder_start_token_id=0,
    )  # fmt: skip
    codec = EncodecConfig(
        target_bandwidths=[1.0], sampling_rate=sample_rate,
        upsampling_ratios=[8, 5, sample_rate // 2000],  # 50 frames a second
        num_filters=4, hidden_size=16, codebook_size=32, codebook_dim=16, normalize=False,
        chunk_length_s=None, audio_channels=1, use_causal_conv=False, num_lstm_layers=1,
    )  # fmt: skip
    K = codec.num_quantizers
    decoder = MusicgenDecoderConfig(
        vocab_size=32, num_hidden_layers=2, ffn_dim=48, num_attention_heads=2, hidden_size=32,
        num_codebooks=K * channels, audio_channels=channels, pad_token_id=32, bos_token_id=32,
        max_position_embeddings=256,
    )  # fmt: skip
    config = MusicgenConfig(
        text_encoder=text.to_dict(), audio_encoder=codec.to_dict(), decoder=decoder.to_dict()
    )
    model = MusicgenForConditionalGeneration(config).eval()
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and "audio_encoder" not in name:
            tensor.add_(torch.randn_like(tensor) * 0.2)
    model.save_pretrained(folder)
    words = ["<pad>", "</s>", "<unk>", "slow", "sad", "piano", "drums", "loud", "fast", "jazz"]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)
    generation = {"guidance_scale": 3.0, "bos_token_id": 32, "pad_token_id": 32}
    generation |= {"decoder_start_token_id": 32, "do_sample": True}
    (folder / "generation_config.json").write_text(json.dumps(generation))
    return folder


def save_tiny_dial(folder: Path, seed: int = 0) -> Path:
    """Write a tiny model with `quality/` and `diversity/`, its weights moved two ways."""
    from tests.merging.pairs import tune

    save_tiny(folder, seed, name=folder.name, sampling=SamplingConfig(guidance_scale=3.0, top_k=20))
    for number, end in enumerate(("quality", "diversity"), 1):
        tune(folder, folder / end, number, knows_base=True)
    return folder
