"""Numbers as text and page show them. Must not know how facts are counted or laid out."""


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
