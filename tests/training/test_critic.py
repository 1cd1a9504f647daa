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
