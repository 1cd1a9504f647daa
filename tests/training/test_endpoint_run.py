import shutil
from pathlib import Path

import pytest
import torch

from musicgen_rl.checkpoint import checkpoints_folder, read_info
from musicgen_rl.cli import run
from musicgen_rl.errors import CheckpointError, ConfigError, InputError, ModelNotFoundError
from musicgen_rl.training.endpoint_config import EndpointConfig, read_preset
from musicgen_rl.training.endpoint_run import EndpointSources, load_parts, train_pair
from tests.merging.pairs import tune
from tests.models import save_tiny, save_tiny_musicgen


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    file = tmp_path / "prompts.txt"
    file.write_text("slow piano\nfast drums\nsad violin\n")
    return file


def test_a_start_of_another_base_is_refused(base: Path, prompts: Path, tmp_path: Path) -> None:
    other = save_tiny(tmp_path / "other", seed=1)
    start = tune(other, tmp_path / "start", 2, knows_base=True)
    sources = EndpointSources(base=str(base), prompts=prompts, start=str(start))
    with pytest.raises(CheckpointError, match="tuned from a base with hash"):
        load_parts(sources, EndpointConfig(prompts_per_step=2))


def test_a_start_of_the_same_base_and_the_bases_own_parts_are_loaded(
    base: Path, prompts: Path, tmp_path: Path
) -> None:
    start = tune(base, tmp_path / "start", 2, knows_base=True)
    sources = EndpointSources(base=str(base), prompts=prompts, start=str(start))
    parts = load_parts(sources, EndpointConfig(prompts_per_step=2))
    assert parts.prompts == ["slow piano", "fast drums", "sad violin"]
    name = "norm.weight"
    assert not torch.equal(parts.start_state[name], parts.base_state[name])
    assert parts.encoder is None
    assert parts.codec.num_codebooks == 3


@pytest.mark.parametrize(("arguments", "error", "message"), [
    (["--diversity-weight", "-1"], ConfigError, "diversity_weight must be 0"),
    (["--diversity-weight", "nan"], ConfigError, "diversity_weight must be 0"),
    (["--clips-per-prompt", "1"], ConfigError, "clips_per_prompt must be at least 2"),
    (["--prompts-per-step", "9"], InputError, "3 different prompts, a step takes 9"),
    (["--preset", "huge"], ConfigError, "unknown preset 'huge'"),
    (["--diversity-weight", "5", "--prompts-per-step", "2"], ConfigError, "training encoder"),
    (["--encoder", "/no/where", "--prompts-per-step", "2"], ModelNotFoundError, "no encoder at"),
    (["--preset", "pocket", "--end", "middle"], ConfigError, "--end must be quality or diversity"),
])  # fmt: skip
def test_mistakes_on_the_command_line_are_one_sentence_before_any_work(
    base: Path, prompts: Path, tmp_path: Path, arguments: list, error: type, message: str
) -> None:
    command = ["train", "endpoints", "--base", str(base), "--prompts", str(prompts)]
    with pytest.raises(error, match=message):
        run([*command, "-o", str(tmp_path / "run"), *arguments])
    assert not (tmp_path / "run").exists()


def test_an_empty_prompts_file_is_refused(base: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty.txt"
    empty.write_text("\n")
    with pytest.raises(InputError, match="holds no prompt"):
        run(["train", "endpoints", "--base", str(base), "--prompts", str(empty), "-o", "x"])


@pytest.mark.parametrize(("quality", "diversity", "message"), [
    (1.0, 1.0, "quality end has diversity_weight 0"),
    (0.0, 0.0, "needs diversity_weight above 0"),
    (0.0, 1.0, "needs a training encoder"),
])  # fmt: skip
def test_a_pair_is_checked_whole_before_its_first_end(
    base: Path, prompts: Path, tmp_path: Path, quality: float, diversity: float, message: str
) -> None:
    configs = [EndpointConfig(diversity_weight=w, prompts_per_step=2) for w in (quality, diversity)]
    sources = EndpointSources(base=str(base), prompts=prompts)
    with pytest.raises(ConfigError, match=message):
        train_pair(sources, configs[0], configs[1], tmp_path / "out", tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_one_end_from_the_command_line(base: Path, prompts: Path, tmp_path: Path, capsys) -> None:
    command = ["train", "endpoints", "--base", str(base), "--prompts", str(prompts)]
    command += ["-o", str(tmp_path / "run"), "--steps", "1", "--prompts-per-step", "2"]
    assert run([*command, "--clip-s", "0.2", "--train", "low-rank"]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "run" / "export")
    assert (tmp_path / "run" / "export" / "low_rank.safetensors").is_file()
    shutil.rmtree(tmp_path / "run" / "export")  # as a full disk leaves it
    assert run([*command, "--clip-s", "0.2", "--train", "low-rank"]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "run" / "export")
    assert (tmp_path / "run" / "export" / "low_rank.safetensors").is_file()


def test_a_run_from_the_command_line_does_not_go_on_with_other_prompts(
    base: Path, prompts: Path, tmp_path: Path
) -> None:
    command = ["train", "endpoints", "--base", str(base), "--prompts", str(prompts)]
    command += ["-o", str(tmp_path / "run"), "--steps", "1", "--prompts-per-step", "2"]
    assert run([*command, "--clip-s", "0.2", "--train", "low-rank"]) == 0
    prompts.write_text("a line more\n" + prompts.read_text())
    with pytest.raises(CheckpointError, match="begun with other prompts"):
        run([*command, "--clip-s", "0.2", "--train", "low-rank"])


@pytest.mark.parametrize("part", ["text encoder", "codec"])
def test_a_run_from_the_command_line_does_not_go_on_with_another_part_of_its_base(
    prompts: Path, tmp_path: Path, part: str
) -> None:
    reader, run_folder = tmp_path / "reader", tmp_path / "run"
    reader.mkdir()
    for file in (checkpoints_folder() / "minilm").iterdir():
        (reader / file.name).symlink_to(file.resolve())
    base = save_tiny(tmp_path / "base", text_encoder={"type": "minilm", "path": str(reader)})
    command = ["train", "endpoints", "--base", str(base), "--prompts", str(prompts)]
    command += ["-o", str(run_folder), "--prompts-per-step", "2", "--clip-s", "0.2"]
    command += ["--train", "low-rank", "--steps"]
    assert run([*command, "1"]) == 0
    changed = (base / "codec" if part == "codec" else reader) / "config.json"
    before = changed.read_text()
    changed.unlink()  # not what it links to
    changed.write_text(before + "\n")
    said = (
        rf"another {part} \(\w{{12}}, now \w{{12}}\): name the base .* or train into a new folder"
    )
    with pytest.raises(CheckpointError, match=said):
        run([*command, "2"])
    changed.write_text(before)
    assert run([*command, "2"]) == 0


def test_a_part_without_a_folder_of_its_own_is_not_hashed(tmp_path: Path, prompts: Path) -> None:
    base = save_tiny_musicgen(tmp_path / "musicgen")
    config = EndpointConfig(prompts_per_step=2)
    parts = load_parts(EndpointSources(base=str(base), prompts=prompts), config)
    assert (parts.text_hash, parts.codec_hash) == (None, None)


def test_the_control_of_the_diversity_end_differs_in_the_weight_alone(
    base: Path, prompts: Path, tmp_path: Path, capsys
) -> None:
    command = ["train", "endpoints", "--base", str(base), "--prompts", str(prompts)]
    command += ["--start", str(base), "--preset", "pocket", "--end", "diversity", "-o"]
    command += [str(tmp_path / "run"), "--diversity-weight", "0", "--steps", "1"]
    small = {"prompts_per_step": 2, "clips_per_prompt": 2, "clip_s": 0.2}
    for name, value in small.items():
        command += ["--" + name.replace("_", "-"), str(value)]
    assert run(command) == 0
    told = read_info(Path(capsys.readouterr().out.strip())).notes["endpoint"]
    preset = read_preset("pocket", "diversity") | {"diversity_weight": 0.0, "minutes": 0.0} | small
    assert preset["train"] == "low-rank"
    assert {name: told[name] for name in preset} == preset
