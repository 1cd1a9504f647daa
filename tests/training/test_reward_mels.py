import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.testing import assert_close

from musicgen_rl.errors import AudioFileError, CheckpointError, InputError
from musicgen_rl.rewards.mel import N_MELS, mel_levels
from musicgen_rl.training.reward_mels import (
    STEP_DB,
    half_of,
    hash_pieces,
    load_mels,
    pack_levels,
    prepare_coded,
    prepare_mels,
    read_mono,
    unpack_levels,
)
from tests.codec.tiny import TINY, tiny_codec
from tests.pretended_gpu import pretended_gpus
from tests.training.reward_corpus import RATE, write_corpus


class HalvingCodec:
    """Plays everything at half its level."""

    device = torch.device("cpu")
    sample_rate = RATE
    hop_length = 320
    num_codebooks = 1
    codebook_size = 2
    audio_channels = 1
    context_frames = (0, 0)

    def encode(self, samples: Tensor) -> Tensor:
        return samples

    def decode(self, codes: Tensor) -> Tensor:
        return 0.5 * codes


def test_packing_keeps_levels_within_half_a_step() -> None:
    levels = torch.linspace(-100.0, 1.5, 1000)
    packed = pack_levels(levels)
    assert packed.dtype == torch.uint8
    assert float((unpack_levels(packed) - levels).abs().max()) <= STEP_DB / 2 + 1e-4
    assert unpack_levels(pack_levels(torch.tensor([-300.0, 90.0]))).tolist() == [-100.0, 2.0]


def test_frames_on_disk_are_those_of_the_audio(tmp_path: Path) -> None:
    manifest = write_corpus(tmp_path / "corpus", pieces=5, seconds=3.0)
    assert prepare_mels([manifest], tmp_path / "mels") == 5
    pieces = load_mels(tmp_path / "mels")
    samples, rate = read_mono(tmp_path / "corpus" / "2.wav")
    assert_close(
        unpack_levels(pieces[2].plain), mel_levels(samples[None], rate)[0], atol=0.21, rtol=0
    )
    assert pieces[2].key == "corpus/2.wav"
    assert pieces[2].captions[0] == "hum number 2"
    assert pieces[2].coded is None


def test_a_second_run_adds_only_what_is_missing(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    write_corpus(corpus, pieces=5, seconds=3.0)
    prepare_mels([corpus / "manifest.jsonl"], tmp_path / "mels")
    manifest = write_corpus(corpus, pieces=6, seconds=3.0)
    told: list[tuple[int, int]] = []
    count = prepare_mels([manifest], tmp_path / "mels", report=lambda d, n: told.append((d, n)))
    assert (count, told) == (1, [(1, 1)])
    assert [p.key for p in load_mels(tmp_path / "mels")] == [f"corpus/{i}.wav" for i in range(6)]


def write_hum(file: Path, hertz: float, seconds: float = 3.0) -> None:
    """Write other music, of as many bytes as a piece of the corpus."""
    t = np.arange(round(RATE * seconds)) / RATE
    soundfile.write(file, (0.1 * np.sin(2 * np.pi * hertz * t)).astype(np.float32), RATE)


def test_a_file_that_changed_under_its_name_is_measured_again(tmp_path: Path) -> None:
    corpus, mels = tmp_path / "corpus", tmp_path / "mels"
    manifest = write_corpus(corpus, pieces=5, seconds=3.0)
    prepare_mels([manifest], mels)
    prepare_coded([manifest], mels, HalvingCodec(), seconds=1.5)
    before, file = load_mels(mels), corpus / "2.wav"
    times, size = file.stat(), file.stat().st_size
    write_hum(file, 440.0)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert file.stat().st_size == size
    told: list[tuple[int, int]] = []
    assert prepare_mels([manifest], mels, report=lambda d, n: told.append((d, n))) == 1
    assert told == [(1, 1)]
    now = load_mels(mels)
    assert [p.key for p in now] == [p.key for p in before]
    assert [torch.equal(a.plain, b.plain) for a, b in zip(now, before, strict=True)] == [
        True, True, False, True, True
    ]  # fmt: skip
    samples, rate = read_mono(file)
    assert_close(unpack_levels(now[2].plain), mel_levels(samples[None], rate)[0], atol=0.21, rtol=0)
    assert now[2].coded is None  # that was of the file before
    assert [p.coded is not None for p in now].count(True) == 4
    assert prepare_coded([manifest], mels, HalvingCodec(), seconds=1.5) == 1
    assert prepare_mels([manifest], mels) == 0
    assert len(list(mels.glob("mels-*.safetensors"))) == 5


def test_a_file_of_which_no_hash_is_told_is_measured_again(tmp_path: Path) -> None:
    manifest, mels = write_corpus(tmp_path / "corpus", pieces=5, seconds=3.0), tmp_path / "mels"
    prepare_mels([manifest], mels)
    prepare_coded([manifest], mels, HalvingCodec(), seconds=1.5)
    rows = [json.loads(line) for line in (mels / "mels.jsonl").read_text().splitlines()]
    old = [{k: v for k, v in row.items() if k != "sha256"} for row in rows]
    (mels / "mels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in old))
    before = load_mels(mels)  # it is read as before
    assert hash_pieces(before) == hash_pieces(load_mels(mels))
    write_hum(tmp_path / "corpus" / "2.wav", 440.0)
    assert prepare_mels([manifest], mels) == 5
    now = load_mels(mels)
    assert not torch.equal(now[2].plain, before[2].plain)
    # What the codec played of the others still holds.
    assert [p.coded is not None for p in now] == [True, True, False, True, True]
    assert prepare_mels([manifest], mels) == 0


def test_a_line_that_changed_holds_without_measuring(tmp_path: Path) -> None:
    manifest, mels = write_corpus(tmp_path / "corpus", pieces=5, seconds=3.0), tmp_path / "mels"
    prepare_mels([manifest], mels)
    before = load_mels(mels)
    manifest.write_text(manifest.read_text().replace("hum number 2", "a low hum"))
    assert prepare_mels([manifest], mels) == 0
    now = load_mels(mels)
    assert now[2].captions == ("a low hum", before[2].captions[1])
    assert [p.key for p in now] == [p.key for p in before]
    lines = (mels / "mels.jsonl").read_bytes()
    prepare_mels([manifest], mels)
    assert (mels / "mels.jsonl").read_bytes() == lines
    write_corpus(tmp_path / "corpus", pieces=6, seconds=3.0)
    assert prepare_mels([manifest], mels) == 1  # and takes no other's file
    index = mels / "mels.jsonl"
    assert len({row["file"] for row in map(json.loads, index.read_text().splitlines())}) == 6


def test_one_name_for_two_recordings_is_refused(tmp_path: Path) -> None:
    first = write_corpus(tmp_path / "a" / "corpus", pieces=5, seconds=3.0)
    second = write_corpus(tmp_path / "b" / "corpus", pieces=5, seconds=3.0)
    assert prepare_mels([first, second], tmp_path / "mels") == 5  # they are the same
    write_hum(second.parent / "2.wav", 440.0)
    with pytest.raises(InputError, match=r"corpus/2\.wav stands for two recordings.*names"):
        prepare_mels([first, second], tmp_path / "mels")
    (second.parent / "2.wav").unlink()
    with pytest.raises(AudioFileError, match=r"2\.wav cannot be read"):
        prepare_mels([second], tmp_path / "mels")


def test_the_hash_of_pieces_follows_frames_and_facts_and_no_name(tmp_path: Path) -> None:
    manifest = write_corpus(tmp_path / "corpus", pieces=5, seconds=3.0)
    prepare_mels([manifest], tmp_path / "mels")
    pieces = load_mels(tmp_path / "mels")
    told, first = hash_pieces(pieces), pieces[0]
    assert hash_pieces([replace(first, key="moved/0.wav"), *pieces[1:]]) == told
    for changed in (
        replace(first, plain=first.plain + 1), replace(first, coded=first.plain),
        replace(first, captions=("b",)), replace(first, attributes={}),
        replace(first, split="test"),
    ):  # fmt: skip
        assert hash_pieces([changed, *pieces[1:]]) != told
    assert hash_pieces(pieces[::-1]) != told


def test_an_index_cut_short_by_a_kill_is_mended(tmp_path: Path) -> None:
    manifest = write_corpus(tmp_path / "corpus", pieces=5, seconds=3.0)
    prepare_mels([manifest], tmp_path / "mels")
    index = tmp_path / "mels" / "mels.jsonl"
    index.write_bytes(index.read_bytes()[:-40])
    assert prepare_mels([manifest], tmp_path / "mels") == 1
    assert len(load_mels(tmp_path / "mels")) == 5


def test_what_the_codec_plays_lies_where_it_is_said_to(tmp_path: Path) -> None:
    manifest = write_corpus(tmp_path / "corpus", pieces=6, seconds=4.0)
    prepare_mels([manifest], tmp_path / "mels")
    count = prepare_coded([manifest], tmp_path / "mels", HalvingCodec(), every=2, seconds=1.5)
    assert count == 5  # one of the two training pieces, and all four others
    assert prepare_coded([manifest], tmp_path / "mels", HalvingCodec(), every=2) == 0
    piece = next(p for p in load_mels(tmp_path / "mels") if p.coded is not None)
    assert piece.coded is not None
    start, count = piece.coded_start, len(piece.coded)
    assert count == (24000 - 1600) // 320 + 1
    same = unpack_levels(piece.plain[start : start + count])
    assert_close(unpack_levels(piece.coded) + 6.02, same, atol=0.5, rtol=0)


def test_a_codec_on_a_gpu_plays_the_same(tmp_path: Path) -> None:
    manifest = write_corpus(tmp_path / "corpus", pieces=5, seconds=3.0)
    codec = tiny_codec(config=replace(TINY, sample_rate=RATE, hop_length=320))
    played = []
    with pretended_gpus():
        for device in ("cpu", "cuda"):
            mels = tmp_path / device
            prepare_mels([manifest], mels)
            codec.to(torch.device(device))
            assert prepare_coded([manifest], mels, codec, every=3, seconds=1.5) == 5
            played.append([piece.coded for piece in load_mels(mels)])
    assert all(torch.equal(*pair) for pair in zip(*played, strict=True))


class ScalingCodec(nn.Module, HalvingCodec):
    """Plays everything at a level that is its only weight."""

    def __init__(self, level: float) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.tensor(level))

    def decode(self, codes: Tensor) -> Tensor:
        return self.level * codes


def test_what_another_codec_played_is_played_again(tmp_path: Path) -> None:
    manifest, mels = write_corpus(tmp_path / "corpus", pieces=6, seconds=4.0), tmp_path / "mels"
    prepare_mels([manifest], mels)
    assert prepare_coded([manifest], mels, ScalingCodec(0.5), seconds=1.5) == 6
    assert prepare_coded([manifest], mels, ScalingCodec(0.5), seconds=1.5) == 0
    half = [piece.coded for piece in load_mels(mels)]
    # Every one of them, though this time half of the training pieces would have been enough.
    assert prepare_coded([manifest], mels, ScalingCodec(0.25), every=2, seconds=1.5) == 6
    quarter = [piece.coded for piece in load_mels(mels)]
    for before, now in zip(half, quarter, strict=True):
        assert_close(unpack_levels(now) + 6.02, unpack_levels(before), atol=0.5, rtol=0)


def test_what_a_codec_played_that_is_not_told_is_played_again(tmp_path: Path) -> None:
    manifest, mels = write_corpus(tmp_path / "corpus", pieces=5, seconds=3.0), tmp_path / "mels"
    prepare_mels([manifest], mels)
    prepare_coded([manifest], mels, HalvingCodec(), seconds=1.5)
    path = mels / "coded-00001.safetensors"
    save_file({n: t for n, t in load_file(path).items() if n != "codec"}, path)
    assert load_mels(mels)[1].coded is not None  # it is read as before
    assert prepare_coded([manifest], mels, HalvingCodec(), seconds=1.5) == 1


def test_a_codec_of_another_rate_is_refused(tmp_path: Path) -> None:
    manifest = write_corpus(tmp_path / "corpus", pieces=5, seconds=3.0)
    prepare_mels([manifest], tmp_path / "mels")
    codec = HalvingCodec()
    codec.sample_rate = 32000
    with pytest.raises(InputError, match="16000 Hz and the codec 32000 Hz"):
        prepare_coded([manifest], tmp_path / "mels", codec)


def test_pieces_of_one_tune_are_one_group(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    manifest = write_corpus(corpus, pieces=5, seconds=3.0)
    text = manifest.read_text().replace('"style"', '"tune": "Greensleeves", "style"', 2)
    manifest.write_text(text)
    prepare_mels([manifest], tmp_path / "mels")
    groups = [p.group for p in load_mels(tmp_path / "mels")]
    assert groups == ["Greensleeves", "Greensleeves", "p2", "p3", "p4"]


def test_halves_depend_on_the_name_and_are_about_equal() -> None:
    halves = [half_of(f"piece {i}") for i in range(400)]
    assert halves == [half_of(f"piece {i}") for i in range(400)]
    assert 160 < halves.count("a") < 240
    assert set(halves) == {"a", "b"}


def test_stereo_is_folded_and_broken_files_are_named(tmp_path: Path) -> None:
    stereo = np.stack([np.full(100, 0.5), np.full(100, 0.1)], axis=1)
    soundfile.write(tmp_path / "x.wav", stereo, RATE, subtype="FLOAT")
    samples, rate = read_mono(tmp_path / "x.wav")
    assert rate == RATE
    assert_close(samples, torch.full((100,), 0.3))
    (tmp_path / "y.wav").write_text("no audio")
    with pytest.raises(AudioFileError, match=r"y\.wav cannot be read"):
        read_mono(tmp_path / "y.wav")


def test_folders_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no frames"):
        load_mels(tmp_path / "nowhere")
    manifest = write_corpus(tmp_path / "corpus", pieces=5, seconds=3.0)
    prepare_mels([manifest], tmp_path / "mels")
    (tmp_path / "mels" / "mels-00001.safetensors").write_bytes(b"broken")
    with pytest.raises(CheckpointError, match=r"mels-00001.*prepare it again"):
        load_mels(tmp_path / "mels")
    assert N_MELS == 128
