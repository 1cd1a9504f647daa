import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from musicgen_rl.checkpoint import load_state, model_hash, read_info
from musicgen_rl.errors import InputError, StorageError
from musicgen_rl.training import endpoint_loop
from musicgen_rl.training.checkpointing import load_training_state
from musicgen_rl.training.endpoint_loop import actor_dtype_of, train_endpoint
from musicgen_rl.training.endpoint_step import EndpointStep
from musicgen_rl.training.metrics import read_metrics
from musicgen_rl.training.processes import Processes
from tests.training.endpoint_fakes import ShareEncoder, small_config, small_parts


def train(parts, config, folder, **options):
    return train_endpoint(parts, config, folder, live=False, **options)


def test_a_quality_run_leaves_metrics_state_and_a_model(tmp_path: Path) -> None:
    parts = small_parts(tmp_path / "base")
    early = replace(parts.base.sampling, guidance_scale=2.0, guidance_s=1.0)
    parts = replace(parts, base=replace(parts.base, sampling=early))
    figures = train(parts, small_config(), tmp_path / "run")
    assert (figures["steps"], figures["finished"], figures["stopped"]) == (3, True, None)
    rows = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert [r["step"] for r in rows if r["kind"] == "train"] == [1, 2, 3]
    assert [r["step"] for r in rows if r["kind"] == "heard"] == [1, 3]
    row = next(r for r in rows if r["kind"] == "train")
    assert row["objective"] == pytest.approx(-row["kl"])
    assert {"rollout", "teacher", "student", "loss", "update"} <= set(row["time"])
    info = read_info(tmp_path / "run" / "export")
    assert info.notes["base"]["sha256"] == model_hash(parts.base)
    assert info.sampling == early.unguided()
    assert info.name == "tiny-quality"
    moved = load_state(info)["heads.weight"].float() - parts.base_state["heads.weight"]
    assert float(moved.abs().max()) > 0


def test_a_diversity_run_reports_reward_signal_and_critic(tmp_path: Path) -> None:
    parts = small_parts(tmp_path / "base")
    train(parts, small_config(diversity_weight=5.0), tmp_path / "run")
    row = read_metrics(tmp_path / "run" / "metrics.jsonl")[1]
    assert row["objective"] == pytest.approx(-row["kl"] + 5.0 * row["diversity"])
    assert {"grad_norm_kl", "grad_norm_reward", "reward_signal", "reward_noise", "reward_snr",
            "critic_start", "critic_end", "advantage_rms"} <= set(row)  # fmt: skip


def test_centred_clips_lie_further_apart(tmp_path: Path) -> None:
    parts = small_parts(tmp_path / "base")
    rows = {}
    for centred in (False, True):
        config = small_config(diversity_weight=5.0, centred=centred, learning_rate=0.0)
        train(parts, config, tmp_path / str(centred))
        rows[centred] = read_metrics(tmp_path / str(centred) / "metrics.jsonl")
    plain, left = ([r["diversity"] for r in rows[c] if r["kind"] == "train"] for c in rows)
    assert len(plain) == len(left) == 3
    assert all(b > a + 0.05 for a, b in zip(plain, left, strict=True))


def test_clips_that_miss_their_caption_are_not_paid(tmp_path: Path) -> None:
    parts = small_parts(tmp_path / "base")
    rows = {}
    for name, ends in {"all": (-1.0, -0.9), "some": (0.3, 0.7), "none": (0.9, 1.0)}.items():
        config = small_config(
            diversity_weight=5.0, reward="answered", answer_low=ends[0], answer_high=ends[1],
            learning_rate=0.0, steps=1,
        )  # fmt: skip
        train(parts, config, tmp_path / name)
        made = read_metrics(tmp_path / name / "metrics.jsonl")
        rows[name] = next(row for row in made if row["kind"] == "train")
    plain = rows["all"]["diversity"]
    assert [row["diversity"] for row in rows.values()] == pytest.approx([plain] * 3)
    assert rows["all"]["answered"] == pytest.approx(plain, rel=1e-4)
    assert 0 < rows["some"]["answered"] < rows["some"]["answering"] * plain
    assert rows["none"]["answered"] == rows["none"]["grad_norm_reward"] == 0
    some = rows["some"]
    assert some["objective"] == pytest.approx(-some["kl"] + 5.0 * some["answered"])
    listened = read_metrics(tmp_path / "some" / "metrics.jsonl")
    assert next(r for r in listened if r["kind"] == "heard")["answered"] == some["answered"]


def test_a_determinants_objective_is_what_it_pays(tmp_path: Path) -> None:
    parts = small_parts(tmp_path / "base")
    config = small_config(diversity_weight=5.0, reward="determinant", ridge=0.2, steps=1)
    train(parts, config, tmp_path / "run")
    heard, row = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert heard["determinant"] == row["determinant"]
    # Of unit vectors: between copies of one and vectors at right angles.
    assert math.log(0.2 * 0.2 * 3.2) / 3 < row["determinant"] < math.log(1.2)
    assert row["objective"] == pytest.approx(-row["kl"] + 5.0 * row["determinant"])


def test_while_the_reward_waits_the_critic_learns_and_the_student_does_not_hear_of_it(
    tmp_path: Path,
) -> None:
    parts = small_parts(tmp_path / "base")
    found = {}
    for beta in (0.0, 5.0):
        config = small_config(diversity_weight=beta, reward_delay=0.99)
        train(parts, config, tmp_path / f"{beta:g}")
        found[beta] = load_training_state(tmp_path / f"{beta:g}" / "state")[0]
    rows = [r for r in read_metrics(tmp_path / "5" / "metrics.jsonl") if r["kind"] == "train"]
    assert [r["beta"] for r in rows] == [0.0, 0.0, 0.0]
    assert all({"critic_error", "advantage_rms"} <= set(row) for row in rows)
    assert float(found[5.0]["critic.out.weight"].abs().max()) > 0
    students = [name for name in found[0.0] if name.startswith("student.")]
    assert all(torch.equal(found[0.0][name], found[5.0][name]) for name in students)
    plain = [r for r in read_metrics(tmp_path / "0" / "metrics.jsonl") if r["kind"] == "train"]
    assert all("critic" not in row["time"] for row in plain)
    assert all("critic_error" not in row for row in plain)


def test_the_first_process_of_a_start_half_way_back_is_the_blend(tmp_path: Path) -> None:
    parts = small_parts(tmp_path / "base")
    other = {n: t + 0.1 for n, t in parts.base_state.items()}
    after = replace(parts, start=parts.base, start_state=other)
    config = small_config(start_blend=0.25, learning_rate=0.0, steps=1)
    train(after, config, tmp_path / "run")
    state = load_state(read_info(tmp_path / "run" / "export"))
    expected = parts.base_state["norm.weight"] + 0.075
    torch.testing.assert_close(state["norm.weight"].float(), expected, rtol=1e-3, atol=1e-3)


def test_a_guard_stops_a_run_and_says_why(tmp_path: Path) -> None:
    parts = small_parts(tmp_path / "base")
    config = small_config(steps=30, learning_rate=1.0, warmup_steps=0, listen_every=1)
    figures = train(parts, config, tmp_path / "run")
    assert figures["stopped"]
    assert figures["steps"] < 30
    rows = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert rows[-1]["kind"] == "stop"
    assert rows[-1]["why"] == figures["stopped"]
    assert (tmp_path / "run" / "export" / "musicgen_rl.json").is_file()


@pytest.mark.parametrize("left", ["missing", "stale"])
def test_a_finished_run_whose_export_failed_writes_it_when_run_again(
    tmp_path: Path, monkeypatch, left: str
) -> None:
    parts, run = small_parts(tmp_path / "base"), tmp_path / "run"
    write, written = endpoint_loop.export_endpoint, []

    def failing(target: Path, *given, **options) -> None:
        steps = given[6]["training"]["steps"]
        written.append(steps)
        if steps == 3:
            raise StorageError("the disk is full")
        write(target, *given, **options)

    monkeypatch.setattr(endpoint_loop, "export_endpoint", failing)
    config = small_config(save_minutes=0.0 if left == "stale" else 60.0)
    with pytest.raises(StorageError, match="disk is full"):
        train(parts, config, run)
    assert (run / "export").exists() == (left == "stale")
    with pytest.raises(StorageError, match="disk is full"):  # it is not done while it fails
        train(parts, config, run)
    monkeypatch.setattr(endpoint_loop, "export_endpoint", write)
    assert train(parts, config, run)["finished"]
    train(parts, config, tmp_path / "whole")
    found, expected = (read_info(folder / "export") for folder in (run, tmp_path / "whole"))
    assert found.notes["training"]["steps"] == 3
    weights = load_state(found)
    assert all(torch.equal(weights[name], t) for name, t in load_state(expected).items())
    monkeypatch.setattr(endpoint_loop, "export_endpoint", failing)
    before = len(written)
    train(parts, config, run)  # all is there
    assert len(written) == before


@pytest.mark.parametrize("started", [False, True])
def test_a_run_of_many_exports_hashes_its_models_once(
    tmp_path: Path, monkeypatch, started: bool
) -> None:
    parts, hashed = small_parts(tmp_path / "base"), []
    if started:
        start = small_parts(tmp_path / "start").base
        parts = replace(parts, start=start, start_state=load_state(start))

    def noted(info) -> str:
        hashed.append(info.folder.name)
        return model_hash(info)

    monkeypatch.setattr(endpoint_loop, "model_hash", noted)
    train(parts, small_config(train="low-rank", start_blend=0.5), tmp_path / "run")
    assert hashed == (["base", "start"] if started else ["base"])
    told = read_info(tmp_path / "run" / "export").notes
    assert told["base"]["sha256"] == model_hash(parts.base)
    assert told["low_rank"]["over"]["sha256"] == model_hash(parts.start or parts.base)
    assert told["low_rank"]["towards"]["sha256"] == model_hash(parts.base)


def test_minutes_become_steps_once_the_speed_is_known(tmp_path: Path) -> None:
    parts = small_parts(tmp_path / "base")
    config = small_config(minutes=0.02, steps=1, learning_rate=0.0, save_minutes=60.0)
    figures = train(parts, config, tmp_path / "run")
    rows = read_metrics(tmp_path / "run" / "metrics.jsonl")
    plans = [(row["step"], row["total_steps"]) for row in rows if row["kind"] == "plan"]
    assert plans[0][0] == 3  # one that warms up, two that are timed
    assert figures["finished"]
    assert figures["steps"] == plans[-1][1] > 3


def test_long_clips_come_every_so_often_with_fewer_prompts(tmp_path: Path) -> None:
    parts = small_parts(tmp_path / "base")
    config = small_config(long_clip_s=0.4, long_every=3, prompts_per_step=4, steps=3)
    train(parts, config, tmp_path / "run")
    rows = [r for r in read_metrics(tmp_path / "run" / "metrics.jsonl") if r["kind"] == "train"]
    assert [r["tokens_per_clip"] for r in rows] == [30.0, 30.0, 60.0]
    assert [r["clips"] for r in rows] == [12, 12, 6]


def test_what_does_not_fit_is_refused_before_a_folder_is_made(tmp_path: Path) -> None:
    parts = small_parts(tmp_path / "base")
    with pytest.raises(InputError, match="6 different prompts, a step takes 7"):
        train(parts, small_config(prompts_per_step=7), tmp_path / "run")
    assert not (tmp_path / "run").exists()


class Second(Processes):
    """The second of two processes, which hears nothing of the first."""

    def __init__(self) -> None:
        super().__init__()
        self.index, self.main, self.count = 1, False, 2

    def mean(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor

    gather = mean

    def average(self, tensors: dict[str, torch.Tensor]) -> None:
        pass

    def from_main(self, value: float) -> float:
        return value


def test_a_process_knows_which_of_the_steps_prompts_are_its_own(
    tmp_path: Path, monkeypatch
) -> None:
    made, make = [], EndpointStep.make_clips

    def watched(stepper: EndpointStep, *given, **options):
        made.append(make(stepper, *given, **options))
        return made[-1]

    monkeypatch.setattr(EndpointStep, "make_clips", watched)
    parts = small_parts(tmp_path / "base")
    for folder, processes in (("one", Processes), ("second", Second)):
        monkeypatch.setattr(endpoint_loop, "Processes", processes)
        train(parts, small_config(steps=1), tmp_path / folder)
    both, own = made
    assert (both.first_prompt, own.first_prompt) == (0, 1)
    assert own.prompts == both.prompts[1:]


def test_on_a_cpu_the_actor_stays_as_it_is() -> None:
    config = small_config(precision="bf16")
    assert actor_dtype_of(config, torch.device("cpu")) == torch.float32
    assert actor_dtype_of(config, torch.device("cuda")) == torch.bfloat16
    for other in ({"precision": "fp32"}, {"precision": "bf16", "train": "low-rank"}):
        assert actor_dtype_of(small_config(**other), torch.device("cuda")) == torch.float32


def test_the_share_encoder_tells_clips_apart() -> None:
    e = ShareEncoder().embed(torch.tensor([[0.1, 0.2, 0.1], [0.9, 0.9, 0.8]]), 150)
    assert float(e[0] @ e[1]) < 0.5
