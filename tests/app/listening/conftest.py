"""Studies with clips of noise, served for real."""

import httpx
import numpy as np
import pytest
import yaml

from app.listening.play import Player
from app.listening.server import create_app
from app.listening.serving import InBackground, open_context
from app.passwords import hash_password, read_account
from musicgen_rl.listening.plan import freeze, make_plan
from musicgen_rl.listening.raters import RaterModel, World
from musicgen_rl.listening.sham import Ears
from tests.listening.stored import with_clips
from tests.listening.studies import ALL, content

OWNER = ("anna", "correct horse")
ARMS = {"secretplain": {"audio": "hidden-path-a"}, "secretvaried": {"audio": "hidden-path-b"},
        "secretideal": {"audio": "hidden-path-c"}}  # fmt: skip


def write_study(folder, **changes):
    """Write, plan and freeze a study with every kind of question, and make its clips."""
    every = {"arms": ARMS, "reference": "secretideal", "questions": ALL} | changes
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.yaml").write_text(yaml.safe_dump(content(**every), sort_keys=False))
    plan = make_plan(folder)
    freeze(plan)
    return with_clips(plan)


class Served:
    """A study that is open."""

    def __init__(self, context, url):
        self.context, self.store, self.plan, self.url = context, context.store, context.plan, url
        self.client = httpx.Client(base_url=url, trust_env=False, timeout=60)
        self._ears = None
        count = self.plan.study.raters.count
        self.world = World(RaterModel(careless=0), self.plan.study, count, np.random.default_rng(1))

    def player(self, slot=0, **options):
        """Let a simulated person join."""
        self._ears = self._ears or Ears(self.context.clips)
        player = Player(self.client, self.plan.study, self._ears, self.world, slot, **options)
        player.join(self.store.invite([slot])[0])
        return player

    def state(self, player):
        """Ask what the page shows."""
        return self.client.get(f"r/{player.key}/state").json()


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Serve one study to a whole file of tests; each lets people of its own join."""
    folder = tmp_path_factory.mktemp("study") / "s"
    write_study(folder)
    context = open_context(folder)
    app = create_app(context, owners=[read_account(hash_password(*OWNER))], report=lambda: "REPORT")
    with InBackground(app) as server:
        served = Served(context, server.url)
        yield served
        served.client.close()
    context.store.close()
