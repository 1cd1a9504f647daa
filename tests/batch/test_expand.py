import pytest

from musicgen_rl.batch.expand import Defaults, expand
from musicgen_rl.batch.prompts import parse
from musicgen_rl.errors import ConfigError, InputError


def items(data: bytes, kind: str = "csv", **defaults):
    return expand(parse(data, kind, "f"), Defaults(**defaults))


def test_every_prompt_at_every_position_with_the_same_noise():
    made = items(b"a\nb\n", "txt", clips=2, diversity=(0.0, 1.0), values={"seed": 9})
    assert [(i.prompt, i.diversity, i.seed, i.index) for i in made] == [
        ("a", 0.0, 9, 0), ("a", 0.0, 9, 1), ("a", 1.0, 9, 0), ("a", 1.0, 9, 1),
        ("b", 0.0, 9, 0), ("b", 0.0, 9, 1), ("b", 1.0, 9, 0), ("b", 1.0, 9, 1),
    ]  # fmt: skip


def test_a_line_overrides_what_the_command_says():
    made = items(
        b"id,prompt,seed,n,diversity,guidance\nx,a,4,1,0.5,2\ny,b,,,,\n",
        clips=2, values={"seed": 9, "guidance_scale": 3.0},
    )  # fmt: skip
    assert [(i.name, i.seed, i.index, i.diversity, i.guidance_scale) for i in made] == [
        ("x", 4, 0, 0.5, 2.0), ("y", 9, 0, None, 3.0), ("y", 9, 1, None, 3.0)
    ]  # fmt: skip


def test_a_prompt_given_twice_gets_further_variations():
    made = items(b"a\nb\na\n", "txt", clips=2)
    assert [(i.prompt, i.index) for i in made] == [
        ("a", 0), ("a", 1), ("b", 0), ("b", 1), ("a", 2), ("a", 3)
    ]  # fmt: skip


def test_a_prompt_given_twice_with_other_settings_keeps_its_noise():
    made = items(b"prompt,guidance\na,1\na,3\n")
    assert [(i.guidance_scale, i.index) for i in made] == [(1.0, 0), (3.0, 0)]


def test_facts_go_along():
    (made,) = items(b"prompt,style,split\na,pop,test\n")
    assert (made.attributes, made.split) == ({"style": "pop"}, "test")


@pytest.mark.parametrize(
    ("data", "error", "says"),
    [
        (b"prompt,diversity\na,2\n", ConfigError, "f, line 2: diversity must be between 0 and 1"),
        (b"prompt,duration\na,1e9\n", ConfigError, "f, line 2: duration must be between"),
        (b"prompt,n\na,0\n", ConfigError, "f, line 2: clips_per_prompt"),
        (b"prompt,split\na,dev\n", ConfigError, "f, line 2: unknown split"),
        (b"prompt\n" + b"x" * 3000, InputError, "f, line 2: the prompt has 3000 characters"),
    ],
)
def test_values_out_of_range_name_their_line(data, error, says):
    with pytest.raises(error) as told:
        items(data)
    assert says in str(told.value)
