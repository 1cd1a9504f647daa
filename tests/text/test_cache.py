import threading

import torch

from musicgen_rl.text.cache import StateCache, as_prompts, stack_states


class Counting:
    """Encodes a prompt to its length, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, prompt: str) -> torch.Tensor:
        self.asked.append(prompt)
        return torch.full((len(prompt), 2), float(len(prompt)))


def test_a_prompt_is_encoded_once():
    encode = Counting()
    cache = StateCache(encode)
    first = cache.get("piano")
    assert cache.get("piano") is first
    cache.get("drums")
    assert encode.asked == ["piano", "drums"]


def test_the_prompt_unused_for_longest_goes_first():
    encode = Counting()
    cache = StateCache(encode, max_entries=2)
    for prompt in ("a", "b", "a", "c", "a", "b"):  # c pushes b out, for a was used since
        cache.get(prompt)
    assert encode.asked == ["a", "b", "c", "b"]


def test_clear_forgets():
    encode = Counting()
    cache = StateCache(encode)
    cache.get("a")
    cache.clear()
    cache.get("a")
    assert encode.asked == ["a", "a"]


def test_threads_share_it():
    cache = StateCache(Counting(), max_entries=3)
    wrong = []

    def work() -> None:
        for i in range(300):
            prompt = "x" * (1 + i % 7)
            if len(cache.get(prompt)) != len(prompt):
                wrong.append(prompt)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_string_is_one_prompt_never_characters():
    assert as_prompts("piano") == ["piano"]
    assert as_prompts(("a", "b")) == ["a", "b"]


def test_text_no_tokenizer_takes_is_replaced():
    assert as_prompts(["a\ud800b", "钢琴 🎹"]) == ["a?b", "钢琴 🎹"]


def test_stacking_by_hand():
    condition = stack_states([torch.ones(1, 2), torch.full((3, 2), 2.0)])
    assert condition.mask.tolist() == [[True, False, False], [True, True, True]]
    assert condition.hidden.tolist() == [[[1, 1], [0, 0], [0, 0]], [[2, 2]] * 3]
