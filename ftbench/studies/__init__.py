"""Studies: questions that several runs or measurements answer together, a module each. Must not know pages.

A module of this folder with a `STUDY` is a study; `ftbench study NAME` makes its cells, findings and figures.
"""

import importlib
import pkgutil

from ftbench.errors import unknown
from ftbench.studies.base import Study


def studies() -> dict[str, Study]:
    """All studies by name, in order of name."""
    modules = [importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)]
    found = [module.STUDY for module in modules if hasattr(module, "STUDY")]
    return {study.name: study for study in sorted(found, key=lambda study: study.name)}


def load_study(name: str) -> Study:
    """A study by name. Raises FtbenchError for one that does not exist."""
    known = studies()
    if name not in known:
        raise unknown("study", name, known)
    return known[name]
