"""The errors a user can cause and read. Knows nothing of the rest of ftbench."""

import difflib
import traceback
from collections.abc import Iterable, Sequence
from pathlib import Path

_FEW = 12  # names that are listed even beside near ones
_SHORT = 100  # characters of a line of code that is shown


class FtbenchError(Exception):
    """A mistake a person can mend: the message says what was given, what was expected, what to type next."""


class DataError(FtbenchError):
    """A data set, a file or a row that cannot be used as it is."""


class RunError(FtbenchError):
    """A run that cannot be started or finished with what was asked."""


class MethodError(RunError):
    """A method whose file is there but cannot be used. Other runs of a command go on without it."""


class SettingsError(RunError):
    """Settings that a method does not have or cannot take. Other runs of a command go on."""


def unknown(kind: str, given: str, known: Iterable[str], hint: str = "") -> FtbenchError:
    """An error for a name that does not exist, with the nearest names that do, or all where none is near."""
    known = sorted(known)
    near = difflib.get_close_matches(given, known, n=3, cutoff=0.5)
    lines = [f"unknown {kind} {given!r}."]
    if near:
        lines.append("Did you mean " + " or ".join(repr(n) for n in near) + "?")
    if not near or len(known) <= _FEW:
        lines.append(f"Known: {', '.join(known)}." if known else f"There is no {kind}.")
    if hint:
        lines.append(hint)
    return FtbenchError(" ".join(lines))


def place(problem: BaseException, files: Iterable[Path]) -> str:
    """` (line 9 of my_method.py: return views.pictures)`: the last line of some files that an exception came through,
    named without folders, since records are public; "" where it came through none of them."""
    names = {str(file) for file in files}
    frames = [frame for frame in traceback.extract_tb(problem.__traceback__) if frame.filename in names]
    if not frames:
        return ""
    code = f": {frames[-1].line}" if frames[-1].line and len(frames[-1].line) <= _SHORT else ""
    return f" (line {frames[-1].lineno} of {Path(frames[-1].filename).name}{code})"


def counted(count: int, what: str) -> str:
    """1 record, 1,234 records."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def listed(names: Sequence[str], none: str = "none") -> str:
    """a, b and c.

    >>> listed(["a", "b", "c"]), listed(["a"]), listed([])
    ('a, b and c', 'a', 'none')
    """
    if not names:
        return none
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def duration(seconds: float) -> str:
    """45 s, 12 min, 1.6 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def several(
    what: str, problems: list[str], error: type[FtbenchError] = FtbenchError, hint: str = "", most: int = 1000
) -> FtbenchError:
    """One error for all the problems of one file or command, so that a person mends them in one go.

    hint: what to do about them, no problem itself. most: problems that are listed; the others are counted.
    """
    left = [f"  - and {len(problems) - most:,} more"] if len(problems) > most else []
    if len(problems) == 1:
        text = f"{what}: {problems[0]}"
    else:
        shown = [f"  - {problem}" for problem in problems[:most]]
        text = "\n".join([f"{what}: {counted(len(problems), 'problem')}", *shown, *left])
    return error(f"{text}\n{hint}" if hint else text)
