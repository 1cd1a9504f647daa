"""Make the corpus: compose, render, produce, caption, write; resumable and the same every time."""

import hashlib
import io
import json
import random
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf

from musicgen_rl.data.manifest import (
    Entry,
    parse_entry,
    parse_object,
    write_atomic,
    write_manifest,
)
from musicgen_rl.data.pocket.arrange import arrange, draw_tune
from musicgen_rl.data.pocket.attributes import describe
from musicgen_rl.data.pocket.captions import name_tempo, write_captions
from musicgen_rl.data.pocket.compose import Piece, compose
from musicgen_rl.data.pocket.corpus_config import CorpusConfig
from musicgen_rl.data.pocket.instruments import DRUM_KEYS
from musicgen_rl.data.pocket.production import draw_mix, produce
from musicgen_rl.data.pocket.render import SAMPLE_RATE, SOUNDFONTS, can_render, render
from musicgen_rl.data.pocket.rhythm import on_grid
from musicgen_rl.data.pocket.score import LEAD_IN_S
from musicgen_rl.data.pocket.styles import STYLES
from musicgen_rl.data.pocket.voices import draw_voices
from musicgen_rl.data.workers import end_with_parent
from musicgen_rl.errors import InputError

LICENSE = "CC0-1.0"
OPTIONS = "corpus.json"
PIECES_A_FOLDER = 500
VOICES_SHARE = 0.4
"""Of the borrowed pieces, how many come from works in several voices."""


def split_of(identity: str, valid: float, test: float) -> str:
    """Choose a split from a name alone, so that whatever shares the name shares the split."""
    digest = hashlib.sha256(identity.encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    return "valid" if place < valid else ("test" if place < valid + test else "train")


def compose_piece(config: CorpusConfig, index: int) -> Piece:
    """Compose piece `index` of the corpus; styles take turns in a shuffled order.

    With several keys or tempi, so many in a row are one piece.
    """
    number, version = divmod(index, config.versions)
    turn, step = divmod(version, config.tempi)
    piece = _compose(config, number, turn * 12 // config.keys)
    if config.tempi > 1:
        score = piece.score
        score.tempo_bpm = on_grid(score.tempo_bpm * 2.0 ** ((step + 0.5) / config.tempi - 0.5))
    return piece


def _compose(config: CorpusConfig, number: int, shift: int) -> Piece:
    names = list(STYLES)
    round_number, place = divmod(number, len(names))
    random.Random(f"order/{config.seed}/{round_number}").shuffle(names)
    rng = random.Random(f"piece/{config.seed}/{number}")
    duration = rng.uniform(config.min_duration_s, config.max_duration_s)
    if rng.random() < config.tunes:
        tries = 4 if rng.random() < VOICES_SHARE else 0
        for _ in range(tries):  # some bars do not serve
            voices = draw_voices(rng, duration_s=duration, shift=shift)
            if voices is not None:
                return voices
        tune, style = draw_tune(rng)
        return arrange(tune, style, rng, duration_s=duration, shift=shift)
    return compose(STYLES[names[place]], rng, duration_s=duration, shift=shift)


def piece_paths(config: CorpusConfig, index: int) -> tuple[Path, Path]:
    """Return where a piece's audio and its line of the manifest lie."""
    folder = Path(config.output) / f"{index // PIECES_A_FOLDER:03d}"
    stem = f"{config.seed}-{index:06d}"
    return folder / f"{stem}.flac", folder / f"{stem}.json"


def make_piece(config: CorpusConfig, index: int) -> Entry:
    """Make one piece and write its two files; the json last, so that its presence means done."""
    audio_path, json_path = piece_paths(config, index)
    piece = compose_piece(config, index)
    facts = describe(piece)
    duration_s = piece.score.duration_s
    if config.audio:
        duration_s, facts["soundfont"] = _write_audio(config, index, piece, audio_path)
    captions = write_captions(
        facts, random.Random(f"captions/{config.seed}/{index}"), count=config.captions
    )
    if config.tempo_share:
        rng = random.Random(f"tempo/{config.seed}/{index}")
        captions = name_tempo(captions, facts["tempo_bpm"], rng, share=config.tempo_share)
    identity = piece.identity or f"{config.seed}-{index // config.versions:06d}"
    entry = Entry(
        audio=str(audio_path.relative_to(config.output)),
        duration_s=round(duration_s, 3),
        captions=tuple(captions),
        attributes=facts,
        piece=identity,
        split=split_of(identity, config.valid, config.test),
        license=LICENSE,
    )
    write_atomic(json_path, json.dumps(entry.to_json(), ensure_ascii=False).encode())
    return entry


def _write_audio(config: CorpusConfig, index: int, piece: Piece, path: Path) -> tuple[float, str]:
    """Render a piece into a file; return its seconds and the soundfont's name."""
    rng = random.Random(f"sound/{config.seed}/{index // config.versions}")
    second = rng.random() < config.musescore
    soundfont = SOUNDFONTS["musescore" if second else "fluid"]
    if not can_render(piece.score, soundfont):
        soundfont = SOUNDFONTS["fluid"]
    mix = draw_mix(piece.style.sound, rng, piece.energy)
    samples = produce(
        render(piece.score, soundfont),
        mix,
        sample_rate=SAMPLE_RATE,
        seed=rng.randrange(2**32),
        kicks_s=kick_times(piece),
        beat_s=piece.score.seconds_per_beat,
        fade_s=6.0 if piece.fades else 0.0,
    )
    write_atomic(path, encode_flac(samples))
    return len(samples) / SAMPLE_RATE, soundfont.name


def encode_flac(samples: np.ndarray) -> bytes:
    """Encode mono samples as 16-bit flac."""
    buffer = io.BytesIO()
    sf.write(buffer, samples, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


def kick_times(piece: Piece) -> list[float]:
    """Seconds at which the kick drum sounds, for ducking."""
    kick = DRUM_KEYS["kick"]
    score = piece.score
    drums = [p for p in score.parts if p.is_drums]
    return sorted(
        LEAD_IN_S + score.time_of(n.start) for p in drums for n in p.notes if n.pitch == kick
    )


def finished_entry(config: CorpusConfig, index: int) -> Entry | None:
    """Return a piece's entry if both of its files are whole, else None."""
    audio_path, json_path = piece_paths(config, index)
    if not json_path.is_file() or (config.audio and not audio_path.is_file()):
        return None
    return parse_entry(json_path.read_text(encoding="utf-8"))


def make_corpus(
    config: CorpusConfig, *, on_progress: Callable[[int, int, float], None] | None = None
) -> Path:
    """Make what is missing of a corpus, and its manifest.

    Args:
        config: what to make.
        on_progress: called with (pieces done, pieces in all, hours done) as work proceeds.

    Returns:
        Path of manifest.jsonl. It is rewritten as pieces finish, so it may be read early; in the
        end its lines are in the order of the pieces.

    Raises:
        InputError: if a soundfont is missing, the folder holds a manifest of something else, or
            its pieces were made with other options.
        StorageError: if the disk is full or the folder not writable; what is finished stays.
    """
    manifest = Path(config.output) / "manifest.jsonl"
    options = Path(config.output) / OPTIONS
    require_same_options(config, options)
    entries: dict[int, Entry] = {}
    missing = []
    for index in range(config.num_pieces):
        entry = finished_entry(config, index)
        if entry is None:
            missing.append(index)
        else:
            entries[index] = entry
    words = replace(config, audio=False)  # a corpus may get its audio later
    if manifest.exists() and not any(finished_entry(words, i) for i in range(config.num_pieces)):
        raise InputError(
            f"{manifest} is of something else: none of its pieces are of this corpus and seed "
            f"{config.seed}; name another folder"
        )
    write_atomic(options, json.dumps(options_of(config)).encode())
    for count, (index, entry) in enumerate(_finish(config, missing), start=1):
        entries[index] = entry
        if count % 20 == 0 or count == len(missing):
            write_manifest(manifest, (entries[i] for i in sorted(entries)))
        if on_progress:
            hours = sum(e.duration_s or 0 for e in entries.values()) / 3600
            on_progress(len(entries), config.num_pieces, hours)
    write_manifest(manifest, (entries[i] for i in sorted(entries)))
    return manifest


def options_of(config: CorpusConfig) -> dict[str, Any]:
    """List the options that say what a piece becomes; the others say where, how many, how fast."""
    free = ("output", "hours", "workers", "audio")
    return {name: value for name, value in asdict(config).items() if name not in free}


def require_same_options(config: CorpusConfig, path: Path) -> None:
    """Refuse to go on with a corpus whose pieces were made with other options.

    Args:
        config: what to make.
        path: where a corpus keeps its options; one of an older version has none, and goes on.

    Raises:
        InputError: naming the options and both values; or what lies there cannot be read.
    """
    try:
        begun = parse_object(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}): name another folder") from error
    now = options_of(config)
    begun = {"tempo_share": 0.0, "keys": 1, "tempi": 1} | begun  # options that came later
    changed = [f"{n} {begun[n]}, not {now[n]}" for n in now if n in begun and begun[n] != now[n]]
    if changed:
        raise InputError(
            f"the corpus in {path.parent} was begun with {', '.join(changed)}: use the same, or "
            "name another folder"
        )


def _finish(config: CorpusConfig, missing: list[int]) -> Iterator[tuple[int, Entry]]:
    """Make the missing pieces, yielding each as it is done."""
    if config.workers == 1:
        for index in missing:
            yield index, make_piece(config, index)
        return
    todo: Iterator[int | None] = iter(missing)
    context = get_context("spawn")
    with ProcessPoolExecutor(config.workers, context, initializer=end_with_parent) as pool:
        running: dict[Future[Entry], int] = {}
        while True:
            while len(running) < 2 * config.workers:
                upcoming = next(todo, None)
                if upcoming is None:
                    break
                running[pool.submit(make_piece, config, upcoming)] = upcoming
            if not running:
                return
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield running.pop(future), future.result()
