"""What a person asks for: one request per run, checked before any is made. Must not know how a run goes."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import get_args, get_type_hints

import torch

from ftbench import metrics
from ftbench.catalogue import own_names
from ftbench.encoders.base import check_encoder
from ftbench.errors import MethodError, RunError, unknown
from ftbench.items import SPLITS
from ftbench.method import Method, load_method, trainer_settings
from ftbench.settings import BOARDS, TrainerConfig
from ftbench.sources import WITHOUT_QUERIES, check_name
from ftbench.task import TRACKS, Task, load_task

DEFAULT_METHODS = (
    "random", "bm25", "text_concat", "single_view_clip", "mean_pooling", "random_view", "max_pooling",
    "attention_pooling", "gated_fusion", "mean_pooling_all_views", "all_pairs", "sigmoid", "cwcl", "gcl", "m3g",
    "sinkhorn_transport", "late_interaction", "hybrid_rrf", "factorized_transport", "factorized_transport_cached",
    "oracle",
)  # fmt: skip
_EACH_VALUE = {"oracle": "reads"}  # settings of which the default methods have a row for each value
DEFAULT_TASKS = ("query2item", "cross_view")


def enters(method: Method, kind: str) -> bool:
    """Whether any part of a task of this kind is open to a method: all pairs of cross_view have an image in them."""
    return kind == "query2item" or "image" in method.modalities


def default_encoder(data: str) -> str:
    """The encoder that suits a data set: the one for drawings, or the one for photographs."""
    return "tiny" if data.startswith("studio") else "lite"


@dataclass(frozen=True)
class Request:
    """One run as a person asked for it. `track` and `encoder` None mean the task's and the data set's own."""

    method: str
    task: str
    data: str = "studio"
    encoder: str | None = None
    track: str | None = None
    board: str = "equal-compute"
    seed: int = 0
    settings: tuple[tuple[str, str], ...] = ()
    device: str = "auto"
    depth: int = 10
    split: str = "test"

    @property
    def label(self) -> str:
        """What a person calls this run among others."""
        own = [f"{key}={value}" for key, value in self.settings if not key.startswith("trainer.")]
        method = " ".join([self.method, *([f"({self.track})"] if self.track else []), *own])
        return f"{method} · {self.task} · {self.data} · seed {self.seed}"

    @property
    def command(self) -> str:
        """The command that makes this run again."""
        words = ["ftbench run", "--method", self.method, "--task", self.task, "--data", self.data]
        words += ["--encoder", self.encoder] if self.encoder else []
        words += ["--track", self.track] if self.track else []
        words += ["--board", self.board] if self.board != BOARDS[0] else []
        words += ["--seed", str(self.seed)]
        words += [word for key, value in self.settings for word in ("--set", f"{key}={value}")]
        words += ["--depth", str(self.depth)] if self.depth != 10 else []
        words += ["--split", self.split] if self.split != SPLITS[2] else []
        return " ".join(words)


def requests(methods: list[str], tasks: list[str], data: list[str], seeds: list[int], common: Request) -> list[Request]:
    """One request per run. The method `default` stands for the whole board, zero-shot rows and the ceilings included; a
    method that a seed does not change gets one run, as does one that cannot be loaded."""
    named = [*methods, *(DEFAULT_METHODS if "default" in methods else ())]
    loaded = {name: _loaded(name) for name in named if name != "default"}
    keys = {name: {f.name for f in fields(method.config)} if method else set() for name, method in loaded.items()}
    made = []
    for name_of_data in data:
        for task in tasks:
            expanded = _expanded(methods, loaded, name_of_data, common)
            asked = [name for name, _, _ in expanded]
            everyone = set().union(*(keys[name] for name in asked))
            guessed = any(loaded[name] is None for name in asked)  # whose settings nobody knows
            for name, track, more in expanded:
                method = loaded[name]
                # a setting that only another of the methods has is that one's; one that none has is an error of all
                own = tuple(
                    (key, value) for key, value in common.settings
                    if key.startswith("trainer.") or key in keys[name] or method is None
                    or (key not in everyone and not guessed)
                )  # fmt: skip
                still = method is None or not method.seeded
                still = still or (track == "zero-shot" and name_of_data.startswith("studio"))
                for seed in seeds[:1] if still else seeds:
                    about = {"method": name, "task": task, "data": name_of_data, "track": track, "seed": seed}
                    made.append(replace(common, **about, settings=own + more))
    return list(dict.fromkeys(made))


def _loaded(name: str) -> Method | None:
    """A method, or None where its file cannot be used; raises FtbenchError where there is none of that name."""
    try:
        return load_method(name)
    except MethodError:
        return None


def _expanded(methods: list[str], loaded: Mapping[str, Method | None], data: str, common: Request) -> list[tuple]:
    """(method, track, settings) of each row; `default` becomes all default methods that the data set is open to."""
    made = []
    for name in methods:
        if name != "default":
            made.append((name, common.track, ()))
            continue
        for default in DEFAULT_METHODS:
            method = loaded[default]
            if method is None or method.ranked:
                made.append((default, common.track, ()))
            elif data.startswith("studio"):
                made += [(default, common.track, each) for each in _each_value(method, common.settings)]
            if method and method.zero_shot and common.track is None:
                made.append((default, "zero-shot", ()))
    return made


def _each_value(method: Method, given: tuple[tuple[str, str], ...]) -> list[tuple[tuple[str, str], ...]]:
    """Settings of a row for each value of what a default method is shown with, unless one was given."""
    key = _EACH_VALUE.get(method.name)
    if key is None or key in dict(given):
        return [()]
    return [((key, value),) for value in get_args(get_type_hints(type(method.config))[key])]


@dataclass(frozen=True)
class Named:
    """What a request's names and settings stand for, before any data is opened."""

    task: Task
    method: Method
    config: TrainerConfig
    track: str


def check(request: Request) -> Named:
    """Check a request's names and settings, without opening data or encoders.

    Raises FtbenchError for names that do not exist; only then MethodError and SettingsError, which are its method's.
    """
    check_name(request.data, own_names())
    task = load_task(request.task, request.data)
    if request.split not in SPLITS[1:]:
        raise unknown("split", request.split, SPLITS[1:])
    if request.split == "valid":
        task = task.on_validation()
    for name in task.measures:
        metrics.parse(name)
    trainer = {key.removeprefix("trainer."): value for key, value in request.settings if key.startswith("trainer.")}
    own = {key: value for key, value in request.settings if not key.startswith("trainer.")}
    if request.track and request.track not in TRACKS:
        raise unknown("track", request.track, TRACKS)
    if request.board not in BOARDS:
        raise unknown("board", request.board, BOARDS)
    device_of(request.device)
    if request.encoder:
        check_encoder(request.encoder)
    if task.kind == "query2item" and request.data.partition("@")[0] in WITHOUT_QUERIES:
        raise RunError(f"{request.data} has no queries, which {request.task} searches by. Type: --task cross_view")
    known = load_method(request.method)
    track = request.track or ((known.home or task.track) if known.trained else "zero-shot")
    if known.home and not track.startswith(known.home):
        raise RunError(
            f"{request.method} is made for the {known.home} track, and {track} was given. Leave --track out."
        )
    if known.home.startswith("weak") and task.kind != "query2item":
        raise RunError(f"{request.method} labels queries, and {request.task} has none. Type: --task query2item")
    if track.startswith("weak") and not known.home:
        raise RunError(
            f"{request.method} learns from no weak labels by itself. Try: --method weak_supervision --set "
            f"ranker={request.method}"
        )
    method = load_method(request.method, own, track)
    return Named(task, method, trainer_settings(method, trainer), track)


def device_of(name: str) -> torch.device:
    """The device of a name; `auto` is a GPU where there is one. Raises FtbenchError for one this machine lacks."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name not in ("cpu", "cuda", "mps"):
        raise unknown("device", name, ("auto", "cpu", "cuda", "mps"))
    if (name == "cuda" and not torch.cuda.is_available()) or (name == "mps" and not torch.backends.mps.is_available()):
        raise RunError(f"--device {name}: this machine has none. Use --device cpu, or auto.")
    return torch.device(name)
