"""What is shipped: every file told of, small enough, of a format that runs nothing."""

import re
from pathlib import Path

from musicgen_rl.checkpoint import checkpoints_folder

ROOT = checkpoints_folder()
FILES = sorted(p for p in ROOT.rglob("*") if p.is_file())


def test_every_file_is_told_of() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for path in FILES:
        place = path.relative_to(ROOT)
        if place.name != "README.md":
            assert path.name in text, place
        for folder in place.parts[:-1]:
            assert f"{folder}/" in text, place


def test_files_are_small_and_run_nothing() -> None:
    assert {p.suffix for p in FILES} == {".json", ".md", ".safetensors"}
    sizes = {str(p.relative_to(ROOT)): p.stat().st_size for p in FILES}
    assert max(sizes.values()) < 50e6
    assert sum(sizes.values()) < 200e6


def test_links_lead_somewhere() -> None:
    for card in ROOT.rglob("README.md"):
        for link in _links(card.read_text(encoding="utf-8")):
            assert (card.parent / link).exists(), (card, link)


def _links(text: str) -> list[Path]:
    found = re.findall(r"\]\(([^)#]+)", text)
    return [Path(link) for link in found if "://" not in link]
