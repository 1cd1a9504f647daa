import math
import shutil
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from musicgen_rl.checkpoint import load_lm, load_state, model_hash, read_info
from musicgen_rl.errors import CheckpointError, ConfigError, InputError, StorageError
from musicgen_rl.merging.endpoints import load_endpoints
from musicgen_rl.merging.merge import merge_checkpoints
from musicgen_rl.merging.recipe import MergeConfig
from musicgen_rl.training import endpoint_loop
from musicgen_rl.training.checkpointing import load_training_state
from musicgen_rl.training.endpoint_export import place_endpoint
from musicgen_rl.training.endpoint_loop import kl_weight_at, reward_weight_at, train_endpoint
from musicgen_rl.training.endpoint_step import EndpointStep
from musicgen_rl.training.metrics import read_metrics
from musicgen_rl.training.processes import Processes
from tests.training.endpoint_fakes import ShareEncoder, small_config, small_parts


def train(parts, config, folder, **options):
    return train_endpoint(parts, config, folder, live=False, **options)


def test_a_quality_run_leaves_metrics_state_and_a_model(tmp_path: Path) -> None:
    parts = small_parts(tmp_path / "base")
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
    assert info.sampling.guidance_scale == 1.0
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


def test_the_answered_reward_asks_for_a_scorer(tmp_path: Path) -> None:
    parts = small_parts(tmp_path / "base", scorer=None)
    with pytest.raises(ConfigError, match="needs the training scorer"):
        train(parts, small_config(diversity_weight=5.0, reward="answered"), tmp_path / "run")


def test_a_low_rank_end_is_a_small_file_over_the_quality_end(tmp_path: Path) -> None:
    parts = small_parts(tmp_path / "base")
    train(parts, small_config(), tmp_path / "q")
    quality = read_info(tmp_path / "q" / "export")
    after = replace(parts, start=quality, start_state=load_state(quality))
    config = small_config(diversity_weight=5.0, train="low-rank", learning_rate=0.01)
    train(after, config, tmp_path / "d")
    export = tmp_path / "d" / "export"
    assert not (export / "model.safetensors").exists()
    placed = [place_endpoint(tmp_path / n / "export", tmp_path / "pair" / name)
              for n, name in (("q", "quality"), ("d", "diversity"))]  # fmt: skip
    infos = [read_info(p) for p in placed]
    ends = load_endpoints(*infos, parts.base)
    assert ends.quality["embed.weight"] is ends.diversity["embed.weight"]  # untouched, held once
    changed = [n for n in ends.quality if not torch.equal(ends.quality[n], ends.diversity[n])]
    assert any("self_qkv" in n for n in changed)
    assert any("norm" in n for n in changed)
    # What was trained is what is loaded, to the grid's rounding.
    found = load_training_state(tmp_path / "d" / "state")
    assert found is not None
    a, b = (found[0][f"average.blocks.0.ffn_in.lora_{x}.default.weight"] for x in "AB")
    expected = ends.quality["blocks.0.ffn_in.weight"].float() + b @ a
    loaded = load_lm(infos[1]).blocks[0].ffn_in.weight
    torch.testing.assert_close(loaded, expected, rtol=1e-3, atol=1e-5)
    merged = merge_checkpoints(placed[0], placed[1], tmp_path / "m", MergeConfig(lam=0.5))
    half = load_state(read_info(merged))["blocks.0.ffn_in.weight"].float()
    middle = torch.lerp(ends.quality["blocks.0.ffn_in.weight"].float(), loaded, 0.5)
    torch.testing.assert_close(half, middle, rtol=1e-3, atol=1e-3)


def test_a_low_rank_end_may_lie_over_a_point_between_two_models(tmp_path: Path) -> None:
    parts = small_parts(tmp_path / "base")
    train(parts, small_config(learning_rate=0.05), tmp_path / "q")
    quality = read_info(tmp_path / "q" / "export")
    after = replace(parts, start=quality, start_state=load_state(quality))
    config = small_config(
        diversity_weight=5.0, train="low-rank", start_blend=0.25, learning_rate=0.0, steps=1
    )
    train(after, config, tmp_path / "d")
    assert not (tmp_path / "d" / "export" / "model.safetensors").exists()
    placed = place_endpoint(tmp_path / "d" / "export", tmp_path / "pair" / "diversity")
    found, name = load_state(read_info(placed)), "blocks.1.cross_out.weight"
    exact = 0.75 * after.start_state[name].double() + 0.25 * parts.base_state[name].double()
    assert torch.equal(found[name], exact.float())  # nothing was learnt: the factors' product is 0


def test_a_low_rank_end_without_its_model_says_what_it_lacks(tmp_path: Path) -> None:
    parts = small_parts(tmp_path / "base")
    train(parts, small_config(train="low-rank", diversity_weight=1.0, steps=1), tmp_path / "d")
    info = read_info(tmp_path / "d" / "export")
    shutil.rmtree(tmp_path / "base")
    with pytest.raises(CheckpointError, match=r"lies over the model tiny .*copy both"):
        load_state(info)


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


def test_long_clips_come_every_so_often_with_fewer_prompts(tmp_path: Path) -> None:
    parts = small_parts(tmp_path / "base")
    config = small_config(long_clip_s=0.4, long_every=3, prompts_per_step=4, steps=3)
    train(parts, config, tmp_path / "run")
    rows = [r for r in read_metrics(tmp_path / "run" / "metrics.jsonl") if r["kind"] == "train"]
    assert [r["tokens_per_clip"] for r in rows] == [30.0, 30.0, 60.0]
    assert [r["clips"] for r in rows] == [12, 12, 6]


def test_schedules_by_hand() -> None:
    config = small_config(
        diversity_weight=10.0, reward_delay=0.2, reward_ramp=0.4, kl_weight=1.0,
        kl_weight_final=0.5,
    )  # fmt: skip
    assert [reward_weight_at(config, p) for p in (0.0, 0.2, 0.4, 0.6, 1.0)] == pytest.approx(
        [0.0, 0.0, 5.0, 10.0, 10.0]
    )
    assert [kl_weight_at(config, p) for p in (0.0, 0.5, 1.0)] == [1.0, 0.75, 0.5]
    assert reward_weight_at(small_config(diversity_weight=3.0), 0.0) == 3.0


@pytest.mark.parametrize(("changes", "parts_changes", "error", "message"), [
    ({"prompts_per_step": 7}, {}, InputError, "6 different prompts, a step takes 7"),
    ({"diversity_weight": 1.0}, {"encoder": None}, ConfigError, "needs the training encoder"),
    ({"clip_s": 5.0}, {}, ConfigError, "longer than the model's window of 2 s"),
    ({"train": "norms"}, {}, ConfigError, "cannot distil"),
])  # fmt: skip
def test_what_does_not_fit_is_refused_before_training(
    tmp_path: Path, changes: dict, parts_changes: dict, error: type, message: str
) -> None:
    parts = small_parts(tmp_path / "base", **parts_changes)
    with pytest.raises(error, match=message):
        train(parts, small_config(**changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_encoder_of_another_rate_is_refused_before_training(tmp_path: Path) -> None:
    parts = small_parts(tmp_path / "base")
    parts.codec.sample_rate = 300
    with pytest.raises(InputError, match="hears 150 Hz, the codec makes 300 Hz"):
        train(parts, small_config(), tmp_path / "run")


def test_a_full_disk_is_told_before_training(tmp_path: Path, monkeypatch) -> None:
    parts = small_parts(tmp_path / "base")
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10, 9, 1))
    with pytest.raises(StorageError, match="GB are free: make room"):
        train(parts, small_config(), tmp_path / "run")


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


def test_an_adapter_is_pefts_and_its_actor_decodes_the_same(tmp_path: Path) -> None:
    from musicgen_rl.training.adapters import Student
    from tests.training.endpoint_fakes import LM, HashText, small_lm

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
    from musicgen_rl.training.adapters import Student
    from musicgen_rl.training.rollout import decode_by, narrowed
    from tests.training.endpoint_fakes import LM, HashText, small_lm

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


def test_on_a_cpu_the_actor_stays_as_it_is() -> None:
    from musicgen_rl.training.endpoint_loop import actor_dtype_of

    config = small_config(precision="bf16")
    assert actor_dtype_of(config, torch.device("cpu")) == torch.float32
    assert actor_dtype_of(config, torch.device("cuda")) == torch.bfloat16
    for other in ({"precision": "fp32"}, {"precision": "bf16", "train": "low-rank"}):
        assert actor_dtype_of(small_config(**other), torch.device("cuda")) == torch.float32


def test_the_share_encoder_tells_clips_apart() -> None:
    e = ShareEncoder().embed(torch.tensor([[0.1, 0.2, 0.1], [0.9, 0.9, 0.8]]), 150)
    assert float(e[0] @ e[1]) < 0.5
