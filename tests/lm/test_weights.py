import pytest
import torch
from transformers import MusicgenForCausalLM

from musicgen_rl.errors import CheckpointError, UnsupportedModelError
from musicgen_rl.lm.transformer import MusicLM
from musicgen_rl.lm.weights import (
    config_from_transformers,
    config_to_transformers,
    from_transformers,
    shapes_of,
    to_transformers,
)
from tests.equivalence.shapes import SHAPES, build_pair


@pytest.mark.parametrize("config", SHAPES.values(), ids=SHAPES.keys())
def test_weights_go_there_and_back_bit_exactly(config):
    ours, theirs = build_pair(config)
    exported = to_transformers(ours.state_dict(), config)
    assert {name: tuple(t.shape) for name, t in exported.items()} == shapes_of(config)
    for name, tensor in theirs.state_dict().items():
        assert torch.equal(exported[name], tensor), name
    back = from_transformers(exported, config)
    assert back.keys() == ours.state_dict().keys()
    assert all(torch.equal(back[n], t) for n, t in ours.state_dict().items())


@pytest.mark.parametrize("config", SHAPES.values(), ids=SHAPES.keys())
def test_config_goes_there_and_back(config):
    assert (
        config_from_transformers(config_to_transformers(config), config.text_hidden_size) == config
    )


def test_the_decoder_is_found_inside_the_whole_model():
    config = SHAPES["projected text"]
    ours, _ = build_pair(config)
    whole = {
        name if name.startswith("enc_to") else f"decoder.{name}": tensor
        for name, tensor in to_transformers(ours.state_dict(), config).items()
    } | {"text_encoder.shared.weight": torch.zeros(2), "audio_encoder.x": torch.zeros(1)}
    assert torch.equal(from_transformers(whole, config)["heads.weight"], ours.heads.weight)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda s: s.pop("lm_heads.1.weight"), "lm_heads.1.weight"),
        (lambda s: s.update({"lm_heads.1.weight": torch.zeros(3, 3)}), r"\(3, 3\)"),
        (lambda s: s.update({"stray": torch.zeros(1)}), "stray"),
        (lambda s: s["model.decoder.layer_norm.bias"].fill_(float("nan")), "nan"),
    ],
)
def test_a_damaged_checkpoint_is_refused_by_tensor_name(damage, said):
    config = SHAPES["mono"]
    state = to_transformers(MusicLM(config).state_dict(), config)
    damage(state)
    with pytest.raises(CheckpointError, match=said):
        from_transformers(state, config)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"scale_embedding": True}, "scale_embedding"),
        ({"pad_token_id": 3}, "pad_token_id 3"),
        ({"num_attention_heads": 5}, "num_heads 5"),
        ({"activation_function": "swish"}, "swish"),
    ],
)
def test_what_cannot_run_is_refused_by_name(change, said):
    fields = config_to_transformers(SHAPES["mono"]) | change
    with pytest.raises(UnsupportedModelError, match=said):
        config_from_transformers(fields)


def test_a_config_without_a_field_is_refused_by_its_name():
    fields = config_to_transformers(SHAPES["mono"])
    del fields["ffn_dim"]
    with pytest.raises(CheckpointError, match="ffn_dim"):
        config_from_transformers(fields)


def test_transformers_loads_what_we_save(tmp_path):
    import json

    from safetensors.torch import save_file

    config = SHAPES["stereo"]
    ours, theirs = build_pair(config)
    save_file(
        to_transformers(ours.state_dict(), config),
        tmp_path / "model.safetensors",
        metadata={"format": "pt"},
    )
    (tmp_path / "config.json").write_text(json.dumps(config_to_transformers(config)))
    loaded, info = MusicgenForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    for name, tensor in theirs.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
