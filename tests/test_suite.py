"""Many runs: several at a time as one after the other, found again, interrupted, and in processes that die."""

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from ftbench import record, request, suite
from ftbench.items import silent
from ftbench.request import Request, requests

QUICK = (("trainer.budget", "2000"), ("trainer.batch_size", "32"))
BODY = '''"""Slow or deadly. Differs from the paper: none."""
import os, signal, time
import numpy as np
from ftbench import method

class Method(method.Method):
    seeded = True
    def embed(self, views, embedder):
        {}
        return np.ones((len(views), 2), np.float32)
'''


def made(asked, folder, **about):
    told = []
    return suite.make(asked, suite.Suite(folder, lambda title: silent, told.append, **about)), told


def asked(*methods, seeds=(0,), **about):
    common = Request("", "", **({"settings": QUICK} | about))
    return requests(list(methods), ["query2item", "cross_view"], ["studio@200"], list(seeds), common)


def told_of(outcomes):
    """What two suites must agree on: ids and scores; times and dates differ."""
    return [(o.record and o.record["id"], o.record and o.record["scores"], o.skipped, o.request) for o in outcomes]


def test_several_at_a_time_make_the_same_records_as_one_after_the_other(session_cache, tmp_path):
    trained = Request("mean_pooling", "query2item", "studio@200", settings=QUICK)
    runs = [*asked("bm25", "random", seeds=(0, 1), settings=()), trained]
    one, _ = made(runs, tmp_path / "one")
    two, told = made(runs, tmp_path / "two", jobs=2)
    assert told_of(one) == told_of(two)
    assert [o.path and o.path.relative_to(tmp_path / "one") for o in one] == [
        o.path and o.path.relative_to(tmp_path / "two") for o in two
    ]
    for first, second in zip(one, two, strict=True):
        if first.path:
            run_files = [outcome.path.with_suffix(".parquet").read_bytes() for outcome in (first, second)]
            assert run_files[0] == run_files[1]
            assert record.run_of(second.path, second.record)
    lines = [line for line in told if line.startswith("[")]
    assert [line.partition("]")[0] for line in lines] == [f"[{i + 1}/{len(runs)}" for i in range(len(runs))]
    assert re.fullmatch(
        r"\[\d+/7\] \S.* · \S+ · studio@200 · seed \d: 0\.\d{4}, \d+ s; about \d+ (s|min) left", lines[0]
    )
    assert "left" not in lines[-1]
    again, told = made(runs, tmp_path / "two", jobs=2)
    assert told_of([replace(o, skipped="") for o in again]) == told_of([replace(o, skipped="") for o in two])
    assert all(", found" in line or "needs text on both sides" in line for line in told if line.startswith("["))


def test_runs_of_one_id_are_made_once(session_cache, tmp_path):
    twins = [Request("bm25", "query2item", "studio@200", seed=seed) for seed in (0, 1)]  # a seed changes nothing of it
    for jobs in (1, 2):
        found, _ = made([*twins, Request("random", "query2item", "studio@200")], tmp_path / str(jobs), jobs=jobs)
        assert found[0].path == found[1].path and found[1].skipped and not found[0].skipped


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_run_that_fails_is_a_record_and_the_others_go_on(jobs, session_cache, tmp_path):
    path = tmp_path / "fails.py"
    path.write_text(BODY.format("raise KeyError('planted')"))
    found, told = made([*asked(str(path), settings=()), *asked("bm25", settings=())], tmp_path / "results", jobs=jobs)
    assert ["planted" in str(outcome.problem) for outcome in found] == [True, True, False, False]
    assert record.read(found[0].path)["error"] == "KeyError: 'planted' (line 9 of fails.py: raise KeyError('planted'))"
    assert f'File "{path}", line 9, in embed' in "".join(found[0].problem.__notes__)  # --debug shows it
    assert sum("failed: the run failed: KeyError" in line for line in told) == 2


def test_a_process_that_dies_leaves_a_record(session_cache, tmp_path):
    path = tmp_path / "deadly.py"
    path.write_text(BODY.format("os.kill(os.getpid(), signal.SIGKILL)"))
    runs = [Request(str(path), "query2item", "studio@200"), Request("bm25", "query2item", "studio@200")]
    found, _ = made(runs, tmp_path / "results", jobs=2)
    kept = record.read(found[0].path)
    assert kept["status"] == "error" and "ended by the system" in kept["error"] and "--jobs 1" in str(found[0].problem)
    assert found[1].record["status"] == "ok"


def test_ctrl_c_ends_the_processes_and_leaves_nothing_half_written(session_cache, tmp_path):
    """SIGINT to the parent alone: it has to end its processes itself."""
    path = tmp_path / "slow.py"
    path.write_text(BODY.format(f"open({str(tmp_path)!r} + f'/at-{{os.getpid()}}', 'w').close(); time.sleep(600)"))
    words = ["run", "-m", str(path), "-t", "query2item", "-d", "studio@200", "-s", "0", "-s", "1", "-s", "2", "-j", "2",
             "--results", str(tmp_path / "results")]  # fmt: skip
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from ftbench.cli import main\n"
        "if __name__ == '__main__': main()"
    )
    script = tmp_path / "command.py"
    script.write_text(code)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)}
    process = subprocess.Popen(
        [sys.executable, str(script), *words], env=environment, stderr=subprocess.PIPE, text=True
    )
    while len(list(tmp_path.glob("at-*"))) < 2 and process.poll() is None:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130 and "nothing half-written" in said and "Traceback" not in said
    assert not [each for each in (tmp_path / "results").rglob("*") if each.is_file()]
    for child in tmp_path.glob("at-*"):
        with pytest.raises(ProcessLookupError):
            os.kill(int(child.name.removeprefix("at-")), 0)


def test_default_shows_the_ceiling_with_each_part_of_what_views_reveal(monkeypatch):
    monkeypatch.setattr(request, "DEFAULT_METHODS", ("bm25", "mean_pooling", "oracle"))
    common = Request("", "")
    found = requests(["default"], ["query2item"], ["studio@200"], [0, 1], common)
    of = {name: [each for each in found if each.method == name] for name in ("bm25", "mean_pooling", "oracle")}
    reads = [dict(each.settings)["reads"] for each in of["oracle"]]
    assert {"all", "images", "primary"} <= set(reads) and len(reads) == len(set(reads))
    assert "--set reads=images" in next(r for r in of["oracle"] if r.settings == (("reads", "images"),)).command
    assert [(each.track, each.seed) for each in of["mean_pooling"]] == [(None, 0), (None, 1), ("zero-shot", 0)]
    one = requests(["default"], ["query2item"], ["studio"], [0], replace(common, settings=(("reads", "images"),)))
    assert [each.settings for each in one if each.method == "oracle"] == [(("reads", "images"),)]
    assert not [each for each in requests(["default"], ["query2item"], ["magento-luma"], [0], common)
                if each.method == "oracle"]  # fmt: skip


def test_the_whole_board_is_named_in_its_order():
    names = request.DEFAULT_METHODS
    assert len(set(names)) == len(names) == 21 and names[0] == "random" and names[-1] == "oracle"


def test_time_left_is_the_mean_of_what_was_made_shared_by_the_jobs():
    runs = [Request("bm25", "query2item", seed=seed) for seed in range(11)]
    state = suite._State(runs, jobs=2)
    scored = {"scores": {"r": {"mean": 0.5}}, "task": {"headline": "r"}}
    assert state.line(suite.Outcome(runs[0], scored, None), None).endswith(": 0.5000, found")
    assert state.line(suite.Outcome(runs[1], scored, None), 60.0).endswith(
        "0.5000, 60 s; about 4 min left"
    )  # 9 * 60 / 2
    assert state.line(suite.Outcome(runs[2], None, None, "why"), 900.0).endswith("why; about 4 min left")
