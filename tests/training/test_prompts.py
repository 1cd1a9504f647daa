import json
from pathlib import Path

import pytest

from musicgen_rl.errors import InputError
from musicgen_rl.training.prompts import prompts_of_step, read_prompts, require_enough


def test_a_text_file_has_one_prompt_a_line(tmp_path: Path) -> None:
    file = tmp_path / "p.txt"
    file.write_text("# comment\n slow piano \n\nfast drums\nslow piano\n", encoding="utf-8")
    assert read_prompts(file) == ["slow piano", "fast drums"]


def test_a_manifest_gives_the_captions_of_its_train_split(tmp_path: Path) -> None:
    file = tmp_path / "m.jsonl"
    rows = [
        {"audio": "a", "captions": ["one", "two"], "split": "train"},
        {"audio": "b", "captions": ["three"], "split": "valid"},
        {"audio": "c", "caption": "four"},
    ]
    file.write_text("\n".join(map(json.dumps, rows)))
    assert read_prompts(file) == ["one", "two", "four"]
    assert read_prompts(file, "valid") == ["three", "four"]


@pytest.mark.parametrize(("name", "content", "message"), [
    ("p.txt", "\n# only a comment\n", "holds no prompt"),
    ("m.jsonl", '{"captions": ["a"], "split": "valid"}', 'no prompt of split "train"'),
    ("m.jsonl", '{"captions": ["a"]}\nnot json', r"m.jsonl, line 2: not JSON"),
    ("m.jsonl", '{"audio": "a.wav"}', r'm.jsonl, line 1: no "captions"'),
    ("m.jsonl", "[1]", r"m.jsonl, line 1: not a JSON object"),
    ("m.jsonl", '{"caption": "a", "caption": "b"}', "line 1: the key 'caption' is given twice"),
    ("p.txt", b"ok\n\xff\xfe\x00", "p.txt, line 2: not UTF-8 text: save"),
])  # fmt: skip
def test_a_file_that_cannot_be_used_is_named(tmp_path, name, content, message):
    file = tmp_path / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=message):
        read_prompts(file)


def test_a_mark_before_the_first_line_is_no_part_of_a_prompt(tmp_path: Path) -> None:
    file = tmp_path / "p.txt"
    file.write_bytes(b"\xef\xbb\xbfcalm piano\r\nloud drums\r\n")
    assert read_prompts(file) == ["calm piano", "loud drums"]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read .*gone.txt: No such file"):
        read_prompts(tmp_path / "gone.txt")


def test_every_prompt_comes_once_before_any_comes_again() -> None:
    steps = [prompts_of_step(3, step, 2, 6) for step in range(6)]
    assert sorted(steps[0] + steps[1] + steps[2]) == list(range(6))
    assert sorted(steps[3] + steps[4] + steps[5]) == list(range(6))
    assert steps[:3] != steps[3:]
    assert prompts_of_step(3, 4, 2, 6) == steps[4]  # by the step's number alone
    assert prompts_of_step(4, 4, 2, 6) != steps[4] or prompts_of_step(4, 3, 2, 6) != steps[3]


def test_one_prompt_for_two_is_too_few() -> None:
    with pytest.raises(InputError, match=r"f\.txt holds 1 different prompt, a step takes 2"):
        require_enough(["a"], 2, "f.txt")
    require_enough(["a", "b"], 2, "f.txt")
