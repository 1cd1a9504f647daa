"""The model card of a pocket model: tables from results, prose from a template.

    python -m musicgen_rl.training.pocket_card [--model checkpoints/pocket]
        [--results benchmarks/results] [--prose docs/pocket_card.toml]

Writes MODEL/README.md. Every number is read: the model's from its own files, the measurements from
results that committed commands wrote, and those of another model are refused. What people write
stands in the prose file: a text for each section, in which `{name}` is a fact (`--facts` lists
them), and the stages that `make pocket` did not record.
"""

import argparse
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from musicgen_rl.checkpoint import CARD, ModelInfo, find_model, load_state, model_hash, read_info
from musicgen_rl.errors import ConfigError, MusicgenRLError, StorageError
from musicgen_rl.storage import read_json
from musicgen_rl.training import pocket_tables as tables
from musicgen_rl.training.tokens import hash_folder

SECTIONS = {
    "data": "Data", "stages": "Stages", "codec": "Codec", "loss": "Held-out loss",
    "adherence": "Does it follow prompts?", "prompts": "Prompts in plain words",
    "music": "Is it music?", "judges": "Judges", "ends": "The ends of the dial",
    "limits": "Limits",
}  # fmt: skip
"""Section -> heading, in order; a text of the same name in the prose stands under it."""
RESULTS = {
    "adherence": "pocket_adherence.json", "prompts": "pocket_prompts.json",
    "music": "pocket_music.json", "loss": "pocket_loss.json", "heat": "pocket_heat_loss.json",
    "codec_held_out": "codec_held_out.json", "codec_real": "codec_real.json",
    "codec_usage": "codec_usage.json",
}  # fmt: skip
"""Result -> file."""
MEASURED = ("adherence", "prompts", "music")
"""Sections that are left out, their texts too, where there is no result for them."""
ENDS = ("quality", "diversity")
PROSE: dict[str, str] = {
    "intro": "Made by `make pocket` from data made by this project.",
    "data": "{train_hours} h to learn from; licences of the audio: {licenses}.",
    "loss": "After {steps} steps and {frames} frames, in nats a code, with the prompt and "
    "without it:",
    "limits": """\
- Instruments are General MIDI sounds, tunes are composed by rule or re-orchestrated from the public
  domain; no voices, no lyrics, no recordings of people.
- Prompts are understood as far as the corpus has words for them: style, instruments, tempo, key and
  mode, mood, metre. Other words are passed over.
- Mono, one sample rate; form is learnt over one training crop and slides beyond it.""",
}
"""What stands where the prose file has nothing."""


def model_card(
    info: ModelInfo,
    records: Mapping[str, Mapping[str, Any]],
    prose: Mapping[str, Any] | None = None,
    results: Mapping[str, Mapping[str, Any]] | None = None,
) -> str:
    """Write the README of a model folder.

    Args:
        info: the model; `notes["training"]` holds the figures of its run.
        records: stage -> what `STAGE.json` says.
        prose: section -> text, and `stage`, a list of stages made by hand.
        results: name in `RESULTS` -> what the file holds.

    Returns:
        Markdown.

    Raises:
        ConfigError: the prose names a section or a fact that there is not, or an end of the dial
            was tuned from another model.
    """
    results, prose = results or {}, {**PROSE, **(prose or {})}
    stages: Sequence[Mapping[str, Any]] = prose.pop("stage", [])
    unknown = prose.keys() - SECTIONS.keys() - {"intro"}
    if unknown:
        known = ", ".join(("intro", *SECTIONS))
        raise ConfigError(f"the card has no section {min(unknown)!r}: sections are {known}")
    facts = facts_of(info, results)
    ends = _ends(info)
    told = [{k: fill(v, facts) if isinstance(v, str) else v for k, v in s.items()} for s in stages]
    numbers = _numbers(info, records, told, results, ends)
    lines = [f"---\nlicense: {info.license.lower()}\n---", f"# {info.name}", ""]
    lines += [_shape(info, facts), "", fill(prose["intro"], facts), ""]
    for name, heading in SECTIONS.items():
        if name in MEASURED and name not in results:
            continue
        parts = [fill(prose[name], facts)] if name in prose else []
        parts += [part for part in numbers.get(name, []) if part]
        if parts:
            lines += [f"## {heading}", "\n\n".join(parts), ""]
    return "\n".join(lines)


def fill(text: str, facts: Mapping[str, str]) -> str:
    """Put facts into a text.

    Raises:
        ConfigError: it names one that there is not.
    """
    try:
        return text.format_map(facts).strip("\n")
    except (KeyError, ValueError, IndexError) as error:
        raise ConfigError(
            f"the card's text has {error} in braces: facts are {', '.join(sorted(facts))}"
        ) from None


def facts_of(info: ModelInfo, results: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """List what the prose may name, as texts."""
    training = info.notes.get("training", {})
    before = info.notes.get("start", {})
    facts = {
        "train_hours": f"{info.notes.get('train_hours', '?')}",
        "train_hours_before": f"{before.get('train_hours', 0)}",
        "licenses": ", ".join(info.notes.get("data_licenses", [])) or "unknown",
        "steps": tables.thousands(training.get("steps", "?")),
        "frames": tables.thousands(training.get("frames", "?")),
        "seconds": tables.thousands(training.get("seconds", "?")),
        "steps_before": tables.thousands(before.get("training", {}).get("steps", 0)),
        "guidance": f"{info.sampling.guidance_scale:g}",
        "temperature": f"{info.sampling.temperature:g}",
    }
    if "adherence" in results:
        found = results["adherence"]
        facts["captions"] = str(len(found["about"]["captions"]))
        facts["takes"] = str(found["about"]["clips_per_prompt"])
        facts["clip_seconds"] = f"{found['about']['seconds']:g}"
        facts |= {f"style_{_key(name)}": f"{values['style']['value']:.2f}"
                  for name, values in found["table"].items() if "style" in values}  # fmt: skip
    if "prompts" in results:
        rows = results["prompts"]["rows"]
        facts["clean"] = str(sum(not row["faults"] for row in rows))
        facts["prompts"] = str(len(rows))
    return facts


def _key(name: str) -> str:
    """guidance 3, temperature 0.8 -> g3_t0.8; real, through the codec -> real_codec."""
    short = name.replace("guidance ", "g").replace(", temperature ", "_t")
    return short.replace(".", "_").replace(", through the ", "_").replace(" ", "_")


def _shape(info: ModelInfo, facts: Mapping[str, str]) -> str:
    lm = info.lm
    millions = sum(tensor.numel() for tensor in load_state(info).values()) / 1e6
    return (
        f"Text to music: {millions:.1f} M parameters, {lm.num_layers} blocks of width "
        f"{lm.hidden_size}, {lm.num_codebooks} codebooks of {lm.codebook_size}, "
        f"{info.frame_rate:g} frames a second. "
        f"As shipped it samples at guidance {facts['guidance']}, temperature "
        f"{facts['temperature']}."
    )


def _ends(info: ModelInfo) -> dict[str, dict[str, Any]]:
    """Read the notes of the ends that lie in the model's folder.

    Raises:
        ConfigError: one was tuned from another model.
    """
    found = {}
    for end in ENDS:
        if not (info.folder / end / CARD).is_file():
            continue
        notes = read_json(info.folder / end / CARD)["notes"]
        if notes["base"]["sha256"] != model_hash(info):
            raise ConfigError(
                f"{info.folder / end} was tuned from another model than {info.folder}: train the "
                "ends again (`musicgen-rl train pair`), or remove both"
            )
        found[end] = notes
    return found


def _numbers(
    info: ModelInfo,
    records: Mapping[str, Mapping[str, Any]],
    stages: Sequence[Mapping[str, Any]],
    results: Mapping[str, Mapping[str, Any]],
    ends: Mapping[str, Mapping[str, Any]],
) -> dict[str, list[str]]:
    """Make the tables of each section, as far as there is something to show."""
    training = info.notes.get("training", {})
    found: dict[str, list[str]] = {"stages": list(tables.stage_table(records, stages))}
    found["loss"] = [tables.loss_table(training)] if training.get("loss_per_codebook") else []
    if "loss" in results:
        course = tables.loss_course(results["loss"]["valid"])
        found["loss"].append(f"The held-out loss, step: nats a code; {course}.")
        hours = info.notes.get("train_hours", 0)
        if hours and "frames" in training:
            found["loss"].append(
                tables.overfit_words(results["loss"], training, hours, info.frame_rate)
            )
    if "heat" in results:
        found["loss"].append(tables.heat_words(results["heat"]))
    clips = {
        "of held-out pieces": "codec_held_out",
        "of real recordings": "codec_real",
    }
    reports = {text: results[name] for text, name in clips.items() if name in results}
    found["codec"] = [tables.codec_table(reports)] if reports else []
    if "codec_usage" in results:
        found["codec"].append(tables.usage_words(results["codec_usage"]["rows"]))
    if "adherence" in results:
        shipped = (
            f"guidance {info.sampling.guidance_scale:g}, temperature {info.sampling.temperature:g}"
        )
        found["adherence"] = [
            tables.adherence_table(results["adherence"]),
            tables.adherence_words(results["adherence"], shipped),
            tables.attribute_table(results["adherence"], shipped),
        ]
    if "music" in results:
        found["music"] = [tables.music_table(results["music"])]
    found["judges"] = [tables.judge_table(info.folder / "rewards")]
    found["ends"] = [tables.end_table(ends)]
    return found


def read_results(folder: Path, info: ModelInfo) -> dict[str, dict[str, Any]]:
    """Read what was measured on a model.

    Args:
        folder: with files as in `RESULTS`; those that are missing are left out.
        info: the model.

    Raises:
        ConfigError: a file is about another model or codec.
    """
    found = {n: read_json(folder / f) for n, f in RESULTS.items() if (folder / f).is_file()}
    own = {"model_sha256": model_hash(info)}
    if (info.folder / "codec").is_dir():
        own["codec_hash"] = hash_folder(info.folder / "codec")
    for name, result in found.items():
        about = {**result, **result.get("about", {})}
        for key, value in own.items():
            if about.get(key, value) != value:
                raise ConfigError(
                    f"{folder / RESULTS[name]} is about another model than {info.folder} "
                    f"({str(about[key])[:12]}, here {value[:12]}): make it again, or remove it"
                )
    final, curve = info.notes.get("training", {}).get("loss"), found.get("loss", {}).get("valid")
    if curve and final is not None and abs(curve[-1]["loss"] - final) > 1e-6:
        raise ConfigError(
            f"{folder / RESULTS['loss']} ends at {curve[-1]['loss']:.4f}, the model's card says "
            f"{final:.4f}: it is of another run"
        )
    return found


def write_card(
    folder: Path,
    records: Mapping[str, Mapping[str, Any]],
    prose: Mapping[str, Any] | None = None,
    results: Mapping[str, Mapping[str, Any]] | None = None,
) -> Path:
    """Write FOLDER/README.md.

    Raises:
        ConfigError: as `model_card`.
        StorageError: it cannot be written.
    """
    text = model_card(read_info(folder), records, prose, results)
    path = folder / "README.md"
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error}") from error
    return path


def read_prose(path: Path) -> dict[str, Any]:
    """Read a prose file.

    Raises:
        ConfigError: it is missing or no TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"the card's prose {path} cannot be read: {error}") from None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; see the top of this file."""
    parser = argparse.ArgumentParser(description="Write the model card of pocket.")
    parser.add_argument("--model", default="checkpoints/pocket")
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--prose", type=Path, default=Path("docs/pocket_card.toml"))
    parser.add_argument("--facts", action="store_true", help="list what {name} may be, and stop")
    given = parser.parse_args(arguments)
    try:
        info = read_info(find_model(given.model))
        results = read_results(given.results, info)
        if given.facts:
            listed = facts_of(info, results)
            sys.stdout.write("".join(f"{name} = {listed[name]}\n" for name in sorted(listed)))
            return 0
        path = write_card(info.folder, {}, read_prose(given.prose), results)
    except MusicgenRLError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
