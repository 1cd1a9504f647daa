"""What links may begin with."""

import pytest

from musicgen_rl.errors import ConfigError
from musicgen_rl.listening.links import base_address


@pytest.mark.parametrize(
    ("given", "made"),
    [
        ("https://study.example", "https://study.example"),
        ("https://lab.example/study/", "https://lab.example/study"),
        ("http://127.0.0.1:7860", "http://127.0.0.1:7860"),
        ("http://[::1]:7860", "http://[::1]:7860"),
    ],
)
def test_an_address_loses_its_last_slash(given, made):
    assert base_address(given) == made


@pytest.mark.parametrize(
    "given",
    ["", "study.example", "ftp://study.example", "https://", "https://a b", "https://a/?x=1",
     "https://a/#x", "https://a:port", "https://anna:secret@a", "https://a\nb", "https://\u00e9"],
)  # fmt: skip
def test_what_is_no_address_is_refused(given):
    with pytest.raises(ConfigError, match="--address must be such as https:"):
        base_address(given)
