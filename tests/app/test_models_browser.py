"""Two models on one page, of which one has no dial and is guided, in a real Chromium."""

import pytest

from musicgen_rl.config import SamplingConfig
from tests.app.browsing import SERVED, button, downloads, served, settle, tab, tags_of, unfold
from tests.models import save_tiny

pytestmark = [*SERVED]


@pytest.fixture(scope="module")
def studio(hearing_folder, tmp_path_factory):
    guided = SamplingConfig(guidance_scale=3.0, top_k=30)
    other = save_tiny(tmp_path_factory.mktemp("models") / "guided", name="guided", sampling=guided)
    with served(hearing_folder, more_models=(str(other),)) as running:
        yield running


def choose(page, model):
    page.get_by_label("Model", exact=True).click()
    page.get_by_role("option", name=model).click()


def wait_for_own(page, guidance, top_k):
    for name, value in (("#guidance input[type=number]", guidance), ("#top-k input", top_k)):
        page.wait_for_function(
            "([name, value]) => document.querySelector(name).value === value", arg=[name, value]
        )


def test_each_model_draws_in_its_own_way_but_for_what_was_set(visit, tmp_path):
    page = visit()
    settle(page, "drums", seconds=1)
    unfold(page, "More")
    wait_for_own(page, "1", "20")
    temperature = page.get_by_label("number input for Temperature")
    temperature.fill("1.3")
    temperature.blur()
    choose(page, "guided")
    wait_for_own(page, "3", "30")
    assert temperature.input_value() == "1.3"
    button(page, "Generate").click()
    ((name, data),) = downloads(page, 1)
    sampling = tags_of(data, tmp_path, name)["sampling"]
    assert [sampling[key] for key in ("guidance_scale", "top_k", "temperature")] == [3, 30, 1.3]
    choose(page, "hearing")
    wait_for_own(page, "1", "20")
    base = page.get_by_label("Play the base model instead")
    base.check()
    wait_for_own(page, "3", "20")
    base.uncheck()
    wait_for_own(page, "1", "20")
    button(page, "Use these settings").first.click()  # of the other model, with its own guidance
    wait_for_own(page, "3", "30")
    choose(page, "hearing")
    wait_for_own(page, "1", "20")


def test_a_jam_is_guided_as_the_chosen_model_is(visit):
    page = visit()
    unfold(page, "More")
    guidance = page.get_by_label("Guidance of the jam")
    tab(page, "Live")
    assert guidance.input_value() == "1"
    choose(page, "guided")
    page.wait_for_function("document.querySelector('[data-studio=live-guidance]').value === '3'")
    guidance.fill("2")
    choose(page, "hearing")
    page.wait_for_timeout(300)
    assert guidance.input_value() == "2"


def test_a_link_to_the_guided_model_is_guided(visit, studio):
    page = visit(f"{studio.url}?model=guided&prompt=drums")
    unfold(page, "More")
    wait_for_own(page, "3", "30")


@pytest.mark.parametrize(("way", "press"), [("Compare", "Compare"), ("Spread", "Draw the spread")])
def test_no_positions_are_claimed_where_there_is_no_dial(visit, way, press):
    page = visit()
    settle(page, "drums", seconds=1)
    unfold(page, "More")
    choose(page, "guided")
    wait_for_own(page, "3", "30")
    tab(page, way)
    button(page, press).click()
    page.get_by_text("The model guided has no dial, so all positions would be one").wait_for()
    assert page.locator(".pair, .spread").count() == 0
