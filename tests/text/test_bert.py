"""Our BERT against transformers' BertModel, on a random tiny one."""

import pytest
import torch
from transformers import BertConfig as TheirConfig
from transformers import BertModel

from musicgen_rl.errors import ConfigError
from musicgen_rl.text.bert import BertConfig, BertEncoder

NAMES = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
SHAPES = {
    "narrow": dict(zip(NAMES, (16, 2, 2, 40), strict=True)),
    "deep": dict(zip(NAMES, (24, 4, 3, 48), strict=True)),
}


def small(shape: dict[str, int]) -> BertConfig:
    return BertConfig(
        vocab_size=50, max_position_embeddings=20, type_vocab_size=2, layer_norm_eps=1e-12, **shape
    )


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_states_equal_transformers(shape):
    config = small(shape)
    theirs = BertModel(TheirConfig(**vars(config)), add_pooling_layer=False).eval()
    for parameter in theirs.parameters():  # biases and norms start at 0 and 1: make them count
        torch.nn.init.normal_(parameter, std=0.3)
    ours = BertEncoder(config)
    ours.load_state_dict(theirs.state_dict(), assign=True)
    ids = torch.randint(50, (3, 20))
    with torch.no_grad():
        want = theirs(input_ids=ids).last_hidden_state
        torch.testing.assert_close(ours(ids), want, atol=1e-5, rtol=0)
        short = theirs(input_ids=ids[:, :7]).last_hidden_state
        torch.testing.assert_close(ours(ids[:, :7]), short, atol=1e-5, rtol=0)


def test_a_shape_that_cannot_be_is_refused():
    with pytest.raises(ConfigError, match="hidden_size 16 is not a multiple"):
        small(SHAPES["narrow"] | {"num_attention_heads": 3})
    with pytest.raises(ConfigError, match="num_hidden_layers must be above 0, got 0"):
        small(SHAPES["narrow"] | {"num_hidden_layers": 0})
