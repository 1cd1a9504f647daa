"""transformers' MusicgenForCausalLM with our random weights, as candidates."""

from typing import Any

import torch

from bench.shapes import TEXT_LENGTH, random_condition, random_tokens
from bench.timing import Candidate
from musicgen_rl.lm.transformer import MusicLM
from musicgen_rl.lm.weights import config_to_transformers, to_transformers


def same_model(model: MusicLM, dtype: torch.dtype, device: str = "cpu") -> Any:
    """Load our weights into transformers' class, its default attention (SDPA)."""
    from transformers import MusicgenForCausalLM, logging
    from transformers.models.musicgen.configuration_musicgen import MusicgenDecoderConfig

    logging.set_verbosity_error()  # it warns of pad_token_id = vocab_size, MusicGen's own choice
    config = MusicgenDecoderConfig(**config_to_transformers(model.config))
    config._attn_implementation = "sdpa"  # what `from_pretrained` would choose
    with torch.device("meta"):
        theirs = MusicgenForCausalLM(config)
    # Copies, since the caller may quantize `model` in place.
    state = {n: t.to(device, dtype, copy=True)
             for n, t in to_transformers(model.state_dict(), model.config).items()}  # fmt: skip
    theirs.load_state_dict(state, assign=True, strict=False)
    table = theirs.model.decoder.embed_positions
    table.weights = table.get_embedding(table.num_positions, table.embedding_dim).to(device, dtype)
    missing = [n for n, t in theirs.named_parameters() if t.is_meta]
    assert not missing, missing
    return theirs.eval().requires_grad_(False)


def forward(
    name: str, theirs: Any, model: MusicLM, *, rows: int, context: int, steps: int, turns: int
) -> Candidate:
    """Its forward pass with its cache, and nothing else: no guidance, no sampling.

    The past is random keys and values of the right length, which takes the same time.
    """
    from transformers import DynamicCache, EncoderDecoderCache

    config, device = model.config, theirs.device
    dtype = theirs.dtype
    before = max(1, context - steps * turns // 2)
    past = EncoderDecoderCache(DynamicCache(), DynamicCache())
    shape = rows, config.num_heads, before, config.head_size
    for i in range(config.num_layers):
        keys, values = torch.randn(2, *shape, device=device, dtype=dtype)
        past.self_attention_cache.update(keys, values, i)
    tokens = random_tokens(config, rows, steps * turns).to(device)
    condition = random_condition(config, rows).to(device, dtype)
    given = iter(tokens.unbind(-1))
    mask = condition.mask.long()

    @torch.inference_mode()
    def run(count: int) -> None:
        for _ in range(count):
            out = theirs(
                input_ids=next(given).reshape(-1, 1),
                encoder_hidden_states=condition.hidden,
                encoder_attention_mask=mask,
                past_key_values=past,
                use_cache=True,
            )
            out.logits[0, 0, 0].item()  # waits for a GPU

    return Candidate(name, run, steps)


def generate(name: str, theirs: Any, *, clips: int, steps: int) -> Candidate:
    """Its `generate` with guidance 3 and top-k 250, from an empty context: its best case.

    Each turn makes the first `steps` steps of new clips. Around the decoder stand a text encoder
    and a codec so small that they take no time; `MusicgenForCausalLM.generate` itself fails with
    text states and guidance.
    """
    whole = _with_tiny_surroundings(theirs)
    pad = theirs.config.vocab_size
    text = torch.randint(2, 30, (clips, TEXT_LENGTH), device=theirs.device)

    @torch.inference_mode()
    def run(count: int) -> None:
        whole.generate(
            input_ids=text,
            attention_mask=torch.ones_like(text),
            guidance_scale=3.0,
            do_sample=True,
            top_k=250,
            max_new_tokens=count,
            decoder_start_token_id=pad,
            pad_token_id=pad,
            bos_token_id=pad,
        )

    return Candidate(name, run, steps)


def _with_tiny_surroundings(theirs: Any) -> Any:
    """Put a decoder into the whole model, `MusicgenForConditionalGeneration`."""
    from transformers import (
        EncodecConfig,
        EncodecModel,
        MusicgenForConditionalGeneration,
        T5Config,
        T5EncoderModel,
    )

    config = theirs.config
    text = T5Config(
        vocab_size=32, d_model=config.hidden_size, d_kv=8, d_ff=16, num_layers=1, num_heads=1,
        pad_token_id=0, eos_token_id=1,
    )  # fmt: skip
    bits = (config.vocab_size - 1).bit_length()
    codec = EncodecConfig(
        target_bandwidths=[config.num_codebooks * 50 * bits / 1000 + 0.001], sampling_rate=8000,
        upsampling_ratios=[8, 5, 4], num_filters=2, hidden_size=8, codebook_dim=8,
        codebook_size=config.vocab_size, normalize=False, chunk_length_s=None, audio_channels=1,
        num_lstm_layers=1,
    )  # fmt: skip
    parts = {
        "text_encoder": T5EncoderModel(text).to(theirs.device, theirs.dtype).eval(),
        "audio_encoder": EncodecModel(codec).to(theirs.device).eval(),
    }
    whole = MusicgenForConditionalGeneration(decoder=theirs, **parts).eval()
    for module in theirs.modules():  # the constructor undoes the choice that loading makes
        if hasattr(module, "config"):
            module.config._attn_implementation = "sdpa"
    return whole
