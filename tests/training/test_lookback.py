from pathlib import Path

import pytest
import torch
from torch import Tensor

from musicgen_rl.config import LMConfig
from musicgen_rl.errors import ConfigError
from musicgen_rl.lm.condition import Condition
from musicgen_rl.lm.delay import apply_delay, shift_right
from musicgen_rl.lm.transformer import Block, MusicLM
from musicgen_rl.training.lm_loss import token_losses
from musicgen_rl.training.lookback import Lookback, build_lookback, flattest_heads, main

CONFIG = LMConfig(
    hidden_size=192, num_layers=3, num_heads=6, ffn_size=64, num_codebooks=2, codebook_size=32,
    text_hidden_size=8, max_frames=128,
)  # fmt: skip
HOW = Lookback(pairs=16, codebooks=2)


@pytest.fixture
def lm() -> MusicLM:
    torch.manual_seed(3)
    model = MusicLM(CONFIG).eval()
    torch.nn.init.normal_(model.embed.weight, std=0.35)
    return model


def text(rows: int) -> Condition:
    return Condition(torch.zeros(rows, 1, 8), torch.zeros(rows, 1, dtype=torch.bool))


def crops(rows: int, frames: int, loop: int | None = None) -> Tensor:
    codes = torch.randint(32, (rows, 2, frames), generator=torch.Generator().manual_seed(5))
    return codes[:, :, torch.arange(frames) % loop] if loop else codes


def given(codes: Tensor) -> tuple[Tensor, Tensor]:
    """Targets and inputs of codes."""
    targets = apply_delay(codes, CONFIG.pad_token)
    return targets, shift_right(targets, CONFIG.pad_token)


def built(lm: MusicLM, how: Lookback = HOW) -> MusicLM:
    build_lookback(lm, given(crops(24, 96))[1], text(24), how)
    return lm


@torch.no_grad()
def gain(lm: MusicLM, loop: int = 30) -> float:
    """How much easier the second playing of a loop is than the first, nats a code."""
    targets, tokens = given(crops(16, 2 * loop, loop))
    losses = token_losses(lm(tokens, text(16)), targets, CONFIG.pad_token)[..., :60].mean((0, 1))
    return float(losses[4:loop].mean() - losses[loop + 4 :].mean())


def test_loops_become_easier_the_second_time(lm: MusicLM) -> None:
    assert abs(gain(lm)) < 0.05
    assert gain(built(lm)) > 0.2


def test_the_first_block_looks_one_and_two_places_back(lm: MusicLM) -> None:
    _, tokens = given(crops(4, 60))
    first = lm.blocks[0]
    assert isinstance(first, Block)
    told = flattest_heads(first, lm.embedded(tokens), 2)
    built(lm)
    with torch.no_grad():
        q, k, _ = first.split_heads(first.self_qkv(first.self_norm(lm.embedded(tokens))), 3)
    seen = (q @ k.mT / 32**0.5).masked_fill(torch.ones(61, 61).triu(1).bool(), -1e9).softmax(-1)
    for lag in (1, 2):
        on_it = max(float(seen[:, head].diagonal(-lag, 1, 2)[:, 10:].mean()) for head in range(6))
        assert on_it > 0.9
    assert len(set(told)) == 2


def test_directions_that_places_do_not_tell_apart_stay_small(lm: MusicLM) -> None:
    """Sixty places leave most of 192 directions open to whatever is fitted by them."""
    build_lookback(lm, given(crops(1, 60))[1], text(1), HOW)
    fitted = [p.detach() for n, p in lm.named_parameters() if n.endswith("self_qkv.weight")]
    assert len(fitted) == 3
    assert max(float(weight.abs().max()) for weight in fitted) < 5


def test_positions_are_left_to_themselves(lm: MusicLM) -> None:
    built(lm)
    fast = torch.cat([torch.arange(16), torch.arange(16) + 96])
    weight = lm.embed.weight.detach()
    assert float(weight[:, fast].abs().max()) == 0.0
    assert int((weight.abs().sum(0) > 0).sum()) == 192 - 32


def test_the_flattest_head_is_the_one_that_looks_everywhere_alike(lm: MusicLM) -> None:
    first = lm.blocks[0]
    assert isinstance(first, Block)
    with torch.no_grad():
        first.self_qkv.weight *= 10.0
        first.self_qkv.weight[4 * 32 : 5 * 32] = 0.0
    assert flattest_heads(first, lm.embedded(given(crops(2, 60))[1]), 1) == [4]


@pytest.mark.parametrize(
    ("how", "words"),
    [
        (Lookback(matching={3: 1}), "the model has blocks 0 to 2"),
        (Lookback(matching={0: 1}), "block 0 tells what stood before"),
        (Lookback(matching={1: 4}), "need a model of 8 heads a block, not 6"),
        (Lookback(codebooks=3), "codebooks 3: the model has 2"),
    ],
)
def test_models_it_does_not_fit_are_refused(lm: MusicLM, how: Lookback, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        built(lm, how)


def test_mistakes_are_one_line_and_exit_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pocket", "--tokens", str(tmp_path / "none"), "--out", str(tmp_path / "x")]) == 2
    assert main(["pocket", "--tokens", str(tmp_path), "--out", str(tmp_path)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "is there already" in lines[1]
