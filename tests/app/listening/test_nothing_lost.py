"""Fifty people at once, a server that is killed again and again: each answer is there once."""

import os
import random
import signal
import subprocess
import sys
import threading
import time

import httpx
import numpy as np
import pytest

from app.listening.play import Player
from app.listening.serving import open_context
from app.serve import choose_port
from musicgen_rl.errors import ConfigError
from musicgen_rl.listening.raters import RaterModel, World
from musicgen_rl.listening.sham import Ears
from tests.app.listening.conftest import write_study
from tests.listening.studies import PAIR, RATING

SERVER = """
import sys
from pathlib import Path
from app.listening.serving import StudyServer, serve
serve(StudyServer(folder=Path(sys.argv[1]), port=int(sys.argv[2])), print)
"""


class Faulty(httpx.HTTPTransport):
    """A network that loses replies after the server has done its work, and sends posts twice."""

    def __init__(self, seed):
        super().__init__()
        self.random = random.Random(seed)

    def handle_request(self, request):
        request.read()
        if request.method == "POST" and self.random.random() < 0.2:
            super().handle_request(request).read()
        reply = super().handle_request(request)
        if self.random.random() < 0.1:
            reply.read()
            raise httpx.ReadError("the network dropped", request=request)
        return reply


def lonely_port():
    """Find a free port that no other program will take while the server is away.

    Not one from 7860 on, where every demo on this computer begins to look, and none that the
    system gives to outgoing connections.
    """
    for port in random.SystemRandom().sample(range(20_000, 30_000), 50):
        try:
            return choose_port("127.0.0.1", port)
        except ConfigError:
            continue
    raise AssertionError("no port is free")


def run(tmp_path, raters, kills, trials):
    question = PAIR | {"prompts": trials, "raters_per_prompt": raters}
    rules = {"count": raters, "practice": 0, "attention_checks": 0, "repeats": 0,
             "minimum_listening_s": 0, "headphones": False}  # fmt: skip
    rating = RATING | {"prompts": 1, "raters_per_prompt": raters}
    plan = write_study(tmp_path, questions=[question, rating], raters=rules, reference=None,
                       arms={"one": {"audio": "a"}, "two": {"audio": "b"}})  # fmt: skip
    context = open_context(tmp_path)
    ears = Ears(context.clips)
    tokens = context.store.invite(range(raters))
    world = World(RaterModel(), plan.study, raters, np.random.default_rng(0))
    port = lonely_port()
    url = f"http://127.0.0.1:{port}"

    def begin():
        process = subprocess.Popen(
            [sys.executable, "-c", SERVER, str(tmp_path), str(port)],
            env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        for _ in range(1200):
            try:
                httpx.get(url, trust_env=False)
                return process
            except httpx.TransportError:
                time.sleep(0.05)
        raise AssertionError("the server did not start")

    problems, acknowledged = [], {}

    def listen(number):
        try:
            with httpx.Client(base_url=url, transport=Faulty(number), timeout=60) as client:
                player = Player(client, plan.study, ears, world, number, retry_s=200)
                player.join(tokens[number])
                player.session()
                acknowledged[number] = [submission for submission, _ in player.acknowledged]
        except Exception as error:
            problems.append(repr(error))

    process = begin()
    threads = [threading.Thread(target=listen, args=(n,)) for n in range(raters)]
    [thread.start() for thread in threads]
    killed = 0
    for number in range(kills):
        # After so many answers each time, so that every kill falls into the work.
        goal = raters * (trials + 2) * (number + 1) // (kills + 1)
        while len(context.store.answers()) < goal and any(t.is_alive() for t in threads):
            time.sleep(0.05)
        killed += any(thread.is_alive() for thread in threads)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process = begin()
    [thread.join() for thread in threads]
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert problems == []
    assert killed == kills
    assert context.store.check() == "ok"
    stored = [answer.submission for answer in context.store.answers()]
    assert len(stored) == len(set(stored)) == raters * (trials + 2)
    assert sorted(stored) == sorted(s for mine in acknowledged.values() for s in mine)
    assert len(context.store.raters()) == raters
    context.store.close()


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_fifty_raters_and_ten_kills_lose_and_double_nothing(tmp_path):
    run(tmp_path, raters=50, kills=10, trials=8)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.slow
def test_four_raters_and_two_kills(tmp_path):
    run(tmp_path, raters=4, kills=2, trials=4)
