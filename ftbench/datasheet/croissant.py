"""The datasheet as Croissant JSON-LD, the metadata format of MLCommons for data sets. Must not know HTML.

Source of the vocabulary: Croissant Format Specification 1.0 (MLCommons, 2024); checked with its own `mlcroissant`.
"""

import re

from ftbench.catalogue import TABLES, Catalogue
from ftbench.datasheet.counts import Facts
from ftbench.items import SPLITS

_CONTEXT = {  # as the specification prints it
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
_ARROW = "application/vnd.apache.arrow.stream"  # IANA media type of what `datasets` writes
_SPLIT_URLS = {"train": "cr:TrainingSplit", "valid": "cr:ValidationSplit", "test": "cr:TestSplit"}
# Licences by what a source may call them -> SPDX identifier (https://spdx.org/licenses/)
_SPDX = {
    r"Apache[- ]2\.0": "Apache-2.0", r"OSL[- ]3\.0": "OSL-3.0", r"AFL[- ]3\.0": "AFL-3.0", r"\bMIT\b": "MIT",
    r"CC[- ]BY[- ]4\.0": "CC-BY-4.0", r"CC[- ]BY[- ]NC[- ]4\.0": "CC-BY-NC-4.0", r"CC0[- ]1\.0": "CC0-1.0",
}  # fmt: skip
_KEYS = {"items": ("item_id",), "queries": ("query_id",)}
_REFERENCES = {"item_id": "items/item_id", "query_id": "queries/query_id", "split": "splits/name"}
_MEANING = {
    "items": "One row for each item. images and texts are row numbers in the tables of those names, primary first.",
    "images": "One row for each image view; item is the row number of its item.",
    "texts": "One row for each text view; item is the row number of its item.",
    "queries": "Shoppers' texts; slices name the groups of queries that scores are given for.",
    "judgements": "The gain of an item for a query; pairs that are not listed have gain 0.",
    "interactions": "Train queries with the train item that each led to.",
    "splits": "Items are split by a hash of their group, queries by a hash of their text.",
}


def croissant(facts: Facts, catalogue: Catalogue) -> dict:
    """The metadata as JSON-LD: names, counts and hashes of the prepared files; none of the data's texts."""
    made = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": ["http://mlcommons.org/croissant/1.0", "http://mlcommons.org/croissant/RAI/1.0"],
        "name": facts.name,
        "alternateName": facts.title,
        "description": facts.description,
        "version": _semantic(facts.version),
        "license": licences(facts.licence),
        "keywords": ["product retrieval", "e-commerce", "multi-image", "multi-view", "benchmark"],
        "isLiveDataset": False,
        "citeAs": f"{facts.title}, as prepared by ftbench: {facts.version}, fingerprint {facts.fingerprint}",
        "identifier": facts.fingerprint,
        "distribution": [_file(*about) for about in facts.files],
        "recordSet": [_splits(), *(_record_set(name, catalogue) for name in TABLES)],
    }
    if facts.disclosures:
        made["rai:dataLimitations"] = list(facts.disclosures)
    if not facts.redistributable:
        made["conditionsOfAccess"] = (
            "Pictures and texts may not be redistributed: whoever wants the data fetches it from its source."
        )
    return made


def _semantic(version: str) -> str:
    """studio-v1 as 1.0.0, the form that the specification asks for; any other name as it is."""
    found = re.search(r"-v(\d+)$", version)
    return f"{found[1]}.0.0" if found else version


def licences(text: str) -> list[str]:
    """SPDX addresses of the licences that a text names, or the text itself where it names none that are known."""
    found = [f"https://spdx.org/licenses/{name}.html" for pattern, name in _SPDX.items() if re.search(pattern, text)]
    return found or [text]


def _file(name: str, size: int, sha256: str) -> dict:
    return {
        "@type": "cr:FileObject",
        "@id": name,
        "name": name,
        "contentUrl": name,
        "contentSize": f"{size} B",
        "encodingFormat": _ARROW,
        "sha256": sha256,
    }


def _splits() -> dict:
    fields = [("name", "sc:Text", "Name of the split."), ("url", "sc:URL", "What the split is for.")]
    return {
        "@type": "cr:RecordSet",
        "@id": "splits",
        "name": "splits",
        "description": _MEANING["splits"],
        "dataType": "cr:Split",
        "key": {"@id": "splits/name"},
        "field": [
            {"@type": "cr:Field", "@id": f"splits/{name}", "name": name, "description": text, "dataType": kind}
            for name, kind, text in fields
        ],
        "data": [{"splits/name": split, "splits/url": _SPLIT_URLS[split]} for split in SPLITS],
    }


def _record_set(table: str, catalogue: Catalogue) -> dict:
    made = {
        "@type": "cr:RecordSet",
        "@id": table,
        "name": table,
        "description": _MEANING[table],
        "field": [_field(table, column) for column in catalogue.table(table).schema],
    }
    if table in _KEYS:
        made["key"] = [{"@id": f"{table}/{name}"} for name in _KEYS[table]]
    return made


def _field(table: str, column) -> dict:
    import pyarrow as pa

    repeated = pa.types.is_list(column.type) or pa.types.is_large_list(column.type)
    made = {
        "@type": "cr:Field",
        "@id": f"{table}/{column.name}",
        "name": column.name,
        "dataType": _data_type(column.type.value_type if repeated else column.type, column.name),
        "source": {"fileObject": {"@id": f"{table}.arrow"}, "extract": {"column": column.name}},
    }
    if repeated:
        made["repeated"] = True
    target = _REFERENCES.get(column.name)
    if target and target != made["@id"]:
        made["references"] = {"field": {"@id": target}}
    return made


def _data_type(kind, name: str) -> str:
    import pyarrow as pa

    if name == "data":
        return "sc:ImageObject"
    if pa.types.is_boolean(kind):
        return "sc:Boolean"
    if pa.types.is_integer(kind):
        return "sc:Integer"
    return "sc:Float" if pa.types.is_floating(kind) else "sc:Text"
