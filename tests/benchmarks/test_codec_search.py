"""More ways code nearer; what is measured is what the codec itself does."""

import torch

from benchmarks.codec_search import Searching, cost, seconds_taken, table
from musicgen_rl.codec.frame import EMPHASIS
from musicgen_rl.codec.quantizer import BEAM
from musicgen_rl.config import LMConfig
from tests.codec.tiny import sine, tiny_codec

CONFIG = LMConfig(
    hidden_size=8, num_layers=1, num_heads=1, ffn_size=8, num_codebooks=2, codebook_size=16,
    text_hidden_size=4,
)  # fmt: skip


class Sure:
    """A language model that takes every code for 3."""

    config = CONFIG

    def __call__(self, tokens, condition):
        logits = torch.zeros(*tokens.shape, 16)
        logits[..., 3] = 50.0
        return logits


def test_the_shipped_search_is_the_codecs_own():
    codec, sound = tiny_codec(), sine(300.0, 1.0, 8000)[None, None]
    shipped = Searching(codec, BEAM, EMPHASIS)
    codes = shipped.encode(sound)
    assert torch.equal(codes, codec.encode(sound))
    assert torch.equal(shipped.decode(codes), codec.decode(codes))
    assert not torch.equal(codes, Searching(codec, 1, 0.0).encode(sound))


def test_costs_are_told_of_each_codebook():
    codes = torch.full((9, 2, 5), 3)
    codes[:, 1] = 4
    first, second = cost(Sure(), codes)
    assert first < 1e-6
    assert abs(second - 50.0) < 1e-3


def test_times_are_shares_of_the_latents():
    taken = seconds_taken(tiny_codec(), sine(300.0, 1.0, 8000)[None], [1, 8])
    assert set(taken) == {1, 8}
    assert min(taken.values()) > 0


def test_the_table_tells_what_was_measured():
    row = {"ways": 8, "emphasis": 0.1, "left": 0.12, "distance": 1.3, "chroma": 0.9,
           "chroma_interval": [0.89, 0.91], "onset_f1": 0.88, "level_db": -0.5, "cost": 4.25,
           "costs": [2.2, 6.3], "own_same_first": 0.71, "own_cost": 4.75, "time": 0.68}  # fmt: skip
    said = table({"clips": 5, "pieces": 3, "own_cost_as_played": 4.4, "threads": 1, "rows": [row]})
    assert said.splitlines()[-1] == (
        "| 8 | 0.1 | 0.120 | 1.300 | 0.900 (0.890 to 0.910) | 0.880 | -0.50 | 4.250 | 2.20 | 0.71 "
        "| 4.75 | 0.68 |"
    )
