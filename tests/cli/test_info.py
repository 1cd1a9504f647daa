"""`info`: all settings of a file, and what a model is and allows."""

import json

import numpy as np
import pytest

from musicgen_rl.audio.clip import Clip
from musicgen_rl.audio.io import read_tags
from musicgen_rl.cli.info import may_i_use
from tests.models import save_tiny


@pytest.fixture(scope="module")
def song(tmp_path_factory):
    settings = {
        "format": 1, "prompt": "slow piano", "seed": 7, "weights_license": "cc-by-nc-4.0",
        "sampling": {"top_k": 20, "negative_prompt": ""}, "continued_from": None,
        "codes_checks": {"every": 1, "bytes": "AAAA"},
    }  # fmt: skip
    clip = Clip(np.zeros((2, 12_000), np.float32), 8000, settings)
    return clip.save(tmp_path_factory.mktemp("info") / "song.wav")


def test_a_file_shows_its_settings(call, song):
    done = call("info", song)
    assert done.code == 0
    lines = dict(line.split("  ", 1) for line in done.out.splitlines())
    shown = {name: value.strip() for name, value in lines.items()}
    assert shown["sound"] == "1.500 s, 8000 Hz, stereo"
    assert shown["prompt"] == "slow piano"
    assert shown["sampling"] == "top_k 20, negative_prompt (none)"
    assert shown["may I use it?"].startswith("not commercially: the weights' licence, cc-by-nc-4.0")


def test_json_holds_all_settings(call, song):
    about = json.loads(call("info", song, "--json").out)
    assert about["settings"] == read_tags(song)
    assert (about["duration_s"], about["sample_rate"], about["channels"]) == (1.5, 8000, 2)


def test_a_tag_cannot_write_to_the_terminal(call, tmp_path):
    settings = {"prompt": "a\x1b[2Jb\nc", "x": "y" * 10_000}
    path = Clip(np.zeros(800, np.float32), 8000, settings).save(tmp_path / "a.wav")
    out = call("info", path).out
    assert "\x1b" not in out
    assert len(out.splitlines()) == 5
    assert len(out) < 2000


def test_a_model_shows_its_shape_licence_and_hash(call, tiny_folder):
    from musicgen_rl.checkpoint import load_lm, model_hash, read_info

    info = read_info(tiny_folder)
    about = json.loads(call("info", tiny_folder, "--json").out)
    assert about["lm_parameters"] == sum(p.numel() for p in load_lm(info).parameters())
    assert about["sha256"] == model_hash(info)
    assert about["codec"] == {
        "type": "frame", "path": "codec", "sample_rate": 8000, "hop_length": 160,
    }  # fmt: skip
    assert about["window_s"] == 2.0
    assert about["sampling"]["top_k"] == 20
    out = call("info", tiny_folder).out
    assert "yes, also commercially: the weights' licence, Apache-2.0" in out
    assert "2 layers of 32, 2 heads, feed-forward 48" in out
    assert "3 codebooks of 40, mono, 50 frames a second" in out


def test_a_model_in_musicgens_own_format(call, tiny_musicgen_folder):
    about = json.loads(call("info", tiny_musicgen_folder, "--json").out)
    assert about["codec"] == {"type": "encodec", "sample_rate": 8000}
    assert about["sampling"]["guidance_scale"] == 3.0
    assert about["may_i_use"].startswith("unknown")


def test_the_licence_of_a_model_is_its_own(call, tmp_path):
    model = save_tiny(tmp_path / "nc", license="cc-by-nc-4.0")
    assert "not commercially" in call("info", model).out


@pytest.mark.parametrize(
    ("license", "answer"),
    [
        ("Apache-2.0", "yes"), ("mit", "yes"), ("BSD-3-Clause", "yes"), ("CC0-1.0", "yes"),
        ("cc-by-nc-4.0", "not commercially"), ("CC-BY-NC-SA-4.0", "not commercially"),
        ("unknown", "unknown"), ("", "unknown"), ("other", "unknown"),
        ("openrail", "perhaps"), ("cc-by-sa-4.0", "perhaps"), ("mitigated", "perhaps"),
    ],
)  # fmt: skip
def test_may_i_use_the_output(license, answer):
    sentence = may_i_use(license)
    assert sentence.startswith(answer)
    assert answer == "unknown" or license in sentence


def test_what_cannot_be_shown_is_refused(call, tmp_path):
    call("info", "nothing-here").refused("nothing-here")
    call("info", tmp_path / "none.mp3").refused("no audio file")
    call("info", tmp_path).refused("no config.json")
    (tmp_path / "a.wav").write_bytes(b"RIFF")
    call("info", tmp_path / "a.wav").refused("not a readable audio file")
    path = Clip(np.zeros(800, np.float32), 8000).save(tmp_path / "foreign.wav")
    call("info", path).refused("carries no musicgen-rl settings")
