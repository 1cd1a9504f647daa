"""T5 in MusicGen's way: ours against transformers' on a random tiny one."""

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

from musicgen_rl.errors import CheckpointError, ConfigError, UnsupportedModelError
from musicgen_rl.text.t5 import T5Text

WORDS = ["<pad>", "</s>", "<unk>", "slow", "sad", "piano", "upbeat", "drums", "jazz"]
PROMPTS = ["slow sad piano", "jazz", "upbeat jazz drums piano slow", "something unknown"]
CONFIG = T5Config(
    vocab_size=len(WORDS), d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2, dropout_rate=0.1
)


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory) -> Path:
    tokenizer = Tokenizer(WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    folder = tmp_path_factory.mktemp("tokenizer")
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=8,
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def theirs() -> T5EncoderModel:
    torch.manual_seed(1)
    model = T5EncoderModel(CONFIG).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return model


def composite(model: T5EncoderModel) -> dict[str, torch.Tensor]:
    state = {f"text_encoder.{name}": tensor for name, tensor in model.state_dict().items()}
    return state | {"decoder.weight": torch.zeros(2), "audio_encoder.weight": torch.zeros(3)}


@pytest.fixture(scope="module")
def ours(theirs, tokenizer_folder) -> T5Text:
    return T5Text.from_config_and_state(CONFIG.to_dict(), composite(theirs), tokenizer_folder)


def test_states_equal_transformers_padded_and_masked(ours, theirs, tokenizer_folder):
    tokenizer = PreTrainedTokenizerFast.from_pretrained(tokenizer_folder)
    batch = tokenizer(PROMPTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        want = theirs(
            input_ids=batch.input_ids, attention_mask=batch.attention_mask
        ).last_hidden_state
    want = want * batch.attention_mask[..., None]  # as transformers' MusicGen does
    condition = ours.encode(PROMPTS)
    assert torch.equal(condition.mask, batch.attention_mask.bool())
    torch.testing.assert_close(condition.hidden, want, atol=1e-5, rtol=0)
    assert condition.hidden.abs().max() > 0.1


def test_a_prompts_states_are_the_same_bits_in_any_batch(ours, theirs, tokenizer_folder):
    fresh = T5Text.from_config_and_state(CONFIG.to_dict(), composite(theirs), tokenizer_folder)
    alone = fresh.encode(PROMPTS[:1]).hidden
    assert torch.equal(ours.encode(PROMPTS).hidden[:1, : alone.shape[1]], alone)


@pytest.mark.parametrize("kept", ["shared.weight", "encoder.embed_tokens.weight", None])
def test_the_tied_embedding_may_be_stored_under_either_name(theirs, tokenizer_folder, ours, kept):
    state = theirs.state_dict()
    names = {"shared.weight", "encoder.embed_tokens.weight"}
    for name in names - {kept} if kept else set():
        state.pop(name, None)
    if kept:
        state[kept] = theirs.shared.weight
    loaded = T5Text.from_config_and_state(CONFIG.to_dict(), state, tokenizer_folder)
    assert torch.equal(loaded.encode(PROMPTS).hidden, ours.encode(PROMPTS).hidden)
    assert loaded._model.shared.weight is loaded._model.encoder.embed_tokens.weight


def test_half_precision_weights_give_float_states(theirs, tokenizer_folder):
    half = T5Text.from_config_and_state(
        CONFIG.to_dict(), composite(theirs), tokenizer_folder, dtype=torch.bfloat16
    )
    assert half._model.shared.weight.dtype == torch.bfloat16
    assert half.encode(["jazz"]).hidden.dtype == torch.float32


def test_tokens_are_counted_and_cut_at_the_tokenizers_limit(ours):
    assert (ours.hidden_size, ours.max_tokens, ours.device.type) == (16, 8, "cpu")
    long = "piano " * 20
    assert ours.count_tokens(["piano", long]) == [2, 21]
    assert ours.encode([long]).hidden.shape == (1, 8, 16)


def test_without_a_limit_of_the_tokenizers_it_is_t5s(theirs, tokenizer_folder, tmp_path):
    tokenizer = PreTrainedTokenizerFast.from_pretrained(tokenizer_folder, model_max_length=10**30)
    tokenizer.save_pretrained(tmp_path)
    loaded = T5Text.from_config_and_state(CONFIG.to_dict(), theirs.state_dict(), tmp_path)
    assert loaded.max_tokens == 512


def test_a_string_is_one_prompt_and_none_is_refused(ours):
    assert torch.equal(ours.encode("jazz").hidden, ours.encode(["jazz"]).hidden)
    assert ours.count_tokens("jazz") == [2]
    with pytest.raises(ConfigError, match="at least one"):
        ours.encode([])


def test_moving_keeps_the_states(ours):
    before = ours.encode(["jazz"]).hidden
    assert torch.equal(ours.to("cpu").encode(["jazz"]).hidden, before)


def test_another_kind_of_text_encoder_is_refused_by_name(tokenizer_folder):
    with pytest.raises(UnsupportedModelError, match="'bert', and only 't5'"):
        T5Text.from_config_and_state({"model_type": "bert"}, {}, tokenizer_folder)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"text_encoder.encoder.final_layer_norm.weight": None}, "final_layer_norm"),
        ({"text_encoder.encoder.final_layer_norm.weight": torch.ones(3)}, r"\[3\]"),
        ({"text_encoder.shared.weight": None, "text_encoder.encoder.embed_tokens.weight": None},
         "shared.weight"),
        ({"text_encoder.surplus": torch.ones(1)}, "surplus"),
    ],
)  # fmt: skip
def test_a_missing_misshapen_or_surplus_tensor_is_named(theirs, tokenizer_folder, change, says):
    state = composite(theirs) | change
    state = {name: tensor for name, tensor in state.items() if tensor is not None}
    with pytest.raises(CheckpointError, match=says) as raised:
        T5Text.from_config_and_state(CONFIG.to_dict(), state, tokenizer_folder)
    assert "\n" not in str(raised.value)


def test_a_missing_tokenizer_is_one_sentence(theirs, tmp_path):
    with pytest.raises(CheckpointError, match=r"needs tokenizer\.json") as raised:
        T5Text.from_config_and_state(CONFIG.to_dict(), theirs.state_dict(), tmp_path)
    assert "\n" not in str(raised.value)
