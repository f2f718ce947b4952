"""Queries for a shop's catalogue that comes without any: combinations of its own attribute values, exactly judged.

Must not know files or forms of catalogues. What is asked for is taken out of the items' tags, so that a query is
answered by titles, descriptions and photographs, not by the very words it was made from.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import combinations

from ftbench.items import (
    Interaction,
    Item,
    Judgement,
    Progress,
    Queries,
    Query,
    Source,
    normalize_query,
    silent,
    split_of,
    unit_hash,
)
from ftbench.sources.magento_items import words
from ftbench.sources.rows import SHARES, query_id

MOST_RELEVANT = 15  # items; a query that more satisfy browses a category (as in magento-luma)
PER_ANSWER = 2  # queries with the very same relevant items (likewise)
MOST_QUERIES = 2_000  # of all splits; those of smallest hash (ours)
_ASKED_OF = 5_000  # items whose values are combined, those of smallest hash; relevance counts all items (ours)
_VALUES = 8  # of an item that are combined, those of smallest hash: 36 combinations (ours)
_LONGEST = 40  # characters of a value that a shopper would type (ours)
_NEVER = {"size", "shoe_size", "sizes"}  # attributes that no one searches a picture for
_SAID = ("in_text", "not_in_text")  # slices: whether some relevant item's remaining texts have all words of a query
RELEVANT = 1.0


def asked_values(attributes: Mapping[str, str]) -> tuple[str, ...]:
    """The values of an item's attributes that queries may ask for, in lower case; `|` stands between several.

    >>> asked_values({"color": "Navy Blue|Red", "size": "XL", "washable": "Yes"})
    ('navy blue', 'red')
    """
    found: dict[str, None] = {}
    for name, values in attributes.items():
        if name.lower() in _NEVER:
            continue
        for value in values.split("|"):
            value = " ".join(re.sub("[™®©]", " ", value).split()).lower()
            if len(value) <= _LONGEST and re.search(r"[^\W\d_]{3}", value) and value not in ("yes", "true", "false"):
                found[value] = None
    return tuple(found)


@dataclass(frozen=True, slots=True)
class _Row:
    """What queries need of an item."""

    item_id: str
    split: str
    category: str
    values: tuple[str, ...]
    texts: str  # the words of its texts as methods see them


class WithAttributeQueries:
    """A source whose items lose the tags that its queries ask for, and which has the queries made from them.

    A query is one or two attribute values, then the category's name where there is one; relevant are the items that
    have all of it. Train queries become interactions with relevant train items, the others judgements on all items.
    """

    def __init__(self, source: Source):
        self._source, self._left_out, self._rows = source, Counter(), None
        self.info = replace(
            source.info,
            version=f"{source.info.version}, attribute queries v1",
            disclosures=(
                *source.info.disclosures,
                "The catalogue came without queries. Queries are combinations of one or two attribute values with the "
                "category; relevant are the products that have them all, as the shop says, unchecked.",
                "Attribute values that queries may ask for are taken out of the tags, not out of titles and "
                f"descriptions. The slice {_SAID[0]} has the queries whose words some relevant product's texts hold.",
            ),
        )

    @property
    def dropped(self) -> dict[str, int]:
        """What was left out, by reason."""
        return dict(self._source.dropped) | dict(self._left_out)

    @property
    def rows(self) -> dict[str, dict[str, int]]:
        """What became of the rows of each table."""
        return self._source.rows

    def items(self, progress: Progress) -> Iterator[Item]:
        """The source's items, without the tags that queries may ask for."""
        rows = []
        for item in self._source.items(progress):
            values = asked_values(item.attributes)
            secret = [words(value) for value in values]
            views = []
            for view in item.views:
                if view.kind == "text" and view.name == "tags":
                    kept = [t for t in view.content.split(", ") if not any(s in words(t) for s in secret)]
                    view = replace(view, content=", ".join(kept))
                if view.kind != "text" or view.content:
                    views.append(view)
            texts = " ".join(words(view.content) for view in views if view.kind == "text")
            rows.append(_Row(item.item_id, item.split, item.category, values, texts))
            yield replace(item, views=tuple(views))
        self._rows = rows

    def queries(self) -> Queries:
        """The queries; the same on every call, whatever the items' order."""
        if self._rows is None:
            for _ in self.items(silent):
                pass
        have: dict[str, set[int]] = defaultdict(set)
        for number, row in enumerate(self._rows):
            for value in (*row.values, f"category {row.category}"):
                have[value].add(number)
        self._left_out = Counter()
        found: list[tuple[Query, list[_Row]]] = []
        answers: Counter = Counter()
        for key, text, terms in self._combinations():
            relevant = set.intersection(*(have[term] for term in terms))
            answer = frozenset(relevant)
            if len(relevant) > MOST_RELEVANT or answers[answer] == PER_ANSWER:
                continue
            if len(found) == MOST_QUERIES:
                self._left_out[f"attribute query beyond the first {MOST_QUERIES:,}"] += 1
                continue
            split = split_of("query", key, SHARES)
            items = [self._rows[number] for number in sorted(relevant)]
            if split == "train":
                items = [row for row in items if row.split == "train"]
            if not items:
                self._left_out["attribute query of train without a train item"] += 1
                continue
            answers[answer] += 1
            said = any(all(words(term) in row.texts for term in terms if term in row.values) for row in items)
            found.append((Query(query_id("attributes", text), text, split, (_SAID[0 if said else 1],)), items))
        return Queries(
            queries=tuple(query for query, _ in found),
            judgements=tuple(
                Judgement(query.query_id, row.item_id, RELEVANT)
                for query, items in found for row in items if query.split != "train"
            ),
            interactions=tuple(
                Interaction(query.query_id, row.item_id)
                for query, items in found for row in items if query.split == "train"
            ),
        )  # fmt: skip

    def _combinations(self) -> list[tuple[str, str, tuple[str, ...]]]:
        """(normalised text, text, what it asks for) of all combinations, by hash, each normalised text once."""
        found: dict[str, tuple[str, str, tuple[str, ...]]] = {}
        for row in sorted(self._rows, key=lambda row: unit_hash("asked", row.item_id))[:_ASKED_OF]:
            category = f"category {row.category}"
            values = sorted(
                (value for value in row.values if words(value) != words(row.category)),
                key=lambda value: unit_hash("value", value),
            )[:_VALUES]
            for terms in (*combinations(values, 1), *combinations(values, 2)):
                text = " ".join((*sorted(terms), row.category.lower())).strip()
                found.setdefault(normalize_query(text), (normalize_query(text), text, (*terms, category)))
        return sorted(found.values(), key=lambda entry: unit_hash("combination", entry[0]))
