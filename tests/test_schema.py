"""The quick check of a schema says yes and no exactly where the jsonschema library does."""

import copy
import json
from importlib.resources import files

import pytest
import synthetic
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from ftbench import record, schema

SCHEMA = json.loads(files("ftbench").joinpath("record.schema.json").read_text(encoding="utf-8"))
REFERENCE = Draft202012Validator(SCHEMA)
ACCEPTS = schema.compiled(SCHEMA)


@pytest.fixture(scope="module")
def drafts(tmp_path_factory):
    results = tmp_path_factory.mktemp("results")
    about = [{}, {"task": "cross_view", "method": "factorized_transport"}, {"method": "bm25"}]
    return [record.read(synthetic.add(results, n_queries=6, n_items=20, **one)) for one in about]


def places(value, at=()):
    """Where a JSON value has parts: paths of keys and positions."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in inside:
        yield (*at, key)
        yield from places(part, (*at, key))


WRONG = st.sampled_from(
    [None, True, False, 0, 1, -1, 2, 0.5, 1.0, 1.5, -0.0, 1e300, float("nan"), float("inf"), 10**20, "", "ok", "error",
     "x" * 130, "x" * 600, "ndcg@10", "ndcg@0", "a" * 64, "a" * 64 + "\n", "é", [], [1], [0, 1.0], [1, 2, 3], [True, 0],
     ["ndcg@10", "ndcg@10"], {}, {"name": "a", "title": "b"}, {"a": 1}]
)  # fmt: skip


@given(st.data())
@settings(max_examples=1500, deadline=None, derandomize=True)
def test_it_agrees_with_the_library_wherever_a_record_is_changed(drafts, data):
    entry = copy.deepcopy(data.draw(st.sampled_from(drafts)))
    for _ in range(data.draw(st.integers(1, 2))):
        *to, last = data.draw(st.sampled_from(sorted(places(entry), key=str)))
        where = entry
        for key in to:
            where = where[key]
        change = data.draw(st.sampled_from(["replace", "remove", "add"]))
        if change == "replace":
            where[last] = copy.deepcopy(data.draw(WRONG))
        elif change == "remove":
            del where[last]
        elif isinstance(where, dict):
            where[data.draw(st.sampled_from(["more", "rr@5", ""]))] = copy.deepcopy(data.draw(WRONG))
        else:
            where.append(copy.deepcopy(data.draw(WRONG)))
    assert ACCEPTS(entry) is REFERENCE.is_valid(entry)


@given(st.data())
@settings(max_examples=400, deadline=None, derandomize=True)
@pytest.mark.parametrize(
    "part",
    [
        {"type": ["integer", "null"], "minimum": 0},
        {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
        {"type": "string", "pattern": "^o", "minLength": 1, "maxLength": 3},
        {"enum": ["ok", 1, None]},
        {"const": 1},
        {"oneOf": [{"type": "null"}, {"type": "number"}, {"minimum": 1}]},
        {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "number"}], "maxItems": 2},
        {"items": {"type": "integer"}, "minItems": 1, "uniqueItems": True},
        {"required": ["a"], "properties": {"a": {"const": 1}}, "additionalProperties": False},
        {"propertyNames": {"maxLength": 1}, "minProperties": 1, "additionalProperties": {"type": "integer"}},
        {"if": {"type": "integer"}, "then": {"minimum": 1}, "else": {"type": "string"}},
        {"$defs": {"a": {"items": {"$ref": "#/$defs/b"}}, "b": {"type": "integer"}}, "$ref": "#/$defs/a"},
    ],
    ids=lambda part: next(iter(part)),
)
def test_every_keyword_by_itself(part, data):
    value = data.draw(WRONG)
    Draft202012Validator.check_schema(part)
    assert schema.compiled(part)(value) is Draft202012Validator(part).is_valid(value)


def test_a_keyword_that_it_does_not_know_is_refused():
    with pytest.raises(ValueError, match="multipleOf"):
        schema.compiled({"properties": {"a": {"multipleOf": 2}}})
