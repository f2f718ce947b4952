"""How to cite ftbench, a board, a run and the papers behind the methods: BibTeX and plain text. Must not know pages."""

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from ftbench import __version__, release, rescore
from ftbench import record as records
from ftbench.errors import DataError, FtbenchError, counted, listed, several
from ftbench.release import digest

TITLE = "ftbench: a reproducible benchmark of retrieval over products with several images and several texts"
AUTHORS = "The ftbench authors"
_WSDM = "ACM International Conference on Web Search and Data Mining"
_SIGNS = {  # BibTeX counts braces whether or not a backslash stands before them, so that none may stand alone
    "\\": r"\textbackslash{}", "{": r"\textbraceleft{}", "}": r"\textbraceright{}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "—": "---", "–": "--", "→": r"$\to$",
}  # fmt: skip
_TABLE = str.maketrans(dict.fromkeys(map(chr, (*range(32), 127)), "") | _SIGNS)
_ACCENTS = {"\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0308": '"', "\u030c": "v ", "\u0327": "c "}


@dataclass(frozen=True)
class Citation:
    """One entry. authors: "Given Family" each, or one name of a group; fields: (BibTeX name, plain text), in order;
    short: what people call it."""

    key: str
    kind: str
    authors: tuple[str, ...]
    title: str
    year: str
    fields: tuple[tuple[str, str], ...] = ()
    short: str = ""

    def bibtex(self) -> str:
        """The entry in BibTeX: accents as TeX commands, braces balanced whatever the texts say."""
        author = f"{{{tex(self.authors[0])}}}" if len(self.authors) == 1 else " and ".join(map(_inverted, self.authors))
        fields = [("title", f"{{{tex(self.title)}}}"), ("author", author), ("year", self.year)]
        fields += [(name, value if name == "url" else tex(value)) for name, value in self.fields]
        shown = [(name, value) for name, value in fields if value]
        wide = max(len(name) for name, _ in shown)
        lines = ",\n".join(f"  {name:<{wide}} = {{{value}}}" for name, value in shown)
        return f"@{self.kind}{{{self.key},\n{lines}\n}}"

    def text(self) -> str:
        """The entry as a sentence or three."""
        rest = [f"doi {value}" if name == "doi" else value for name, value in self.fields if name != "url"]
        parts = [listed(self.authors), self.title, *([self.year] if self.year else []), ", ".join(rest)]
        return " ".join(part.rstrip(".") + "." for part in parts if part)


PAPERS = (
    Citation(
        "chen2026factorized", "inproceedings",
        ("Xiwen Chen", "Yen-Chieh Lien", "Susan Liu", "María Castaños", "Abolfazl Razi", "Xiaoting Zhao", "Congzhe Su"),
        "Factorized Transport Alignment for Multimodal and Multiview E-commerce Representation Learning", "2026",
        (("booktitle", f"Proceedings of the 19th {_WSDM} (WSDM 2026)"), ("note", "arXiv 2512.18117"), ("url", "https://arxiv.org/abs/2512.18117")),
        "factorized transport",
    ),
    Citation(
        "lien2024generalized", "article", ("Yen-Chieh Lien", "Hamed Zamani", "W. Bruce Croft"),
        "Generalized Weak Supervision for Neural Information Retrieval", "2024",
        (("journal", "ACM Transactions on Information Systems"), ("note", "arXiv 2304.08912"),
         ("url", "https://arxiv.org/abs/2304.08912")),
        "generalized weak supervision",
    ),
)  # fmt: skip


def _paper(key: str, title: str, authors: str, venue: str, year: str, arxiv: str = "", doi: str = "") -> Citation:
    """A paper of proceedings, or with `venue` "" of arXiv alone."""
    place = (("note", f"arXiv {arxiv}"), ("url", f"https://arxiv.org/abs/{arxiv}")) if arxiv else ()
    place += (("doi", doi), ("url", f"https://doi.org/{doi}")) if doi else ()
    kind, book = ("inproceedings", (("booktitle", venue),)) if venue else ("misc", ())
    return Citation(key, kind, tuple(authors.split(", ")), title, year, book + place)


_CHEN, _LIEN = PAPERS
_NEURIPS = "Advances in Neural Information Processing Systems"
_SIGIR = "International ACM SIGIR Conference on Research and Development in Information Retrieval"
_CLIP = _paper(
    "radford2021learning", "Learning Transferable Visual Models From Natural Language Supervision",
    "Alec Radford, Jong Wook Kim, Chris Hallacy, Aditya Ramesh, Gabriel Goh, Sandhini Agarwal, Girish Sastry, "
    "Amanda Askell, Pamela Mishkin, Jack Clark, Gretchen Krueger, Ilya Sutskever",
    "Proceedings of the 38th International Conference on Machine Learning (ICML 2021)", "2021", "2103.00020",
)  # fmt: skip
_OKAPI = _paper(
    "robertson1994okapi", "Okapi at TREC-3",
    "Stephen E. Robertson, Steve Walker, Susan Jones, Micheline M. Hancock-Beaulieu, Mike Gatford",
    "Proceedings of the Third Text REtrieval Conference (TREC-3)", "1994",
)  # fmt: skip
_COLBERT = _paper(
    "khattab2020colbert",
    "ColBERT: Efficient and Effective Passage Search via Contextualized Late Interaction over BERT",
    "Omar Khattab, Matei Zaharia", f"Proceedings of the 43rd {_SIGIR} (SIGIR 2020)", "2020", "2004.12832",
)  # fmt: skip
BEHIND = {  # the papers behind each method of baselines/ that has one, as its file names them
    "all_pairs": (_CLIP,),
    "attention_pooling": (_paper(
        "lee2019set", "Set Transformer: A Framework for Attention-based Permutation-Invariant Neural Networks",
        "Juho Lee, Yoonho Lee, Jungtaek Kim, Adam R. Kosiorek, Seungjin Choi, Yee Whye Teh",
        "Proceedings of the 36th International Conference on Machine Learning (ICML 2019)", "2019", "1810.00825"),),
    "bm25": (_OKAPI,),
    "bm25_expanded": (_OKAPI, _paper(
        "kuzi2016query", "Query Expansion Using Word Embeddings", "Saar Kuzi, Anna Shtok, Oren Kurland",
        "Proceedings of the 25th ACM International Conference on Information and Knowledge Management (CIKM 2016)",
        "2016", doi="10.1145/2983323.2983876")),
    "cwcl": (_paper(
        "srinivasa2023cwcl", "CWCL: Cross-Modal Transfer with Continuously Weighted Contrastive Loss",
        "Rakshith Sharma Srinivasa, Jaejin Cho, Chouchang Yang, Yashas Malur Saidutta, Ching-Hua Lee, Yilin Shen, "
        "Hongxia Jin", f"{_NEURIPS} 36 (NeurIPS 2023)", "2023", "2309.14580"),),
    "factorized_transport": (_CHEN,),
    "factorized_transport_cached": (_CHEN,),
    "gated_fusion": (_paper(
        "arevalo2017gated", "Gated Multimodal Units for Information Fusion",
        "John Arevalo, Thamar Solorio, Manuel Montes-y-Gómez, Fabio A. González",
        "International Conference on Learning Representations, Workshop Track (ICLR 2017)", "2017", "1702.01992"),),
    "gcl": (_paper(
        "zhu2024generalized", "Generalized Contrastive Learning for Multi-Modal Retrieval and Ranking",
        "Tianyu Zhu, Myong Chol Jung, Jesse Clark", "", "2024", "2404.08535"),),
    "gws_cross": (_LIEN,),
    "gws_greedy": (_LIEN,),
    "gws_joint": (_LIEN,),
    "gws_self": (_LIEN,),
    "hybrid_rrf": (_paper(
        "cormack2009reciprocal",
        "Reciprocal Rank Fusion Outperforms Condorcet and Individual Rank Learning Methods",
        "Gordon V. Cormack, Charles L. A. Clarke, Stefan Buettcher", f"Proceedings of the 32nd {_SIGIR} (SIGIR 2009)",
        "2009", doi="10.1145/1571941.1572114"),),
    "late_interaction": (_COLBERT,),
    "m3g": (_paper(
        "piran2024contrasting", "Contrasting Multiple Representations with the Multi-Marginal Matching Gap",
        "Zoe Piran, Michal Klein, James Thornton, Marco Cuturi",
        "Proceedings of the 41st International Conference on Machine Learning (ICML 2024)", "2024", "2405.19532"),),
    "max_pooling": (_paper(
        "su2015multiview", "Multi-view Convolutional Neural Networks for 3D Shape Recognition",
        "Hang Su, Subhransu Maji, Evangelos Kalogerakis, Erik Learned-Miller",
        "Proceedings of the IEEE International Conference on Computer Vision (ICCV 2015)", "2015", "1505.00880"),),
    "mean_pooling": (_CLIP, _CHEN),
    "random_view": (_CLIP,),
    "sigmoid": (_paper(
        "zhai2023sigmoid", "Sigmoid Loss for Language Image Pre-Training",
        "Xiaohua Zhai, Basil Mustafa, Alexander Kolesnikov, Lucas Beyer",
        "Proceedings of the IEEE/CVF International Conference on Computer Vision (ICCV 2023)", "2023", "2303.15343"),),
    "single_view_clip": (_CLIP,),
    "sinkhorn_transport": (_paper(
        "cuturi2013sinkhorn", "Sinkhorn Distances: Lightspeed Computation of Optimal Transport", "Marco Cuturi",
        f"{_NEURIPS} 26 (NIPS 2013)", "2013", "1306.0895"),),
    "soft_late_interaction": (_COLBERT,),
    "text_concat": (_CLIP,),
    "weak_supervision": (_paper(
        "dehghani2017neural", "Neural Ranking Models with Weak Supervision",
        "Mostafa Dehghani, Hamed Zamani, Aliaksei Severyn, Jaap Kamps, W. Bruce Croft",
        f"Proceedings of the 40th {_SIGIR} (SIGIR 2017)", "2017", "1704.08803"),),
}  # fmt: skip


def behind(methods: Iterable[str]) -> list[Citation]:
    """The papers behind methods, by name: each paper once."""
    return list(dict.fromkeys(paper for name in methods for paper in BEHIND.get(name, ())))


def behind_run(record: Mapping) -> list[Citation]:
    """The papers behind a record's method and those that it calls."""
    return behind((record["method"]["name"], *record["method"].get("parts", ())))


SOFTWARE = Citation("ftbench", "software", (AUTHORS,), TITLE, "", (("version", __version__),))


@dataclass(frozen=True)
class Version:
    """Which board is meant. release: its name, None for the records as they are; digest: of all records; newest: the
    day of the newest record, as 2026-01-15."""

    release: str | None
    digest: str
    records: int
    newest: str

    @property
    def name(self) -> str:
        return f"board {self.release}, digest {self.digest}" if self.release else f"board of digest {self.digest}"


def version(records: Sequence[Mapping], release: str | None = None) -> Version:
    """The version of a board that consists of these records, reproductions not among them."""
    newest = max((record["date"][:10] for record in records), default="1970-01-01")
    return Version(release, digest(records), len(records), newest)


def of_board(board: Version) -> Citation:
    """A board as a whole."""
    note = f"{counted(board.records, 'record')}, newest of {board.newest}, ftbench {__version__}"
    named = f"{board.release}, digest {board.digest}" if board.release else f"digest {board.digest}"
    return Citation(f"ftbench_board_{_key(board.release or board.digest)}", "misc", (AUTHORS,),
                    f"The ftbench leaderboard{f', board {board.release}' if board.release else ''}", board.newest[:4],
                    (("version", named), ("note", note)))  # fmt: skip


def of_run(record: Mapping, board: Version) -> Citation:
    """One run: record id, date and the board that it is read from; its headline with interval where it has one."""
    return of_row([record], record["scores"].get(record["task"]["headline"]) or {}, board)


def of_row(runs: Sequence[Mapping], score: Mapping, board: Version) -> Citation:
    """The runs of one setting, one per seed. score: their headline's mean, low and high; {} where there is none."""
    first, said = runs[0], []
    task, method, name = first["task"], first["method"]["name"], first["id"][:12]
    if score.get("mean") is not None:
        said.append(f"{task['headline']} {score['mean']:.3f}")
        if score["low"] is not None:
            said[-1] += f" (95% interval {score['low']:.3f} to {score['high']:.3f})"
    many, seeds = len(runs) > 1, listed([str(run["seed"]) for run in runs])
    said.append(f"mean of n = {len(runs)} seeds ({seeds})" if many else f"seed {seeds}")
    said.append(f"record{'s' * many} {listed([run['id'] for run in runs])}")
    said.append(f"run{'s' * many} of {listed(list(dict.fromkeys(day(run['date']) for run in runs)))}")
    return Citation(f"ftbench_{_key(method)}_{name}" + f"_{len(runs)}_seeds" * many, "misc", (AUTHORS,),
                    f"ftbench run: {method} on {task['name']}, {first['data']['name']}", first["date"][:4],
                    (("note", ", ".join([*said, board.name])),))  # fmt: skip


def cited(
    results: Path, runs: Sequence[tuple[Path, Mapping]] = (), mean: Mapping | None = None, released: str | None = None,
    warn: Callable[[str], None] = lambda text: None,
) -> list[Citation]:  # fmt: skip
    """The entries of the runs of one setting, or of the board where there are none: theirs, the software's, and those
    of the papers behind their methods.

    mean: the headline of several runs, mean, low and high. released: a board version, None for the records as they are.
    warn: told where there is no run file to check a record by. Raises FtbenchError where the board does not hold a
    record, and where its scores do not follow from its run file.
    """
    for path, record in runs:
        _check(path, record, warn)
    shown = release.distinct(release.frozen(results, released) if released else records.read_all(results))
    board = version(shown, released)
    if not runs:
        papers = dict.fromkeys([*PAPERS, *behind(record["method"]["name"] for record in shown)])
        return [of_board(board), SOFTWARE, *papers]
    held = {record["id"] for record in shown}
    for path, record in runs:
        if record["id"] not in held:
            raise FtbenchError(f"record {path.stem} is not on the board of {released or results}.")
    found = [record for _, record in runs]
    entry = of_row(found, mean, board) if mean else of_run(found[0], board)
    return [entry, SOFTWARE, *behind_run(found[0])]


def _check(path: Path, record: Mapping, warn: Callable[[str], None]) -> None:
    """Compute a record's scores again, where it has a run file. Raises DataError listing those that differ."""
    wrong = list(rescore.rescore_one(path).problems)
    if not wrong:
        return
    if not path.with_name(record["run_file"]["name"]).is_file():
        warn(f"{path}: its scores were not checked, because its run file is missing.")
        return
    hint = f"Take the record from where it was made, or run it again with --force. To see all: ftbench rescore {path}"
    raise several(f"{path} is not cited: its scores do not follow from its run file", wrong, DataError, hint, 5)


def bibliography(entries: Iterable[Citation]) -> str:
    """BibTeX of several entries, an empty line between."""
    return "\n\n".join(entry.bibtex() for entry in entries)


def tex(text: str) -> str:
    """A text for TeX: its special signs written out, accents as commands, no line breaks or control characters."""
    plain = " ".join(text.split()).translate(_TABLE)
    return plain if plain.isascii() else "".join(map(_accented, plain))


def _accented(letter: str) -> str:
    parts = unicodedata.normalize("NFD", letter)
    if unicodedata.category(letter)[0] == "C":
        return ""
    if len(parts) == 2 and parts[1] in _ACCENTS:
        base = {"i": r"\i", "j": r"\j"}.get(parts[0], parts[0]) if parts[1] != "\u0327" else parts[0]
        return f"{{\\{_ACCENTS[parts[1]]}{base}}}"
    return letter


def _inverted(name: str) -> str:
    given, _, family = name.rpartition(" ")
    return tex(f"{family}, {given}" if given else family)


def _key(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "_", name)


def day(moment: str) -> str:
    """The day of a record's date in words: 15 January 2026; as it is where there is no such day."""
    try:
        found = date.fromisoformat(moment[:10])
    except ValueError:
        return moment[:10]
    return f"{found.day} {found:%B %Y}"
