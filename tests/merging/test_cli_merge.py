import pytest
from typer.main import get_command

from musicgen_rl.checkpoint import read_info
from musicgen_rl.cli import failures, merge
from tests.merging.pairs import tune


@pytest.fixture(scope="module")
def models(tmp_path_factory, tiny_folder):
    home = tmp_path_factory.mktemp("pairs")
    for seed, name in enumerate(("a", "b")):
        tune(tiny_folder, home / name, seed)
    return home


def call(*arguments):
    def run():
        status = get_command(merge.app).main(
            args=[str(a) for a in arguments], prog_name="merge", standalone_mode=False
        )
        return status or 0

    return failures.guarded(run)


def test_merges_and_prints_the_folder(models, tiny_folder, tmp_path, capfd):
    out = tmp_path / "m"
    status = call(
        models / "a", models / "b", "--lam", 0.3, "--method", "liti", "--strength", 0.7,
        "--base", tiny_folder, "--dtype", "fp16", "-o", out,
    )  # fmt: skip
    assert status == 0
    assert capfd.readouterr().out == f"{out}\n"
    recipe = read_info(out).notes["merge"]
    assert (recipe["lam"], recipe["method"], recipe["strength"]) == (0.3, "liti", 0.7)
    assert recipe["base"]["name"] == "tiny"
    assert recipe["dtype"] == "float16"


def test_half_way_along_the_straight_line_by_default(models, tmp_path):
    assert call(models / "a", models / "b", "-o", tmp_path / "m") == 0
    recipe = read_info(tmp_path / "m").notes["merge"]
    assert (recipe["lam"], recipe["method"], recipe["base"]) == (0.5, "lerp", None)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--lam", "2"], "lam must be between 0 and 1, got 2.0"),
        (["--lam", "nan"], "lam must be between 0 and 1, got nan"),
        (["--lam", "half"], "Invalid value for '--lam'"),
        (["--method", "ties"], "unknown method 'ties': use lerp, slerp, liti"),
        (["--method", "slerp"], "--method slerp needs --base"),
        (["--strength", "0.5"], "--strength is for --method liti, not lerp"),
        (["--dtype", "int8"], "unknown dtype 'int8': use fp32, fp16, bf16"),
        (["--base", "nowhere"], "no model 'nowhere'"),
        (["-o", ""], "--output '' is empty"),
    ],
)
def test_a_mistake_is_one_line_and_no_folder(models, tmp_path, capfd, options, said):
    out = [] if "-o" in options else ["-o", tmp_path / "m"]
    assert call(models / "a", models / "b", *out, *options) == 2
    captured = capfd.readouterr()
    assert said in captured.err
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert captured.out == ""
    assert list(tmp_path.iterdir()) == []
