"""A JSON schema as one quick yes or no, a hundred times faster than a library that must be able to explain itself.

Knows the keywords of JSON Schema 2020-12 that records use, and refuses to compile others, so that nothing is passed
over. Must not know records. What it refuses is for `jsonschema` to explain.
"""

import re
from collections.abc import Callable, Mapping
from math import inf

Check = Callable[[object], bool]

_ABOUT = {"$schema", "$defs", "title", "description"}
_NUMBERS = {"minimum", "maximum", "exclusiveMinimum"}
_STRINGS = {"pattern", "minLength", "maxLength"}
_LISTS = {"items", "prefixItems", "minItems", "maxItems", "uniqueItems"}
_OBJECTS = {"properties", "required", "additionalProperties", "propertyNames", "minProperties"}
_WHOLE = {"$ref", "type", "const", "enum", "oneOf", "if", "then", "else"}
_KNOWN = _ABOUT | _NUMBERS | _STRINGS | _LISTS | _OBJECTS | _WHOLE


def compiled(schema: Mapping) -> Check:
    """What tells whether a value, as `json.loads` gives it, is valid. Raises ValueError for an unknown keyword."""
    return _check(schema, {f"#/$defs/{name}": part for name, part in schema.get("$defs", {}).items()}, {})


def _check(schema: Mapping, named: Mapping[str, Mapping], made: dict[str, Check]) -> Check:
    """The check of a part of a schema. named: what `$ref` may name; made: those compiled so far."""
    if unknown := set(schema) - _KNOWN:
        raise ValueError(f"unknown keywords {sorted(unknown)}")

    def part(name: str) -> Check:
        return _check(schema[name], named, made) if name in schema else _any

    checks = []
    if "$ref" in schema:
        name = schema["$ref"]
        if name not in made:
            made[name] = _check(named[name], named, made)
        checks.append(made[name])
    if "type" in schema:
        kinds = schema["type"]
        checks.append(_types([kinds] if isinstance(kinds, str) else kinds))
    if "const" in schema:
        checks.append(lambda value: _equal(value, schema["const"]))
    if "enum" in schema:
        checks.append(lambda value: any(_equal(value, allowed) for allowed in schema["enum"]))
    if "oneOf" in schema:
        choices = [_check(choice, named, made) for choice in schema["oneOf"]]
        checks.append(lambda value: sum(choice(value) for choice in choices) == 1)
    if "if" in schema:
        condition, then, otherwise = part("if"), part("then"), part("else")
        checks.append(lambda value: then(value) if condition(value) else otherwise(value))
    if _NUMBERS & set(schema):
        checks.append(_numbers(schema))
    if _STRINGS & set(schema):
        checks.append(_strings(schema))
    if _LISTS & set(schema):
        prefix = [_check(item, named, made) for item in schema.get("prefixItems", [])]
        checks.append(_lists(schema, prefix, part("items")))
    if _OBJECTS & set(schema):
        known = {name: _check(value, named, made) for name, value in schema.get("properties", {}).items()}
        extra = schema.get("additionalProperties", True)
        other = (lambda value: extra) if isinstance(extra, bool) else part("additionalProperties")
        checks.append(_objects(schema, known, other, part("propertyNames")))
    if len(checks) == 2:  # most have two
        first, second = checks
        return lambda value: first(value) and second(value)
    return checks[0] if len(checks) == 1 else lambda value: all([check(value) for check in checks])


def _any(value: object) -> bool:
    return True


_TYPES = {"null": {type(None)}, "boolean": {bool}, "integer": {int}, "number": {int, float}, "string": {str},
          "array": {list}, "object": {dict}}  # fmt: skip


def _types(kinds: list[str]) -> Check:
    allowed = frozenset[type]().union(*(_TYPES[kind] for kind in kinds))  # JSON gives no subclasses
    if "integer" not in kinds:
        return lambda value: type(value) in allowed
    return lambda value: type(value) in allowed or (type(value) is float and value.is_integer())


def _equal(one: object, other: object) -> bool:
    """Equality of scalars, where true is not 1."""
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def _numbers(schema: Mapping) -> Check:
    least, most, above = (schema.get(name, end) for name, end in
                          (("minimum", -inf), ("maximum", inf), ("exclusiveMinimum", None)))  # fmt: skip

    def check(value: object) -> bool:
        if type(value) not in (int, float):
            return True
        return not (value < least or value > most or (above is not None and value <= above))

    return check


def _strings(schema: Mapping) -> Check:
    least, most = schema.get("minLength", 0), schema.get("maxLength", inf)
    search = re.compile(schema.get("pattern", "")).search

    def check(value: object) -> bool:
        return not isinstance(value, str) or (least <= len(value) <= most and search(value) is not None)

    return check


def _lists(schema: Mapping, prefix: list[Check], other: Check) -> Check:
    least, most, unique = schema.get("minItems", 0), schema.get("maxItems", inf), schema.get("uniqueItems", False)

    def check(value: object) -> bool:
        if not isinstance(value, list):
            return True
        if not least <= len(value) <= most or (unique and _repeats(value)):
            return False
        return all([test(item) for test, item in zip(prefix, value, strict=False)]) and all(
            [other(item) for item in value[len(prefix) :]]
        )

    return check


def _repeats(values: list) -> bool:
    return any(_equal(a, b) for i, a in enumerate(values) for b in values[:i])


def _objects(schema: Mapping, known: Mapping[str, Check], other: Check, name: Check) -> Check:
    required, least = frozenset(schema.get("required", ())), schema.get("minProperties", 0)
    free = name is _any

    def check(value: object) -> bool:
        if type(value) is not dict:
            return True
        if not required <= value.keys() or len(value) < least:
            return False
        for key, inner in value.items():
            if not known.get(key, other)(inner) or not (free or name(key)):
                return False
        return True

    return check
