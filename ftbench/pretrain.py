"""The foundation weights of `tiny`: contrastive training on single captioned drawings. Must not know methods or tasks.

It plays the part that CLIP's pretraining plays for photographs. Its drawings come from seeds that no catalogue uses,
with captions in sellers' words only and some attribute values held out; the datasheet of `studio` says so.
"""

import hashlib
import multiprocessing
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from ftbench.encoders import tiny
from ftbench.encoders.base import open_clip_towers, pixel_batch
from ftbench.errors import FtbenchError
from ftbench.items import Progress
from ftbench.losses import symmetric_info_nce
from ftbench.trainer import schedule

FOUNDATION_SEED = 7_000_000  # far from the seeds of any catalogue
_POOL = 80_000  # distinct drawings; each is seen several times
_BATCH, _RATE, _DECAY, _WARMUP = 256, 2e-3, 0.05, 0.05  # AdamW; cosine
_HALF = (0.5, 0.5, 0.5)


def _draw(span: tuple[int, int]) -> tuple[np.ndarray, list[str]]:
    from ftbench.sources.studio import captioned_drawing

    pairs = [captioned_drawing(FOUNDATION_SEED, i) for i in range(*span)]
    return np.stack([pixels for pixels, _ in pairs]), [caption for _, caption in pairs]


def drawings(count: int, progress: Progress) -> tuple[np.ndarray, list[str]]:
    """`count` captioned drawings: pixels uint8 (count, 48, 48, 3) and captions; drawn on all cores."""
    spans = [(start, min(start + 500, count)) for start in range(0, count, 500)]
    parts = []
    with multiprocessing.get_context("spawn").Pool() as pool:
        for part in pool.imap(_draw, spans):
            parts.append(part)
            progress(sum(len(captions) for _, captions in parts), count)
    return np.concatenate([pixels for pixels, _ in parts]), [caption for _, captions in parts for caption in captions]


def _epochs(count: int, batch: int) -> Iterator[np.ndarray]:
    generator = np.random.Generator(np.random.Philox(key=[FOUNDATION_SEED, 3]))
    while True:
        order = generator.permutation(count)
        yield from (order[i : i + batch] for i in range(0, count - batch + 1, batch))


def pretrain(encoder: str, out: Path | None, steps: int, progress: Progress, count: int = _POOL) -> str:
    """Train `tiny` from random weights and write its safetensors; returns a line that says where, with their sha256.

    Runs on one thread whatever the machine, so that the same command gives the same weights on the same machine.
    """
    if encoder != "tiny":
        raise FtbenchError(f"pretrain {encoder!r}: only `tiny` has foundation weights of our own. Type: ftbench pretrain tiny")  # noqa: E501  # fmt: skip
    from safetensors.torch import save_file

    from ftbench.sources.studio import vocabulary

    folder = Path(__file__).parent / "encoders"
    out = out or folder / tiny.WEIGHTS
    pixels, captions = drawings(count, progress)
    words = vocabulary()
    torch.set_num_threads(1)
    with torch.random.fork_rng():
        torch.manual_seed(FOUNDATION_SEED)
        tokenizer = tiny.WordTokenizer(words)
        model = tiny.architecture(tokenizer.size)
    towers = open_clip_towers(model).train()
    tokens = tokenizer(captions)
    names = {caption: i for i, caption in enumerate(dict.fromkeys(captions))}
    number = torch.tensor([names[caption] for caption in captions])
    optimiser = torch.optim.AdamW(model.parameters(), lr=_RATE, weight_decay=_DECAY, betas=(0.9, 0.98), fused=True)
    epochs, recent = _epochs(count, min(_BATCH, count)), []
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = _RATE * schedule(step / steps, _WARMUP)
        rows = next(epochs)
        image = towers.image(pixel_batch(tiny.IMAGE_SIZE, _HALF, _HALF, list(pixels[rows])))
        text = towers.text(tokens[torch.from_numpy(rows)])
        same = number[rows][:, None] == number[rows][None, :]
        loss = symmetric_info_nce(image, text, towers.logit_scale, same)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        recent = [*recent[-99:], float(loss)]
        progress(step + 1, steps)
    state = {key: value.contiguous() for key, value in model.state_dict().items()}
    temporary = out.with_name(f".{out.name}.tmp")
    save_file(state, temporary)
    temporary.chmod(0o644)
    temporary.replace(out)
    if out.parent == folder:
        (folder / "tiny_words.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    digest = hashlib.sha256(out.read_bytes()).hexdigest()
    return (
        f"{out}: {out.stat().st_size:,} bytes, sha256 {digest}, mean loss of the last 100 steps {np.mean(recent):.3f}"
    )
