"""Balance: orders that favour nobody. Pure combinatorics, no study in sight."""

import random
from collections import defaultdict
from collections.abc import Hashable, Sequence

from musicgen_rl.config import require

Edge = tuple[Hashable, Hashable]


def williams(count: int) -> list[list[int]]:
    """Make a Latin square balanced for what comes just before.

    Args:
        count: conditions, at least 1.

    Returns:
        Rows of an order each: `count` rows for an even count, twice as many for an odd one. In
        every column each condition stands equally often, and each condition follows each other
        one equally often.

    Raises:
        ConfigError: count is below 1.

    Source: E. J. Williams (1949), Experimental designs balanced for the estimation of residual
    effects of treatments.
    """
    require(count >= 1, f"an order needs at least one condition, got {count}")
    first = [0]
    low, high = 1, count - 1
    while low <= high:
        first.append(low)
        if low != high:
            first.append(high)
        low, high = low + 1, high - 1
    rows = [[(value + shift) % count for value in first] for shift in range(count)]
    if count % 2 and count > 1:
        rows += [row[::-1] for row in rows]
    return rows


def allocate(units: int, per_unit: int, raters: int, rng: random.Random) -> list[list[int]]:
    """Share out units so that each is judged equally often and everybody works equally much.

    Args:
        units: how many things are judged.
        per_unit: different raters for each.
        raters: how many there are, at least per_unit.
        rng: breaks ties.

    Returns:
        For each unit its raters; the raters' loads differ by at most one.

    Raises:
        ConfigError: there are fewer raters than one unit needs.
    """
    require(per_unit <= raters, f"{per_unit} raters a prompt need as many raters, got {raters}")
    load = [0] * raters
    chosen: list[list[int]] = [[] for _ in range(units)]
    for unit in rng.sample(range(units), units):
        ranked = sorted(range(raters), key=lambda rater: (load[rater], rng.random()))
        chosen[unit] = sorted(ranked[:per_unit])
        for rater in chosen[unit]:
            load[rater] += 1
    return chosen


def split_evenly(edges: Sequence[Edge], rng: random.Random) -> list[bool]:
    """Colour the edges of a bipartite graph so that both colours meet equally at every end.

    The two colours are the two orders of a pair, one end of an edge is a rater, the other a
    prompt. Ends with an even number of edges get exactly as many of each colour, the others
    differ by one; in all, the colours differ by at most one.

    Args:
        edges: (left, right), left and right from different worlds.
        rng: decides which of the two balanced colourings.

    Returns:
        One colour for each edge.

    Source: alternate colours along an Euler circuit; every circuit of a bipartite graph is even.
    """
    touching: dict[Hashable, list[int]] = defaultdict(list)
    ends: list[tuple[Hashable, Hashable]] = []

    def join(left: Hashable, right: Hashable) -> None:
        touching[left].append(len(ends))
        touching[right].append(len(ends))
        ends.append((left, right))

    for left, right in edges:
        join(("left", left), ("right", right))
    odd = [end for end in touching if len(touching[end]) % 2]
    for end in odd:  # one spare on each side takes up what is odd
        if end[0] == "left":  # type: ignore[index]
            join(end, ("right", None, "spare"))
        else:
            join(("left", None, "spare"), end)
    spares = [("left", None, "spare"), ("right", None, "spare")]
    if any(len(touching[spare]) % 2 for spare in spares):
        join(*spares)
    for around in touching.values():
        rng.shuffle(around)
    colour = [False] * len(ends)
    used = [False] * len(ends)
    for start in list(touching):
        for edge, side in _circuit(start, touching, ends, used):
            colour[edge] = side
    return colour[: len(edges)]


def _circuit(
    start: Hashable,
    touching: dict[Hashable, list[int]],
    ends: list[tuple[Hashable, Hashable]],
    used: list[bool],
) -> list[tuple[int, bool]]:
    """Walk one circuit from `start` (Hierholzer) and mark each edge by its direction."""
    stack: list[tuple[Hashable, int]] = [(start, -1)]
    walked: list[tuple[Hashable, int]] = []
    while stack:
        here, _ = stack[-1]
        around = touching[here]
        while around and used[around[-1]]:
            around.pop()
        if not around:
            walked.append(stack.pop())
            continue
        edge = around.pop()
        used[edge] = True
        left, right = ends[edge]
        stack.append((right if here == left else left, edge))
    # `walked` ends each edge at the end it leads to: leaving left and entering right, or back.
    return [(edge, ends[edge][1] == end) for end, edge in walked if edge >= 0]


def apart(groups: Sequence[Hashable], rng: random.Random) -> list[int]:
    """Shuffle so that, where it can be, neighbours are of different groups.

    Args:
        groups: the group of each thing.
        rng: the order.

    Returns:
        Positions of `groups` in their new order.
    """
    waiting: dict[Hashable, list[int]] = defaultdict(list)
    for position in rng.sample(range(len(groups)), len(groups)):
        waiting[groups[position]].append(position)
    order: list[int] = []
    last: Hashable = object()
    while len(order) < len(groups):
        open_groups = [group for group in waiting if waiting[group] and group != last]
        if not open_groups:  # only the last one's own are left
            order += waiting[last]
            break
        left = len(groups) - len(order)
        pressing = [group for group in open_groups if 2 * len(waiting[group]) > left]
        sizes = [len(waiting[group]) for group in open_groups]
        last = pressing[0] if pressing else rng.choices(open_groups, sizes)[0]
        order.append(waiting[last].pop())
    return order
