"""ftbench: a reproducible benchmark of retrieval over products with several images and several texts."""

from pathlib import Path

__version__ = "0.1.0"

# In a bare checkout `baselines`, `tasks` and `results` lie beside this folder; installed, they lie inside it.
if not (Path(__file__).parent / "baselines").is_dir():
    __path__.append(str(Path(__file__).parent.parent))
