"""Numbers and names as a page shows them. Rounding happens here and nowhere else."""

import re
import textwrap

GAP = "—"
_SHOWN = {"ndcg": "nDCG", "rr": "RR", "ap": "AP", "p": "precision"}
HOLES = "A row may be separable from the best though a lower one, which varies more from query to query, is not."
_MEANING = {
    "ndcg": "nDCG at {k}: graded gains, discounted by rank, against the best possible order",
    "recall": "Share of the relevant items found among the first {k}",
    "hit": "Share of queries with any relevant item among the first {k}",
    "rr": "One over the rank of the first relevant item, 0 beyond {k}",
    "ap": "Mean precision at the ranks of the relevant items, to rank {k}",
    "p": "Share of the first {k} that is relevant",
}


def score(value: float | None) -> str:
    """Three decimals: 0.439."""
    return GAP if value is None else f"{value:.3f}"


def signed(value: float | None) -> str:
    """A difference, three decimals: +0.032, −0.004; 0.000 without a sign."""
    if value is None:
        return GAP
    text = f"{abs(value):.3f}"
    return text if float(text) == 0 else ("+" if value > 0 else "−") + text


def interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{low:.3f}–{high:.3f}"


def number(value: float | None) -> str:
    """Three significant digits with a unit of thousands: 0.13, 38.4, 1,240, 52.1k, 1.20M."""
    if value is None:
        return GAP
    if value == 0:
        return "0"
    size = abs(value)
    for limit, scale, unit in ((1e15, 1e15, "P"), (1e12, 1e12, "T"), (1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if size >= limit:
            return f"{_significant(value / scale)}{unit}"
    return f"{value:,.0f}" if size >= 1000 or float(value).is_integer() else _significant(value)


def _significant(value: float) -> str:
    for least, decimals in ((99.95, 0), (9.995, 1), (0.0995, 2)):
        if abs(value) >= least:
            return f"{value:.{decimals}f}"
    return f"{value:.2g}"


def amount(value: float | None) -> str:
    """Three significant digits, trailing zeros kept, so that a column is written alike: 0.0190, 6.00, 384, 52.1k."""
    if value is None or value == 0 or abs(value) >= 999.5:
        return number(value and (round(value) if abs(value) < 1e4 else value))
    decimals, limit = 0, 99.95
    while abs(value) < limit and decimals < 12:
        decimals, limit = decimals + 1, limit / 10
    return f"{value:.{decimals}f}"


def size(value: float | None) -> str:
    """Bytes: 512 B, 1.50 KB, 2.10 GB."""
    if value is None:
        return GAP
    for limit, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "KB")):
        if value >= limit:
            return f"{_significant(value / limit)} {unit}"
    return f"{value:.0f} B"


def p_value(value: float | None) -> str:
    return GAP if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def measure(name: str) -> str:
    """ndcg@10 as nDCG@10."""
    kind, _, depth = name.partition("@")
    return f"{_SHOWN.get(kind, kind)}@{depth}"


def meaning(name: str) -> str:
    """What a measure says, in words."""
    kind, _, depth = name.partition("@")
    return _MEANING[kind].format(k=depth) if kind in _MEANING else name


def spaced(name: str) -> str:
    """needs_aux_image as words: needs auxiliary image."""
    return re.sub(r"\baux\b", "auxiliary", name.replace("_", " ").replace("-", " "))


def plural(count: int, one: str, many: str | None = None) -> str:
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def records(count: int, failed: int) -> str:
    """19 records, 14 of them failed."""
    return plural(count, "record") + (f", {failed:,} of them failed" if failed else "")


def lines(text: str, width: int = 20) -> list[str]:
    """A label broken into short lines, for a figure."""
    return textwrap.wrap(text, width, break_on_hyphens=False) or [text]
