"""How a speed script states a figure: what was measured, its bound, PASS or FAIL; on a FAIL its exit code is 1.

A folder, so that `make speed`, which runs each script beside it, does not take it for one.
"""

import resource
import sys
from pathlib import Path


def peak_memory() -> int:
    """Bytes of this process's peak resident memory, since it was started.

    Linux: from /proc, because `ru_maxrss` also remembers what the parent process held when it started this one.
    """
    return _status("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if sys.platform == "darwin" else 1024
    )


def own_memory() -> int:
    """Bytes resident now that are this process's own, pages of mapped files left out; 0 where the system says none."""
    return _status("RssAnon")


def _status(name: str) -> int:
    """A figure of Linux's /proc in bytes, 0 where there is none."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.is_file() else []
    return 1024 * next((int(line.split()[1]) for line in lines if line.startswith(f"{name}:")), 0)


class Figures:
    """Figures of one script, printed as they come."""

    def __init__(self) -> None:
        self.failed = False

    def say(self, text: str) -> None:
        """A figure without a bound, or what it was measured on."""
        print(f"     {text}", flush=True)

    def least(self, name: str, value: float, bound: float, unit: str = "") -> None:
        """A figure that must be at least its bound."""
        self._judge(name, value, bound, unit, value >= bound, "at least")

    def most(self, name: str, value: float, bound: float, unit: str = "") -> None:
        """A figure that must be at most its bound."""
        self._judge(name, value, bound, unit, value <= bound, "at most")

    def _judge(self, name: str, value: float, bound: float, unit: str, good: bool, word: str) -> None:
        self.failed |= not good
        said = f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
        print(f"{'PASS' if good else 'FAIL'} {name}: {said}{unit}, {word} {bound:,g}{unit}", flush=True)

    def end(self) -> None:
        """Leave the script: exit code 1 if any figure missed its bound."""
        sys.exit(1 if self.failed else 0)
