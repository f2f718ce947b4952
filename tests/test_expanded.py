"""BM25 with expanded queries: weights and scores from loops, MiniLM's own words, and what has no words."""

import math

import bm25s
import numpy as np
import pytest

from ftbench.errors import SettingsError
from ftbench.method import load_method
from ftbench.views import text_probes

# Words at corners and edges of a square, so that cosines less the mean can be told by hand.
VECTORS = {"trousers": (1, 0), "shirt": (-1, 0), "red": (0, 1), "blue": (0, -1), "pants": (3, 1), "scarlet": (1, 3)}
GALLERY = ["Red trousers", "blue trousers", "red shirt", "blue shirt shirt"]


def method_of(monkeypatch, **settings):
    found = load_method("bm25_expanded", {name: str(value) for name, value in settings.items()})
    monkeypatch.setattr(
        found, "_vectors", lambda words: np.array([VECTORS.get(word, (9, 9)) for word in words], dtype=np.float32)
    )
    return found


def naive_weights(word, known, words, temperature):
    """Softmax of cosines less the mean of the known words, the nearest `words` of them."""
    centre = [sum(VECTORS[other][axis] for other in known) / len(known) for axis in (0, 1)]

    def moved(one):
        return [VECTORS[one][axis] - centre[axis] for axis in (0, 1)]

    def cosine(a, b):
        return sum(x * y for x, y in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b)

    near = sorted(((cosine(moved(word), moved(other)), other) for other in known), key=lambda pair: -pair[0])[:words]
    total = sum(math.exp(value / temperature) for value, _ in near)
    return {other: math.exp(value / temperature) / total for value, other in near}


@pytest.mark.parametrize(("words", "temperature"), [(1, 0.1), (3, 0.2), (9, 1.0)])
def test_scores_are_the_naive_sum_over_words(monkeypatch, words, temperature):
    method = method_of(monkeypatch, words=words, temperature=temperature)
    found = method.score(text_probes(["scarlet pants", "blue shirt"]), text_probes(GALLERY))
    assert found.shape == (2, 4) and found.dtype == np.float32
    documents = [text.lower().split() for text in GALLERY]
    known = sorted({word for document in documents for word in document})
    index = bm25s.BM25(k1=method.config.k1, b=method.config.b)
    index.index(documents, show_progress=False)
    for own, query in zip(found, (["scarlet", "pants"], ["blue", "shirt"]), strict=True):
        expected = np.zeros(4)
        for word in query:
            for other, weight in naive_weights(word, known, words, temperature).items():
                expected += weight * index.get_scores([other])
        np.testing.assert_allclose(own, expected, rtol=1e-5, atol=1e-6)


def test_weights_sum_to_one_and_a_known_word_is_its_own_nearest(monkeypatch):
    method = method_of(monkeypatch, words=2)
    vectors = method._vectors(["trousers", "shirt", "red", "blue"])
    nearest, weights = method.expanded(vectors, vectors)
    assert nearest[:, 0].tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-6)
    assert (weights[:, 0] > weights[:, 1]).all()


def test_one_word_is_plain_bm25_where_all_words_are_known(monkeypatch):
    queries, gallery = text_probes(["red trousers", "blue"]), text_probes(GALLERY)
    plain = load_method("bm25", {"k1": "1.5", "b": "0.75"}).score(queries, gallery)
    np.testing.assert_allclose(method_of(monkeypatch, words=1).score(queries, gallery), plain, rtol=1e-6)


def test_buyers_words_find_sellers_words():
    method = load_method("bm25_expanded")
    texts = ["shirt of cotton", "trousers of wool", "footwear of leather", "lamp of metal"]
    found = method.score(text_probes(["pants", "shoe", "woollen", "metallic light"]), text_probes(texts))
    assert found.argmax(axis=1).tolist() == [1, 2, 1, 3]


def test_without_words_all_scores_are_nought(monkeypatch):
    method = method_of(monkeypatch)
    assert not method.score(text_probes(["", "?"]), text_probes(GALLERY)).any()
    assert not method.score(text_probes(["red"]), text_probes(["", ""])).any()


def test_settings_without_sense_are_refused():
    with pytest.raises(SettingsError, match="words is 0, expected at least 1"):
        load_method("bm25_expanded", {"words": "0"})
    with pytest.raises(SettingsError, match="temperature is 0.0, expected more than 0"):
        load_method("bm25_expanded", {"temperature": "0"})
