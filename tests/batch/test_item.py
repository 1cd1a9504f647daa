import json
from dataclasses import replace

import pytest

from musicgen_rl.audio.loudness import LoudnessConfig
from musicgen_rl.batch import Item
from musicgen_rl.errors import ConfigError, InputError

FULL = Item(
    prompt="slow piano", seed=3, index=2, duration_s=4.5, diversity=0.5, merge_method="liti",
    merge_strength=0.7, guidance_scale=2.0, guidance_s=1.5, temperature=0.9, top_k=50, top_p=0.8,
    negative_prompt="drums", loudness=LoudnessConfig(target_lufs=-20), model="m", name="a",
    split="valid", attributes={"style": "pop"},
)  # fmt: skip


@pytest.mark.parametrize("item", [Item(prompt="p"), FULL])
def test_an_item_survives_json(item):
    assert Item.from_json(json.loads(json.dumps(item.to_json()))) == item


def test_json_holds_only_what_was_set():
    assert Item(prompt="p", seed=4).to_json() == {"prompt": "p", "seed": 4}


def test_a_field_of_a_newer_version_is_refused():
    with pytest.raises(ConfigError, match="'tempo'"):
        Item.from_json({"prompt": "p", "tempo": 90})


@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        ({"prompt": " "}, InputError, "empty"),
        ({"duration_s": 0}, ConfigError, "duration"),
        ({"diversity": 1.5}, ConfigError, "diversity"),
        ({"merge_method": "mix"}, ConfigError, "mix"),
        ({"guidance_scale": -1}, ConfigError, "guidance_scale"),
        ({"guidance_s": -1}, ConfigError, "guidance_s"),
        ({"guidance_scale": 1.0, "guidance_s": 1.0}, ConfigError, "guidance_s needs guidance"),
        ({"top_p": 0}, ConfigError, "top_p"),
        ({"seed": -1}, ConfigError, "seed"),
        ({"split": "dev"}, ConfigError, "dev"),
        ({"model": ""}, ConfigError, "model"),
        ({"negative_prompt": "\0", "guidance_scale": 3.0}, InputError, "not text"),
        ({"attributes": {"x": object()}}, InputError, "attributes"),
        ({"attributes": {"x": float("nan")}}, InputError, "attributes"),
    ],
)
def test_what_cannot_work_is_refused_when_it_is_made(wrong, error, says):
    with pytest.raises(error, match=says):
        Item(**({"prompt": "p"} | wrong))


def test_the_request_takes_every_field_of_the_sound():
    request = FULL.request()
    assert (request.duration_s, request.seed, request.first_index) == (4.5, 3, 2)
    assert (request.diversity, request.merge_method, request.merge_strength) == (0.5, "liti", 0.7)
    assert request.loudness.target_lufs == -20
    assert FULL.named_sampling() == {
        "guidance_scale": 2.0, "guidance_s": 1.5, "temperature": 0.9, "top_k": 50, "top_p": 0.8,
        "negative_prompt": "drums",
    }  # fmt: skip


def test_the_sound_is_blind_to_names_and_facts_and_to_nothing_else():
    assert replace(FULL, name="b", split="test", attributes={}).sound() == FULL.sound()
    for change in ({"prompt": "q"}, {"seed": 4}, {"top_p": 0.7}, {"model": "n"}):
        assert replace(FULL, **change).sound() != FULL.sound()


def test_the_strength_counts_only_for_liti():
    assert replace(FULL, merge_method="slerp").merge() == ("slerp", 0.0)
    assert FULL.merge() == ("liti", 0.7)
    assert replace(FULL, diversity=None).merge() is None


def test_facts_are_taken_over_and_the_sound_stays():
    one = Item(prompt="p", seed=3, name="a", attributes={"live": 1, "range": (1, 2)})
    other = Item(prompt="q", name="b", split="test", attributes={"live": True})
    taken = one.with_facts_of(other)
    assert (taken.name, taken.split, taken.attributes) == ("b", "test", {"live": True})
    assert taken.sound() == one.sound()
    assert one.with_facts_of(Item.from_json(json.loads(json.dumps(one.to_json())))) is one
    assert one.with_facts_of(replace(one, attributes={"live": True, "range": (1, 2)})) is not one
