import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from musicgen_rl.checkpoint import checkpoints_folder
from musicgen_rl.codec.load import load_codec
from musicgen_rl.errors import CheckpointError, InputError, StorageError
from musicgen_rl.training import tokens
from musicgen_rl.training.tokens import (
    Source,
    encode_apart,
    encode_samples,
    encode_sources,
    hash_folder,
    hash_lines,
    is_encoded,
    load_tokens,
    read_samples,
    sources_of,
    with_offsets,
)
from tests.codec.tiny import sine, tiny_codec
from tests.pretended_gpu import pretended_gpus
from tests.training.fakes import MeanCodec


def write(path: Path, levels: list[float], rate: int = 1000, hop: int = 10) -> str:
    """Write audio whose frames have these levels."""
    soundfile.write(path, np.repeat(np.array(levels), hop), rate, subtype="FLOAT")
    return str(path)


def source(audio: str, split: str = "train", *captions: str) -> Source:
    return Source(audio, captions or ("a tune",), Path(audio).stem, split, {"n": 1}, "CC0-1.0")


@pytest.fixture
def sources(tmp_path: Path) -> list[Source]:
    made = [
        write(tmp_path / f"{i}.wav", [(i + j % 3) / 16 for j in range(1, 121)]) for i in range(5)
    ]
    return [source(path, "valid" if i == 3 else "train") for i, path in enumerate(made)]


def test_codes_and_what_is_known_of_them_come_back(sources: list[Source], tmp_path: Path) -> None:
    folder = tmp_path / "tokens"
    encode_sources(sources, MeanCodec(), "hash", folder, pieces_per_shard=2)
    info, pieces = load_tokens(folder)
    assert info.num_shards == 3
    assert (info.num_codebooks, info.codebook_size, info.frame_rate) == (2, 64, 100.0)
    assert info.licenses == ("CC0-1.0",)
    assert [piece.piece for piece in pieces] == ["0", "1", "2", "3", "4"]
    assert [piece.split for piece in pieces].count("valid") == 1
    assert pieces[2].captions == ("a tune",)
    assert pieces[2].attributes == {"n": 1}
    assert pieces[2].codes.dtype == torch.uint16
    assert pieces[2].codes[:, :3].tolist() == [[3, 4, 2], [6, 8, 4]]


def test_a_second_run_encodes_only_what_is_missing(sources: list[Source], tmp_path: Path) -> None:
    folder = tmp_path / "tokens"
    encode_sources(sources, MeanCodec(), "hash", folder, pieces_per_shard=2)
    (folder / "tokens-00001.safetensors").unlink()
    codec = MeanCodec()
    encode_sources(sources, codec, "hash", folder, pieces_per_shard=2)
    assert codec.frames_seen == 2 * 120


def test_several_processes_make_the_tokens_of_one(tmp_path: Path) -> None:
    codec_folder = checkpoints_folder() / "pocket" / "codec"
    generator = np.random.default_rng(0)
    sources = []
    for index in range(3):
        path = tmp_path / f"{index}.wav"
        soundfile.write(path, generator.uniform(-0.3, 0.3, 8000), 32_000)
        sources.append(source(str(path)))
    told: list[tuple[int, int]] = []
    apart, one = tmp_path / "apart", tmp_path / "one"
    for _ in range(2):  # the second time nothing is missing
        encode_apart(
            sources, codec_folder, "hash", apart, processes=2, pieces_per_shard=1,
            report=lambda done, total: told.append((done, total)),
        )  # fmt: skip
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert is_encoded(sources, "hash", one, pieces_per_shard=1) is False
    codec = load_codec(codec_folder)
    for folder in (apart, one):
        encode_sources(sources, codec, "hash", folder, pieces_per_shard=1)
    for ours, theirs in zip(load_tokens(apart)[1], load_tokens(one)[1], strict=True):
        assert ours.piece == theirs.piece
        assert (ours.codes == theirs.codes).float().mean() > 0.98  # threads round in their own way


def test_a_process_names_the_file_that_it_cannot_read(tmp_path: Path) -> None:
    good, silent = tmp_path / "good.wav", tmp_path / "silent.wav"
    soundfile.write(good, np.full(8000, 0.1), 32_000)
    soundfile.write(silent, np.zeros(8000), 32_000)
    with pytest.raises(InputError, match="silent"):
        encode_apart(
            [source(str(good)), source(str(silent))],
            checkpoints_folder() / "pocket" / "codec", "hash", tmp_path / "tokens",
            processes=2, pieces_per_shard=1,
        )  # fmt: skip


def test_pieces_to_learn_from_are_encoded_again_a_part_of_a_frame_later(
    sources: list[Source], tmp_path: Path
) -> None:
    folder = tmp_path / "tokens"
    encode_sources(with_offsets(sources, 2), MeanCodec(), "hash", folder)
    pieces = load_tokens(folder)[1]
    assert [piece.piece for piece in pieces] == ["0", "0", "1", "1", "2", "2", "3", "4", "4"]
    # Levels of 1, 2 and 0 sixteenths in turns: half a frame later they are 1.5, 1 and 0.5.
    assert pieces[0].codes[0, :3].tolist() == [1, 2, 0]
    assert pieces[1].codes[0, :3].tolist() == [2, 1, 0]
    assert with_offsets(sources, 1) == sources


def test_another_codec_or_other_captions_encode_again(
    sources: list[Source], tmp_path: Path
) -> None:
    folder = tmp_path / "tokens"
    encode_sources(sources, MeanCodec(), "hash", folder)
    codec = MeanCodec()
    encode_sources(sources, codec, "other", folder)
    assert codec.frames_seen == 5 * 120
    changed = [source(s.audio, s.split, "new words") for s in sources]
    encode_sources(changed, codec, "other", folder)
    assert load_tokens(folder)[1][0].captions == ("new words",)


@pytest.mark.parametrize(
    ("levels", "word"), [([0.0] * 20, "silent"), ([0.5, float("nan")] * 10, "nan")]
)
def test_silence_and_nan_are_refused_by_name(
    tmp_path: Path, levels: list[float], word: str
) -> None:
    path = write(tmp_path / "bad.wav", levels)
    with pytest.raises(InputError, match=f"bad.wav.*{word}"):
        read_samples(path, 1000, 1)


def test_a_codec_on_a_gpu_makes_the_same_tokens() -> None:
    codec, samples = tiny_codec(), sine(440.0, 1.0, 8000)[None]
    expected = encode_samples(samples, codec, chunk_frames=20)
    with pretended_gpus():
        codes = encode_samples(samples, codec.to(torch.device("cuda")), chunk_frames=20)
    assert type(codes) is torch.Tensor  # brought back
    assert torch.equal(codes.long(), expected.long())


def test_long_files_encode_the_same_in_chunks(tmp_path: Path) -> None:
    path = write(tmp_path / "long.wav", [(j * 7 % 13) / 16 for j in range(95)])
    samples = read_samples(path, 1000, 1)
    whole = encode_samples(samples, MeanCodec(), chunk_frames=1000)
    chunks = encode_samples(samples, MeanCodec(), chunk_frames=20, margin=3)
    assert whole.shape == (2, 95)
    assert torch.equal(whole.long(), chunks.long())


def test_stereo_is_folded_and_another_rate_resampled(tmp_path: Path) -> None:
    both = np.stack([np.full(4000, 0.5), np.full(4000, 0.25)], axis=1)
    soundfile.write(tmp_path / "s.wav", both, 2000, subtype="FLOAT")
    samples = read_samples(str(tmp_path / "s.wav"), 1000, 1)
    assert samples.shape == (1, 2000)
    assert samples[0, 500:1500].mean().item() == pytest.approx(0.375, abs=1e-3)
    assert read_samples(str(tmp_path / "s.wav"), 2000, 2)[1, 0].item() == 0.25


def test_a_full_disk_keeps_the_shards_before_it(
    sources: list[Source], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "tokens"
    real, calls = os.replace, []

    def full(src: str, dst: str) -> None:
        calls.append(dst)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        real(src, dst)

    monkeypatch.setattr(tokens.os, "replace", full)
    with pytest.raises(StorageError, match="No space left"):
        encode_sources(sources, MeanCodec(), "hash", folder, pieces_per_shard=2)
    assert [p.name for p in folder.iterdir()] == ["tokens-00000.safetensors"]


def test_unfinished_and_damaged_tokens_are_refused(sources: list[Source], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no finished tokens"):
        load_tokens(tmp_path / "tokens")
    encode_sources(sources, MeanCodec(), "hash", tmp_path / "tokens")
    shard = tmp_path / "tokens" / "tokens-00000.safetensors"
    shard.write_bytes(shard.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="tokens-00000"):
        load_tokens(tmp_path / "tokens")


def test_sources_of_a_manifest_have_absolute_paths(tmp_path: Path) -> None:
    row = {"audio": "a/b.wav", "caption": "words", "split": "valid", "license": "CC0-1.0"}
    (tmp_path / "m.jsonl").write_text(json.dumps(row) + "\n")
    (found,) = sources_of(tmp_path / "m.jsonl")
    assert found.audio == str(tmp_path / "a" / "b.wav")
    assert (found.captions, found.piece, found.split) == (("words",), "b", "valid")


def test_the_hash_of_a_folder_follows_contents_and_names(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    first = hash_folder(tmp_path)
    (tmp_path / "a").write_text("2")
    second = hash_folder(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    assert len({first, second, hash_folder(tmp_path)}) == 3


def test_what_is_written_for_people_may_be_left_out_of_a_folders_hash(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    bare = hash_folder(tmp_path)
    (tmp_path / "README.md").write_text("words")
    assert hash_folder(tmp_path, leave_out=("README.md",)) == bare != hash_folder(tmp_path)


def test_what_a_manifest_says_has_one_hash_before_and_after_it_is_encoded(
    sources: list[Source], tmp_path: Path
) -> None:
    several = with_offsets(sources, 2)
    encode_sources(several, MeanCodec(), "hash", tmp_path / "tokens", pieces_per_shard=2)
    assert hash_lines(load_tokens(tmp_path / "tokens")[1]) == hash_lines(several)
    assert hash_lines(several) != hash_lines(sources)


@pytest.mark.parametrize(
    ("change", "same"),
    [({"captions": ("b",)}, False), ({"piece": "b"}, False), ({"split": "valid"}, False),
     ({"attributes": {"n": 2}}, False), ({"offset": 0.5}, False),
     ({"audio": "elsewhere.wav"}, True), ({"license": "MIT"}, True)],
)  # fmt: skip
def test_the_hash_of_a_manifest_follows_all_that_is_learnt_from(
    change: dict[str, Any], same: bool
) -> None:
    first, second = source("a.wav"), source("b.wav")
    changed = hash_lines([replace(first, **change), second])
    assert (changed == hash_lines([first, second])) is same
    assert hash_lines([second, first]) != hash_lines([first, second])
    assert hash_lines([first, second, source("c.wav", "test")]) == hash_lines([first, second])
