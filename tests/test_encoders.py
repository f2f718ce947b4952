"""Encoders by name: a local checkpoint, a model hub (a local stand-in for it), and what is said where that fails."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch

from ftbench.encoders.base import load_encoder
from ftbench.errors import FtbenchError

SMALL = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A small model known to open_clip as `small-clip`, and a file with weights of it."""
    import open_clip

    folder = tmp_path_factory.mktemp("configs")
    (folder / "small-clip.json").write_text(json.dumps(SMALL))
    open_clip.add_model_config(folder)
    torch.manual_seed(3)
    model = open_clip.create_model("small-clip")
    torch.save(model.state_dict(), folder / "weights.pt")
    return model.eval(), folder


def test_a_local_checkpoint_gives_the_vectors_of_its_model(small):
    import open_clip

    model, folder = small
    encoder = load_encoder(f"small-clip/{folder / 'weights.pt'}")
    assert (encoder.image_size, encoder.dimensions, encoder.locked) == (32, 16, False)
    assert encoder.image_flops > encoder.text_flops > 0
    assert encoder.parameters == sum(p.numel() for p in model.parameters())
    images = [np.random.default_rng(i).integers(0, 255, (32, 32, 3), dtype=np.uint8) for i in range(3)]
    texts = ["a red shoe", "wool", ""]
    towers = encoder.build(0)
    with torch.no_grad():
        image, text = towers.image(encoder.preprocess(images)), towers.text(encoder.tokenize(texts))
        pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2) / 255
        mean, std = (
            torch.tensor(value).view(3, 1, 1) for value in (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
        )
        expected = model.encode_image((pixels - mean) / std, normalize=True)
        tokens = open_clip.get_tokenizer("small-clip")(texts)
        torch.testing.assert_close(image, expected, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(text, model.encode_text(tokens, normalize=True), atol=1e-5, rtol=1e-4)


def test_a_run_with_a_local_checkpoint_says_which_weights(small, tmp_path):
    from ftbench import record
    from ftbench.runner import Request, Session, run

    _, folder = small
    name = f"small-clip/{folder / 'weights.pt'}"
    session = Session(tmp_path, lambda title: lambda *_: None)
    outcome = run(Request("mean_pooling", "query2item", "studio@60", encoder=name, track="zero-shot"), session)
    found = record.read(outcome.path)
    assert found["encoder"]["name"] == name and found["encoder"]["weights_sha256"] == load_encoder(name).weights
    assert found["cost"]["steps"] == 0 and 0 < found["scores"]["ndcg@10"]["mean"] < 1


def test_vectors_of_unchanged_weights_are_encoded_once(small, tmp_path, monkeypatch):
    from ftbench.embedder import Embedder
    from ftbench.runner import Request, Session, run

    monkeypatch.setenv("FTBENCH_CACHE", str(tmp_path / "cache"))
    _, folder = small
    request = Request(
        "mean_pooling", "query2item", "studio@60", encoder=f"small-clip/{folder / 'weights.pt'}", track="zero-shot"
    )
    first = run(request, Session(tmp_path / "a", lambda title: lambda *_: None))

    def refuse(*_):
        raise AssertionError("encoded again")

    monkeypatch.setattr(Embedder, "_run_tower", refuse)
    second = run(request, Session(tmp_path / "b", lambda title: lambda *_: None))
    assert second.path.with_suffix(".parquet").read_bytes() == first.path.with_suffix(".parquet").read_bytes()


def test_what_is_not_an_encoder_is_named(small, tmp_path):
    _, folder = small
    for name, said in (
        ("tinny", "tinny.*tiny"),
        ("ViT-B-33/laion2b_s34b_b79k", "ViT-B-32"),
        ("ViT-B-32/laion2b_s34b_b79", "laion2b_s34b_b79k"),
        ("ViT-B-32/no-such-file.pt", "may also be a file"),
    ):
        with pytest.raises(FtbenchError, match=said):
            load_encoder(name)
    broken = tmp_path / "broken.pt"
    broken.write_bytes((folder / "weights.pt").read_bytes()[:5000])
    with pytest.raises(FtbenchError, match="open_clip could not load"):
        load_encoder(f"small-clip/{broken}")


class _Hub(BaseHTTPRequestHandler):
    """As much of a model hub as a download asks for: one file of one repository, at one commit."""

    content = b""

    def do_HEAD(self):
        found = self.path == "/maker/small/resolve/main/open_clip_model.safetensors"
        self.send_response(200 if found else 404)
        if found:
            self.send_header("X-Repo-Commit", "0" * 40)
            self.send_header("ETag", f'"{hashlib.sha256(self.content).hexdigest()}"')
            self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()

    def do_GET(self):
        self.do_HEAD()
        if self.path.endswith("open_clip_model.safetensors"):
            self.wfile.write(self.content)

    def log_message(self, *_):
        pass


_LOAD = """
import sys, json, open_clip
from open_clip import pretrained
open_clip.add_model_config(sys.argv[1])
pretrained._PRETRAINED["small-clip"] = {"made": pretrained._pcfg(hf_hub="maker/small/")}
from ftbench.encoders.base import load_encoder
from ftbench.errors import FtbenchError
try:
    print(load_encoder("small-clip/made").weights)
except FtbenchError as problem:
    print("ERROR", problem)
"""


def _load_from(endpoint, folder, cache, **more):
    """What a fresh process says that loads small-clip/made from a hub."""
    environment = (
        os.environ | {"HF_ENDPOINT": endpoint, "HF_HOME": str(cache), "HF_HUB_DISABLE_PROGRESS_BARS": "1"} | more
    )
    script = [sys.executable, "-W", "ignore", "-c", _LOAD, str(folder / "small-clip.json")]
    return subprocess.run(script, env=environment, capture_output=True, text=True, timeout=120).stdout.strip()


def test_pretrained_weights_by_name_come_from_the_hub(small, tmp_path):
    from safetensors.torch import save

    from ftbench.encoders.base import weights_sha256

    model, folder = small
    _Hub.content = save({key: value.contiguous() for key, value in model.state_dict().items()})
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        endpoint = f"http://127.0.0.1:{server.server_port}"
        assert _load_from(endpoint, folder, tmp_path / "cache") == weights_sha256(model)
    finally:
        server.shutdown()
        server.server_close()
    again = _load_from(endpoint, folder, tmp_path / "cache", HF_HUB_OFFLINE="1")
    assert again == weights_sha256(model), "the second time from the cache"
    said = _load_from(endpoint, folder, tmp_path / "other", HF_HUB_OFFLINE="1")
    assert said.startswith("ERROR open_clip could not load 'small-clip/made'") and "Check the network" in said
