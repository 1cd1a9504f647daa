"""`listen` from a file to a report, and what it refuses: one line, exit 2, nothing stored."""

import io
import json
import re
import signal
import sqlite3
import subprocess
import sys
import time

import httpx
import numpy as np
import pytest
import soundfile
import yaml

from app.listening.serving import StudyServer, build
from musicgen_rl.errors import InputError
from musicgen_rl.listening.elsewhere import note_database, require_database
from musicgen_rl.listening.plan import freeze, load_plan, make_plan
from musicgen_rl.listening.sham import write_sham_clips
from musicgen_rl.listening.store import Store, store_url
from tests.cli.conftest import REPOSITORY, command, environment
from tests.listening.stored import with_clips
from tests.listening.studies import PAIR, RATING, content


def write(folder, **changes):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(content(questions=[PAIR]) | changes, sort_keys=False))
    return folder


@pytest.fixture
def planned(call, tmp_path):
    """A study with a frozen plan."""
    folder = write(tmp_path / "s")
    assert call("listen", "plan", folder, "--runs", 0).code == 0
    return folder


def open_store(folder):
    plan = load_plan(folder)
    return plan, Store(store_url(folder), plan.hash)


def take_part(folder, answers=1):
    """Let one person begin, and answer."""
    plan, store = open_store(folder)
    rater = store.rater(store.agree(store.invite([0])[0], "page"))
    for trial in plan.assignment.sessions[0][:answers]:
        store.show(rater, trial.position)
        store.add(rater, trial.position, f"s{trial.position}", {"prefer": "first"}, [], [])
    store.close()
    return rater


def age(folder, rater, days):
    """Let somebody have begun so long before."""
    connection = sqlite3.connect(folder / "answers.sqlite")
    for table, column in (("invitations", "used_at"), ("raters", "agreed_at")):
        which = f"(SELECT agreed_at FROM raters WHERE id = {rater})"
        connection.execute(
            f"UPDATE {table} SET {column} = {column} - {days * 86400} WHERE {column} = {which}"
        )
    connection.commit()
    connection.close()


def stored(folder):
    """Count the rows of answers."""
    if not (folder / "answers.sqlite").exists():
        return 0
    connection = sqlite3.connect(folder / "answers.sqlite")
    try:
        return connection.execute("SELECT COUNT(*) FROM answers").fetchone()[0]
    finally:
        connection.close()


def test_from_a_preset_to_a_frozen_plan(call, tmp_path):
    folder = tmp_path / "study"
    done = call("listen", "new", folder, "--prompts", 6, "--raters", 4, "--duration", 5)
    assert (done.code, done.paths) == (0, [folder / "study.yaml"])
    done = call("listen", "plan", folder, "--runs", 20, "--effects", "0,2")
    assert done.code == 0
    (line,) = [x for x in done.err.splitlines() if "acoustic_quality quality - diverse" in x]
    assert re.fullmatch(r"scales/acoustic_quality quality - diverse +0: \d+ %, 2: \d+ %", line)
    assert "names no contact" in done.err
    plan = json.loads((folder / "plan.json").read_text())
    made = load_plan(folder)
    assert plan["hash"] == made.hash
    assert len(plan["power"]) == 2 * 5
    assert (len(made.study.prompts), made.study.raters.count) == (6, 4)
    assert (made.study.clips.duration_s, made.study.arms[0].model) == (5, "pocket")
    again = call("listen", "new", folder)
    again.refused("is there already")


@pytest.mark.parametrize("preset", ["paper", "small", "mushra"])
@pytest.mark.parametrize(("prompts", "raters"), [(2, 1), (3, 3), (5, 2), (101, 12)])
def test_presets_of_every_size_can_be_planned(
    call, tmp_path, monkeypatch, dial_folder, preset, prompts, raters
):
    (tmp_path / "a: b # odd").symlink_to(dial_folder)
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "study"
    size = ("--prompts", prompts, "--raters", raters, "--model", "a: b # odd")
    new = call("listen", "new", folder, "--preset", preset, *size)
    assert new.code == 0
    assert call("listen", "plan", folder, "--runs", 0).code == 0
    study = load_plan(folder).study
    assert study.arms[0].model == "a: b # odd"
    assert all(question.raters_per_prompt <= raters for question in study.questions)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--prompts", "102"], "--prompts must be from 2 to 101, got 102"),
        (["--raters", "0"], "--raters must be from 1 to 10000, got 0"),
        (["--duration", "0.1"], "--duration must be between 1 and 120 s, got 0.1"),
        (["--preset", "papper"], "unknown preset 'papper'"),
    ],
)
def test_a_preset_that_cannot_be_is_refused(call, tmp_path, arguments, words):
    call("listen", "new", tmp_path / "s", *arguments).refused(words)
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"analysis": {"planned": [{"question": "preference", "item": "prefer",
                                    "arms": ["plain", "other"]}]}},
         ("unknown arm 'other'", "the arms are plain, varied")),
        ({"reference": "other"}, ("reference 'other' is no arm",)),
        ({"questions": [PAIR | {"prompts": 3, "raters_per_prompt": 3}]}, ("odd number",)),
        ({"questions": [RATING | {"prompts": 99}]}, ("asks for 99 prompts, but there are 8",)),
        ({"version": 7}, ("version must be 1, got 7",)),
        ({"qestions": []}, ("unknown entry 'qestions'",)),
    ],
)  # fmt: skip
def test_a_study_that_cannot_work_is_not_planned(call, tmp_path, changes, words):
    folder = write(tmp_path / "s", **changes)
    call("listen", "plan", folder).refused("study.yaml", *words)
    assert [path.name for path in folder.iterdir()] == ["study.yaml"]


def with_models(folder, **arms):
    """Write a study whose arms are models: name -> (model, its settings)."""
    return write(folder, arms={n: {"model": str(m)} | more for n, (m, more) in arms.items()})


@pytest.mark.parametrize(
    ("model", "settings", "words"),
    [
        ("nowhere", {}, "no model 'nowhere': neither a folder nor under"),
        ("./runs/nowhere", {}, "no model './runs/nowhere'"),
        ("TINY", {"diversity": 0.0}, "has no dial"),
        ("TINY", {"top_p": 7}, "top_p"),
    ],
)
def test_what_make_would_refuse_of_models_is_not_planned(
    call, tmp_path, tiny_folder, model, settings, words
):
    given = tiny_folder if model == "TINY" else model
    folder = with_models(tmp_path / "s", plain=(tiny_folder, {}), varied=(given, settings))
    early = call("listen", "plan", folder)
    early.refused(words)
    assert [path.name for path in folder.iterdir()] == ["study.yaml"]
    freeze(make_plan(folder))
    assert call("listen", "make", folder, "--device", "cpu").err == early.err


def test_a_study_whose_clips_are_made_is_planned_anew_without_its_models(
    call, tmp_path, tiny_folder
):
    model = tmp_path / "model"
    model.symlink_to(tiny_folder)
    folder = with_models(tmp_path / "s", plain=(model, {}), varied=(model, {"temperature": 0.5}))
    assert call("listen", "plan", folder, "--runs", 0).code == 0
    write_sham_clips(load_plan(folder))
    model.unlink()
    call("listen", "plan", folder, "--runs", 0).refused("no model")  # noise is no clip
    with_clips(load_plan(folder))
    assert call("listen", "plan", folder, "--runs", 0).code == 0
    text = (folder / "study.yaml").read_text()
    (folder / "study.yaml").write_text(text.replace("duration_s: 0.5", "duration_s: 0.6"))
    call("listen", "plan", folder, "--runs", 0).refused("no model")


def test_a_study_without_planned_comparisons_is_planned_without_power(call, tmp_path):
    folder = write(tmp_path / "s", analysis={"planned": []}, contact="anna@example.org")
    done = call("listen", "plan", folder)
    assert done.code == 0
    assert "no comparison is planned" in done.err
    assert "" not in done.err.splitlines()
    assert "names no contact" not in done.err
    assert json.loads((folder / "plan.json").read_text())["power"] == []


def test_options_of_the_plan_are_checked(call, tmp_path):
    folder = write(tmp_path / "s")
    call("listen", "plan", folder, "--effects", "much").refused("0,0.25,0.5", "'much'")
    call("listen", "plan", folder, "--runs", -1).refused("--runs must be from 0")
    call("listen", "plan", tmp_path / "none").refused("listen new")
    assert not (folder / "plan.json").exists()


def test_nothing_is_done_without_a_plan_or_with_another(call, tmp_path):
    folder = write(tmp_path / "s")
    for name in (["make"], ["invite"], ["serve"], ["stop"], ["report"], ["export"]):
        more = [tmp_path / "x.csv"] if name == ["export"] else []
        call("listen", *name, folder, *more).refused("plan.json' is missing", "listen plan")
    call("listen", "plan", folder, "--runs", 0)
    write(folder, title="Another title")
    call("listen", "invite", folder).refused("another state of study.yaml")
    assert not (folder / "answers.sqlite").exists()


def test_missing_clips_are_named_by_make_and_by_serve(call, planned):
    call("listen", "make", planned).refused("arm 'plain'", "there is no folder")
    (planned / "a").mkdir()
    call("listen", "make", planned).refused("lacks 7 of 7 clips", "001-1.wav")
    call("listen", "serve", planned).refused("key.json' is missing", "listen make")
    assert not (planned / "answers.sqlite").exists()


def test_clips_made_again_are_said_to_need_the_server_to_start_again(call, planned):
    for arm in ("a", "b"):
        (planned / arm).mkdir()
        for prompt in range(1, 10):
            noise = 0.1 * np.random.default_rng(prompt).normal(size=4800)
            soundfile.write(planned / arm / f"{prompt}-1.wav", noise, 8000)
    first, again = (call("listen", "make", planned) for _ in range(2))
    assert (first.code, again.code) == (0, 0), first.err
    assert "start it again" not in first.err
    assert "a server that is running knows the clips of before: start it again" in again.err


def test_unequal_clips_are_refused(call, planned):
    for arm in ("a", "b"):
        (planned / arm).mkdir()
        for prompt in range(1, 10):
            seconds = 0.2 if (arm, prompt) == ("b", 3) else 0.6
            noise = 0.1 * np.random.default_rng(prompt).normal(size=round(8000 * seconds))
            soundfile.write(planned / arm / f"{prompt}-1.wav", noise, 8000)
    done = call("listen", "make", planned)
    assert (done.code, done.out) == (2, "")
    assert "3-1.wav' lasts 0.20 s, the study needs 0.5 s" in done.err.splitlines()[-1]
    assert not (planned / "key.json").exists()


def test_a_study_changed_after_answers_is_refused_by_every_command(call, planned, tmp_path):
    write_sham_clips(load_plan(planned))
    take_part(planned)
    frozen = (planned / "plan.json").read_text()
    write(planned, title="Another title")
    call("listen", "plan", planned).refused("changed after people took part", "another folder")
    assert (planned / "plan.json").read_text() == frozen
    for name in ("make", "serve", "report"):
        call("listen", name, planned).refused("another state of study.yaml")
    assert stored(planned) == 1
    write(planned)
    call("listen", "make", planned).refused("people took part already")
    assert stored(planned) == 1


def test_answers_in_another_database_are_kept_as_those_in_the_folder(call, planned, tmp_path):
    other = f"sqlite:///{tmp_path / 'other.sqlite'}"
    with_clips(load_plan(planned))
    plan = load_plan(planned)
    store = Store(other, plan.hash)
    store.agree(store.invite([0])[0], "page")
    store.close()
    key, frozen = ((planned / name).read_bytes() for name in ("key.json", "plan.json"))
    make = call("listen", "make", planned, "--database", other)
    make.refused("people took part already")
    write(planned, title="Another title")
    call("listen", "plan", planned, "--database", other).refused("changed after people took part")
    write(planned)
    assert call("listen", "plan", planned, "--runs", 0, "--database", other).code == 0
    for name in ("plan", "make", "serve", "invite", "stop", "report"):
        call("listen", name, planned).refused(
            f"the answers of this study are in another database, {other}", "--database",
            "database.json",
        )  # fmt: skip
    assert not (planned / "answers.sqlite").exists()
    assert [(planned / name).read_bytes() for name in ("key.json", "plan.json")] == [key, frozen]
    (planned / "database.json").unlink()
    assert call("listen", "plan", planned, "--runs", 0).code == 0


def test_no_password_is_written_down_nor_the_folders_own_file(tmp_path):
    note_database(tmp_path, "postgresql+psycopg://anna:secret@host/name")
    assert "secret" not in (tmp_path / "database.json").read_text()
    with pytest.raises(InputError, match=r"postgresql\+psycopg://anna:\*\*\*@host/name"):
        require_database(tmp_path, None)
    (tmp_path / "database.json").unlink()
    note_database(tmp_path, store_url(tmp_path))
    require_database(tmp_path, None)


def test_a_server_writes_down_that_answers_are_elsewhere(planned, tmp_path):
    with_clips(load_plan(planned))
    other = f"sqlite:///{tmp_path / 'other.sqlite'}"
    _, context = build(StudyServer(folder=planned, database=other))
    context.store.close()
    assert json.loads((planned / "database.json").read_text()) == {"url": other}


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"prompts": [f"tune number {number}" for number in (1, 0, *range(2, 8))]}, "prompts"),
        ({"arms": {"plain": {"audio": "b"}, "varied": {"audio": "a"}}}, "arms"),
        ({"clips": {"duration_s": 0.5, "sample_rate": 8000, "seed": 2}}, "clip rules"),
    ],
)
def test_clips_of_another_state_of_the_study_are_not_served(call, planned, changes, part):
    with_clips(load_plan(planned))
    write(planned, **changes)
    assert call("listen", "plan", planned, "--runs", 0).code == 0
    call("listen", "serve", planned).refused(f"before the {part} of the study", "listen make")
    assert not (planned / "answers.sqlite").exists()


def test_clips_of_a_simulation_are_not_served(call, tmp_path):
    folder = write(tmp_path / "s")
    assert call("listen", "simulate", folder).code == 0
    (folder / "answers.sqlite").unlink()
    call("listen", "serve", folder).refused("clips of noise", "listen make")
    assert not (folder / "answers.sqlite").exists()
    assert call("listen", "simulate", folder).code == 0  # noise may be made anew


def test_a_simulation_leaves_the_clips_of_a_study_alone(call, planned):
    with_clips(load_plan(planned))
    before = (planned / "key.json").read_bytes()
    call("listen", "simulate", planned).refused("names real clips", "folder of its own")
    assert (planned / "key.json").read_bytes() == before


def test_planning_again_keeps_invitations_and_says_how_many_it_withdraws(call, planned):
    kept, _, _, gone = [line[-24:] for line in call("listen", "invite", planned).out.splitlines()]
    write(planned, contact="anna@example.org")
    assert "withdrawn" not in call("listen", "plan", planned, "--runs", 0).err
    _, store = open_store(planned)
    store.require_invitation(kept)
    store.require_invitation(gone)
    store.close()
    write(planned, raters=content()["raters"] | {"count": 3})
    done = call("listen", "plan", planned, "--runs", 0)
    assert "1 unused invitation is withdrawn" in done.err
    _, store = open_store(planned)
    store.require_invitation(kept)
    with pytest.raises(InputError, match="not known"):
        store.require_invitation(gone)
    store.close()


def test_invitations_are_links_and_their_numbers_are_checked(call, planned):
    done = call("listen", "invite", planned, "--address", "https://study.example/x/", "--count", 2)
    assert done.code == 0
    lines = done.out.splitlines()
    assert len(set(lines)) == 2
    assert all(line.startswith("https://study.example/x/i/") for line in lines)
    assert len(call("listen", "invite", planned).out.splitlines()) == 4  # one a rater
    call("listen", "invite", planned, "--count", 0).refused("--count must be from 1")
    call("listen", "invite", planned, "--days", 0).refused("--days must be between 0.01")
    call("listen", "invite", planned, "--address", "study.example").refused("--address must be")
    call("listen", "invite", planned, "--database", "nonsense").refused("database URL")


def test_the_report_and_the_table_stay_closed_until_the_stop(call, planned, tmp_path):
    take_part(planned, answers=3)
    table = tmp_path / "answers.csv"
    call("listen", "report", planned).refused("still blind", "listen stop", "--unblind")
    call("listen", "export", planned, table).refused("still blind")
    assert not table.exists()
    assert not (planned / "report.html").exists()
    early = call("listen", "report", planned, "--unblind", "-o", tmp_path / "early")
    assert early.code == 0
    assert "unblinded before the end" in (tmp_path / "early/report.html").read_text()
    assert call("listen", "stop", planned).code == 0
    done = call("listen", "report", planned)
    assert done.paths == [planned / "report.html", planned / "report.json"]
    assert json.loads((planned / "report.json").read_text())["unblinded_early"] is True
    assert "3 rows" in call("listen", "export", planned, table).err
    assert len(table.read_text().splitlines()) == 4


def test_one_rater_and_all_are_deleted_on_request(call, planned, monkeypatch):
    rater = take_part(planned, answers=2)
    take_part(planned, answers=1)
    call("listen", "delete-rater", planned, "nobody").refused("no rater with the code 'nobody'")
    assert stored(planned) == 3
    call("listen", "stop", planned)
    call("listen", "report", planned)
    done = call("listen", "delete-rater", planned, rater.code)
    assert "deleted: one rater, 2 answers" in done.err
    # Reports of before still count them, and that is said with their names.
    assert "still hold these answers" in done.err
    assert str(planned / "report.html") in done.err
    assert stored(planned) == 1
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))  # nobody is there to answer
    done = call("listen", "forget", planned)
    assert done.code == 2
    assert "stopped: nothing was done (where nobody can answer, add --yes)" in done.err
    assert "deleted: 1 raters, 1 answers" in call("listen", "forget", planned, "--yes").err
    assert stored(planned) == 0


def test_traces_that_another_program_keeps_are_said_at_deletion(call, planned, monkeypatch):
    monkeypatch.setattr("musicgen_rl.listening.database.WIPE_PATIENCE_S", 0.1)
    rater = take_part(planned)
    reader = sqlite3.connect(planned / "answers.sqlite")
    reader.execute("BEGIN")
    reader.execute("SELECT COUNT(*) FROM answers").fetchone()
    done = call("listen", "delete-rater", planned, rater.code)
    assert done.code == 0
    assert "traces are left in the database's files" in done.err
    reader.close()
    assert "traces" not in call("listen", "forget", planned, "--expired").err


def test_whose_retention_time_is_over_is_deleted_by_any_command_and_that_is_said(call, planned):
    take_part(planned, answers=2)
    take_part(planned, answers=1)
    said = call("listen", "stop", planned).err
    assert "to be deleted from 20" in said
    assert "listen forget" in said
    assert "the next are due on 20" in call("listen", "forget", planned, "--expired").err
    assert stored(planned) == 3
    age(planned, rater=1, days=366)
    done = call("listen", "report", planned)
    assert "deleted: 1 raters with 2 answers, who began more than 365 days ago" in done.err
    assert stored(planned) == 1
    assert json.loads((planned / "report.json").read_text())["people"]["deleted"] == 1
    age(planned, rater=2, days=366)
    done = call("listen", "forget", planned, "--expired")
    assert "deleted: 1 raters with 1 answers" in done.err
    assert str(planned / "report.json") in done.err
    assert "nobody's answers are stored" in done.err
    assert stored(planned) == 0


def test_nobody_having_answered_is_said(call, planned):
    call("listen", "stop", planned)
    call("listen", "invite", planned).refused("the study has ended: an invitation would open")
    call("listen", "report", planned).refused("nobody has answered yet")
    assert not (planned / "report.html").exists()


def test_what_to_simulate_is_checked(call, tmp_path):
    folder = write(tmp_path / "s")
    call("listen", "simulate", folder, "--effect", "other=1").refused("the arms are plain, varied")
    call("listen", "simulate", folder, "--effect", "plain=much").refused("ARM=POINTS")
    call("listen", "simulate", folder, "--careless", 2).refused("careless must be between 0 and 1")
    for dropouts in (-1, 5):
        call("listen", "simulate", folder, "--dropouts", dropouts).refused(
            f"--dropouts must be from 0 to 4, the raters of the study, got {dropouts}"
        )
    assert [path.name for path in folder.iterdir()] == ["study.yaml"]


def test_a_study_is_simulated_through_its_pages_once(call, tmp_path):
    folder = write(tmp_path / "s")
    done = call("listen", "simulate", folder, "--effect", "varied=2", "--careless", 0)
    assert done.code == 0, done.err
    result = json.loads((folder / "report.json").read_text())
    assert result["simulated"] is True
    assert result["people"]["answers"] == result["people"]["planned_answers"]
    assert result["planned"][0]["mean"] < 0  # plain minus varied
    call("listen", "simulate", folder).refused("is there already")


def test_serve_opens_the_pages_until_it_is_told_to_end(planned):
    with_clips(load_plan(planned))
    _, store = open_store(planned)
    (token,) = store.invite([0])
    store.close()
    arguments = command("listen", "serve", planned, "--address", "https://study.example/")
    process = subprocess.Popen(
        arguments, cwd=REPOSITORY, env=environment(PYTHONUNBUFFERED="1"), stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        line = process.stderr.readline()
        said = (
            r"the study is open at (http://127\.0\.0\.1:\d+), for raters at https://study\.example"
        )
        url = re.fullmatch(said, line.strip())[1]
        form = {"nonce": "n" * 24, "agree": "yes"}
        with httpx.Client(base_url=url, trust_env=False, timeout=60) as client:
            for _ in range(600):  # the line is said just before the door opens
                try:
                    page = client.get(f"i/{token}")
                    break
                except httpx.ConnectError:
                    time.sleep(0.1)
            assert "We keep your answers and no name." in page.text
            session = client.post(f"i/{token}", data=form, follow_redirects=True)
            assert session.status_code == 200
            assert client.get("owner").status_code == 401  # nobody was named as owner
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert "no owner's page" in process.stderr.read()
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
    _, store = open_store(planned)
    assert len(store.raters()) == 1
    store.close()
