"""Work in several processes: order, exceptions, and processes that die."""

import os
import signal

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


def test_jobs_are_checked():
    with pytest.raises(RunError, match="--jobs 0"):
        list(pool.each(double, [1], 0))
