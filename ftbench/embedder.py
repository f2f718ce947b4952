"""Vectors of single views from a trained model, each asset encoded once. Must not know how views become items."""

import numpy as np
import torch

from ftbench.encoders.base import Encoder
from ftbench.encoders.cache import cached_features
from ftbench.items import Progress
from ftbench.trainer import Trained
from ftbench.views import Views

_EMBED_BATCH = 512


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
            return np.zeros((*ids.shape, self.encoder.dimensions), dtype=np.float32)
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
