"""All styles by name."""

from musicgen_rl.data.pocket.style import Style
from musicgen_rl.data.pocket.styles_acoustic import ACOUSTIC_STYLES
from musicgen_rl.data.pocket.styles_band import BAND_STYLES
from musicgen_rl.data.pocket.styles_electronic import ELECTRONIC_STYLES

STYLES: dict[str, Style] = {
    style.name: style for style in (*ACOUSTIC_STYLES, *BAND_STYLES, *ELECTRONIC_STYLES)
}
"""Name -> style, 25 in all."""
