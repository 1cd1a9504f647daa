"""What changes in the course of an endpoint's run: weights, lengths, prompts."""

from musicgen_rl.training.endpoint_config import EndpointConfig
from musicgen_rl.training.prompts import prompts_of_step


def reward_weight_at(config: EndpointConfig, progress: float) -> float:
    """Return beta at a share of the run: 0 during the delay, then a straight line to the full."""
    if progress < config.reward_delay:
        return 0.0
    if config.reward_ramp <= 0:
        return config.diversity_weight
    share = min(1.0, (progress - config.reward_delay) / config.reward_ramp)
    return config.diversity_weight * share


def kl_weight_at(config: EndpointConfig, progress: float) -> float:
    """Return the KL's weight at a share of the run, a straight line where an end is set."""
    if config.kl_weight_final < 0:
        return config.kl_weight
    return config.kl_weight + (config.kl_weight_final - config.kl_weight) * progress


def is_long(config: EndpointConfig, step: int) -> bool:
    """Say whether a step is one with long clips."""
    return config.long_clip_s > 0 and step % config.long_every == config.long_every - 1


def duration_of(config: EndpointConfig, step: int) -> float:
    """Return the length of a step's clips in seconds."""
    return config.long_clip_s if is_long(config, step) else config.clip_s


def share_of_prompts(
    config: EndpointConfig, step: int, total: int, process: int, processes: int
) -> tuple[int, list[int]]:
    """Choose the prompts that one process takes at a step.

    Args:
        config: of the run.
        step: its number.
        total: prompts there are.
        process: number of the process.
        processes: how many there are; they divide prompts_per_step.

    Returns:
        How many of the step's prompts other processes take before it; numbers of its own. A step of
        long clips has fewer for the same work, a multiple of the processes.
    """
    chosen = prompts_of_step(config.seed, step, config.prompts_per_step, total)
    if is_long(config, step):
        kept = round(len(chosen) * config.clip_s / config.long_clip_s / processes)
        chosen = chosen[: max(1, kept) * processes]
    share = len(chosen) // processes
    first = process * share
    return first, chosen[first : first + share]
