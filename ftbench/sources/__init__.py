"""Data families: each turns one kind of raw data into items and queries. Must not know stores, methods or tasks."""

import re
from pathlib import Path

from ftbench.errors import DataError, unknown
from ftbench.items import Source

DATA = {
    "studio": "drawn catalogue, in the package: 4,000 train, 500 valid, 2,000 test items (studio@N: N items in all)",
    "studio-confirm": "the same generator with a reserved seed: scored once, to confirm the committed board",
    "magento-luma": "a real store's catalogue with photographs (Magento 2 sample data)",
    "magento": "your own shop's Magento 2 export: ftbench data prepare magento --source FOLDER",
}


def check_name(name: str) -> None:
    """Raise FtbenchError with near matches for a data set's name that does not exist."""
    base = re.sub(r"@.*$", "", name)
    if base not in DATA or ("@" in name and base.startswith("magento")):
        raise unknown("data set", name, DATA, "See: ftbench list data")
    if base.startswith("studio"):
        from ftbench.sources.studio import parse_name

        parse_name(name)


def source_for(name: str, folder: Path | None = None) -> Source:
    """The source behind a data set's name. `folder` is where a source with files of its own lies.

    Raises FtbenchError with near matches for a name that does not exist.
    """
    check_name(name)
    base = re.sub(r"@.*$", "", name)
    if base.startswith("studio"):
        from ftbench.sources.studio import parse_name

        return parse_name(name)
    if base == "magento":
        from ftbench.sources.magento import Magento

        if folder is None:
            raise DataError(
                "magento reads a folder with your export's CSV files, pub/media/catalog/product beside them, and maybe "
                "queries.tsv. Name it: ftbench data prepare magento --source FOLDER"
            )
        return Magento(folder)
    from ftbench.sources.magento_luma import Luma

    return Luma(folder)
