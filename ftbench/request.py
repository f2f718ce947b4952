"""What a person asks for: one request per run, checked before any is made. Must not know how a run goes."""

from dataclasses import dataclass, fields, replace

import torch

from ftbench import metrics
from ftbench.catalogue import own_names
from ftbench.errors import RunError, unknown
from ftbench.items import SPLITS
from ftbench.method import Method, load_method, trainer_settings
from ftbench.settings import BOARDS, TrainerConfig
from ftbench.sources import check_name
from ftbench.task import TRACKS, Task, load_task

# In the order of the board; each with the tracks it has a row on besides the task's own.
DEFAULT_METHODS = (
    "random",
    "bm25",
    "single_view_clip",
    "mean_pooling",
    "mean_pooling_all_views",
    "factorized_transport",
    "factorized_transport_cached",
    "oracle",
)
DEFAULT_TASKS = ("query2item", "cross_view")


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
    """One request per run. The method `default` stands for the whole board, zero-shot rows included; a method that a
    seed does not change gets one run."""
    made = []
    for name_of_data in data:
        for task in tasks:
            expanded = _expanded(methods, name_of_data, common.track)
            keys = {method: {f.name for f in fields(load_method(method).config)} for method, _ in expanded}
            everyone = set().union(*keys.values())
            for method, track in expanded:
                loaded = load_method(method)
                # a setting that only another of the methods has is that one's; one that none has is an error of all
                own = tuple(
                    (key, value) for key, value in common.settings if key in keys[method] or key not in everyone
                )
                still = not loaded.seeded or (track == "zero-shot" and name_of_data.startswith("studio"))
                for seed in seeds[:1] if still else seeds:
                    made.append(
                        replace(
                            common, method=method, task=task, data=name_of_data, track=track, seed=seed, settings=own
                        )
                    )
    return list(dict.fromkeys(made))


def _expanded(methods: list[str], data: str, track: str | None) -> list[tuple[str, str | None]]:
    """(method, track) pairs; `default` becomes all default methods that the data set is open to."""
    pairs = []
    for name in methods:
        if name != "default":
            pairs.append((name, track))
            continue
        for default in DEFAULT_METHODS:
            method = load_method(default)
            if method.ranked or data.startswith("studio"):
                pairs.append((default, track))
            if method.zero_shot and track is None:
                pairs.append((default, "zero-shot"))
    return pairs


@dataclass(frozen=True)
class Named:
    """What a request's names and settings stand for, before any data is opened."""

    task: Task
    method: Method
    config: TrainerConfig
    track: str


def check(request: Request) -> Named:
    """Check a request's names and settings, without opening data or encoders. Raises FtbenchError."""
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
    track = request.track or (task.track if load_method(request.method).trained else "zero-shot")
    method = load_method(request.method, own, track)
    config = trainer_settings(method, trainer)
    device_of(request.device)
    if track == "weak":
        raise RunError("the weak track has no methods yet; use --track supervised, aligned or zero-shot.")
    return Named(task, method, config, track)


def device_of(name: str) -> torch.device:
    """The device of a name; `auto` is a GPU where there is one. Raises FtbenchError for one this machine lacks."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name not in ("cpu", "cuda", "mps"):
        raise unknown("device", name, ("auto", "cpu", "cuda", "mps"))
    if (name == "cuda" and not torch.cuda.is_available()) or (name == "mps" and not torch.backends.mps.is_available()):
        raise RunError(f"--device {name}: this machine has none. Use --device cpu, or auto.")
    return torch.device(name)
