import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from musicgen_rl.checkpoint import CARD, ModelInfo, checkpoints_folder, model_hash, read_info
from musicgen_rl.errors import ConfigError
from musicgen_rl.training import pocket_tables as tables
from musicgen_rl.training.pocket_card import (
    SECTIONS,
    facts_of,
    main,
    model_card,
    read_prose,
    read_results,
)
from musicgen_rl.training.tokens import hash_folder
from tests.models import save_tiny

ROOT = Path(__file__).parents[2]
TRAINING = {"steps": 1234, "frames": 9, "seconds": 5.0, "loss": 1.5,
            "loss_per_codebook": [1.25, 2.5], "loss_null_per_codebook": [1.5, 2.75]}  # fmt: skip


@pytest.fixture
def info(tmp_path: Path) -> ModelInfo:
    notes = {"training": TRAINING, "train_hours": 2.5, "data_licenses": ["CC0-1.0"]}
    return read_info(save_tiny(tmp_path / "pocket", notes=notes))


def estimate(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.1, "high": value + 0.1}


def adherence(sha256: str = "") -> dict[str, Any]:
    settings = [(1.0, 1.0, 0.2), (3.0, 1.0, 0.4), (3.0, 0.8, 0.64), (2.0, 0.8, 0.3)]
    names = [f"guidance {g:g}, temperature {t:g}" for g, t, _ in settings]
    found = {n: {"style": estimate(s)} for n, (*_, s) in zip(names, settings, strict=True)}
    return {
        "about": {"model_sha256": sha256, "captions": ["a", "b"], "clips_per_prompt": 3,
                  "seconds": 5.0},
        "table": {"real": {"style": estimate(0.9), "named": estimate(0.7)}, **found},
        "differences": {"temperature 1: guidance 3 minus 1": {"style": estimate(0.2)}},
        "share of real": {n: {"style": v["style"]["value"] / 0.8} for n, v in found.items()},
        "rows": [{"name": "real"}] + [
            {"name": n, "guidance_scale": g, "temperature": t}
            for n, (g, t, _) in zip(names, settings, strict=True)
        ],
    }  # fmt: skip


def test_a_card_without_results_tells_what_the_run_itself_knows(info: ModelInfo) -> None:
    card = model_card(info, {"lm": {"seconds_of_last_run": 61.2, "machine": "one GPU"}})
    assert "| lm | 61 | one GPU |" in card
    assert "| 2 | 2.500 | 2.750 |" in card
    assert "2.5 h to learn from; licences of the audio: CC0-1.0." in card
    assert "## Codec" not in card
    assert re.search(r"0\.\d M parameters, 2 blocks of width 32, 3 codebooks of 40", card)


def test_texts_of_the_prose_stand_before_the_tables_of_their_section(info: ModelInfo) -> None:
    card = model_card(info, {}, {"loss": "After {steps} steps:", "limits": "None known."})
    assert "After 1,234 steps:\n\n| codebook" in card
    assert card.rstrip().endswith("## Limits\nNone known.")


def test_what_was_not_measured_is_not_talked_about(info: ModelInfo) -> None:
    prose = {"prompts": "{clean} of {prompts} are clean.", "music": "The sheet shows songs."}
    card = model_card(info, {}, prose)
    assert "clean" not in card
    assert "sheet" not in card
    rows = {"prompts": {"rows": [{"faults": []}]}}
    assert "## Prompts in plain words\n1 of 1 are clean." in model_card(info, {}, prose, rows)


def test_music_is_shown_beside_real_pieces(info: ModelInfo) -> None:
    many, few = {"clips": 20, "real clips": 9}, {"clips": 20, "real clips": 1}
    summary = {"pulse": {"made": 0.1, "real": 0.6, "format": ".2f", **many},
               "tempo": {"made": None, "real": 0.75, "format": ".0%", **many},
               "in named key": {"made": 0.5, "real": 0.9, "format": ".2f", **few}}  # fmt: skip
    card = model_card(info, {}, {}, {"music": {"summary": summary}})
    assert "| pulse | 0.10 | 0.60 |\n| tempo |  | 75% |" in card
    assert "in named key" not in card


@pytest.mark.parametrize(
    ("prose", "word"), [({"loss": "{stepps}"}, "stepps"), ({"losses": "x"}, "no section 'losses'")]
)
def test_an_unknown_fact_or_section_is_named(
    info: ModelInfo, prose: dict[str, str], word: str
) -> None:
    with pytest.raises(ConfigError, match=word):
        model_card(info, {}, prose)


def test_stages_made_by_hand_stand_in_the_prose(info: ModelInfo) -> None:
    stage = [{"stage": "codec", "what": "12 M", "seconds": 1980},
             {"stage": "corpus", "what": "14 h", "seconds": "about 4,400"},
             {"stage": "LM", "what": "{steps} steps", "seconds": "{seconds}"}]  # fmt: skip
    card = model_card(info, {}, {"stage": stage})
    assert "| LM | 1,234 steps | 5 |" in card
    assert "| codec | 12 M | 1,980 |" in card
    assert "| corpus | 14 h | about 4,400 |" in card


def test_adherence_shows_guidance_3_and_temperature_1_and_says_what_they_come_to(
    info: ModelInfo,
) -> None:
    card = model_card(info, {}, {}, {"adherence": adherence()})
    shown = re.findall(r"^\| (real|guidance [^|]+) \| ([^|]*) \|", card, re.MULTILINE)
    assert shown == [
        ("real", "0.90 ± 0.10"),
        ("guidance 1, temperature 1", "0.20 ± 0.10"),
        ("guidance 3, temperature 1", "0.40 ± 0.10"),
        ("guidance 3, temperature 0.8", "0.64 ± 0.10"),
    ]
    assert "style +0.20 (+0.10 to +0.30)" in card
    assert "As it ships (guidance 1, temperature 1) the style asked for is heard 25%" in card
    assert "The best of the 4 settings for style, guidance 3, temperature 0.8, comes to 80%" in card
    assert "which falls short of the aim" in card


def test_falling_short_of_the_aim_is_said() -> None:
    result = adherence()
    result["share of real"] = {"guidance 3, temperature 1": {"style": 0.74}}
    assert "74% as often" in tables.adherence_words(result)
    assert "falls short of the aim" in tables.adherence_words(result)


def test_the_shipped_setting_is_quoted_before_the_best() -> None:
    result = adherence()
    result["share of real"]["guidance 1, temperature 1"]["named"] = 0.5
    found = tables.adherence_words(result, "guidance 1, temperature 1")
    assert "As it ships (guidance 1, temperature 1) the style asked for is heard 25%" in found
    assert "what a caption names 50% as often, which falls short of the aim" in found
    assert found.endswith("The best of the 4 settings for style, guidance 3, temperature 0.8, "
                          "comes to 80%.")  # fmt: skip
    assert "At its best (guidance 3" in tables.adherence_words(result, "guidance 7, temperature 1")


def test_each_attribute_is_told_with_the_captions_that_ask_for_it() -> None:
    made = {"right: style": [1.0, 0.5], "right: mode": [None, 0.25], "right: drums": [None, None],
            "style": [1.0, 0.5]}  # fmt: skip
    real = {**made, "right: style": [1.0, 1.0]}
    result = {"rows": [{"name": "real, through the codec", "prompts": real},
                       {"name": "guidance 2, temperature 1", "prompts": made}]}  # fmt: skip
    found = tables.attribute_table(result, "guidance 2, temperature 1").splitlines()
    assert found[2:] == ["| style | 2 | 1.00 | 0.75 |", "| mode | 1 | 0.25 | 0.25 |"]
    assert tables.attribute_table(result, "guidance 3, temperature 1") == ""


def test_what_was_learnt_is_told_beside_what_was_held_out() -> None:
    curve = {"valid": [{"step": 9, "loss": 4.25}], "train": [{"step": 9, "loss": 3.75}]}
    found = tables.overfit_words(curve, {"frames": 900_000}, 5.0, 25.0)
    assert "learnt from costs 3.75 nats a code" in found
    assert "held-out music 4.25; the run went through 5 h about 2 times" in found
    assert tables.overfit_words({"valid": []}, {}, 5.0, 25.0) == ""


def test_what_the_heat_costs_is_told(info: ModelInfo) -> None:
    rows = {"as trained": {"loss": 4.25}, "as shipped": {"loss": 4.5, "temperature": [1.0, 1.5]}}
    heat = {"crops": 64, "pieces": 9, "rows": rows}
    card = model_card(info, {}, {}, {"heat": heat})
    assert "divided by temperatures (1, 1.5, codebook by codebook)" in card
    assert "64 crops of 9 other held-out pieces: 4.250 nats a code without them, 4.500" in card


def test_codec_rows_are_read_from_the_reports() -> None:
    report = {"clips": 24, "distance": 1.693, "chroma": 0.789, "onset_f1": 0.861,
              "used": [0.555, 0.394]}  # fmt: skip
    row = tables.codec_table({"of held-out pieces": report}).splitlines()[-1]
    assert row == "| 24 of held-out pieces | 1.69 | 0.79 | 0.86 |  | 0.39 to 0.56 |"
    more = {"onset_f1_moved": 0.927, "onset_f1_interval": [0.851, 0.871]}
    row = tables.codec_table({"of held-out pieces": report | more})
    assert "| 0.79 | 0.86 (0.85 to 0.87) | 0.93 |" in row


def test_used_codes_are_told_with_their_hours() -> None:
    rows = [{"hours": 0.067, "used": [0.5, 0.4]}, {"hours": 4.0, "used": [0.9, 0.75]}]
    assert "0.40 to 0.50 of 0.067 h, 0.75 to 0.90 of 4 h." in tables.usage_words(rows)


def test_the_course_of_the_loss_has_its_first_and_its_last_value() -> None:
    rows = [{"step": 10 * i, "loss": 6 - i / 100} for i in range(101)]
    found = tables.loss_course(rows, points=3)
    assert found == "0: 6.000, 500: 5.500, 1,000: 5.000"
    assert tables.loss_course(rows[:1]) == "0: 6.000"
    assert tables.loss_course([]) == ""


def test_facts_name_the_settings_of_the_adherence_table(info: ModelInfo) -> None:
    prompts = {"rows": [{"faults": []}, {"faults": ["drones"]}]}
    facts = facts_of(info, {"adherence": adherence(), "prompts": prompts})
    assert (facts["style_real"], facts["style_g3_t0_8"]) == ("0.90", "0.64")
    assert (facts["clean"], facts["prompts"], facts["train_hours"]) == ("1", "2", "2.5")
    begun = replace(info, notes={**info.notes, "start": {"train_hours": 4.0}})
    assert facts_of(begun, {})["train_hours_before"] == "4.0"


@pytest.fixture
def results(tmp_path: Path, info: ModelInfo) -> Callable[..., Path]:
    folder = tmp_path / "results"
    folder.mkdir()

    def write(name: str, **content: Any) -> Path:
        (folder / name).write_text(json.dumps(content))
        return folder

    return write


def test_results_of_the_model_are_read(info: ModelInfo, results: Callable[..., Path]) -> None:
    results("pocket_adherence.json", **adherence(model_hash(info)))
    results("codec_real.json", codec_hash=hash_folder(info.folder / "codec"))
    folder = results("pocket_loss.json", valid=[{"step": 9, "loss": 1.5}])
    assert sorted(read_results(folder, info)) == ["adherence", "codec_real", "loss"]


@pytest.mark.parametrize(
    ("name", "content"),
    [("pocket_adherence.json", adherence("ab12")), ("pocket_prompts.json", {"model_sha256": "x"}),
     ("codec_real.json", {"codec_hash": "cd34"})],
)  # fmt: skip
def test_results_of_another_model_or_codec_are_refused(
    info: ModelInfo, results: Callable[..., Path], name: str, content: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError, match=rf"{name} is about another model"):
        read_results(results(name, **content), info)


def test_the_curve_of_another_run_is_refused(info: ModelInfo, results: Callable[..., Path]) -> None:
    folder = results("pocket_loss.json", valid=[{"step": 9, "loss": 1.4}])
    with pytest.raises(ConfigError, match=r"ends at 1\.4000, the model's card says 1\.5000"):
        read_results(folder, info)


def test_ends_of_another_base_are_refused(info: ModelInfo) -> None:
    end = info.folder / "quality"
    end.mkdir()
    notes: dict[str, Any] = {
        "base": {"sha256": model_hash(info)}, "training": {"steps": 142, "seconds": 1196.2},
        "endpoint": {"prompts_per_step": 16, "clips_per_prompt": 2, "clip_s": 2.0, "train": "all",
                     "diversity_weight": 0.0},
    }  # fmt: skip
    (end / CARD).write_text(json.dumps({"notes": notes}))
    assert "| quality | 0 | all | 142 | 32 x 2 s | 1,196 |" in model_card(info, {})
    notes["base"]["sha256"] = "another"
    (end / CARD).write_text(json.dumps({"notes": notes}))
    with pytest.raises(ConfigError, match="tuned from another model"):
        model_card(info, {})


def test_the_command_writes_the_card_or_says_what_stands_in_the_way(
    tmp_path: Path, info: ModelInfo, results: Callable[..., Path], capsys: Any
) -> None:
    folder = results("codec_real.json", codec_hash="other")
    (tmp_path / "card.toml").write_text('intro = "Hello."\n')
    options = ["--model", str(info.folder), "--results", str(folder),
               "--prose", str(tmp_path / "card.toml")]  # fmt: skip
    assert main(options) == 2
    assert "make it again" in capsys.readouterr().err
    (folder / "codec_real.json").unlink()
    assert main(options) == 0
    assert "Hello." in (info.folder / "README.md").read_text()
    assert main([*options, "--facts"]) == 0
    assert "steps = 1,234" in capsys.readouterr().out
    (tmp_path / "card.toml").write_text("intro = \n")
    assert main(options) == 2


def test_the_prose_that_is_committed_names_known_facts_and_sections() -> None:
    prose = read_prose(ROOT / "docs" / "pocket_card.toml")
    assert prose.keys() <= {*SECTIONS, "intro", "stage"}
    info = read_info(checkpoints_folder() / "pocket")
    results = {n: json.loads((ROOT / f"benchmarks/results/pocket_{n}.json").read_text())
               for n in ("adherence", "prompts")}  # fmt: skip
    assert "## Does it follow prompts?" in model_card(info, {}, prose, results)
