"""What `compiled` and its native kernels agree on: padding, dtypes, fields of a program's lines."""

WIDTH = 64
"""Inner dimensions are padded with zeros to a multiple of this."""
HEAD_WIDTH = 32
"""A head's keys and values are padded with zeros to a multiple of this."""
KEYS = 4
"""Keys are scored this many at once; caches have room for a multiple."""
AHEAD = 32
"""How many steps ahead keys and values are prefetched."""
CACHE_DTYPE, CACHE_LIMIT = "int8", 127
"""Of keys and values; with one scale a head and step their error is below that of the weights."""

# Kinds of lines.
EMBED, NORM_ADD, LINEAR, REMEMBER, ATTEND, QUANTIZE = range(6)
# Fields of a line. WHICH is 0 for self- and 1 for cross-attention (QUANTIZE: 0 reads z, 1 reads y);
# PICK says that only the tokens whose logits are wanted take part; ACTIVATION is 0 for none, 1 for
# gelu, 2 for relu; ADD says that y is first added to the stream, FOLLOW that LAYER's part of a beat
# is added then; COLUMN is where keys begin in y.
KIND, PICK, WHICH, LAYER, COLUMN, NORM, ADD, OUTPUTS, WIDTH_IN, WEIGHT_AT, SCALE_AT, ACTIVATION = (
    range(12)
)
FOLLOW = 12
NUM_FIELDS = 13
# Places in the job array: tokens of this run, how many are picked; set where one is out of range;
# whether a beat is told.
TOKENS, PICKED, BAD_TOKEN, BEAT = range(4)
JOB_SIZE = 8
# Places in the control array: words that threads share, then a pair (taken, done) a line.
CLOSED, ACTIVE, PHASES = 0, 8, 16
BLOCK_WORDS = 6
"""Words a block holds of each array: its address, then its shape."""
