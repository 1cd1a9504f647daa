"""`musicgen-rl evaluate`: mistakes in one line, before any work."""

import json
from pathlib import Path

import pytest


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.txt"
    path.write_text("".join(f"jazz {i}\n" for i in range(6)))
    return path


def test_what_is_missing_is_named(call, tmp_path, prompts):
    call("evaluate", "--model", "pocket").refused("no output", "-o")
    call("evaluate", "-o", tmp_path / "out").refused("no prompts", "--prompts")
    call("evaluate", "-o", tmp_path / "out", "--prompts", "nowhere.txt").refused("nowhere.txt")
    call("evaluate", "-o", tmp_path / "out", "--prompts", prompts, "--real", "nowhere.npz").refused(
        "--real", "nowhere.npz"
    )
    assert not (tmp_path / "out").exists()


def test_arms_and_settings_that_cannot_be_are_named(call, tmp_path, prompts, tiny_folder):
    common = ("evaluate", "-o", tmp_path / "out", "--prompts", prompts, "--model", tiny_folder)
    call(*common, "--arms", "guidance 3,loud").refused("no arm 'loud'", "temperature 1.2")
    call(*common, "--arms", "quality").refused("no arm 'quality'")
    call(*common, "-n", 1).refused("clips_per_prompt", "got 1")
    call(*common, "--quality", "somewhere").refused("--quality and --diversity go together")
    call(*common, "--arms", "model nowhere as beta0").refused("arm 'beta0'", "nowhere")
    call(*common, "--split", "secret").refused("unknown split 'secret'")
    call(*common, "--reference", "king").refused("no arm 'king'")
    for arms in ("", " , "):
        call(*common, "--arms", arms).refused(f"--arms {arms!r} names no arm", "leave it out")
    call(*common, "--again").refused("--again is for a final split", "--split final")
    call(*common, "--again", "--split", "development").refused("the split is 'development'")
    call(*common, "--json").refused("--json is for --compare", "leave it out")
    call(*common, "--instruments", tmp_path).refused("no instruments", "encoder-report")
    assert not (tmp_path / "out").exists()


def test_files_of_arms_that_hold_other_things_are_refused_in_a_line(
    call, tmp_path, prompts, tiny_folder
):
    arms = tmp_path / "arms.json"
    common = ("evaluate", "-o", tmp_path / "out", "--prompts", prompts, "--model", tiny_folder)
    for content, words in (
        ({"sampling": "x"}, ('"sampling" must be an object', "got 'x'")),
        ({"refrence": "base"}, ("unknown 'refrence'", "use reference, sampling, arms")),
        ({"arms": [{"name": "base", "family": []}]}, ("arm 'base': unknown family []",)),
        ({"arms": [{"name": "base", "sampling": "x"}]}, ("arm 'base': \"sampling\" must be",)),
    ):
        arms.write_text(json.dumps({"arms": [{"name": "base"}]} | content))
        call(*common, "--arms", arms).refused(*words)
    assert not (tmp_path / "out").exists()


def test_results_that_are_none_are_not_compared(call, tmp_path):
    call("evaluate", "--compare", tmp_path, tmp_path).refused("lacks summary.json")
    (tmp_path / "summary.json").write_text(json.dumps({"schema": "x"}))
    call("evaluate", "--compare", tmp_path, tmp_path).refused("is no evaluation")


def test_folders_of_clips_are_checked_before_they_are_measured(call, tmp_path):
    call("evaluate", "--clips", tmp_path / "none", "-o", tmp_path / "out").refused("not a folder")
    (tmp_path / "clips").mkdir()
    call("evaluate", "--clips", tmp_path / "clips", "-o", tmp_path / "out").refused("no arm/prompt")


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (("-P", 6), "--num-prompts"), (("-n", 8), "--clips-per-prompt"),
        (("--duration", 10), "--duration"), (("--quick",), "--quick"), (("--seed", 0), "--seed"),
        (("--arms", "default"), "--arms"), (("--beta0", "x"), "--beta0"),
        (("--model", "pocket"), "--model"), (("--keep-audio",), "--keep-audio"),
    ],
)  # fmt: skip
def test_options_that_make_clips_are_refused_beside_existing_ones(call, tmp_path, given, named):
    done = call("evaluate", "--clips", tmp_path / "none", "-o", tmp_path / "out", *given)
    done.refused(f"{named} means nothing with --clips", "leave it out")


def test_a_device_is_for_clap_too(call, tmp_path):
    common = ("evaluate", "--clips", tmp_path / "none", "-o", tmp_path / "out", "--device", "cpu")
    call(*common).refused("--device means nothing with --clips")
    call(*common, "--clap", "x").refused("not a folder")


@pytest.mark.parametrize(
    ("given", "named"),
    [(("-o", "out"), "--output"), (("--prompts", "p.txt"), "--prompts"), (("--again",), "--again"),
     (("--seed", 0), "--seed"), (("--clips", "clips"), "--clips")],
)  # fmt: skip
def test_options_that_a_comparison_does_not_read_are_refused(call, tmp_path, given, named):
    done = call("evaluate", "--compare", tmp_path, tmp_path, "--json", *given)
    done.refused(f"{named} means nothing with --compare", "leave it out")


def test_a_table_of_prompts_is_not_read_as_lines(call, tmp_path, prompts, tiny_folder):
    table = prompts.rename(prompts.with_suffix(".csv"))
    call("evaluate", "-o", tmp_path / "out", "--prompts", table, "--model", tiny_folder).refused(
        "ends in .csv", ".txt", ".jsonl"
    )
    assert not (tmp_path / "out").exists()


def test_help_names_every_way_to_use_it(call):
    done = call("evaluate", "--help")
    assert done.code == 0
    for word in ("--arms", "--clips", "--compare", "--quick", "--real", "--beta0", "--split"):
        assert word in done.out
