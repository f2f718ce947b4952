"""What the README and the documents beside it show must work as shown, and its numbers be those of the board."""

import csv
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ftbench import items

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = README, CONTRIBUTING, *_ = [
    ROOT / name for name in ("README.md", "CONTRIBUTING.md", "DATA.md", "REPRODUCE.md")
]


def _blocks(path, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", path.read_text(encoding="utf-8"), flags=re.M | re.S)


def test_no_placeholder_is_left():
    for path in DOCUMENTS:
        left = re.findall(r"FILL\w*(?:\[[^\]]*\])?", path.read_text(encoding="utf-8"))
        assert not left, f"{path.name}: {left}"


def test_readme_names_every_method_and_task():
    text = README.read_text(encoding="utf-8")
    names = [p.stem for p in (ROOT / "baselines").glob("*.py") if p.stem != "__init__"]
    names += [p.stem for p in (ROOT / "tasks").glob("*.toml")]
    missing = [name for name in names if f"| `{name}`" not in text]
    assert not missing, f"the README's tables do not name {missing}"


def test_methods_that_are_not_on_the_default_board_are_under_the_line():
    from ftbench.request import DEFAULT_METHODS

    above, below = README.read_text(encoding="utf-8").split("| *not on the default board:* |")
    names = [re.findall(r"^\| `(\w+)` \|", part, flags=re.M) for part in (above.split("## Methods")[1], below)]
    assert set(names[0]) == set(DEFAULT_METHODS) and names[1] and not set(names[1]) & set(DEFAULT_METHODS)


def leaderboard():
    """The lines of the README's first table, from the records of the committed board: studio, seed 0."""
    wanted = re.search(r"^METHODS \?= (.*)$", _makefile(), flags=re.M)[1].split()
    found = {}
    for path in sorted((ROOT / "results" / "studio").glob("*/*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        about = (
            record["track"] != "zero-shot" or not record["method"]["trained"],
            record["method"]["config"].get("reads"),
        )
        if record["seed"] == 0 and record["board"] == "equal-compute" and about in ((True, None), (True, "all")):
            found[record["method"]["name"], record["task"]["name"]] = record
    lines = [
        "| method | query2item, ndcg@10 | needs auxiliary views, ndcg@10 | cross_view, recall@10 | encoder passes per "
        "item and step | seconds |",
        "|---|---|---|---|---|---|",
    ]
    for name in wanted:
        own, other = found[name, "query2item"], found.get((name, "cross_view"))
        scores = [own["scores"]["ndcg@10"]["mean"], own["slices"]["aux"]["scores"]["ndcg@10"]["mean"]]
        shown = [f"{score:.3f}" for score in scores] + [f"{other['scores']['recall@10']['mean']:.3f}" if other else "—"]
        cost, title = own["cost"], f"`{name}`" + ("" if own["method"]["ranked"] else " (ceiling, not ranked)")
        passes = "—"
        if own["method"]["trained"]:
            passes = f"{cost['image_passes_per_item']:.1f} images, {cost['text_passes_per_item']:.1f} texts"
        shown += [passes, f"{cost['total_seconds']:.0f}"]
        lines.append(f"| {' | '.join([title, *shown])} |")
    return lines


def test_the_first_numbers_are_those_of_the_committed_board():
    assert "\n".join(leaderboard()) in README.read_text(encoding="utf-8")


def standing(data, task, board="equal-compute"):
    """Where the cached method stands on a table of the committed board, in the README's words."""
    from ftbench.report.aggregate import load, tables

    entries = [e for e in load(ROOT / "results", None) if e.record["data"]["name"] == data]
    entries = [e for e in entries if e.record["task"]["name"] == task and e.record["board"] == board]
    (table,) = tables(entries, lambda *_: None)
    place = [row.method for row in table.rows].index("factorized_transport_cached")
    own, best = table.rows[place], table.rows[0]
    group = "in" if own.group == "best" else "outside"
    score, leads = (f"{row.headline.mean:.3f}" for row in (own, best))
    where = f"place {place + 1} of {len(table.rows)}, {group} the leading group (`{best.method}`: {leads})"
    return f"{score} on {task}, {where}"


def test_where_the_reference_method_does_not_lead_is_said():
    said = " ".join(README.read_text(encoding="utf-8").split())
    for task in ("query2item", "cross_view"):
        assert standing("magento-luma", task) in said
    assert standing("studio", "query2item", "equal-steps") in said


def test_where_passes_are_not_the_budget_is_said():
    from ftbench.report import board
    from ftbench.report.aggregate import load, tables

    for entries in (load(ROOT / "results" / data, None) for data in ("studio", "magento-luma")):
        for table in tables(entries, lambda *_: None):
            said = any("training spends no passes: equal compute is 300 steps" in text for text in board._notes(table))
            assert said == (table.data["name"] == "magento-luma")


def test_records_that_are_named_are_on_the_board():
    named = {
        name
        for path in DOCUMENTS
        for name in re.findall(r"\b[a-z]\w*-[0-9a-f]{12}\b", path.read_text(encoding="utf-8"))
    }
    missing = [name for name in named if not list((ROOT / "results").glob(f"*/*/{name}.json"))]
    assert named and not missing, missing


def test_links_to_files_lead_somewhere():
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        linked = re.findall(r"\]\((?!https?://)([^)#]+)\)", text)
        named = re.findall(r"`((?:ftbench|baselines|tasks|tests)/[\w./]+\.\w+)`", text)
        missing = [name for name in linked + named if not (ROOT / name).exists()]
        assert not missing, f"{path.name}: {missing}"


def test_make_targets_that_are_named_exist():
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.M))
    for path in DOCUMENTS:
        named = set(re.findall(r"(?:`|^)make (\w+)", path.read_text(encoding="utf-8"), flags=re.M))
        assert named or path.name == "DATA.md"
        assert named <= targets, f"{path.name}: {named - targets}"


def _makefile():
    return (ROOT / "Makefile").read_text(encoding="utf-8").replace("\\\n\t", "")


def _recipes():
    """The Makefile with the variables of its commands filled in."""
    text = _makefile()
    values = dict(re.findall(r"^(TASKS|METHODS|JOBS|ALL) [:?]= (.*)$", text, flags=re.M))
    text = text.replace("$(addprefix --method ,$(METHODS))", "--method " + " --method ".join(values["METHODS"].split()))
    for name in ("ALL", "TASKS", "METHODS", "JOBS"):  # ALL is made of the others
        text = text.replace(f"$({name})", values[name])
    return text


def _shown_commands():
    """Every `ftbench ...` that the documents and the Makefile show, without comments."""
    lines = [line.split("#")[0] for path in DOCUMENTS for b in _blocks(path, "sh") for line in b.splitlines()]
    for path in DOCUMENTS:
        lines += re.findall(r"`(ftbench [^`]+)`", path.read_text(encoding="utf-8").replace("\n", " "))
    lines += re.findall(r"^\t\$\(BIN\)/(ftbench .*)$", _recipes(), flags=re.M)
    found = [shlex.split(line) for line in lines if re.match(r"(\.venv/bin/)?ftbench ", line)]
    return sorted({tuple(words[1:]) for words in found})


@pytest.mark.parametrize("words", _shown_commands(), ids=" ".join)
def test_commands_that_are_shown_are_understood(words):
    """Parsed by the command itself, down to every option; nothing is run."""
    import typer

    from ftbench.cli import app

    command, rest = typer.main.get_command(app), list(words)
    while hasattr(command, "commands"):
        command, rest = command.commands[rest[0]], rest[1:]
    command.make_context(words[0], rest)


def _under_ten_lines(block):
    assert len([line for line in block.splitlines() if line.strip()]) < 10


def test_the_method_that_contributing_shows_runs(tmp_path):
    from ftbench.method import load_method
    from ftbench.views import text_probes

    (block,) = (b for b in _blocks(CONTRIBUTING, "python") if "class Method" in b)
    _under_ten_lines(block)
    path = tmp_path / "overlap.py"
    path.write_text(block, encoding="utf-8")
    method = load_method(str(path))
    probes, gallery = text_probes(["a red mug"]), text_probes(["Red mug", "blue plate", "a mug"])
    np.testing.assert_array_equal(method.score(probes, gallery), np.array([[2, 0, 2]], dtype=np.float32))
    assert method.score(probes, gallery).dtype == np.float32


def test_the_task_that_contributing_shows_is_valid():
    from ftbench.task import parse_task

    (block,) = _blocks(CONTRIBUTING, "toml")
    _under_ten_lines(block)
    assert parse_task(block, "strict", "studio").headline == "hit@10"


def test_the_source_that_contributing_shows_can_be_prepared(tmp_path, monkeypatch):
    from ftbench.store import prepare

    (block,) = (b for b in _blocks(CONTRIBUTING, "python") if "class Shop" in b)
    _under_ten_lines(block)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FTBENCH_CACHE", str(tmp_path / "cache"))
    with open("shop.csv", "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "category", "title", "image", "back"])
        for i in range(60):
            rows.writerow([f"p{i}", "mugs", f"Mug number {i}", f"{i}.png", f"{i}b.png"])
            for name in (f"{i}.png", f"{i}b.png"):
                pixels = np.random.Generator(np.random.Philox(key=[i, len(name)])).integers(0, 255, (8, 8, 3))
                Image.fromarray(pixels.astype(np.uint8)).save(name)
    names = {name: getattr(items, name) for name in ("Item", "View", "Queries", "SourceInfo", "split_of")}
    space = {"csv": csv, "Path": Path, **names}
    exec(block, space)
    catalogue = prepare(space["Shop"](), lambda *_: None)
    assert len(catalogue.item_ids) == 60
    assert (catalogue.view_ids("image") >= 0).all()
