"""all-MiniLM-L6-v2 as a text encoder: states of the words and of the whole sentence."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor

from musicgen_rl.errors import CheckpointError, ConfigError, ModelNotFoundError
from musicgen_rl.lm.condition import Condition
from musicgen_rl.text.bert import BertConfig, BertEncoder
from musicgen_rl.text.cache import StateCache, as_prompts, stack_states

MAX_TOKENS = 128
"""Tokens of a prompt that are read, the two markers around it among them; MiniLM was trained on
no more. What comes after is not seen: callers who want to refuse such a prompt ask
`count_tokens`."""

CONFIG_FIELDS = tuple(BertConfig.__dataclass_fields__)
"""What config.json has to hold."""

POOLED_SCALE = 9.0
"""Length given to the sentence embedding, which comes normalised to 1: about the mean length of
the tokens' states (8.7 over a dozen prompts, single tokens 4 to 13), so that it weighs in
cross-attention as a token does."""


class MiniLM:
    """The text encoder of the pocket models."""

    def __init__(self, encoder: BertEncoder, tokenizer: Tokenizer) -> None:
        """Put a loaded encoder and its tokenizer together.

        Args:
            encoder: float32, in evaluation; on the CPU its blocks turn to float64.
            tokenizer: any truncation or padding it has set is replaced.
        """
        self._encoder = encoder.eval().requires_grad_(False)
        self._set_precision()
        self._tokenizer = tokenizer
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._cache = StateCache(self._encode_one)

    @classmethod
    def load(cls, folder: str | Path, device: torch.device | str = "cpu") -> "MiniLM":
        """Load from a folder made by convert_minilm.

        Args:
            folder: holds model.safetensors, config.json and tokenizer.json.
            device: where it runs.

        Returns:
            The encoder, in float32.

        Raises:
            ModelNotFoundError: a file is missing.
            CheckpointError: a file is damaged, or a tensor missing or misshapen.
        """
        folder = Path(folder)
        for name in ("config.json", "model.safetensors", "tokenizer.json"):
            if not (folder / name).is_file():
                raise ModelNotFoundError(
                    f"the text encoder folder {str(folder)!r} has no {name}: get it whole again"
                )
        encoder = BertEncoder(_read_config(folder / "config.json"))
        try:
            state = load_file(folder / "model.safetensors", device=str(device))
            encoder.load_state_dict({k: v.float() for k, v in state.items()}, assign=True)
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except SafetensorError as error:
            raise CheckpointError(
                f"the weights in {str(folder)!r} are damaged ({error}): get the folder again"
            ) from error
        except RuntimeError as error:  # load_state_dict lists what is missing or misshapen
            detail = " ".join(str(error).split())
            raise CheckpointError(f"the weights in {str(folder)!r} do not fit: {detail}") from error
        except Exception as error:  # tokenizers raises nothing narrower
            raise CheckpointError(
                f"tokenizer.json in {str(folder)!r} is damaged ({error}): get the folder again"
            ) from error
        return cls(encoder, tokenizer)

    @property
    def hidden_size(self) -> int:
        """D: 384."""
        return int(self._encoder.embeddings.word_embeddings.weight.shape[1])

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self._encoder.embeddings.word_embeddings.weight.device

    def to(self, device: torch.device | str) -> "MiniLM":
        """Move to a device, in place."""
        self._encoder.to(device)
        self._set_precision()
        self._cache.clear()
        return self

    def _set_precision(self) -> None:
        """Let a CPU sum in float64: rounded to float32, no number of threads changes the states."""
        on_cpu = self.device.type == "cpu"
        self._encoder.encoder.to(torch.float64 if on_cpu else torch.float32)

    def encode(self, prompts: Sequence[str]) -> Condition:
        """Encode prompts to what the language model attends to.

        Each prompt's states are the same bits alone and in any batch.

        Args:
            prompts: B strings; of each, MAX_TOKENS tokens are read.

        Returns:
            hidden [B, L, D], mask [B, L]. State 0 is the sentence embedding times POOLED_SCALE,
            the others are the tokens' last hidden states, [CLS] and [SEP] among them.

        Raises:
            ConfigError: no prompt.
        """
        return stack_states([self._cache.get(prompt) for prompt in _some(prompts)])

    def embed(self, prompts: Sequence[str]) -> Tensor:
        """Embed prompts as sentence-transformers does, for comparing meanings by cosine.

        Args:
            prompts: B strings.

        Returns:
            [B, D], of length 1.

        Raises:
            ConfigError: no prompt.
        """
        pooled = torch.stack([self._cache.get(prompt)[0] for prompt in _some(prompts)])
        return pooled / POOLED_SCALE

    def count_tokens(self, prompts: Sequence[str]) -> list[int]:
        """Count each prompt's tokens, markers included; above MAX_TOKENS the rest is not read.

        Args:
            prompts: B strings.

        Returns:
            B counts.
        """
        return [len(self._tokenizer.encode(prompt).ids) for prompt in as_prompts(prompts)]

    def by_length(self) -> "MiniLMByLength":
        """Return the same encoder for many prompts at a time, as training has them."""
        return MiniLMByLength(self)

    def _ids(self, prompt: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(prompt).ids
        if len(ids) > MAX_TOKENS:
            ids = [*ids[: MAX_TOKENS - 1], ids[-1]]  # the closing marker stays
        return ids

    def _encode_one(self, prompt: str) -> Tensor:
        return self._encode_ids([self._ids(prompt)])[0]

    @torch.no_grad()
    def _encode_ids(self, ids: list[list[int]]) -> Tensor:
        """Encode rows of equally many tokens: [B, L, D], L one more than the tokens."""
        states = self._encoder(torch.tensor(ids, device=self.device)).float()  # [B, L - 1, D]
        pooled = F.normalize(states.mean(dim=1), dim=1) * POOLED_SCALE  # [B, D]
        return torch.cat([pooled[:, None], states], dim=1)


class MiniLMByLength:
    """MiniLM for many prompts: those of one length go through together, so none is padded.

    The states are those of `MiniLM` but for the rounding of float32, and none is remembered.
    """

    def __init__(self, encoder: MiniLM) -> None:
        """Take the encoder whose weights to use."""
        self._whole = encoder

    @property
    def hidden_size(self) -> int:
        """D: 384."""
        return self._whole.hidden_size

    def encode(self, prompts: Sequence[str]) -> Condition:
        """Encode prompts; arguments, returns and errors as `MiniLM.encode`."""
        ids = [self._whole._ids(prompt) for prompt in _some(prompts)]
        rows: dict[int, list[int]] = {}
        for row, own in enumerate(ids):
            rows.setdefault(len(own), []).append(row)
        states: list[Tensor] = [torch.empty(0)] * len(ids)
        for members in rows.values():
            found = self._whole._encode_ids([ids[row] for row in members])
            for row, own_states in zip(members, found, strict=True):
                states[row] = own_states
        return stack_states(states)


def _some(prompts: Sequence[str]) -> list[str]:
    listed = as_prompts(prompts)
    if not listed:
        raise ConfigError("no prompt to encode: give at least one")
    return listed


def _read_config(path: Path) -> BertConfig:
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        return BertConfig(**{name: raw[name] for name in CONFIG_FIELDS})
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{str(path)!r} is not a BERT configuration: {error}") from error
