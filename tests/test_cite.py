"""How to cite: entries that BibTeX reads, of exactly the board and the run; and CITATION.cff kept in step."""

import ast
import json
import re
import unicodedata
from pathlib import Path

import pytest
import synthetic
from typer.testing import CliRunner

from ftbench import __version__, citation, lookup, record
from ftbench.cli import app
from ftbench.errors import FtbenchError
from ftbench.report import cite as cite_page
from ftbench.report import quiet
from ftbench.report.gathered import gather

ROOT = Path(__file__).resolve().parent.parent
HOSTILE = "}} \\input{/etc/passwd} % $x^2$ #1 _a_ ~ & {{ \n\x00 é \u202e"


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cite") / "results"
    for method, seed in (("bm25", 0), ("mean_pooling", 0), ("mean_pooling", 1)):
        synthetic.add(folder, method=method, seed=seed, n_queries=6, n_items=20)
    return folder


def parsed(text):
    """{key: {field: value}} of BibTeX text, read by its braces alone. Fails where they do not balance."""
    found, place = {}, 0
    while match := re.compile(r"\s*@(\w+)\{([^,\s]+),").match(text, place):
        place, fields = match.end(), {}
        while name := re.compile(r"\s*(\w+)\s*=\s*\{").match(text, place):
            start, depth, place = name.end(), 1, name.end()
            while depth:
                depth += {"{": 1, "}": -1}.get(text[place], 0)  # BibTeX counts braces after a backslash, too
                place += 1
            fields[name[1]] = text[start : place - 1]
            place = re.compile(r",?").match(text, place).end()
        place = re.compile(r"\s*\}").match(text, place).end()
        assert match[2] not in found, f"the key {match[2]} occurs twice"
        found[match[2]] = fields
    assert not text[place:].strip(), text[place:]
    return found


def cite(*arguments):
    done = CliRunner().invoke(app, ["cite", *map(str, arguments)])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.stdout


def test_the_software_and_both_papers_have_entries():
    found = parsed(cite())
    assert list(found) == ["ftbench", "chen2026factorized", "lien2024generalized"]
    assert found["ftbench"]["version"] == __version__
    paper = found["chen2026factorized"]
    assert paper["author"].startswith("Chen, Xiwen and Lien, Yen-Chieh and") and paper["author"].count(" and ") == 6
    assert r"Casta{\~n}os, Mar{\'\i}a" in paper["author"]
    assert "Conference on Web Search and Data Mining" in paper["booktitle"]
    assert found["lien2024generalized"]["author"].endswith("Croft, W. Bruce")


def test_a_run_is_cited_with_its_id_date_and_board(results):
    path = next(results.rglob("bm25-*.json"))
    found = record.read(path)
    for name in (path, path.stem, found["id"], found["id"][:8]):
        entries = parsed(cite(name, "--results", results))
        key, *others = entries
        assert others == ["ftbench", "robertson1994okapi"]
        note = entries[key]["note"]
        assert key == f"ftbench_bm25_{found['id'][:12]}"
        assert found["id"] in note and "15 January 2026" in note
        assert gather(results, quiet).facts["digest"] in note


def test_the_board_is_cited_by_the_digest_that_its_page_shows(results):
    facts = gather(results, quiet).facts
    entries = parsed(cite("--board", "--results", results))
    board = entries[f"ftbench_board_{facts['digest']}"]
    assert board["version"] == f"digest {facts['digest']}" and "3 records, newest of 2026-01-15" in board["note"]
    assert citation.of_board(citation.Version("2026.1", "abc", 3, "2026-01-15")).bibtex().count("2026.1") == 2
    assert "2026_1" in citation.of_board(citation.Version("2026.1", "abc", 3, "2026-01-15")).key


def test_the_digest_moves_with_every_record_and_with_no_order(results):
    found = [one for _, one in record.read_all(results)]
    assert citation.digest(found) == citation.digest(found[::-1])
    assert len({citation.digest(found), citation.digest(found[1:]), citation.digest([])}) == 3
    cost, scores = found[0]["cost"] | {"train_seconds": 0.1}, json.loads(json.dumps(found[0]["scores"]))
    scores["ndcg@10"]["mean"] += 1e-9
    for change in ({"run_file": found[0]["run_file"] | {"sha256": "0" * 64}}, {"cost": cost}, {"scores": scores}):
        assert citation.digest([found[0] | change, *found[1:]]) != citation.digest(found)


def test_a_record_whose_numbers_were_changed_is_not_cited(tmp_path, capsys):
    path = synthetic.add(tmp_path, n_queries=6, n_items=20)
    found = record.read(path)
    found["scores"]["ndcg@10"]["mean"] = 0.987
    path.write_text(json.dumps(found), encoding="utf-8")
    with pytest.raises(FtbenchError, match="is not cited: its scores do not follow from its run file"):
        citation.cited(tmp_path, [(path, found)])
    path.with_suffix(".parquet").unlink()
    citation.cited(tmp_path, [(path, found)], warn=print)
    assert "not checked, because its run file is missing" in capsys.readouterr().out


def test_a_run_has_the_authors_of_the_project(results):
    found = record.read(next(results.rglob("bm25-*.json")))
    assert citation.of_run(found, citation.version([found])).authors == citation.SOFTWARE.authors


def test_plain_text_is_a_line_per_entry_without_tex(results):
    lines = cite(next(results.rglob("bm25-*.json")), "--text", "--results", results)
    assert len(lines.splitlines()) == 3 and "Okapi at TREC-3" in lines and "\\" not in lines
    assert "María Castaños" in cite("--text")


def test_unknown_records_name_the_nearest_and_what_to_type(results):
    stem = next(results.rglob("bm25-*.json")).stem
    with pytest.raises(FtbenchError, match=rf"unknown record 'bm52{stem[4:]}'.*Did you mean {stem}") as problem:
        cite("bm52" + stem[4:], "--results", results)
    assert "--results DIR" in str(problem.value)
    with pytest.raises(FtbenchError, match="unknown record"):
        cite("0" * 64, "--results", results)
    with pytest.raises(FtbenchError, match="one of the two"):
        cite(stem, "--board", "--results", results)


@pytest.mark.parametrize("text", ["root:x:0:0", "{}", "[1]"])
def test_a_file_that_is_no_record_is_never_advised_to_be_removed(tmp_path, text):
    path = tmp_path / "passwd"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(FtbenchError) as raised:
        cite(path)
    assert "emove" not in str(raised.value) and str(path) in str(raised.value)


def test_a_run_file_is_told_from_its_record(results):
    path = next(results.rglob("bm25-*.parquet"))
    with pytest.raises(FtbenchError, match=f"that is a run file. Name the record: {path.stem}.json"):
        cite(path, "--results", results)
    with pytest.raises(FtbenchError, match="that is no record. Name the record: METHOD-ID.json"):
        cite("judgements-query2item-0123456789ab.parquet", "--results", results)


def test_a_method_is_the_mean_of_its_row_as_the_board_shows_it(results):
    row = next(row for row in gather(results, quiet).tables[0].rows if row.method == "mean_pooling")
    found = [entry.record for entry in row.entries]
    (only,) = results.rglob("bm25-*.json")
    asked = cite("mean_pooling", "--task", "query2item", "--data", "studio", "--results", results)
    key, *papers = parsed(asked)
    assert key.endswith("_2_seeds") and papers == ["ftbench", "radford2021learning", "chen2026factorized"]
    note, score = parsed(asked)[key]["note"], row.headline
    assert f"ndcg@10 {score.mean:.3f} (95\\% interval {score.low:.3f} to {score.high:.3f})" in note
    assert f"mean of n = 2 seeds (0 and 1), records {found[0]['id']} and {found[1]['id']}, runs of 15 January" in note
    assert asked == cite(found[1]["id"], "--all-seeds", "--results", results)
    assert f"seed 1, record {found[1]['id']}" in cite("mean_pooling", "--seed", 1, "--results", results)
    assert cite("bm25", "--results", results) == cite(only, "--results", results)  # nothing to choose
    with pytest.raises(FtbenchError, match="ftbench cite METHOD"):
        cite("--task", "query2item")


def test_the_name_of_a_method_lists_its_records_and_what_narrows_it(tmp_path):
    where = [("query2item", "studio"), ("cross_view", "studio")]
    for task, data in where:
        for seed in (0, 1):
            synthetic.add(tmp_path, method="mean_pooling", task=task, data=data, seed=seed, n_queries=6, n_items=20)
    ids = {(r["task"]["name"], r["seed"]): r["id"][:12] for _, r in record.read_all(tmp_path)}
    with pytest.raises(FtbenchError, match="'mean_pooling' is a method with 4 records") as raised:
        cite("mean_pooling", "--results", tmp_path)
    *_, line, hint = str(raised.value).splitlines()
    assert line == f"  query2item, studio: seed 0 {ids['query2item', 0]}, seed 1 {ids['query2item', 1]}"
    assert hint == "Type one of these ids, or narrow it, such as --task cross_view."
    synthetic.add(tmp_path, method="mean_pooling", track="zero-shot", n_queries=6, n_items=20)
    with pytest.raises(FtbenchError, match="  query2item, studio, track zero-shot: seed 0 ") as raised:
        cite("mean_pooling", "--task", "query2item", "--results", tmp_path)
    assert "  query2item, studio, track supervised: seed 0 " in str(raised.value)
    assert str(raised.value).endswith("or one with --all-seeds for its whole line.")
    with pytest.raises(
        FtbenchError, match="mean_pooling has no record in .* of --data luma. It has:\n  cross_view, stud"
    ):
        cite("mean_pooling", "--data", "luma", "--results", tmp_path)
    with pytest.raises(FtbenchError, match=r"Type one of these ids\.$"):  # of a command that takes a record alone
        lookup.named(tmp_path, "mean_pooling")


def test_every_method_that_names_a_paper_is_cited_with_it():
    said = {}
    for path in (ROOT / "baselines").glob("[!_]*.py"):
        said[path.stem] = " ".join(ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))).split())
    dated = re.compile(r"\b(19|20)\d\d\b(?!\.\d)")  # a year, and no arXiv number
    named = {name for name, text in said.items() if dated.search(text.partition("Differs from")[0])}
    assert len(named) > 20 and named <= set(citation.BEHIND) <= set(said)
    for name, papers in citation.BEHIND.items():
        for paper in papers:
            family, note = paper.authors[0].rpartition(" ")[2], dict(paper.fields).get("note", "no arXiv")
            told = (family in said[name] and paper.year in said[name]) or note in said[name]
            assert told or (name, paper.key) in {
                ("bm25_expanded", "robertson1994okapi"), ("mean_pooling", "radford2021learning")
            }, (name, paper.key)  # fmt: skip
    papers = {paper for found in citation.BEHIND.values() for paper in found}
    assert len(parsed(citation.bibliography(papers))) == len(papers)  # no key twice, braces balanced


def test_a_run_is_cited_with_the_papers_of_what_it_calls(results):
    found = record.read(next(results.rglob("bm25-*.json")))
    found |= {"method": found["method"] | {"name": "hybrid_rrf", "parts": {"bm25": "0" * 64, "m3g": "0" * 64}}}
    keys = [paper.key for paper in citation.behind_run(found)]
    assert keys == ["cormack2009reciprocal", "robertson1994okapi", "piran2024contrasting"]
    assert citation.behind_run(found | {"method": {"name": "of_somebody"}}) == []


def test_the_page_and_the_board_cite_what_is_behind_the_methods_on_the_board(results):
    (made,) = cite_page.pages(gather(results, quiet), ())
    text = made.content.decode()
    assert "<b>Mean pooling</b>: Alec Radford, " in text and "Okapi at TREC-3" in text and "M3G" not in text
    assert text.count("@inproceedings{chen2026factorized") == 1
    keys = list(parsed(cite("--board", "--results", results)))
    assert keys[1:] == [
        "ftbench",
        "chen2026factorized",
        "lien2024generalized",
        "robertson1994okapi",
        "radford2021learning",
    ]


def test_a_prefix_of_several_ids_asks_for_more_digits(results, tmp_path):
    folder = tmp_path / "studio" / "query2item"
    folder.mkdir(parents=True)
    for tail in ("abcd11111111", "abcd22222222"):
        (folder / f"bm25-{tail}.json").write_text("{}")
    with pytest.raises(FtbenchError, match="'abcd' names 2 records.*more digits of the id, or the whole name"):
        lookup.named(tmp_path, "abcd")


def test_hostile_texts_stay_texts_and_braces_balance(results):
    found = record.read(next(results.rglob("bm25-*.json")))
    found |= {"task": found["task"] | {"name": HOSTILE}, "data": found["data"] | {"name": HOSTILE}}
    entry = citation.of_run(found, citation.Version(HOSTILE, "abc", 1, "2026-01-15"))
    (fields,) = parsed(entry.bibtex()).values()
    assert "\\input" not in fields["title"] and r"\textbackslash{}input\textbraceleft{}" in fields["title"]
    assert not any(unicodedata.category(c) in ("Cc", "Cf") for c in entry.bibtex() if c != "\n")
    assert re.fullmatch(r"[A-Za-z0-9_]+", entry.key)
    for sign in "%$#_&":
        assert re.search(rf"(?<!\\)\{sign}", re.sub(r"\$\\to\$", "", fields["title"])) is None


@pytest.mark.parametrize(
    ("text", "shown"),
    [("a_b", r"a\_b"), ("é", r"{\'e}"), ("ï", r'{\"\i}'), ("ç", r"{\c c}"), ("a\n b", "a b"), ("Ł", "Ł"),
     ("→", r"$\to$")],
)  # fmt: skip
def test_text_for_tex(text, shown):
    assert citation.tex(text) == shown


def test_the_citation_file_is_in_step():
    """CITATION.cff, read by its indentation: the dependency-free part of YAML that it uses."""
    lines = (ROOT / "CITATION.cff").read_text(encoding="utf-8").splitlines()
    top = dict(line.split(": ", 1) for line in lines if re.match(r"[a-z-]+: ", line))
    assert top["version"].strip('"') == __version__
    assert top["title"].strip('"') == citation.TITLE
    papers = "\n".join(lines).split("\nreferences:")[1].split("\n  - type: ")[1:]
    for paper, told in zip(citation.PAPERS, papers, strict=True):
        names = zip(*(re.findall(rf"{part}: (.+)", told) for part in ("given-names", "family-names")), strict=True)
        assert tuple(" ".join(name) for name in names) == paper.authors
        assert f'title: "{paper.title}"' in told and f"year: {paper.year}" in told
        place = dict(paper.fields).get("booktitle") or dict(paper.fields)["journal"]
        assert f': "{place}"' in told
        assert f'url: "{dict(paper.fields)["url"]}"' in told and dict(paper.fields)["note"].split()[-1] in told


def test_the_readme_names_the_papers_alike():
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    for paper in citation.PAPERS:
        assert f"{', '.join(paper.authors)}. *{paper.title}.*" in readme
