"""The door of the service: what is refused, in which words, and what comes through unchanged."""

from pathlib import Path

import pytest

from app.service import JobRequest, Limits, admit
from app.service.pace import Pace, in_words
from musicgen_rl.checkpoint import read_info
from musicgen_rl.config import SamplingConfig
from musicgen_rl.errors import ConfigError, InputError
from tests.models import tiny_info

DEFAULTS = tiny_info(Path("tiny"), sampling=SamplingConfig(top_k=20, temperature=0.9))


def test_settings_come_through_over_the_models_own():
    request = JobRequest(
        prompt="  drums ", duration_s=3.5, variations=4, seed=7, format="flac",
        sampling={"guidance_scale": 3.0, "negative_prompt": " noise ", "top_k": None},
    )  # fmt: skip
    admitted = admit(request, Limits(), DEFAULTS)
    assert admitted.prompt == "drums"
    generation = admitted.generation
    assert (generation.duration_s, generation.clips_per_prompt, generation.seed) == (3.5, 4, 7)
    assert admitted.format == "flac"
    assert admitted.sampling == SamplingConfig(
        top_k=20, temperature=0.9, guidance_scale=3.0, negative_prompt="noise"
    )


def test_guidance_doubles_the_rows():
    plain = admit(JobRequest(prompt="a", variations=3), Limits(), DEFAULTS)
    guided = JobRequest(prompt="a", variations=3, sampling={"guidance_scale": 3.0})
    assert (plain.rows, admit(guided, Limits(), DEFAULTS).rows) == (3, 6)


def test_takes_of_one_clip_are_decoded_side_by_side_and_with_nobody_elses(hearing_folder):
    able = read_info(hearing_folder)

    def ask(**asked):
        wanted = JobRequest(prompt="a", variations=3, diversity=0.5, **asked)
        return admit(wanted, Limits(), able)

    plain, several = ask(), ask(takes=4)
    assert (plain.rows, plain.rounds) == (3, 1)
    assert (several.rows, several.rounds) == (4, 3)
    assert ask(takes=4, sampling={"guidance_scale": 3.0}).rows == 8
    early = {"guidance_scale": 3.0, "guidance_s": 1.0}
    found = [
        (one.rows, one.usual_rows) for one in (
            ask(takes=4, sampling=early),
            ask(takes=4, sampling=early | {"guidance_s": 8.0}),
            ask(takes=4, sampling={"guidance_scale": 3.0}),
            ask(takes=4),
        )
    ]  # fmt: skip
    assert found == [(8, 4), (8, 8), (8, 8), (4, 4)]
    assert several.generation.takes == 4
    assert plain.goes_with(ask())
    assert not several.goes_with(ask(takes=4))
    assert not plain.goes_with(several)
    with pytest.raises(InputError, match="tiny has no scorer"):
        admit(JobRequest(prompt="a", takes=2), Limits(), DEFAULTS)


def test_a_seed_is_drawn_where_none_is_given():
    seeds = {admit(JobRequest(prompt="a"), Limits(), DEFAULTS).generation.seed for _ in range(8)}
    assert len(seeds) == 8


@pytest.mark.parametrize(
    ("request_", "error", "words"),
    [
        (JobRequest(prompt="   "), InputError, "say what to play"),
        (JobRequest(prompt="x" * 31), InputError, "31 characters, at most 30"),
        (JobRequest(prompt="a\0"), InputError, "not text"),
        (JobRequest(prompt="a", duration_s=20.5), ConfigError, "between 0.5 and 20 s, got 20.5"),
        (JobRequest(prompt="a", duration_s=0.1), ConfigError, "got 0.1"),
        (JobRequest(prompt="a", duration_s=float("nan")), ConfigError, "duration"),
        (JobRequest(prompt="a", variations=5), ConfigError, "variations .* from 1 to 4, got 5"),
        (JobRequest(prompt="a", variations=True), ConfigError, "got True"),
        (JobRequest(prompt="a", takes=9), ConfigError, "takes .* from 1 to 8, got 9"),
        (JobRequest(prompt="a", seed=-1), ConfigError, "seed .*-1"),
        (JobRequest(prompt="a", seed=1.5), ConfigError, "seed .*1.5"),
        (JobRequest(prompt="a", format="exe"), ConfigError, "'exe': use wav, flac, ogg, mp3"),
        (JobRequest(prompt="a", sampling={"tempo": 3}), ConfigError, "unknown option 'tempo'"),
        (JobRequest(prompt="a", sampling={"temperature": -1}), ConfigError, "temperature .*-1"),
        (JobRequest(prompt="a", tempo_bpm=5.0), ConfigError, "tempo .*20.* got 5"),
        (JobRequest(prompt="a", key="H minor"), ConfigError, "'H minor': scales are major"),
        (JobRequest(prompt="a", tempo_bpm=124.0), ConfigError, "tiny cannot hold a tempo"),
        (JobRequest(prompt="a", key="Dm"), ConfigError, "tiny cannot hold a key, so D minor"),
        (JobRequest(prompt="a", sampling={"negative_prompt": "b"}), ConfigError, "guidance"),
        (
            JobRequest(
                prompt="a", sampling={"guidance_scale": 3.0, "negative_prompt": "n" * 31}
            ),
            InputError,
            "negative prompt has 31",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_in_a_sentence(request_, error, words):
    limits = Limits(max_duration_s=20.0, max_variations=4, max_prompt_characters=30)
    with pytest.raises(error, match=words):
        admit(request_, limits, DEFAULTS)


def test_a_job_says_what_it_is_held_to(hearing_folder):
    def held(info, prompt, **asked):
        return admit(JobRequest(prompt=prompt, **asked), Limits(), info).held

    able, named = read_info(hearing_folder), "house in Bb minor, 240 bpm"
    assert held(able, named) == "240 bpm and Bb minor"
    assert held(able, named, tempo_bpm=0.0) == "Bb minor"
    assert held(able, named, tempo_bpm=99.5, key="none") == "99.5 bpm"
    assert held(able, "house", steady=True) == "a steady beat"
    assert held(able, "house", key="auto") == "one key"
    assert held(able, "house", chords="Am F C") == "a steady beat and the chords Am F C"
    assert held(able, "chords Am F, 90 bpm", chords="none") == "90 bpm"
    assert held(able, "house") == held(able, named, tempo_bpm=0.0, key="none") == ""
    assert held(DEFAULTS, named) == ""  # which has nothing to hold it by
    plain = admit(JobRequest(prompt="house"), Limits(), able)
    for asked in (
        {"steady": True},
        {"tempo_bpm": 90.0},
        {"key": "Am"},
        {"key": "auto"},
        {"chords": "Am F"},
        {"chords": "auto"},
    ):  # nor made side by side
        assert not plain.goes_with(admit(JobRequest(prompt="house", **asked), Limits(), able))
    order = admit(JobRequest(prompt="house", tempo_bpm=90.0, key="Am"), Limits(), able)
    assert (order.generation.tempo_bpm, order.generation.key) == (90.0, "A minor")


def test_limits_are_checked_themselves():
    for bad in ({"max_waiting": 0}, {"max_variations": 65}, {"max_duration_s": 0.1}):
        with pytest.raises(ConfigError, match=next(iter(bad))):
            Limits(**bad)


def test_pace_is_interpolated_between_rows_and_proportional_beyond():
    pace = Pace()
    assert pace.seconds(1, 100) == 0.0
    pace.note(1, 100, 1.0)  # 10 ms a step
    pace.note(5, 100, 3.0)  # 30 ms a step
    assert pace.seconds(1, 50) == pytest.approx(0.5)
    assert pace.seconds(3, 50) == pytest.approx(1.0)
    assert pace.seconds(10, 50) == pytest.approx(3.0)
    pace.note(1, 100, 3.0)  # the machine became busy: half of the way at once
    assert pace.seconds(1, 50) == pytest.approx(1.0)
    pace.note(1, 0, 1.0)
    assert pace.seconds(1, 50) == pytest.approx(1.0)


def test_fewer_rows_than_ever_measured_take_at_most_as_long():
    pace = Pace()
    pace.note(8, 10, 1.0)
    assert pace.seconds(2, 10) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.0, "1 s"), (7.2, "8 s"), (21, "25 s"), (89, "90 s"), (91, "2 min"), (600, "10 min")],
)
def test_times_are_said_in_words(seconds, words):
    assert in_words(seconds) == words
