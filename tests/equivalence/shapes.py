"""Tiny shapes on which ours is held against transformers'."""

import torch
from transformers import MusicgenForCausalLM
from transformers.models.musicgen.configuration_musicgen import MusicgenDecoderConfig

from musicgen_rl.config import LMConfig
from musicgen_rl.lm.transformer import MusicLM
from musicgen_rl.lm.weights import config_to_transformers, from_transformers

SHAPES = {
    "mono": LMConfig(
        num_codebooks=4, codebook_size=30, hidden_size=32, num_layers=2, num_heads=4, ffn_size=48,
        text_hidden_size=32, max_frames=64,
    ),
    "stereo": LMConfig(
        num_codebooks=8, codebook_size=20, hidden_size=24, num_layers=3, num_heads=2, ffn_size=40,
        text_hidden_size=24, audio_channels=2, max_frames=64,
    ),
    "projected text": LMConfig(
        num_codebooks=4, codebook_size=30, hidden_size=32, num_layers=1, num_heads=4, ffn_size=64,
        text_hidden_size=20, max_frames=64,
    ),
    "two codebooks": LMConfig(
        num_codebooks=2, codebook_size=50, hidden_size=48, num_layers=2, num_heads=3, ffn_size=64,
        text_hidden_size=48, max_frames=64, activation="relu",
    ),
}  # fmt: skip


def build_pair(config: LMConfig, seed: int = 0) -> tuple[MusicLM, MusicgenForCausalLM]:
    """Make a random model of transformers and ours with the same weights."""
    torch.manual_seed(seed)
    fields = config_to_transformers(config)
    theirs = MusicgenForCausalLM(MusicgenDecoderConfig(**fields, attn_implementation="eager"))
    for tensor in theirs.state_dict().values():  # norms away from one, weights away from small
        if tensor.is_floating_point():
            tensor.add_(torch.randn_like(tensor) * 0.2)
    theirs.eval()
    state = dict(theirs.state_dict())
    if config.text_hidden_size != config.hidden_size:
        state["enc_to_dec_proj.weight"] = torch.randn(config.hidden_size, config.text_hidden_size)
        state["enc_to_dec_proj.bias"] = torch.randn(config.hidden_size)
    ours = MusicLM(config).eval()
    ours.load_state_dict(from_transformers(state, config))
    return ours, theirs


def text_states(config: LMConfig, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Make text states [3, 5, D] and a mask with rows of 5, 3 and no real states."""
    g = torch.Generator().manual_seed(seed)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [0, 0, 0, 0, 0]]).bool()
    hidden = torch.randn(3, 5, config.text_hidden_size, generator=g)
    return hidden * mask.unsqueeze(-1), mask
