"""The study over real HTTP: what a rater can do, learn, and not do."""

import io
import json
import re
import time
import wave
from dataclasses import replace

import httpx
import numpy as np
import pytest

from app.listening import serving
from app.listening.server import create_app
from app.listening.serving import InBackground, StudyServer, kept_promise, open_context
from app.listening.session import headphone_sound, quiet_tone
from musicgen_rl.errors import ConfigError, InputError, StorageError
from musicgen_rl.listening.analysis import analyse
from musicgen_rl.listening.plan import freeze, make_plan
from tests.app.listening.conftest import OWNER, Served, write_study
from tests.listening.studies import PAIR, SETS


def body_of(served, state, **changes):
    trial = state["trial"]
    question = next(q for q in served.plan.study.questions if q.kind == trial["kind"])
    values = {
        "rating": 3, "pair": "first", "sets": "first", "abx": "first",
        "mushra": [50] * len(trial["players"]),
    }[trial["kind"]]  # fmt: skip
    return {
        "trial": trial["id"], "submission": "0123456789abcdef",
        "values": {item.id: values for item in question.items}, "plays": [], "corrects": None,
    } | changes  # fmt: skip


def post(served, player, body):
    return served.client.post(f"r/{player.key}/answers", json=body)


def test_a_whole_session_of_every_kind_is_stored_and_nothing_received_tells_an_arm(served):
    received = []

    def keep(response):
        response.read()
        text = f"{response.request.url} {response.headers} ".encode() + response.content
        received.append((str(response.request.url), text.lower()))

    served.client.event_hooks["response"] = [keep]
    player = served.player(0)
    for path in ("/", f"/r/{player.key}", "/static/session.js", "/static/player.js"):
        served.client.get(path)
    count = player.session()
    served.client.event_hooks["response"] = []
    assert count == len(served.plan.assignment.sessions[0])
    assert served.state(player)["stage"] == "done"
    rater = served.store.rater(player.key)
    stored = served.store.answers(rater)
    assert [(a.submission) for a in stored] == [s for s, _ in player.acknowledged]
    secrets = [*(arm.name for arm in served.plan.study.arms), "hidden-path", "sham", "key.json",
               "damaged", "repeat_of", "attention", str(served.plan.folder)]  # fmt: skip
    secrets += [clip.name for clip in served.context.clips.by_key.values()]
    secrets += [clip.sha256 for clip in served.context.clips.by_key.values()]
    for url, text in received:
        if "/static/" in url:
            continue
        for secret in secrets:
            assert secret.lower().encode() not in text, (secret, url)
    headers = {h for _, t in received for h in ("last-modified", "etag", "server:") if h in str(t)}
    assert "server:" not in headers


def test_all_sounds_of_a_page_are_of_one_size_and_no_two_plays_are_equal_bytes(served):
    player = served.player(1)
    seen = set()
    for _ in range(12):
        state = served.state(player)
        sounds = []
        for name in state["trial"]["players"]:
            reply = served.client.get(f"r/{player.key}/sound/{name}")
            assert reply.headers["content-type"] == "audio/wav"
            assert set(reply.headers) <= {
                "content-length", "content-type", "content-security-policy", "referrer-policy",
                "x-content-type-options", "cache-control",
            }  # fmt: skip
            assert reply.content[36:40] == b"data"  # no tags stand before the samples
            sounds.append(reply.content)
            assert served.client.get(f"r/{player.key}/sound/{name}").content == sounds[-1]
        assert len({len(sound) for sound in sounds}) == 1
        assert not seen & set(sounds)
        seen |= set(sounds)
        player.answer(state)


def test_a_repeated_post_is_acknowledged_and_stored_once(served):
    player = served.player(2)
    body = body_of(served, served.state(player))
    first = post(served, player, body)
    again = post(served, player, body)
    assert first.status_code == again.status_code == 200
    assert first.json()["stored"] is again.json()["stored"] is True
    assert len(served.store.answers(served.store.rater(player.key))) == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"trial": "forged"}, "not yours"),
        ({"trial": None}, "not yours"),
        ({"submission": ""}, "number of its own"),
        ({"submission": "x" * 99}, "number of its own"),
        ({"values": {}}, "an answer is missing"),
        ({"values": None}, "must name a value"),
        ({"values": {"other": 1}}, "nothing called 'other'"),
        ({"plays": [{"player": 9, "seconds": 1, "at_s": 0}]}, "no player 9"),
        ({"plays": [{"player": 0, "seconds": -1, "at_s": 0}]}, "numbers from 0"),
        ({"plays": [{"player": 0, "seconds": 10**400, "at_s": 0}]}, "numbers from 0"),
        ({"plays": "all"}, "must be a list"),
        ({"submission": "a\x00234567"}, "number of its own"),
        ({"corrects": 0}, "no such answer to correct"),
        ({"corrects": "x"}, "number of a revision"),
    ],
)
def test_what_is_wrong_is_refused_in_a_sentence_and_nothing_is_stored(served, change, words):
    player = served.player(3)
    reply = post(served, player, body_of(served, served.state(player), **change))
    assert reply.status_code == 400
    assert words in reply.json()["error"]
    assert served.store.answers(served.store.rater(player.key)) == []


@pytest.mark.parametrize("bad", [0, 6, 2.5, "3", True, None, [3], 10**30])
def test_answers_out_of_range_are_refused(served, bad):
    player = served.player(0)
    state = served.state(player)
    body = body_of(served, state)
    body["values"] = dict.fromkeys(body["values"], bad)
    assert post(served, player, body).status_code == 400
    assert served.store.answers(served.store.rater(player.key)) == []


def test_clips_made_anew_beside_a_server_show_no_rater_a_path(tmp_path, caplog):
    write_study(tmp_path / "s")
    context = open_context(tmp_path / "s")
    with InBackground(create_app(context)) as server:
        served = Served(context, server.url)
        player = served.player(0)
        sound = served.state(player)["trial"]["players"][0]
        for clip in (tmp_path / "s/clips").iterdir():
            clip.unlink()
        reply = served.client.get(f"r/{player.key}/sound/{sound}")
        served.client.close()
    context.store.close()
    assert reply.status_code == 400  # the page's script says so and does not try for ever
    assert reply.json()["error"].startswith("this sound cannot be played now: reload the page")
    assert str(tmp_path) not in reply.text
    assert "the clip" in caplog.text
    assert str(tmp_path) in caplog.text


def test_another_raters_trial_and_sounds_are_out_of_reach(served):
    one, two = served.player(0), served.player(0)
    state = served.state(one)
    assert post(served, two, body_of(served, state)).status_code == 400
    sound = state["trial"]["players"][0]
    assert served.client.get(f"r/{two.key}/sound/{sound}").status_code == 400
    assert served.client.get(f"r/{one.key}/sound/nothing").status_code == 400


def test_a_trial_whose_turn_has_not_come_can_be_neither_seen_nor_heard_nor_answered(served):
    from app.listening.session import sound_id, trial_id

    player = served.player(0)
    rater = served.store.rater(player.key)
    state = served.state(player)
    assert served.client.get(f"r/{player.key}/trial/3").status_code == 400
    later = sound_id(served.store, rater, 3, 0)
    assert served.client.get(f"r/{player.key}/sound/{later}").status_code == 400
    trial = served.plan.assignment.sessions[0][3]
    question = served.plan.study.question(trial.question)
    values = {"rating": 3, "mushra": [1] * len(trial.stimuli)}.get(question.kind, "first")
    body = body_of(served, state, trial=trial_id(served.store, rater, 3))
    body["values"] = {item.id: values for item in question.items}
    reply = post(served, player, body)
    assert "not shown" in reply.json()["error"]


def test_going_back_corrects_with_a_new_row(served):
    player = served.player(0)
    player.answer(served.state(player))
    shown = served.client.get(f"r/{player.key}/trial/0").json()
    assert shown["trial"]["revision"] == 0
    assert shown["trial"]["values"]
    body = body_of(served, shown, corrects=0, submission="another-number")
    assert post(served, player, body).json()["revision"] == 1
    rows = served.store.answers(served.store.rater(player.key))
    assert [row.revision for row in rows] == [0, 1]
    assert served.state(player)["trial"]["position"] == 1


def test_an_invitation_is_used_by_agreeing_only_and_only_once(served):
    (token,) = served.store.invite([0])
    for _ in range(2):  # a mail program that looks at links uses nothing up
        assert "I have read this" in served.client.get(f"i/{token}").text
    refused = served.client.post(f"i/{token}", data={"nonce": "n" * 24})
    assert "tick" in refused.json()["error"]
    form = {"nonce": "n" * 24, "agree": "yes"}
    first = served.client.post(f"i/{token}", data=form)
    again = served.client.post(f"i/{token}", data=form)  # the reply was lost
    assert first.status_code == again.status_code == 303
    assert first.headers["location"] == again.headers["location"]
    other = served.client.post(f"i/{token}", data=form | {"nonce": "m" * 24})
    assert "used already" in other.json()["error"]
    assert served.client.get(f"i/{token}").status_code == 400
    assert served.client.get("i/unknown").status_code == 400
    assert served.client.get("r/unknown").status_code == 400


def test_a_personal_link_goes_on_where_another_device_stopped(served):
    player = served.player(1)
    player.session(leave_after=3)
    with httpx.Client(base_url=served.url, trust_env=False) as elsewhere:
        state = elsewhere.get(f"r/{player.key}/state").json()
    assert (state["done"], state["trial"]["position"]) == (3, 3)


def test_too_much_and_nonsense_are_refused(served):
    player = served.player(0)
    path = f"r/{player.key}/answers"
    assert served.client.post(path, content=b"{").status_code == 400
    assert served.client.post(path, content=b"[1]").status_code == 400
    assert served.client.post(path, content=b"[" * 100_000).status_code == 400
    assert "too long" in served.client.post(path, content=b" " * 300_000).json()["error"]
    for path in ("../key.json", "static/../../key.json", "static/%2e%2e/server.py", "clips"):
        assert served.client.get(path).status_code in (400, 404)


@pytest.mark.parametrize(
    "path", ["trial/abc", "trial/1.5", "trial/" + "9" * 5000, "headphones/x", "headphones/9"]
)
def test_a_page_or_sound_of_no_number_is_refused_in_a_sentence(served, path):
    player = served.player(0)
    reply = served.client.get(f"r/{player.key}/{path}")
    assert reply.status_code == 400
    assert reply.json().keys() == {"error"}
    assert "there is no such" in reply.json()["error"]
    page = served.client.get(f"r/{player.key}/{path}", headers={"accept": "text/html"})
    assert '<p role="alert">There is no such' in page.text


def test_addresses_that_lead_nowhere_are_refused_in_a_sentence(served):
    for path in ("nothing", "r", "i/a/b", "static/none.js"):
        reply = served.client.get(path)
        assert (reply.status_code, reply.json()) == (
            404, {"error": "there is no such page: please check the link"},
        )  # fmt: skip
        assert "<h1>" in served.client.get(path, headers={"accept": "text/html"}).text
    # The page of a sentence has its style, however deep the address and whatever it is mounted in.
    for path, style in (
        ("nothing", "static"),
        ("i/unknown", "../static"),
        ("r/x/y/z", "../../../static"),
    ):
        text = served.client.get(path, headers={"accept": "text/html"}).text
        assert f'href="{style}/listen.css"' in text
    reply = served.client.delete("owner")
    assert (reply.status_code, reply.json()) == (
        405,
        {"error": "this page cannot be used that way"},
    )


def links_of(page):
    return re.findall(r"<code>(.*?)/i/[^<]+</code>", page)


@pytest.mark.parametrize(
    ("headers", "want"),
    [
        ({"x-forwarded-proto": "https", "host": "study.example"}, "https://study.example"),
        ({"x-forwarded-proto": "https", "x-forwarded-host": "a.example:8443, b"},
         "https://a.example:8443"),
        ({"x-forwarded-proto": "javascript", "host": "study.example"}, "http://study.example"),
        ({"x-forwarded-host": 'evil"><script>', "host": "study.example"}, "http://study.example"),
    ],
)  # fmt: skip
def test_the_owners_links_begin_as_the_proxy_says(served, headers, want):
    form = {"do": "invite", "count": "1", "form": served.store.mac("owner")}
    page = served.client.post("owner", auth=OWNER, data=form, headers=headers).text
    assert links_of(page) == [want]


def test_the_owners_links_begin_with_the_given_address(tmp_path):
    from app.listening.serving import build
    from app.passwords import hash_password

    write_study(tmp_path, questions=[PAIR])
    app, context = build(StudyServer(folder=tmp_path, owner=(hash_password(*OWNER),),
                                     address="https://lab.example/study/"))  # fmt: skip
    with InBackground(app) as server, httpx.Client(base_url=server.url, trust_env=False) as client:
        form = {"do": "invite", "count": "2", "form": context.store.mac("owner")}
        page = client.post("owner", auth=OWNER, data=form, headers={"x-forwarded-proto": "http"})
        assert links_of(page.text) == ["https://lab.example/study"] * 2
    context.store.close()


def test_the_consent_page_promises_the_deletion_that_the_server_does(tmp_path):
    write_study(tmp_path, questions=[PAIR], retention_days=30, contact="anna@example.org")
    now = [1_000_000.0]
    context = open_context(tmp_path, clock=lambda: now[0])
    said = []
    with InBackground(create_app(context)) as server, kept_promise(context, said.append, 0.05):
        served = Served(context, server.url)
        (token,) = context.store.invite([1])
        page = " ".join(served.client.get(f"i/{token}").text.split())
        assert "All of it is deleted 30 days after you agree, by the server or" in page
        player = served.player()
        assert player.session(leave_after=2) == 2
        assert served.state(player)["contact"] == "anna@example.org"
        now[0] += 29 * 86400
        time.sleep(0.5)
        assert (said, len(context.store.answers())) == ([], 2)
        now[0] += 2 * 86400
        end = time.monotonic() + 20
        while context.store.raters() and time.monotonic() < end:
            time.sleep(0.05)
        assert context.store.answers() == []
        assert served.client.get(f"r/{player.key}").status_code == 400
        served.client.close()
    assert said[0].startswith("deleted: 1 raters with 2 answers, who began more than 30 days ago")
    context.store.close()


def test_a_failed_look_for_what_is_due_is_said_and_tried_again(tmp_path, monkeypatch):
    write_study(tmp_path, questions=[PAIR])
    context = open_context(tmp_path)
    said, real, failures = [], context.store.delete_expired, []

    def fail_once(days):
        if not failures and said_start:
            failures.append(days)
            raise StorageError("no room")
        return real(days)

    said_start = []
    monkeypatch.setattr(context.store, "delete_expired", fail_once)
    with kept_promise(context, said.append, 0.05):
        said_start.append(True)
        end = time.monotonic() + 20
        while not said and time.monotonic() < end:
            time.sleep(0.05)
    assert said == ["could not delete whose retention time is over, trying again: no room"]
    context.store.close()


def test_headphone_tones_are_as_loud_as_the_clips(served):
    from musicgen_rl.audio.loudness import integrated_loudness

    player = served.player(0)
    rater = served.store.rater(player.key)
    for lufs in (-20.0, -27.0):
        context = replace(served.context, clips=replace(served.context.clips, lufs=lufs))
        for number in range(3):
            data = headphone_sound(context, rater, number)
            with wave.open(io.BytesIO(data)) as file:
                frames = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2")
            left = frames.reshape(-1, 2)[:, 0].astype(np.float32) / 32767
            quiet = quiet_tone(context.store, rater, number)
            for place in range(3):
                start = round(place * 1.15 * 32000) + 3200  # a tone and a gap; its middle
                level = integrated_loudness(left[None, start : start + 19200], 32000)
                want = lufs - 6.02 * (place == quiet)
                assert level == pytest.approx(want, abs=0.15)


def test_the_owners_page_needs_the_password_and_shows_no_answers(served):
    assert served.client.get("owner").status_code == 401
    assert served.client.get("owner", auth=("anna", "wrong horse")).status_code == 401
    page = served.client.get("owner", auth=OWNER)
    assert page.status_code == 200
    assert "Answers stored: " in " ".join(page.text.split())
    for arm in served.plan.study.arms:
        assert arm.name not in page.text
    forged = served.client.post("owner", auth=OWNER, data={"do": "stop", "form": "x"})
    assert forged.status_code == 400
    form = served.store.mac("owner")
    links = served.client.post(
        "owner", auth=OWNER, data={"do": "invite", "count": "2", "form": form}
    ).text
    assert links.count(f"{served.url}/i/") == 2
    for bad in ({"count": "0"}, {"count": "9" * 5000}, {"form": "\u00e9"}):
        sent = {"do": "invite", "count": "1", "form": form} | bad
        assert served.client.post("owner", auth=OWNER, data=sent).status_code == 400


def test_the_report_is_closed_until_the_stop_unless_it_is_opened_on_purpose(tmp_path):
    write_study(tmp_path, questions=[PAIR])
    context = open_context(tmp_path)
    from app.passwords import hash_password, read_account

    app = create_app(context, owners=[read_account(hash_password(*OWNER))], report=lambda: "R")
    with InBackground(app) as server, httpx.Client(base_url=server.url, trust_env=False) as client:
        blind = client.get("owner/report", auth=OWNER)
        assert "still blind" in blind.text
        assert client.get("owner/report").status_code == 401
        form = {"form": context.store.mac("owner"), "do": "unblind"}
        assert client.post("owner", auth=OWNER, data=form).status_code == 303
        assert client.get("owner/report", auth=OWNER).text == "R"
        assert "unblinded before the stop" in [e["what"] for e in context.store.events()]
        client.post("owner", auth=OWNER, data=form | {"do": "stop"})
        assert context.store.stopped_at is not None
    context.store.close()


def test_listening_takes_its_time(tmp_path):
    raters = {"count": 4, "practice": 0, "attention_checks": 0, "repeats": 0, "headphones": False,
              "minimum_listening_s": 0.5}  # fmt: skip
    write_study(tmp_path, questions=[PAIR], raters=raters)
    now = [1000.0]
    context = open_context(tmp_path, clock=lambda: now[0])
    with InBackground(create_app(context)) as server:
        served = Served(context, server.url)
        player = served.player()
        state = served.state(player)
        body = body_of(served, state)
        reply = post(served, player, body)
        assert "player 1 was heard for 0.0 s" in reply.json()["error"]
        heard = [{"player": n, "seconds": 0.5, "at_s": 0} for n in (0, 1)]
        reply = post(served, player, body | {"plays": heard})
        assert "answer came 0.0 s after" in reply.json()["error"]
        now[0] += 1.0
        assert post(served, player, body | {"plays": heard}).status_code == 200
        served.client.close()
    context.store.close()


def test_a_group_is_heard_as_many_times_as_long_as_a_clip(tmp_path):
    raters = {"count": 4, "practice": 0, "attention_checks": 0, "repeats": 0, "headphones": False,
              "minimum_listening_s": 0.4}  # fmt: skip
    write_study(tmp_path, questions=[SETS], raters=raters)
    now = [1000.0]
    context = open_context(tmp_path, clock=lambda: now[0])
    with InBackground(create_app(context)) as server:
        served = Served(context, server.url)
        player = served.player()
        state = served.state(player)
        assert state["trial"]["minimum_s"] == pytest.approx(3 * 0.4)  # three clips a group
        now[0] += 10
        plays = [{"player": n, "seconds": 1.2, "at_s": 0} for n in (0, 1)]
        short = [plays[0], plays[1] | {"seconds": 0.4}]
        reply = post(served, player, body_of(served, state, plays=short))
        assert "player 2 was heard for 0.4 s: please listen for at least 1.2 s" in reply.text
        assert post(served, player, body_of(served, state, plays=plays)).status_code == 200
        served.client.close()
    context.store.close()


def test_it_works_under_a_path_of_another_application(tmp_path):
    from fastapi import FastAPI

    write_study(tmp_path, questions=[SETS])
    context = open_context(tmp_path)
    parent = FastAPI()
    parent.mount("/study", create_app(context))
    with InBackground(parent) as server:
        served = Served(context, server.url + "/study/")
        player = served.player()
        assert player.session(leave_after=2) == 2
        assert "../static/session.js" in served.client.get(f"r/{player.key}").text
        lost = served.client.get("i/unknown", headers={"accept": "text/html"}).text
        assert 'href="../static/listen.css"' in lost
        served.client.close()
    context.store.close()


def test_the_headphone_check_is_stored_and_sends_nobody_away(tmp_path):
    raters = {"count": 4, "minimum_listening_s": 0, "headphones": True}
    write_study(tmp_path, questions=[PAIR], raters=raters)
    context = open_context(tmp_path)
    with InBackground(create_app(context)) as server:
        served = Served(context, server.url)
        for right, want in ((True, "passed"), (False, "failed"), (None, "skipped")):
            player = served.player()
            rater = context.store.rater(player.key)
            assert served.state(player)["stage"] == "headphones"
            quiet = [quiet_tone(context.store, rater, n) for n in range(3)]
            given = None if right is None else [q if right else (q + 1) % 3 for q in quiet]
            sound = served.client.get(f"r/{player.key}/headphones/0").content
            assert sound == headphone_sound(context, rater, 0)
            path = f"r/{player.key}/headphones"
            assert served.client.post(path, json={"answers": [7]}).status_code == 400
            assert served.client.post(path, json={"answers": given}).json()["stage"] == "trial"
            assert context.store.rater(player.key).headphones == want
        served.client.close()
    context.store.close()


def test_a_changed_study_is_not_served_after_answers(tmp_path):
    plan = write_study(tmp_path, questions=[PAIR])
    context = open_context(tmp_path)
    with InBackground(create_app(context)) as server:
        served = Served(context, server.url)
        served.player().session(leave_after=1)
        served.client.close()
    context.store.close()
    path = tmp_path / "study.yaml"
    path.write_text(path.read_text().replace("title: Which music?", "title: Another"))
    with pytest.raises(InputError, match="frozen for another state"):
        open_context(tmp_path)
    changed = make_plan(tmp_path)
    assert changed.hash != plan.hash
    freeze(changed)
    with pytest.raises(InputError, match="changed after people"):
        open_context(tmp_path)


@pytest.mark.parametrize("harm", ["gone", "short", "changed", "no key"])
def test_missing_unequal_and_changed_clips_are_refused_before_anybody_comes(tmp_path, harm):
    from musicgen_rl.listening.clips import wav_bytes

    write_study(tmp_path, questions=[PAIR])
    clip = sorted((tmp_path / "clips").glob("*.wav"))[0]
    used = json.loads((tmp_path / "key.json").read_text())["clips"]
    clip = tmp_path / "clips" / used[0]["name"]
    data = clip.read_bytes()
    if harm == "gone":
        clip.unlink()
    if harm == "short":
        clip.write_bytes(wav_bytes(np.zeros((100, 1), np.int16), 8000))
    if harm == "changed":
        clip.write_bytes(data[:-2] + b"\x01\x02")
    if harm == "no key":
        (tmp_path / "key.json").unlink()
    with pytest.raises(InputError, match="listen make"):
        open_context(tmp_path)


def test_serving_says_how_many_invitations_a_new_plan_withdrew(tmp_path, monkeypatch):
    write_study(tmp_path, questions=[PAIR])
    context = open_context(tmp_path)
    context.store.invite([0, 3])
    context.store.close()
    write_study(tmp_path, questions=[PAIR], raters={"count": 3, "minimum_listening_s": 0})
    monkeypatch.setattr(serving, "_run", lambda app, context, config, say: context.store.close())
    said = []
    serving.serve(StudyServer(folder=tmp_path), said.append)
    assert said[0].startswith("1 unused invitation is withdrawn")


def test_options_that_cannot_be_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="70000"):
        StudyServer(folder=tmp_path, port=70000)
    with pytest.raises(ConfigError, match="USER:HASH"):
        StudyServer(folder=tmp_path, owner=("anna:password",))
    with pytest.raises(ConfigError, match="--address must be such as"):
        StudyServer(folder=tmp_path, address="study.example")


def test_a_page_is_quick(served):
    player = served.player(0)
    began = time.monotonic()
    for _ in range(5):
        served.state(player)
    assert time.monotonic() - began < 10


def test_a_question_nobody_has_answered_yet_leaves_the_rest_of_the_report(served):
    player = served.player(0)
    player.session(leave_after=1)
    rater = served.store.rater(player.key)

    class Early:
        """The store, had nobody but this person begun."""

        simulated, stopped_at = False, None
        events, progress = served.store.events, served.store.progress
        first_expiry = served.store.first_expiry

        def raters(self):
            return [rater]

        def answers(self):
            return served.store.answers(rater)

    result = analyse(served.plan, Early())
    assert {entry["reason"] for entry in result["mixed"]} == {"there are no answers"}
