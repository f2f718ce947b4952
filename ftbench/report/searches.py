"""Searches of settings, tuning/<data>/<task>/<method>.json of the results folder, as the page of methods shows them.

Must not know how searches are made. Such files may come from others: they are checked whole, and all texts are escaped.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from ftbench import schema
from ftbench.errors import DataError, several
from ftbench.report import words

FOLDER = "tuning"
_LARGEST = 1_000_000  # bytes of a file


@dataclass(frozen=True)
class Search:
    """A search. told: as its file has it."""

    told: Mapping

    @property
    def method(self) -> str:
        return self.told["method"]["name"]

    @property
    def title(self) -> str:
        return f"{self.told['task']['title']}, {self.told['data']['name']}"

    @property
    def trials(self) -> str:
        """8 trials at 0.25 of the budget, 4 at 0.5"""
        rungs = self.told["rungs"]
        first = words.plural(rungs[0]["trials"], "trial")
        if rungs[0]["budget"] is None:
            return first
        return ", ".join([f"{first} at {rungs[0]['share']:g} of the budget",
                          *(f"{rung['trials']} at {rung['share']:g}" for rung in rungs[1:])])  # fmt: skip

    @property
    def heads(self) -> list[str]:
        """What stands over the score of each rung."""
        measure = words.measure(self.told["task"]["headline"])
        return [measure if r["budget"] is None else f"{measure} at {r['share']:g}" for r in self.told["rungs"]]

    @property
    def gain(self) -> str:
        """+0.029, 95% interval +0.003 to +0.072, p = 0.032; what else there is to say where nothing was gained."""
        chosen = self.told["chosen"]
        if chosen["difference"] is None:
            return "none of the others was better" if chosen["trial"] == 1 else "the defaults failed"
        difference, low, high = (words.signed(chosen[name]) for name in ("difference", "low", "high"))
        p = words.p_value(chosen["p"])
        return f"{difference}, 95% interval {low} to {high}, p {p if p.startswith('<') else f'= {p}'}"

    @property
    def keys(self) -> list[str]:
        return list(self.told["trials"][0]["settings"])

    def cell(self, trial: Mapping, key: str) -> tuple[str, bool]:
        """A setting of a trial as typed, and whether it is the default."""
        value = trial["settings"][key]
        return typed(value), value == self.told["trials"][0]["settings"][key]


def typed(value: object) -> str:
    """A setting as `--set` takes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def searches(results: Path) -> list[Search]:
    """All searches of a results folder, by data set, task and method. Raises DataError listing what is wrong with all
    of them."""
    found, wrong = [], []
    root = Path(results) / FOLDER
    for path in sorted(root.glob("*/*/*.json")):
        try:
            told = json.loads(_text(path), parse_constant=_refuse)
        except (OSError, ValueError, RecursionError) as problem:
            wrong.append(f"{path.relative_to(root)}: {problem}")
            continue
        problems = _problems(told) or _apart(told, path)
        wrong += [f"{path.relative_to(root)}: {problem}" for problem in problems]
        found.append(Search(told))
    if wrong:
        raise several(f"searches in {root}", wrong, DataError, "Make them again: ftbench tune --force", most=50)
    return found


def _text(path: Path) -> str:
    if path.is_symlink():
        raise ValueError("it is a link, expected a file")
    if (size := path.stat().st_size) > _LARGEST:
        raise ValueError(f"it has {size:,} bytes, expected at most {_LARGEST:,}")
    return path.read_text(encoding="utf-8")


def _refuse(name: str) -> None:
    raise ValueError(f"it holds {name}, expected finite numbers")


def _schema() -> dict:
    return json.loads(files("ftbench.report").joinpath("tuning.schema.json").read_text(encoding="utf-8"))


@cache
def _accepts() -> schema.Check:
    return schema.compiled(_schema())


def _problems(told: object) -> list[str]:
    """What is wrong with the parts of a search."""
    if _accepts()(told):
        return []
    from jsonschema import Draft202012Validator

    errors = sorted(Draft202012Validator(_schema()).iter_errors(told), key=lambda e: str(list(e.absolute_path)))
    return [f"{'.'.join(map(str, e.absolute_path)) or 'search'}: {e.message[:200]}" for e in errors]


def _apart(told: Mapping, path: Path) -> list[str]:
    """What of a search's parts does not fit together."""
    found = []
    place = (told["data"]["name"], told["task"]["name"], told["method"]["name"])
    if (*path.parts[-3:-1], path.stem) != place:
        found.append(f"it is of {', '.join(place)}, expected the file {'/'.join(place)}.json")
    keys, rungs, chosen = set(told["trials"][0]["settings"]), len(told["rungs"]), told["chosen"]
    for number, trial in enumerate(told["trials"], start=1):
        if set(trial["settings"]) != keys:
            found.append(f"trial {number} has other settings than trial 1, which is the defaults")
        if len(trial["scores"]) != rungs:
            found.append(f"trial {number} has {len(trial['scores'])} scores, expected {rungs}: one per rung")
    if chosen["trial"] > len(told["trials"]):
        return [*found, f"trial {chosen['trial']} is chosen, there are {len(told['trials'])}"]
    best, start = told["trials"][chosen["trial"] - 1], told["trials"][0]
    if not found and chosen["settings"] != {k: v for k, v in best["settings"].items() if v != start["settings"][k]}:
        found.append(f"chosen.settings are not those in which trial {chosen['trial']} differs from the defaults")
    if not found and (chosen["score"], chosen["default"]) != (best["scores"][-1], start["scores"][-1]):
        found.append(
            f"chosen.score and chosen.default are not those of trials {chosen['trial']} and 1 at the last rung"
        )
    gains = [chosen[name] for name in ("difference", "low", "high", "p")]
    if len({gain is None for gain in gains}) > 1:
        found.append("chosen: expected difference, low, high and p, or null for all of them")
    return found
