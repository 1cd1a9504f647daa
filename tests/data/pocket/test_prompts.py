import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from musicgen_rl.cli.data import app
from musicgen_rl.data.pocket.prompts import asks, choose_captions, corpora_of, corpora_words
from musicgen_rl.errors import ConfigError, InputError
from musicgen_rl.evaluation.prompts import _parse

FACTS = {
    "style": "bossa nova", "tempo_band": "medium", "mode": "minor", "drums": True,
    "instruments": ["vibraphone", "double bass"], "moods": ["sad", "calm"],
}  # fmt: skip


def test_only_what_the_caption_names_is_asked() -> None:
    assert asks("bossa nova in C minor", FACTS) == {"style": "bossa nova", "mode": "minor"}
    assert asks("vibes and drums", FACTS) == {"drums": True, "instruments": ["vibraphone"]}
    assert asks("116 bpm", FACTS) == {"tempo_band": "medium"}
    assert asks("something nice", FACTS) == {}
    assert "moods" in asks("a sad tune", FACTS)
    assert "style" not in asks("bossanovas", FACTS)  # whole words only


def test_results_can_name_the_corpora_they_are_of(tmp_path: Path) -> None:
    made = {"seed": 910, "valid": 0.49, "test": 0.4}
    (tmp_path / "corpus.json").write_text(json.dumps(made))
    found = corpora_of([tmp_path / "manifest.jsonl", tmp_path / "own" / "manifest.jsonl"])
    assert found == [made]
    assert "data make` with seed 910, --valid 0.49 --test 0.4." in corpora_words(found)
    assert corpora_words([]) == ""


def test_held_out_pieces_are_taken_style_by_style(tmp_path: Path) -> None:
    path = corpus(tmp_path)
    found = choose_captions([path], 2)
    assert [(c, w["style"]) for _, _, c, w in found] == [
        ("jazz tune", "jazz"),
        ("rock tune", "rock"),
    ]
    assert len(choose_captions([path], 9)) == 3
    assert found[0][0] == tmp_path / "0.flac"


def corpus(folder: Path, **changes: object) -> Path:
    rows = []
    for i, (style, split) in enumerate(
        [("jazz", "test"), ("jazz", "valid"), ("rock", "test"), ("rock", "train")]
    ):
        rows.append({"audio": f"{i}.flac", "captions": [f"{style} tune", "a tune"], "split": split,
                     "attributes": FACTS | {"style": style} | changes})  # fmt: skip
    path = folder / "manifest.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_held_out_captions_become_a_file_that_evaluate_reads(tmp_path: Path) -> None:
    manifest, target = corpus(tmp_path), tmp_path / "final.jsonl"
    result = CliRunner().invoke(app, ["prompts", str(manifest), "-o", str(target)])
    assert result.exit_code == 0, result.output
    found = [_parse(line) for line in target.read_text().splitlines()]
    assert [(p.text, p.attributes) for p in found] == [
        ("jazz tune", {"style": "jazz"}),
        ("rock tune", {"style": "rock"}),
    ]
    again = CliRunner().invoke(app, ["prompts", str(manifest), "-o", str(target)])
    assert isinstance(again.exception, ConfigError)
    assert "name a new file" in str(again.exception)


def test_what_prompts_cannot_be_made_of_is_refused(tmp_path: Path) -> None:
    manifest = corpus(tmp_path)
    options = ["prompts", str(manifest), "-o", str(tmp_path / "p.jsonl"), "--split", "train"]
    assert isinstance(CliRunner().invoke(app, options).exception, ConfigError)
    with pytest.raises(InputError, match="no style of the pocket corpus"):
        choose_captions([corpus(tmp_path, style="polka metal")], 3)
    with pytest.raises(InputError, match="no piece of split later"):
        choose_captions([corpus(tmp_path)], 3, splits=("later",))
