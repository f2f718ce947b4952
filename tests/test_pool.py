"""Work in several processes: order, exceptions, and processes that die."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ftbench import pool
from ftbench.errors import RunError


def double(number):
    if number == 3:
        raise ValueError("three")
    return 2 * number


def die(number):
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return 2 * number


@pytest.mark.parametrize("jobs", [1, 2])
def test_every_piece_gets_its_answer_or_its_exception(jobs):
    found = dict(pool.each(double, [1, 2, 3, 4], jobs))
    assert [found[0], found[1], found[3]] == [2, 4, 8]
    assert isinstance(found[2], ValueError)


def test_a_process_that_dies_takes_down_its_own_piece_alone():
    found = dict(pool.each(die, [0, 1, 2, 3, 4], 2))
    assert {place: answer for place, answer in found.items() if place != 1} == {0: 0, 2: 4, 3: 6, 4: 8}
    assert isinstance(found[1], RunError) and "--jobs 1" in str(found[1])


def sleep(folder):
    (Path(folder) / str(os.getpid())).touch()
    time.sleep(60)


def test_a_killed_parent_leaves_no_process_behind(tmp_path):
    """The parent is killed, so that it can clean nothing up."""
    code = f"from ftbench import pool; import test_pool; list(pool.each(test_pool.sleep, [{str(tmp_path)!r}] * 2, 2))"
    tests = Path(__file__).parent
    path = os.pathsep.join(map(str, (tests, tests.parent)))
    parent = subprocess.Popen([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": path})
    _wait(lambda: len(list(tmp_path.iterdir())) == 2)
    parent.kill()
    parent.wait()
    _wait(lambda: not any(_lives(int(child.name)) for child in tmp_path.iterdir()))


def _wait(reached):
    end = time.monotonic() + 40
    while not reached():
        assert time.monotonic() < end
        time.sleep(0.1)


def _lives(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{process}/stat")  # one that nobody waits for stays as a zombie
    return not (status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z")


def test_jobs_are_checked():
    with pytest.raises(RunError, match="--jobs 0"):
        list(pool.each(double, [1], 0))
