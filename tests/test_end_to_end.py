"""The whole path on a 200-item studio: prepare, run, records, rerun, report; and the mistakes a person can make."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ftbench import cli, record, runner
from ftbench.errors import FtbenchError
from ftbench.inventory import verify
from ftbench.leaks import leaks
from ftbench.metrics import evaluate
from ftbench.request import DEFAULT_METHODS, DEFAULT_TASKS, Request
from ftbench.task import load_task

QUICK = (("trainer.budget", "6000"), ("trainer.batch_size", "32"))


def quiet_progress(title):
    return lambda *_: None


def ftbench(*words, cache, cwd):
    """Run the command as a user would; returns the finished process."""
    environment = os.environ | {"FTBENCH_CACHE": str(cache), "OMP_NUM_THREADS": "1", "COLUMNS": "160"}
    path = os.pathsep.join([str(Path(__file__).parent.parent), environment.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "ftbench", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, env=environment | {"PYTHONPATH": path}, cwd=cwd)


@pytest.fixture
def session(session_cache, tmp_path):
    return runner.Session(tmp_path / "results", quiet_progress)


def request(method="factorized_transport", task="query2item", **kw):
    return Request(method, task, **({"data": "studio@200", "settings": QUICK} | kw))


def untrained(method, task="query2item", **kw):
    return request(method, task, settings=(), **kw)


@pytest.mark.parametrize("task", DEFAULT_TASKS)
@pytest.mark.parametrize("method", DEFAULT_METHODS)
def test_default_board(method, task, session):
    trained = method not in ("random", "bm25", "oracle")
    outcome = runner.run(request(method, task) if trained else untrained(method, task), session)
    if task == "cross_view" and method in ("bm25", "hybrid_rrf"):
        assert outcome.record is None and "needs text on both sides" in outcome.skipped
        return
    found = record.read(outcome.path)
    assert found["status"] == "ok" and found["n_queries"] > 0
    headline = found["scores"][found["task"]["headline"]]
    assert 0 <= headline["low"] <= headline["mean"] <= headline["high"] <= 1
    assert found["scores"]["recall@500"]["mean"] is None and found["scores"]["recall@500"]["reason"]
    ranked = record.run_of(outcome.path, found)
    assert record.rescore(found, ranked) == {
        k: found[k] for k in ("scores", "pairs", "slices", "n_queries", "n_skipped")
    }
    for ranking in ranked.rankings.values():
        values = evaluate(ranking, ["rr@1", "p@1", "hit@1"])
        assert values["rr@1"].tolist() == values["p@1"].tolist() == values["hit@1"].tolist()
    if task == "query2item":
        assert set(found["slices"]) == {"primary", "aux", "aux_image", "aux_text"}
    else:
        assert len(found["pairs"]) == 5


def test_methods_stand_in_the_expected_order(session):
    scores = {
        name: runner.run(untrained(name), session).record["scores"]["ndcg@10"]["mean"]
        for name in ("random", "bm25", "oracle")
    }
    assert scores["random"] < scores["bm25"] < scores["oracle"]
    assert scores["oracle"] > 0.8


def test_same_seed_gives_the_same_run_file_byte_for_byte(session):
    first = runner.run(request(), session)
    before = first.path.with_suffix(".parquet").read_bytes()
    session.force = True
    again = runner.run(request(), session)
    assert again.path == first.path and not again.skipped
    assert again.path.with_suffix(".parquet").read_bytes() == before
    other = runner.run(request(seed=1), session)
    assert other.path != first.path and other.path.with_suffix(".parquet").read_bytes() != before


def test_finished_runs_are_skipped_by_id(session):
    first = runner.run(request("single_view_clip"), session)
    again = runner.run(request("single_view_clip"), session)
    assert again.skipped and again.path == first.path and again.record == first.record
    changed = runner.run(request("single_view_clip", settings=(*QUICK, ("alignment_weight", "0.5"))), session)
    assert not changed.skipped and changed.path != first.path


def test_the_validation_split_is_a_task_of_its_own(session):
    catalogue = session.catalogue("studio@200")
    for task, method in (("query2item", "bm25"), ("cross_view", "random")):
        found = runner.run(untrained(method, task, split="valid"), session)
        assert "--split valid" in found.record["command"] and found.path.parent.name == f"{task}-valid"
        assert found.record["task"]["definition_sha256"] != load_task(task, "studio@200").definition_sha256
        valid = {catalogue.item_ids[i] for i in catalogue.rows("valid")}
        asked = {query.query_id for query in catalogue.queries("valid")} if task == "query2item" else valid
        for ranking in record.run_of(found.path, found.record).rankings.values():
            assert set(ranking.item_ids) <= valid and set(ranking.query_ids) <= asked
    with pytest.raises(FtbenchError, match="unknown split 'train'"):
        runner.run(untrained("bm25", split="train"), session)


def test_an_interrupted_run_leaves_no_record(session, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "_rank", interrupt)
    with pytest.raises(KeyboardInterrupt):
        runner.run(request(), session)
    assert not [path for path in session.results.rglob("*") if path.is_file()]


@pytest.mark.parametrize("asked", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_says_so_and_leaves_nothing(asked, tmp_path):
    """A signal while the catalogue is being rendered."""
    environment = os.environ | {
        "FTBENCH_CACHE": str(tmp_path / "cache"),
        "PYTHONPATH": str(Path(__file__).parent.parent),
    }
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from ftbench.cli import main; main()"
    )
    words = ["data", "prepare", "studio@30000"]
    process = subprocess.Popen([sys.executable, "-c", code, *words], env=environment, stderr=subprocess.PIPE, text=True)
    while not list((tmp_path / "cache").rglob("*.arrow")) and process.poll() is None:
        time.sleep(0.1)
    process.send_signal(asked)
    assert "interrupted; nothing half-written" in process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_a_failed_run_is_a_record_with_its_error(session, monkeypatch):
    def fail(*args):
        raise ZeroDivisionError("planted")

    monkeypatch.setattr(runner, "_rank", fail)
    with pytest.raises(FtbenchError, match="ZeroDivisionError: planted"):
        runner.run(request(), session)
    (path,) = session.results.rglob("*.json")
    found = record.read(path)
    assert found["status"] == "error" and "planted" in found["error"]
    assert found["scores"]["ndcg@10"]["mean"] is None
    monkeypatch.undo()
    os.environ["FTBENCH_CACHE"] = str(session._catalogues["studio@200"].folder.parent.parent)
    assert runner.run(request(), session).record["status"] == "ok", "a failed run does not count as finished"


def test_zero_shot_costs_nothing_and_is_a_row_of_its_own(session):
    zero = runner.run(request("mean_pooling", track="zero-shot", settings=()), session)
    assert zero.record["track"] == "zero-shot" and zero.record["cost"]["steps"] == 0
    assert zero.record["cost"]["forward_equivalents"] == 0


def test_no_leak_between_splits(session):
    assert leaks(session.catalogue("studio@200")) == []
    assert "nothing in two splits" in verify("studio@200")


def test_command_line_from_run_to_page(session_cache, tmp_path):
    words = ["run", "-m", "bm25", "-m", "oracle", "-t", "query2item", "-t", "cross_view", "--data", "studio@200"]
    done = ftbench(*words, cache=session_cache, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (
        "ndcg@10" in done.stdout
        and "bm25: it needs text on both sides of a search, which no part of cross_view has" in done.stdout
    )
    assert "\x1b" not in done.stdout + done.stderr, "plain lines where output is no terminal"
    (made,) = (tmp_path / "results/studio@200/query2item").glob("bm25-*.json")
    command = json.loads(made.read_text())["command"]
    assert command == "ftbench run --method bm25 --task query2item --data studio@200 --seed 0"
    again = ftbench(*command.split()[1:], cache=session_cache, cwd=tmp_path)
    assert "finished before" in again.stdout
    page = ftbench("report", cache=session_cache, cwd=tmp_path)
    assert page.returncode == 0 and (tmp_path / "site/index.html").is_file(), page.stderr
    trec = ftbench("export", made, cache=session_cache, cwd=tmp_path)
    assert re.match(r"\S+ Q0 \S+ 1 \S+ \S+\n", trec.stdout)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "-m", "bm52", "-t", "query2item"], "Did you mean 'bm25'"),
        (["run", "-m", "bm25", "-t", "query"], "Did you mean 'query2item'"),
        (["run", "-m", "bm25", "-t", "query2item", "-d", "studoi"], "Did you mean 'studio'"),
        (
            ["run", "-m", "single_view_clip", "-t", "query2item", "-d", "studio@200", "-e", "tinny"],
            "Did you mean 'tiny'",
        ),
        (["run", "-m", "bm25", "-t", "query2item", "--set", "k1"], "expected KEY=VALUE"),
        (["run", "-m", "bm25", "-t", "query2item", "--set", "k2=1"], "unknown setting 'k2'"),
        (["run", "-m", "bm25", "-t", "query2item", "--board", "equal"], "equal-compute"),
        (["run", "-m", "no/such.py", "-t", "query2item"], "there is no such file"),
        (["run", "-m", "bm25", "-t", "query2item", "-d", "studio@200", "--results", "/proc/none"], "--results"),
        (["run", "-m", "bm25", "-t", "query2item", "-d", "studio@200", "--depth", "100000"], "depth"),
        (["run", "-m", "bm25", "-t", "query2item", "-d", "studio@7"], "at least 26"),
        (["run", "-m", "factorized_transport", "-t", "query2item", "-d", "studio@200", "--device", "tpu"], "tpu"),
        (["report", "--results", "nowhere"], "nowhere"),
        (["list", "method"], "Did you mean 'methods'"),
        (["describe", "factorised_transport"], "Did you mean 'factorized_transport'"),
        (["data", "verify", "studio-confirm"], "ftbench data prepare studio-confirm"),
        (["pretrain", "big"], "ftbench pretrain tiny"),
    ],
)
def test_a_mistake_gets_one_message_and_no_traceback(words, said, session_cache, tmp_path):
    done = ftbench(*words, cache=session_cache, cwd=tmp_path)
    assert done.returncode != 0
    assert said in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "results").exists() or not list((tmp_path / "results").rglob("*.json"))


def test_debug_shows_the_traceback(session_cache, tmp_path):
    done = ftbench("--debug", "list", "method", cache=session_cache, cwd=tmp_path)
    assert "Traceback" in done.stderr


def test_lists_and_descriptions(session_cache, tmp_path):
    for what, name in (("methods", "bm25"), ("tasks", "cross_view"), ("data", "magento-luma"), ("encoders", "lite")):
        assert name in ftbench("list", what, cache=session_cache, cwd=tmp_path).stdout
    said = ftbench("describe", "factorized_transport", cache=session_cache, cwd=tmp_path).stdout
    assert "Differs from the paper" in said and "primary_share: float = " in said and "learning_rate: float = " in said


def test_a_method_file_of_one_s_own(session, tmp_path):
    file = tmp_path / "shortest.py"
    file.write_text(
        '"""Shortest title first."""\n'
        "import numpy as np\n"
        "from ftbench import method\n\n\n"
        "class Method(method.Method):\n"
        "    modalities = ('text',)\n"
        "    lexical = True\n\n"
        "    def score(self, probes, gallery):\n"
        "        lengths = [-len(gallery.assets.texts[row[0]]) for row in gallery.texts]\n"
        "        return np.tile(np.array(lengths, dtype=np.float32), (len(probes), 1))\n"
    )
    found = runner.run(untrained(str(file)), session).record
    assert found["method"]["name"] == "shortest" and found["method"]["title"] == "Shortest title first"
    assert found["scores"]["ndcg@10"]["tie_low"] <= found["scores"]["ndcg@10"]["mean"]


def test_every_command_is_summed_up_whole_in_80_columns(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    for words, group in (([], cli.app), (["data"], cli.data_app)):
        told = CliRunner().invoke(cli.app, [*words, "--help"]).output.partition("Commands:\n")[2].splitlines()
        assert len(told) >= len(group.registered_commands) and all(line.endswith(".") for line in told)
        assert not [line for line in told if line.endswith("...")]


def test_help_comes_in_under_half_a_second(tmp_path):
    """Not a timing: the imports that make a start slow must not happen for help."""
    program = "import sys, runpy; sys.argv = ['ftbench', '--help']\ntry:\n    runpy.run_module('ftbench', run_name='__main__')\nexcept SystemExit: pass\nprint(sorted(set(sys.modules) & {'torch', 'numpy', 'pandas', 'datasets', 'faiss', 'matplotlib', 'open_clip'}))"  # noqa: E501
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert done.stdout.strip().endswith("[]"), done.stdout + done.stderr
