"""What the controls hold: each model's own way of drawing, and what a link carries of it."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qsl

import pytest

from app.service import Limits
from app.settings import Settings, carried_over, fresh_settings, read_query
from musicgen_rl.checkpoint import read_info
from musicgen_rl.config import LeadConfig, SamplingConfig
from tests.models import tiny_info


def serving(name, *, dial, **sampling):
    info = tiny_info(Path("nowhere"), name=name, sampling=SamplingConfig(**sampling))
    return SimpleNamespace(has_dial=dial, info=info)


DIAL = serving("dial", dial=True, guidance_scale=3.0, top_k=20)
HUB = serving("hub", dial=False, guidance_scale=4.0, negative_prompt="noise", temperature=0.9)
SERVICES = {"dial": DIAL, "hub": HUB}


def read(text):
    given = dict(parse_qsl(text.removeprefix("?"), keep_blank_values=True))
    return read_query(given, SERVICES, Limits())


def test_fresh_settings_are_the_models_own_and_the_dials_are_without_guidance():
    own = [
        (s.guidance, s.negative, s.temperature, s.top_k)
        for s in (fresh_settings(DIAL), fresh_settings(DIAL, base=True), fresh_settings(HUB))
    ]
    assert own == [(1.0, "", 1.0, 20), (3.0, "", 1.0, 20), (4.0, "noise", 0.9, 250)]


def test_a_model_that_is_chosen_brings_its_own_but_what_was_set_stays():
    before, after = fresh_settings(DIAL), fresh_settings(HUB)
    page = replace(before, prompt="drums", temperature=1.3, model="hub")
    chosen = carried_over(page, before, after)
    assert (chosen.guidance, chosen.negative, chosen.top_k) == (4.0, "noise", 250)
    assert (chosen.prompt, chosen.temperature) == ("drums", 1.3)
    back = carried_over(replace(chosen, guidance=2.0), after, before)
    assert (back.guidance, back.negative, back.top_k, back.temperature) == (2.0, "", 20, 1.3)


@pytest.mark.parametrize(
    "settings",
    [
        Settings(model="dial", prompt="slow & sad", diversity=0.35, seed=3, locked=True, top_k=20),
        replace(fresh_settings(DIAL), guidance=3.0, top_k=250, levelled=False, loudness=-30.0),
        replace(fresh_settings(DIAL, base=True), guidance=1.0, duration=30.0, variations=1),
        replace(fresh_settings(HUB), guidance=1.0, negative="", temperature=1.0, top_k=0),
        fresh_settings(HUB),
        replace(fresh_settings(DIAL), guidance=2.0, guided_s=1.5),
    ],
    ids=range(6),
)
def test_a_link_brings_back_every_setting(settings):
    fresh = fresh_settings(SERVICES[settings.model], base=settings.base)
    assert read(settings.query(fresh)) == settings


@pytest.mark.parametrize(
    "asked",
    [
        {"tempo": 124.0, "key": "F# minor"}, {"tempo": 0.0, "key": "none"}, {"key": ""},
        {"chords": "Am F C G", "takes": 4}, {"chords": "none"}, {"steady": False}, {"tempo": 20.0},
    ],
)  # fmt: skip
def test_a_link_brings_back_what_is_held_where_the_model_can_and_nothing_where_not(
    hearing_folder, asked
):
    able = SimpleNamespace(has_dial=True, info=read_info(hearing_folder))
    fresh = fresh_settings(able)
    settings = replace(fresh, **asked)
    given = dict(parse_qsl(settings.query(fresh).removeprefix("?"), keep_blank_values=True))
    assert read_query(given, {able.info.name: able}, Limits()) == settings
    assert read_query(given | {"model": "dial"}, SERVICES, Limits()) == fresh_settings(DIAL)


def test_the_first_of_several_takes_is_counted_in_clips():
    service = SimpleNamespace(has_dial=True, info=DIAL.info)
    settings = replace(fresh_settings(DIAL), first=3)
    assert settings.request(service).first_index == 2
    assert replace(settings, takes=4).request(service).first_index == 8


def test_guidance_that_is_off_has_no_end():
    service = SimpleNamespace(has_dial=True, info=DIAL.info)
    page = replace(fresh_settings(DIAL), prompt="drums", guided_s=1.0)
    assert page.request(service).sampling["guidance_s"] is None
    guided = replace(page, guidance=2.0).request(service).sampling
    assert (guided["guidance_scale"], guided["guidance_s"]) == (2.0, 1.0)


def test_the_words_lead_where_the_model_says_how_and_no_guidance_is_set():
    info = replace(DIAL.info, lead=LeadConfig(quality_scale=2.0, diversity_scale=2.0))
    service = SimpleNamespace(has_dial=True, info=info)
    fresh = fresh_settings(service)
    assert fresh.lead
    assert not fresh_settings(DIAL).lead
    assert not fresh_settings(service, base=True).lead
    asked = [
        replace(fresh, **changes).request(service).sampling["guidance_scale"]
        for changes in ({}, {"lead": False}, {"guidance": 3.0}, {"base": True})
    ]
    assert asked == [None, 1.0, 3.0, 1.0]
    query = replace(fresh, lead=False).query(fresh)
    given = dict(parse_qsl(query.removeprefix("?"), keep_blank_values=True))
    assert not read_query(given, {"dial": service}, Limits()).lead
    assert read_query({"model": "dial", "lead": "1"}, SERVICES, Limits()) == fresh_settings(DIAL)


def test_a_seed_that_is_not_locked_stays_at_home():
    settings = replace(fresh_settings(DIAL), seed=5)
    assert settings.query(fresh_settings(DIAL)) == "?model=dial"


def test_a_link_that_names_a_model_and_no_more_brings_its_own_settings():
    assert read("?model=hub") == fresh_settings(HUB)
    assert read("?base=1") == fresh_settings(DIAL, base=True)
    assert read("?model=nobody") == fresh_settings(DIAL)


@pytest.mark.parametrize(
    "text",
    ["loudness=-31", "loudness=-7", "guidance=11", "guidance=x", "top_k=-1", "format=exe",
     "variations=1000", "temperature=nan", "levelled=", "seed=", "nobody=1"],
)  # fmt: skip
def test_what_a_control_cannot_be_set_to_is_left_as_on_a_fresh_page(text):
    assert read(f"?{text}") == fresh_settings(DIAL)


@pytest.mark.parametrize(
    "query",
    [
        "?tempo=fast&key=H+minor",
        "?tempo=-3&key=d+minor",
        "?tempo=nan&key=D+dorian",
        "?chords=sad",
        "?tempo=120&steady=1&key=auto",
        "?key=D+minor&chords=Am+F",
        "?chords=auto&takes=4",
    ],
)
def test_what_a_link_cannot_ask_for_is_left_to_the_words(query):
    assert read(query) == fresh_settings(DIAL)


def test_a_beat_is_steady_where_the_model_can_unless_a_tempo_is_set(hearing_folder):
    able = SimpleNamespace(has_dial=True, info=read_info(hearing_folder))
    fresh = fresh_settings(able)
    assert (fresh.steady, fresh_settings(HUB).steady) == (True, False)
    assert fresh.request(able).steady
    assert not replace(fresh, tempo=124.0).request(able).steady
    assert not replace(fresh, tempo=0.0).request(able).steady
    left = carried_over(replace(fresh, temperature=1.3), fresh, fresh_settings(HUB))
    assert not left.steady
    off = replace(fresh, steady=False)
    assert "steady=0" in off.query(fresh)
    services = {able.info.name: able}
    given = dict(parse_qsl(off.query(fresh).removeprefix("?"), keep_blank_values=True))
    assert read_query(given, services, Limits()) == off


def test_a_key_fits_the_words_where_the_model_can_unless_it_is_left_free(hearing_folder):
    able = SimpleNamespace(has_dial=True, info=read_info(hearing_folder))
    fresh = fresh_settings(able)
    assert (fresh.key, fresh_settings(HUB).key) == ("auto", "")
    assert fresh.request(able).key == "auto"
    assert carried_over(fresh, fresh, fresh_settings(HUB)).key == ""
    chosen = replace(fresh, key="A minor")
    assert carried_over(chosen, fresh, fresh_settings(HUB)).key == "A minor"
    services = {able.info.name: able}
    for settings in (fresh, chosen, replace(fresh, key="none"), replace(fresh, key="")):
        query = settings.query(fresh).removeprefix("?")
        given = dict(parse_qsl(query, keep_blank_values=True))
        assert read_query(given, services, Limits()) == settings


def test_chords_are_found_where_there_is_a_beat_for_them(hearing_folder):
    able = SimpleNamespace(has_dial=True, info=read_info(hearing_folder))
    auto = replace(fresh_settings(able), chords="auto")
    assert auto.request(able).chords == "auto"
    assert replace(auto, steady=False, tempo=90.0).request(able).chords == "auto"
    for beatless in ({"steady": False}, {"tempo": 0.0}):
        assert replace(auto, **beatless).request(able).chords is None
        written = replace(auto, chords="Am F", **beatless)
        assert written.request(able).chords == "Am F"  # an order; what cannot be is said
    assert fresh_settings(HUB).chords == ""
    assert carried_over(auto, replace(auto, steady=False), fresh_settings(HUB)).chords == ""
    services = {able.info.name: able}
    for settings in (auto, replace(auto, chords=""), replace(auto, chords="Am F")):
        query = settings.query(fresh_settings(able)).removeprefix("?")
        given = dict(parse_qsl(query, keep_blank_values=True))
        assert read_query(given, services, Limits()) == settings


def test_a_tempo_and_a_key_are_asked_for_only_where_they_are_set():
    free, none = Settings(prompt="house"), Settings(prompt="house", tempo=0.0, key="none")
    held = Settings(prompt="house", tempo=124.0, key="F# minor")
    asked = [(r.tempo_bpm, r.key) for r in (s.request(HUB) for s in (free, none, held))]
    assert asked == [(None, None), (0.0, "none"), (124.0, "F# minor")]
