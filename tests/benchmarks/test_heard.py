"""Every prompt has styles that the probe knows, and what is counted is what the probe hears."""

import pytest
import torch
import torch.nn.functional as F

from app.words import EXAMPLES
from benchmarks.heard import WAYS, hear, render, sets, ways_of
from musicgen_rl.data.pocket.styles import STYLES
from musicgen_rl.pipeline import Pipeline


class Hears:
    """Hears house in even rows and techno in odd ones."""

    def __init__(self):
        self.classes = {"style": ["techno", "house"]}

    def log_probs(self, mono, sample_rate):
        even = (torch.arange(len(mono)) % 2 == 0).float()
        return {"style": torch.stack([1 - even, even], dim=1)}


class Embeds:
    """Tells clips apart by turns."""

    def embed(self, mono, sample_rate):
        return F.one_hot(torch.arange(len(mono)) % 2, 2).float()


def test_every_prompt_asks_for_styles_that_there_are():
    found = sets()
    assert [prompt for prompt, _ in found["examples of the page"]] == list(EXAMPLES)
    assert [prompt for prompt, _ in found["styles by name"]] == list(STYLES)
    assert all(styles and styles <= set(STYLES) for s in found.values() for _, styles in s)


def test_clips_heard_as_one_of_the_styles_are_counted(tiny_folder):
    pipeline = Pipeline.load(tiny_folder, device="cpu", dtype="int8")
    how = {"duration_s": 0.2, "seed": 7, "clips_per_prompt": 3}
    asked = ({"house"}, {"techno"}, {"house", "techno"}, {"folk"})
    found = [hear(pipeline, Hears(), Embeds(), "x", styles, **how) for styles in asked]
    assert [each["right"] for each in found] == [2, 1, 3, 0]
    assert found[0]["variety"] == pytest.approx(2 / 3)  # two of three pairs differ


def test_shares_are_of_all_clips_of_a_set():

    def heard(right, variety=0.5):
        return {"right": right, "variety": variety}

    each = {
        "waltz": dict.fromkeys(WAYS, heard(1)),
        "jazz": dict.fromkeys(WAYS, heard(4, 0.25)) | {"both": heard(2)},
    }
    about = {"model": "m", "diversity": 0.5, "variations": 4, "seconds": 10.0, "seed": 0,
             "ways": list(WAYS), "takes": [1], "louder": 1.0,
             "sets": {"styles by name": each}}  # fmt: skip
    text = render(about)
    assert "| styles by name | 0.62 | 0.62 | 0.62 | 0.38 | 0.62 | 0.62 | 8 |" in text
    assert "| styles by name, variety | 0.38 | 0.38 | 0.38 | 0.50 | 0.38 | 0.38 |  |" in text
    assert "seed 0.\n" in text
    some = render(about | {"ways": ["chords", "both"], "louder": 0.75})
    assert "seed 0, chords told 0.75 times as strongly.\n" in some
    assert some.endswith("| waltz | 1 | 1 |\n| jazz | 4 | 2 |\n")
    assert text.endswith("| waltz | 1 | 1 | 1 | 1 | 1 | 1 |\n| jazz | 4 | 4 | 4 | 2 | 4 | 4 |\n")


def test_takes_have_columns_of_their_own():
    assert list(ways_of({"ways": ["chords"], "takes": [1, 4]})) == ["chords", "chords, best of 4"]
    by = {"chords": {"right": 3, "variety": 0.5}}
    by["chords, best of 4"] = {"right": 4, "variety": 0.25}
    about = {"model": "m", "diversity": 0.5, "variations": 4, "seconds": 10.0, "seed": 0,
             "ways": ["chords"], "takes": [1, 4], "louder": 1.0,
             "sets": {"plain prompts": {"jazz": by}}}  # fmt: skip
    text = render(about)
    assert "|  | chords | chords, best of 4 | clips |" in text
    assert "| plain prompts | 0.75 | 1.00 | 4 |" in text
    assert "| plain prompts, variety | 0.50 | 0.25 |  |" in text
    assert text.endswith("| jazz | 3 | 4 |\n")


def test_what_is_held_is_played_once_more_as_the_model_begins_by_itself():
    asked = {"ways": ["free", "chords"], "takes": [1, 4], "lead": True}
    found = ways_of(asked)
    assert len(found) == 6
    assert found["free"] == ("free", {"takes": 1, "guidance_scale": 1.0})
    assert found["chords, best of 4"] == ("chords", {"takes": 4, "guidance_scale": 1.0})
    leading = ("chords", {"takes": 4, "guidance_scale": None})
    assert found["chords, best of 4, words leading"] == leading
    assert list(ways_of(asked | {"lead": False})) == list(found)[:4]
