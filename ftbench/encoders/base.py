"""One face for every encoder: an open_clip model as two towers, its inputs, its weights' hash, what a pass costs.

Must not know methods or tasks. Towers are either trained (inputs are pixels and tokens) or locked (inputs are the
towers' outputs, computed once and cached; only the projections train).
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from ftbench.assets import Assets
from ftbench.encoders.cache import cached_features
from ftbench.errors import FtbenchError, unknown
from ftbench.items import Progress

ENCODERS = {
    "tiny": "0.4M parameters, 48 px, for studio; foundation weights in the package (ftbench pretrain tiny)",
    "lite": "EfficientNet-Lite2 and MiniLM-L6, locked, with trained projections; needs ftbench[lite]",
    "MODEL/PRETRAINED": "any open_clip model by name, such as ViT-B-32/laion2b_s34b_b79k (downloads its weights)",
    "MODEL/FILE.pt": "an open_clip model with the weights of a local checkpoint file",
}


def weights_sha256(module: nn.Module) -> str:
    """SHA-256 over names, shapes and bytes of all parameters and buffers, in order of name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name}|{tuple(tensor.shape)}|{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


class TwoTowers(nn.Module):
    """Model inputs to unit vectors. `image`: (k, ...) -> (k, d); `text`: (k, ...) -> (k, d); both float32, on one sphere."""  # noqa: E501

    def __init__(self, model: nn.Module, image: Callable, text: Callable):
        super().__init__()
        self.model = model
        self._image, self._text = image, text

    def image(self, inputs: torch.Tensor) -> torch.Tensor:
        return F.normalize(self._image(self.model, inputs).float(), dim=-1)

    def text(self, inputs: torch.Tensor) -> torch.Tensor:
        return F.normalize(self._text(self.model, inputs).float(), dim=-1)

    def image_parameters(self) -> list[nn.Parameter]:
        """The image tower's parameters, where the towers are trained; none of a locked model's projections."""
        return list(self.model.visual.parameters()) if hasattr(self.model, "visual") else []

    def word_parameters(self) -> list[nn.Parameter]:
        """The word embeddings, where the text tower is open_clip's own and trained."""
        return [p for name, p in self.model.named_parameters() if name.endswith("token_embedding.weight")]

    @property
    def logit_scale(self) -> torch.Tensor:
        """Temperature of InfoNCE as exp of a learned scalar, at most 100 (as in CLIP, Radford et al. 2021)."""
        return self.model.logit_scale.clamp(max=float(np.log(100.0))).exp()


@dataclass(frozen=True)
class Inputs:
    """Model inputs by asset id: `gather(ids)` gives a tensor (k, ...) for the tower."""

    gather: Callable[[np.ndarray], torch.Tensor]


@dataclass(frozen=True)
class Encoder:
    """A named encoder with its initial weights.

    build(seed): a fresh model with the initial weights (the seed matters only to parts that have no trained weights).
    dimensions: width d of the vectors. image_flops, text_flops: floating-point operations of one forward pass of a
    tower; 0 for locked towers, which a training step never runs.
    """

    name: str
    build: Callable[[int], TwoTowers]
    preprocess: Callable[[list[np.ndarray]], torch.Tensor]
    tokenize: Callable[[list[str]], torch.Tensor]
    weights: str
    parameters: int
    image_size: int
    dimensions: int
    image_flops: float
    text_flops: float
    locked: bool = False
    image_features: Callable[[torch.Tensor], torch.Tensor] | None = None
    text_features: Callable[[torch.Tensor], torch.Tensor] | None = None

    def image_inputs(self, assets: Assets, progress: Progress) -> Inputs:
        """Inputs for the image tower by image asset id. A locked tower runs once over all; the cache keeps it."""
        if not self.locked:
            return Inputs(lambda ids: self.preprocess(assets.pixels(ids)))
        everything = np.arange(len(assets.image_sha256))
        table = cached_features(
            (self.name, self.weights, self.image_size, "image", *assets.image_sha256),
            lambda: self._features(everything, assets.pixels, self.preprocess, self.image_features, progress),
        )
        return Inputs(lambda ids: torch.from_numpy(table[ids]))

    def text_inputs(self, texts: tuple[str, ...], ids: np.ndarray, progress: Progress) -> Inputs:
        """Inputs for the text tower by position in `texts`; `ids` are the positions that will be asked for."""
        wanted = np.unique(ids[ids >= 0])
        chosen = [texts[i] for i in wanted]
        if self.locked:
            table = cached_features(
                (self.name, self.weights, "text", *(hashlib.sha256(text.encode()).hexdigest() for text in chosen)),
                lambda: self._features(
                    np.arange(len(chosen)),
                    lambda rows: [chosen[i] for i in rows],
                    self.tokenize,
                    self.text_features,
                    progress,
                ),
            )
            return Inputs(lambda ids: torch.from_numpy(table[np.searchsorted(wanted, ids)]))
        tokens = self.tokenize(chosen) if chosen else None
        return Inputs(lambda ids: tokens[torch.from_numpy(np.searchsorted(wanted, ids))])

    @staticmethod
    def _features(ids: np.ndarray, fetch: Callable, prepare: Callable, tower: Callable, progress: Progress):
        parts = []
        for start in range(0, len(ids), 32):
            chosen = ids[start : start + 32]
            with torch.inference_mode():
                parts.append(tower(prepare(fetch(chosen))).float().cpu().numpy())
            progress(start + len(chosen), len(ids))
        return np.concatenate(parts) if parts else np.zeros((0, 1), dtype=np.float32)


def pixel_batch(size: int, mean: tuple[float, ...], std: tuple[float, ...], images: list[np.ndarray]) -> torch.Tensor:
    """uint8 images (h, w, 3) to a normalised float32 batch (k, 3, size, size), channels last in memory.

    Images of another size are padded to a square with white and scaled, so that no part of a product is cut off.
    """
    batch = np.stack([image if image.shape[:2] == (size, size) else _squared(image, size) for image in images])
    pixels = torch.from_numpy(batch).permute(0, 3, 1, 2).float()  # (k, h, w, 3) -> (k, 3, h, w), still channels last
    scale = torch.tensor([255.0 * s for s in std]).view(1, 3, 1, 1)
    return pixels.sub_(torch.tensor([255.0 * m for m in mean]).view(1, 3, 1, 1)).div_(scale)


def _squared(image: np.ndarray, size: int) -> np.ndarray:
    from PIL import Image, ImageOps

    return np.asarray(ImageOps.pad(Image.fromarray(image), (size, size), Image.Resampling.BICUBIC, color="white"))


def pass_flops(towers: TwoTowers, image: torch.Tensor, text: torch.Tensor) -> tuple[float, float]:
    """Floating-point operations of one image and one text forward pass (torch's FlopCounterMode, batch of one)."""
    from torch.utils.flop_counter import FlopCounterMode

    counts = []
    for tower, batch in ((towers.image, image), (towers.text, text)):
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            tower(batch)
        counts.append(float(counter.get_total_flops()))
    return counts[0], counts[1]


def open_clip_towers(model: nn.Module) -> TwoTowers:
    return TwoTowers(
        model.to(memory_format=torch.channels_last), lambda m, x: m.encode_image(x), lambda m, x: m.encode_text(x)
    )


def encoder_of(name: str, model: nn.Module, preprocess: Callable, tokenize: Callable, size: int) -> Encoder:
    """An encoder with trained towers around an open_clip model whose weights are loaded."""
    model.eval()
    state = {key: value.clone() for key, value in model.state_dict().items()}

    def build(seed: int) -> TwoTowers:
        import copy

        fresh = copy.deepcopy(model)
        fresh.load_state_dict(state)
        return open_clip_towers(fresh.eval())

    towers = build(0)
    text = tokenize(["a"])
    flops = pass_flops(towers, preprocess([np.zeros((size, size, 3), np.uint8)]), text)
    with torch.no_grad():
        dimensions = towers.text(text).shape[1]
    return Encoder(
        name=name,
        build=build,
        preprocess=preprocess,
        tokenize=tokenize,
        weights=weights_sha256(model),
        parameters=sum(p.numel() for p in model.parameters()),
        image_size=size,
        dimensions=dimensions,
        image_flops=flops[0],
        text_flops=flops[1],
    )


def _tiny() -> Encoder:
    from importlib.resources import as_file, files

    from safetensors.torch import load_file

    from ftbench.encoders import tiny

    tokenizer = tiny.WordTokenizer(tiny.vocabulary())
    model = tiny.architecture(tokenizer.size)
    resource = files("ftbench.encoders").joinpath(tiny.WEIGHTS)
    if not resource.is_file():
        raise FtbenchError("the foundation weights of `tiny` are missing from this package. Make them: ftbench pretrain tiny")  # noqa: E501  # fmt: skip
    with as_file(resource) as path:
        model.load_state_dict(load_file(path))
    half = (0.5, 0.5, 0.5)
    return encoder_of("tiny", model, partial(pixel_batch, tiny.IMAGE_SIZE, half, half), tokenizer, tiny.IMAGE_SIZE)


def _lite() -> Encoder:
    from ftbench.encoders import lite

    base = lite.build(0)

    def build(seed: int) -> TwoTowers:
        return TwoTowers(
            _Projections(lite.build(seed)), lambda m, x: m.image_projection(x), lambda m, x: m.text_projection(x)
        )

    return Encoder(
        name="lite",
        build=build,
        preprocess=base.preprocess,
        tokenize=base.tokenize,
        weights=base.weights_sha256,
        parameters=sum(p.numel() for p in base.model.parameters()),
        image_size=base.image_size,
        dimensions=base.image_projection.out_features,
        image_flops=0.0,
        text_flops=0.0,
        locked=True,
        image_features=base.image_features,
        text_features=base.text_features,
    )


class _Projections(nn.Module):
    """The trainable part of a locked model: two linear projections and the temperature."""

    def __init__(self, built):
        super().__init__()
        self.image_projection = built.image_projection
        self.text_projection = built.text_projection
        self.logit_scale = built.model.logit_scale


def check_encoder(name: str) -> None:
    """Raise FtbenchError with near matches for an encoder that does not exist; nothing is loaded."""
    if name in ("tiny", "lite"):
        return
    import open_clip

    architecture, _, weights = name.partition("/")
    if not weights or architecture not in open_clip.list_models():
        near = get_close_matches(architecture, open_clip.list_models(), n=3)
        hint = "Other models are MODEL/PRETRAINED, such as ViT-B-32/laion2b_s34b_b79k: any that open_clip lists."
        raise unknown("encoder", architecture, ["tiny", "lite", *near], hint)
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if weights not in tags and not Path(weights).is_file():
        raise unknown("weights", weights, tags, f"They may also be a file: --encoder {architecture}/path/to/weights.pt")


def _named(name: str) -> Encoder:
    """`MODEL/PRETRAINED` or `MODEL/FILE`: an open_clip model with downloaded or local weights."""
    import open_clip

    check_encoder(name)
    architecture, _, weights = name.partition("/")
    try:
        model, _, _ = open_clip.create_model_and_transforms(architecture, pretrained=weights)
    except Exception as problem:
        raise FtbenchError(f"open_clip could not load {name!r}: {problem}. Check the network, or name a local file.") from problem  # noqa: E501  # fmt: skip
    size = model.visual.image_size
    size = size[0] if isinstance(size, tuple) else size
    config = open_clip.get_model_preprocess_cfg(model)
    preprocess = partial(pixel_batch, size, tuple(config["mean"]), tuple(config["std"]))
    return encoder_of(name, model, preprocess, open_clip.get_tokenizer(architecture), size)


def load_encoder(name: str) -> Encoder:
    """An encoder by name (`ENCODERS` lists the forms). Raises FtbenchError with near matches for an unknown one."""
    if name == "tiny":
        return _tiny()
    if name == "lite":
        return _lite()
    return _named(name)
