"""Time of a decoding step: ours, transformers and OpenVINO taking turns."""

import copy
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch

from bench import openvino_peer, ours, transformers_peer
from bench.floor import Rates, floor, rate_candidates, rates_from
from bench.machine import has_bf16
from bench.quantize import int8_available, quantize_linears
from bench.shapes import TEXT_LENGTH, random_lm
from bench.timing import Candidate, summary, take_turns
from musicgen_rl.config import LMConfig
from musicgen_rl.errors import ConfigError
from musicgen_rl.lm.compiled import CompiledRunner
from musicgen_rl.pipeline.devices import choose_dtype
from musicgen_rl.pipeline.runners import RunnerPool, prepare_model
from musicgen_rl.sampling.runner import EagerRunner, Runner

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Plan:
    """What one section measures and how long."""

    config: LMConfig
    cores: int
    context: int = 250
    """Frames before the steps that are timed: the mean over a clip of ten seconds."""
    rounds: int = 9
    steps: int = 8
    generate_steps: int = 100
    clips: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    peer_clips: tuple[int, ...] = (1, 8, 32)
    openvino: bool = True

    @property
    def turns(self) -> int:
        """Turns of each candidate, the warming one too."""
        return self.rounds + 1


@dataclass
class _Table:
    """Candidates of one section and what is known of each before it is timed."""

    plan: Plan
    candidates: list[Candidate] = field(default_factory=list)
    facts: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(
        self, candidate: Candidate, by: str, dtype: str, kind: str, *, clips: int, guidance: bool,
        cache_width: int, context: int | None = None,
    ) -> None:  # fmt: skip
        self.candidates.append(candidate)
        self.facts.append({
            "name": candidate.name, "by": by, "dtype": dtype, "kind": kind, "clips": clips,
            "guidance": guidance, "rows": clips * (2 if guidance else 1),
            "context": self.plan.context if context is None else context,
            "cache_width": cache_width,
        })  # fmt: skip

    def measure(self) -> dict[str, Any]:
        """Let all take turns and put every floor beside its row."""
        plan = self.plan
        rates = rate_candidates(plan.config, plan.steps)
        times = take_turns([*self.candidates, *rates], plan.rounds)
        measured, told = rates_from(plan.config, {c.name: times[c.name] for c in rates})
        rows = [_row(facts, times[facts["name"]], plan.config, measured) for facts in self.facts]
        return {"rows": rows, "rates": told, "notes": self.notes}


def measure_step(plan: Plan) -> dict[str, Any]:
    """Time one clip: what a user gets, the model alone, and the peers.

    Returns:
        `rows`, `rates` (GB/s and Gop/s in the same rounds) and `notes`.
    """
    table = _Table(plan)
    with ExitStack() as stack:
        _add_ours_as_used(table, stack, clips=1, guidances=(1.0, 3.0))
        _add_ours_alone(table)
        _add_transformers(table, clips=1, guidances=(1.0, 3.0), generate=True)
        if plan.openvino:
            _add_openvino(table, clips=(1,), guidances=(1.0, 3.0))
        return table.measure()


def measure_clips(plan: Plan) -> dict[str, Any]:
    """Time many clips side by side, with guidance and without; see `measure_step`."""
    merged: dict[str, Any] = {"rows": [], "rates": {}, "notes": []}
    exported = None
    for clips in plan.clips:
        few = Plan(**{**vars(plan), "steps": max(1, plan.steps // clips)})
        table = _Table(few)
        with ExitStack() as stack:
            _add_ours_as_used(
                table, stack, clips=clips, guidances=(1.0, 3.0), dtypes=("bf16", "int8"), skip=True
            )
            if clips in plan.peer_clips:
                _add_transformers(table, clips=clips, guidances=(1.0, 3.0), generate=False)
                if plan.openvino and openvino_peer.available():
                    exported = exported or openvino_peer.export(random_lm(plan.config))
                if plan.openvino:
                    _add_openvino(table, (clips,), (1.0, 3.0), exported)
            part = table.measure()
        merged["rows"] += part["rows"]
        merged["rates"] = merged["rates"] or part["rates"]
        merged["notes"] += [n for n in part["notes"] if n not in merged["notes"]]
    return merged


def _add_ours_as_used(
    table: _Table,
    stack: ExitStack,
    *,
    clips: int,
    guidances: tuple[float, ...],
    dtypes: tuple[str, ...] = ("fp32", "bf16", "int8"),
    skip: bool = False,
) -> None:
    plan = table.plan
    for dtype in dtypes:
        if dtype == "bf16" and not has_bf16():
            continue  # a note of transformers says so
        try:
            choose_dtype(dtype, CPU)
        except ConfigError as why:
            table.notes.append(f"ours in {dtype} is left out: {why}")
            continue
        model = copy.deepcopy(random_lm(plan.config))
        pool = RunnerPool(prepare_model(model, CPU, dtype), CPU, dtype)
        with pool.lease() as make:
            runner = make(rows=1, max_steps=8, text_length=TEXT_LENGTH)
        table.notes.append(f"ours as used, {dtype}: RunnerPool chose {type(runner).__name__}")
        for scale in guidances:
            guided = scale != 1.0
            candidate = stack.enter_context(
                ours.as_used(
                    _name("ours, as used", dtype, clips, guided), pool, plan.config, clips=clips,
                    guidance_scale=scale, context=plan.context, steps=plan.steps, turns=plan.turns,
                    real_prefill=not skip,
                )
            )  # fmt: skip
            table.add(candidate, "ours", dtype, "as used", clips=clips, guidance=guided,
                      cache_width=ours.cache_width(runner))  # fmt: skip


def _add_ours_alone(table: _Table) -> None:
    """Add every runner we have by name, one row, without sampling."""
    plan = table.plan
    model = random_lm(plan.config)
    room = plan.context + plan.steps * plan.turns
    runners: list[tuple[str, str, Runner]] = [("torch", "fp32", EagerRunner(model, 1, room))]
    runners.append(("compiled", "int8", CompiledRunner(model, 1, room)))
    if int8_available():
        quantized = copy.deepcopy(model)
        quantize_linears(quantized)
        runners.append(("torch", "int8", EagerRunner(quantized, 1, room)))
    for kind, dtype, runner in runners:
        candidate = ours.alone(
            _name(f"ours, {kind} runner alone", dtype, 1, False), runner, plan.config,
            context=plan.context, steps=plan.steps, turns=plan.turns,
        )  # fmt: skip
        table.add(candidate, "ours", dtype, "alone", clips=1, guidance=False,
                  cache_width=ours.cache_width(runner))  # fmt: skip


def _add_transformers(
    table: _Table, *, clips: int, guidances: tuple[float, ...], generate: bool
) -> None:
    plan = table.plan
    model = random_lm(plan.config)
    dtypes = {"fp32": torch.float32}
    if has_bf16():
        dtypes["bf16"] = torch.bfloat16
    else:
        table.notes.append(
            "bf16 is left out: this processor has no bf16 arithmetic, where transformers took "
            "tens to hundreds of times fp32's time in it"
        )
    for dtype, kind in dtypes.items():
        theirs = transformers_peer.same_model(model, kind)
        for scale in guidances:
            guided = scale != 1.0
            candidate = transformers_peer.forward(
                _name("transformers, forward alone", dtype, clips, guided), theirs, model,
                rows=clips * (2 if guided else 1), context=plan.context, steps=plan.steps,
                turns=plan.turns,
            )  # fmt: skip
            table.add(candidate, "transformers", dtype, "alone", clips=clips, guidance=guided,
                      cache_width=kind.itemsize)  # fmt: skip
        if generate:
            name = f"transformers, generate, {dtype}, guidance, first {plan.generate_steps} steps"
            candidate = transformers_peer.generate(
                name, theirs, clips=clips, steps=plan.generate_steps
            )
            table.add(candidate, "transformers", dtype, "as used", clips=clips, guidance=True,
                      cache_width=kind.itemsize, context=plan.generate_steps // 2)  # fmt: skip


def _add_openvino(
    table: _Table, clips: tuple[int, ...], guidances: tuple[float, ...], exported: Any = None
) -> None:
    plan = table.plan
    if not openvino_peer.available():
        table.notes.append(
            f"OpenVINO is left out: not installed here ({openvino_peer.HOW_TO_INSTALL})"
        )
        return
    model = random_lm(plan.config)
    exported = exported or openvino_peer.export(model)
    wanted = [(count, scale != 1.0) for count in clips for scale in guidances]
    decoders = [
        openvino_peer.Decoder(exported, model, count * (2 if guided else 1), plan.cores)
        for count, guided in wanted
    ]
    off = [decoder.disagreement() for decoder in decoders]
    for (count, guided), decoder in zip(wanted, decoders, strict=True):
        candidate = openvino_peer.candidate(
            _name("OpenVINO, model alone", "int8", count, guided), decoder, model,
            context=plan.context, steps=plan.steps, turns=plan.turns,
        )  # fmt: skip
        table.add(candidate, "openvino", "int8", "alone", clips=count, guidance=guided,
                  cache_width=1)  # fmt: skip
    told = ", ".join(f"{n} {v}" for n, v in decoders[0].settings().items())
    table.notes.append(f"OpenVINO ran with {told}")
    table.notes.append(f"OpenVINO's logits are within {max(off):.1%} of our fp32 model's")


def _row(
    facts: dict[str, Any], seconds: list[float], config: LMConfig, rates: Rates
) -> dict[str, Any]:
    cost = floor(
        config, rates, rows=facts["rows"], context=facts["context"], text=TEXT_LENGTH,
        dtype=facts["dtype"], cache_width=facts["cache_width"],
    )  # fmt: skip
    row = facts | summary(seconds) | cost
    row["frames_per_s"] = facts["clips"] * 1e3 / row["min_ms"]
    row["times_floor"] = row["min_ms"] / row["floor_ms"]
    return row


def _name(what: str, dtype: str, clips: int, guided: bool) -> str:
    several = f", {clips} clips" if clips > 1 else ""
    return f"{what}, {dtype}{several}{', guidance' if guided else ''}"
