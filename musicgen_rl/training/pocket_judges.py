"""The stage `rewards` of `make pocket`: two encoders, two scorers and a probe, and their folder."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from musicgen_rl.codec.load import load_codec
from musicgen_rl.errors import StorageError
from musicgen_rl.rewards.files import DESCRIPTION
from musicgen_rl.rewards.identity import Identity
from musicgen_rl.rewards.towers import TowerConfig
from musicgen_rl.storage import read_json
from musicgen_rl.training.pocket_sizes import JUDGES
from musicgen_rl.training.reward_encoder import EncoderTrainConfig, train_encoder
from musicgen_rl.training.reward_loop import RewardTrainConfig
from musicgen_rl.training.reward_mels import prepare_coded, prepare_mels
from musicgen_rl.training.reward_probe import ProbeTrainConfig, train_probe
from musicgen_rl.training.reward_scorer import ScorerTrainConfig, train_scorer

_CONFIGS: dict[str, type[RewardTrainConfig]] = {
    "encoder": EncoderTrainConfig, "scorer": ScorerTrainConfig, "probe": ProbeTrainConfig,
}  # fmt: skip


def judge_configs(given: Mapping[str, Mapping[str, Any]]) -> dict[str, RewardTrainConfig]:
    """Make the config of every judge.

    Args:
        given: judge -> fields that differ from `JUDGES` and the defaults; "all" is for each.

    Returns:
        Judge -> config; one that starts from an encoder has that encoder's tower.

    Raises:
        ConfigError: a value that cannot work.
    """
    towers = {name: TowerConfig(**fields.get("tower", {})) for name, fields in JUDGES.items()}
    found = {}
    for name, fields in JUDGES.items():
        own = {**fields, **given.get("all", {}), **given.get(name, {})}
        own["tower"] = towers[own.pop("start", name)]
        found[name] = _CONFIGS[name.split("-")[0]](**own)
    return found


def make_judges(
    manifest: Path,
    codec_folder: Path,
    mels: Path,
    folder: Path,
    configs: Mapping[str, RewardTrainConfig],
    *,
    text_encoder: Path,
    license: str,
    coded_every: int = 4,
    report: Callable[[str], None] = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Train every judge, or go on with the runs in a folder.

    Args:
        manifest: of the corpus.
        codec_folder: through which a part of the pieces is heard.
        mels: gets the frames of the audio.
        folder: gets a run for each judge, FOLDER/NAME.
        configs: as `judge_configs` makes them.
        text_encoder: MiniLM's folder.
        license: of the weights.
        coded_every: of the training pieces, each so-manieth is heard through the codec.
        report: called with a line before each judge.
        stop: asked after every step; True saves and returns.

    Returns:
        `finished`, and for each judge its sha256 and figures.
    """
    prepare_mels([manifest], mels)
    prepare_coded([manifest], mels, load_codec(codec_folder), every=coded_every)
    told: dict[str, Any] = {"finished": False}
    for name, config in configs.items():
        report(f"rewards: {name}")
        start = JUDGES[name].get("start")
        first = folder / start / "export" if start else None
        made: Identity | None
        if isinstance(config, EncoderTrainConfig):
            made = train_encoder(mels, folder / name, config, name=name, license=license, stop=stop)
        elif isinstance(config, ScorerTrainConfig):
            made = train_scorer(
                mels, folder / name, config, start=first, text_encoder=text_encoder, name=name,
                license=license, stop=stop,
            )  # fmt: skip
        else:
            assert isinstance(config, ProbeTrainConfig)
            made = train_probe(
                mels, folder / name, config, start=first, name=name, license=license, stop=stop
            )
        if made is None:
            return told
        facts = read_json(folder / name / "export" / DESCRIPTION)["facts"]
        told[name] = {"sha256": made.sha256, "figures": facts["figures"]}
    return {**told, "finished": True}


def place_judges(folder: Path, target: Path) -> None:
    """Copy the finished judges to where they are shipped, with a page that tells which is which.

    Args:
        folder: as `make_judges` filled it; judges that are not finished are left out.
        target: gets a folder for each, and README.md; not made where there is none.

    Raises:
        StorageError: it cannot be written.
    """
    names = [name for name in JUDGES if (folder / name / "export" / DESCRIPTION).is_file()]
    if not names:
        return
    try:
        for name in names:
            shutil.copytree(folder / name / "export", target / name, dirs_exist_ok=True)
        (target / "README.md").write_text(overview(target), encoding="utf-8")
    except OSError as error:
        raise StorageError(f"cannot write {target}: {error}") from error


def overview(folder: Path) -> str:
    """Write the page of a folder of judges: roles, networks, what each learnt from."""
    networks = {"vit": "transformer", "conv": "ConvNet"}
    lines = ["# What judges the sound", "", "| folder | role | network | learnt from |",
             "|---|---|---|---|"]  # fmt: skip
    for name in JUDGES:
        if not (folder / name / DESCRIPTION).is_file():
            continue
        described = read_json(folder / name / DESCRIPTION)
        facts, network = described["facts"], networks[described["tower"]["kind"]]
        start = JUDGES[name].get("start")
        network += f", started from {start}" if start else ""
        half = facts["half of the training split"]
        part = "all training pieces" if half == "all" else f"half {half} of the training pieces"
        lines.append(f"| {name} | {described['role']} | {network} | {part}: {facts['data']} |")
    return "\n".join([
        *lines, "",
        "Rewards may use those of role training; those of role report measure only and are never",
        "trained against. Halves are drawn by the name of a piece's tune. Each folder has its card",
        "(README.md), the same for programs (reward.json), and its weights in float16.", "",
    ])  # fmt: skip
