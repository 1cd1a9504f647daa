"""Clips to rows, real clips to lines, time to rows of a table."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from musicgen_rl.audio.clip import Clip
from musicgen_rl.batch.progress import spell_seconds
from musicgen_rl.codec.base import Codec
from musicgen_rl.codec.load import load_codec
from musicgen_rl.data.manifest import Entry
from musicgen_rl.errors import ConfigError, InputError
from musicgen_rl.evaluation.features import measure
from musicgen_rl.evaluation.instruments import find_instruments, require_same, require_unchanged
from musicgen_rl.evaluation.prompts import Prompt
from musicgen_rl.evaluation.real import _others, real_set
from musicgen_rl.evaluation.run import Clock
from musicgen_rl.evaluation.table import build_table, read_rows, write_rows
from musicgen_rl.evaluation.throughput import measure_throughput
from musicgen_rl.pipeline import Pipeline
from tests.codec.tiny import tiny_codec
from tests.evaluation.fakes import fake_instruments, identity
from tests.evaluation.synthetic import IDENTITIES, Planted, planted_rows, prompts_of
from tests.pretended_gpu import pretended_gpus
from tests.training.reward_corpus import write_corpus

RATE = 8000


def sounds(count: int) -> np.ndarray:
    return 0.1 * np.random.default_rng(0).normal(size=(count, RATE)).astype(np.float32)


def test_each_instrument_sees_its_clip_and_its_prompt(tiny_folder: Path) -> None:
    codec = load_codec(tiny_folder / "codec")
    prompts = [Prompt("jazz"), Prompt("sad rock"), Prompt("a tune")]
    clips = sounds(3)
    rows = measure(clips, RATE, prompts, fake_instruments(codec))
    instruments = fake_instruments()
    texts = [p.text for p in prompts]
    scores = instruments.scorers["report"].score(torch.from_numpy(clips), RATE, texts)
    assert [r["adherence_report"] for r in rows] == pytest.approx(scores.tolist())
    assert instruments.probe is not None
    heard = instruments.probe.log_probs(torch.from_numpy(clips), RATE)
    assert rows[0]["probe_logp"] == pytest.approx(float(heard["style"][0, 0]))
    assert rows[1]["probe_logp"] == pytest.approx(float(heard["style"][1, 1]))
    assert np.isnan(rows[2]["probe_logp"])  # nothing was asked
    # Bright noise is jazz: right for the first; wrong style and a mood that is second: neither.
    assert rows[0]["probe_right"] == 1.0
    assert rows[1]["probe_right"] == 0.0
    assert np.isnan(rows[2]["probe_right"])
    expected = codec.encode(torch.from_numpy(clips)[:, None])[:, 0]
    assert all(np.array_equal(r["codes"], c) for r, c in zip(rows, expected, strict=True))
    assert np.linalg.norm(rows[2]["embedding_training"]) == pytest.approx(1.0, abs=1e-5)
    assert rows[0]["silent"] == 0.0


def test_another_sample_rate_than_the_codecs_gives_no_codes(tiny_folder: Path) -> None:
    codec = load_codec(tiny_folder / "codec")
    rows = measure(sounds(1), 16_000, [Prompt("jazz")], fake_instruments(codec))
    assert "codes" not in rows[0]


def test_a_codec_on_a_gpu_gives_the_same_codes(tiny_folder: Path) -> None:
    codec, clips, prompts = load_codec(tiny_folder / "codec"), sounds(2), [Prompt("jazz")] * 2
    expected = measure(clips, RATE, prompts, fake_instruments(codec))
    with pretended_gpus():
        codec.to(torch.device("cuda"))
        rows = measure(clips, RATE, prompts, fake_instruments(codec))
    assert all(
        np.array_equal(*(r["codes"] for r in pair)) for pair in zip(rows, expected, strict=True)
    )


def test_a_codec_on_a_gpu_has_the_same_floor(tmp_path: Path) -> None:
    manifest = write_corpus(tmp_path / "corpus", pieces=14, seconds=1.5)
    manifest.write_text(manifest.read_text().replace('"train"', '"test"'))

    def floor(codec: Codec) -> np.ndarray:
        found = real_set(
            manifest, fake_instruments(codec), sample_rate=RATE, duration_s=1.0, clips=40,
            line_clips=12,
        )  # fmt: skip
        return found.line_embeddings["codec floor"]["report"]

    codec = tiny_codec()
    expected = floor(codec)
    with pretended_gpus():
        assert np.array_equal(floor(codec.to(torch.device("cuda"))), expected)
    assert len(expected) >= 2


class CaptionKnower:
    """Hears the one tone of a clip, and says whether the caption names it."""

    identity = identity("scorer")

    def score(self, samples: torch.Tensor, sample_rate: int, captions: Sequence[str]):  # type: ignore[no-untyped-def]
        heard = torch.fft.rfft(samples).abs()[:, 1:].argmax(dim=1) + 1  # Hz, for clips of a second
        named = torch.tensor([float(c.split()[0]) for c in captions])
        return (heard - named).abs().lt(4).float()


@pytest.mark.parametrize("pieces", [20, 24, 48])
def test_wrong_captions_are_those_of_other_pieces_however_few_there_are(
    tmp_path: Path, pieces: int
) -> None:
    lines, time = [], np.arange(round(1.5 * RATE)) / RATE
    for i in range(pieces):
        tone = 200 + 40 * i
        Clip(0.2 * np.sin(2 * np.pi * tone * time), RATE).save(tmp_path / f"{i}.wav")
        row = {"audio": f"{i}.wav", "duration_s": 1.5, "caption": f"{tone} Hz", "split": "test"}
        lines.append(json.dumps(row))
    (tmp_path / "real.jsonl").write_text("\n".join(lines))
    instruments = replace(fake_instruments(), scorers={"report": CaptionKnower()})
    found = real_set(
        tmp_path / "real.jsonl", instruments, sample_rate=RATE, duration_s=1.0, clips=64,
        line_clips=32,
    )  # fmt: skip
    assert found.line_numbers["real"]["adherence_report"] == 1.0
    assert found.line_numbers["wrong caption"]["adherence_report"] == 0.0


def piece(number: int, caption: str = "") -> Entry:
    caption = caption or f"piece {number}"
    return Entry(audio=f"{number}.wav", captions=(caption,), piece=str(number))


def test_other_pieces_are_half_the_list_on_and_another_caption_where_there_is_one() -> None:
    of_231 = [piece(i % 46) for i in range(64)]  # the lines' 46 pieces, as the results here had
    assert _others(of_231) == [of_231[(i + 32) % 64] for i in range(64)]
    for count in range(2, 65):
        for size in (64, min(64, 4 * count)):
            entries = [piece(i % count) for i in range(size)]
            pairs = zip(entries, _others(entries), strict=True)
            assert all(own.audio != other.audio for own, other in pairs)
    alike = [piece(i, "jazz" if i % 2 else "rock") for i in range(8)]
    assert all(a.captions != b.captions for a, b in zip(alike, _others(alike), strict=True))
    assert _others([piece(0, "jazz"), piece(1, "jazz")])[0] == piece(1, "jazz")
    cuts = [replace(piece(i, str(i)), piece=str(i % 2)) for i in range(4)]  # two of each piece
    assert all(a.piece != b.piece for a, b in zip(cuts, _others(cuts), strict=True))


def test_rows_come_back_from_parquet_as_they_were(tmp_path: Path) -> None:
    rows = planted_rows({"a": Planted(0.5, 0.1)}, prompts=6, clips=2, codes=True)
    write_rows(rows, tmp_path / "x" / "rows.parquet", IDENTITIES)
    back, identities = read_rows(tmp_path / "x" / "rows.parquet")
    assert identities == IDENTITIES
    one, two = (build_table(r, ["a"], prompts_of(rows)) for r in (rows, back))
    assert np.array_equal(one.embeddings["report"], two.embeddings["report"])
    assert np.array_equal(one.numbers["adherence_report"], two.numbers["adherence_report"])
    assert one.codes is not None
    assert two.codes is not None
    assert all(np.array_equal(a, b) for a, b in zip(one.codes, two.codes, strict=True))
    (tmp_path / "broken.parquet").write_bytes(b"no")
    with pytest.raises(InputError, match="no table of clips"):
        read_rows(tmp_path / "broken.parquet")


def test_rows_are_put_in_order_whatever_order_they_come_in() -> None:
    rows = planted_rows({"a": Planted(0.5, 0), "b": Planted(0.5, 0)}, prompts=6, clips=2)
    mixed = [rows[i] for i in np.random.default_rng(0).permutation(len(rows))]
    table = build_table(mixed, ["b", "a"], prompts_of(rows))
    assert table.arm_of.tolist() == [0] * 12 + [1] * 12
    assert table.prompt_of.tolist() == [p for p in range(6) for _ in range(2)] * 2
    assert table.numbers["adherence_report"][0] == rows[12]["adherence_report"]


def test_instruments_of_one_name_must_have_the_same_weights() -> None:
    other = {**IDENTITIES, "encoder report": {**IDENTITIES["encoder report"], "sha256": "z" * 64}}
    require_same(IDENTITIES, IDENTITIES, "x")
    require_same(IDENTITIES, {"scorer report": IDENTITIES["scorer report"]}, "x")
    with pytest.raises(InputError, match="x was measured by another encoder report"):
        require_same(IDENTITIES, other, "x")
    with pytest.raises(InputError, match="by none of the instruments"):
        require_same(IDENTITIES, {}, "x")


def test_rows_go_on_only_with_the_very_instruments_that_began() -> None:
    other = {**IDENTITIES, "encoder report": {**IDENTITIES["encoder report"], "sha256": "z" * 64}}
    more = IDENTITIES | {"encoder clap": {"name": "clap", "sha256": "c" * 64}}
    require_unchanged(IDENTITIES, IDENTITIES, "x")
    with pytest.raises(ConfigError, match=r"x .*another encoder report \(e, zzz.*; here e, aaa"):
        require_unchanged(IDENTITIES, other, "x")
    with pytest.raises(ConfigError, match=r"another encoder clap \(none; here clap, ccc"):
        require_unchanged(more, IDENTITIES, "x")
    with pytest.raises(ConfigError, match=r"another encoder clap \(clap, ccc.*; here none"):
        require_unchanged(IDENTITIES, more, "x")


def test_instruments_are_found_or_their_places_named(tmp_path: Path) -> None:
    (tmp_path / "rewards" / "encoder-report").mkdir(parents=True)
    assert find_instruments("", tmp_path) == tmp_path / "rewards"
    assert find_instruments(str(tmp_path / "rewards"), None) == tmp_path / "rewards"
    with pytest.raises(ConfigError, match=r"no instruments in .*nowhere"):
        find_instruments(str(tmp_path / "nowhere"), tmp_path)


def test_the_clock_counts_only_what_this_run_did() -> None:
    seen: list[tuple[int, int]] = []
    clock = Clock(total=10.0, report=lambda done, total: seen.append((done, total)))
    assert clock.left() == ""
    clock.kept = 4.0
    clock.at(4.0)
    assert clock.left() == ""  # all of it was done before
    clock.start -= 31.0
    clock.part(4.0, 2.0, 0.5)
    assert seen[-1] == (50, 100)
    assert clock.left() == f", {spell_seconds(155)} left"  # one unit in 31 s, five to go


def test_guidance_is_timed_with_and_without_at_each_batch(tiny_folder: Path) -> None:
    pipeline = Pipeline.load(tiny_folder, device="cpu", dtype="fp32")
    rows = measure_throughput(pipeline, ["jazz"], duration_s=1.0, batches=(1, 3))
    assert [r["clips"] for r in rows] == [1, 3]
    for row in rows:
        assert row["ratio"] == pytest.approx(row["two_rows_s"] / row["one_row_s"])
        assert row["one_row_audio_s_per_s"] == pytest.approx(row["clips"] / row["one_row_s"])
