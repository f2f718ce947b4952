"""Work in another process: what it gives arrives, and where it fails the work is done here."""

import os

import pytest

from ftbench.report import beside


def test_work_is_done_elsewhere_and_its_result_arrives():
    elsewhere = beside.begun(lambda: (os.getpid(), "x" * 1_000_000))()  # more than a pipe holds
    assert len(elsewhere[1]) == 1_000_000
    if "fork" in beside.multiprocessing.get_all_start_methods() and beside.sys.platform != "darwin":
        assert elsewhere[0] != os.getpid()


def test_where_the_other_process_fails_the_work_is_done_here(capfd):
    here = os.getpid()

    def dies_elsewhere() -> int:
        if os.getpid() != here:
            os._exit(3)
        return here

    def raises_elsewhere() -> int:
        if os.getpid() != here:
            raise OSError("no space left")
        return here

    assert beside.begun(dies_elsewhere)() == here
    assert beside.begun(raises_elsewhere)() == here
    assert beside.begun(lambda: (n for n in ()))() is not None  # cannot be sent
    assert capfd.readouterr() == ("", "")


def test_a_process_that_ends_while_it_sends_is_made_up_for(monkeypatch):
    half = b"\0\0\1\0 fewer bytes than it says"
    monkeypatch.setattr(beside, "_send", lambda work, writing: os.write(writing.fileno(), half))
    assert beside.begun(os.getpid)() == os.getpid()


def test_an_error_of_the_work_is_raised_where_it_is_asked_for():
    result = beside.begun(lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        result()


def test_without_fork_the_work_is_done_here(monkeypatch):
    monkeypatch.setattr(beside.multiprocessing, "get_all_start_methods", lambda: ["spawn"])
    assert beside.begun(os.getpid)() == os.getpid()
