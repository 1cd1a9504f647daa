import pytest

from musicgen_rl.audio.loudness import LoudnessConfig
from musicgen_rl.batch import Item, make_plan
from musicgen_rl.batch.estimate import Estimate, estimate
from musicgen_rl.batch.progress import EveryMinute, Status, spell_seconds
from musicgen_rl.pipeline import Pipeline


def test_what_is_left_is_counted_and_scaled(plan, pipelines, model):
    missing = frozenset(c.id for c in plan.clips[4:])
    found = estimate(plan, missing, pipelines[model], format="wav", workers=2, seconds=5)
    assert (found.clips, found.batches, found.positions) == (6, 2, 2)
    assert found.audio_s == pytest.approx(2 * 0.3 + 4 * 0.2)
    assert found.audio_rate > 0
    assert found.seconds == pytest.approx(found.audio_s / found.audio_rate / 2)
    # 8 kHz, 16 bits: 4,800 and 3,200 bytes and the tags, each in one or two blocks of 4,096
    assert found.bytes % 4096 == 0
    assert 6 * 4096 < found.bytes <= 6 * 8192


def test_orders_that_cannot_share_a_batch_count_as_settings(pipelines, model):
    asked = [{"key": "none"}, {"key": None}, {"beats_per_bar": 3}, {"returning": 0.0},
             {"tempo_bpm": None}, {"loudness": LoudnessConfig(enabled=False)}]  # fmt: skip
    items = [Item(prompt=f"tune {n}", model=model, duration_s=0.2, **how)
             for n, how in enumerate(asked)]  # fmt: skip
    plan = make_plan(items, device="cpu", dtype="fp32")
    found = estimate(plan, frozenset(plan.ids), pipelines[model], format="wav", seconds=0.0)
    assert (found.batches, found.positions) == (6, 6)


def test_workers_without_a_batch_make_it_no_faster(plan, pipelines, model):
    missing = frozenset(c.id for c in plan.clips[4:])
    found = estimate(plan, missing, pipelines[model], format="wav", workers=8, seconds=0.0)
    assert (found.batches, found.workers) == (2, 2)


def test_a_measurement_stops_in_time_but_never_with_nothing(plan, pipelines, model, monkeypatch):
    real, asked = Pipeline.chunks, []

    def counted(self, batch, request, sampling, *, stop):
        def ask():
            asked.append(1)
            return stop()

        return real(self, batch, request, sampling, stop=ask)

    monkeypatch.setattr(Pipeline, "chunks", counted)
    found = estimate(plan, frozenset(plan.ids), pipelines[model], format="wav", seconds=0.0)
    K = pipelines[model].info.lm.num_codebooks
    assert len(asked) == (3 + K + 1) + (10 + K + 1)  # warming up, then the fewest steps there are
    assert found.audio_rate > 0


def test_an_estimate_is_said_in_units_people_use():
    said = Estimate(
        clips=3600, batches=225, positions=3, audio_s=36000.0, bytes=int(1.5e9), audio_rate=20.0,
        workers=2,
    ).lines()  # fmt: skip
    assert said == [
        "clips to make: 3600 in 225 batches, 3 settings", "audio: 10.00 h", "on disk: 1.50 GB",
        "time: about 15 min at 20.0 x real time with each of 2 workers",
    ]  # fmt: skip


def status(**changes):
    return Status(**({
        "total": 10, "done": 4, "failed": 0, "audio_s": 40.0, "made_audio_s": 20.0,
        "left_audio_s": 60.0, "seconds": 5.0} | changes))  # fmt: skip


def test_a_status_knows_rate_and_time_left():
    assert status().rate == 4.0
    assert status().left_s == 15.0
    assert status().line() == "4 of 10 clips, 40 s of audio, 4.0 x real time, 15 s left"
    assert status(failed=2, made_audio_s=0.0).line() == (
        "4 of 10 clips, 40 s of audio, 2 failed, 0.0 x real time"
    )


def test_a_report_comes_once_a_minute_and_at_the_end():
    now, seen = [0.0], []
    report = EveryMinute(seen.append, 60.0, clock=lambda: now[0])
    for now[0] in (1.0, 59.0, 60.0, 61.0, 121.0):
        report(status(seconds=now[0]))
    report(status(seconds=122.0, left_audio_s=0.0))
    assert [s.seconds for s in seen] == [60.0, 121.0, 122.0]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 s"), (99, "99 s"), (100, "2 min"), (5999, "100 min"), (7200, "2.0 h")],
)
def test_durations_are_spelled_short(seconds, said):
    assert spell_seconds(seconds) == said
