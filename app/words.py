"""What the page says: examples, what each control does, and what the licence means."""

EXAMPLES = (
    "slow sad piano",
    "chiptune for a chase scene",
    "house in D minor, 124 bpm",
    "calm ambient pad with kalimba",
    "rainy lo-fi hip hop, jazz guitar",
    "bossa nova for vibraphone",
    "aggressive metal, distorted guitars",
    "folk dance for flute, no drums",
)

GUIDANCE = (
    "Pulls harder towards the prompt. Quality: clearer, up to about 4. Variety: less, the clips "
    "grow alike. 1 is off and twice as fast."
)
GUIDED_S = (
    "Of each clip, from its beginning; 0 guides all of it. One second brings about half of "
    "what guidance brings to ten, for a tenth of its work; later it fades."
)
LEAD = (
    "On the dial, what is held takes some say from the words. Guided for its first second, a clip "
    "is what they ask for as often as when it is left free. Off: more variety, more that is not "
    "meant. A guidance above 1 stands in its place."
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
SEED = "Same seed and settings, same music. Unlocked, each run draws one and shows it here."
AS_NAMED = "as named"
FITTING = "fits the words"
NONE_HELD = "none held"
CHORDS = (
    "A bar of each, over and over. Choose some, or write your own: Am F C G, or Am | F G | C, or "
    "sections, Am F C G x4; F G Em Am x2."
)
STEADY = "Where no tempo is named, each clip finds one that goes with the words, and keeps it."

DIAL = (
    "Left: clips that sit well and resemble each other. Right: clips that differ from each other "
    "more. Only the model's weights change; it costs no time."
)
BASE = "The model before it learned the two ends: no dial."
METHOD = (
    "How weights between the ends are found. lerp: straight line. slerp: along the arc. liti: "
    "slerp, then half-way back to the base, milder in both."
)
TAKES = (
    "Plays each clip so often and keeps the one that answers the words best. Quality: closer to "
    "the words. Variety: a little less. It is heard once the best is known."
)
GUIDANCE_DIAL = (
    "Off (1) on the dial: both ends learned from guided clips, so its effect is in the weights, at "
    "half the work. Above 1: closer to the prompt, less variety."
)
LOUDNESS = "How loud clips come out, in LUFS. Changes neither quality nor variety."
FIRST = "Which variation of the seed comes first: with a locked seed, 3 makes the third one alone."
LIVE = (
    "Endless music that you steer while it plays. Moves are heard about two seconds later: that "
    "much is always made ahead. Tempo, key and chords are those that its words name, else those "
    "set above, which go on until others are named."
)
COMPARE = "The same prompt and seed at two positions of the dial, played in step."
SPREAD = (
    "Clips of one prompt as points: near ones sound alike to the model that measures variety. "
    "Click a point to hear it."
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
