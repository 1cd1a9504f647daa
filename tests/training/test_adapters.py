import pytest
import torch

from musicgen_rl.training.adapters import Student
from musicgen_rl.training.rollout import decode_by, narrowed
from tests.training.endpoint_fakes import LM, HashText, small_lm


def test_an_adapter_is_pefts_and_its_actor_decodes_the_same() -> None:
    student = Student(LM, small_lm(1).state_dict(), train="low-rank", rank=3, train_norms=True)
    with torch.no_grad():
        for parameter in student.parameters.values():
            parameter.add_(0.1 * torch.randn_like(parameter))
    student.sync_actor()
    tokens = torch.randint(40, (2, 3, 6))
    condition = HashText().encode(["a", "b"])
    found = [m(tokens, condition) for m in (student.model, student.actor)]
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-4)
    names = set(student.parameters)
    assert {n for n in names if n.endswith("norm.weight")}
    assert all("lora_" in n or "norm" in n for n in names)
    assert sum("lora_A" in n for n in names) == 7 * LM.num_layers
    plain = small_lm(1)(tokens, condition)
    assert not torch.allclose(found[0], plain, atol=1e-2)


@pytest.mark.parametrize("train", ["all", "norms"])
def test_an_actor_in_bfloat16_rounds_as_the_losss_pass_does(train: str) -> None:
    student = Student(LM, small_lm(1).state_dict(), train=train, actor_dtype=torch.bfloat16)
    with torch.no_grad():
        for parameter in student.parameters.values():
            parameter.add_(0.01 * torch.randn_like(parameter))
    student.sync_actor()
    assert narrowed(student.actor)
    assert not narrowed(student.model)
    tokens = torch.randint(40, (2, 3, 6))
    condition = HashText().encode(["a", "b"])
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        passed, acted = (m(tokens, condition).float() for m in (student.model, student.actor))
        runner = decode_by(student.actor)(2, 8, condition.mask.shape[1])
        assert runner.cache.dtype == torch.bfloat16
        runner.begin(condition)
        runner.prefill(tokens[..., :5])
        decoded = runner.step(tokens[..., 5])
    wide = student.model(tokens, condition).detach()
    assert float((wide - passed).abs().max()) > 1e-3  # bfloat16 is heard of at all
    assert torch.equal(passed, acted)
    torch.testing.assert_close(acted[:, :, -1], decoded, rtol=0, atol=0.05)
