"""Every prompt has styles that the probe knows, and what is counted is what the probe hears."""

import torch

from app.words import EXAMPLES
from benchmarks.heard import WAYS, count, render, sets
from musicgen_rl.data.pocket.styles import STYLES
from musicgen_rl.pipeline import Pipeline


class Hears:
    """Hears house in even rows and techno in odd ones."""

    def __init__(self):
        self.classes = {"style": ["techno", "house"]}

    def log_probs(self, mono, sample_rate):
        even = (torch.arange(len(mono)) % 2 == 0).float()
        return {"style": torch.stack([1 - even, even], dim=1)}


def test_every_prompt_asks_for_styles_that_there_are():
    found = sets()
    assert [prompt for prompt, _ in found["examples of the page"]] == list(EXAMPLES)
    assert [prompt for prompt, _ in found["styles by name"]] == list(STYLES)
    assert all(styles and styles <= set(STYLES) for s in found.values() for _, styles in s)


def test_clips_heard_as_one_of_the_styles_are_counted(tiny_folder):
    pipeline = Pipeline.load(tiny_folder, device="cpu", dtype="int8")
    how = {"duration_s": 0.2, "seed": 7, "clips_per_prompt": 3}
    asked = ({"house"}, {"techno"}, {"house", "techno"}, {"folk"})
    assert [count(pipeline, Hears(), "x", styles, **how) for styles in asked] == [2, 1, 3, 0]


def test_shares_are_of_all_clips_of_a_set():
    each = {"waltz": dict.fromkeys(WAYS, 1), "jazz": dict.fromkeys(WAYS, 4) | {"both": 2}}
    about = {"model": "m", "diversity": 0.5, "variations": 4, "seconds": 10.0, "seed": 0,
             "ways": list(WAYS), "louder": 1.0, "sets": {"styles by name": each}}  # fmt: skip
    text = render(about)
    assert "| styles by name | 0.62 | 0.62 | 0.62 | 0.38 | 0.62 | 0.62 | 8 |" in text
    assert "seed 0.\n" in text
    some = render(about | {"ways": ["chords", "both"], "louder": 0.75})
    assert "seed 0, chords told 0.75 times as strongly.\n" in some
    assert some.endswith("| waltz | 1 | 1 |\n| jazz | 4 | 2 |\n")
    assert text.endswith("| waltz | 1 | 1 | 1 | 1 | 1 | 1 |\n| jazz | 4 | 4 | 4 | 2 | 4 | 4 |\n")
