"""The contract of a method, the two-tower base that most share, and loading one by name. Must not know tasks.

A method turns views into vectors (`embed`) or pairs of views into scores (`score`); the harness ranks and measures.
"""

import importlib
import importlib.util
import inspect
import pkgutil
import typing
from abc import abstractmethod
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch.nn import functional as F

from ftbench.encoders.base import Encoder
from ftbench.encoders.cache import cached_features
from ftbench.errors import FtbenchError, several, unknown
from ftbench.items import Progress
from ftbench.losses import info_nce, symmetric_info_nce
from ftbench.trainer import Batch, Towers, Trained, Trainer, TrainingSet
from ftbench.views import Views, view_weights

_EMBED_BATCH = 512


class Method:
    """What every method declares. Subclass it in one file of `baselines/` (or your own file) and name the class Method.

    modalities: what it can embed or score; a pair of views it cannot enter shows "—".
    ranked: False for a ceiling that reads what no method may. trained: whether `fit` spends the budget.
    lexical: True when it scores pairs instead of embedding. seeded: whether another seed gives other numbers.
    zero_shot: whether it also has a row with budget 0.
    """

    modalities: ClassVar[tuple[str, ...]] = ("image", "text")
    ranked: ClassVar[bool] = True
    trained: ClassVar[bool] = False
    lexical: ClassVar[bool] = False
    seeded: ClassVar[bool] = False
    zero_shot: ClassVar[bool] = False
    name: str = ""
    path: Path | None = None

    @dataclass(frozen=True)
    class Config:
        """No settings."""

    def __init__(self, config: "Method.Config | None" = None):
        self.config = config or self.Config()

    def fit(self, train: TrainingSet, valid: TrainingSet, trainer: Trainer) -> Trained | None:
        """Learn from the training split; `valid` may be looked at, too. No test data is in reach."""
        return None

    def embed(self, views: Views, embedder: "Embedder | None") -> np.ndarray:
        """(n, d) float32, one vector per row of `views` (an item, or a probe with one view)."""
        raise NotImplementedError

    def score(self, probes: Views, gallery: Views) -> np.ndarray:
        """(q, n) float32, higher is better; for lexical methods."""
        raise NotImplementedError


class Embedder:
    """Vectors of a trained model for any views; each asset is encoded once, whatever asks for it."""

    def __init__(self, trained: Trained, encoder: Encoder, device: torch.device, progress: Progress):
        self.trained, self.encoder, self.device, self.progress = trained, encoder, device, progress
        self._known: dict[tuple[int, str], tuple[object, np.ndarray, np.ndarray]] = {}
        self.passes = {"image": 0, "text": 0}

    def vectors(self, views: Views, kind: str) -> np.ndarray:
        """(n, m, d) float32 unit vectors of one kind of view; zero rows where a view is missing."""
        ids = views.images if kind == "image" else views.texts
        key = (id(views.assets), kind)
        count = len(views.assets.image_sha256 if kind == "image" else views.assets.texts)
        assets, table, done = self._known.get(key, (views.assets, None, np.zeros(count, dtype=bool)))
        wanted = np.unique(ids[ids >= 0])
        new = wanted[~done[wanted]] if count else wanted
        if len(new):
            fresh = self._encode(views, kind, new)
            table = np.zeros((count, fresh.shape[1]), dtype=np.float32) if table is None else table
            table[new] = fresh
            done[new] = True
        self._known[key] = (assets, table, done)
        if table is None:
            return np.zeros((*ids.shape, 1), dtype=np.float32)
        return np.where((ids >= 0)[..., None], table[ids], np.float32(0))

    def _encode(self, views: Views, kind: str, ids: np.ndarray) -> np.ndarray:
        """(k, d) float32 of some assets; those of weights that no step has changed come from the cache."""
        if self.trained.steps or self.encoder.locked:  # a locked encoder's inputs are cached already
            return self._run_tower(views, kind, ids)
        digests = views.assets.image_sha256 if kind == "image" else views.assets.text_sha256
        known = [digests[i] if len(digests) else views.assets.texts[i] for i in ids]  # queries have texts alone
        key = (self.encoder.name, self.encoder.weights, self.encoder.image_size, f"{kind} vectors", *known)
        return cached_features(key, lambda: self._run_tower(views, kind, ids))

    def _run_tower(self, views: Views, kind: str, ids: np.ndarray) -> np.ndarray:
        if kind == "image":
            inputs = self.encoder.image_inputs(views.assets, self.progress)
            tower = self.trained.model.image
        else:
            inputs = self.encoder.text_inputs(views.assets.texts, ids, self.progress)
            tower = self.trained.model.text
        parts = []
        with torch.inference_mode():
            for start in range(0, len(ids), _EMBED_BATCH):
                chosen = ids[start : start + _EMBED_BATCH]
                parts.append(tower(inputs.gather(chosen).to(self.device)).float().cpu().numpy())
                self.progress(start + len(chosen), len(ids))
        self.passes[kind] += len(ids)
        return np.concatenate(parts)


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows (..., d) at unit length; zero rows stay zero."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(length > 0, length, 1)


def item_vector(image_mean, text_mean, normalize):
    """normalize(½ normalize(image mean) + ½ normalize(text mean)): (n, d), (n, d) -> (n, d).

    Works on arrays and tensors alike; a zero row (an item without that modality) leaves the other alone.
    """
    return normalize(normalize(image_mean) + normalize(text_mean))


class TwoTower(Method):
    """Image and text towers, a loss over sampled views, one fused vector per item at inference."""

    trained = True
    seeded = True

    def begin(self, data: TrainingSet, towers: Towers) -> None:
        """Nothing to prepare, unless a method says otherwise."""
        self.views = data.views

    @abstractmethod
    def loss(self, batch: Batch, towers: Towers, generator: torch.Generator) -> torch.Tensor:
        """The scalar to minimise for one batch."""

    def objective(self, batch: Batch, towers: Towers, image: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        """The loss of a batch from its items' image side and text side, each (b, d), of any length.

        Without queries: symmetric InfoNCE between the sides. With queries: InfoNCE from queries to item vectors, plus
        `alignment_weight` of the former.
        """
        if batch.queries is None:
            return self.alignment(towers, image, text)
        items = item_vector(image, text, F.normalize)
        queries = towers.queries(batch.queries.reshape(-1)).view(*batch.queries.shape, -1)  # (b * k, d) -> (b, k, d)
        terms = [
            info_nce(towers.scale * queries[:, k] @ items.T, batch.same[:, k].to(items.device))
            for k in range(batch.queries.shape[1])
        ]
        loss = torch.stack(terms).mean()
        if self.config.alignment_weight:
            loss = loss + self.config.alignment_weight * self.alignment(towers, image, text)
        return loss

    def alignment(self, towers: Towers, image: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        """Symmetric InfoNCE between the two sides of the batch's items."""
        return symmetric_info_nce(F.normalize(image, dim=-1), F.normalize(text, dim=-1), towers.scale)

    def weights(self, ids: np.ndarray) -> np.ndarray:
        """View weights (n, m) float32 at inference for ids (n, m); all views alike, unless a method says otherwise."""
        return view_weights(ids, None)

    def fit(self, train: TrainingSet, valid: TrainingSet, trainer: Trainer) -> Trained:
        return trainer.train(self, train)

    def embed(self, views: Views, embedder: Embedder) -> np.ndarray:
        means = []
        for kind, ids in (("image", views.images), ("text", views.texts)):
            weights = self.weights(ids)
            needed = np.where(weights > 0, ids, -1)
            part = replace(views, **{kind + "s": needed})
            means.append(np.einsum("nm,nmd->nd", weights, embedder.vectors(part, kind)))
        width = max(mean.shape[1] for mean in means)
        image, text = (mean if mean.shape[1] == width else np.zeros((len(mean), width), np.float32) for mean in means)
        return item_vector(image, text, unit).astype(np.float32)


def method_names() -> list[str]:
    """The methods in the package, in order of name, and those of installed entry points (group ftbench.methods)."""
    import ftbench.baselines

    bundled = [m.name for m in pkgutil.iter_modules(ftbench.baselines.__path__)]
    return sorted({*bundled, *_entry_points()})


def _entry_points() -> dict:
    from importlib.metadata import entry_points

    return {point.name: point for point in entry_points(group="ftbench.methods")}


def _module(name: str):
    if name.endswith(".py"):
        path = Path(name)
        if not path.is_file():
            raise FtbenchError(f"--method {name}: there is no such file. Give a path to a Python file with a class Method, or a name: ftbench list methods")  # noqa: E501  # fmt: skip
        spec = importlib.util.spec_from_file_location(path.stem, path)
        module = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except Exception as problem:
            raise FtbenchError(
                f"--method {name} could not be imported: {type(problem).__name__}: {problem}"
            ) from problem
        return module, path.stem
    if name in _entry_points():
        return importlib.import_module(_entry_points()[name].value), name
    if name not in method_names():
        raise unknown("method", name, method_names(), "A path to a Python file works, too: --method my_method.py")
    return importlib.import_module(f"ftbench.baselines.{name}"), name


def load_method(name: str, overrides: dict[str, str] | None = None) -> Method:
    """A method by name, by entry point or from a Python file, with `--set key=value` overrides as text.

    Raises FtbenchError for an unknown name, a file without a class Method, unknown keys and values of another type.
    """
    module, short = _module(name)
    if not inspect.isclass(getattr(module, "Method", None)) or not issubclass(module.Method, Method):
        raise FtbenchError(f"{name} has no class Method derived from ftbench.method.Method. See CONTRIBUTING.md.")
    cls = module.Method
    method = cls(parse_settings(f"method {short}", cls.Config(), overrides or {}))
    method.name, method.path = short, Path(module.__file__)
    return method


def parse_settings(what: str, defaults, overrides: dict[str, str]):
    """A frozen dataclass with some fields replaced by their values as typed; all problems reported together."""
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
            expected = f"one of {', '.join(choices)}" if choices else types[key].__name__
            problems.append(f"{key}={text}: expected {expected}")
    for key, value in values.items():
        if key.endswith("share") and not 0 <= value <= 1:
            problems.append(f"{key}={value}: expected a share from 0 to 1")
    changed = replace(defaults, **values)
    if hasattr(changed, "problems"):
        problems += changed.problems()
    if problems:
        raise several(what, problems)
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
