"""Judged query-item pairs with an official test: which split each query and item falls into. Must not know any source.

The official test stays. Other queries are for validation where the hash of their text says so (DATASETS.md, "Mapping
and splits"), and for training otherwise. Items follow: one that a test query judges leaves train for test, one that a
validation query judges leaves it for validation (ours: else validation would judge next to nothing, 5% of 5%).
"""

from collections.abc import Mapping

from ftbench.items import Interaction, Judgement, Queries, Query, normalize_query, split_of
from ftbench.sources.rows import LARGE_SHARES, Tally


class Evidence:
    """Pairs as they are read. `pairs` counts them, `queries` the queries; each pair ends as kept, merged or dropped."""

    def __init__(self, pairs: Tally):
        self.pairs, self.queries = pairs, Tally()
        self._texts: dict[str, str] = {}
        self._gains: dict[str, dict[str, float]] = {}
        self._official: set[str] = set()

    def __contains__(self, query_id: str) -> bool:
        return query_id in self._texts

    def add(self, query_id: str, text: str, item_id: str, gain: float, test: bool) -> None:
        """One pair, already counted as read; the first of equal pairs stays. test: is it of the official test?"""
        if self._texts.setdefault(query_id, text) != text:
            self.pairs.drop("pair with another text than its query's")
            return
        gains = self._gains.setdefault(query_id, {})
        if test:
            self._official.add(query_id)
        if item_id in gains:
            self.pairs.merged += 1
        else:
            gains[item_id] = gain

    def split_queries(self) -> dict[str, str]:
        """Query id -> split; "" for a query outside the official test that asks the same text as one inside."""
        keys = {query_id: normalize_query(text) for query_id, text in self._texts.items()}
        asked = {keys[query_id] for query_id in self._official}

        def split(query_id: str) -> str:
            if query_id in self._official:
                return "test"
            if keys[query_id] in asked:
                return ""
            return "valid" if split_of("query", keys[query_id], LARGE_SHARES) == "valid" else "train"

        return {query_id: split(query_id) for query_id in keys}

    def claims(self) -> dict[str, str]:
        """Item id -> "test" or "valid", for the items that such queries judge; "" for those that no such query does."""
        splits, claims = self.split_queries(), {}
        for query_id, gains in self._gains.items():
            split = splits[query_id]
            for item_id in gains:
                if split == "test" or (split == "valid" and claims.get(item_id) != "test"):
                    claims[item_id] = split
                else:
                    claims.setdefault(item_id, "")
        return claims

    def evidence(
        self, placed: Mapping[str, str], relevant_from: float, slices: Mapping[str, tuple[str, ...]]
    ) -> Queries:
        """The queries with what is left of their pairs. To be called once: it counts.

        placed: item id -> split, of the items in the data set. relevant_from: the gain from which a train pair is an
        interaction. slices: query id -> names. A query that no pair of positive gain is left of is dropped.
        """
        splits = self.split_queries()
        queries, judgements, interactions = [], [], []
        for query_id, gains in self._gains.items():
            self.queries.read += 1
            split, left = splits[query_id], []
            for item_id, gain in gains.items():
                if reason := _wrong(split, placed.get(item_id), gain, relevant_from):
                    self.pairs.drop(reason)
                else:
                    left.append((item_id, gain))
            if not any(gain > 0 for _, gain in left):
                for _ in left:
                    self.pairs.drop("pair of a query without an item of positive gain")
                self.queries.drop("query without an item of positive gain")
                continue
            self.queries.kept += 1
            self.pairs.kept += len(left)
            queries.append(Query(query_id, self._texts[query_id], split, slices.get(query_id, ())))
            if split == "train":
                interactions += [Interaction(query_id, item_id) for item_id, _ in left]
            else:
                judgements += [Judgement(query_id, item_id, gain) for item_id, gain in left]
        return Queries(tuple(queries), tuple(judgements), tuple(interactions))


def _wrong(split: str, place: str | None, gain: float, relevant_from: float) -> str | None:
    """Why a pair is left out, or None. split: the query's; place: the item's, None where it is not in the data set."""
    if split == "":
        return "train pair whose query text is in the official test"
    if place is None:
        return "pair whose item is not in the data set or its tier"
    if split == "valid" and place != "valid":
        return "validation pair of a test item"
    if split == "train" and gain < relevant_from:
        return "train pair below the relevant gain"
    if split == "train" and place != "train":
        return "train pair of an item outside train"
    return None


def place_items(group_of: Mapping[str, str], claims: Mapping[str, str]) -> dict[str, str]:
    """Item id -> split. A group goes whole where its strictest claim sends it (test before valid), else by its hash."""
    strictest: dict[str, str] = {}
    for item_id, group in group_of.items():
        if claim := claims.get(item_id):
            strictest[group] = "test" if "test" in (claim, strictest.get(group)) else claim
    return {i: strictest.get(group) or split_of("item", group, LARGE_SHARES) for i, group in group_of.items()}
