"""The contract of a method, the two-tower base that most share, and loading one by name. Must not know tasks.

A method turns views into vectors (`embed`) or pairs of views into scores (`score`); the harness ranks and measures.
"""

import importlib
import importlib.util
import inspect
import json
import pkgutil
import re
import sys
import typing
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass, replace
from functools import cache
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch.nn import functional as F

from ftbench.batches import Batch, TrainingSet
from ftbench.embedder import Embedder
from ftbench.errors import FtbenchError, MethodError, RunError, place, unknown
from ftbench.losses import info_nce, symmetric_info_nce
from ftbench.settings import TrainerConfig, default_settings, parse_settings
from ftbench.trainer import Towers, Trained, Trainer
from ftbench.transport import weighted_mean
from ftbench.vectors import MultiVector, Vectors
from ftbench.views import Views, view_weights

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,79}")  # as records have it

_CALLED = {  # what of a method is called, with what
    "fit": ("train", "valid", "trainer"),
    "embed": ("views", "embedder"),
    "score": ("probes", "gallery"),
    "loss": ("batch", "towers", "generator"),
}


class Method:
    """What every method declares. Subclass it in one file of `baselines/` (or your own file) and name the class Method.

    modalities: what it can embed or score; a pair of views it cannot enter shows "—".
    ranked: False for a ceiling that reads what no method may. trained: whether `fit` spends the budget.
    lexical: True when it scores pairs instead of embedding. seeded: whether another seed gives other numbers.
    zero_shot: whether it also has a row with budget 0.
    space: for each track the values that `ftbench tune` tries of each setting; `trainer.KEY` is one of the trainer's.
    tuned: for each track the settings that differ from Config's and the trainer's defaults, from a committed search.
    home: the track it is made for, "" where the task says which.
    parts: other methods that it calls; their files belong to its identity.
    """

    modalities: ClassVar[tuple[str, ...]] = ("image", "text")
    ranked: ClassVar[bool] = True
    trained: ClassVar[bool] = False
    lexical: ClassVar[bool] = False
    seeded: ClassVar[bool] = False
    zero_shot: ClassVar[bool] = False
    home: ClassVar[str] = ""
    space: ClassVar[Mapping[str, Mapping[str, tuple]]] = {}
    tuned: ClassVar[Mapping[str, Mapping[str, object]]] = {}
    parts: "tuple[Method, ...]" = ()
    name: str = ""
    path: Path | None = None
    track: str = ""

    @dataclass(frozen=True)
    class Config:
        """No settings."""

    def __init__(self, config: "Method.Config | None" = None):
        self.config = config or self.Config()

    def fit(self, train: TrainingSet, valid: TrainingSet, trainer: Trainer) -> Trained | None:
        """Learn from the training split; `valid` may be looked at, too. No test data is in reach."""
        return None

    def embed(self, views: Views, embedder: "Embedder | None") -> Vectors:
        """One row per row of `views` (an item, or a probe with one view): (n, d) float32, a vector each, or a
        MultiVector, one vector for each view and how their products make a score. Probes have one vector each."""
        raise NotImplementedError

    def score(self, probes: Views, gallery: Views) -> np.ndarray:
        """(q, n) float32, higher is better; for lexical methods. One that is trained, too, is given the embedder as a
        third argument."""
        raise NotImplementedError


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows (..., d) at unit length; zero rows stay zero."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(length > 0, length, 1)


def item_vector(image_mean, text_mean, normalize):
    """normalize(½ normalize(image mean) + ½ normalize(text mean)): (n, d), (n, d) -> (n, d).

    Works on arrays and tensors alike; a zero row (an item without that modality) leaves the other alone.
    """
    return normalize(normalize(image_mean) + normalize(text_mean))


def spaces(supervised: Mapping[str, tuple] | None = None, aligned: Mapping[str, tuple] | None = None) -> dict:
    """What `ftbench tune` tries of a two-tower method: the rates and the loss weight that all share, and its own."""
    rates = {"trainer.learning_rate": (0.0015, 0.003, 0.006), "alignment_weight": (0.0, 0.1, 0.3)}
    slower = {"trainer.learning_rate": (0.001, 0.003, 0.006, 0.012, 0.03), "trainer.image_rate": (0.03, 0.1)}
    return {"supervised": rates | dict(supervised or {}), "aligned": slower | dict(aligned or {})}


class TwoTower(Method):
    """Image and text towers, a loss over sampled views, one fused vector per item at inference."""

    trained = True
    seeded = True
    space = spaces()

    def begin(self, data: TrainingSet, towers: Towers) -> None:
        """Nothing to prepare, unless a method says otherwise."""
        self.views = data.views

    def learned(self) -> Iterable[torch.nn.Parameter]:
        """Parameters of the method's own, made in `begin` on the towers' device, trained beside the towers."""
        return ()

    @abstractmethod
    def loss(self, batch: Batch, towers: Towers, generator: torch.Generator) -> torch.Tensor:
        """The scalar to minimise for one batch."""

    def objective(self, batch: Batch, towers: Towers, image: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        """The loss of a batch from its items' image side and text side, each (b, d), of any length.

        Without queries: the image-text loss between the sides. With queries: their loss against item vectors, plus
        `alignment_weight` of the former.
        """
        if batch.queries is None:
            return self.alignment(batch, towers, image, text)
        loss = self.query_loss(batch, towers, self.fuse(image, text, F.normalize))
        weight = getattr(self.config, "alignment_weight", None)
        if weight is None:
            raise RunError(
                f"the Config of {self.name} has no alignment_weight, by which `objective` weighs the image-text loss. "
                "Give it one: alignment_weight: float = 0.1"
            )
        if weight and batch.both.sum() > 1:
            loss = loss + weight * self.alignment(batch, towers, image, text)
        return loss

    def query_loss(self, batch: Batch, towers: Towers, items: torch.Tensor) -> torch.Tensor:
        """InfoNCE from queries to item vectors (b, d), those of the same query text left out of the negatives."""
        return self.query_terms(batch, towers, lambda queries: queries @ items.T, info_nce)

    def query_terms(
        self, batch: Batch, towers: Towers, similarity: Callable[[torch.Tensor], torch.Tensor], loss: Callable
    ) -> torch.Tensor:
        """The mean of `loss`(logits (b, b), same (b, b)) over the queries of an item; of the batch's ranking loss
        where it has weak labels.

        similarity: queries (b, d) -> (b, b), row i for query i, column j for item j.
        """
        queries = towers.queries(batch.queries.reshape(-1)).view(*batch.queries.shape, -1)  # (b * k, d) -> (b, k, d)
        terms = []
        for k in range(batch.queries.shape[1]):
            logits = towers.scale * similarity(queries[:, k])
            if batch.labels is None:
                terms.append(loss(logits, batch.same[:, k].to(logits.device)))
                continue
            labels, weights = batch.labels[:, k].to(logits.device), batch.weights[:, k].to(logits.device)
            terms.append((weights * batch.ranking_loss(logits, towers.scale, labels)).mean())
        return torch.stack(terms).mean()

    def alignment(self, batch: Batch, towers: Towers, image: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        """Symmetric InfoNCE between the two sides of the batch's items that have both; 0 where fewer than two have."""
        both = batch.both.to(image.device)
        if both.sum() < 2:
            return image.sum() * 0.0
        return symmetric_info_nce(F.normalize(image[both], dim=-1), F.normalize(text[both], dim=-1), towers.scale)

    def weights(self, ids: np.ndarray) -> np.ndarray:
        """View weights (n, m) float32 at inference for ids (n, m); all views alike, unless a method says otherwise."""
        return view_weights(ids, None)

    def pool(self, kind: str, vectors: torch.Tensor, ids: np.ndarray) -> torch.Tensor:
        """One side of items from their views: vectors (n, m, d), zero rows where ids (n, m) are -1 -> (n, d).

        The weighted mean, unless a method says otherwise; a single view must give itself, up to its length.
        """
        return weighted_mean(vectors, torch.from_numpy(self.weights(ids)).to(vectors.device))

    def fuse(self, image, text, normalize):
        """Item vectors (n, d) of unit length from the pooled sides (n, d) each: arrays or tensors, as `item_vector`."""
        return item_vector(image, text, normalize)

    def fit(self, train: TrainingSet, valid: TrainingSet, trainer: Trainer) -> Trained:
        return trainer.train(self, train)

    def side(self, kind: str, views: Views, embedder: Embedder) -> np.ndarray:
        """One side of items at inference, (n, d) float32; zeros where there is no view of that kind."""
        ids = views.images if kind == "image" else views.texts
        needed = np.where(self.weights(ids) > 0, ids, -1)
        vectors = torch.from_numpy(embedder.vectors(replace(views, **{kind + "s": needed}), kind))
        with torch.inference_mode():
            return self.pool(kind, vectors.to(embedder.device), ids).float().cpu().numpy()

    def embed(self, views: Views, embedder: Embedder) -> np.ndarray:
        sides = [self.side(kind, views, embedder) for kind in ("image", "text")]
        return self.fuse(*sides, unit).astype(np.float32)


class AllViews(TwoTower):
    """Two towers that encode every view of every item at every step; `pool` makes an item's sides of them."""

    def loss(self, batch: Batch, towers: Towers, generator: torch.Generator) -> torch.Tensor:
        sides = []
        for kind, ids, encode in (
            ("image", self.views.images, towers.images),
            ("text", self.views.texts, towers.texts),
        ):
            chosen = ids[batch.items]  # (b, m)
            sides.append(self.pool(kind, encode_views(encode, chosen), chosen))
        return self.objective(batch, towers, *sides)


def encode_views(encode: Callable[[np.ndarray], torch.Tensor], ids: np.ndarray) -> torch.Tensor:
    """All views of items: ids (b, m) int64, -1 where missing -> (b, m, d), zero rows there."""
    return encode(ids.reshape(-1)).view(*ids.shape, -1)  # (b * m,) -> (b, m, d)


def multi_vector(
    views: Views, embedder: Embedder, image: np.ndarray, text: np.ndarray, epsilon: float = 0.0
) -> MultiVector:
    """One vector per view: weights image (n, m) and text (n, k) float32, each row summing to 1 or 0, have half of the
    weight each where an item has both kinds. Views of weight 0 are not encoded."""
    parts = []
    for kind, ids, own in (("image", views.images, image), ("text", views.texts, text)):
        parts.append((embedder.vectors(replace(views, **{kind + "s": np.where(own > 0, ids, -1)}), kind), own))
    vectors, weights = (np.concatenate(part, axis=1) for part in zip(*parts, strict=True))
    return MultiVector(vectors, weights / np.maximum(weights.sum(axis=1, keepdims=True), 1), epsilon)


def method_names() -> list[str]:
    """The methods in the package, in order of name, and those of installed entry points (group ftbench.methods)."""
    import ftbench.baselines

    bundled = [m.name for m in pkgutil.iter_modules(ftbench.baselines.__path__)]
    return sorted({*bundled, *_entry_points()})


@cache  # reads the metadata of everything that is installed
def _entry_points() -> dict:
    from importlib.metadata import entry_points

    return {point.name: point for point in entry_points(group="ftbench.methods")}


def located(name: str) -> tuple[str, Path]:
    """A method's own name and its file, which is not read. Raises FtbenchError where there is none."""
    if name.endswith(".py"):
        path = Path(name)
        if not path.is_file():
            raise FtbenchError(f"--method {name}: there is no such file. Give a path to a Python file with a class Method, or a name: ftbench list methods")  # noqa: E501  # fmt: skip
        if not _NAME.fullmatch(path.stem):
            raise FtbenchError(f"--method {name}: a file's name is the method's name, expected letters, digits, _ and -. Rename it.")  # noqa: E501  # fmt: skip
        return path.stem, path
    if name not in method_names():
        raise unknown("method", name, method_names(), "A path to a Python file works, too, such as my_method.py")
    points = _entry_points()
    module = points[name].value if name in points else f"ftbench.baselines.{name}"
    try:
        found = importlib.util.find_spec(module)
    except Exception:
        found = None
    if found is None or not found.origin:
        raise FtbenchError(f"method {name}: its entry point names {module}, which is not installed.")
    return name, Path(found.origin)


def unusable(name: str) -> Method:
    """What can be said of a method whose file cannot be used: a Method that knows its name and its file alone."""
    method = Method()
    method.name, method.path = located(name)
    return method


def _module(name: str):
    """The module of a method. Raises FtbenchError where there is none, MethodError where it cannot be imported."""
    short, path = located(name)
    try:
        if not name.endswith(".py"):
            points = _entry_points()
            return importlib.import_module(points[name].value if name in points else f"ftbench.baselines.{name}"), short
        spec = importlib.util.spec_from_file_location(f"ftbench_method_{short}", path)
        module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)  # where dataclasses look for names
        spec.loader.exec_module(module)
        return module, short
    except (Exception, SystemExit) as problem:
        raise MethodError(
            f"method {name} could not be imported: {type(problem).__name__}: {problem}{place(problem, [path])}. "
            "Expected a Python file with a class Method; CONTRIBUTING.md has a complete one."
        ) from problem


def _config(name: str, cls: type[Method], tuned: Mapping[str, object]):
    """The settings of a method as it is tuned. Raises MethodError where its class Config cannot serve."""
    config, wanted = cls.Config, "Expected a frozen dataclass Config whose fields all have a default."
    if not (inspect.isclass(config) and is_dataclass(config)):
        raise MethodError(f"method {name}: its Config is {config!r}, no dataclass. {wanted}")
    bare = [field.name for field in fields(config) if field.default is MISSING and field.default_factory is MISSING]
    if bare:
        raise MethodError(f"method {name}: its Config has no default for {', '.join(bare)}. {wanted}")
    try:
        typing.get_type_hints(config)
        made = replace(config(), **tuned)
        json.dumps(asdict(made), allow_nan=False)
    except Exception as problem:
        raise MethodError(
            f"method {name}: its Config cannot be used: {type(problem).__name__}: {problem}. {wanted} They are "
            "numbers, texts or booleans."
        ) from problem
    return made


def load_method(name: str, overrides: dict[str, str] | None = None, track: str = "") -> Method:
    """A method by name, by entry point or from a Python file, as it is tuned for a track, with `--set key=value`
    overrides as text.

    Raises FtbenchError for an unknown name, MethodError for a file without a usable class Method, SettingsError for
    unknown keys and values of another type.
    """
    module, short = _module(name)
    cls = getattr(module, "Method", None)
    if not inspect.isclass(cls) or not issubclass(cls, Method):
        raise MethodError(f"{name} has no class Method derived from ftbench.method.Method. See CONTRIBUTING.md.")
    base, needed = (TwoTower, "loss") if issubclass(cls, TwoTower) else (Method, "score" if cls.lexical else "embed")
    if getattr(cls, needed) is getattr(base, needed):
        raise MethodError(f"method {name}: its class Method has no function {needed}. See CONTRIBUTING.md.")
    for called, names in _CALLED.items():
        names = [*names, "embedder"] if called == "score" and cls.trained else names
        own = getattr(cls, called, None)
        if callable(own) and own is not getattr(Method, called, None):
            try:
                inspect.signature(own).bind("self", *names)
            except TypeError as problem:
                raise MethodError(f"method {name}: its {called} cannot be called as {called}({', '.join(names)}): {problem}. See CONTRIBUTING.md.") from None  # noqa: E501  # fmt: skip
    own = {key: value for key, value in cls.tuned.get(track, {}).items() if not key.startswith("trainer.")}
    config = parse_settings(f"method {short}", _config(name, cls, own), overrides or {})
    try:
        method = cls(config)
    except Exception as problem:
        where = place(problem, [Path(module.__file__)])
        raise MethodError(f"method {name} cannot be made: {type(problem).__name__}: {problem}{where}") from problem
    method.name, method.path, method.track = short, Path(module.__file__), track
    method.space = _space(cls, config)
    return method


def _space(cls: type[Method], config: object) -> Mapping[str, Mapping[str, tuple]]:
    """What searches try. A file answers for the space that it declares; of an inherited one it has what its Config
    has, since who writes a Config need not know what the base class would search."""
    declares = next(base for base in cls.__mro__ if "space" in vars(base))
    if declares.__module__ == cls.__module__:
        return cls.space
    known = {field.name for field in fields(config)}
    return {
        track: {key: values for key, values in space.items() if key in known or key.startswith("trainer.")}
        for track, space in cls.space.items()
    }


def trainer_settings(method: Method, overrides: dict[str, str] | None = None) -> TrainerConfig:
    """The trainer's settings of a loaded method: the track's, as tuned for the method, with overrides as text."""
    tuned = method.tuned.get(method.track, {}).items()
    shared = {key.removeprefix("trainer."): value for key, value in tuned if key.startswith("trainer.")}
    try:
        defaults = replace(default_settings(method.track), **shared)
    except TypeError as problem:
        raise MethodError(f"method {method.name}: what it has tuned of the trainer is not there: {problem}") from None
    return parse_settings("trainer", defaults, overrides or {})
