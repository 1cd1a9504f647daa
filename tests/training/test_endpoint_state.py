from dataclasses import asdict, fields, replace
from pathlib import Path

import pytest
import torch

from musicgen_rl.errors import CheckpointError
from musicgen_rl.training.checkpointing import load_training_state, save_training_state
from musicgen_rl.training.endpoint_config import EndpointConfig
from musicgen_rl.training.endpoint_loop import train_endpoint
from musicgen_rl.training.endpoint_state import MAY_CHANGE, Origin
from musicgen_rl.training.metrics import read_metrics
from musicgen_rl.training.same_run import require_same_options
from tests.training.endpoint_fakes import LoudScorer, ShareEncoder, small_config, small_parts


def train(parts, config, folder, **options):
    return train_endpoint(parts, config, folder, live=False, **options)


def stored(folder: Path) -> tuple[dict, dict]:
    found = load_training_state(folder / "state")
    assert found is not None
    return found


@pytest.mark.parametrize(("train_what", "centred"), [
    ("all", False), ("low-rank", True), ("norms", False),
])  # fmt: skip
def test_a_run_that_was_stopped_ends_in_the_bits_of_one_that_was_not(
    tmp_path: Path, train_what: str, centred: bool
) -> None:
    parts = small_parts(tmp_path / "base")
    config = small_config(
        diversity_weight=5.0, train=train_what, steps=4, kl_share=0.5, centred=centred
    )
    train(parts, config, tmp_path / "whole")
    answers = iter([False, True])
    half = train(parts, config, tmp_path / "parted", stop=lambda: next(answers))
    assert half["steps"] == 2
    train(parts, config, tmp_path / "parted")
    states = [load_training_state(tmp_path / name / "state") for name in ("whole", "parted")]
    assert states[0] is not None
    assert states[1] is not None
    assert states[0][0].keys() == states[1][0].keys()
    assert all(torch.equal(t, states[1][0][name]) for name, t in states[0][0].items())
    kls = [[r["kl"] for r in read_metrics(tmp_path / name / "metrics.jsonl") if "kl" in r]
           for name in ("whole", "parted")]  # fmt: skip
    assert kls[0] == kls[1]


@pytest.mark.parametrize(
    "name", ["seed", "diversity_weight", "clips_per_prompt", "train", "centred"]
)
def test_a_run_does_not_go_on_as_another(tmp_path: Path, name: str) -> None:
    parts = small_parts(tmp_path / "base")
    train(parts, small_config(steps=1), tmp_path / "run")
    other = {"seed": 5, "diversity_weight": 1.0, "clips_per_prompt": 2, "train": "low-rank",
             "centred": True}  # fmt: skip
    with pytest.raises(CheckpointError, match=f"begun with {name} .*, now .*: .* a new folder"):
        train(parts, small_config(**{name: other[name]}), tmp_path / "run")


def changed(config: EndpointConfig, name: str) -> EndpointConfig:
    """Give one option another value that works beside the others."""
    words = {"reward": "determinant", "credit": "clip", "baseline": "none", "train": "low-rank",
             "codebook_weights": "1,0.5", "negative_prompt": "noise"}  # fmt: skip
    value = getattr(config, name)
    other = words.get(name)
    if isinstance(value, bool):
        other = not value
    elif name == "kl_share":
        other = 0.5
    elif name in ("gae_lambda", "bank_keep"):
        other = value / 2
    elif other is None:
        other = value + 1 if isinstance(value, int) else value + 0.25
    return replace(config, **{name: other})


@pytest.mark.parametrize("name", sorted({f.name for f in fields(EndpointConfig)} - MAY_CHANGE))
def test_an_option_that_changes_what_a_step_computes_is_refused_by_name(
    tmp_path: Path, name: str
) -> None:
    before = small_config(reward="answered")
    now = changed(before, name)
    require_same_options(tmp_path, asdict(before), before, MAY_CHANGE)
    with pytest.raises(CheckpointError) as caught:
        require_same_options(tmp_path, asdict(before), now, MAY_CHANGE)
    said = str(caught.value)
    assert "\n" not in said
    told = f"with {name} {getattr(before, name)!r}, now {getattr(now, name)!r}: "
    assert told in said
    assert "a new folder" in said


def test_what_may_change_are_options_and_those_of_the_reward_are_not_among_them() -> None:
    assert {f.name for f in fields(EndpointConfig)} > MAY_CHANGE
    assert MAY_CHANGE.isdisjoint({"ridge", "answer_low", "answer_high", "reward", "kl_weight"})
    same = small_config()
    free = {"steps": 9, "minutes": 3.0, "micro_batch_size": 1, "learning_rate": 1e-6,
            "guard_entropy": 0.0, "precision": "fp32", "save_minutes": 9.0}  # fmt: skip
    require_same_options(Path("run"), asdict(same), replace(same, **free), MAY_CHANGE)


@pytest.mark.parametrize(("reward", "changes", "said"), [
    ("determinant", {"ridge": 0.3}, "ridge 0.1, now 0.3"),
    ("answered", {"answer_low": 0.3, "answer_high": 0.7},
     "answer_low 0.2, now 0.3, and with answer_high 0.6, now 0.7"),
    ("cosine", {"reward": "determinant"}, "reward 'cosine', now 'determinant'"),
    ("cosine", {"gae_lambda": 0.5}, "gae_lambda 0.8, now 0.5"),
])  # fmt: skip
def test_a_run_does_not_go_on_with_a_reward_that_means_something_else(
    tmp_path: Path, reward: str, changes: dict, said: str
) -> None:
    parts, run = small_parts(tmp_path / "base"), tmp_path / "run"
    config = small_config(steps=1, diversity_weight=5.0, reward=reward)
    train(parts, config, run)
    with pytest.raises(CheckpointError, match=f"begun with {said}: "):
        train(parts, replace(config, steps=2, **changes), run)
    assert train(parts, replace(config, steps=2), run)["steps"] == 2


def test_a_run_of_another_base_is_not_continued(tmp_path: Path) -> None:
    parts = small_parts(tmp_path / "base")
    train(parts, small_config(steps=1), tmp_path / "run")
    state = {n: t + 1 for n, t in parts.base_state.items()}
    with pytest.raises(CheckpointError, match="another base or start"):
        train(replace(parts, base_state=state), small_config(), tmp_path / "run")


@pytest.mark.parametrize("prompts", [
    ["a new one", *(f"prompt {i}" for i in range(6))], [f"prompt {i}" for i in range(5, -1, -1)],
])  # fmt: skip
def test_a_run_does_not_go_on_with_other_prompts(tmp_path: Path, prompts: list[str]) -> None:
    parts = small_parts(tmp_path / "base")
    config = small_config(steps=1, diversity_weight=1.0)
    train(parts, config, tmp_path / "run")
    with pytest.raises(
        CheckpointError, match=r"begun with other prompts \(.*\): give the same file"
    ):
        train(replace(parts, prompts=prompts), config, tmp_path / "run")


def test_a_run_does_not_go_on_with_another_judge_that_pays(tmp_path: Path) -> None:
    parts = small_parts(tmp_path / "base")
    other, deaf = ShareEncoder(), replace(parts, encoder=None, scorer=None)
    other.identity = "another encoder"
    config = small_config(steps=1, diversity_weight=1.0, reward="answered")
    train(parts, config, tmp_path / "run")
    with pytest.raises(
        CheckpointError, match=r"another training encoder \(share encoder, now another encoder\)"
    ):
        train(replace(parts, encoder=other), config, tmp_path / "run")
    scorer = LoudScorer()
    scorer.identity = "another scorer"
    with pytest.raises(
        CheckpointError, match=r"another training scorer \(loud scorer, now another scorer\)"
    ):
        train(replace(parts, scorer=scorer), config, tmp_path / "run")
    train(parts, small_config(steps=1), tmp_path / "quality")
    train(deaf, small_config(steps=2), tmp_path / "quality")  # nothing is paid by them there


@pytest.mark.parametrize("part", ["text encoder", "codec"])
def test_a_run_does_not_go_on_with_another_reader_or_another_sound(
    tmp_path: Path, part: str
) -> None:
    parts, run = small_parts(tmp_path / "base", text_hash="one", codec_hash="two"), tmp_path / "run"
    field = {"text encoder": "text_hash", "codec": "codec_hash"}[part]
    other, unknown = (replace(parts, **{field: value}) for value in ("three", None))
    train(parts, small_config(steps=1), run)
    was = {"text encoder": "one", "codec": "two"}[part]
    with pytest.raises(CheckpointError) as caught:
        train(other, small_config(steps=2), run)
    said = str(caught.value)
    assert f"begun with another {part} ({was}, now three): name the base with the {part}" in said
    assert "or train into a new folder" in said
    train(unknown, small_config(steps=2), run)  # it has no folder of its own
    tensors, state = stored(run)
    del state["data"][part]  # as before it was told
    save_training_state(run / "state", tensors, state)
    assert train(other, small_config(steps=3), run)["steps"] == 3


def test_a_run_of_another_kind_is_not_gone_on_with(tmp_path: Path) -> None:
    parts, run = small_parts(tmp_path / "base"), tmp_path / "run"
    train(parts, small_config(steps=1), run)
    tensors, state = stored(run)
    save_training_state(run / "state", tensors, state | {"kind": "lm"})
    with pytest.raises(
        CheckpointError, match="holds a run of `train lm`, not of `train endpoints`"
    ):
        train(parts, small_config(steps=2), run)
    assert state.pop("kind") == "endpoints"  # as before it was told
    save_training_state(run / "state", tensors, state)
    assert train(parts, small_config(steps=2), run)["steps"] == 2


def test_a_state_without_the_datas_identity_goes_on(tmp_path: Path) -> None:
    parts, run = small_parts(tmp_path / "base"), tmp_path / "run"
    train(parts, small_config(steps=1), run)
    tensors, state = stored(run)
    del state["data"]
    sums = {part: sum(float(t.double().sum()) for t in parts.base_state.values())
            for part in ("start", "base")}  # fmt: skip
    state["start"] = {"start": sums["start"], "base": sums["base"] * (1 + 1e-14)}
    save_training_state(run / "state", tensors, state)
    assert train(parts, small_config(steps=2), run)["steps"] == 2
    state["start"] = {"start": sums["start"], "base": sums["base"] + 1e-3}
    save_training_state(run / "state", tensors, state)
    with pytest.raises(CheckpointError, match="another base or start"):
        train(parts, small_config(steps=2), run)


def test_weights_are_told_apart_by_their_bytes_and_not_by_the_threads_that_add_them(
    tmp_path: Path,
) -> None:
    torch.manual_seed(0)
    weights, threads = {"w": torch.randn(1_000_003)}, torch.get_num_threads()
    told = []
    try:
        for count in (1, 4):
            torch.set_num_threads(count)
            told.append(Origin(weights, weights, ["a"]).pack())
    finally:
        torch.set_num_threads(threads)
    assert told[0] == told[1]
    first, swapped = ({"w": torch.tensor(values)} for values in ([1.0, 2.0], [2.0, 1.0]))
    state = Origin(first, first, ["a"]).pack()
    Origin(first, first, ["a"]).require_same(tmp_path, state)
    with pytest.raises(CheckpointError, match="another base or start"):
        Origin(first, swapped, ["a"]).require_same(tmp_path, state)


def test_a_run_that_goes_on_takes_the_options_that_it_is_given(tmp_path: Path) -> None:
    parts, run = small_parts(tmp_path / "base"), tmp_path / "run"
    config = small_config(steps=1, diversity_weight=5.0)
    train(parts, config, run)
    before = stored(run)[0]
    changed = replace(
        config, steps=3, critic_lr=0.0, beta1=0.5, beta2=0.6, weight_decay=0.25
    )  # fmt: skip
    train(parts, changed, run)
    after, state = stored(run)
    critics = [name for name in before if name.startswith("critic.")]
    assert critics
    assert all(torch.equal(before[name], after[name]) for name in critics)
    group = state["optimizer"]["param_groups"][0]
    assert (group["betas"], group["weight_decay"]) == ([0.5, 0.6], 0.25)
