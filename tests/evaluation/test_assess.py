"""Evaluations from beginning to end on tiny models: made, stopped, gone on with, compared."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from musicgen_rl.audio.clip import Clip
from musicgen_rl.checkpoint import model_hash, read_info
from musicgen_rl.codec.base import Codec
from musicgen_rl.errors import AudioFileError, ConfigError, InputError
from musicgen_rl.evaluation import assess
from musicgen_rl.evaluation.analyse import StatisticsConfig
from musicgen_rl.evaluation.arms import Arm, Mix
from musicgen_rl.evaluation.assess import Around, assess_clips, assess_model
from musicgen_rl.evaluation.compare import compare
from musicgen_rl.evaluation.instruments import Instruments
from musicgen_rl.evaluation.plan import EvaluationConfig
from musicgen_rl.evaluation.real import RealSet
from musicgen_rl.evaluation.summary import read_summary
from musicgen_rl.evaluation.table import read_rows
from musicgen_rl.evaluation.weights import model_of, short_names
from musicgen_rl.merging.recipe import MergeConfig
from tests.evaluation.fakes import FakeEncoder, fake_instruments

ARMS = [
    Arm(name="base", family="base"),
    Arm(name="guidance 3", family="guidance", sampling={"guidance_scale": 3.0}),
    Arm(name="quality", family="merge", diversity=0.0),
    Arm(name="merge 0.5", family="merge", diversity=0.5),
    Arm(name="diversity", family="merge", diversity=1.0),
    Arm(name="half-way", family="control", role="half-way",
        mix=Mix(first="base", second="quality")),
]  # fmt: skip
CONFIG = EvaluationConfig(
    num_prompts=0, clips_per_prompt=6, duration_s=1.0, real_clips=32, throughput=False,
    statistics=StatisticsConfig(draws=300),
)  # fmt: skip


@pytest.fixture(autouse=True)
def _fakes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(
        assess, "load_instruments", lambda folder, codec=None, **_: fake_instruments(codec)
    )
    monkeypatch.setattr(assess, "find_instruments", lambda given, model: tmp_path)


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    styles = ["jazz", "rock"] * 3
    rows = [
        {"prompt": f"{style} tune {i}", "attributes": {"style": style, "moods": ["calm"]}}
        for i, style in enumerate(styles)
    ]
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


def write_tone(path: Path, seed: int, seconds: float = 1.0, rate: int = 8000) -> None:
    generator = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    tone = 0.2 * np.sin(2 * np.pi * generator.uniform(100, 2000) * time)
    path.parent.mkdir(parents=True, exist_ok=True)
    Clip(tone + 0.01 * generator.normal(size=len(time)), rate).save(path)


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    lines = []
    for i in range(44):
        write_tone(tmp_path / f"real/{i}.wav", i, 1.5)
        row = {"audio": f"real/{i}.wav", "duration_s": 1.5, "caption": f"jazz piece {i}"}
        lines.append(json.dumps(row | {"split": "test", "attributes": {"style": "jazz"}}))
    (tmp_path / "real.jsonl").write_text("\n".join(lines))
    return tmp_path / "real.jsonl"


def test_a_model_is_evaluated_stopped_and_gone_on_with(
    dial_folder: Path, prompts: Path, manifest: Path, tmp_path: Path
) -> None:
    around, out = Around(real=str(manifest), command="musicgen-rl evaluate"), tmp_path / "out"
    said: list[str] = []

    def go(folder: Path, stop=lambda: False, arms=ARMS):  # type: ignore[no-untyped-def]
        return assess_model(
            str(dial_folder), prompts, arms, "base", folder, CONFIG, around, say=said.append,
            stop=stop,
        )  # fmt: skip

    assert go(out, stop=lambda: any("(2 of 6 arms)" in line for line in said)) is None
    assert said.count("6 arms x 6 prompts x 6 clips of 1 s: 216 clips, 0.06 h") == 1
    assert not (out / "summary.json").exists()
    first = {p: p.stat().st_mtime_ns for p in (out / "measured").glob("*.parquet")}
    known = {row["arm"] for path in first for row in read_rows(path)[0]}
    assert 2 <= len(known) < 6
    summary = go(out)
    assert summary is not None
    assert all(p.stat().st_mtime_ns == at for p, at in first.items())  # not measured again
    around = Around(real=str(out / "real.npz"))
    whole = go(tmp_path / "whole", arms=ARMS[:2])
    assert whole is not None
    for arm in (0, 1):  # neither a stop nor the company of other arms changes a number
        ours, theirs = (s["arms"][arm]["estimates"] for s in (summary, whole))
        assert ours == theirs

    assert read_summary(out) == json.loads((out / "summary.json").read_text())
    rows, identities = read_rows(out / "clips.parquet")
    assert len(rows) == 6 * 6 * 6
    assert identities == summary["instruments"]
    assert len({r["arm"] for r in rows}) == 6
    arms = {a["name"]: a for a in summary["arms"]}
    assert arms["half-way"]["weights"] == {
        "first": "base", "second": "quality", "lam": 0.5, "method": "lerp"
    }  # fmt: skip
    for key in ("adherence_report", "probe_logp", "kid_report", "frechet_report", "distinct",
                "diversity_report", "diversity_training", "vendi_report", "share_report",
                "silent"):  # fmt: skip
        e = arms["quality"]["estimates"][key]
        assert e["low"] <= e["value"] <= e["high"]
    assert arms["base"]["differences"] == {}
    assert set(summary["lines"]) == {"real", "codec floor", "wrong caption"}
    assert summary["instruments"]["encoder training"]["training_saw_it"] is True
    assert summary["claims"][0]["name"] == "distilled ~ guided"
    values = {n: a["estimates"]["diversity_report"]["value"] for n, a in arms.items()}
    assert len(set(values.values())) == 6  # every arm has weights or sampling of its own

    assert not list((out / "audio").rglob("*.flac"))
    samples = sorted((out / "samples" / "base").iterdir())
    assert [p.name for p in samples[:3]] == ["000-00.ogg", "000-01.ogg", "001-00.ogg"]
    page = (out / "report.html").read_text()
    assert "samples/merge-0.5/000-00.ogg" in page
    assert "<svg" in page
    assert 'id="arm-0-3"' in page
    assert 'src="http' not in page
    assert "url(http" not in page
    assert (out / "front.svg").stat().st_size > 2000
    assert (out / "front.png").read_bytes()[:4] == b"\x89PNG"

    real = RealSet.load(out / "real.npz")
    assert real.reference["report"].shape == (32, 8)


def test_a_final_split_is_used_once_however_often_it_is_gone_on_with(
    dial_folder: Path, prompts: Path, tmp_path: Path
) -> None:
    config, said = replace(CONFIG, split="final", clips_per_prompt=2), list[str]()

    def go(out: str, arms: list[Arm], again: bool = False, stop=lambda: False):  # type: ignore[no-untyped-def]
        return assess_model(
            str(dial_folder), prompts, arms, "base", tmp_path / out, config, Around(again=again),
            say=said.append, stop=stop,
        )  # fmt: skip

    assert go("one", ARMS[:3], stop=lambda: any("(1 of 3 arms)" in line for line in said)) is None
    with pytest.raises(ConfigError, match="was used already"):  # though it showed no result yet
        go("two", ARMS[:2])
    assert not (tmp_path / "two").exists()
    done = go("one", ARMS[:3])
    assert done is not None
    assert (done["made"]["split"], done["made"]["uses_of_final_split"]) == ("final", 1)
    assert "final split, use number 1" in (tmp_path / "one/report.html").read_text()
    knowingly = go("two", ARMS[:2], again=True)
    assert knowingly is not None
    assert knowingly["made"]["uses_of_final_split"] == 2
    assert any("the final split is used for time number 2" in line for line in said)


def test_a_stopped_evaluation_is_not_gone_on_with_by_other_instruments_or_weights(
    dial_folder: Path, prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = shutil.copytree(dial_folder, tmp_path / "model")
    arms, said = [ARMS[0], ARMS[1], replace(ARMS[5], role="")], list[str]()
    config = replace(CONFIG, clips_per_prompt=2)

    def go(stop=lambda: False):  # type: ignore[no-untyped-def]
        return assess_model(
            str(model), prompts, arms, "base", tmp_path / "out", config, Around(), say=said.append,
            stop=stop,
        )  # fmt: skip

    assert go(lambda: any("(1 of 3 arms)" in line for line in said)) is None
    before = {p: p.read_bytes() for p in (tmp_path / "out/measured").iterdir()}
    with monkeypatch.context() as patch:
        patch.setattr(
            assess, "load_instruments", lambda folder, codec=None, **_: fake_instruments(codec, "f")
        )
        with pytest.raises(ConfigError, match=r"parquet was measured by another encoder report"):
            go()
        patch.setattr(assess, "load_instruments", lambda folder, codec=None, **_: with_clap(codec))
        with pytest.raises(ConfigError, match=r"by another encoder clap \(none; here fake encoder"):
            go()
    changed = model / "quality" / "model.safetensors"
    kept = changed.read_bytes()
    shutil.copyfile(model / "diversity" / "model.safetensors", changed)
    with pytest.raises(ConfigError, match=r"other weights \(half-way\)"):
        go()
    changed.write_bytes(kept)
    assert {p: p.read_bytes() for p in (tmp_path / "out/measured").iterdir()} == before
    assert go() is not None


def test_an_evaluation_is_not_gone_on_with_under_another_dtype_or_codec(
    dial_folder: Path, prompts: Path, tmp_path: Path
) -> None:
    model, out = shutil.copytree(dial_folder, tmp_path / "model"), tmp_path / "out"
    arms, said = [ARMS[0], ARMS[5]], list[str]()
    config = replace(CONFIG, clips_per_prompt=2)

    def go(dtype: str, stop=lambda: False):  # type: ignore[no-untyped-def]
        return assess_model(
            str(model), prompts, arms, "base", out, config, Around(device="cpu", dtype=dtype),
            say=said.append, stop=stop,
        )  # fmt: skip

    assert go("fp32", lambda: any("(1 of 2 arms)" in line for line in said)) is None
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    with pytest.raises(ConfigError, match=r"other dtype \(fp32, not bf16\): name a new folder, or"):
        go("bf16")
    weights = next((model / "codec").glob("*.safetensors"))
    kept = weights.read_bytes()
    weights.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
    with pytest.raises(ConfigError, match=r"other parts \(model codec\): name a new folder"):
        go("fp32")
    weights.write_bytes(kept)
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before
    plan = json.loads((out / "plan.json").read_text())
    assert (plan["device"], plan["dtype"]) == ("cpu", "fp32")
    older = {k: v for k, v in plan.items() if k not in ("device", "dtype", "parts")}
    (out / "plan.json").write_text(json.dumps(older))
    done = go("fp32")  # begun when nobody wrote it down
    assert done is not None
    assert done["made"]["dtype"] == "fp32"
    with pytest.raises(ConfigError, match="other dtype"):
        go("bf16")


def with_clap(codec: Codec | None) -> Instruments:
    plain = fake_instruments(codec)
    return replace(plain, encoders={**plain.encoders, "clap": FakeEncoder("report", "d")})


def test_two_exports_are_told_apart_by_more_of_their_paths(
    dial_folder: Path, tmp_path: Path
) -> None:
    ends = [str(tmp_path / end / "export") for end in ("quality", "diversity")]
    for end in ends:
        shutil.copytree(dial_folder / Path(end).parent.name, end)
    arm = Arm(name="quality", mix=Mix(first=ends[0], second=ends[1], config=MergeConfig(lam=0.0)))
    found = assess._hashes(arm, str(dial_folder))
    assert found == {
        f"{end}/export": model_hash(read_info(dial_folder / end))
        for end in ("quality", "diversity")
    }
    assert len(set(found.values())) == 2
    assert list(assess._hashes(ARMS[2], str(dial_folder))) == [
        "dialled", "quality", "diversity"
    ]  # fmt: skip
    assert short_names(["a/x", "b/x", "org/y", "x"]) == ["a/x", "b/x", "y", "x"]
    assert short_names(["a/c/x", "b/c/x", "b/c/x"]) == ["a/c/x", "b/c/x", "b/c/x"]


def test_a_written_mixture_of_other_weights_is_refused(dial_folder: Path, tmp_path: Path) -> None:
    model = shutil.copytree(dial_folder, tmp_path / "model")
    arm = Arm(name="mine", mix=Mix(first="base", second="quality"))
    liti = replace(arm, mix=Mix(first="quality", second="diversity",
                                config=MergeConfig(method="liti", strength=0.4)))  # fmt: skip
    folder, of_liti = tmp_path / "line", tmp_path / "arc"
    model_of(liti, str(model), of_liti)
    made = Path(model_of(arm, str(model), folder))
    at = made.stat().st_mtime_ns
    assert model_of(arm, str(model), folder) == str(made)
    assert made.stat().st_mtime_ns == at
    stronger = replace(liti, mix=Mix(first="quality", second="diversity",
                                     config=MergeConfig(method="liti", strength=0.6)))  # fmt: skip
    with pytest.raises(ConfigError, match=r"'mine': .*another strength \(0\.4, now 0\.6\)"):
        model_of(stronger, str(model), of_liti)
    shutil.copyfile(
        model / "diversity" / "model.safetensors", model / "quality" / "model.safetensors"
    )
    with pytest.raises(ConfigError, match=r"'mine': .*merged with another diversity.*new folder"):
        model_of(arm, str(model), folder)


def fill(folder: Path, arms: tuple[str, ...] = ("mine", "theirs"), prompts: int = 6) -> Path:
    for a, arm in enumerate(arms):
        for p in range(prompts):
            for i in range(2):
                seed = 100 * a + 10 * p + (i if arm == "mine" else 0)
                write_tone(folder / arm / f"jazz {p}" / f"{i}.wav", seed)
    return folder


def test_any_audio_is_put_on_the_front_and_copies_are_seen(tmp_path: Path) -> None:
    clips = fill(tmp_path / "clips")
    summary = assess_clips(clips, tmp_path / "out", CONFIG, Around(), reference="mine")
    assert summary is not None
    mine, theirs = (a["estimates"] for a in summary["arms"])
    assert theirs["diversity_report"]["value"] == pytest.approx(0.0, abs=1e-3)
    assert mine["diversity_report"]["value"] > 0.1
    assert "kid_report" not in mine
    assert "distinct" not in mine  # no codec, no codes
    assert "../clips/mine/jazz 0/0.wav" in (tmp_path / "out/report.html").read_text()


def test_what_is_left_out_of_a_folder_is_said_for_what_it_is(tmp_path: Path) -> None:
    clips, file, said = fill(tmp_path / "clips", prompts=9), tmp_path / "p.txt", list[str]()
    shutil.rmtree(clips / "mine" / "jazz 8")
    file.write_text("".join(f"jazz {i}\n" for i in range(6)))
    done = assess_clips(
        clips, tmp_path / "out", CONFIG, Around(), prompts_file=file, say=said.append
    )
    assert done is not None
    assert said == [
        "left out 1 prompts that not all arms have", f"left out 2 prompts that {file} does not hold"
    ]  # fmt: skip
    said.clear()
    assess_clips(clips, tmp_path / "all", CONFIG, Around(), say=said.append)
    assert said == ["left out 1 prompts that not all arms have"]


def test_prompts_that_no_folder_has_are_refused_and_not_ignored(tmp_path: Path) -> None:
    clips, file = fill(tmp_path / "clips"), tmp_path / "p.txt"
    file.write_text("".join(f"rock {i}\n" for i in range(6)))
    with pytest.raises(
        InputError, match=r"has none of the 6 prompts .*'jazz 0': name each folder.*leave --prompts"
    ):
        assess_clips(clips, tmp_path / "out", CONFIG, Around(), prompts_file=file)
    file.write_text("".join(f"{'jazz' if i < 3 else 'rock'} {i}\n" for i in range(6)))
    with pytest.raises(InputError, match="arms have and the file of prompts holds: 3 prompts are"):
        assess_clips(clips, tmp_path / "out", CONFIG, Around(), prompts_file=file)
    assert not (tmp_path / "out").exists()


def test_two_folders_of_one_prompt_are_refused_by_name(tmp_path: Path) -> None:
    clips = fill(tmp_path / "clips", prompts=8)
    (clips / "mine" / "jazz 3" / "prompt.txt").write_text("jazz 5\n")
    with pytest.raises(InputError, match=r"mine/jazz 3 and .*mine/jazz 5 are both of .* 'jazz 5'"):
        assess_clips(clips, tmp_path / "out", CONFIG, Around())
    assert not (tmp_path / "out").exists()


def test_distances_of_too_few_clips_are_refused_and_not_left_out(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"arm 'mine' has 12 clips, .* at least 32: make more, or"):
        assess_clips(fill(tmp_path / "clips"), tmp_path / "out", CONFIG, Around(real="x.npz"))
    assert not (tmp_path / "out").exists()


def test_clips_that_were_made_anew_are_not_given_the_numbers_of_the_old(tmp_path: Path) -> None:
    clips, out = fill(tmp_path / "clips"), tmp_path / "out"
    assert assess_clips(clips, out, CONFIG, Around()) is not None
    assert assess_clips(clips, out, CONFIG, Around()) is not None
    anew = clips / "mine" / "jazz 3" / "1.wav"
    size = anew.stat().st_size
    anew.unlink()
    write_tone(anew, 999)
    assert anew.stat().st_size == size
    with pytest.raises(
        ConfigError, match=r"other sounds \(mine/jazz 3/1\.wav\): name a new folder"
    ):
        assess_clips(clips, out, CONFIG, Around())
    plan = json.loads((out / "plan.json").read_text())
    plan = {k: v for k, v in plan.items() if k not in ("sounds", "attributes")}
    (out / "plan.json").write_text(json.dumps(plan))
    assert assess_clips(clips, out, CONFIG, Around()) is not None  # its sounds are not recorded


def test_uses_of_a_final_split_count_for_existing_audio_too(tmp_path: Path) -> None:
    clips, file, said = fill(tmp_path / "clips"), tmp_path / "final.txt", list[str]()
    file.write_text("".join(f"jazz {i}\n" for i in range(6)))
    final = replace(CONFIG, split="final")

    def go(out: str, config=final, again: bool = False, prompts: Path | None = file):  # type: ignore[no-untyped-def]
        return assess_clips(
            clips, tmp_path / out, config, Around(again=again), prompts_file=prompts,
            say=said.append,
        )  # fmt: skip

    with pytest.raises(ConfigError, match="name it with --prompts"):
        go("one", prompts=None)
    for config, file_or_none in ((CONFIG, file), (replace(CONFIG, split="development"), None)):
        with pytest.raises(ConfigError, match="--again is for a final split"):
            go("one", config, again=True, prompts=file_or_none)
    assert not (tmp_path / "one").exists()
    for _ in range(2):  # going on is one use
        done = go("one")
        assert (done["made"]["split"], done["made"]["uses_of_final_split"]) == ("final", 1)
    with pytest.raises(ConfigError, match="is a final split"):
        go("two", CONFIG)
    (clips / "mine" / "jazz 3" / "1.wav").unlink()
    write_tone(clips / "mine" / "jazz 3" / "1.wav", 999)
    with pytest.raises(ConfigError, match="was used already"):
        go("two")
    assert not (tmp_path / "two").exists()
    assert go("two", again=True)["made"]["uses_of_final_split"] == 2
    assert any("time number 2" in line for line in said)
    rows = [json.loads(x) for x in (tmp_path / "final.uses.jsonl").read_text().splitlines()]
    assert [r["model"] for r in rows] == ["existing audio"] * 2


@pytest.mark.parametrize(
    ("seconds", "rate", "says"), [(1.5, 8000, "1.50 s"), (1.0, 16000, "16000 Hz")]
)
def test_clips_of_another_length_or_rate_are_refused(
    tmp_path: Path, seconds: float, rate: int, says: str
) -> None:
    clips = fill(tmp_path / "clips")
    odd = clips / "theirs" / "jazz 3" / "1.wav"
    odd.unlink()
    write_tone(odd, 1, seconds, rate)
    with pytest.raises(AudioFileError, match=f"theirs/jazz 3/1\\.wav has .*{says}"):
        assess_clips(clips, tmp_path / "out", CONFIG, Around())
    assert not (tmp_path / "out").exists()


def test_folders_without_arms_prompts_or_second_clips_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no arm"):
        assess_clips(tmp_path, tmp_path / "out", CONFIG, Around())
    with pytest.raises(InputError, match="3 prompts are too few"):
        assess_clips(fill(tmp_path / "few", prompts=3), tmp_path / "out", CONFIG, Around())
    clips = fill(tmp_path / "clips")
    (clips / "mine" / "jazz 2" / "1.wav").unlink()
    with pytest.raises(InputError, match="'mine' has one clip of 'jazz 2'"):
        assess_clips(clips, tmp_path / "out", CONFIG, Around())


def test_two_results_are_compared_by_prompt_and_never_across_instruments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = fill(tmp_path / "one"), fill(tmp_path / "two", ("mine",))
    for p in range(6):
        (two / "mine" / f"jazz {p}" / "1.wav").unlink()
        write_tone(two / "mine" / f"jazz {p}" / "1.wav", 10 * p)  # a copy of the first
    for name, clips in (("a", one), ("b", two)):
        assess_clips(clips, tmp_path / name, CONFIG, Around())
    found = compare(tmp_path / "a", tmp_path / "b", StatisticsConfig(draws=500))
    assert found.prompts == 6
    rows = {r["measure"]: r for r in found.rows}
    assert {r["arm"] for r in found.rows} == {"mine"}
    assert rows["diversity_report"]["difference"]["high"] < 0
    assert rows["diversity_report"]["b"] == pytest.approx(0.0, abs=1e-3)
    monkeypatch.setattr(
        assess, "load_instruments", lambda folder, **_: fake_instruments(sha256="f")
    )
    assess_clips(two, tmp_path / "c", CONFIG, Around())
    with pytest.raises(InputError, match="measured by another encoder report"):
        compare(tmp_path / "a", tmp_path / "c")


def test_real_clips_of_other_instruments_or_lengths_are_refused(
    tmp_path: Path, manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = fill(tmp_path / "clips", prompts=16)
    assess_clips(clips, tmp_path / "out", CONFIG, Around(real=str(manifest)))
    kept = Around(real=str(tmp_path / "out/real.npz"))
    long = tmp_path / "long"
    for p in range(16):
        for i in range(2):
            write_tone(long / "a" / str(p) / f"{i}.wav", i, 1.2)
    with pytest.raises(InputError, match="real clips last 1 s"):
        assess_clips(long, tmp_path / "o2", CONFIG, kept)
    monkeypatch.setattr(
        assess, "load_instruments", lambda folder, **_: fake_instruments(sha256="f")
    )
    with pytest.raises(InputError, match="another encoder report"):
        assess_clips(clips, tmp_path / "o3", CONFIG, kept)
    with pytest.raises(InputError, match="holds no features"):
        RealSet.load(manifest)


def test_damaged_features_of_real_clips_are_refused_in_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "real.npz"
    whole = (Path(__file__).resolve().parents[2] / "docs/results/pocket/real.npz").read_bytes()
    middle = len(whole) // 2
    turned = whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :]
    np.save(tmp_path / "array.npy", np.zeros(3))
    array = (tmp_path / "array.npy").read_bytes()
    for content in (b"", whole[:middle], turned, array):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"real\.npz holds no features of real clips"):
            RealSet.load(path)


def test_a_folder_keeps_its_real_clips_and_refuses_others(tmp_path: Path, manifest: Path) -> None:
    clips, out = fill(tmp_path / "clips", prompts=16), tmp_path / "out"

    def go(real: Path, config: EvaluationConfig = CONFIG) -> float:
        done = assess_clips(clips, out, config, Around(real=str(real)))
        assert done is not None
        return float(done["arms"][0]["estimates"]["kid_report"]["value"])

    def refuse(real: Path, config: EvaluationConfig = CONFIG) -> None:
        with pytest.raises(ConfigError, match=r"other real clips.*go on with --real .*real\.npz"):
            go(real, config)

    first, kept = go(manifest), out / "real.npz"
    copy = shutil.copyfile(kept, tmp_path / "copy.npz")
    assert go(manifest) == go(kept) == go(copy) == first
    refuse(manifest, replace(CONFIG, real_clips=33))
    found = RealSet.load(kept)
    moved = {name: -e for name, e in found.reference.items()}
    replace(found, reference=moved).save(tmp_path / "moved.npz")
    refuse(tmp_path / "moved.npz")
    lines = manifest.read_text().splitlines()
    other = manifest.with_name("other.jsonl")
    other.write_text("\n".join(lines[:-1]))
    refuse(other)
    replace(found, origin={}).save(kept)  # only the manifest's name is known
    assert go(manifest) == go(copy) == first
    refuse(other)
    manifest.write_text("\n".join(lines[:-1]))
    assert go(manifest) == first
    shutil.copyfile(copy, kept)
    refuse(manifest)


def test_mistakes_are_told_before_any_model_is_loaded(
    tiny_folder: Path, prompts: Path, tmp_path: Path
) -> None:
    def go(arms: list[Arm], again: bool = False) -> None:
        config = EvaluationConfig(num_prompts=0, clips_per_prompt=2)
        assess_model(
            str(tiny_folder), prompts, arms, arms[0].name, tmp_path / "out", config,
            Around(real="x.npz", again=again),
        )  # fmt: skip

    with pytest.raises(ConfigError, match="has no dial"):
        go([Arm(name="d", diversity=0.5)])
    with pytest.raises(ConfigError, match=r"'m'.*no folder quality/"):
        go([Arm(name="m", mix=Mix(first="base", second="quality"))])
    with pytest.raises(ConfigError, match="fewer than the 32"):
        go([Arm(name="base")])
    with pytest.raises(ConfigError, match=r"--again is .* the split is '': say --split final too"):
        go([Arm(name="base")], again=True)
    assert not (tmp_path / "out").exists()


def test_a_summary_of_another_kind_or_time_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    with pytest.raises(InputError, match=r"lacks summary\.json"):
        read_summary(tmp_path)
    path.write_text(json.dumps({"schema": "other"}))
    with pytest.raises(InputError, match="is no evaluation"):
        read_summary(path)
    path.write_text(json.dumps({"schema": "musicgen-rl/evaluation", "version": 99}))
    with pytest.raises(InputError, match="version 99"):
        read_summary(path)
    path.write_text(json.dumps({"schema": "musicgen-rl/evaluation", "version": 1}))
    with pytest.raises(InputError, match="lacks 'created'"):
        read_summary(path)
