"""What is asked for and what is compared: files read, mistakes named."""

import json
from pathlib import Path

import pytest

from musicgen_rl.batch import make_plan
from musicgen_rl.errors import ConfigError, InputError
from musicgen_rl.evaluation.arms import (
    Arm,
    Mix,
    check_arms,
    choose_arms,
    default_arms,
    read_arms,
)
from musicgen_rl.evaluation.plan import (
    EvaluationConfig,
    claim_folder,
    count_use,
    describe_plan,
    items_of,
    refuse_second_look,
    require_final,
)
from musicgen_rl.evaluation.prompts import Prompt, asked, read_prompts, spread_prompts
from musicgen_rl.evaluation.run import _workers
from musicgen_rl.merging.recipe import MergeConfig

CLASSES = {"style": ("pop", "synth pop", "jazz"), "moods": ("calm", "sad")}


def write(path: Path, *lines: object) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(x if isinstance(x, str) else json.dumps(x) for x in lines) + "\n")
    return path


def test_text_files_give_a_prompt_a_line(tmp_path: Path) -> None:
    path = write(tmp_path / "p.txt", "# made up", *(f"jazz number {i}" for i in range(6)), "", "")
    assert [p.text for p in read_prompts(path)] == [f"jazz number {i}" for i in range(6)]
    assert asked(read_prompts(path)[0], CLASSES) == {"style": "jazz"}


def test_json_lines_say_what_is_asked_for(tmp_path: Path) -> None:
    rows = [{"prompt": f"p {i}", "attributes": {"style": "jazz", "key": "C"}} for i in range(6)]
    prompt = read_prompts(write(tmp_path / "p.jsonl", *rows))[0]
    assert asked(prompt, CLASSES) == {"style": "jazz"}  # the probe knows no key


def test_a_manifests_attributes_count_only_where_the_caption_says_them(tmp_path: Path) -> None:
    row = {"audio": "a.flac", "attributes": {"style": "jazz", "moods": ["calm", "sad"]}}
    rows = [row | {"captions": [f"calm tune {i}", "jazz"]} for i in range(6)]
    prompt = read_prompts(write(tmp_path / "m.jsonl", *rows))[0]
    assert prompt.text == "calm tune 0"
    assert asked(prompt, CLASSES) == {"moods": "calm"}


def test_words_count_whole_once_and_the_longest() -> None:
    assert asked(Prompt("bright synth pop"), CLASSES) == {"style": "synth pop"}
    assert asked(Prompt("popular jazzy"), CLASSES) == {}
    assert asked(Prompt("jazz or pop"), CLASSES) == {}


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["a", "b"], "2 prompts are too few"),
        (["a", "b", "c", "d", "e", "f", "b"], r"line 7: the prompt 'b' is there already"),
    ],
)
def test_unusable_prompts_are_refused(tmp_path: Path, lines: list[str], says: str) -> None:
    with pytest.raises(InputError, match=says):
        read_prompts(write(tmp_path / "p.txt", *lines))
    with pytest.raises(InputError, match="line 1: not JSON"):
        read_prompts(write(tmp_path / "p.jsonl", "{", *lines))


@pytest.mark.parametrize("name", ["p.csv", "p.TSV", "p.parquet", "p.yaml"])
def test_other_kinds_of_files_are_not_taken_as_lines(tmp_path: Path, name: str) -> None:
    lines = ["prompt,seed", *(f"jazz {i},{i}" for i in range(6))]
    with pytest.raises(InputError, match=r"is not read as prompts: write them to a \.txt.*\.jsonl"):
        read_prompts(write(tmp_path / name, *lines))


def test_fewer_prompts_are_spread_over_the_file() -> None:
    prompts = [Prompt(str(i)) for i in range(10)]
    assert [p.text for p in spread_prompts(prompts, 4)] == ["0", "2", "5", "7"]
    assert len(spread_prompts(prompts, 0)) == len(spread_prompts(prompts, 99)) == 10


def test_default_arms_hold_every_sweep_and_control() -> None:
    arms = {a.name: a for a in default_arms(dial=True, beta0="b", continued="c")}
    assert arms["base"].guidance_scale == 1.0
    assert arms["guidance 2"].guidance_scale == 2.0
    assert [arms[n].lam for n in ("quality", "merge 0.25", "diversity")] == [0.0, 0.25, 1.0]
    assert arms["slerp 0.5"].merge_method == "slerp"
    assert arms["base with quality 0.5"].mix == Mix(first="base", second="quality")
    assert {arms[n].role for n in arms} == {"", "beta-0", "half-way", "continued"}
    assert len(default_arms(dial=True, quick=True)) == 6
    assert not [a for a in default_arms(dial=False) if a.lam is not None]


def test_a_pair_of_folders_stands_for_the_ends() -> None:
    arms = {a.name: a for a in default_arms(dial=False, pair=("q", "d"))}
    assert arms["merge 0.5"].mix == Mix(first="q", second="d", config=MergeConfig(lam=0.5))
    assert arms["quality"].lam == 0.0
    assert arms["base with quality 0.5"].mix == Mix(first="base", second="q")


def test_arms_files_hold_any_mixture(tmp_path: Path) -> None:
    merge = {"quality": "base", "diversity": "other/folder", "lam": 0.7, "method": "slerp"}
    content = {
        "sampling": {"top_k": 50},
        "reference": "plain",
        "arms": [
            {"name": "plain"},
            {"name": "hot", "family": "temperature", "sampling": {"temperature": 1.3}},
            {"name": "mixed", "family": "control", "role": "half-way", "merge": merge},
            {"name": "dial", "diversity": 0.3, "merge_method": "liti"},
        ],
    }
    arms, reference = read_arms(write(tmp_path / "a.json", content))
    assert reference == "plain"
    assert arms[1].sampling == {"top_k": 50, "temperature": 1.3}
    assert arms[2].mix == Mix(
        first="base", second="other/folder", config=MergeConfig(lam=0.7, method="slerp")
    )
    assert (arms[3].lam, arms[3].merge_method) == (0.3, "liti")


@pytest.mark.parametrize(
    ("arm", "says"),
    [
        ({"name": "x", "family": "magic"}, "unknown family 'magic'"),
        ({"name": "x", "tempature": 1}, "unknown 'tempature'"),
        ({"name": "x", "sampling": {"temperature": -1}}, "'x': temperature"),
        ({"name": "x", "diversity": 2}, "diversity must be between 0 and 1"),
        ({"name": "x", "model": "m", "diversity": 0.5}, "not more"),
        ({"name": "x", "role": "king"}, "unknown role"),
        ({"name": "x", "sampling": "hot"}, r"'x': \"sampling\" must be an object.*got 'hot'"),
        ({"name": "x", "sampling": []}, r"'x': \"sampling\" must be an object.*got \[\]"),
        ({"name": "x", "family": []}, r"'x': unknown family \[\]"),
        ({"name": "x", "role": ["king"]}, r"'x': unknown role"),
        ({"name": "x", "model": 5}, "'x': 'model' must be text, got 5"),
        ({"name": "x", "model": []}, r"'x': 'model' must be text, got \[\]"),
        ({"name": "x", "diversity": 0.5, "merge_method": {}}, "'merge_method' must be text"),
        ({"name": "x", "merge_method": "slerp"}, "'x': merge_method 'slerp' is for \"diversity\""),
    ],
)
def test_arms_that_cannot_be_are_refused(tmp_path: Path, arm: dict, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        read_arms(write(tmp_path / "a.json", {"arms": [arm]}))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"sampling": "hot"}, r"a\.json: \"sampling\" must be an object such as .*got 'hot'"),
        ({"sampling": [1]}, r"a\.json: \"sampling\" must be an object"),
        ({"refrence": "x"}, r"a\.json: unknown 'refrence': use reference, sampling, arms"),
        ({"reference": ["x"]}, r"a\.json: 'reference' must be text, got \['x'\]"),
        ({"reference": 0}, r"a\.json: 'reference' must be text, got 0"),
    ],
)
def test_arms_files_that_hold_other_things_are_refused(
    tmp_path: Path, change: dict, says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        read_arms(write(tmp_path / "a.json", {"arms": [{"name": "x"}]} | change))


@pytest.mark.parametrize(
    ("merge", "says"),
    [
        (
            {"quality": "base", "diversity": "quality", "lambda": 0.3},
            "unknown 'lambda' in \"merge\"",
        ),
        (0.5, 'must be an object.*got 0.5.*write "diversity"'),
        (["base", "quality"], "must be an object"),
        ({"lam": 3}, "lam"),
    ],
)
def test_a_merge_that_is_none_is_refused_by_arm_and_fault(
    tmp_path: Path, merge: object, says: str
) -> None:
    with pytest.raises(ConfigError, match=f"arm 'mine': .*{says}"):
        read_arms(write(tmp_path / "a.json", {"arms": [{"name": "mine", "merge": merge}]}))


def test_arms_that_cannot_be_told_apart_or_do_not_exist_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="have one name"):
        check_arms([Arm(name="a b"), Arm(name="A-b")], "a b")
    with pytest.raises(ConfigError, match="no arm 'c' to compare"):
        check_arms([Arm(name="a")], "c")
    arms = default_arms(dial=False)
    assert [a.name for a in choose_arms(arms, ["guidance 3"], "base")] == ["base", "guidance 3"]
    with pytest.raises(ConfigError, match="no arm 'loud'"):
        choose_arms(arms, ["loud"], "base")
    with pytest.raises(InputError, match="holds no arms"):
        read_arms(write(tmp_path / "a.json", {"arms": []}))


def test_other_models_are_arms_and_the_trained_controls_know_their_roles() -> None:
    arms = default_arms(dial=True, continued="runs/more")
    found = choose_arms(
        arms, ["quality", "model runs/a b/export as beta0", "model org/other as theirs"], "base"
    )
    assert [a.name for a in found] == ["base", "quality", "continued", "beta0", "theirs"]
    told = [(a.model, a.family, a.role) for a in found[2:]]
    assert told == [
        ("runs/more", "control", "continued"), ("runs/a b/export", "control", "beta-0"),
        ("org/other", "other", ""),
    ]  # fmt: skip
    everything = choose_arms(arms, ["default", "model x as beta0"], "base")
    assert [a.name for a in everything] == [a.name for a in arms] + ["beta0"]
    assert not [a.name for a in arms if "," in a.name]  # or it could not be named in a list


def test_arms_hear_the_same_noise_and_prompts_their_own() -> None:
    config = EvaluationConfig(clips_per_prompt=2, duration_s=3, seed=7)
    prompts = [Prompt("a"), Prompt("b")]
    guided = Arm(name="g", sampling={"guidance_scale": 3.0})
    one, two = (items_of(a, "pocket", prompts, config) for a in (Arm(name="base"), guided))
    assert [(i.prompt, i.seed, i.index) for i in one] == [
        ("a", 7, 0), ("a", 7, 1), ("b", 8, 0), ("b", 8, 1)
    ]  # fmt: skip
    assert [(i.seed, i.index) for i in one] == [(i.seed, i.index) for i in two]
    assert (one[0].guidance_scale, two[0].guidance_scale) == (1.0, 3.0)
    assert one[0].temperature == 1.0


def test_processes_are_as_many_as_threads_and_memory_bear_and_eight_at_most(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = EvaluationConfig(clips_per_prompt=100, duration_s=1.0)
    prompts = [Prompt(f"tune {i}") for i in range(8)]
    items = items_of(Arm(name="base"), str(tiny_folder), prompts, config)
    plan = make_plan(items, device="cpu", dtype="fp32")

    def chosen(threads: int, free: int, of: frozenset[str] = frozenset(plan.ids)) -> int:
        monkeypatch.setattr("torch.get_num_threads", lambda: threads)
        monkeypatch.setattr("musicgen_rl.pipeline.devices.available_bytes", lambda *_, **__: free)
        return _workers(plan, of)

    assert [chosen(n, 10**12) for n in (1, 3, 64)] == [1, 3, 8]
    assert chosen(64, 10**8) == 1
    assert 1 < chosen(64, 3 * 10**9) < 8
    assert chosen(64, 10**12, frozenset(plan.ids[:3])) == 1  # too little to start another for


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [("clips_per_prompt", 1, "compares clips of one prompt"), ("duration_s", 0.5, "duration"),
     ("split", "secret", "unknown split"), ("real_clips", 3, "real_clips")],
)  # fmt: skip
def test_settings_that_measure_nothing_are_refused(field: str, value: object, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        EvaluationConfig(**{field: value})


def test_a_folder_belongs_to_one_plan_whatever_its_statistics(tmp_path: Path) -> None:
    plan = {"config": {"seed": 1, "statistics": {"draws": 500}}, "arms": ["a"]}
    claim_folder(tmp_path / "out", plan)
    claim_folder(tmp_path / "out", plan | {"config": {"seed": 1, "statistics": {"draws": 900}}})
    with pytest.raises(ConfigError, match="other arms"):
        claim_folder(tmp_path / "out", plan | {"arms": ["b"]})
    write(tmp_path / "full.txt", "mine")
    with pytest.raises(ConfigError, match="is not empty"):
        claim_folder(tmp_path, plan)


def test_a_folder_belongs_to_what_its_prompts_ask_for(tmp_path: Path) -> None:
    config, arms = EvaluationConfig(), [Arm(name="base")]

    def plan(style: str) -> dict:
        prompts = [Prompt(f"tune {i}", {"style": style}, from_words=False) for i in range(6)]
        return describe_plan(config, arms, prompts, "m")

    jazz, rock = plan("jazz"), plan("rock")
    claim_folder(tmp_path / "out", jazz)
    claim_folder(tmp_path / "out", jazz)
    with pytest.raises(ConfigError, match="with other attributes: name a new folder"):
        claim_folder(tmp_path / "out", rock)
    silent = {k: v for k, v in jazz.items() if k != "attributes"}
    write(tmp_path / "silent" / "plan.json", silent)
    claim_folder(tmp_path / "silent", rock)  # nobody wrote down what was asked for
    file = tmp_path / "final.txt"
    assert count_use(file, silent) == count_use(file, jazz) == count_use(file, rock) == 1


def test_what_differs_between_two_plans_is_named(tmp_path: Path) -> None:
    plan = {"config": {"seed": 1}, "weights": {"base": {"m": "1"}, "mine": {"m": "2"}}}
    claim_folder(tmp_path / "out", plan)
    with pytest.raises(ConfigError, match=r"other config \(seed\), weights \(mine\): name"):
        claim_folder(
            tmp_path / "out",
            {"config": {"seed": 2}, "weights": {"base": {"m": "1"}, "mine": {"m": "3"}}},
        )


def test_weights_under_last_names_are_known_again(tmp_path: Path) -> None:
    plan = {"config": {"seed": 1}, "model": "m"}
    last = plan | {"weights": {"mine": {"export": "two"}}}
    full = plan | {"weights": {"mine": {"q/export": "one", "d/export": "two"}}}
    other = plan | {"weights": {"mine": {"q/export": "one", "d/export": "three"}}}
    claim_folder(tmp_path / "out", last)
    with pytest.raises(ConfigError, match="other weights"):
        claim_folder(tmp_path / "out", other)
    claim_folder(tmp_path / "out", full)
    file = tmp_path / "final.txt"
    assert [count_use(file, p) for p in (last, full, other)] == [1, 1, 2]


def test_uses_of_the_final_split_are_counted_and_going_on_is_no_second_look(tmp_path: Path) -> None:
    prompts = tmp_path / "final.txt"
    plan = {"config": {"seed": 1}, "model": "m", "date": "2026-11-01"}
    assert count_use(prompts, plan) == 1
    assert count_use(prompts, plan | {"date": "2026-11-02"}) == 1  # the same clips made anew
    assert count_use(prompts, plan | {"model": "n"}) == 2
    how = {"device": "cpu", "dtype": "fp32", "parts": {"m codec": "1"}}
    assert count_use(prompts, plan | how) == 2  # an older list of uses knows the plan still
    assert len((tmp_path / "final.uses.jsonl").read_text().splitlines()) == 2


def test_again_is_for_a_final_split_only() -> None:
    for split in ("", "development"):
        require_final(split, False)
        with pytest.raises(ConfigError, match=f"the split is '{split}': say --split final too"):
            require_final(split, True)
    require_final("final", True)


def test_a_second_look_at_the_final_split_is_refused_unless_asked_for(tmp_path: Path) -> None:
    prompts = tmp_path / "final.txt"
    plan, other = {"config": {"seed": 1}, "model": "m"}, {"config": {"seed": 2}, "model": "m"}
    refuse_second_look(prompts, plan, "final", False)
    refuse_second_look(prompts, plan, "development", False)  # nobody has said what it is
    count_use(prompts, plan)
    refuse_second_look(prompts, plan, "final", False)
    refuse_second_look(prompts, other, "final", True)
    with pytest.raises(ConfigError, match=r"final\.txt was used already .*--again"):
        refuse_second_look(prompts, other, "final", False)
    for split in ("", "development"):  # not even by the same plan, nor knowingly
        with pytest.raises(ConfigError, match=r"is a final split.*say --split final"):
            refuse_second_look(prompts, plan, split, True)
    (tmp_path / "final.uses.jsonl").write_text("{}")
    with pytest.raises(InputError, match="is not a list of uses"):
        refuse_second_look(prompts, plan, "final", False)
