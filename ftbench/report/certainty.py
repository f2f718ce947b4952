"""Intervals and rank groups of all tables of a board at once, from values by query. Must not know records or rows.

What costs is drawing: values of one shape share the resamples, tables with equally many queries share the permutations.
"""

from collections.abc import Sequence

import numpy as np

from ftbench import scores, stats

_SEED = 20250102  # of the permutations behind rank groups; any constant would do


def intervals(stacks: Sequence[np.ndarray | None]) -> list[tuple[float, float] | None]:
    """The 95% interval of the mean of each stack (s, u) of values, seeds by units; None for None."""
    alike: dict[tuple, list[int]] = {}
    for place, stack in enumerate(stacks):
        if stack is not None:
            alike.setdefault(stack.shape, []).append(place)
    found: list[tuple[float, float] | None] = [None] * len(stacks)
    for places in alike.values():
        ends = scores.intervals(np.stack([stacks[place] for place in places]))  # (m, s, u) -> (m, 2)
        for place, (low, high) in zip(places, ends.tolist(), strict=True):
            found[place] = (low, high)
    return found


def against_leaders(tables: Sequence[np.ndarray | None]) -> list[np.ndarray | None]:
    """Holm-adjusted p-values (r,) of the rows of each table (r, u) against its leader; None for None."""
    alike: dict[int, list[int]] = {}
    for place, means in enumerate(tables):
        if means is not None:
            alike.setdefault(means.shape[1], []).append(place)
    found: list[np.ndarray | None] = [None] * len(tables)
    for places in alike.values():
        adjusted = stats.against_leaders([tables[place] for place in places], np.random.default_rng(_SEED))
        for place, p_values in zip(places, adjusted, strict=True):
            found[place] = p_values
    return found
