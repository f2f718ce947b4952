"""Which records a person means: by path, by name, by digits of an id, or by method, task, data and seed."""

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from ftbench import record as records
from ftbench.errors import FtbenchError, counted

Found = tuple[Path, dict]


def named(results: Path, given: str) -> Found:
    """The record that a person names: by its path, its file's name with or without ending, or digits of its id (4 at
    least), or by its method where that has one record.

    Raises FtbenchError where there is none, with the nearest names or those of the method that is named, where there
    are several, and for a run file.
    """
    if given.endswith(".parquet"):
        beside = Path(given).with_suffix(".json").name
        known = records.FILE_NAME.fullmatch(beside) is not None and not beside.startswith("judgements-")
        raise FtbenchError(f"{given}: that is {'a run file' if known else 'no record'}. "
                           f"Name the record: {beside if known else 'METHOD-ID.json'}")  # fmt: skip
    if Path(given).is_file():
        return Path(given), records.read(Path(given))
    name = Path(given).name.removesuffix(".json").removesuffix(".html")
    digits = name.lower() if re.fullmatch(r"[0-9a-fA-F]{4,64}", name) else None
    stems = {path.stem: path for path in sorted(Path(results).glob("*/*/*.json"))}
    found = [stem for stem in stems if stem == name or (digits and _begins(stem, digits))]
    if len(found) > 1:
        raise FtbenchError(f"{given!r} names {len(found)} records: {_some(found)}. Type more digits of the id, "
                           "or the whole name of one.")  # fmt: skip
    if found:
        path, record = stems[found[0]], records.read(stems[found[0]])
        if digits is None or record["id"].startswith(digits):
            return path, record
    of_method = _of_method(results, name)
    if len(of_method) > 1:
        raise _several(results, name, of_method, "Type one of these ids.")
    if of_method:
        return of_method[0]
    near = difflib.get_close_matches(name, stems, n=3, cutoff=0.5)
    said = "Did you mean " + " or ".join(near) + "? " if near else ""
    example = next(iter(stems), "bm25-0123456789ab")
    raise FtbenchError(f"unknown record {given!r} in {results}. {said}Expected a path, a file's name such as "
                       f"{example}, or the first digits of an id; another folder: --results DIR")  # fmt: skip


def seeds(results: Path, given: str, where: Mapping[str, object]) -> list[Found]:
    """The record that a person names; of the name of a method, all seeds of its one setting, in order.

    where: the task, data and seed that are asked for, as far as they are: {"task": "query2item", "seed": 0}. Raises
    FtbenchError as `named` does, where no record has these, and where records of several settings have.
    """
    known = _of_method(results, given) or [named(results, given)]
    found = [one for one in known if where.items() <= _place(one[1]).items()]
    if not found:
        asked = " ".join(f"--{name} {value}" for name, value in where.items())
        raise FtbenchError(f"{given} has no record in {results} of {asked}. It has:\n{_listed(known)}")
    if len({records.canonical_json(records.key(record) | {"seed": None}) for _, record in found}) > 1:
        places = [_place(record) for _, record in found]
        unsaid = [name for name in ("task", "data") if len({place[name] for place in places}) > 1]
        narrower = " ".join(f"--{name} {places[0][name]}" for name in unsaid)
        hint = f"narrow it, such as {narrower}" if unsaid else "one with --all-seeds for its whole line"
        raise _several(results, given, found, f"Type one of these ids, or {hint}.")
    return found


def _place(record: Mapping) -> dict:
    return {"task": record["task"]["name"], "data": record["data"]["name"], "seed": record["seed"]}


def _of_method(results: Path, name: str) -> list[Found]:
    """The records of a method, in order of task, data and seed; reproductions are named in full."""
    paths = [path for path in Path(results).glob("*/*/*.json") if path.stem.rpartition("-")[0] == name]
    found = [(path, records.read(path)) for path in paths]
    return sorted(found, key=lambda one: (*_place(one[1]).values(), one[1]["id"]))


def _several(results: Path, name: str, found: Sequence[Found], hint: str) -> FtbenchError:
    many = counted(len(found), "record")
    return FtbenchError(f"{name!r} is a method with {many} in {results}:\n{_listed(found)}\n{hint}")


def _listed(found: Sequence[Found]) -> str:
    """A line for each task, data and setting, with the seeds and their ids."""
    settings: dict[tuple[str, str], list[dict]] = {}
    lines: dict[tuple[str, str, int], list[str]] = {}
    for _, record in found:
        place, own = _place(record), {"track": record["track"], "board": record["board"], **record["method"]["config"]}
        where = place["task"], place["data"]
        known = settings.setdefault(where, [])
        if own not in known:
            known.append(own)
        lines.setdefault((*where, known.index(own)), []).append(f"seed {place['seed']} {record['id'][:12]}")
    told = []
    for (task, data, which), own in lines.items():
        others = settings[task, data]
        apart = [
            f"{name} {value}" for name, value in others[which].items() if any(o.get(name) != value for o in others)
        ]
        told.append(f"  {', '.join([task, data, *apart])}: {', '.join(own)}")
    return "\n".join(told)


def _some(names: list[str]) -> str:
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")


def _begins(stem: str, digits: str) -> bool:
    """Whether the id in a record's file name may begin with these digits; a reproduction is named in full."""
    short = stem.rpartition("-")[2]
    return ".repro-" not in stem and (short.startswith(digits) or (len(digits) > 12 and digits.startswith(short)))
