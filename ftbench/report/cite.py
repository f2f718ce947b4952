"""How to cite this board, ftbench and the papers behind the methods. Must not know records beyond the board's facts."""

from collections.abc import Iterator, Mapping

from ftbench import citation
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
    yield page("cite.html", "cite.html.j2", nav, board.facts, entries=entries)
