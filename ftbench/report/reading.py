"""The values of a whole board's records, checked against what the records say. Must not know rows or pages.

Without its run file a record has no values; one whose headline is not what its run file gives is wrong.
"""

import itertools
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ftbench.errors import DataError
from ftbench.items import Progress
from ftbench.report import beside, queries

LEFT_OUT, UNCHECKED = "It is left out of the board", "It is shown without an interval"  # ends of texts on records
ROUNDING = 1e-9  # a record's mean and that of its run file's values differ by less: they are added up otherwise

Records = Sequence[tuple[Path, Mapping]]  # of one task and data set, with where they lie


@dataclass(frozen=True)
class Read:
    """What run files give. values: by record id; missing: by path, why it has none, or is wrong; wrong: which are."""

    values: dict[str, queries.Values | None] = field(default_factory=dict)
    missing: dict[Path, str] = field(default_factory=dict)
    wrong: set[Path] = field(default_factory=set)


def read_all(groups: Mapping[Hashable, Records], progress: Progress) -> dict[Hashable, Read]:
    """The run files of the finished records of several groups, about half of them in a process beside this one."""
    done = {name: [one for one in group if one[1]["status"] == "ok"] for name, group in groups.items()}
    size = {name: sum(record["run_file"]["bytes"] for _, record in group) for name, group in done.items()}
    halves: tuple[list, list] = [], []
    for name in sorted(done, key=lambda name: -size[name]):
        min(halves, key=lambda half: sum(size[other] for other in half)).append(name)
    total, count = sum(map(len, done.values())), itertools.count(1)
    others = beside.begun(lambda: {name: _read(done[name], lambda: None) for name in halves[1]})
    found = {name: _read(done[name], lambda: progress(next(count), total)) for name in halves[0]} | others()
    if total:
        progress(total, total)
    return found


def _read(group: Records, report: Callable[[], None]) -> Read:
    read = Read()
    for (path, record), found in zip(group, queries.read(group), strict=True):
        if isinstance(found, DataError):
            read.missing[path] = f"{found} {UNCHECKED}."
        elif text := _difference(path, record, found):
            read.missing[path] = text
            read.wrong.add(path)
        else:
            read.values[record["id"]] = found
        report()
    return read


def _difference(path: Path, record: Mapping, found: queries.Values | None) -> str:
    """Why a record's headline does not follow from the values of its run file; "" where it does, or is null."""
    headline = record["task"]["headline"]
    told = record["scores"][headline]["mean"]
    if found is None or abs(found[1].mean() - told) < ROUNDING:
        return ""
    return (
        f"{path}: the record says {headline} {told:.6g}, its run file gives {found[1].mean():.6g}. {LEFT_OUT}. "
        f"What else differs: ftbench rescore {path}"
    )
