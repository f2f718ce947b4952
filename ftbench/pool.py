"""Many pieces of work in one or several processes, in the order in which they end. Must not know what the work is.

A process that dies (killed by the system for its memory, say) takes down nothing but its own piece of work.
"""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from threading import Thread

from ftbench.errors import RunError

_SPAWN = multiprocessing.get_context("spawn")  # a forked copy of a process with threads may hang


def each(
    work: Callable, pieces: Sequence, jobs: int = 1, more: Callable[[], bool] = lambda: True
) -> Iterator[tuple[int, object]]:
    """(position, work(piece)) of each piece, or (position, exception) where it raised an Exception.

    more: asked before a piece is begun; once it says False, what is under way is finished and the rest is left out.

    work: a function that can be pickled, as pieces and answers can; with jobs 1 it is called here. Of a process that
    died, the pieces that were under way are taken again, each alone; one that dies again gives RunError. Where the
    caller is interrupted, or asks for no more, the processes are ended.
    """
    if jobs < 1:
        raise RunError(f"--jobs {jobs} given, expected at least 1: how many runs to make at a time.")
    if jobs == 1:
        for place, piece in enumerate(pieces):
            if not more():
                return
            yield place, _tried(work, piece)
        return
    waiting = list(enumerate(pieces))
    while waiting:
        under_way: dict[Future, tuple[int, object]] = {}
        suspects = []
        with _workers(min(jobs, len(waiting))) as workers:
            while waiting or under_way:
                while waiting and len(under_way) < jobs and not suspects:
                    if not more():
                        waiting = []
                        break
                    try:
                        under_way[workers.submit(_tried, work, waiting[0][1])] = waiting[0]
                    except BrokenProcessPool:  # one died since the last answer
                        suspects.append(waiting[0])
                    waiting.pop(0)
                for future in wait(under_way, return_when=FIRST_COMPLETED).done if under_way else ():
                    place, piece = under_way.pop(future)
                    problem = future.exception()
                    if isinstance(problem, BrokenProcessPool):
                        suspects.append((place, piece))
                    else:  # an answer that cannot be pickled is a problem, too
                        yield place, problem or future.result()
                if suspects and not under_way:
                    break
        for place, piece in suspects:
            yield place, alone(work, piece)


def _tried(work: Callable, piece: object) -> object:
    try:
        return work(piece)
    except Exception as problem:
        return problem
    except SystemExit as end:
        return RunError(f"it would have ended its process: sys.exit({end.code})")


def alone(work: Callable, piece: object) -> object:
    """work(piece) in a process of its own, or the Exception that it raised; RunError where the process died."""
    with _workers(1) as worker:
        try:
            return worker.submit(_tried, work, piece).result()
        except BrokenProcessPool:
            return RunError(
                "its process was ended by the system, most likely for want of memory. Try fewer at a time "
                "(--jobs 1) or a smaller batch: --set trainer.batch_size=32"
            )


@contextmanager
def _workers(count: int) -> Iterator[ProcessPoolExecutor]:
    """Processes that end with the block: when their work is done, or at once where the block is left early."""
    workers = ProcessPoolExecutor(count, mp_context=_SPAWN, initializer=_ends_quietly)
    try:
        yield workers
    except BaseException:
        for process in list((workers._processes or {}).values()):  # terminate_workers() from Python 3.14 on
            process.terminate()
        raise
    finally:
        workers.shutdown(cancel_futures=True)


def _ends_quietly() -> None:
    """A worker leaves Ctrl-C, which all processes of a terminal get, to its parent; when that ends it, it cleans up. A
    parent that is killed has no time for that: then it ends by itself."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    Thread(target=_ends_with_its_parent, daemon=True).start()


def _ends_with_its_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)
