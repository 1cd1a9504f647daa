"""What of the student is trained: all weights, low-rank factors by peft, or norms and biases.

The rollout runs on plain weights. With factors there is a second module, the actor, whose matrices
are set to `W + b a` before every rollout, so that decoding costs no more than the base's; the loss
runs through peft's layers, whose backward pass needs no gradient of the large matrices.

Where the loss's pass multiplies in bfloat16 on a GPU (autocast), so does the actor, and its
matrices are kept in it: a decoding step reads all of them, and they are half as much. Norms,
embeddings and what is added up stay float32, as autocast has them, so both passes round alike. Not
with factors: `W + b a` rounded to bfloat16 is often W.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from musicgen_rl.config import LMConfig
from musicgen_rl.errors import ConfigError
from musicgen_rl.lm.low_rank import LowRankDelta, on_grid
from musicgen_rl.lm.transformer import MusicLM

ADAPTER = "default"  # peft's name of an only adapter
TARGETS = (
    "self_qkv", "self_out", "cross_query", "cross_key_value", "cross_out", "ffn_in", "ffn_out",
)  # fmt: skip


class Student:
    """A language model of which something is trained.

    Args:
        config: shape of the model.
        state: weights it starts from, float32.
        train: "all", "low-rank" or "norms".
        rank: of the factors.
        train_norms: with low-rank, norms and biases too.
        seed: of the factors' start.
        device: where it lives.
        actor_dtype: of the actor's matrices; bfloat16 for a rollout under autocast, not with
            factors.
    """

    def __init__(
        self,
        config: LMConfig,
        state: Mapping[str, Tensor],
        *,
        train: str = "all",
        rank: int = 4,
        train_norms: bool = True,
        seed: int = 0,
        device: torch.device | str = "cpu",
        actor_dtype: torch.dtype = torch.float32,
    ) -> None:
        self.train, self.rank = train, rank
        self.model = _plain_model(config, state, device)
        """What the loss runs through."""
        self.actor = self.model
        """What decodes: the same module, or another of composed weights or of narrower ones."""
        for parameter in self.model.parameters():
            parameter.requires_grad_(train == "all")
        if train != "all" and (train_norms or train == "norms"):
            for name, parameter in self.model.named_parameters():
                if parameter.dim() == 1 and name != "text_projection.bias":
                    parameter.requires_grad_(True)
        if train == "low-rank" or actor_dtype != torch.float32:
            self.actor = _plain_model(config, state, device).requires_grad_(False)
            for module in self.actor.modules():
                if isinstance(module, nn.Linear):
                    module.weight.data = module.weight.data.to(actor_dtype)
        if train == "low-rank":
            _inject(self.model, rank, seed)
        self.parameters = {n: p for n, p in self.model.named_parameters() if p.requires_grad}
        """Name in `model` -> what is trained."""

    @torch.no_grad()
    def sync_actor(self) -> None:
        """Set the actor's weights to the student's."""
        if self.actor is self.model:
            return
        target = dict(self.actor.named_parameters())
        for name, layer in self._layers().items():
            a, b = _factors(layer)
            fixed = layer.get_parameter("base_layer.weight")
            torch.addmm(fixed, b, a, out=target[f"{name}.weight"])
        for name, parameter in self.parameters.items():
            if name in target:  # not a factor
                target[name].copy_(parameter)

    def state(self, average: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the whole weights, as `MusicLM` names them, of averaged parameters.

        Args:
            average: tensors in place of `parameters`.
        """
        if self.train == "low-rank":
            raise ConfigError("a student of low-rank factors is stored as `delta`")
        whole = {n: p.detach() for n, p in self.model.named_parameters()}
        return whole | {name: average[name] for name in self.parameters}

    def delta(self, average: Mapping[str, Tensor]) -> LowRankDelta:
        """Return the distance from the start, of averaged parameters, ready to be stored."""
        factors: dict[str, tuple[Tensor, Tensor]] = {}
        for name in self._layers():
            a, b = (average[f"{name}.lora_{x}.{ADAPTER}.weight"].cpu() for x in "AB")
            factors[f"{name}.weight"] = on_grid(a, b)
        whole = {n: average[n].cpu() for n, p in self.parameters.items() if p.dim() == 1}
        return LowRankDelta(factors, whole)

    def _layers(self) -> dict[str, nn.Module]:
        return {n: m for n, m in self.model.named_modules() if hasattr(m, "lora_A")}


class ParameterAverage:
    """Moving average of what is trained, in float32; smaller decay in the first steps."""

    def __init__(self, parameters: Mapping[str, Tensor], decay: float) -> None:
        self.decay = decay
        self.tensors = {n: p.detach().float().clone() for n, p in parameters.items()}

    @torch.no_grad()
    def update(self, parameters: Mapping[str, Tensor], step: int) -> None:
        """Take in the parameters after `step` steps."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, parameter in parameters.items():
            self.tensors[name].lerp_(parameter.detach().float(), 1 - decay)


def _plain_model(
    config: LMConfig, state: Mapping[str, Tensor], device: torch.device | str
) -> MusicLM:
    with torch.device("meta"):
        model = MusicLM(config)
    model.load_state_dict({n: t.float().clone() for n, t in state.items()}, assign=True)
    return model.to(device).eval()


def _inject(model: MusicLM, rank: int, seed: int) -> None:
    """Put peft's low-rank layers around the blocks' matrices."""
    from peft import LoraConfig, inject_adapter_in_model

    generator_state = torch.get_rng_state()
    torch.manual_seed(seed)
    # alpha = rank makes the scale 1, so that a stored delta is b a itself.
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=list(TARGETS), lora_dropout=0.0)
    frozen = {n: p.requires_grad for n, p in model.named_parameters()}
    inject_adapter_in_model(config, model, adapter_name=ADAPTER)
    torch.set_rng_state(generator_state)
    for name, parameter in model.named_parameters():  # peft freezes all but its own
        if "lora_" not in name:
            parameter.requires_grad_(frozen[name.replace(".base_layer", "")])
    model.eval()


def _factors(layer: nn.Module) -> tuple[Tensor, Tensor]:
    """Return (a [r, in], b [out, r]) of one of peft's layers."""
    a, b = layer.lora_A[ADAPTER].weight, layer.lora_B[ADAPTER].weight  # type: ignore[index,union-attr]
    return a, b
