import pytest

from musicgen_rl.training.guards import PATIENCE, Guards, unguarded
from tests.training.endpoint_fakes import small_config


def run(guards: Guards, rows, beta=0.0):
    """Feed steps until a guard objects; (its words, steps)."""
    for count, row in enumerate(rows, start=1):
        why = guards.after_step(row, beta)
        if why:
            return why, count
    return None, len(rows)


def steady(count=40, **changes):
    return [{"kl": 20.0, "entropy": 4.0} | changes for _ in range(count)]


def test_judges_that_are_missing_are_told_with_what_they_would_notice():
    assert unguarded(held_out=True, scorer=True) is None
    one, other = unguarded(held_out=False, scorer=True), unguarded(held_out=True, scorer=False)
    both = unguarded(held_out=False, scorer=False)
    assert "held-out encoder" in one
    assert "encoder-report" in one
    assert "scorer" not in one
    assert "clips that leave their prompts" in other
    assert "scorer-training" in other
    assert "encoder" not in other
    assert all(
        w in both for w in ("no held-out encoder and no scorer", "encoder-report", "scorer-")
    )
    assert all("--instruments FOLDER" in line and "\n" not in line for line in (one, other, both))


def test_a_steady_run_is_left_alone():
    assert run(Guards(small_config()), steady()) == (None, 40)


def test_a_rising_kl_stops_it_but_not_one_bad_step():
    one_bad = steady(20) + steady(1, kl=45.0) + steady(20)
    assert run(Guards(small_config()), one_bad)[0] is None
    why, count = run(Guards(small_config()), steady(20) + steady(40, kl=60.0))
    assert "KL rose" in why
    assert "learning_rate" in why
    assert 20 < count < 40
    assert run(Guards(small_config(guard_kl_rise=0.0)), steady(20) + steady(40, kl=60.0))[0] is None


def test_a_kl_that_the_reward_pays_for_is_no_reason():
    before, after = steady(20, diversity=0.4), steady(40, kl=60.0, diversity=0.9)
    config = small_config(diversity_weight=100.0)
    assert run(Guards(config), before + after, beta=100.0)[0] is None
    assert "KL rose" in run(Guards(config), before + after, beta=1.0)[0]


@pytest.mark.parametrize("reward", ["answered", "determinant"])
def test_what_is_paid_is_what_may_pay_for_the_kl(reward):
    before = steady(20, kl=10.0, diversity=0.4, **{reward: 0.1})
    paid = steady(40, kl=20.0, diversity=0.4, **{reward: 0.4})
    unpaid = steady(40, kl=20.0, diversity=0.9, **{reward: 0.1})
    for guard, words in (("guard_kl_rise", "KL rose"), ("guard_objective", "-KL + beta D fell")):
        only = {"guard_kl_rise": 0.0, guard: 0.2}
        config = small_config(diversity_weight=100.0, reward=reward, **only)
        assert run(Guards(config), before + paid, beta=100.0)[0] is None
        assert words in run(Guards(config), before + unpaid, beta=100.0)[0]


def test_a_collapsing_entropy_stops_it():
    why, _ = run(Guards(small_config()), steady(20) + steady(40, entropy=0.5))
    assert "entropy collapsed from 4.00" in why


def test_a_falling_objective_stops_it_where_asked():
    rows = steady(20, diversity=0.4) + steady(40, kl=27.0, diversity=0.45)
    assert run(Guards(small_config(diversity_weight=10.0)), rows, beta=10.0)[0] is None
    asked = small_config(diversity_weight=10.0, guard_objective=0.2)
    assert "-KL + beta D fell" in run(Guards(asked), rows, beta=10.0)[0]


def hear(guards, rows):
    return next((why for row in rows if (why := guards.after_hearing(row))), None)


def heard(count, **values):
    usual = {"silent": 0.0, "repeated": 0.0, "diversity": 0.5, "held_out_diversity": 0.5,
             "score": 0.3}  # fmt: skip
    return [usual | values for _ in range(count)]


@pytest.mark.parametrize(("values", "message"), [
    ({"silent": 1.0}, "clips are silent"), ({"repeated": 0.95}, "repeat the frame before"),
])  # fmt: skip
def test_silence_and_repetition_stop_it(values, message):
    assert message in hear(Guards(small_config()), heard(1) + heard(8, **values))
    assert hear(Guards(small_config()), heard(9)) is None


@pytest.mark.parametrize(("values", "message"), [
    ({"held_out_diversity": 0.3}, "held-out encoder's diversity fell from 0.500"),
    ({"score": 0.1}, "scorer's adherence fell from 0.300"),
])  # fmt: skip
def test_a_fooled_encoder_stops_it(values, message):
    config = small_config(diversity_weight=10.0)
    fooled = heard(1) + heard(8, diversity=0.8, **values)
    assert message in hear(Guards(config), fooled)
    assert hear(Guards(config), heard(1) + heard(8, **values)) is None  # the reward did not rise
    assert hear(Guards(small_config(diversity_weight=10.0, guard_hacking=0.0)), fooled) is None


@pytest.mark.parametrize("reward", ["answered", "determinant"])
def test_an_encoder_is_fooled_where_what_is_paid_rises(reward):
    config = small_config(diversity_weight=10.0, reward=reward)
    first = heard(1, **{reward: 0.1})
    assert "fell from 0.300" in hear(Guards(config), first + heard(8, score=0.1, **{reward: 0.4}))
    unpaid = heard(8, score=0.1, diversity=0.8, **{reward: 0.1})
    assert hear(Guards(config), first + unpaid) is None


def test_every_objection_names_a_way_out_that_there_is():
    paid = small_config(diversity_weight=10.0, guard_objective=0.2)
    said = [
        run(Guards(paid), steady(20) + steady(40, kl=60.0))[0],
        run(Guards(paid), steady(20) + steady(40, entropy=0.5))[0],
        run(Guards(paid), steady(20) + steady(40, kl=27.0))[0],
        hear(Guards(paid), heard(9, silent=1.0)),
        hear(Guards(paid), heard(1) + heard(8, diversity=0.8, score=0.1)),
    ]
    assert all("begin again in a new folder with" in why for why in said)


def test_a_memory_of_another_figure_is_begun_anew():
    plain = Guards(small_config(diversity_weight=10.0))
    run(plain, steady(PATIENCE + 3, diversity=0.5))
    answered = Guards(small_config(diversity_weight=10.0, reward="answered"))
    answered.restore(plain.pack())
    assert answered.steps == 0
    run(answered, steady(PATIENCE + 3, diversity=0.5, answered=0.2))
    again = Guards(small_config(diversity_weight=10.0, reward="answered"))
    again.restore(answered.pack())
    assert again.pack() == answered.pack()


def test_a_guards_memory_survives_json():
    import json

    guards, other = Guards(small_config()), Guards(small_config())
    run(guards, steady(PATIENCE + 3))
    hear(guards, heard(3))
    other.restore(json.loads(json.dumps(guards.pack())))
    assert other.pack() == guards.pack()
