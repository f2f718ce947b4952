"""Method files that cannot be used or give back what cannot be ranked: a clear error, a record, the rest goes on."""

import pickle

import numpy as np
import pytest

from ftbench import cells, method, outputs, record, suite
from ftbench.errors import FtbenchError, MethodError, RunError, SettingsError
from ftbench.items import silent
from ftbench.method import load_method
from ftbench.request import Request, requests

HEAD = '''"""Bad. Differs from the paper: none."""
from dataclasses import dataclass
import numpy as np
import torch
from ftbench import method

class Method(method.Method):
'''
CONFIG = "    @dataclass(frozen=True)\n    class Config:\n        "
EMBED = "    def embed(self, views, embedder):\n        "
FILES = {
    "syntax": ("class Method(:\n", "SyntaxError"),
    "imports": ("import no_such_package\n", "No module named 'no_such_package'"),
    "exits": ("raise SystemExit(3)\n", "SystemExit"),
    "empty": ('"""Nothing."""\n', "no class Method"),
    "not_a_method": ("class Method:\n    pass\n", "no class Method"),
    "plain_config": (HEAD + "    class Config:\n        share = 0.5\n" + EMBED + "return 1\n", "no dataclass"),
    "no_config": (HEAD + "    Config = None\n" + EMBED + "return 1\n", "no dataclass"),
    "bare_config": (HEAD + CONFIG + "share: float\n" + EMBED + "return 1\n", "no default for share"),
    "odd_config": (HEAD + CONFIG + "share: object = object()\n" + EMBED + "return 1\n", "numbers, texts or booleans"),
    "no_embed": (HEAD + "    seeded = True\n", "no function embed"),
    "no_score": (HEAD + "    lexical = True\n", "no function score"),
    "short_embed": (HEAD + "    def embed(self, views):\n        return 1\n", "called as embed(views, embedder)"),
    "no_loss": (HEAD.replace("method.Method)", "method.TwoTower)") + "    pass\n", "no function loss"),
    "tuned": (HEAD + "    tuned = {'zero-shot': {'shore': 1}, '': {'shore': 1}}\n" + EMBED + "return 1\n", "shore"),
}  # fmt: skip


def written(folder, name, text):
    path = folder / f"{name}.py"
    path.write_text(text)
    return str(path)


def made(names, folder, **about):
    told = []
    found = suite.make(
        requests(names, ["query2item"], ["studio@200"], [0], Request("", "", **about)),
        suite.Suite(folder / "results", lambda title: silent, told.append),
    )
    return found, told


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_cannot_be_used_is_a_clear_error(name, tmp_path):
    text, said = FILES[name]
    with pytest.raises(MethodError) as caught:
        load_method(written(tmp_path, name, text))
    assert said in str(caught.value) and name in str(caught.value)


def test_such_files_are_records_and_the_others_go_on(session_cache, tmp_path):
    names = [written(tmp_path, name, text) for name, (text, _) in FILES.items()]
    found, told = made([*names, "bm25"], tmp_path)
    assert [outcome.problem is None for outcome in found] == [False] * len(FILES) + [True]
    for outcome, (name, (_, said)) in zip(found, FILES.items(), strict=False):
        kept = record.read(outcome.path)  # valid, or it could not be read
        assert (kept["status"], kept["method"]["name"], kept["method"]["config"]) == ("error", name, {})
        assert said in kept["error"] and kept["scores"]["ndcg@10"]["mean"] is None
        assert outcome.path.name == f"{name}-{kept['id'][:12]}.json"
    assert found[-1].record["status"] == "ok" and sum(line.startswith("[") for line in told) == len(FILES) + 1
    with pytest.raises(FtbenchError, match=f"{len(FILES)} of {len(FILES) + 1} runs failed") as caught:
        suite.raise_failures(found)
    assert all(said in str(caught.value) for _, said in FILES.values())
    assert [row[2] for row in suite.tables(found)[0][2]][:2] == ["failed", "failed"]


def test_settings_that_one_of_several_cannot_take_are_its_record_alone(session_cache, tmp_path):
    low = written(tmp_path, "low", HEAD + CONFIG + "k1: int = 1\n" + EMBED
                  + "return np.ones((len(views), 2), np.float32)\n")  # fmt: skip
    found, _ = made([low, "bm25"], tmp_path, settings=(("k1", "1.5"),))
    assert "expected a whole number" in str(found[0].problem) and found[0].record["method"]["config"] == {"k1": "1.5"}
    assert found[1].record["method"]["config"]["k1"] == 1.5
    with pytest.raises(FtbenchError, match="k1=x: expected"):
        made([low, "bm25"], tmp_path, settings=(("k1", "x"),))


WITHOUT_SETTINGS = {
    "plain": HEAD + EMBED + "return np.eye(len(views), 8, dtype=np.float32) + 1\n",
    "towers": HEAD.replace("method.Method)", "method.TwoTower)")
    + "    def loss(self, batch, towers, generator):\n"
    + "        titles = towers.texts(self.views.texts[batch.items, 0])\n"
    + "        return -(titles @ towers.queries(batch.queries[:, 0]).T).mean()\n",
}


@pytest.mark.parametrize("name", WITHOUT_SETTINGS)
def test_a_method_without_a_config_runs_and_takes_no_settings(name, session_cache, tmp_path):
    path = written(tmp_path, name, WITHOUT_SETTINGS[name])
    trainer = (("trainer.budget", "300"), ("trainer.batch_size", "8")) if name == "towers" else ()
    ((outcome,), _) = made([path], tmp_path, settings=trainer)
    assert outcome.problem is None and outcome.record["status"] == "ok" and outcome.record["method"]["config"] == {}
    assert outcome.record["scores"]["ndcg@10"]["mean"] > 0
    said = f"method {name}: unknown setting 'alpha'. There is no setting"
    with pytest.raises(SettingsError, match=said):
        load_method(path, {"alpha": "0.3"})
    with pytest.raises(FtbenchError, match=said):
        made([path], tmp_path, settings=(("alpha", "0.3"),))
    found, _ = made([path, "bm25"], tmp_path, settings=(("k1", "1.5"), *trainer))  # bm25's alone
    assert [o.record["status"] for o in found] == ["ok", "ok"] and found[1].record["method"]["config"]["k1"] == 1.5


def test_a_name_that_does_not_exist_stops_everything(session_cache, tmp_path):
    broken = written(tmp_path, "broken", "class Method(:\n")
    for names in (["bm26", broken], [broken, "bm26"]):
        with pytest.raises(FtbenchError, match="Did you mean 'bm25'"):
            made(names, tmp_path)
    with pytest.raises(FtbenchError, match="there is no such file"):
        made([str(tmp_path / "none.py"), broken], tmp_path)
    with pytest.raises(FtbenchError, match="Did you mean 'query2item'"):
        suite.make([Request(broken, "query2itm", "studio@200")], suite.Suite(tmp_path, None, None))
    assert not (tmp_path / "results").exists()


def test_a_cell_of_a_method_that_cannot_be_loaded_fails_alone(session_cache, tmp_path):
    broken = Request(written(tmp_path, "broken", "class Method(:\n"), "query2item", "studio@200")
    good = Request("bm25", "query2item", "studio@200")
    found = cells.make(tmp_path / "cells", [cells.Cell("broken", broken), cells.Cell("good", good)])
    assert found["broken"].failed and "SyntaxError" in found["broken"].record["error"] and not found["good"].failed


OUTPUTS = {
    "a_list": ("return [[1.0, 2.0]] * len(views)", "gave a list, expected a numpy array"),
    "a_tensor": ("return torch.zeros(len(views), 2)", "end it with .cpu().numpy()"),
    "flat": ("return np.ones(len(views), np.float32)", "shape (61,), expected (61, d) float32"),
    "short": ("return np.ones((3, 2), np.float32)", "shape (3, 2), expected (61, d) float32"),
    "no_width": ("return np.ones((len(views), 0), np.float32)", "expected (61, d) float32"),
    "complex": ("return np.ones((len(views), 2), np.complex64)", "an array of complex64"),
    "words": ("return np.full((len(views), 2), 'a')", "expected (61, d) float32"),
    "nan": (
        "return np.where(np.arange(len(views))[:, None] == 1, np.nan, np.ones((len(views), 2)))",
        "NaN or infinite",
    ),
    "widths": ("return np.ones((len(views), 2 + (views.images >= 0).any()), np.float32)", "vectors of 2 numbers"),
}


@pytest.mark.parametrize("name", OUTPUTS)
def test_what_cannot_be_ranked_is_said_with_the_method_and_what_was_expected(name, session_cache, tmp_path):
    body, said = OUTPUTS[name]
    found, _ = made([written(tmp_path, name, HEAD + EMBED + body + "\n")], tmp_path)
    assert said in str(found[0].problem) and f"the embed of {name}" in str(found[0].problem)
    assert said in record.read(found[0].path)["error"]


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A package beside ftbench that names two methods by entry points, of which one has no module."""
    about = tmp_path / "shop_methods-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: shop-methods\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[ftbench.methods]\nours = shop_methods\ngone = shop_gone\n")
    (tmp_path / "shop_methods.py").write_text(HEAD + EMBED + "return np.ones((len(views), 2), np.float32)\n")
    monkeypatch.syspath_prepend(tmp_path)
    method._entry_points.cache_clear()
    yield tmp_path
    method._entry_points.cache_clear()


def test_a_method_of_an_installed_package_is_known_by_its_entry_point(installed):
    found = load_method("ours")
    assert (found.name, found.path) == ("ours", installed / "shop_methods.py")
    assert {"ours", "gone", "bm25"} <= set(method.method_names())
    with pytest.raises(FtbenchError, match="method gone: its entry point names shop_gone, which is not installed"):
        load_method("gone")


def test_the_item_or_query_that_is_not_finite_is_named():
    vectors = np.ones((3, 2))
    vectors[1, 0] = np.inf
    with pytest.raises(RunError, match="item 'b' a vector that is NaN or infinite \\(1 of 3"):
        outputs.vectors("m", vectors, ["a", "b", "c"], "item")
    with pytest.raises(RunError, match="query 'b' a score that is NaN"):
        outputs.scores("m", np.where(np.arange(3)[:, None] == 1, np.nan, np.ones((3, 4))), list("abc"), list("wxyz"))
    with pytest.raises(RunError, match=r"shape \(3, 2\), expected \(3, 4\)"):
        outputs.scores("m", np.ones((3, 2)), list("abc"), list("wxyz"))
    kept = outputs.vectors("m", np.ones((2, 2)), ["a", "b"], "item")
    assert kept.dtype == np.float32
    with np.errstate(all="raise"), pytest.raises(RunError, match="NaN or infinite"):
        outputs.vectors("m", np.full((1, 1), 1e300), ["a"], "item")


LOSSES = {
    "per_item": ("return towers.images(self.views.images[batch.items, 0]).sum(dim=1)", "a tensor of shape (32,)"),
    "a_number": ("return 0.5", "gave float, expected a scalar tensor"),
    "no_weight": ("return torch.tensor(1.0)", "depends on no weight"),
    "no_weights": ("x = towers.texts(self.views.texts[batch.items, 0]); return self.objective(batch, towers, x, x)",
                   "no alignment_weight"),
}  # fmt: skip


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_that_is_no_scalar_is_a_clear_error(name, session_cache, tmp_path):
    body, said = LOSSES[name]
    text = HEAD.replace("method.Method)", "method.TwoTower)") + f"    def loss(self, batch, towers, generator):\n        {body}\n"  # noqa: E501  # fmt: skip
    found, _ = made([written(tmp_path, name, text)], tmp_path, settings=(("trainer.batch_size", "32"),))
    assert said in str(found[0].problem) and record.read(found[0].path)["status"] == "error"


RAISES = {
    "views": ("return helper(views)\n\ndef helper(views):\n    return views.pictures", 12, "return views.pictures"),
    "shapes": ("return np.ones((2, 3)) @ np.ones((2, 2))", 9, "return np.ones((2, 3)) @ np.ones((2, 2))"),
    "far": ("return np.stack([])" + 90 * " " + "+ 1", 9, ""),
    "alpha": ("return self.config.alpha * views.images", 9, "return self.config.alpha * views.images"),
}  # fmt: skip


@pytest.mark.parametrize("name", RAISES)
def test_what_a_method_s_code_raises_is_said_with_its_line(name, session_cache, tmp_path):
    body, line, code = RAISES[name]
    found, _ = made([written(tmp_path, name, HEAD + EMBED + body + "\n")], tmp_path)
    place = f" (line {line} of {name}.py{f': {code}' if code else ''})"
    kept = record.read(found[0].path)["error"]
    assert place in str(found[0].problem) and place in kept and str(tmp_path) not in kept
    hint = "The class Method of alpha has no Config of its own. Give it one, a frozen dataclass, with alpha: float"
    assert (hint in str(found[0].problem)) is (name == "alpha")


def test_an_error_longer_than_a_record_takes_still_says_the_line(session_cache, tmp_path):
    found, _ = made([written(tmp_path, "long", HEAD + EMBED + "raise ValueError(30_000 * 'x')\n")], tmp_path)
    told = record.read(found[0].path)["error"]
    assert len(told) == 20_000 and told.endswith("x (line 9 of long.py: raise ValueError(30_000 * 'x'))")


def test_tracebacks_are_told_on_request_and_come_back_from_processes(session_cache, tmp_path):
    path = written(tmp_path, "views", HEAD + EMBED + "return views.pictures\n")
    found, _ = made([path, "bm25", written(tmp_path, "broken", "class Method(:\n")], tmp_path)
    frame = f'File "{path}", line 9, in embed'
    assert frame in "".join(pickle.loads(pickle.dumps(found[0].problem)).__notes__)
    with pytest.raises(FtbenchError) as caught:
        suite.raise_failures(found)
    notes = "".join(caught.value.__notes__)  # Python shows them below the message; `ftbench` without --debug does not
    assert frame in notes and "SyntaxError" in notes and frame not in str(caught.value)


def test_each_failure_ends_before_the_line_of_its_record(session_cache, tmp_path):
    found, _ = made([written(tmp_path, "views", HEAD + EMBED + "return views.pictures\n")], tmp_path)
    with pytest.raises(FtbenchError) as caught:
        suite.raise_failures(found)
    assert str(caught.value).splitlines()[-1] == f"Its record: {found[0].path}"


def test_a_file_that_cannot_be_imported_or_made_says_the_line(tmp_path):
    made = HEAD + "    def __init__(self, config):\n        self.x = y\n" + EMBED + "return 1\n"
    for name, text, line in (("imported", "import numpy\nx = numpy.no\n", 2), ("built", made, 9)):
        with pytest.raises(MethodError, match=rf"\(line {line} of {name}.py: "):
            load_method(written(tmp_path, name, text))
