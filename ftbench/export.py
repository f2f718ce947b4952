"""The board's tables as files for papers and programs: CSV, JSON, Markdown, LaTeX. Must not know HTML.

CSV and JSON keep full precision and every range; LaTeX and Markdown round as the pages do.
"""

import csv
import io
import json
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ftbench import record as records
from ftbench import runfile, scores
from ftbench.errors import DataError, FtbenchError, unknown
from ftbench.items import Progress, silent
from ftbench.report import words
from ftbench.report.aggregate import Row, Score, Table, _stacked, _units, load, tables
from ftbench.report.reading import ROUNDING

_COLUMNS = ("task", "data", "board", "place", "method", "title", "settings", "track", "encoder", "seeds", "ranked",
            "group", "measure", "mean", "low", "high", "tie_low", "tie_high", "reason", "records")  # fmt: skip


_BOARDS = ("equal-compute", "equal-steps")


@dataclass(frozen=True)
class Choice:
    """What to export; empty tuples mean all. intervals: also of measures other than a table's headline, from the run
    files. measures: those named are shown in this order. release: of this board version, None for the records as they
    are."""

    tasks: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    boards: tuple[str, ...] = ()
    measures: tuple[str, ...] = ()
    intervals: bool = False
    release: str | None = None


def export(
    results: Path, format_: str, choice: Choice, progress: Progress = silent, warn: Callable[[str], None] = silent
) -> str:
    """The chosen tables of a results folder as text of a format. warn: told of records that are left out, or could not
    be checked. Raises FtbenchError for unknown formats, names and measures, and where run files are missing that
    intervals need, or give other means than the records."""
    if format_ not in FORMATS:
        raise unknown("format", format_, FORMATS, "trec and qrels are for one: ftbench export RECORD --format trec")
    chosen = _tables(results, choice, progress)
    for text in dict.fromkeys(text for table in chosen for text in table.runs_missing):
        warn(text)
    if choice.intervals:
        chosen = _with_intervals(chosen, choice, progress)
    return FORMATS[format_](chosen, choice)


def _tables(results: Path, choice: Choice, progress: Progress) -> list[Table]:
    """The tables of a choice; the run files of others are not read."""
    everything = entries = load(results, choice.release)
    for kind, title, wanted in (("task", "task", choice.tasks), ("data", "data set", choice.data)):
        known = {entry.record[kind]["name"] for entry in everything}
        for name in wanted:
            if name not in known:
                raise unknown(title, name, known)
        entries = [entry for entry in entries if not wanted or entry.record[kind]["name"] in wanted]
    found = tables(entries, progress)
    boards, known = {table.board for table in found}, {entry.record["board"] for entry in everything}
    for name in choice.boards:
        if name not in boards | known | set(_BOARDS):
            raise unknown("board", name, boards | set(_BOARDS))
        if name not in boards:
            where = sorted({f"{e.record['task']['name']} on {e.record['data']['name']}" for e in entries})
            raise FtbenchError(f"{' and '.join(where)} has no {name} runs. Leave --board out, or choose other data.")
    found = [table for table in found if not choice.boards or table.board in choice.boards]
    if not found:
        raise FtbenchError("no table has this task on this data set. Leave one of the choices out.")
    return found


def row_of(results: Path, record: Mapping, version: str | None = None, progress: Progress = silent) -> Row:
    """The board's row that a record is of. Raises FtbenchError for a record that the board does not show."""
    choice = Choice((record["task"]["name"],), (record["data"]["name"],), release=version)
    for table in _tables(results, choice, progress):
        for row in table.all_rows:
            if record["id"] in [entry.record["id"] for entry in row.entries]:
                return row
    raise FtbenchError(f"the board of {version or results} does not show record {record['id'][:12]}: it failed, a run "
                       "took its place, or its scores do not follow from its run file. Name another.")  # fmt: skip


def _measures(table: Table, choice: Choice) -> list[str]:
    """The measures shown of a table: those asked for, else all that any row has, the headline first."""
    headline, given = table.task["headline"], table.task["measures"]
    for name in choice.measures:
        if name not in given:
            raise unknown("measure", name, given, f"These are what the records of {table.task['name']} have.")
    known = [name for name in given if any(row.scores[name].mean is not None for row in table.all_rows)]
    return list(choice.measures) or [headline, *(name for name in known if name != headline)]


def _with_intervals(chosen: Sequence[Table], choice: Choice, progress: Progress) -> list[Table]:
    """Tables whose rows have intervals of the chosen measures, as the board has them of the headline."""
    done, total = 0, sum(len(table.all_rows) for table in chosen)
    progress(0, total, "intervals of every measure")

    def filled(table: Table, row: Row) -> Row:
        nonlocal done
        found = dict(row.scores)
        for name in _measures(table, choice):
            if name != table.task["headline"] and row.scores[name].mean is not None:
                values = {entry.record["id"]: _units(entry, name) for entry in row.entries}
                stack = _stacked(row, values)[1]  # (s, u)
                if abs(stack.mean() - row.scores[name].mean) > ROUNDING:
                    files = " ".join(str(entry.path) for entry in row.entries)
                    raise DataError(f"{name} of {row.title} is not what its run files give: ftbench rescore {files}")
                low, high = scores.intervals(stack[None])[0].tolist()  # (1, s, u) -> (1, 2)
                found[name] = replace(row.scores[name], low=low, high=high)
        done += 1
        progress(done, total, "intervals of every measure")
        return replace(row, scores=found)

    made = []
    for table in chosen:
        if table.runs_missing and len(table.runs_missing) > len(table.left_out):
            raise DataError("\n".join(table.runs_missing))
        rows, references = (tuple(filled(table, row) for row in part) for part in (table.rows, table.references))
        made.append(replace(table, rows=rows, references=references))
    return made


def _score(table: Table, row: Row, name: str) -> Score:
    """A row's score of a measure; the headline's has the interval that the board shows."""
    return row.headline if name == table.task["headline"] else row.scores[name]


# --- for programs


def _cells(found: Sequence[Table], choice: Choice) -> list[dict]:
    """One row per table, row and measure: all that is known, nothing rounded."""
    out = []
    for table in found:
        for row in (*table.rows, *table.references):
            about = {
                "task": table.task["name"], "data": table.data["name"], "board": table.board,
                "place": table.rows.index(row) + 1 if row in table.rows else None, "method": row.method,
                "title": row.title, "settings": " ".join(row.variant), "track": row.track, "encoder": row.encoder,
                "seeds": len(row.entries), "ranked": row.ranked, "group": row.group,
            }  # fmt: skip
            for name in _measures(table, choice):
                score = vars(_score(table, row, name))
                out.append(about | {"measure": name} | score | {"records": [e.record["id"] for e in row.entries]})
    return out


def _json(found: Sequence[Table], choice: Choice) -> str:
    return json.dumps(_cells(found, choice), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _csv(found: Sequence[Table], choice: Choice) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for cell in _cells(found, choice):
        cell["records"] = " ".join(cell["records"])
        writer.writerow([_csv_value(cell[name]) for name in _COLUMNS])
    return out.getvalue()


def _csv_value(value: object) -> object:
    """A value of a cell: null is empty; a text that a spreadsheet would compute is marked as text."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return "'" + value
    return "" if value is None else value


# --- for people


def _best(table: Table, names: Sequence[str]) -> dict[str, float]:
    """The highest mean of each measure among the ranked rows, as it is printed: what prints alike is best alike."""
    known = {name: [row.scores[name].mean for row in table.rows if row.scores[name].mean is not None] for name in names}
    return {name: float(words.score(max(values))) for name, values in known.items() if values}


def _is_best(row: Row, score: Score, best: float | None) -> bool:
    return row.ranked and best is not None and score.mean is not None and float(words.score(score.mean)) == best


def _label(row: Row) -> str:
    """A row's title with what tells it from others of the same name."""
    extra = [*row.variant, *(["zero-shot"] if row.is_zero_shot else [])]
    return f"{row.title} ({', '.join(extra)})" if extra else row.title


def _caption(table: Table) -> str:
    about = f"{table.task['title']} on {table.data['name']}, {table.board.replace('-', ' ')}"
    return f"{about}; {words.plural(table.n_queries, 'query', 'queries')}"


def _legend(table: Table, names: Sequence[str]) -> str:
    """What bold and underlined mean, for the caption: a table in a paper has no other place for it."""
    headline = table.task["headline"]
    said = "Bold: best of its column."
    if headline in names and any(row.group == "best" for row in table.rows):
        said += (f" Underlined: not separable from the best by {words.measure(headline)} (paired randomization test, "
                 "Holm-adjusted, 5%).")  # fmt: skip
    return said


def _holes(table: Table) -> str:
    """Why the rank group has holes, where it has; the page of the table says the same of every table."""
    groups = [row.group for row in table.rows]
    if "below" not in groups or "best" not in groups[groups.index("below") :]:
        return ""
    return words.HOLES


_MARKDOWN_LEGEND = "Bold: best of its column. Rank group best: not separable from the best by the headline measure."


def _markdown(found: Sequence[Table], choice: Choice) -> str:
    parts = []
    for table in found:
        names = _measures(table, choice)
        best = _best(table, names)
        lines = [f"**{_mark(_caption(table))}**", "", _MARKDOWN_LEGEND, "",
                 "| method | seeds | " + " | ".join(names) + " | rank group |",
                 "|---|--:|" + "--:|" * len(names) + "---|"]  # fmt: skip
        for row in (*table.rows, *table.references):
            cells = [_markdown_score(row, _score(table, row, name), best.get(name), choice) for name in names]
            group = "not ranked" if not row.ranked else {"best": "best", "below": ""}.get(row.group, "")
            lines.append(f"| {_mark(_label(row))} | {len(row.entries)} | {' | '.join(cells)} | {group} |")
        lines += ["", _holes(table)] if _holes(table) else []
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def _markdown_score(row: Row, score: Score, best: float | None, choice: Choice) -> str:
    shown = f"**{words.score(score.mean)}**" if _is_best(row, score, best) else words.score(score.mean)
    ends = words.interval(score.low, score.high) if choice.intervals else ""
    return f"{shown} [{ends}]" if ends else shown


def _mark(text: str) -> str:
    """A text that Markdown, and the HTML in it, leave as it is; one line."""
    flat = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    flat = flat.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return "".join("\\" + c if c in "\\`*_[]|~#$" else c for c in flat)


_TEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': "''", "–": "--", "—": "---", "→": r"$\to$", "≥": r"$\geq$", "≤": r"$\leq$",
    "×": r"$\times$", "·": r"$\cdot$", "±": r"$\pm$", "ε": r"$\varepsilon$", "α": r"$\alpha$", "½": r"$\frac12$",
    "‘": "`", "’": "'", "“": "``", "”": "''", "…": r"\ldots{}", "[": "{[}", "]": "{]}", "\xa0": "~",
}  # fmt: skip


def tex(text: str) -> str:
    """A text that LaTeX prints as it is, with any engine; "?" for what pdflatex has no letter for."""
    out = []
    for character in text:
        if character in _TEX:
            out.append(_TEX[character])
        elif not character.isprintable():
            out.append(" ")
        elif ord(character) < 128 or (character.isalpha() and ord(character) < 0x180):
            out.append(character)
        else:
            plain = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
            out.append("".join(_TEX.get(c, c) for c in plain) or "?")
    return "".join(out)


def _latex(found: Sequence[Table], choice: Choice) -> str:
    return "\n".join(["% Needs \\usepackage{booktabs}.", *(_latex_table(table, choice) for table in found)]) + "\n"


def _latex_table(table: Table, choice: Choice) -> str:
    names = _measures(table, choice)
    best = _best(table, names)
    caption = tex(f"{_caption(table)}. {_legend(table, names)}")
    label = "".join(c if c.isalnum() and c.isascii() else "-" for c in table.key)
    lines = [
        *([f"% {_holes(table)}"] if _holes(table) else []),
        r"\begin{table}[t]", r"  \centering", rf"  \caption{{{caption}}}", rf"  \label{{tab:{label}}}",
        rf"  \begin{{tabular}}{{l{'r' * len(names)}}}", r"    \toprule",
        f"    Method & {' & '.join(tex(words.measure(name)) for name in names)} \\\\", r"    \midrule",
    ]  # fmt: skip
    for row in table.rows:
        lines.append(_latex_row(table, row, names, best, choice))
    if table.references:
        lines.append(r"    \midrule")
        lines += [_latex_row(table, row, names, best, choice) for row in table.references]
    return "\n".join([*lines, r"    \bottomrule", r"  \end{tabular}", r"\end{table}"])


def _latex_row(table: Table, row: Row, names: Sequence[str], best: dict, choice: Choice) -> str:
    cells = [tex(_label(row)) if row.ranked else rf"\textit{{{tex(_label(row))}}}"]
    for name in names:
        score = _score(table, row, name)
        shown = tex(words.score(score.mean))
        if _is_best(row, score, best.get(name)):
            shown = rf"\textbf{{{shown}}}"
        if row.group == "best" and name == table.task["headline"]:
            shown = rf"\underline{{{shown}}}"
        if choice.intervals and score.low is not None:
            shown += rf" {{\scriptsize {words.interval(score.low, score.high).replace('–', '--')}}}"
        cells.append(shown)
    return "    " + " & ".join(cells) + r" \\"


# --- one record, for trec_eval

RECORD_FORMATS = ("trec", "qrels")


def of_record(path: Path, record: Mapping, format_: str) -> str:
    """The run file of a record as a TREC run, tagged with the method's name, or the judgements it is measured with as
    qrels. Raises FtbenchError for other formats, and for gains that are not whole: qrels have none."""
    if format_ not in RECORD_FORMATS:
        told = ", ".join(RECORD_FORMATS)
        raise FtbenchError(f"--format {format_}: a record is exported as {told}; leave RECORD out for the board.")
    if format_ == "trec":
        tag = re.sub(r"[^A-Za-z0-9_-]", "_", record["method"]["name"])
        lines = runfile.export_trec(records.run_of(path, record), tag)
    else:
        lines = runfile.export_qrels(runfile.read_judgements(records.judgements_path(path, record)))
    return "".join(f"{line}\n" for line in lines)


FORMATS = {"csv": _csv, "json": _json, "latex": _latex, "markdown": _markdown}
