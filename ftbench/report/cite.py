"""How to cite this board, ftbench and the papers behind the methods. Must not know records beyond the board's facts."""

from collections.abc import Iterator, Mapping

from ftbench import citation
from ftbench.errors import listed
from ftbench.report.gathered import Board
from ftbench.report.html import Page, page


def exists(board: Board) -> bool:
    return bool(board.entries)


def version(facts: Mapping) -> citation.Version:
    """The board version that `Board.facts` describe."""
    return citation.Version(facts["release"], facts["digest"], facts["records"], facts["newest"])


def pages(board: Board, nav: tuple) -> Iterator[Page]:
    """cite.html."""
    entries = [("This board", citation.of_board(version(board.facts))), ("The software", citation.SOFTWARE)]
    entries += [(f"The paper: {paper.short}", paper) for paper in citation.PAPERS]
    papers = behind(board)
    bibtex = citation.bibliography(paper for paper, _ in papers)
    yield page("cite.html", "cite.html.j2", nav, board.facts, entries=entries, papers=papers, bibtex=bibtex)


def behind(board: Board) -> list[tuple[citation.Citation, str]]:
    """The papers behind the board's methods but for those with a section of their own, in the order of the tables, each
    with the methods that it is behind."""
    titles = {row.method: row.title for table in board.tables for row in (*table.rows, *table.references)}
    methods: dict[citation.Citation, list[str]] = {}
    for name, title in titles.items():
        for paper in citation.behind([name]):
            if paper not in citation.PAPERS:
                methods.setdefault(paper, []).append(title)
    return [(paper, listed(names)) for paper, names in methods.items()]
