from pathlib import Path

from musicgen_rl.data.describe import describe_manifest, table
from musicgen_rl.data.manifest import Entry, write_manifest


def entry(name: str, style: str, tempo: int, mode: str, split: str, tune: str = "") -> Entry:
    return Entry(
        audio=f"{name}.flac",
        duration_s=1800.0,
        captions=("a calm tune", f"{style}, calm"),
        attributes={
            "style": style,
            "tempo_bpm": tempo,
            "mode": mode,
            "drums": style == "rock",
            "moods": ["calm"],
            "instruments": ["piano"],
            "tune": tune,
        },
        piece=name,
        split=split,
    )


def test_counts_are_right(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    write_manifest(
        path,
        [
            entry("a", "rock", 120, "minor", "train"),
            entry("b", "rock", 140, "major", "valid"),
            entry("c", "folk", 90, "major", "train", tune="Reel"),
        ],
    )
    lines = describe_manifest(path).splitlines()
    assert "| train | 2 | 2 | 1.00 |" in lines
    assert "| all | 3 | 3 | 1.50 |" in lines
    assert "| rock | 2 | 1.00 | 120 to 140 | 50 % | 100 % |" in lines
    assert "| folk | 1 | 0.50 | 90 to 90 | 0 % | 0 % |" in lines
    assert "| hours on public-domain tunes | 0.50 |" in lines
    assert "| different captions | 3 |" in lines
    assert "| mode | major | 66.7 % |" in lines
    assert "| piano | 3 |" in lines


def test_audio_without_attributes_is_described_too(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    write_manifest(path, [Entry(audio="x.wav", captions=("mine",), piece="x")])
    text = describe_manifest(path)
    assert "style" not in text
    assert "| all | 1 | 1 | 0.00 |" in text


def test_a_table_has_a_head_and_rows() -> None:
    assert table(("a", "b"), [(1, "x")]) == "| a | b |\n|---|---|\n| 1 | x |"
