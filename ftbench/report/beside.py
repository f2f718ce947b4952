"""One piece of work beside another, in a fork of this process. Must not know what the work is."""

import multiprocessing
import sys
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def begun(work: Callable[[], T]) -> Callable[[], T]:
    """Begin work in another process; the function returned waits for what it gives, which must be picklable.

    Where there is no fork that is safe (macOS, Windows), and where the other process fails for whatever reason, the
    work is done here, when it is asked for; so errors are raised here too, and the work must bear being done twice.
    """
    if "fork" not in multiprocessing.get_all_start_methods() or sys.platform == "darwin":
        return work
    context = multiprocessing.get_context("fork")
    reading, writing = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(work, writing), daemon=True)
    try:
        process.start()
    except OSError:
        return work
    writing.close()  # here: so that the end of the other process is seen

    def result() -> T:
        try:
            return reading.recv()
        except (EOFError, OSError):  # it ended before or while it sent
            return work()
        finally:
            process.join()

    return result


def _send(work: Callable, writing) -> None:
    try:
        writing.send(work())
    except BaseException:  # told by silence: the work is done again where it is asked for
        raise SystemExit(1) from None
