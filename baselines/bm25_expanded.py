"""BM25 with queries expanded by word embeddings (Kuzi, Shtok and Kurland, CIKM 2016): buyers' words meet sellers'.

Idea: a word of the query counts as the words of the gallery nearest to it, weighted by a softmax of their cosines, so
that "trousers" are found for "pants". It needs no training on the catalogue.
Differs from the paper: it expands a query language model with Word2Vec vectors of the corpus, keeping the query's own
words beside them; here each word is replaced (one that the gallery has is its own nearest), scores are BM25's, and
vectors are MiniLM's of single words (encoder `lite`, pip install 'ftbench[lite]'), less the mean over the gallery's.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ftbench import method
from ftbench.encoders.base import load_encoder
from ftbench.items import silent
from ftbench.method import unit

_KEPT = 1024  # words whose scores are held


class Method(method.Method):
    modalities = ("text",)
    lexical = True
    space = {
        "zero-shot": {
            "words": (3, 10, 30),
            "temperature": (0.03, 0.05, 0.1, 0.2),
            "k1": (0.6, 1.2, 1.5, 2.0),
            "b": (0.0, 0.4, 0.75),
        }
    }

    @dataclass(frozen=True)
    class Config:
        words: int = 10  # of the gallery that stand for one of the query
        temperature: float = 0.1  # of the softmax over their cosines
        k1: float = 1.5  # term saturation; bm25s default
        b: float = 0.75  # length normalisation; bm25s default

        def problems(self):
            found = [] if self.words >= 1 else [f"words is {self.words}, expected at least 1"]
            ok = self.temperature > 0
            return found + ([] if ok else [f"temperature is {self.temperature}, expected more than 0"])

    def score(self, probes, gallery):
        import bm25s

        documents = _words([" ".join(gallery.assets.texts[i] for i in row if i >= 0) for row in gallery.texts])
        queries = _words([probes.assets.texts[row[0]] for row in probes.texts])
        known, asked = (sorted({word for words in texts for word in words}) for texts in (documents, queries))
        found = np.zeros((len(queries), len(gallery)), dtype=np.float32)
        if not known or not asked:
            return found
        index = bm25s.BM25(k1=self.config.k1, b=self.config.b)
        index.index(documents, show_progress=False)
        nearest, weights = self.expanded(self._vectors(asked), self._vectors(known))
        place = {word: i for i, word in enumerate(asked)}

        @lru_cache(maxsize=_KEPT)
        def scores(word):
            row = place[word]
            return sum(w * index.get_scores([known[i]]) for i, w in zip(nearest[row], weights[row], strict=True))

        for own, query in zip(found, queries, strict=True):
            for word in query:
                own += scores(word)
        return found

    def expanded(self, asked, known):
        """Which words (a, k) int64 stand for each asked one, nearest first, and their weights (a, k) float32, which sum
        to 1: softmax(cosine / temperature) of the k nearest. asked, known: (a, d), (v, d) float32 vectors."""
        centre = known.mean(axis=0)
        cosines = unit(asked - centre) @ unit(known - centre).T  # (a, d) x (d, v) -> (a, v)
        nearest = np.argsort(-cosines, axis=1, kind="stable")[:, : self.config.words]
        logits = np.take_along_axis(cosines, nearest, axis=1) / self.config.temperature
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        return nearest, (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)

    def _vectors(self, words):
        """MiniLM's vectors (w, 384) float32 of single words."""
        encoder = load_encoder("lite")
        inputs = encoder.text_inputs(tuple(words), np.arange(len(words)), silent)
        return inputs.gather(np.arange(len(words))).numpy()


def _words(texts):
    import bm25s

    return bm25s.tokenize(texts, stopwords=None, return_ids=False, show_progress=False)
