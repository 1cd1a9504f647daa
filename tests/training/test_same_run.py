from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from musicgen_rl.errors import CheckpointError
from musicgen_rl.training.checkpointing import save_training_state
from musicgen_rl.training.codec import CodecTrainConfig
from musicgen_rl.training.endpoint_config import EndpointConfig
from musicgen_rl.training.pretrain_config import ContrastConfig, PretrainConfig
from musicgen_rl.training.reward_encoder import EncoderTrainConfig, begun_with
from musicgen_rl.training.reward_probe import ProbeTrainConfig
from musicgen_rl.training.reward_scorer import ScorerTrainConfig
from musicgen_rl.training.same_run import (
    hash_part,
    require_kind,
    require_same_options,
    require_same_parts,
)

RUN = Path("run")


@dataclass(frozen=True, kw_only=True)
class Options:
    share: float = 0.5
    size: int = 8
    word: str = "a"
    rate: float = 0.1


def test_what_may_change_is_not_looked_at() -> None:
    before = asdict(Options(rate=0.2))
    require_same_options(RUN, before, Options(), {"rate"})
    with pytest.raises(CheckpointError, match=r"begun with rate 0\.2, now 0\.1: "):
        require_same_options(RUN, before, Options(), {"size"})


def test_all_that_differs_is_named_with_both_values_in_one_line() -> None:
    before = asdict(Options(share=0.25, word="b"))
    with pytest.raises(CheckpointError) as caught:
        require_same_options(RUN, before, Options(), ())
    assert str(caught.value) == (
        "run was begun with share 0.25, now 0.5, and with word 'b', now 'a': give what it was "
        "begun with, or train into a new folder"
    )


def test_options_that_a_state_does_not_tell_of_had_their_default() -> None:
    told = {name: value for name, value in asdict(Options()).items() if name != "share"}
    require_same_options(RUN, told, Options(), ())
    with pytest.raises(CheckpointError, match=r"share 0\.5, now 0\.3"):
        require_same_options(RUN, told, Options(share=0.3), ())
    require_same_options(RUN, told | {"gone": 3}, Options(), ())


WAYS = {"codec": "name that codec", "start": "begin so", "prompts": "give that file"}


def test_parts_are_told_apart_by_their_identity() -> None:
    then = {"codec": "0123456789abcdef", "prompts": "some (words, of 2019-01-01)"}
    require_same_parts(RUN, then, dict(then), WAYS)
    with pytest.raises(CheckpointError) as caught:
        require_same_parts(RUN, then, then | {"codec": "f" * 64}, WAYS)
    assert str(caught.value) == (
        "run was begun with another codec (0123456789ab, now ffffffffffff): name that codec, or "
        "train into a new folder"
    )
    with pytest.raises(CheckpointError, match=r"other prompts \(some \(words, of 2019-01-01\), "):
        require_same_parts(RUN, then, then | {"prompts": "others"}, WAYS)


@pytest.mark.parametrize(("then", "now"), [({}, {"codec": "a"}), ({"codec": "a"}, {}),
                                           ({"codec": None}, {"codec": "a"}),
                                           ({"codec": "a"}, {"codec": None})])  # fmt: skip
def test_what_is_not_known_is_taken_at_its_word(then: dict, now: dict) -> None:
    require_same_parts(RUN, then, now, WAYS)


def test_none_may_say_that_there_is_none() -> None:
    for then, now in ((None, "a"), ("a", None)):
        with pytest.raises(CheckpointError, match="another start"):
            require_same_parts(RUN, {"start": then}, {"start": now}, WAYS, or_none=("start",))
    require_same_parts(RUN, {"start": None}, {"start": None}, WAYS, or_none=("start",))


def test_a_parts_hash_is_of_its_files_but_for_what_is_for_people(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_text("first")
    bare = hash_part(tmp_path)
    (tmp_path / "README.md").write_text("For people.")
    assert hash_part(tmp_path) == bare
    (tmp_path / "model.safetensors").write_text("second")
    assert hash_part(tmp_path) != bare


OLD: dict[str, dict[str, Any]] = {
    "lm": {"config": asdict(PretrainConfig()), "begun_with": {"codec": "a", "start": None}},
    "contrast": {"config": asdict(ContrastConfig()), "begun_with": {"codec": "a"}},
    "endpoints": {"config": asdict(EndpointConfig())},
    "codec": {"config": asdict(CodecTrainConfig(manifest="m", folder="f"))},
    "encoder": {"begun_with": begun_with(EncoderTrainConfig()) | {"pieces": 8}},
    "scorer": {"begun_with": begun_with(ScorerTrainConfig()) | {"pieces": 8}},
    "probe": {"begun_with": begun_with(ProbeTrainConfig()) | {"pieces": 8}},
}
"""What a state held of each kind of run before it named its kind."""


@pytest.mark.parametrize("kind", sorted(OLD))
@pytest.mark.parametrize("named", [True, False])
def test_a_folder_goes_on_as_the_kind_of_run_that_lies_there_alone(
    tmp_path: Path, kind: str, named: bool
) -> None:
    state = OLD[kind] | ({"kind": kind} if named else {})
    place = tmp_path / "state" if kind in ("lm", "contrast", "endpoints") else tmp_path
    save_training_state(place, {"weight": torch.zeros(1)}, state)
    require_kind(tmp_path, kind)
    for other in OLD.keys() - {kind}:
        with pytest.raises(CheckpointError) as caught:
            require_kind(tmp_path, other)
        assert str(caught.value) == (
            f"{tmp_path} holds a run of `train {kind}`, not of `train {other}`: go on with that "
            "command, or train into a new folder"
        )


def test_a_folder_without_a_state_is_of_every_kind(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "not there"):
        require_kind(folder, "lm")
        require_kind(folder, "codec")


def test_a_state_of_no_run_is_refused(tmp_path: Path) -> None:
    save_training_state(tmp_path, {"hidden": torch.zeros(1)}, {"captions": ["a"], "encoder": "b"})
    with pytest.raises(CheckpointError, match="a state that is of no run: train encoder into a"):
        require_kind(tmp_path, "encoder")
