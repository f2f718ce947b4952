"""BM25 over an item's texts (Robertson et al. 1994), with the library bm25s: what words alone can do.

Idea: title, description and tags of an item are one document; the query's words score it.
Differs from the paper: the library's form of the inverse document frequency (Lucene's, never negative); no relevance
feedback. It is the lexical reference and has no image side.
"""

from dataclasses import dataclass

import numpy as np

from ftbench import method


class Method(method.Method):
    modalities = ("text",)
    lexical = True
    space = {"zero-shot": {"k1": (0.6, 0.9, 1.2, 1.5, 2.0), "b": (0.0, 0.25, 0.4, 0.75, 1.0)}}
    tuned = {
        "zero-shot": {"k1": 2.0, "b": 0.4},
    }

    @dataclass(frozen=True)
    class Config:
        k1: float = 1.5  # term saturation; bm25s default
        b: float = 0.75  # length normalisation; bm25s default
        title_only: bool = False  # rank by the primary text alone

    def score(self, probes, gallery):
        import bm25s

        def words(texts):
            return bm25s.tokenize(texts, stopwords=None, return_ids=False, show_progress=False)

        columns = gallery.texts[:, :1] if self.config.title_only else gallery.texts
        documents = [" ".join(gallery.assets.texts[i] for i in row if i >= 0) for row in columns]
        index = bm25s.BM25(k1=self.config.k1, b=self.config.b)
        index.index(words(documents), show_progress=False)
        queries = words([probes.assets.texts[row[0]] for row in probes.texts])
        return np.stack([self._scores(index, query, len(gallery)) for query in queries])

    @staticmethod
    def _scores(index, query, items):
        known = [word for word in query if word in index.vocab_dict]
        return index.get_scores(known).astype(np.float32) if known else np.zeros(items, dtype=np.float32)
