"""What the oracle reads of an item: its primary views, its images, its texts, or all of them."""

from types import SimpleNamespace

import numpy as np
import pytest

from ftbench.errors import FtbenchError
from ftbench.method import load_method


@pytest.mark.parametrize(
    ("reads", "known"),
    [("primary", {"kind", "colour"}), ("images", {"kind", "back"}), ("texts", {"colour", "use"}),
     ("all", {"kind", "back", "colour", "use"})],
)  # fmt: skip
def test_it_reads_what_its_setting_says(reads, known):
    """Primary image: kind; the other: back. Title: colour; description: use."""
    latents = {"kind": "cup", "back": "dots", "colour": "red", "use": "tea"}
    assets = SimpleNamespace(image_reveals=(("kind",), ("back",)), text_reveals=(("colour",), ("use",)))

    class Item(SimpleNamespace):
        def __len__(self):
            return 1

    item = Item(assets=assets, images=np.array([[0, 1]]), texts=np.array([[0, 1]]), latents=(latents,))
    method = load_method("oracle", {"reads": reads})
    found = {name for name in latents if method._codes(name, {latents[name]: 0}, item, method.config.reads)[0] == 0}
    assert found == known


def test_another_reading_is_refused():
    with pytest.raises(FtbenchError, match="one of primary, images, texts, all"):
        load_method("oracle", {"reads": "titles"})
