"""Small stand-ins for endpoint runs: text, codec, encoder and a base with a preference."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from musicgen_rl.checkpoint import load_state, read_info
from musicgen_rl.config import LMConfig
from musicgen_rl.lm.condition import Condition
from musicgen_rl.lm.transformer import MusicLM
from musicgen_rl.training.endpoint_config import EndpointConfig
from musicgen_rl.training.endpoint_parts import EndpointParts
from tests.models import save_tiny

LM = LMConfig(
    num_codebooks=3, codebook_size=40, hidden_size=32, num_layers=2, num_heads=2, ffn_size=48,
    text_hidden_size=384, max_frames=120,
)  # fmt: skip


class HashText:
    """Each prompt has fixed random states."""

    hidden_size = 384

    def encode(self, prompts: list[str]) -> Condition:
        hidden = torch.zeros(len(prompts), 4, 384)
        for row, prompt in enumerate(prompts):
            generator = torch.Generator().manual_seed(sum(map(ord, prompt)))
            hidden[row] = torch.randn(4, 384, generator=generator)
        return Condition(hidden, torch.ones(len(prompts), 4, dtype=torch.bool))


class CodeSound:
    """A frame sounds its codes: sample k of the frame is code k."""

    device = torch.device("cpu")
    sample_rate, hop_length, num_codebooks, codebook_size = 150, 3, 3, 40
    audio_channels, context_frames = 1, (0, 0)

    def encode(self, samples: Tensor) -> Tensor:
        raise NotImplementedError

    def decode(self, codes: Tensor) -> Tensor:
        return (codes.float() / 40).transpose(1, 2).flatten(1).unsqueeze(1)


class ShareEncoder:
    """Embeds a clip by how often each kind of sample occurs; hears 150 Hz only."""

    sample_rate = 150
    identity = "share encoder"

    def embed(self, samples: Tensor, sample_rate: int) -> Tensor:
        if sample_rate != 150:
            from musicgen_rl.errors import InputError

            raise InputError(f"this encoder hears 150 Hz, the codec makes {sample_rate} Hz")
        edges = torch.arange(8) / 8
        near = (samples.unsqueeze(-1) - edges).abs() < 0.0626
        return torch.nn.functional.normalize(near.float().mean(1) + 0.01, dim=-1)


class LoudScorer:
    """Scores a clip by its mean."""

    identity = "loud scorer"

    def score(self, samples: Tensor, sample_rate: int, captions: list[str]) -> Tensor:
        assert len(captions) == len(samples)
        return samples.mean(1)


def small_config(**changes) -> EndpointConfig:
    given = {
        "steps": 3, "prompts_per_step": 2, "clips_per_prompt": 3, "clip_s": 0.2,
        "micro_batch_size": 4, "learning_rate": 1e-3, "measure_every": 2, "listen_every": 2,
        "save_minutes": 0.0, "warmup_steps": 1, "rank": 2, "train_norms": True,
    } | changes  # fmt: skip
    return EndpointConfig(**given)


def small_parts(folder: Path, prompts: int = 6, **changes) -> EndpointParts:
    """Make parts around the tiny model, which is written to `folder` once."""
    if not (folder / "config.json").is_file():
        save_tiny(folder)
    base = read_info(folder)
    state = load_state(base)
    given = {
        "base": base, "base_state": state, "start": None, "start_state": state,
        "text": HashText(), "codec": CodeSound(),
        "prompts": [f"prompt {i}" for i in range(prompts)],
        "encoder": ShareEncoder(), "held_out": ShareEncoder(), "scorer": LoudScorer(),
    } | changes  # fmt: skip
    return EndpointParts(**given)


def small_lm(seed: int = 0) -> MusicLM:
    """Make a tiny random LM whose logits are far from even."""
    torch.manual_seed(seed)
    model = MusicLM(replace(LM))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model.eval().requires_grad_(False)
