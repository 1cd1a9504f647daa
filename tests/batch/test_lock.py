import os
import signal

import pytest

from musicgen_rl.batch.lock import LOCK, only_run
from musicgen_rl.errors import ConfigError
from tests.batch.conftest import in_child

# Python 3.12 warns of forks beside threads; the child here starts its own and then dies.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


def test_a_second_run_is_refused_and_told_who_holds_the_folder(tmp_path):
    refused = pytest.raises(ConfigError, match=f"process {os.getpid()} on ")
    with only_run(tmp_path), refused, only_run(tmp_path):
        pass
    with only_run(tmp_path):
        pass


def test_another_process_is_refused_too(tmp_path):
    def refused():
        with pytest.raises(ConfigError, match="another run"), only_run(tmp_path):
            pass

    with only_run(tmp_path):
        assert in_child(refused) == 0


def test_a_dead_process_holds_nothing(tmp_path):
    def die():
        with only_run(tmp_path):
            os.kill(os.getpid(), signal.SIGKILL)

    assert in_child(die) == -9
    assert (tmp_path / LOCK).read_text().startswith("process ")
    with only_run(tmp_path):
        pass
