"""`make pocket`: corpus, codec, tokens, judges, language model, model folder, ends of the dial.

Where a size says so, the language model is trained twice, the second time to look back.

Every stage keeps its own folder under the work folder, goes on where a killed run stopped, and
leaves `STAGE.json` behind when it is done: what it was made with and how many seconds it took.
A stage that is done is skipped, unless its options changed, which is refused rather than mixed.
"""

import json
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from musicgen_rl.checkpoint import read_info, save_model
from musicgen_rl.codec.frame import FrameCodec
from musicgen_rl.codec.load import load_codec, save_codec
from musicgen_rl.config import FrameCodecConfig, LMConfig, require
from musicgen_rl.data.pocket.corpus import make_corpus
from musicgen_rl.data.pocket.corpus_config import CorpusConfig
from musicgen_rl.errors import ConfigError, StorageError, UnsupportedModelError
from musicgen_rl.storage import read_json, write_json
from musicgen_rl.training.codec import CodecTrainConfig, train_codec
from musicgen_rl.training.ease import ease
from musicgen_rl.training.endpoint_config import ENDS, EndpointConfig, read_preset
from musicgen_rl.training.endpoint_run import EndpointSources, train_pair
from musicgen_rl.training.lm_run import encode_manifest, train_lm
from musicgen_rl.training.lookback import grow
from musicgen_rl.training.pocket_card import write_card
from musicgen_rl.training.pocket_judges import judge_configs, make_judges, place_judges
from musicgen_rl.training.pocket_sizes import SIZES
from musicgen_rl.training.pretrain_config import PretrainConfig
from musicgen_rl.training.temper import tempered

STAGES = ("corpus", "codec", "tokens", "rewards", "lm", "lookback", "ship", "endpoints")
"""In the order they run; not every size has all."""
LICENSE = "Apache-2.0"
"""Of the weights."""


@dataclass(frozen=True, kw_only=True)
class PocketConfig:
    """One making of pocket."""

    work: Path
    """Folder for everything in between; needs some 10 GB at size cpu."""
    output: Path
    """Folder of the finished model."""
    text_encoder: Path
    """Folder of MiniLM."""
    size: str = "cpu"
    """tiny, cpu or gpu."""
    seed: int = 0
    """Of the corpus, the codec, the language model and the ends; judges have seeds of their own."""
    skip: tuple[str, ...] = ()
    """Stages to leave out: what later ones need of them has to be there."""

    def __post_init__(self) -> None:
        """Check every field."""
        require(self.size in SIZES, f"size must be {', '.join(SIZES)}, got {self.size!r}")
        for name in self.skip:
            require(name in STAGES, f"unknown stage {name!r}: stages are {', '.join(STAGES)}")


def make_pocket(
    config: PocketConfig,
    *,
    report: Callable[[str], None] = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
    live: bool = True,
) -> Path | None:
    """Run every stage that is not done yet.

    Args:
        config: what to make and where.
        report: called with a line for people, before and after each stage.
        stop: asked between stages and between the steps of those that can be stopped (rewards, lm,
            endpoints); True saves and returns.
        live: show the live lines of training.

    Returns:
        The finished model's folder, or None where `stop` ended it before.

    Raises:
        ConfigError: a stage was made with other options.
        StorageError: the disk is full; run it again to go on.
    """
    plan = stages(config, report=report, stop=stop, live=live)
    for name, (options, run) in plan.items():
        record = config.work / f"{name}.json"
        if name in config.skip:
            report(f"{name}: left out")
            continue
        if record.is_file():
            check_record(name, record, options)
            report(f"{name}: done before")
            continue
        if stop():
            return None
        report(f"{name}: begins")
        begun = time.monotonic()
        figures = run()
        if not figures.get("finished", True):
            return None
        seconds = round(time.monotonic() - begun, 1)
        _write(record, {
            "options": options, "figures": figures, "seconds_of_last_run": seconds,
            "machine": machine(),
        })  # fmt: skip
        report(f"{name}: done in {seconds:.0f} s")
        if name == "endpoints":
            write_card(config.output, records(config.work))
    return config.output


def stages(
    config: PocketConfig,
    *,
    report: Callable[[str], None] = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
    live: bool = True,
) -> dict[str, tuple[dict[str, Any], Callable[[], dict[str, Any]]]]:
    """List the stages: name -> (the options that decide its result, what runs it)."""
    size, work, seed = SIZES[config.size], config.work, config.seed
    corpus = CorpusConfig(output=work / "corpus", seed=seed, **size.corpus)
    manifest = corpus.output / "manifest.jsonl"
    shape = FrameCodecConfig(**size.codec_shape)
    codec = CodecTrainConfig(
        manifest=str(manifest), folder=str(work / "codec"), codec=shape, seed=seed, **size.codec
    )
    lm_shape, lm = LMConfig(**size.lm_shape), PretrainConfig(seed=seed, **size.lm)
    codec_folder, tokens, run = work / "codec" / "codec", work / "tokens", work / "lm"
    again = PretrainConfig(seed=seed, **size.again) if size.again else None
    last = run if again is None else work / "lookback"
    judges = judge_configs(size.judges)
    ends = {
        end: EndpointConfig(
            **{**read_preset(size.preset, end), "seed": seed, **size.ends.get(end, {})}
        )
        for end in ENDS
    }

    def run_corpus() -> dict[str, Any]:
        make_corpus(corpus)
        return {"pieces": corpus.num_pieces}

    def run_codec() -> dict[str, Any]:
        return {"folder": str(train_codec(codec))}

    def run_tokens() -> dict[str, Any]:
        found = encode_manifest(manifest, codec_folder, tokens, offsets=size.offsets)
        return asdict(found)

    def run_rewards() -> dict[str, Any]:
        return make_judges(
            manifest, codec_folder, work / "mels", work / "rewards", judges,
            text_encoder=config.text_encoder, license=LICENSE, coded_every=size.coded_every,
            report=report, stop=stop,
        )  # fmt: skip

    def run_lm() -> dict[str, Any]:
        return train_lm(
            tokens, codec_folder, config.text_encoder, run, lm_shape, lm,
            license=LICENSE, stop=stop, live=live,
        )  # fmt: skip

    def run_lookback() -> dict[str, Any]:
        assert again is not None
        grown = work / "grown"
        if not grown.is_dir():
            grow(
                run / "export", tokens, grown, size.lookback,
                text_encoder=config.text_encoder, dropout=size.again_dropout,
            )  # fmt: skip
        return train_lm(
            tokens, codec_folder, config.text_encoder, last, lm_shape, again,
            start=grown, license=LICENSE, stop=stop, live=live,
        )  # fmt: skip

    def run_ship() -> dict[str, Any]:
        return ship(last / "export", config.output, config.text_encoder, work, size.temperature)

    def run_endpoints() -> dict[str, Any]:
        return make_endpoints(
            config.output, manifest, ends, work, preset=size.preset, eased=size.eased, stop=stop
        )

    plan: dict[str, tuple[dict[str, Any], Callable[[], dict[str, Any]]]] = {
        "corpus": ({**size.corpus, "seed": seed}, run_corpus),
        "codec": ({**size.codec, **size.codec_shape, "seed": seed}, run_codec),
        "tokens": ({"offsets": size.offsets} if size.offsets > 1 else {}, run_tokens),
        "rewards": ({**size.judges, "coded_every": size.coded_every}, run_rewards),
        "lm": ({**size.lm_shape, **size.lm, "seed": seed}, run_lm),
        "lookback": (
            {**size.again, **asdict(size.lookback), "dropout": size.again_dropout, "seed": seed},
            run_lookback,
        ),
        "ship": (
            {"output": str(config.output)}
            | ({"temperature": size.temperature} if size.temperature != 1 else {}),
            run_ship,
        ),
        "endpoints": (
            {"output": str(config.output)}
            | {k: asdict(v) for k, v in ends.items()}
            | ({"eased": size.eased} if size.eased else {}),
            run_endpoints,
        ),
    }
    return {name: made for name, made in plan.items() if name != "lookback" or again is not None}


def check_record(name: str, record: Path, options: dict[str, Any]) -> None:
    """Refuse a finished stage that was made with other options.

    Raises:
        ConfigError: names what differs.
    """
    before = read_json(record).get("options", {})
    now = json.loads(json.dumps(options))
    changed = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    if changed:
        key = min(changed)
        raise ConfigError(
            f"stage {name} in {record.parent} was made with {key}={before.get(key)!r}, not "
            f"{now.get(key)!r}: use another work folder, or delete {record} and the stage's folder"
        )


def ship(
    source: Path,
    target: Path,
    text_encoder: Path,
    work: Path,
    temperature: float | Sequence[float] = 1.0,
) -> dict[str, Any]:
    """Write the finished model folder: weights, codec, judges, and a model card.

    Args:
        source: the run's export.
        target: the model folder.
        text_encoder: MiniLM's folder; the card points to it, relative to `target`.
        work: holds the records of the stages, and the judges.
        temperature: folded into the heads; one, or one for each codebook.

    Returns:
        Bytes of the folder.
    """
    info, state = tempered(read_info(source), temperature)
    path = os.path.relpath(text_encoder, target)
    shipped = replace(
        info, name=target.name, text_encoder={"type": "minilm", "path": path}, license=LICENSE
    )
    save_model(target, shipped, state)
    codec = load_codec(source / "codec")
    if not isinstance(codec, FrameCodec):
        raise UnsupportedModelError(f"{source / 'codec'} is not a frame codec")
    save_codec(codec, target / "codec", dtype=torch.float16)
    place_judges(work / "rewards", target / "rewards")
    write_card(target, records(work))
    return {"bytes": sum(p.stat().st_size for p in target.rglob("*") if p.is_file())}


def make_endpoints(
    output: Path,
    prompts: Path,
    ends: Mapping[str, EndpointConfig],
    work: Path,
    *,
    preset: str = "pocket",
    eased: Mapping[str, float] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Train both ends of the dial on the shipped model and put them into its folder.

    Args:
        output: the model folder, with its judges.
        prompts: the corpus's manifest; captions of its training split are the prompts.
        ends: quality and diversity.
        work: gets the runs.
        preset: that the ends' options are of, for their cards.
        eased: part and share by which the diversity end is eased; not where empty.
        stop: asked after every step; True saves and returns.

    Returns:
        `finished`, and the figures of both runs.

    Raises:
        ConfigError: a guard ended a run, or a judge is missing.
    """
    sources = EndpointSources(base=str(output.resolve()), prompts=prompts)
    runs = work / "endpoints"
    figures: dict[str, Any] = train_pair(
        sources, ends["quality"], ends["diversity"], output, runs,
        notes={"preset": preset}, stop=stop,
    )  # fmt: skip
    for end, found in figures.items():
        if found["stopped"]:
            raise ConfigError(
                f"the {end} end was stopped at step {found['steps']}: {found['stopped']}; see "
                f"{runs / end / 'metrics.jsonl'}, change its options, and remove {runs / end}"
            )
    finished = all(end in figures and figures[end]["finished"] for end in ENDS)
    if finished and eased:
        ease(output / "diversity", eased["part"], eased["share"])
    return {"finished": finished, **figures}


def records(work: Path) -> dict[str, dict[str, Any]]:
    """Read what the finished stages left behind."""
    paths = {name: work / f"{name}.json" for name in STAGES}
    return {name: read_json(path) for name, path in paths.items() if path.is_file()}


def machine() -> str:
    """Name what a stage ran on."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{torch.get_num_threads()} threads of {platform.machine()}"


def _write(path: Path, content: dict[str, Any]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, content)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error}") from error
