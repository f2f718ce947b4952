"""What there is: lists and descriptions for `ftbench list` and `describe`, and checks and sheets of data sets.

Must not know how runs are made.
"""

import ast
import inspect
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from textwrap import fill

from ftbench import leaks
from ftbench.catalogue import Catalogue, open_catalogue, own_names, prepared_names
from ftbench.errors import DataError, FtbenchError, counted, several, unknown
from ftbench.items import SPLITS, Item, Progress, View
from ftbench.sources import DATA, check_name, source_for, terms
from ftbench.store import prepare

_WIDTH = 100  # of prose on a terminal
WHAT = ("methods", "tasks", "data", "encoders")


def _first_line(thing: object) -> str:
    return (inspect.getdoc(thing) or "").partition("\n")[0]


def listing(what: str) -> list[tuple[str, str]]:
    """(name, one line) for each method, task, data set or encoder."""
    if what == "data":
        own, there = own_names(), prepared_names()
        known = [(name, line + (" (prepared here)" if name in there else "")) for name, line in DATA.items()]
        known += [(name, "(prepared here)") for name in there if name not in DATA and name not in own]
        return known + [(name, "your own: imported here, kept out of results/") for name in own]
    if what == "encoders":
        from ftbench.encoders.base import ENCODERS

        return list(ENCODERS.items())
    if what == "tasks":
        from ftbench.task import load_task, task_names

        return [(name, load_task(name, "studio").summary) for name in task_names()]
    if what == "methods":
        from ftbench.method import load_method, method_names
        from ftbench.request import DEFAULT_METHODS

        lines = {name: _first_line(inspect.getmodule(type(load_method(name)))) for name in method_names()}
        beside = " (not among `--method default`)"
        return [(name, line + ("" if name in DEFAULT_METHODS else beside)) for name, line in lines.items()]
    raise unknown("list", what, WHAT)


def description(name: str) -> str:
    """A page about one method, task, data set, encoder or study."""
    from ftbench.encoders.base import ENCODERS
    from ftbench.method import load_method, method_names
    from ftbench.settings import TrainerConfig
    from ftbench.task import load_task, task_names

    if name in method_names() or name.endswith(".py"):
        method = load_method(name)
        said = ast.get_docstring(ast.parse(method.path.read_text(encoding="utf-8"))) or "It has no docstring."
        lines = [f"Method {method.name}", "", said, "",
                 "Settings (--set KEY=VALUE), with unit and origin:", *_settings(type(method.config))]  # fmt: skip
        lines += _as_tuned(method)
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
    if name.partition("@")[0] in DATA or name in own_names():
        check_name(name, own_names())  # says what is wrong with a size or a tier
        found = open_catalogue(name)
        if found is None:
            return _unprepared(name)
        return data_summary(found)
    if name in ENCODERS or "/" in name:
        return f"Encoder {name}: {ENCODERS.get(name) or ENCODERS['MODEL/PRETRAINED']}"
    from ftbench.studies import studies

    known = studies()
    if name in known:
        return _of_study(known[name])
    raise unknown("name", name, [*method_names(), *task_names(), *DATA, "tiny", "lite", *known])


def _of_study(study) -> str:
    cells, full = (len(study.cells(full)) for full in (False, True))
    more = f" ({full} with --full)" if full > cells else ""
    return "\n".join([
        f"Study {study.name}: {study.title}", "", fill(study.question, _WIDTH), "",
        f"{counted(cells, 'cell')}{more}, at most {study.hours:g} hours on two cores.",
        f"To make it, or go on where it was: ftbench study {study.name} (its cells: with --list)",
    ])  # fmt: skip


def _unprepared(name: str) -> str:
    """What is known of a public data set before it is prepared: what it is, its terms, what to type."""
    lines = [f"{name}: {DATA[name.partition('@')[0]]}"]
    if "@" in name and name.startswith("studio"):
        source = source_for(name)
        lines = [f"{name}: drawn, {source.train:,} train, {source.valid:,} valid and {source.test:,} test items"]
    when = "Not prepared here yet"
    with suppress(DataError):  # amazon-reviews without a category, magento-luma without its folder
        lines.append(terms(source_for(name, None, Path()).info))
        when = "The first run on it prepares it; to do so now"
    return "\n".join([*lines, f"{when}: {_how_to_prepare(name)}"])


def _how_to_prepare(name: str) -> str:
    """The command that prepares a data set."""
    command = f"ftbench data prepare {name}"
    if name == "amazon-reviews":
        command += " --category All_Beauty --tier 10k"
    elif "@" not in name and name not in ("studio", "studio-confirm", "magento-luma"):
        command += " --tier 10k (or 100k, 1M; all of it without --tier)"
    return command


def _as_tuned(method) -> list[str]:
    """What a track has in the place of a method's defaults, and what `ftbench tune` tries; of a method that calls
    another, not what the other has on a track that is not open to it."""
    from ftbench.request import enters
    from ftbench.task import load_task, task_names

    tasks = [load_task(name, "studio") for name in task_names()]
    closed = {task.track for task in tasks} - {task.track for task in tasks if enters(method, task.kind)}
    lines = []
    for track, settings in method.tuned.items():
        if track in closed:
            continue
        shown = ", ".join(f"{key}={value}" for key, value in settings.items())
        lines += ["", f"As tuned on the {track} track, in the place of the defaults: {shown or 'nothing'}"]
    for track, space in method.space.items():
        lines += ["", f"What ftbench tune tries on the {track} track:"]
        lines += [f"  {key}: {', '.join(map(str, values))}" for key, values in space.items()]
    return lines


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


def prepared(name: str, verify: bool = False) -> Catalogue:
    """A catalogue that is prepared here; `verify` hashes all its files again. Raises FtbenchError for any other."""
    catalogue = open_catalogue(name, verify=verify)
    if catalogue is None:
        check_name(name, own_names())
        raise DataError(f"{name} is not prepared here. First: {_how_to_prepare(name)}")
    return catalogue


def verify(name: str) -> str:
    """Check a prepared data set; a report with what readers of a score should know. Raises DataError with all problems.

    All files are hashed again, whenever they were hashed last.
    """
    catalogue = prepared(name, verify=True)
    if found := leaks.problems(catalogue):
        raise several(f"{name} does not hold", found, DataError)
    files = len(catalogue.manifest["files"])
    lines = [f"{name}: {files} files have their sha256, no dangling evidence, nothing in two splits."]
    lines += [fill(text, _WIDTH, initial_indent="- ", subsequent_indent="  ") for text in leaks.remarks(catalogue)]
    return "\n".join([*lines, "", data_summary(catalogue)])


def sheet(name: str, out: Path, count: int, start: Callable[[str], Progress]) -> Path:
    """Write a contact sheet PNG of the first items of a data set; returns its path. Only studio is prepared for it."""
    from ftbench.sources.sheet import contact_sheet

    if open_catalogue(name) is None and name.startswith("studio"):
        prepare(source_for(name), start(f"Preparing {name}"))
    catalogue = prepared(name)
    if out.suffix.lower() != ".png":
        raise FtbenchError(f"--out {out}: expected a file ending in .png")
    items = shown_items(catalogue, range(min(count, len(catalogue.item_ids))))
    try:
        contact_sheet(items).save(out)
    except OSError as problem:
        raise FtbenchError(f"cannot write {out}: {problem}. Choose another file with --out.") from None
    return out


def shown_items(catalogue: Catalogue, rows: Iterable[int]) -> list[Item]:
    """Items of a catalogue with their pixels and texts, for people to look at; all other rows stay on disk."""
    assets, table = catalogue.assets, catalogue.table("items")
    shown = []
    for row in rows:
        (item,) = table.slice(int(row), 1).to_pylist()
        views = [
            View("image", assets.image_names[a], "auxiliary" if m else "primary", assets.pixels([a])[0],
                 bool(assets.image_probe[a])) for m, a in enumerate(item["images"])
        ] + [
            View("text", assets.text_names[a], "auxiliary" if m else "primary", assets.texts[a])
            for m, a in enumerate(item["texts"])
        ]  # fmt: skip
        shown.append(Item(item["item_id"], item["group"], item["split"], item["category"], tuple(views)))
    return shown
