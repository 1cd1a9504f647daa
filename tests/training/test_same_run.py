from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

from musicgen_rl.errors import CheckpointError
from musicgen_rl.training.same_run import hash_part, require_same_options, require_same_parts

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
