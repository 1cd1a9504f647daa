import errno
import os
import re
import resource
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musicgen_rl.audio import files
from musicgen_rl.audio.files import file_name, free_names, prepare_folder, slug, write_whole
from musicgen_rl.errors import StorageError

WINDOWS_RESERVED = re.compile(r"^(con|prn|aux|nul|com[0-9]|lpt[0-9])(\.|$)", re.IGNORECASE)


@pytest.mark.parametrize(
    ("prompt", "name"),
    [
        ("slow sad piano", "slow-sad-piano-s7-0.wav"),
        ("Drum & Bass, 174 BPM!", "drum-bass-174-bpm-s7-0.wav"),
        ("../../etc/passwd", "etc-passwd-s7-0.wav"),
        ("a\\b:c*d?e", "a-b-c-d-e-s7-0.wav"),
        ("séance à l'été", "séance-à-l-été-s7-0.wav"),
        ("钢琴 曲", "钢琴-曲-s7-0.wav"),
        ("🎹🎹", "clip-s7-0.wav"),
        ("", "clip-s7-0.wav"),
        ("\x00\n\u202e", "clip-s7-0.wav"),
        ("CON", "con-s7-0.wav"),
        ("house in F# minor", "house-in-f-sharp-minor-s7-0.wav"),
        ("chords C♯m B♭7", "chords-c-sharp-m-bb7-s7-0.wav"),
        ("take #3, C# (the language)", "take-3-c-sharp-the-language-s7-0.wav"),
    ],
)
def test_a_name_says_prompt_seed_and_index(prompt, name):
    assert file_name(prompt, 7, 0, "wav") == name


def test_seed_index_and_ending_make_the_name():
    assert file_name("x", 123, 4, ".mp3") == "x-s123-4.mp3"


def test_a_long_prompt_is_cut_at_a_word():
    assert slug("piano " * 100) == "-".join(["piano"] * 10)
    assert slug("a" * 29 + " " + "b" * 30) == "a" * 29 + "-" + "b" * 30  # sixty bytes, all there is
    assert slug("a" * 29 + " " + "b" * 31) == "a" * 29


def test_one_long_word_is_cut_between_characters():
    assert slug("é" * 1000) == "é" * 30  # two bytes each
    assert slug("short " + "x" * 1000) == "short"


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=300))
def test_any_prompt_makes_a_name_every_file_system_takes(prompt):
    name = file_name(prompt, 2**63 - 1, 999_999, "flac")
    assert len(name.encode("utf-8")) < 128
    assert not set(name) & set('<>:"/\\|?*\x00')
    assert name.isprintable()
    assert not WINDOWS_RESERVED.match(name)
    assert name[0] not in ".- "
    assert name.count(".") == 1


def test_free_names_count_up(tmp_path):
    names = free_names(tmp_path / "a.b.wav")
    assert [next(names).name for _ in range(3)] == ["a.b.wav", "a.b-2.wav", "a.b-3.wav"]


def test_a_taken_name_is_left_alone(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"mine")
    assert write_whole(tmp_path / "a.wav", b"new").name == "a-2.wav"
    assert write_whole(tmp_path / "a.wav", b"newer").name == "a-3.wav"
    assert (tmp_path / "a.wav").read_bytes() == b"mine"
    assert (tmp_path / "a-3.wav").read_bytes() == b"newer"


def test_overwrite_replaces(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"old")
    assert write_whole(tmp_path / "a.wav", b"new", overwrite=True) == tmp_path / "a.wav"
    assert (tmp_path / "a.wav").read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["a.wav"]


def test_writers_at_once_never_share_a_name(tmp_path):
    barrier = threading.Barrier(8)
    written = []

    def work(number: int) -> None:
        barrier.wait()
        written.append((write_whole(tmp_path / "a.wav", b"%d" % number), b"%d" % number))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({path for path, _ in written}) == 8
    assert all(path.read_bytes() == data for path, data in written)


def test_without_hard_links_it_still_takes_a_free_name(tmp_path, monkeypatch):
    def no_links(*args, **kwargs):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    (tmp_path / "a.wav").write_bytes(b"mine")
    assert write_whole(tmp_path / "a.wav", b"new").name == "a-2.wav"
    assert (tmp_path / "a.wav").read_bytes() == b"mine"
    assert sorted(os.listdir(tmp_path)) == ["a-2.wav", "a.wav"]


def test_new_folders_are_made_and_the_umask_is_kept(tmp_path):
    path = write_whole(tmp_path / "new" / "deep" / "a.wav", b"x")
    old = os.umask(0)
    os.umask(old)
    assert path.stat().st_mode & 0o777 == 0o666 & ~old


def test_a_write_that_fails_leaves_nothing_behind(tmp_path):
    # A real refusal by the kernel: no file may grow beyond 1000 bytes.
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(StorageError, match=r"a\.wav.*larger than the system allows"):
            write_whole(tmp_path / "a.wav", b"x" * 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (errno.ENOSPC, "the disk is full; free some space or choose another folder"),
        (errno.EDQUOT, "disk quota"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "permission denied"),
        (errno.EIO, "Input/output error; choose another place"),
    ],
)
def test_a_failing_disk_is_one_sentence(tmp_path, monkeypatch, number, says):
    def fail(handle):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files.os, "fsync", fail)
    with pytest.raises(StorageError, match=says) as raised:
        write_whole(tmp_path / "a.wav", b"x")
    assert "\n" not in str(raised.value)
    assert os.listdir(tmp_path) == []


def test_places_that_cannot_hold_a_file_are_named(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder.wav").mkdir()
    with pytest.raises(StorageError, match="is a file, not a folder"):
        write_whole(tmp_path / "file" / "a.wav", b"x")
    with pytest.raises(StorageError, match="this is a folder"):
        write_whole(tmp_path / "folder.wav", b"x", overwrite=True)
    with pytest.raises(StorageError, match="name is too long"):
        write_whole(tmp_path / ("x" * 300 + ".wav"), b"x")


def test_a_folder_is_proved_before_the_work(tmp_path):
    assert prepare_folder(tmp_path / "out" / "today").is_dir()
    assert os.listdir(tmp_path / "out" / "today") == []
    assert prepare_folder(tmp_path / "out").is_dir()  # one that is there will do
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="is a file, not a folder"):
        prepare_folder(tmp_path / "file")
