"""What a method gives back, looked at before anything is ranked: errors name the method and the item or query.

Must not know what the numbers mean.
"""

from collections.abc import Sequence

import numpy as np

from ftbench.errors import RunError
from ftbench.vectors import MultiVector, Vectors


def vectors(method: str, found: object, ids: Sequence[str], kind: str) -> Vectors:
    """A method's vectors as (n, d) float32, one for each of `ids` (n), or a MultiVector of n items. kind: "item" or
    "query".

    Raises RunError for anything but an array (n, d), or vectors (n, v, d), of finite real numbers.
    """
    wanted = f"({len(ids)}, d) float32, one vector for each {kind}"
    if isinstance(found, MultiVector):
        there = _real(f"the embed of {method}", found.vectors, wanted)[found.weights > 0]
        if len(found) != len(ids):
            raise RunError(f"the embed of {method} gave the vectors of {len(found)} {kind}s, expected {len(ids)}.")
        owners = [ids[i] for i in np.nonzero(found.weights > 0)[0]]
        _finite(f"the embed of {method}", there, owners, kind, "vector")
        return found
    array = _real(f"the embed of {method}", found, wanted)
    if array.ndim != 2 or len(array) != len(ids) or not array.shape[1]:
        raise RunError(f"the embed of {method} gave an array of shape {array.shape}, expected {wanted}.")
    _finite(f"the embed of {method}", array, ids, kind, "vector")
    return array


def alike(method: str, probes: Vectors, gallery: Vectors) -> None:
    """Raises RunError where vectors of probes (…, d) and gallery (…, d) differ in d."""
    widths = [(side.vectors if isinstance(side, MultiVector) else side).shape[-1] for side in (probes, gallery)]
    if widths[0] != widths[1]:
        raise RunError(
            f"the embed of {method} gave queries vectors of {widths[0]} numbers and items vectors of {widths[1]}, "
            "expected as many: both come from one call each of the same function."
        )


def scores(method: str, found: object, query_ids: Sequence[str], item_ids: Sequence[str]) -> np.ndarray:
    """A method's scores as (q, n) float32. Raises RunError for anything but such an array of finite real numbers."""
    wanted = f"({len(query_ids)}, {len(item_ids)}) float32, a score for each query and item"
    array = _real(f"the score of {method}", found, wanted)
    if array.shape != (len(query_ids), len(item_ids)):
        raise RunError(f"the score of {method} gave an array of shape {array.shape}, expected {wanted}.")
    _finite(f"the score of {method}", array, query_ids, "query", "score")
    return array


def _real(what: str, found: object, wanted: str) -> np.ndarray:
    if not isinstance(found, np.ndarray):
        hint = ": end it with .cpu().numpy()" if hasattr(found, "detach") else ""
        raise RunError(f"{what} gave a {type(found).__name__}, expected a numpy array {wanted}{hint}.")
    if found.dtype.kind not in "fiu":
        raise RunError(f"{what} gave an array of {found.dtype}, expected {wanted}.")
    with np.errstate(over="ignore"):  # what overflows is refused, by name
        return found.astype(np.float32, copy=False)


def _finite(what: str, array: np.ndarray, ids: Sequence[str], kind: str, part: str) -> None:
    bad = np.flatnonzero(~np.isfinite(array).all(axis=1))
    if len(bad):
        raise RunError(
            f"{what} gave {kind} {ids[bad[0]]!r} a {part} that is NaN or infinite ({len(bad)} of {len(ids)} such), "
            "expected finite numbers."
        )
