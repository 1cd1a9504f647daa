"""The model card of a pocket model, from the records its stages left."""

from collections.abc import Mapping
from typing import Any

from musicgen_rl.checkpoint import ModelInfo

_LIMITS = """\
- Instruments are General MIDI sounds, tunes are composed by rule or re-orchestrated from the public
  domain; no voices, no lyrics, no recordings of people.
- Prompts are understood as far as the corpus has words for them: style, instruments, tempo, key and
  mode, mood, metre. Other words are passed over.
- Mono, one sample rate; form is learnt over one training crop and slides beyond it.
"""


def model_card(info: ModelInfo, records: Mapping[str, Mapping[str, Any]]) -> str:
    """Write the README of a model folder.

    Args:
        info: the model; `notes["training"]` holds the figures of its run.
        records: stage -> what `STAGE.json` says.

    Returns:
        Markdown.
    """
    training = info.notes.get("training", {})
    rows = [
        f"| {name} | {record['seconds_of_last_run']:.0f} | {record['machine']} |"
        for name, record in records.items()
    ]
    licenses = ", ".join(info.notes.get("data_licenses", [])) or "unknown"
    losses = [
        f"| {k + 1} | {given:.3f} | {null:.3f} |"
        for k, (given, null) in enumerate(
            zip(
                training.get("loss_per_codebook", []),
                training.get("loss_null_per_codebook", []),
                strict=True,
            )
        )
    ]
    lm = info.lm
    return "\n".join(
        [
            f"---\nlicense: {info.license.lower()}\n---",
            f"# {info.name}",
            "",
            f"Text to music: {lm.num_layers} blocks of width {lm.hidden_size}, "
            f"{lm.num_codebooks} codebooks of {lm.codebook_size}, {info.frame_rate:g} frames a "
            "second. Made by `make pocket` from data made by this project.",
            "",
            "## Data",
            f"{info.notes.get('train_hours', '?')} h to learn from; licences of the audio: "
            f"{licenses}.",
            "",
            "## Stages",
            "| stage | seconds | on |",
            "|---|---|---|",
            *rows,
            "",
            "Seconds are of the last start; a stage that was resumed took longer in all.",
            "",
            "## Held-out loss",
            f"After {training.get('steps', '?')} steps and {training.get('frames', '?')} frames, "
            "in nats a code, with the prompt and without it:",
            "",
            "| codebook | with | without |",
            "|---|---|---|",
            *losses,
            "",
            "## Limits",
            _LIMITS,
        ]
    )
