import pytest
import torch

from musicgen_rl.training.critic import CriticTrainer, EmbeddingCritic


def test_a_critic_learns_what_the_states_tell():
    torch.manual_seed(0)
    trainer = CriticTrainer(EmbeddingCritic(6, 3, width=16), 3e-2, 40)
    e = torch.nn.functional.normalize(torch.randn(20, 3), dim=-1)
    tell = torch.cat([torch.zeros(20, 1, 6), torch.cat([e, e], 1).unsqueeze(1)], dim=1)
    trainer.update(tell, e, 0)
    figures = trainer.update(tell, e, 1)
    assert figures["critic_start"] < 0.2  # the first state tells nothing
    assert figures["critic_end"] > 0.8  # the last one all


def test_the_critic_is_judged_before_it_learns():
    trainer = CriticTrainer(EmbeddingCritic(6, 3), 1e-2, 5)
    e = torch.nn.functional.normalize(torch.randn(4, 3), dim=-1)
    figures = trainer.update(torch.randn(4, 2, 6), e, 0)
    assert abs(figures["critic_end"]) < 1e-5  # it begins at the mean, which explains nothing


def states_of(clips: int, steps: int) -> torch.Tensor:
    """Number the states: the one before step s of clip b begins with 10 b + s."""
    number = 10.0 * torch.arange(clips).view(-1, 1) + torch.arange(steps)
    return torch.cat([number.unsqueeze(-1), torch.randn(clips, steps, 5)], dim=-1)


class Listed(EmbeddingCritic):
    """Lists the numbers of the states it is fitted to, update by update."""

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        if hidden.dim() == 2:
            self.__dict__.setdefault("seen", []).append(hidden[:, 0].long().tolist())
        return super().forward(hidden)


def test_every_state_is_learnt_from_once_a_pass_in_an_order_of_its_own() -> None:
    critic = Listed(6, 3, width=8)
    CriticTrainer(critic, 1e-2, epochs=2, rows=4).update(states_of(3, 4), torch.randn(3, 3), 0)
    seen = critic.__dict__["seen"]
    assert [len(part) for part in seen] == [4, 4, 4] * 2
    first, second = ([*seen[i], *seen[i + 1], *seen[i + 2]] for i in (0, 3))
    assert sorted(first) == sorted(second) == [10 * b + s for b in range(3) for s in range(4)]
    assert len({tuple(first), tuple(second), tuple(sorted(first))}) == 3


def test_the_seed_orders_the_states() -> None:
    def order(seed: int) -> list[int]:
        critic = Listed(6, 3, width=8)
        CriticTrainer(critic, 1e-2, 1).update(states_of(3, 4), torch.ones(3, 3), seed)
        return critic.__dict__["seen"][0]

    assert order(1) == order(1)
    assert order(1) != order(2)


def test_the_first_batch_sets_the_start_and_the_next_does_not() -> None:
    critic = EmbeddingCritic(6, 2, width=8)
    trainer = CriticTrainer(critic, 0.0, 1)
    hidden = torch.randn(2, 3, 6)
    trainer.update(hidden, torch.tensor([[0.6, 0.0], [0.0, 0.8]]), 0)
    torch.testing.assert_close(critic(hidden), torch.tensor([0.3, 0.4]).expand(2, 3, 2))
    figures = trainer.update(hidden, torch.tensor([[0.3, 0.0], [0.3, 0.0]]), 0)
    torch.testing.assert_close(critic.out.bias.detach(), torch.tensor([0.3, 0.4]))
    assert figures["critic_error"] == pytest.approx(0.16)


def test_a_prediction_is_never_longer_than_one_and_shorter_ones_stay() -> None:
    critic = EmbeddingCritic(4, 2, width=8)
    for bias, expected in (([3.0, 4.0], [0.6, 0.8]), ([0.3, 0.4], [0.3, 0.4])):
        critic.start_at(torch.tensor(bias))
        torch.testing.assert_close(critic(torch.randn(5, 4)), torch.tensor(expected).expand(5, 2))


def test_what_is_explained_is_told_at_the_first_middle_and_last_step() -> None:
    critic = EmbeddingCritic(6, 1, width=8)
    truth = torch.tensor([[1.0], [-1.0]])
    told = torch.tensor([0.0, 0.5, 0.5, 1.0, 1.0]).view(1, 5, 1) * truth.unsqueeze(1)
    critic.forward = lambda hidden: told if hidden.dim() == 3 else told.flatten(0, 1)[:0]
    critic.start_at(torch.ones(1))  # not the very first batch
    figures = CriticTrainer(critic, 0.0, epochs=0).update(torch.zeros(2, 5, 6), truth, 0)
    assert figures["critic_start"] == 0.0
    assert figures["critic_middle"] == 0.75
    assert figures["critic_end"] == 1.0


def test_the_other_processes_gradients_count() -> None:
    def moved(reduce) -> torch.Tensor:
        torch.manual_seed(2)
        critic = EmbeddingCritic(6, 3, width=8)
        critic.start_at(torch.ones(3))
        before = critic.out.weight.detach().clone()
        trainer = CriticTrainer(critic, 1e-2, 1, reduce=reduce)
        trainer.update(states_of(2, 3), torch.randn(2, 3), 0)
        return critic.out.weight.detach() - before

    assert float(moved(lambda gradient: gradient).abs().max()) > 1e-3
    assert float(moved(torch.zeros_like).abs().max()) < 1e-4  # nothing but the decay
