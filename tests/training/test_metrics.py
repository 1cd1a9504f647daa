import io
import json
from pathlib import Path

import pytest

from musicgen_rl.errors import StorageError
from musicgen_rl.training.metrics import MetricsLog, format_seconds, read_metrics


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_rows_come_back_as_written(tmp_path: Path) -> None:
    path = tmp_path / "run" / "metrics.jsonl"
    with MetricsLog(path) as log:
        log.write("train", 1, loss=0.5, per=[1.0, 2.0])
        log.write("valid", 1, loss=0.25)
    assert read_metrics(path) == [
        {"kind": "train", "step": 1, "loss": 0.5, "per": [1.0, 2.0]},
        {"kind": "valid", "step": 1, "loss": 0.25},
    ]


def test_numbers_json_cannot_hold_become_null(tmp_path: Path) -> None:
    with MetricsLog(tmp_path / "m.jsonl") as log:
        log.write("train", 1, loss=float("nan"))
    assert json.loads((tmp_path / "m.jsonl").read_text())["loss"] is None


def test_resuming_drops_rows_after_the_save_and_a_line_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    with MetricsLog(path) as log:
        for step in (1, 2, 3):
            log.write("train", step)
    with path.open("a") as file:
        file.write('{"kind": "tra')
    with MetricsLog(path, resume_step=2) as log:
        log.write("train", 3, again=True)
    assert [row["step"] for row in read_metrics(path)] == [1, 2, 3]
    assert read_metrics(path)[-1]["again"]


def test_a_fresh_run_starts_the_file_anew(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text('{"kind": "train", "step": 0}\n')
    MetricsLog(path).close()
    assert path.read_text() == ""


def test_the_live_line_is_redrawn_on_a_terminal_and_rare_in_a_log(tmp_path: Path) -> None:
    now = [0.0]
    terminal, pipe = Terminal(), io.StringIO()
    for stream in (terminal, pipe):
        now[0] = 0.0
        log = MetricsLog(tmp_path / "m.jsonl", live=stream, log_every_s=10, clock=lambda: now[0])
        for second in range(12):
            now[0] = float(second)
            log.show(f"at {second}")
        log.show("last", force=True)
        log.close()
    assert terminal.getvalue().count("\r") == 13
    assert pipe.getvalue() == "at 0\nat 10\nlast\n"


def test_a_full_disk_is_a_storage_error() -> None:
    with pytest.raises(StorageError, match="metrics"):
        MetricsLog("/proc/metrics/m.jsonl")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-3, "0 s"), (42.4, "42 s"), (185, "3 min 05 s"), (7620, "2 h 07 min")],
)
def test_durations_are_written_for_people(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text
