"""What goes with words is drawn from a layer over their meaning, and read from a model's folder."""

import pytest
import torch

from musicgen_rl.checkpoint import checkpoints_folder
from musicgen_rl.errors import CheckpointError
from musicgen_rl.storage import save_tensors
from musicgen_rl.text.key import KeySense
from musicgen_rl.text.minilm import MiniLM
from musicgen_rl.text.sense import meaning_of
from musicgen_rl.text.tempo import TempoSense


def test_a_meaning_is_the_sentences_embedding():
    text = MiniLM.load(checkpoints_folder() / "minilm")
    found = meaning_of(text, "slow sad piano")
    assert torch.allclose(found, text.embed(["slow sad piano"])[0], atol=1e-5)
    text.encode(["slow sad piano", "a much longer prompt that it stands beside"])
    assert torch.equal(found, meaning_of(text, "slow sad piano"))


def test_each_choice_has_its_share_of_the_places_and_none_lies_outside():
    sense = KeySense(2)
    with torch.no_grad():
        sense.layer.bias[:2] = torch.tensor([30.0, 30.0])
    drawn = [sense.draw(torch.zeros(2), place) for place in (0.0, 0.49, 0.51, 1.0)]
    assert drawn[:3] == [0, 0, 1]
    assert drawn[3] < sense.count


def test_what_was_saved_is_loaded_and_what_cannot_be_is_named(tmp_path):
    sense = KeySense(5)
    torch.nn.init.normal_(sense.layer.weight)
    state = sense.state_dict()
    save_tensors(dict(state), tmp_path / "scale.safetensors")
    loaded = KeySense.load(tmp_path / "scale.safetensors")
    assert torch.equal(loaded.layer.weight, sense.layer.weight)
    with pytest.raises(CheckpointError, match="is not a sense of tempo of this version"):
        TempoSense.load(tmp_path / "scale.safetensors")
    for name, wrong, said in (
        ("layer.bias", state["layer.bias"][:3], "is not a sense of key"),
        ("layer.bias", state["layer.bias"] / 0.0, "not finite"),
    ):
        save_tensors(dict(state) | {name: wrong.clone()}, tmp_path / "wrong.safetensors")
        with pytest.raises(CheckpointError, match=said):
            KeySense.load(tmp_path / "wrong.safetensors")
