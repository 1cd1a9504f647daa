import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from musicgen_rl.data.check import check_manifest
from musicgen_rl.data.keys import KEY_NAMES
from musicgen_rl.data.manifest import read_manifest
from musicgen_rl.data.pocket import corpus
from musicgen_rl.data.pocket.attributes import describe
from musicgen_rl.data.pocket.corpus import (
    compose_piece,
    kick_times,
    make_corpus,
    make_piece,
    piece_paths,
    split_of,
)
from musicgen_rl.data.pocket.corpus_config import CorpusConfig
from musicgen_rl.data.pocket.render import SAMPLE_RATE, SOUNDFONTS, Soundfont
from musicgen_rl.data.pocket.score import Score
from musicgen_rl.errors import ConfigError, InputError


def fake_render(score: Score, soundfont: Soundfont) -> np.ndarray:
    """Render every note as a decaying sine, in place of the synthesizer."""
    out = np.zeros(round((score.duration_s + 1) * SAMPLE_RATE), dtype=np.float32)
    t = np.arange(SAMPLE_RATE // 8) / SAMPLE_RATE
    for part in score.parts[:2]:
        for n in part.notes:
            a = round(score.time_of(n.start) * SAMPLE_RATE)
            hz = 440 * 2 ** ((n.pitch - 69) / 12)
            wave = np.sin(2 * np.pi * hz * t) * np.exp(-t * 20) * 0.1
            out[a : a + len(wave)] += wave[: max(0, len(out) - a)].astype(np.float32)
    return out


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "render", fake_render)


def config(folder: Path, **changes: object) -> CorpusConfig:
    plain = CorpusConfig(
        output=folder, hours=3 * 8 / 3600, min_duration_s=6, max_duration_s=10, tunes=0.0, seed=5
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def test_a_corpus_passes_its_own_check(tmp_path: Path) -> None:
    path = make_corpus(config(tmp_path))
    assert check_manifest(path) == []
    entries = read_manifest(path)
    assert len(entries) == 3
    assert all(len(e.captions) == 8 for e in entries)
    assert {e.license for e in entries} == {"CC0-1.0"}
    info = sf.info(tmp_path / entries[0].audio)
    assert (info.samplerate, info.channels, info.subtype) == (32000, 1, "PCM_16")


def test_a_piece_depends_on_seed_and_index_only(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    make_corpus(config(a))
    make_piece(config(b), 2)  # alone, out of order
    ours, theirs = (piece_paths(config(f), 2) for f in (a, b))
    for left, right in zip(ours, theirs, strict=True):
        assert left.read_bytes() == right.read_bytes()
    assert compose_piece(config(a), 0).score != compose_piece(config(a, seed=6), 0).score
    assert compose_piece(config(a), 0).score != compose_piece(config(a), 1).score


def test_without_audio_the_captions_are_the_same_and_audio_can_follow(tmp_path: Path) -> None:
    c = config(tmp_path, audio=False)
    words = read_manifest(make_corpus(c))
    assert not list(tmp_path.rglob("*.flac"))
    whole = read_manifest(make_corpus(replace(c, audio=True)))
    assert len(list(tmp_path.rglob("*.flac"))) == len(whole) == 3
    for one, other in zip(words, whole, strict=True):
        assert (one.captions, one.piece, one.split) == (other.captions, other.piece, other.split)
        assert one.attributes == {k: v for k, v in other.attributes.items() if k != "soundfont"}


def test_a_manifest_of_something_else_is_not_written_over(tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_text("mine\n")
    with pytest.raises(InputError, match=r"manifest\.jsonl is of something else: .* seed 5; name"):
        make_corpus(config(tmp_path))
    assert [p.name for p in tmp_path.iterdir()] == ["manifest.jsonl"]
    assert manifest.read_text() == "mine\n"


def test_a_corpus_of_another_seed_is_kept(tmp_path: Path) -> None:
    before = make_corpus(config(tmp_path)).read_bytes()
    with pytest.raises(InputError, match="was begun with seed 5, not 6: use the same, or name"):
        make_corpus(config(tmp_path, seed=6))
    (tmp_path / "corpus.json").unlink()  # as an older version left it
    with pytest.raises(InputError, match="none of its pieces are of this corpus and seed 6"):
        make_corpus(config(tmp_path, seed=6))
    assert make_corpus(config(tmp_path)).read_bytes() == before


def test_a_share_of_named_tempi_changes_captions_alone(tmp_path: Path) -> None:
    plain = read_manifest(make_corpus(config(tmp_path / "plain", audio=False)))
    named = read_manifest(make_corpus(config(tmp_path / "named", audio=False, tempo_share=1.0)))
    for one, other in zip(plain, named, strict=True):
        assert (one.attributes, one.piece, one.split) == (
            other.attributes, other.piece, other.split
        )  # fmt: skip
        bpm = f"{one.attributes['tempo_bpm']} bpm"
        for before, after in zip(one.captions, other.captions, strict=True):
            assert before == after or (before.rstrip(".") in after and bpm in after.lower())
    assert plain != named
    (tmp_path / "plain/corpus.json").write_text(
        json.dumps({"seed": 5})  # begun before there was such an option
    )
    with pytest.raises(InputError, match=r"begun with tempo_share 0.0, not 0.5"):
        make_corpus(config(tmp_path / "plain", audio=False, tempo_share=0.5))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"captions": 3}, "captions 8, not 3"),
        ({"max_duration_s": 9.0, "valid": 0.5}, r"max_duration_s 10, not 9.0, valid 0.04, not 0.5"),
        ({"tunes": 0.5}, "tunes 0.0, not 0.5"),
        ({"musescore": 1.0}, "musescore 0.35, not 1.0"),
    ],
)
def test_finished_pieces_are_not_taken_for_those_of_other_options(
    tmp_path: Path, changes: dict[str, object], says: str
) -> None:
    before = make_corpus(config(tmp_path)).read_bytes()
    with pytest.raises(InputError, match=says):
        make_corpus(config(tmp_path, **changes))
    more = config(tmp_path, hours=4 * 8 / 3600, workers=2, audio=False)  # no piece changes by these
    assert make_corpus(more).read_bytes().startswith(before)


def test_options_that_cannot_be_read_are_an_error_of_the_folder(tmp_path: Path) -> None:
    make_corpus(config(tmp_path, audio=False))
    (tmp_path / "corpus.json").write_text("{")
    with pytest.raises(InputError, match=r"corpus\.json cannot be read .*: name another folder"):
        make_corpus(config(tmp_path))


def test_finished_pieces_are_not_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    original = make_piece

    def counting(c: CorpusConfig, index: int) -> object:
        made.append(index)
        return original(c, index)

    path = make_corpus(config(tmp_path))
    before = path.read_bytes()
    piece_paths(config(tmp_path), 1)[1].unlink()  # as if killed before the json was written
    monkeypatch.setattr(corpus, "make_piece", counting)
    assert make_corpus(config(tmp_path)).read_bytes() == before
    assert made == [1]


def test_progress_counts_up(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    make_corpus(config(tmp_path), on_progress=lambda d, n, h: seen.append((d, n)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_styles_take_turns(tmp_path: Path) -> None:
    c = config(tmp_path)
    found = Counter(compose_piece(c, i).style.name for i in range(31))
    assert set(found.values()) == {1}


@pytest.mark.parametrize("tunes", [0.0, 1.0])  # composed; borrowed tunes and works in voices
def test_a_piece_in_several_keys_is_one_piece(tmp_path: Path, tunes: float) -> None:
    c = config(tmp_path, keys=4, tunes=tunes)
    for first in range(0, 24, 4):
        played = [compose_piece(c, first + turn) for turn in range(4)]
        tonics = [KEY_NAMES.index(piece.key) for piece in played]
        assert [(tonic - tonics[0]) % 12 for tonic in tonics] == [0, 3, 6, 9]
        for piece in played[1:]:
            assert (piece.style, piece.mode, piece.tune) == (
                played[0].style, played[0].mode, played[0].tune
            )  # fmt: skip
            assert piece.score.tempo_bpm == played[0].score.tempo_bpm
            assert [p.instrument for p in piece.score.parts] == [
                p.instrument for p in played[0].score.parts
            ]
    alone = config(tmp_path, tunes=tunes)
    assert compose_piece(c, 8).score == compose_piece(alone, 2).score  # the first is as it was


def test_a_piece_stays_in_one_split_in_all_its_keys(tmp_path: Path) -> None:
    c = config(tmp_path, keys=3, hours=9 * 8 / 3600, valid=0.3, test=0.3)
    entries = read_manifest(make_corpus(c))
    assert [e.piece for e in entries] == [f"5-{n // 3:06d}" for n in range(9)]
    assert all(len({e.split for e in entries[n : n + 3]}) == 1 for n in (0, 3, 6))
    assert check_manifest(tmp_path / "manifest.jsonl") == []
    with pytest.raises(InputError, match="was begun with keys 3, not 1"):
        make_corpus(config(tmp_path, hours=9 * 8 / 3600, valid=0.3, test=0.3))


@pytest.mark.parametrize("tunes", [0.0, 1.0])
def test_a_piece_at_several_tempi_is_one_piece(tmp_path: Path, tunes: float) -> None:
    c, alone = config(tmp_path, tempi=4, keys=2, tunes=tunes), config(tmp_path, tunes=tunes)
    assert c.versions == 8
    for first in range(0, 32, 8):
        own = compose_piece(alone, first // 8)
        played = [compose_piece(c, first + version) for version in range(8)]
        for version, piece in enumerate(played):
            ratio = piece.score.tempo_bpm / own.score.tempo_bpm
            assert ratio == pytest.approx(2 ** ((version % 4 + 0.5) / 4 - 0.5), rel=0.03)
            assert (piece.style, piece.mode) == (own.style, own.mode)
            told = describe(piece)
            assert told["tempo_bpm"] == round(piece.score.tempo_bpm)
            assert told["beat_s"] == round(60 / piece.score.tempo_bpm, 6)
        for piece in played[:4]:  # the first four are in its own key
            assert piece.key == own.key
            assert [p.notes for p in piece.score.parts] == [p.notes for p in own.score.parts]
        assert len({piece.score.duration_s for piece in played}) == 4


def test_a_piece_stays_in_one_split_at_all_its_tempi(tmp_path: Path) -> None:
    c = config(tmp_path, tempi=3, hours=9 * 8 / 3600, valid=0.3, test=0.3)
    entries = read_manifest(make_corpus(c))
    assert [e.piece for e in entries] == [f"5-{n // 3:06d}" for n in range(9)]
    assert all(len({e.split for e in entries[n : n + 3]}) == 1 for n in (0, 3, 6))
    with pytest.raises(InputError, match="was begun with tempi 3, not 1"):
        make_corpus(config(tmp_path, hours=9 * 8 / 3600, valid=0.3, test=0.3))


@pytest.mark.parametrize("name", ["keys", "tempi"])
@pytest.mark.parametrize("number", [0, 13])
def test_a_number_of_versions_that_cannot_be_is_refused(
    tmp_path: Path, name: str, number: int
) -> None:
    with pytest.raises(ConfigError, match=f"{name} must be 1 to 12, got {number}"):
        config(tmp_path, **{name: number})


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="children are read from /proc")
def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    command = ["-m", "musicgen_rl", "data", "make", str(tmp_path / "c"), "--no-audio"]
    maker = subprocess.Popen([sys.executable, *command, "--hours", "50", "--workers", "2"])
    try:
        wait_until((tmp_path / "c" / "manifest.jsonl").exists)
        children = Path(f"/proc/{maker.pid}/task/{maker.pid}/children").read_text().split()
        lines = [Path(f"/proc/{child}/cmdline") for child in children]
        workers = [line.parent for line in lines if "spawn_main" in line.read_text()]
        assert len(workers) == 2
    finally:
        maker.kill()
        maker.wait()
    wait_until(lambda: not any(alive(worker) for worker in workers))


def wait_until(done: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end
        time.sleep(0.05)


def alive(process: Path) -> bool:
    """Tell whether a process runs; one that nobody has taken leave of does not."""
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_the_number_of_pieces_follows_the_hours(tmp_path: Path) -> None:
    c = CorpusConfig(output=tmp_path, hours=1.0, min_duration_s=30, max_duration_s=60)
    assert c.num_pieces == 80


def test_a_split_depends_on_the_name_alone() -> None:
    assert split_of("tune-x", 0.2, 0.2) == split_of("tune-x", 0.2, 0.2)
    found = Counter(split_of(f"piece {i}", 0.1, 0.2) for i in range(3000))
    assert found["valid"] / 3000 == pytest.approx(0.1, abs=0.02)
    assert found["test"] / 3000 == pytest.approx(0.2, abs=0.025)


def test_pieces_on_one_tune_share_a_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = compose_piece

    def on_a_tune(c: CorpusConfig, index: int) -> object:
        return replace(original(c, index), tune="Reel", identity="tune-1")

    monkeypatch.setattr(corpus, "compose_piece", on_a_tune)
    entries = read_manifest(make_corpus(config(tmp_path, valid=0.4, test=0.4)))
    assert {e.piece for e in entries} == {"tune-1"}
    assert len({e.split for e in entries}) == 1
    assert entries[0].attributes["tune"] == "Reel"


def test_the_second_soundfont_gets_its_share(tmp_path: Path) -> None:
    only_first = make_piece(config(tmp_path / "a", musescore=0.0), 0)
    assert only_first.attributes["soundfont"] == "fluid"
    fonts = {
        make_piece(config(tmp_path / "b", musescore=1.0), i).attributes["soundfont"]
        for i in range(3)
    }
    assert "musescore" in fonts
    assert set(SOUNDFONTS) >= fonts


def test_kick_times_follow_the_score(tmp_path: Path) -> None:
    for index in range(31):
        piece = compose_piece(config(tmp_path), index)
        if piece.style.name == "house":
            gaps = np.diff(kick_times(piece))
            assert np.median(gaps) == pytest.approx(piece.score.seconds_per_beat, rel=0.05)


def test_the_json_beside_the_audio_is_the_manifest_line(tmp_path: Path) -> None:
    c = config(tmp_path)
    entry = make_piece(c, 0)
    assert json.loads(piece_paths(c, 0)[1].read_text()) == entry.to_json()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"hours": 0}, "hours"),
        ({"workers": 0}, "workers"),
        ({"captions": 0}, "captions"),
        ({"min_duration_s": 40, "max_duration_s": 30}, "max_duration_s"),
        ({"tunes": 1.5}, "tunes"),
        ({"valid": 0.6, "test": 0.6}, "leave room"),
    ],
)
def test_impossible_settings_are_refused(
    tmp_path: Path, changes: dict[str, float], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        config(tmp_path, **changes)


@pytest.mark.slow
def test_the_number_of_processes_changes_nothing(tmp_path: Path) -> None:
    # Spawned processes use the real synthesizer, so this needs the soundfonts.
    if not all(s.path.is_file() for s in SOUNDFONTS.values()):
        pytest.skip("needs both soundfonts")
    found = []
    for workers in (2, 3):
        folder = tmp_path / str(workers)
        path = make_corpus(config(folder, workers=workers))
        audio = [(folder / e.audio).read_bytes() for e in read_manifest(path)]
        found.append((path.read_bytes(), audio))
    assert found[0] == found[1]
