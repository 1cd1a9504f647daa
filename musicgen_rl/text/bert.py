"""BERT's encoder, forward only, for one prompt at a time.

Own code rather than transformers' BertModel for the time it takes to start: importing
`transformers.models.bert.modeling_bert` costs more than torch itself does (measured on one core,
warm: torch 1.5-2 s, torch and BertModel 5-7 s), while all that is wanted of it is what stands
here. Parameters have transformers' names, so a BertModel checkpoint loads as it is, and the tests
hold both to the same numbers.

Source: arXiv:1810.04805; post-norm blocks, GELU by the error function.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from musicgen_rl.config import require


@dataclass(frozen=True, kw_only=True)
class BertConfig:
    """Shape of a BERT encoder, with transformers' field names."""

    vocab_size: int
    """Entries of the token embedding."""
    hidden_size: int
    """D."""
    num_hidden_layers: int
    """Transformer blocks."""
    num_attention_heads: int
    """Attention heads; must divide hidden_size."""
    intermediate_size: int
    """Width inside the feed-forward block."""
    max_position_embeddings: int
    """Longest input in tokens."""
    type_vocab_size: int
    """Segments; only the first is used."""
    layer_norm_eps: float
    """Added to the variance."""

    def __post_init__(self) -> None:
        """Check every field."""
        for name, value in vars(self).items():
            require(value > 0, f"{name} must be above 0, got {value!r}")
        require(
            self.hidden_size % self.num_attention_heads == 0,
            f"hidden_size {self.hidden_size} is not a multiple of num_attention_heads "
            f"{self.num_attention_heads}",
        )


class _Linear(nn.Module):
    """nn.Linear without initialisation, which costs more than reading the weights does."""

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width_out, width_in))
        self.bias = nn.Parameter(torch.empty(width_out))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


class _LayerNorm(nn.Module):
    """nn.LayerNorm over the last dimension, without initialisation."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))
        self.bias = nn.Parameter(torch.empty(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)


class _Table(nn.Module):
    """nn.Embedding without initialisation."""

    def __init__(self, entries: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(entries, width))


class _Embeddings(nn.Module):
    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        D = config.hidden_size
        self.word_embeddings = _Table(config.vocab_size, D)
        self.position_embeddings = _Table(config.max_position_embeddings, D)
        self.token_type_embeddings = _Table(config.type_vocab_size, D)
        self.LayerNorm = _LayerNorm(D, config.layer_norm_eps)

    def forward(self, ids: Tensor) -> Tensor:
        x = F.embedding(ids, self.word_embeddings.weight)  # [B, L, D]
        x = x + self.position_embeddings.weight[: ids.shape[1]]
        out: Tensor = self.LayerNorm(x + self.token_type_embeddings.weight[0])
        return out


class _SelfAttention(nn.Module):
    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        D = config.hidden_size
        self.num_heads = config.num_attention_heads
        self.query, self.key, self.value = _Linear(D, D), _Linear(D, D), _Linear(D, D)

    def forward(self, x: Tensor) -> Tensor:
        B, L, D = x.shape
        q, k, v = (
            project(x).view(B, L, self.num_heads, -1).transpose(1, 2)  # [B, H, L, D / H]
            for project in (self.query, self.key, self.value)
        )
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(B, L, D)


class _Output(nn.Module):
    """Projection back to D, residual, norm: the end of both halves of a block."""

    def __init__(self, width_in: int, config: BertConfig) -> None:
        super().__init__()
        self.dense = _Linear(width_in, config.hidden_size)
        self.LayerNorm = _LayerNorm(config.hidden_size, config.layer_norm_eps)

    def forward(self, part: Tensor, residual: Tensor) -> Tensor:
        out: Tensor = self.LayerNorm(self.dense(part) + residual)
        return out


class _Layer(nn.Module):
    """One block. The dictionaries only serve the parameters' names."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        D, inner = config.hidden_size, config.intermediate_size
        self.attention = nn.ModuleDict(
            {"self": _SelfAttention(config), "output": _Output(D, config)}
        )
        self.intermediate = nn.ModuleDict({"dense": _Linear(D, inner)})
        self.output = _Output(inner, config)

    def forward(self, x: Tensor) -> Tensor:
        x = self.attention["output"](self.attention["self"](x), x)
        x = self.output(F.gelu(self.intermediate["dense"](x)), x)
        return x


class BertEncoder(nn.Module):
    """Token ids to last hidden states, without padding: all rows are of one length."""

    def __init__(self, config: BertConfig) -> None:
        """Make the parameters; they hold nothing until load_state_dict fills them."""
        super().__init__()
        self.embeddings = _Embeddings(config)
        layers = nn.ModuleList(_Layer(config) for _ in range(config.num_hidden_layers))
        self.encoder = nn.ModuleDict({"layer": layers})

    def forward(self, ids: Tensor) -> Tensor:
        """Run the encoder.

        Args:
            ids: [B, L] token ids, L at most max_position_embeddings.

        Returns:
            [B, L, D] last hidden states, of the blocks' dtype.
        """
        x: Tensor = self.embeddings(ids)  # [B, L, D]
        x = x.to(next(self.encoder.parameters()).dtype)
        for layer in self.encoder["layer"].children():
            x = layer(x)
        return x
