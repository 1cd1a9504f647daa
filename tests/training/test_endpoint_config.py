import math

import pytest

from musicgen_rl.cli.train_endpoints import asks_auto, config_of
from musicgen_rl.config import field_help
from musicgen_rl.errors import ConfigError
from musicgen_rl.training.endpoint_config import (
    AUTO,
    ENDS,
    TO_BE_FOUND,
    EndpointConfig,
    preset_names,
    read_preset,
    without_auto,
)


@pytest.mark.parametrize(("changes", "message"), [
    ({"diversity_weight": -1.0}, "diversity_weight must be 0 .*got -1.0"),
    ({"diversity_weight": math.nan}, "diversity_weight must be 0 .*got nan"),
    ({"clips_per_prompt": 1}, "clips_per_prompt must be at least 2 .*got 1"),
    ({"credit": "clip", "baseline": "pairs", "clips_per_prompt": 2}, "needs clips_per_prompt >= 3"),
    ({"prompts_per_step": 0}, "prompts_per_step must be >= 1"),
    ({"gae_lambda": 1.5}, "gae_lambda must be between 0 and 1"),
    ({"credit": "token"}, "credit must be critic, clip, got 'token'"),
    ({"train": "lora"}, "train must be all, low-rank, norms"),
    ({"codebook_weights": "1,x"}, "codebook_weights takes numbers"),
    ({"codebook_weights": "0,0"}, "not all of them 0"),
    ({"reward_codebooks": -1}, "reward_codebooks must be 0 or more"),
    ({"start_blend": 0.3}, "multiple of 1/256"),
    ({"temperature": 0.0}, "temperature must be between 0.05"),
])  # fmt: skip
def test_what_cannot_work_is_refused_in_one_sentence(changes, message):
    with pytest.raises(ConfigError, match=message) as caught:
        EndpointConfig(**changes)
    assert "\n" not in str(caught.value)


def test_codebook_weights_go_on_with_the_last():
    assert EndpointConfig().weights_of(4) is None
    assert EndpointConfig(codebook_weights="1, .5").weights_of(4) == [1.0, 0.5, 0.5, 0.5]
    assert EndpointConfig(codebook_weights="1,.5,.2").weights_of(2) == [1.0, 0.5]


@pytest.mark.parametrize("name", preset_names())
@pytest.mark.parametrize("end", ENDS)
def test_every_preset_is_a_config_of_its_end(name, end):
    config = EndpointConfig(**without_auto(read_preset(name, end)))
    assert (config.diversity_weight > 0) == (end == "diversity")


def test_the_presets_that_are_promised_are_there():
    assert preset_names() == ["musicgen-large", "musicgen-small", "pocket", "pocket-gpu"]
    with pytest.raises(ConfigError, match="unknown preset 'huge': use musicgen-large"):
        read_preset("huge", "quality")


def test_what_the_user_says_stands_above_the_preset():
    plain = config_of("pocket", "quality", {"learning_rate": None})
    assert plain.learning_rate == read_preset("pocket", "quality")["learning_rate"]
    assert config_of("pocket", "quality", {"learning_rate": 1e-5}).learning_rate == 1e-5
    assert config_of("pocket", "quality", {"steps": 7}).minutes == 0.0  # not the preset's minutes
    assert config_of(None, "quality", {}).minutes == EndpointConfig().minutes


def test_a_weight_to_be_found_is_told_apart_from_one_that_is_given():
    for preset in ("musicgen-small", "musicgen-large"):
        assert asks_auto(preset, "diversity", {})
        assert not asks_auto(preset, "quality", {})
        assert not asks_auto(preset, "diversity", {"diversity_weight": 20.0})
        assert config_of(preset, "diversity", {}).diversity_weight == TO_BE_FOUND
        assert config_of(preset, "diversity", {"diversity_weight": 20.0}).diversity_weight == 20.0
        assert config_of(preset, "diversity", {}).rank == 4  # as docs/training.md advises
    assert not asks_auto("pocket", "diversity", {})
    assert asks_auto("pocket", "diversity", {"diversity_weight": AUTO})
    with pytest.raises(ConfigError, match=r"diversity_weight must be 0 .*got 'auto'"):
        EndpointConfig(diversity_weight=AUTO)  # type: ignore[arg-type]


def test_every_field_has_a_help_text():
    assert set(field_help(EndpointConfig)) == set(vars(EndpointConfig()))
