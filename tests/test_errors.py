"""Messages count what they list, and advice is not counted; methods that no seed changes are told to need one run."""

import pytest

from ftbench import request, suite
from ftbench.errors import DataError, counted, several


@pytest.mark.parametrize(
    ("count", "shown"), [(0, "0 records"), (1, "1 record"), (2, "2 records"), (1234, "1,234 records")]
)
def test_counts(count, shown):
    assert counted(count, "record") == shown


def test_problems_are_listed_and_advice_is_not_one_of_them():
    assert str(several("x", ["a"], hint="Type y")) == "x: a\nType y"
    assert str(several("x", ["a", "b"], hint="Type y")) == "x: 2 problems\n  - a\n  - b\nType y"
    found = several("x", ["a", "b", "c", "d"], DataError, most=2)
    assert str(found) == "x: 4 problems\n  - a\n  - b\n  - and 2 more" and type(found) is DataError


def test_methods_that_no_seed_changes_are_said_to_need_one_run():
    def notes(methods, seeds):
        return suite.one_seed(
            request.requests(methods, ["query2item"], ["studio"], seeds, request.Request("", "")), seeds
        )

    assert notes(["bm25", "mean_pooling"], [0, 1]) == ["bm25: a seed changes nothing of it, so that one run suffices."]
    assert notes(["bm25"], [0]) == notes(["bm25"], [1, 1]) == notes(["random", "mean_pooling"], [0, 1]) == []
    assert any(note.startswith("mean_pooling (zero-shot): ") for note in notes(["default"], [0, 1]))
