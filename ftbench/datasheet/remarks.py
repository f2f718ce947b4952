"""Sentences and numbers that text and page share. Must not know how facts are counted or laid out."""

from ftbench.leaks import NEAR_BITS, Contamination, Near


def percent(part: float, whole: float) -> str:
    """A share as percent: 0%, < 0.1%, 4.7%, 100%; 0% and 100% only where they are exact."""
    if not part or not whole:
        return "0%"
    share = 100 * part / whole
    if part < whole and share >= 99.95:
        return "> 99.9%"
    return "100%" if part == whole else "< 0.1%" if share < 0.05 else f"{share:.1f}%"


def number(value: float) -> str:
    """A median or percentile: whole where it is, else one decimal."""
    return f"{value:,.0f}" if round(value, 1).is_integer() or value >= 100 else f"{value:.1f}"


def gain(value: float) -> str:
    """A gain without trailing zeros: 3, 0.1, 0.01."""
    return f"{value:g}"


def near(found: Near) -> str:
    """What near-duplicate photographs there are across splits."""
    text = (
        f"{found.images:,} of {found.compared:,} photographs are within {NEAR_BITS} bits of 64 of one in another split"
    )
    if found.checked and found.same:
        text += f"; of {found.checked:,} pairs looked at, {found.same:,} show the same picture"
    elif found.checked:
        text += f"; none of the {found.checked:,} pairs looked at is the same picture, only a like pose or layout"
    if found.blank:
        text += f"; {found.blank:,} nearly blank ones are left out"
    return text


def contaminated(found: Contamination) -> str:
    """How many queries stand word for word in what they should find."""
    share = percent(found.verbatim, found.queries)
    return (
        f"{found.verbatim:,} of {found.queries:,} {found.split} queries ({share}) occur word for word in the text of a "
        f"relevant item, {found.longer:,} of them with three words or more"
    )
