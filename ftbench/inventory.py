"""What there is: lists and descriptions for `ftbench list` and `describe`, and checks and sheets of data sets.

Must not know how runs are made.
"""

import ast
import inspect
from collections import Counter
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from textwrap import fill

from ftbench.errors import DataError, FtbenchError, several, unknown
from ftbench.items import SPLITS, Progress, View, normalize_query
from ftbench.sources import DATA, source_for
from ftbench.store import Catalogue, open_catalogue, prepare

_WIDTH = 100  # of prose on a terminal
WHAT = ("methods", "tasks", "data", "encoders")


def _first_line(thing: object) -> str:
    return (inspect.getdoc(thing) or "").partition("\n")[0]


def listing(what: str) -> list[tuple[str, str]]:
    """(name, one line) for each method, task, data set or encoder."""
    if what == "data":
        return list(DATA.items())
    if what == "encoders":
        from ftbench.encoders.base import ENCODERS

        return list(ENCODERS.items())
    if what == "tasks":
        from ftbench.task import load_task, task_names

        return [(name, load_task(name, "studio").summary) for name in task_names()]
    if what == "methods":
        from ftbench.method import load_method, method_names

        return [(name, _first_line(inspect.getmodule(type(load_method(name))))) for name in method_names()]
    raise unknown("list", what, WHAT)


def description(name: str) -> str:
    """A page about one method, task, data set or encoder."""
    from ftbench.encoders.base import ENCODERS
    from ftbench.method import load_method, method_names
    from ftbench.task import load_task, task_names
    from ftbench.trainer import TrainerConfig

    if name in method_names() or name.endswith(".py"):
        method = load_method(name)
        said = ast.get_docstring(ast.parse(method.path.read_text(encoding="utf-8"))) or "It has no docstring."
        lines = [f"Method {method.name}", "", said, "",
                 "Settings (--set KEY=VALUE), with unit and origin:", *_settings(type(method.config))]  # fmt: skip
        if method.trained:
            lines += ["", "Shared by all trained methods (--set trainer.KEY=VALUE):", *_settings(TrainerConfig)]
        return "\n".join(lines)
    if name in task_names() or name.endswith(".toml"):
        task = load_task(name, "studio")
        lines = [f"Task {task.name}: {task.summary}", f"Track {task.track}, headline {task.headline}.",
                 f"Measures: {', '.join(task.measures)}.",
                 f"Gallery: {'all items' if task.gallery == 'all' else 'test items'} (a data set may differ); an item "
                 f"counts as relevant from gain {task.relevant_from:g}."]  # fmt: skip
        return "\n".join(lines + [f"  {pair.title}  ({pair.name})" for pair in task.pairs])
    if name.partition("@")[0] in DATA:
        if name.startswith("studio"):
            source_for(name)  # says what is wrong with a size
        found = open_catalogue(name, verify=False)
        if found is None:
            folder = " --source FOLDER" if name.startswith("magento") else ""
            line = DATA[name.partition("@")[0]]
            return f"{name}: {line}\nNot prepared here yet: ftbench data prepare {name}{folder}"
        return data_summary(found)
    if name in ENCODERS or "/" in name:
        return f"Encoder {name}: {ENCODERS.get(name) or ENCODERS['MODEL/PRETRAINED']}"
    raise unknown("name", name, [*method_names(), *task_names(), *DATA, "tiny", "lite"])


def _settings(config: type) -> list[str]:
    """The fields of a dataclass as its source gives them, comments included."""
    names = {field.name for field in fields(config)}
    lines = [line.strip() for line in inspect.getsource(config).splitlines()] if names else []
    return [f"  {line}" for line in lines if line.partition(":")[0] in names] or ["  none"]


def data_summary(catalogue: Catalogue) -> str:
    """Counts, licence, what was dropped and disclosures of a prepared data set."""
    info, manifest = catalogue.info, catalogue.manifest
    counts = manifest["counts"]
    views = catalogue.view_ids("image")
    lines = [
        f"{info.name} ({info.version}): {info.title}",
        fill(info.description, _WIDTH),
        "",
        f"items       {counts['items']:,}  (" + ", ".join(f"{split} {counts[split]:,}" for split in SPLITS) + ")",
        f"images      {counts['images']:,}  ({(views >= 0).sum(axis=1).mean():.1f} per item)",
        f"texts       {counts['texts']:,}",
        f"queries     {counts['queries']:,}  "
        f"({counts['judgements']:,} judgements, {counts['interactions']:,} interactions)",
        f"licence     {info.licence}",
        f"fingerprint {manifest['fingerprint']}",
        f"folder      {catalogue.folder}",
    ]
    lines += [f"dropped     {count:,}  {reason}" for reason, count in manifest["dropped"].items() if count]
    disclosed = [fill(text, _WIDTH, initial_indent="- ", subsequent_indent="  ") for text in info.disclosures]
    return "\n".join(lines + [""] * bool(disclosed) + disclosed)


def leaks(catalogue: Catalogue) -> list[str]:
    """Everything that stands in two splits: item groups, identical images across groups, query texts."""
    problems = []
    splits = {i: split for split in SPLITS for i in _rows(catalogue, split)}
    places: dict[tuple[str, str], set[str]] = {}
    for i, group in enumerate(catalogue.groups):
        places.setdefault(("group", group), set()).add(splits[i])
    for split in SPLITS:
        for query in catalogue.queries(split):
            places.setdefault(("query", normalize_query(query.text)), set()).add(split)
    if catalogue.info.photographs:
        images = catalogue.table("images")
        for item, digest in zip(images.column("item").to_pylist(), images.column("sha256").to_pylist(), strict=True):
            places.setdefault(("image", digest), set()).add(splits[item])
    for (kind, name), found in places.items():
        if len(found) > 1:
            problems.append(f"{kind} {name!r} stands in {' and '.join(sorted(found))}")
    return problems


def _rows(catalogue: Catalogue, split: str) -> list[int]:
    try:
        return catalogue.rows(split).tolist()
    except DataError:
        return []


def verify(name: str) -> str:
    """Check a prepared data set; a report. Raises DataError listing all problems."""
    catalogue = open_catalogue(name)
    if catalogue is None:
        if name.partition("@")[0] not in DATA:
            raise unknown("data set", name, DATA, "See: ftbench list data")
        raise DataError(f"{name} is not prepared here. First: ftbench data prepare {name}")
    problems = leaks(catalogue)
    items = set(catalogue.item_ids)
    queries = Counter(query.query_id for split in SPLITS for query in catalogue.queries(split))
    for table in ("judgements", "interactions"):
        for row in catalogue.table(table).to_pylist():
            if row["query_id"] not in queries or row["item_id"] not in items:
                problems.append(f"{table}: {row['query_id']!r}, {row['item_id']!r} names something that does not exist")
    problems += [f"the split {split!r} has no items" for split in SPLITS if not _rows(catalogue, split)]
    if problems:
        raise several(f"{name} does not hold", problems, DataError)
    files = len(catalogue.manifest["files"])
    return f"{name}: {files} files have their sha256, no dangling evidence, nothing in two splits.\n" + data_summary(
        catalogue
    )


def sheet(name: str, out: Path, count: int, source: Path | None, start: Callable[[str], Progress]) -> Path:
    """Write a contact sheet PNG of the first items of a data set; returns its path."""
    from ftbench.items import Item
    from ftbench.sources.sheet import contact_sheet

    catalogue = open_catalogue(name) or prepare(source_for(name, source), start(f"Preparing {name}"))
    if out.suffix.lower() != ".png":
        raise FtbenchError(f"--out {out}: expected a file ending in .png")
    assets, images, texts = catalogue.assets, catalogue.view_ids("image"), catalogue.view_ids("text")
    items = []
    for i in range(min(count, len(catalogue.item_ids))):
        views = [
            View("image", assets.image_names[a], "primary" if m == 0 else "auxiliary", assets.pixels([a])[0])
            for m, a in enumerate(images[i]) if a >= 0
        ] + [
            View("text", assets.text_names[a], "primary" if m == 0 else "auxiliary", assets.texts[a])
            for m, a in enumerate(texts[i]) if a >= 0
        ]  # fmt: skip
        items.append(Item(catalogue.item_ids[i], catalogue.groups[i], "", catalogue.categories[i], tuple(views)))
    try:
        contact_sheet(items).save(out)
    except OSError as problem:
        raise FtbenchError(f"cannot write {out}: {problem}. Choose another file with --out.") from None
    return out
