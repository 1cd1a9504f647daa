"""`generate` on a tiny model: every option reaches the file, stdout has paths alone."""

import os
import pty
import re
import shutil
import subprocess

import numpy as np
import pytest

from musicgen_rl.audio.clip import Clip
from musicgen_rl.audio.io import read_audio, read_tags
from musicgen_rl.checkpoint.holds import BEAT, CHORD_SENSE, KEY, KEY_SENSE
from musicgen_rl.data.chords import read_progression
from musicgen_rl.data.keys import read_key
from musicgen_rl.text.tempo import TEMPI
from tests.cli.conftest import REPOSITORY, command, environment
from tests.judged import save_judges
from tests.pipeline.test_chords import write_chords
from tests.pipeline.test_key import write_key
from tests.pipeline.test_steady import write_sense
from tests.pipeline.test_tempo import write_beat


@pytest.fixture
def make(call, tiny_folder, tmp_path):
    """Generate 0.2 s on the tiny model into an empty folder."""

    def _make(*arguments, duration="0.2", output=tmp_path / "out", dtype="fp32"):
        return call(
            "generate", *arguments, "--duration", duration, "--model", tiny_folder,
            "--device", "cpu", "--dtype", dtype, "-o", output,
        )  # fmt: skip

    return _make


def settings_of(done):
    assert done.code == 0, done.err
    return read_tags(done.paths[0])


@pytest.mark.parametrize(
    ("arguments", "path", "value"),
    [
        (["--seed", "7"], "seed", 7),
        (["--guidance", "2.5"], "sampling.guidance_scale", 2.5),
        (["--guidance", "2", "--guidance-seconds", "0.1"], "sampling.guidance_s", 0.1),
        (["--guidance", "2"], "sampling.guidance_s", 0.0),
        (["--temperature", "0.7"], "sampling.temperature", 0.7),
        (["--top-k", "9"], "sampling.top_k", 9),
        (["--top-p", "0.8"], "sampling.top_p", 0.8),
        (["--guidance", "3", "--negative-prompt", "noise"], "sampling.negative_prompt", "noise"),
        (["--loudness", "-20"], "loudness.target_lufs", -20.0),
        (["--no-loudness"], "loudness.enabled", False),
        ([], "sampling.top_k", 20),  # the tiny model's own
        ([], "loudness.target_lufs", -16.0),
        ([], "duration_s", 0.2),
        ([], "prompt", "slow piano"),
        ([], "model", "tiny"),
        ([], "device", "cpu"),
        ([], "dtype", "fp32"),
        ([], "complete", True),
    ],
)
def test_every_option_reaches_the_tags(make, arguments, path, value):
    found = settings_of(make("slow piano", *arguments))
    for name in path.split("."):
        found = found[name]
    assert found == value


def test_guidance_that_ends_is_said(make):
    done = make("slow piano", "--guidance", "2", "--guidance-seconds", "0.1", "--seed", "7")
    assert "tiny, guided by 2 for the first 0.1 s, in fp32 on cpu" in done.err
    assert "guided" not in make("slow piano", "--guidance", "2").err


def test_the_best_of_some_takes_is_kept(make, call, tiny_folder):
    done = make("house, 124 bpm", "--takes", "3", "--seed", "7", duration="4")
    settings = settings_of(done)
    assert len(done.paths) == 1
    assert settings["takes"]["of"] == 3
    assert done.paths[0].name == f"house-124-bpm-s7-{settings['index']}.wav"
    assert "seed 7: 1 clip of 4 s, the best of 3 takes, tiny" in done.err
    assert call("replay", done.paths[0], "--model", tiny_folder).code == 0


def test_takes_by_words_are_chosen_where_there_is_a_scorer(call, tiny_folder, tmp_path):
    shutil.copytree(tiny_folder, tmp_path / "judged")
    save_judges(tmp_path / "judged" / "rewards")
    options = ("--duration", "2", "--seed", "7", "--dtype", "fp32", "-o", tmp_path / "out")
    done = call("generate", "slow piano", "--takes", "3", "--model", tmp_path / "judged", *options)
    assert "the best of 3 takes, tiny" in done.err
    told = call("info", done.paths[0]).out
    assert "takes            of 3, score " in told
    assert call("replay", done.paths[0], "--model", tmp_path / "judged").code == 0


def test_takes_that_nothing_can_choose_are_refused_before_the_model_is_loaded(call, tiny_folder):
    done = call("generate", "slow piano", "--takes", "3", "--model", tiny_folder)
    done.refused("tiny has no scorer", "'slow piano' does not name one", "120 bpm")
    assert "loading" not in done.err
    call("generate", "124 bpm", "--takes", "many").refused("--takes takes a whole number")


def test_a_tempo_is_held_and_replayed(call, tiny_folder, tmp_path):
    shutil.copytree(tiny_folder, tmp_path / "held")
    write_beat(tmp_path / "held")
    options = ("--duration", "0.2", "--seed", "7", "--dtype", "fp32", "-o", tmp_path / "out")

    def held(*arguments):
        done = call("generate", *arguments, "--model", tmp_path / "held", *options)
        told = settings_of(done)["tempo"]
        return done.paths[0], told and told["bpm"]

    path, bpm = held("house, 124 bpm")
    assert bpm == 124.0
    assert held("house", "--tempo", "90")[1] == 90.0
    assert held("house, 124 bpm", "--tempo", "0")[1] is None
    assert call("replay", path, "--model", tmp_path / "held").code == 0
    (tmp_path / "held" / BEAT.file).unlink()
    call("replay", path, "--model", tmp_path / "held").refused("cannot hold a tempo")


def test_a_steady_beat_is_found_and_replayed(call, tiny_folder, tmp_path):
    shutil.copytree(tiny_folder, tmp_path / "steady")
    write_sense(write_beat(tmp_path / "steady"))
    where = ("--model", tmp_path / "steady", "--dtype", "fp32", "-o", tmp_path / "out")
    done = call("generate", "house", "--steady", "--duration", "0.2", "--seed", "7", *where)
    assert settings_of(done)["tempo"]["bpm"] in TEMPI
    assert "1 clip of 0.2 s held to a steady beat, " in done.err
    assert call("replay", done.paths[0], "--model", tmp_path / "steady").code == 0
    assert "--tempo does; --steady finds one" in call("info", tmp_path / "steady").out
    several = ("house, 124 bpm", "house", "--duration", "0.2")
    said = ", each held to what its prompt names"
    assert f"{said}, tiny" in call("generate", *several, *where).err
    found = f"{said} and, without a tempo, to a steady beat, tiny"
    assert found in call("generate", *several, "--steady", *where).err
    call("generate", "x", "--steady", "--tempo", "0", *where).refused("a tempo of 0 holds none")
    done = call("generate", "x", "--steady", "--model", tiny_folder)
    done.refused("tiny cannot hold a tempo of its own finding, so a steady beat", "tempo.safe")


def test_a_key_is_found_and_replayed(call, tiny_folder, tmp_path):
    shutil.copytree(tiny_folder, tmp_path / "keyed")
    write_sense(write_key(tmp_path / "keyed"), hold=KEY_SENSE)
    where = ("--model", tmp_path / "keyed", "--dtype", "fp32", "-o", tmp_path / "out")
    auto = ("--key", "auto", "--duration", "0.2")
    done = call("generate", "house", *auto, "--seed", "7", *where)
    name = settings_of(done)["key"]["name"]
    assert read_key(name).name == name
    assert "1 clip of 0.2 s held to one key, " in done.err
    assert call("replay", done.paths[0], "--model", tmp_path / "keyed").code == 0
    assert "--key does; --key auto finds one" in call("info", tmp_path / "keyed").out
    found = ", each held to what its prompt names and, without a key, to one that goes with it, t"
    assert found in call("generate", "house in D minor", "house", *auto, *where).err
    on = call("generate", "bells", *auto, "--continue-from", done.paths[0], *where)
    assert settings_of(on)["key"]["name"] == name
    assert "held to" not in on.err
    done = call("generate", "x", *auto, "--model", tiny_folder)
    done.refused("tiny cannot hold a key of its own finding, so a key of 'auto'", "scale.safe")


def test_a_key_is_held_and_replayed(call, tiny_folder, tmp_path):
    shutil.copytree(tiny_folder, tmp_path / "held")
    write_key(tmp_path / "held")
    options = ("--duration", "0.2", "--seed", "7", "--dtype", "fp32", "-o", tmp_path / "out")

    def held(*arguments):
        done = call("generate", *arguments, "--model", tmp_path / "held", *options)
        told = settings_of(done)["key"]
        return done.paths[0], told and told["name"]

    path, name = held("house in D minor")
    assert name == "D minor"
    assert held("house", "--key", "f#m")[1] == "F# minor"
    assert held("house in D minor", "--key", "none")[1] is None
    assert call("replay", path, "--model", tmp_path / "held").code == 0
    assert "the prompt names one or --key does" in call("info", tmp_path / "held").out
    (tmp_path / "held" / KEY.file).unlink()
    call("replay", path, "--model", tmp_path / "held").refused("cannot hold a key")
    call("generate", "x", "--key", "sad").refused("key must be a note and a scale", "'sad'")
    done = call("generate", "x", "--key", "dm", "--model", tiny_folder)
    done.refused("tiny cannot hold a key, so D minor cannot be set", "use a model that can")


def test_chords_are_held_found_and_replayed(call, tiny_folder, tmp_path):
    model = tmp_path / "chorded"
    shutil.copytree(tiny_folder, model)
    write_sense(write_sense(write_chords(write_key(write_beat(model)))), hold=KEY_SENSE)
    write_sense(model, hold=CHORD_SENSE)
    options = ("--duration", "0.2", "--seed", "7", "--dtype", "fp32", "-o", tmp_path / "out")

    def held(*arguments):
        done = call("generate", *arguments, "--model", model, *options)
        return done, settings_of(done)["chords"]

    done, told = held("a waltz", "--chords", "Am | F G")
    assert (told["name"], told["beats_per_bar"]) == ("Am | F G", 3)
    assert "held to a steady beat and the chords Am | F G, " in done.err
    assert call("replay", done.paths[0], "--model", model).code == 0
    assert held("house", "--chords", "Am F", "--beats-per-bar", "6")[1]["beats_per_bar"] == 6
    assert held("house, chords Am F")[1]["name"] == "Am F"
    assert held("house", "--chords", "Am F x2; C")[1]["name"] == "Am F x2; C"
    assert held("house, chords Am F")[1]["returning"] == 1.0
    assert held("house, chords Am F", "--returning", "0.5")[1]["returning"] == 0.5
    assert held("house, chords Am F", "--chords", "none")[1] is None
    done, told = held("house", "--chords", "auto", "--key", "auto")
    assert read_progression(told["name"])
    assert "held to a steady beat and chords that go with it, " in done.err
    said = "names and, without a tempo, to a steady beat and, without chords, to fitting ones, tiny"
    several = ("house, chords Am F", "house", "--chords", "auto", "--model", model, *options)
    assert said in call("generate", *several).err
    assert "--chords does; --chords auto finds some" in call("info", model).out
    call("generate", "x", "--chords", "Am H").refused("'H' is not a chord", "such as Am")
    call("generate", "x", "--chords", "Am", "--tempo", "0").refused("change on beats")
    call("generate", "x", "--beats-per-bar", "0").refused("beats_per_bar")
    call("generate", "x", "--returning", "9").refused("returning must be between 0 and 4")
    call("generate", "x", "--guidance-seconds", "-1").refused("guidance_s must be between 0 and")
    alone = ("--guidance", "1", "--guidance-seconds", "2")
    call("generate", "x", *alone).refused("guidance_s needs guidance")
    none = ("says how chords are played, and none are asked for", "--chords auto")
    call("generate", "x", "--returning", "2").refused("--returning 2 ", *none)
    call("generate", "x", "y", "--beats-per-bar", "3", "--key", "A minor").refused("-bar 3 ", *none)
    call("generate", "x", "--beats-per-bar", "3", "--chords", "none").refused("-bar 3 ", *none)
    done = call("generate", "a waltz", "--beats-per-bar", "3", "--chords", "auto")
    done.refused("words of music in threes or without a beat find none", "--tempo")
    done = call("generate", "x", "--chords", "Am", "--model", tiny_folder)
    done.refused("tiny cannot hold chords, so chords Am cannot be set", "use a model that can")


def test_a_tempo_that_cannot_be_held_is_refused_in_a_line(call, tiny_folder):
    call("generate", "x", "--tempo", "fast").refused("--tempo takes a number, got 'fast'")
    call("generate", "x", "--tempo", "1000").refused("tempo", "1000", "bpm")
    done = call("generate", "x", "--tempo", "90", "--model", tiny_folder)
    done.refused("tiny cannot hold a tempo", "use a model that can")


def test_the_dtype_asked_for_is_used(make):
    assert settings_of(make("x", dtype="bf16"))["dtype"] == "bf16"


@pytest.mark.parametrize("seconds", ["0.05", "0.3", "1.2345"])
def test_the_file_is_as_long_as_asked(make, seconds):
    (path,) = make("x", duration=seconds).paths
    assert read_audio(path).num_samples == round(float(seconds) * 8000)


def test_stdout_has_one_path_a_line_and_stderr_the_seed(make, tmp_path):
    done = make("slow piano", "drums", "-n", "2", "--seed", "5")
    assert [p.relative_to(tmp_path / "out").as_posix() for p in done.paths] == [
        "slow-piano-s5-0.wav", "slow-piano-s5-1.wav", "drums-s5-0.wav", "drums-s5-1.wav",
    ]  # fmt: skip
    assert all(p.is_file() for p in done.paths)
    assert done.err == "seed 5: 4 clips of 0.2 s, tiny in fp32 on cpu\n"
    assert len({read_tags(p)["codes_sha256"] for p in done.paths}) == 4


def test_a_drawn_seed_is_shown_and_makes_the_clip_again(make):
    first = make("x")
    seed = re.match(r"seed (\d+):", first.err)[1]
    again = make("x", "--seed", seed)
    assert again.paths[0].name == f"x-s{seed}-0-2.wav"  # and nothing was overwritten
    a, b = (read_audio(done.paths[0]) for done in (first, again))
    assert np.array_equal(a.samples, b.samples)


@pytest.mark.parametrize("format", ["wav", "flac", "ogg", "mp3"])
def test_formats(make, format):
    (path,) = make("x", "--format", format).paths
    assert path.suffix == f".{format}"
    assert read_tags(path)["prompt"] == "x"


@pytest.mark.parametrize("name", ["song.flac", "SONG.MP3", "deep/song.wav"])
def test_a_file_name_for_a_single_clip(make, tmp_path, name):
    done = make("x", output=tmp_path / name)
    assert done.paths == [tmp_path / name]
    assert read_audio(tmp_path / name).num_samples == 1600
    assert make("x", output=tmp_path / name).paths[0].stem.endswith("-2")


def test_a_folder_may_be_named_like_a_file(make, tmp_path):
    (tmp_path / "a.wav").mkdir()
    assert make("x", output=tmp_path / "a.wav").paths[0].parent == tmp_path / "a.wav"


def test_the_current_folder_is_the_default(call, tiny_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = call("generate", "x", "--seed", "1", "--duration", "0.1", "--model", tiny_folder)
    assert done.out == "x-s1-0.wav\n"
    assert os.listdir(tmp_path) == ["x-s1-0.wav"]


def test_it_goes_on_from_a_file(make, tmp_path):
    tone = np.sin(np.arange(8000) / 9).astype(np.float32) * 0.3
    Clip(tone, 8000).save(tmp_path / "tone.wav")
    (path,) = make("x", "--continue-from", tmp_path / "tone.wav").paths
    assert read_audio(path).num_samples == 8000 + 1600
    assert read_tags(path)["continued_from"]["file"] == "tone.wav"


def test_a_prompt_of_any_script_survives(make):
    found = settings_of(make("séance 钢琴 🎹 \u202e x"))
    assert found["prompt"] == "séance 钢琴 🎹 \u202e x"


def test_musicgens_own_format_runs_too(call, tiny_musicgen_folder, tmp_path):
    done = call(
        "generate", "slow sad piano", "--model", tiny_musicgen_folder, "--duration", "0.1",
        "--seed", "3", "--guidance", "1", "-o", tmp_path,
    )  # fmt: skip
    assert settings_of(done)["sampling"]["guidance_scale"] == 1.0


def test_in_a_pipe_there_is_the_path_in_its_own_bytes_and_no_bar(tiny_folder, tmp_path):
    folder = os.fsencode(tmp_path) + b"/caf\xe9"  # not UTF-8
    arguments = ("generate", "x", "--seed", 1, "--duration", 1, "--model", tiny_folder, "-o")
    done = subprocess.run(
        [*command(*arguments), folder],
        capture_output=True, timeout=120, cwd=REPOSITORY, env=environment(),
    )  # fmt: skip
    assert done.returncode == 0
    assert done.stdout == folder + b"/x-s1-0.wav\n"
    assert os.path.exists(done.stdout.strip())
    assert done.stderr.startswith(b"seed 1: 1 clip of 1 s, tiny")
    assert done.stderr.count(b"\n") == 1
    assert b"\r" not in done.stderr
    assert b"\x1b" not in done.stderr


def test_a_terminal_sees_a_bar_with_seconds_left(tiny_folder, tmp_path):
    master, terminal = pty.openpty()
    process = subprocess.Popen(
        command("generate", "x", "-n", 17, "--seed", 1, "--duration", 12, "--dtype", "fp32",
                "--model", tiny_folder, "-o", tmp_path),
        stdout=subprocess.PIPE, stderr=terminal, cwd=REPOSITORY,
        env=environment(TERM="xterm", COLUMNS="80"),
    )  # fmt: skip
    os.close(terminal)
    seen = b""
    while True:
        try:
            block = os.read(master, 65536)
        except OSError:  # the other end is closed
            break
        seen += block
    out, _ = process.communicate(timeout=120)
    os.close(master)
    assert process.returncode == 0, seen
    assert b"making music" in seen
    assert re.search(rb"\d+ s left", seen)
    shown = {int(number) for number in re.findall(rb"(\d+) %", seen)}
    assert len(shown) > 3  # it moves within a batch
    lines = out.decode().splitlines()
    assert len(lines) == 17
    assert all(line.startswith(f"{tmp_path}/x-s1-") for line in lines)
