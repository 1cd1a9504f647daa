"""T5's encoder as a text encoder, for models in MusicGen's format."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoTokenizer, T5Config, T5EncoderModel

from musicgen_rl.errors import CheckpointError, ConfigError, UnsupportedModelError
from musicgen_rl.lm.condition import Condition
from musicgen_rl.text.cache import StateCache, as_prompts, stack_states

PREFIX = "text_encoder."
"""Of the encoder's tensors in a composite MusicGen checkpoint."""

# Tied to `shared.weight`: checkpoints carry one of them, some both.
_TIED = "encoder.embed_tokens.weight"


class T5Text:
    """The text encoder of facebook/musicgen-* and of models saved like them."""

    def __init__(self, model: T5EncoderModel, tokenizer: Any, max_tokens: int) -> None:
        """Put a loaded encoder and its tokenizer together.

        Args:
            model: in evaluation.
            tokenizer: a transformers tokenizer.
            max_tokens: tokens of a prompt that are read, the end marker among them.
        """
        self._model = model.eval().requires_grad_(False)
        self._tokenizer = tokenizer
        self.max_tokens = max_tokens
        self._cache = StateCache(self._encode_one)

    @classmethod
    def from_config_and_state(
        cls,
        config: Mapping[str, Any],
        state: Mapping[str, Tensor],
        tokenizer_folder: str | Path,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> "T5Text":
        """Build from the parts of a composite checkpoint.

        Args:
            config: the `text_encoder` part of the composite's config.json.
            state: the composite's tensors, or the encoder's alone; names may carry the prefix
                `text_encoder.`, and where one does, tensors without it are left aside.
            tokenizer_folder: local folder with tokenizer.json and its configuration.
            device: where it runs.
            dtype: of the weights; the states come out in float32 whatever it is.

        Returns:
            The encoder.

        Raises:
            UnsupportedModelError: the text encoder is not a T5.
            CheckpointError: the tokenizer cannot be read, or a tensor is missing, left over or
                misshapen.
        """
        kind = config.get("model_type")
        if kind != "t5":
            raise UnsupportedModelError(
                f"the checkpoint's text encoder is {kind!r}, and only 't5' runs here"
            )
        own = {name[len(PREFIX) :]: t for name, t in state.items() if name.startswith(PREFIX)}
        own = {name: t.to(device, dtype) for name, t in (own or state).items()}
        for name, twin in (("shared.weight", _TIED), (_TIED, "shared.weight")):
            if name not in own and twin in own:
                own[name] = own[twin]
        with torch.device("meta"):  # no memory and no time for weights that are replaced at once
            model = T5EncoderModel(T5Config(**config))
        try:
            model.load_state_dict(own, assign=True)
            model.tie_weights()  # one parameter again, so that a move to a GPU moves it once
        except RuntimeError as error:  # it lists what is missing, left over or misshapen
            detail = " ".join(str(error).split())
            raise CheckpointError(f"the text encoder's weights do not fit: {detail}") from error
        tokenizer = _load_tokenizer(Path(tokenizer_folder))
        # Unset limits come as a number of thirty digits; T5 itself was trained on 512.
        return cls(model, tokenizer, min(int(tokenizer.model_max_length), 512))

    @property
    def hidden_size(self) -> int:
        """D: 768 for T5-base."""
        return int(self._model.config.d_model)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return torch.device(self._model.device)

    def to(self, device: torch.device | str) -> "T5Text":
        """Move to a device, in place."""
        self._model.to(device)
        self._cache.clear()
        return self

    def encode(self, prompts: Sequence[str]) -> Condition:
        """Encode prompts to what the language model attends to.

        Each prompt is encoded without padding, so its states are the same bits in any batch;
        transformers' MusicGen pads and then multiplies the padding's states by zero, which is
        the same result.

        Args:
            prompts: B strings; of each, max_tokens tokens are read.

        Returns:
            hidden [B, L, D] float32, zero where the mask is False; mask [B, L].

        Raises:
            ConfigError: no prompt.
        """
        listed = as_prompts(prompts)
        if not listed:
            raise ConfigError("no prompt to encode: give at least one")
        return stack_states([self._cache.get(prompt) for prompt in listed])

    def count_tokens(self, prompts: Sequence[str]) -> list[int]:
        """Count each prompt's tokens, end marker included; above max_tokens the rest is not read.

        Args:
            prompts: B strings.

        Returns:
            B counts.
        """
        listed = as_prompts(prompts)
        return [len(self._tokenizer(prompt, verbose=False).input_ids) for prompt in listed]

    @torch.no_grad()
    def _encode_one(self, prompt: str) -> Tensor:
        ids = self._tokenizer(prompt, truncation=True, max_length=self.max_tokens).input_ids
        batch = torch.tensor([ids], device=self.device)
        states: Tensor = self._model(input_ids=batch).last_hidden_state[0]  # [L, D]
        return states.float()


def _load_tokenizer(folder: Path) -> Any:
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # transformers raises what it likes: OSError, ValueError, KeyError
        detail = " ".join(str(error).split())[:300]
        raise CheckpointError(
            f"no usable tokenizer in {str(folder)!r}: it needs tokenizer.json and "
            f"tokenizer_config.json ({detail})"
        ) from error
