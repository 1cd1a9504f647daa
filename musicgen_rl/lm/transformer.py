"""MusicGen's decoder: K token streams in, cross-attention to text, K distributions out.

One module serves training (`forward`, the whole sequence at once) and decoding (`prefill`, `step`,
`step_static`, over a `DecodeCache`). The loop that samples is elsewhere (musicgen_rl.sampling).

Source: arXiv:2306.05284; equal to transformers' MusicgenForCausalLM (tests/equivalence).
"""

import math
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from musicgen_rl.config import LMConfig
from musicgen_rl.lm.attention import attention
from musicgen_rl.lm.cache import CrossStates, DecodeCache, LayerCache
from musicgen_rl.lm.condition import Condition
from musicgen_rl.lm.dropout import Dropout

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Takes queries, keys, values [B, H, S, head] of the new steps, returns [B, H, S, head]."""


def sinusoids(num_positions: int, width: int) -> Tensor:
    """Make MusicGen's position table [num_positions, width]: cosines, then sines."""
    half = width // 2
    rate = torch.exp(torch.arange(half).float() * -(math.log(10000) / max(half - 1, 1)))
    angle = torch.arange(num_positions).float().unsqueeze(1) * rate.unsqueeze(0)
    return torch.cat([angle.cos(), angle.sin()], dim=1)


class Block(nn.Module):
    """Self-attention, cross-attention and feed-forward, each normed before and added after."""

    def __init__(self, config: LMConfig) -> None:
        super().__init__()
        D = config.hidden_size
        self.num_heads = config.num_heads
        self.self_norm = nn.LayerNorm(D)
        self.self_qkv = nn.Linear(D, 3 * D, bias=False)
        self.self_out = nn.Linear(D, D, bias=False)
        self.cross_norm = nn.LayerNorm(D)
        self.cross_query = nn.Linear(D, D, bias=False)
        self.cross_key_value = nn.Linear(D, 2 * D, bias=False)
        self.cross_out = nn.Linear(D, D, bias=False)
        self.ffn_norm = nn.LayerNorm(D)
        self.ffn_in = nn.Linear(D, config.ffn_size, bias=False)
        self.ffn_out = nn.Linear(config.ffn_size, D, bias=False)
        self.activation = F.gelu if config.activation == "gelu" else F.relu
        self.dropout = Dropout(config.dropout)

    def cross_states(self, text: Tensor, mask: Tensor, dtype: torch.dtype) -> CrossStates:
        """Compute the text's keys and values: text [B, L, D], mask [B, 1, 1, L]."""
        keys, values = self.split_heads(self.cross_key_value(text), 2)
        return CrossStates(keys.to(dtype).contiguous(), values.to(dtype).contiguous(), mask)

    def forward(self, x: Tensor, cross: CrossStates, attend: Attend) -> Tensor:
        """Run the block on x [B, S, D]; `attend` is self-attention over whatever came before."""
        q, k, v = self.split_heads(self.self_qkv(self.self_norm(x)), 3)
        x = x + self.dropout(self.self_out(self._join(attend(q, k, v).to(x.dtype))))

        (q,) = self.split_heads(self.cross_query(self.cross_norm(x)), 1)
        seen = attention(q.to(cross.keys.dtype), cross.keys, cross.values, mask=cross.mask)
        x = x + self.dropout(self.cross_out(self._join(seen.to(x.dtype))))

        h = self.activation(self.ffn_in(self.ffn_norm(x)))
        out: Tensor = x + self.dropout(self.ffn_out(h))
        return out

    def split_heads(self, x: Tensor, parts: int) -> tuple[Tensor, ...]:
        """Split [B, S, parts * D] into `parts` tensors [B, H, S, head]."""
        B, S, _ = x.shape
        x = x.view(B, S, parts, self.num_heads, -1)
        return tuple(x[:, :, i].transpose(1, 2) for i in range(parts))

    @staticmethod
    def _join(x: Tensor) -> Tensor:
        """Join heads: [B, H, S, head] to [B, S, D]."""
        return x.transpose(1, 2).flatten(2)


class MusicLM(nn.Module):
    """The audio-token language model.

    Args:
        config: its shape.
    """

    offsets: Tensor
    positions: Tensor

    def __init__(self, config: LMConfig) -> None:
        super().__init__()
        self.config = config
        D, K, V = config.hidden_size, config.num_codebooks, config.codebook_size
        table = torch.empty(K * (V + 1), D)  # codebook k owns rows k (V + 1) onwards
        self.embed = nn.Embedding(K * (V + 1), D, _weight=table)
        # Never on meta: torch would import its compiler (1 s) to compute shapes of sines.
        with torch.device("cpu" if table.is_meta else table.device):
            for name, constants in self.tables(config).items():
                self.register_buffer(name, constants, persistent=False)
        projected = config.text_hidden_size != D
        self.text_projection = nn.Linear(config.text_hidden_size, D) if projected else None
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.norm = nn.LayerNorm(D)
        self.heads = nn.Linear(D, K * V, bias=False)
        self.dropout = Dropout(config.dropout)
        self.apply(_init_weights)

    @staticmethod
    def tables(config: LMConfig) -> dict[str, Tensor]:
        """Make the constant tables: where each codebook's embeddings start, and the positions."""
        K = config.num_codebooks
        return {
            "offsets": torch.arange(K).view(1, K, 1) * (config.codebook_size + 1),
            "positions": sinusoids(config.max_frames + K, config.hidden_size),
        }

    def forward(self, tokens: Tensor, condition: Condition, beat: Tensor | None = None) -> Tensor:
        """Predict every step from the ones before it (teacher forcing).

        Args:
            tokens: delayed tokens shifted right by one step, long [B, K, S], in [0, V].
            condition: text states of B prompts.
            beat: added to the stream before each block, [L, B, S, D]; see lm/beat.py.

        Returns:
            Logits [B, K, S, V]; step s predicts the token of step s.
        """
        return self.logits(self.hidden_states(tokens, condition, beat))

    def hidden_states(
        self, tokens: Tensor, condition: Condition, beat: Tensor | None = None
    ) -> Tensor:
        """Compute the normed states [B, S, D] that the heads read; arguments as `forward`."""
        cross = self.cross_states(condition)
        x = self.dropout(self.embedded(tokens))
        for layer, (block, states) in enumerate(zip(self.blocks, cross, strict=True)):
            x = block(x if beat is None else x + beat[layer], states, attend_causal)
        normed: Tensor = self.norm(x)
        return normed

    def logits(self, hidden: Tensor) -> Tensor:
        """Apply the K heads: hidden [B, S, D] to logits [B, K, S, V]."""
        B, S, _ = hidden.shape
        out: Tensor = self.heads(hidden).view(B, S, self.config.num_codebooks, -1)
        return out.transpose(1, 2)

    def cross_states(
        self, condition: Condition, dtype: torch.dtype | None = None
    ) -> list[CrossStates]:
        """Compute every block's keys and values of the text.

        Args:
            condition: text states [B, L, text D].
            dtype: of the result; the model's where None.
        """
        text = condition.hidden.to(self.norm.weight.dtype)
        if self.text_projection is not None:
            text = self.text_projection(text)
        text = text * condition.mask.unsqueeze(-1)
        # A row without any real state is the null prompt. Its keys and values are zero, so where it
        # looks is of no consequence, but softmax over nothing would be nan: let it look everywhere.
        mask = condition.mask | ~condition.mask.any(-1, keepdim=True)
        allowed = mask[:, None, None, :]
        dtype = dtype or text.dtype
        states: list[CrossStates] = []
        for module in self.blocks:
            assert isinstance(module, Block)
            states.append(module.cross_states(text, allowed, dtype))
        return states

    def prefill(self, tokens: Tensor, cache: DecodeCache, beat: Tensor | None = None) -> Tensor:
        """Run S steps at once on top of what the cache holds, and keep them.

        Args:
            tokens: input tokens [B, K, S], as for `forward`.
            cache: with `cross` set and room for S more steps.
            beat: of all steps the cache has room for, [L, B, max_steps, D]; see lm/beat.py.

        Returns:
            Logits of the last of the S steps, [B, K, V].
        """
        start, S = cache.length, tokens.shape[-1]
        x = self.embedded(tokens, start)
        for i, (block, cross) in enumerate(zip(self.blocks, cache.cross, strict=True)):
            if beat is not None:
                x = x + beat[i, :, start : start + S]
            x = block(x, cross, partial(_attend_cached, cache.layers[i], start))
        cache.length = start + S
        return self.logits(self.norm(x[:, -1:])).squeeze(2)

    def step_static(self, tokens: Tensor, cache: DecodeCache, beat: Tensor | None = None) -> Tensor:
        """Run one step with shapes and addresses that never change, for a CUDA graph.

        Args:
            tokens: input tokens of this step, [B, K, 1].
            cache: `position` is this step's index; the caller advances it.
            beat: of all steps, as `prefill` takes it.

        Returns:
            Logits [B, K, V].
        """
        visible = cache.visible()
        x = (self.embed(tokens + self.offsets).sum(1) + self.positions[cache.position]).to(
            self.norm.weight.dtype
        )
        for i, (block, cross) in enumerate(zip(self.blocks, cache.cross, strict=True)):
            if beat is not None:
                x = x + beat[i].index_select(1, cache.position)
            x = block(x, cross, partial(_attend_static, cache.layers[i], cache.position, visible))
        return self.logits(self.norm(x)).squeeze(2)

    def embedded(self, tokens: Tensor, start: int = 0) -> Tensor:
        """Sum the K embeddings and add positions from step `start`: [B, K, S] to [B, S, D]."""
        end = start + tokens.shape[-1]
        if end > self.positions.shape[0]:
            grown = sinusoids(2 * end, self.config.hidden_size)
            self.positions = grown.to(self.positions.device, self.positions.dtype)
        embedded = self.embed(tokens + self.offsets).sum(1)
        x: Tensor = embedded + self.positions[start:end].to(embedded.dtype)
        return x


def attend_causal(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attend from each of the S places to those up to it, as `Attend` says."""
    return attention(q, k, v, causal=True)


def _attend_cached(layer: LayerCache, start: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attend from S new steps to themselves and to the `start` steps in the cache."""
    k, v = layer.extend(k, v, start)
    S, mask = q.shape[2], None
    if start and S > 1:  # the lower corner of the causal mask
        rows = torch.arange(start, start + S, device=q.device).unsqueeze(1)
        mask = torch.arange(start + S, device=q.device).unsqueeze(0) <= rows
    causal = not start and S > 1  # a single new step may look at everything
    q = q.to(k.dtype)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)


def _attend_static(
    layer: LayerCache, position: Tensor, visible: Tensor, q: Tensor, k: Tensor, v: Tensor
) -> Tensor:
    """Attend from one new step over the whole allocated cache, the future masked."""
    layer.extend_static(k, v, position)
    q = q.to(layer.keys.dtype)
    return F.scaled_dot_product_attention(q, layer.keys, layer.values, attn_mask=visible)


def _init_weights(module: nn.Module) -> None:
    """Draw weights as transformers does for this architecture: normal with deviation 0.02.

    On the meta device there is nothing to draw, and torch would import its compiler to do so (1 s).
    """
    if any(p.is_meta for p in module.parameters(recurse=False)):
        return
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
