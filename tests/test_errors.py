"""Messages count what they list, and advice is not counted; methods that no seed changes are told to need one run."""

import pytest

from ftbench import inventory, plan, request, suite
from ftbench.errors import DataError, FtbenchError, counted, several, unknown
from ftbench.items import silent
from ftbench.method import load_method
from ftbench.request import Request, check
from ftbench.studies import load_study


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


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        (
            Request("bm25", "query2item", "abo@10k"),
            "abo@10k has no queries, which query2item searches by. Type: --task",
        ),
        (Request("gws_self", "cross_view"), "gws_self labels queries, and cross_view has none. Type: --task query2"),
        (Request("bm25", "query2item", encoder="tinny"), "unknown encoder 'tinny'. Did you mean 'tiny'?"),
    ],
)
def test_what_cannot_go_together_is_refused_before_any_data_is_opened(asked, text):
    with pytest.raises(FtbenchError) as raised:
        check(asked)
    assert text in str(raised.value)


def test_data_too_small_to_rank_is_said_with_what_is_large_enough(session_cache):
    session = plan.Session(None, lambda title: silent)
    with pytest.raises(FtbenchError, match="studio@60 has 4 items.*Take a larger.*--data studio@200") as raised:
        plan.plan(Request("bm25", "query2item", "studio@60", split="valid"), session)
    assert "--depth" not in str(raised.value)
    with pytest.raises(FtbenchError, match="studio@200 has 61 items to search.*at most as many. Type: --depth 61"):
        plan.plan(Request("bm25", "query2item", "studio@200", depth=100), session)


def test_of_many_names_the_near_ones_are_said_and_all_where_none_is_near():
    many = [f"method_{i}" for i in range(30)]
    assert str(unknown("method", "method_1x", many)).endswith("?")
    assert "Known: method_0, " in str(unknown("method", "zebra", many))
    assert str(unknown("split", "tset", ["valid", "test"])).endswith("Did you mean 'test'? Known: test, valid.")


def test_a_description_has_settings_as_they_are_tuned_and_what_was_tried():
    told = inventory.description("factorized_transport")
    tuned = load_method("factorized_transport").tuned["supervised"]
    assert tuned and all(f"{key}={value}" in told for key, value in tuned.items())
    assert "What ftbench tune tries on the aligned track:\n  trainer.learning_rate: 0.001, 0.003" in told


def test_a_description_leaves_out_a_track_that_is_not_open_to_the_method():
    assert "aligned" in load_method("hybrid_rrf").tuned  # the dense method's
    told = inventory.description("hybrid_rrf")
    assert "As tuned on the supervised track" in told and "tuned on the aligned track" not in told


def test_a_study_is_described_with_its_question_and_command():
    told = " ".join(inventory.description("recall500").split())
    study = load_study("recall500")
    assert told.startswith(f"Study recall500: {study.title} {' '.join(study.question.split())}")
    assert f"{len(study.cells(False))} cells" in told and "at most 3 hours" in told
    assert "ftbench study recall500 (its cells: with --list)" in told
    with pytest.raises(FtbenchError, match="Did you mean 'recall500'"):
        inventory.description("recal500")


def test_a_data_set_that_a_run_prepares_is_said_to_be(session_cache):
    told = inventory.description("studio@77")
    assert told.endswith("The first run on it prepares it; to do so now: ftbench data prepare studio@77")
    needed = inventory.description("amazon-reviews")  # of which category?
    assert needed.endswith(
        "Not prepared here yet: ftbench data prepare amazon-reviews --category All_Beauty --tier 10k"
    )
