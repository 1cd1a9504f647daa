from pathlib import Path

import pytest
import torch

from benchmarks import pocket_heat_loss
from benchmarks.pocket_heat_loss import markdown, measure
from musicgen_rl.errors import ConfigError
from musicgen_rl.lm.condition import Condition
from musicgen_rl.training.dataset import TokenPiece
from musicgen_rl.training.temper import temper
from tests.models import save_tiny


class Wide:
    """States of ones, as wide as the tiny model's text."""

    hidden_size = 384

    def encode(self, prompts: list[str]) -> Condition:
        hidden = torch.ones(len(prompts), 3, 384)
        return Condition(hidden, torch.ones(len(prompts), 3, dtype=torch.bool))


@pytest.fixture
def pieces() -> list[TokenPiece]:
    codes = torch.randint(0, 40, (3, 60), generator=torch.Generator().manual_seed(0))
    return [
        TokenPiece(
            codes=codes.to(torch.uint16), captions=("words",), piece="a", split="test",
            attributes={},
        )
    ]  # fmt: skip


def test_the_loss_is_measured_with_the_heat_and_without(
    tmp_path: Path, pieces: list[TokenPiece], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pocket_heat_loss.MiniLM, "load", lambda folder: Wide())
    plain = save_tiny(tmp_path / "plain")
    with pytest.raises(ConfigError, match="no temperature in its heads"):
        measure(str(plain), pieces, 1.0, 2)
    hot = temper(plain, tmp_path / "hot", [1.0, 2.0, 4.0])
    found = measure(str(hot), pieces, 1.0, 2)
    shipped, trained = found["as shipped"], found["as trained"]
    assert shipped["temperature"] == [1.0, 2.0, 4.0]
    first = [row["loss_per_codebook"][0] for row in (trained, shipped)]
    assert first[0] == pytest.approx(first[1], abs=1e-3)  # as hot as before
    uniform = torch.log(torch.tensor(40.0)).item()
    apart = [abs(row["loss_per_codebook"][2] - uniform) for row in (trained, shipped)]
    assert apart[1] < apart[0]  # hot heads are nearer to knowing nothing
    page = markdown({"model": "m", "crops": 2, "pieces": 1, "rows": found})
    assert "2 crops of 20 s of 1 held-out pieces" in page
    assert page.count("\n| ") == 1 + 3 + 1
