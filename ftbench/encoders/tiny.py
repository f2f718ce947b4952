"""`tiny`: a small open_clip model for 48-pixel drawings, with a word vocabulary of its own. Must not know methods.

Image tower: open_clip's ModifiedResNet. Text tower: the mean of word vectors. A transformer of width 64 or 96 in its
place learned hidden attributes far more slowly for every method (validation, same budget) and cost as much as an image.
About 0.4 million parameters. The foundation weights come from `ftbench pretrain tiny` and lie in the package.
"""

import re
from importlib.resources import files

WEIGHTS = "tiny.safetensors"
CONTEXT = 21  # tokens with start and end: the longest studio text has 19 words
IMAGE_SIZE = 48
WIDTH = 96  # of word vectors and of the embedding
_UNKNOWN_BUCKETS = 32  # words outside the vocabulary share these ids by hash


class WordTokenizer:
    """Words to ids: 0 pads, 1 starts, then the vocabulary, then hash buckets for unknown words, and last the end token.

    open_clip pools a text at its highest id, so the end token must be the highest.
    """

    def __init__(self, words: list[str], context: int = CONTEXT):
        self.ids = {word: i + 2 for i, word in enumerate(words)}
        self.context = context
        self.end = len(words) + 2 + _UNKNOWN_BUCKETS
        self.size = self.end + 1

    def __call__(self, texts: list[str]):
        """Token ids (n, context) int64; texts longer than the context are cut before the end token."""
        import zlib

        import torch

        rows = torch.zeros(len(texts), self.context, dtype=torch.int64)
        for row, text in enumerate(texts):
            words = re.findall(r"[a-z0-9]+", text.lower())[: self.context - 2]
            unknown = self.end - _UNKNOWN_BUCKETS
            ids = [self.ids.get(w, unknown + zlib.crc32(w.encode()) % _UNKNOWN_BUCKETS) for w in words]
            rows[row, : len(ids) + 2] = torch.tensor([1, *ids, self.end])
        return rows


def vocabulary() -> list[str]:
    """The committed word list, one word a line: the token ids of the foundation weights depend on its order."""
    return files("ftbench.encoders").joinpath("tiny_words.txt").read_text(encoding="utf-8").split()


def architecture(vocabulary_size: int):
    """A fresh open_clip.CustomTextCLIP: ResNet (1,1,1,1) of width 8, and a mean of word vectors for texts."""
    from open_clip.model import CustomTextCLIP

    model = CustomTextCLIP(
        embed_dim=WIDTH,
        vision_cfg={"image_size": IMAGE_SIZE, "layers": [1, 1, 1, 1], "width": 8, "head_width": 64},
        text_cfg={"context_length": CONTEXT, "vocab_size": 2, "width": 8, "heads": 1, "layers": 1},
    )
    model.text = _word_mean(vocabulary_size)
    return model


def _word_mean(vocabulary_size: int):
    from torch import nn

    class WordMean(nn.Module):
        """Token ids (n, context) -> (n, WIDTH): the sum of word vectors over the root of their number, projected."""

        def __init__(self):
            super().__init__()
            self.token_embedding = nn.Embedding(vocabulary_size, WIDTH)
            self.projection = nn.Linear(WIDTH, WIDTH, bias=False)
            nn.init.normal_(self.token_embedding.weight, std=0.05)
            nn.init.orthogonal_(self.projection.weight)

        def forward(self, tokens):
            words = ((tokens > 1) & (tokens < vocabulary_size - 1)).unsqueeze(-1)  # neither padding, start nor end
            total = (self.token_embedding(tokens) * words).sum(1)  # (n, context, d) -> (n, d)
            return self.projection(total / words.sum(1).clamp(min=1).sqrt())

    return WordMean()
