"""Shops' own catalogues by the name of their form. Must not know stores, methods or tasks."""

import re
import shlex
from dataclasses import dataclass, replace
from pathlib import Path

from ftbench.errors import DataError, unknown
from ftbench.items import Source
from ftbench.sources import DATA

# format: what `ftbench data import` reads
FORMATS = {
    "shopify": "a product export (CSV, or a folder with several)",
    "magento": "a Magento 2 catalogue export (CSV, or a folder with several)",
    "folder": "a folder with products.jsonl and the photographs that it names",
}
_OWN_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Import:
    """A shop's own catalogue as a person names it.

    images: a folder, "download" (Shopify: from the addresses in the export) or a web address (Magento: of the media
    folder); None for what lies beside the export. queries: `query, item_id[, gain]` as TSV; None for those that lie
    beside the export, or else queries made from attributes.
    """

    format: str
    path: Path
    name: str
    images: str | None = None
    queries: Path | None = None

    @property
    def command(self) -> str:
        """What imports the same again, wherever it is typed."""
        images = self.images
        if images and images != "download" and not re.match("https?://", images):
            images = str(Path(images).resolve())
        words = ["ftbench", "data", "import", self.format, str(self.path.resolve()), "--name", self.name]
        words += ["--images", images] if images else []
        return shlex.join(words + (["--queries", str(self.queries.resolve())] if self.queries else []))


def own_name(asked: str | None, path: Path) -> str:
    """The name of a person's own data set: the one asked for, else the file's. Raises DataError for what is no name."""
    name = asked or re.sub(r"[^a-z0-9._-]+", "-", path.resolve().stem.lower()).strip("-._")
    if not _OWN_NAME.fullmatch(name):
        raise DataError(f"--name {name!r}: expected up to 64 of a-z, 0-9, '.', '_' and '-', such as my-shop")
    if name in DATA or name.startswith(("studio", "magento-luma")):
        raise DataError(f"--name {name}: a public data set has this name. Choose another, such as --name my-{name}")
    return name


def import_source(asked: Import, downloads: Path) -> Source:
    """The source of a shop's own catalogue. downloads: the folder for what is fetched. Raises DataError."""
    if asked.format not in FORMATS:
        raise unknown("format", asked.format, FORMATS)
    if asked.queries is not None and not asked.queries.is_file():
        raise DataError(f"--queries {asked.queries}: no such file. Expected a TSV with the header query<TAB>item_id.")
    read = {"shopify": _shopify, "magento": _magento, "folder": _folder}[asked.format]
    source, has_queries = read(asked, downloads / "imports" / asked.name)
    source.info = replace(source.info, command=asked.command)
    if has_queries:
        return source
    from ftbench.sources.attribute_queries import WithAttributeQueries

    return WithAttributeQueries(source)


def _shopify(asked: Import, downloads: Path) -> tuple[Source, bool]:
    from ftbench.sources.shopify import Shopify

    fetched = asked.images == "download"
    folder = None if fetched or asked.images is None else Path(asked.images)
    source = Shopify(asked.path, folder, asked.name, asked.queries, downloads if fetched else None)
    return source, asked.queries is not None


def _magento(asked: Import, downloads: Path) -> tuple[Source, bool]:
    from ftbench.sources.magento import Magento, Photographs

    images = asked.images or ""
    if images == "download":
        raise DataError(
            "--images download: a Magento export has no addresses. Give that of the shop's media folder: "
            "--images https://SHOP/media/catalog/product"
        )
    photographs = Photographs(Path(images) if images else None)
    if re.match("https?://", images):
        photographs = Photographs(address=images, download=downloads)
    source = Magento(asked.path, asked.name, photographs, asked.queries)
    return source, source.has_queries


def _folder(asked: Import, downloads: Path) -> tuple[Source, bool]:
    from ftbench.sources.folder import PRODUCTS, Folder
    from ftbench.sources.folder_queries import has_queries

    for option, value, where in (
        ("--images", asked.images, "products.jsonl names photographs in its own folder"),
        ("--queries", asked.queries, "a folder's queries lie in it, as queries.tsv"),
    ):
        if value is not None:
            raise DataError(f"{option} {value}: {where}; leave {option} out.")
    folder = asked.path.parent if asked.path.name == PRODUCTS else asked.path
    return Folder(folder, asked.name), has_queries(folder)
