"""Whose weights a study's clips come from, as it is written down and held to."""

import json

import pytest

from musicgen_rl.errors import InputError
from musicgen_rl.listening.origin import WEIGHTS_FILE, claim_weights

FIRST = {"decoder": 64 * "a", "codec": 64 * "b"}
ENDS = {"quality end": 64 * "c", "diversity end": 64 * "d"}


def test_the_first_models_are_written_down_and_others_join_them(tmp_path):
    path = claim_weights(tmp_path, {"one": FIRST})
    assert path == tmp_path / WEIGHTS_FILE
    claim_weights(tmp_path, {"one": FIRST | ENDS, "two": FIRST})  # now on its dial
    claim_weights(tmp_path, {"two": FIRST})
    assert json.loads(path.read_text()) == {"one": FIRST | ENDS, "two": FIRST}


def test_the_model_and_the_part_that_changed_are_named_and_nothing_is_written(tmp_path):
    path = claim_weights(tmp_path, {"one": FIRST, "two": FIRST | ENDS})
    before = path.read_text()
    changed = FIRST | ENDS | {"diversity end": 64 * "e"}
    words = (
        "^the model 'two' is not the one .* its diversity end had sha256 dddddddddddd, now "
        f"eeeeeeeeeeee; put that back, or delete '{path}' to make all clips of models anew$"
    )
    with pytest.raises(InputError, match=words):
        claim_weights(tmp_path, {"three": FIRST, "two": changed})
    assert path.read_text() == before


def test_a_damaged_record_says_the_way_out(tmp_path):
    (tmp_path / WEIGHTS_FILE).write_text("{")
    with pytest.raises(InputError, match=r"cannot be read .* delete '.*weights\.json'"):
        claim_weights(tmp_path, {"one": FIRST})
