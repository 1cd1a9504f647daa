"""All styles by name."""

from musicgen_rl.data.pocket.style import Style
from musicgen_rl.data.pocket.styles_acoustic import ACOUSTIC_STYLES
from musicgen_rl.data.pocket.styles_band import BAND_STYLES
from musicgen_rl.data.pocket.styles_electronic import ELECTRONIC_STYLES
from musicgen_rl.data.pocket.styles_popular import POPULAR_STYLES

STYLES: dict[str, Style] = {
    style.name: style
    for style in (*ACOUSTIC_STYLES, *BAND_STYLES, *ELECTRONIC_STYLES, *POPULAR_STYLES)
}
"""Name -> style, 31 in all."""

BROADER: dict[str, tuple[str, ...]] = {
    "classical": ("solo piano", "string quartet", "orchestral", "waltz", "baroque", "choral hymn"),
    "acoustic": ("folk", "country", "bossa nova", "solo piano", "tango", "ragtime"),
    "electronic": (
        "house", "techno", "ambient", "synthwave", "drum and bass", "trance", "chiptune",
    ),
    "electronic dance": ("house", "techno", "trance", "drum and bass"),
    "soundtrack": ("orchestral", "ambient", "string quartet"),
    "cinematic": ("orchestral",),
    "soul": ("funk",),
    "chillout": ("lo-fi", "ambient"),
    "world": ("latin", "reggae", "bossa nova", "tango"),
    "hard rock": ("metal",),
    "instrumental rock": ("rock", "blues", "metal"),
    "traditional": ("folk", "march", "waltz"),
    "video game soundtrack": ("chiptune",),
}  # fmt: skip
"""Broader words people use -> styles they cover."""
