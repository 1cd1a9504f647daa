"""What the page says: examples, what each control does, and what the licence means."""

EXAMPLES = (
    "slow sad piano",
    "chiptune for a chase scene",
    "calm ambient pad with kalimba",
    "fast funk with brass",
    "rainy lo-fi hip hop, jazz guitar",
    "bossa nova for vibraphone",
    "aggressive metal, 160 bpm",
    "folk dance for flute, no drums",
)

GUIDANCE = (
    "Pulls harder towards the prompt. Quality: clearer, up to about 4. Variety: less, the clips "
    "grow alike. 1 is off and twice as fast."
)
NEGATIVE = (
    "What to stay away from, such as “drums”. Quality: can remove what disturbs. Variety: hardly "
    "changes. Needs guidance above 1."
)
TEMPERATURE = (
    "How boldly notes are drawn. Quality: best near 1; above, wrong notes. Variety: more above 1, "
    "less below."
)
TOP_K = (
    "Draws among this many likeliest sounds. Quality: lower is safer. Variety: lower is less. "
    "0 draws among all."
)
SEED = "Same seed and settings, same music. Unlocked, each run draws a new one and shows it here."
NO_FFMPEG = (
    "Sound comes when a clip is whole: hearing it earlier needs ffmpeg on the computer that runs "
    "this page."
)

_FREE = {"apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "isc", "unlicense"}


def may_i_use_this(license: str) -> tuple[str, str]:
    """Answer what everyone asks, from the licence of the weights.

    Args:
        license: an SPDX name, as the model's card gives it; "unknown" where it does not.

    Returns:
        A short answer, and one or two sentences of reason.
    """
    name = license.strip().lower()
    marked = "Files say in their tags that a model made them, with all settings."
    if name in _FREE:
        return (
            "Yes, also commercially",
            f"The weights are under {license}, which asks nothing of what is made with them. "
            f"{marked}",
        )
    if "-nc" in name:
        return (
            "Not commercially",
            f"The weights are under {license}: for non-commercial use only, and that is commonly "
            "taken to hold for what is made with them. Ask their maker for anything else. "
            f"{marked}",
        )
    if name.startswith("cc-by"):
        return (
            "Yes, with credit",
            f"The weights are under {license}: name their maker where you publish, and mind its "
            f"other terms. {marked}",
        )
    if name in ("", "unknown", "other"):
        return (
            "Not known",
            "The model's card names no licence. Ask its maker before you publish anything. "
            f"{marked}",
        )
    return ("See the licence", f"The weights are under {license}: read it first. {marked}")
