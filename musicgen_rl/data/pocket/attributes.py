"""What is true of a piece, measured on its notes: the facts behind captions and evaluation."""

from typing import Any

from musicgen_rl.data.pocket.compose import Piece
from musicgen_rl.data.pocket.instruments import DRUM_KITS, INSTRUMENTS
from musicgen_rl.data.pocket.score import LEAD_IN_S
from musicgen_rl.data.pocket.theory import family

SLOW_BPM = 85
FAST_BPM = 125


def tempo_band(bpm: float) -> str:
    """Return slow, medium or fast."""
    return "slow" if bpm < SLOW_BPM else ("fast" if bpm >= FAST_BPM else "medium")


def describe(piece: Piece) -> dict[str, Any]:
    """Collect the attributes of a piece.

    Returns:
        style, words, instruments (most prominent first), lead, families, drums, kit, tempo_bpm,
        beat_s (seconds of a beat, exact), first_beat_s (where the first falls), tempo_band, meter,
        key, mode (major or minor), scale, swing, density (notes a second), density_band, register,
        dynamics, moods, tune, enters_s (when each instrument, and "drums", is first heard, in
        seconds, so that a crop can be told apart from its piece), chords (each with the second at
        which it begins) and progression (of the first theme, in roman numerals) where there is
        harmony beside the melody.
    """
    score = piece.score
    seconds = max(score.duration_s, 1e-6)
    melodic = [p for p in score.parts if not p.is_drums and p.notes]
    names: list[str] = []
    for part in melodic:
        if part.instrument not in names:
            names.append(part.instrument)
    kits = [p.instrument for p in score.parts if p.is_drums and p.notes]
    onsets = {(round(n.start * 4), p.role) for p in score.parts for n in p.notes}
    density = len(onsets) / seconds
    pitched = [n for p in melodic if p.role != "bass" for n in p.notes]
    weight = sum(n.duration for n in pitched) or 1.0
    height = sum(n.pitch * n.duration for n in pitched) / weight
    everything = [n for p in score.parts for n in p.notes]
    loudness = sum(n.velocity for n in everything) / max(1, len(everything))
    lead = next((p.instrument for p in melodic if p.role == "lead"), names[0] if names else "")
    found: dict[str, Any] = {
        "style": piece.style.name,
        "instruments": names,
        "families": sorted({INSTRUMENTS[n].family for n in names}),
        "lead": lead,
        "drums": bool(kits),
        "kit": DRUM_KITS[kits[0]][1] if kits else "",
        "tempo_bpm": round(score.tempo_bpm),
        "beat_s": round(score.seconds_per_beat, 6),
        "first_beat_s": LEAD_IN_S,
        "tempo_band": tempo_band(score.tempo_bpm),
        "meter": f"{score.beats_per_bar}/4",
        "key": piece.key,
        "mode": family(piece.mode),
        "scale": piece.mode,
        "swing": piece.swing >= 0.56,
        "density": round(density, 2),
        "density_band": "sparse" if density < 4.5 else ("busy" if density >= 11 else "moderate"),
        "register": "low" if height < 57 else ("high" if height >= 68 else "middle"),
        "dynamics": "soft" if loudness < 62 else ("loud" if loudness >= 82 else "moderate"),
        "tune": piece.tune,
    }
    found["moods"] = moods(found)
    found["enters_s"] = entrances(piece)
    if piece.chords:
        found["chords"] = chords(piece)
    if piece.progression:
        found["progression"] = piece.progression
    return found


def entrances(piece: Piece) -> dict[str, float]:
    """Return when each instrument, and "drums", is first heard, in seconds."""
    first: dict[str, float] = {}
    for part in piece.score.parts:
        if part.notes:
            name = "drums" if part.is_drums else part.instrument
            at = round(piece.score.time_of(min(n.start for n in part.notes)), 2)
            first[name] = min(at, first.get(name, at))
    return first


def chords(piece: Piece) -> list[list[float | str]]:
    """Return the chords with the seconds at which they begin; one that stays is told once."""
    found: list[list[float | str]] = []
    for beat, chord in piece.chords:
        if not found or found[-1][1] != chord.name:
            found.append([round(LEAD_IN_S + piece.score.time_of(beat), 2), chord.name])
    return found


def moods(facts: dict[str, Any]) -> list[str]:
    """Name the moods that tempo, mode, density, register and dynamics justify."""
    major, band = facts["mode"] == "major", facts["tempo_band"]
    loud, soft = facts["dynamics"] == "loud", facts["dynamics"] == "soft"
    busy, sparse = facts["density_band"] == "busy", facts["density_band"] == "sparse"
    table = [
        (major and band == "fast", "happy"),
        (major and band == "medium" and not soft, "cheerful"),
        (major and band == "slow", "peaceful"),
        (major and soft, "warm"),
        (major and loud and band != "slow", "uplifting"),
        (not major and band == "slow", "sad"),
        (not major and band == "medium" and not loud, "melancholic"),
        (not major and band == "fast", "tense"),
        (not major and loud, "dark"),
        (not major and facts["register"] == "low", "brooding"),
        (busy and band != "slow", "energetic"),
        (busy and loud and band == "fast", "aggressive" if not major else "exciting"),
        (sparse and not loud, "calm"),
        (sparse and band == "slow" and not loud, "dreamy"),
        (loud and facts["register"] != "high" and len(facts["instruments"]) >= 4, "powerful"),
        (facts["drums"] and busy and 92 <= facts["tempo_bpm"] <= 138, "danceable"),
        (soft and facts["register"] == "high", "delicate"),
    ]
    return [word for holds, word in table if holds]
