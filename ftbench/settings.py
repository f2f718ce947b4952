"""Settings as people type them, and those that all methods share. Must not know what they are used for."""

import typing
from dataclasses import dataclass, fields, replace

import numpy as np

from ftbench.errors import SettingsError, several, unknown

_EXPECTED = {float: "a number, such as 0.3", int: "a whole number, such as 3", bool: "true or false"}
BOARDS = ("equal-compute", "equal-steps")


@dataclass(frozen=True)
class TrainerConfig:
    """What every method shares. A run may override these with `--set trainer.KEY=VALUE`; they are part of its id."""

    budget: float = 350_000.0  # forward-equivalents of the image tower; about 90 s on one core with `tiny`
    steps: int = 300  # the budget of the equal-steps board, and of locked towers, which spend no encoder passes
    batch_size: int = 64  # items
    queries_per_item: int = 4  # queries of an item in a batch: its views are encoded once for all of them
    learning_rate: float = 3e-3  # AdamW, peak; this and the next two were chosen on studio's validation split
    image_rate: float = 0.3  # of learning_rate, for the image tower; aligned track: 0.03
    word_rate: float = 3.0  # of learning_rate, for word embeddings, each seen in few batches; aligned track: 0.03
    weight_decay: float = 0.01  # AdamW; matrices only
    warmup: float = 0.05  # share of the budget with a rising rate; a cosine to zero follows
    threads: int = 1  # of torch and BLAS; part of the id: sums in another order give other bits. One: no idle waiting

    def problems(self) -> list[str]:
        """What is wrong with these settings, all of it."""
        bounds = {
            "budget": 0,
            "steps": 0,
            "batch_size": 2,
            "queries_per_item": 1,
            "learning_rate": 0,
            "image_rate": 0,
            "word_rate": 0,
            "weight_decay": 0,
            "threads": 1,
        }
        found = [f"{k} is {getattr(self, k)}, expected at least {least}" for k, least in bounds.items()
                 if not getattr(self, k) >= least]  # fmt: skip
        return found + ([] if 0 <= self.warmup < 1 else [f"warmup is {self.warmup}, expected a share in [0, 1)"])


def default_settings(track: str) -> TrainerConfig:
    """What all methods of a track share, before `--set trainer.KEY=VALUE`.

    Without queries the foundation's weights are near the best already for many methods, which faster rates of the image
    tower leave worse than their start. Of 0.03 and 0.1 the one with the better mean over methods as they come (studio's
    cross_view, validation split); the searches try both, and some methods gain by 0.1.
    """
    return TrainerConfig(image_rate=0.03, word_rate=0.03) if track == "aligned" else TrainerConfig()


def parse_settings(what: str, defaults, overrides: dict[str, str]):
    """A frozen dataclass with some fields replaced by their values as typed; all problems in one SettingsError."""
    known = {field.name: field for field in fields(defaults)}
    types = typing.get_type_hints(type(defaults))
    values, problems = {}, []
    for key, text in overrides.items():
        if key not in known:
            problems.append(str(unknown("setting", key, known)))
            continue
        try:
            values[key] = _value(text, types[key])
        except ValueError:
            choices = typing.get_args(types[key])
            expected = f"one of {', '.join(choices)}" if choices else _EXPECTED.get(types[key], types[key].__name__)
            problems.append(f"{key}={text}: expected {expected}")
    for key, value in values.items():
        if key.endswith("share") and not 0 <= value <= 1:
            problems.append(f"{key}={value}: expected a share from 0 to 1")
    changed = replace(defaults, **values)
    if hasattr(changed, "problems"):
        problems += changed.problems()
    if problems:
        raise several(what, problems, SettingsError)
    return changed


def _value(text: str, kind: type):
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise ValueError
        return text.lower() == "true"
    if typing.get_origin(kind) is typing.Literal:
        if text not in typing.get_args(kind):
            raise ValueError
        return text
    value = kind(text)
    if isinstance(value, float) and not np.isfinite(value):
        raise ValueError
    return value
