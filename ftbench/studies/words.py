"""How findings say numbers: signed differences with their intervals, lists, verdicts. Must not know any study."""

from ftbench.studies.base import Difference

LEVEL = 0.05  # of Holm's adjusted p-values
TITLES = {"query2item": "nDCG@10 on query2item", "cross_view": "recall@10 on cross_view"}


def signed(value: float) -> str:
    """+0.012; a difference that rounds to nothing has no sign.

    >>> signed(0.0123), signed(-0.5), signed(-0.0001)
    ('+0.012', '-0.500', '0.000')
    """
    shown = f"{value:+.3f}"
    return "0.000" if shown in ("+0.000", "-0.000") else shown


def interval(found: Difference) -> str:
    """+0.012 (95% interval +0.004 to +0.020)."""
    return f"{signed(found.mean)} (95% interval {signed(found.low)} to {signed(found.high)})"


def chance(p: float) -> str:
    """p = 0.03 or p < 0.001, of Holm's adjusted p-values."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def certain(found: Difference, p: float) -> bool:
    """Whether a difference is one beyond doubt: by Holm's adjusted p over queries, and by an interval over queries and
    seeds without 0."""
    return p < LEVEL and (found.low > 0 or found.high < 0)


def ahead(found: Difference, p: float) -> bool:
    """Whether it is certain and positive."""
    return found.low > 0 and certain(found, p)


def verdict(claim: str, holds: bool) -> str:
    """A claim with its verdict, as a sentence."""
    return f"Claim: {claim}. It {'holds' if holds else 'does not hold'} here."
