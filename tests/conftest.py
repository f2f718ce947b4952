"""Shared fixtures: a hand-made catalogue of random pictures, and a small drawn one."""

import os
import shutil
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "2")

import numpy as np
import pytest

from ftbench.items import Interaction, Item, Judgement, Queries, Query, SourceInfo, View, silent
from ftbench.store import prepare


class Toy:
    """40 items with random 48-pixel images; every third lacks auxiliaries, every fifth lacks a description."""

    def __init__(self, extra=()):
        self.info = SourceInfo("toy", "toy-v1", "Toy", "Apache-2.0", True, "Random pictures.", False)
        self.dropped = {}
        self.extra = extra

    def items(self, progress):
        rng = np.random.Generator(np.random.Philox(key=[5, 5]))
        for i in range(40):
            count = 1 if i % 3 == 0 else int(rng.integers(2, 5))
            pixels = [rng.integers(0, 256, (48, 48, 3), dtype=np.uint8) for _ in range(count)]
            views = [View("image", f"view{m}", "auxiliary" if m else "primary", p) for m, p in enumerate(pixels)]
            views.append(View("text", "title", "primary", f"red lamp {i}"))
            if i % 5:
                views.append(View("text", "description", "auxiliary", f"a fine lamp for room {i}"))
            split = "train" if i < 20 else "valid" if i < 24 else "test"
            yield Item(f"item{i:02d}", f"item{i:02d}", split, "lamp", tuple(views))
        yield from self.extra

    def queries(self):
        splits = ["train" if i < 20 else "valid" if i < 24 else "test" for i in range(40)]
        return Queries(
            tuple(Query(f"q{i}", f"lamp for room {i}", split, ("all",)) for i, split in enumerate(splits)),
            tuple(Judgement(f"q{i}", f"item{i:02d}", 3.0) for i in range(20, 40)),
            tuple(Interaction(f"q{i}", f"item{i:02d}") for i in range(20)),
        )


@pytest.fixture(scope="session")
def toy(tmp_path_factory):
    return prepare(Toy(), silent, tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="session")
def small_encoder():
    """`tiny` with random weights and a vocabulary of five words."""
    from functools import partial

    import torch

    from ftbench.encoders import tiny
    from ftbench.encoders.base import encoder_of, pixel_batch

    tokenizer = tiny.WordTokenizer(["a", "fine", "for", "lamp", "room"])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = tiny.architecture(tokenizer.size)
    half = (0.5, 0.5, 0.5)
    return encoder_of("tiny", model, partial(pixel_batch, 48, half, half), tokenizer, 48)


@pytest.fixture(scope="session")
def cache(tmp_path_factory) -> Path:
    """A cache folder of the test session, with the 200-item studio prepared in it when first asked for."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def session_cache(cache, monkeypatch):
    monkeypatch.setenv("FTBENCH_CACHE", str(cache))
    return cache


@pytest.fixture(scope="module")
def browser():
    """Chromium through Playwright, of the tests that open pages; without it they are skipped."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not chromium:
        pytest.skip("no chromium here: the page is not opened in a browser")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        quiet = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        opened = playwright.chromium.launch(executable_path=chromium, args=quiet)
        yield opened
        opened.close()


@pytest.fixture
def allowed() -> tuple[str, ...]:
    """Beginnings of what a page may ask for besides itself."""
    return ()


@pytest.fixture
def opened(browser, page, allowed):
    """Opens the module's page, watches what it says and asks for, and checks at the end that it was silent."""
    noise, contexts = [], []

    def go(address="", path=page, **settings):
        def watch(request):
            if request.url != path.as_uri() and not request.url.startswith(allowed):
                noise.append(request.url)

        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}} | settings)
        contexts.append(context)
        context.set_default_timeout(5000)
        tab = context.new_page()
        tab.on("console", lambda message: noise.append(message.text))
        tab.on("pageerror", lambda error: noise.append(str(error)))
        tab.on("request", watch)
        tab.goto(path.as_uri() + address)
        return tab

    yield go
    for context in contexts:
        context.close()
    assert noise == []
