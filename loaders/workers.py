"""Worker processes whose results come back in order, and which do not outlive the process that started them.

A pool of our own: concurrent.futures' can wait for ever at the exit of a process that two signals have interrupted.
Here each worker has one pipe and no lock is shared, so that killing the workers always ends the pool.
"""

import atexit
import multiprocessing
import os
import pickle
import signal
import threading
import traceback
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from queue import SimpleQueue
from types import FrameType
from typing import Any, TypeVar

import joblib

T = TypeVar("T")
R = TypeVar("R")

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def available_cores() -> int:
    """Cores that this process may use, by its affinity and by a container's limit."""
    try:
        return int(joblib.cpu_count())
    except ValueError:  # which does not name the variable
        given = os.environ.get("LOKY_MAX_CPU_COUNT")
        raise ValueError(f"LOKY_MAX_CPU_COUNT must be a number of cores, got {given!r}; correct or unset it.") from None


def map_ordered(function: Callable[[T], R], tasks: Iterable[T], workers: int) -> Iterator[R]:
    """map(function, tasks) on worker processes; at most four tasks a worker are read ahead.

    workers 1 starts no process. RuntimeError if a worker is killed; its own exceptions come back as they are, or, if
    they cannot be pickled, as an OSError or RuntimeError that says them. Close the iterator to stop early: the workers
    are then killed.
    """
    if workers == 1:
        yield from map(function, tasks)
        return
    started: list[_Worker] = []
    idle: SimpleQueue[_Worker] = SimpleQueue()
    pending: deque[Future[R]] = deque()

    def run(task: T) -> R:
        worker = idle.get()
        try:
            result: R = worker.run(task)
            return result
        finally:
            idle.put(worker)

    with ThreadPoolExecutor(workers, "loaders-worker") as threads:
        try:
            with _signals_held():
                context = _context()
                for _ in range(workers):
                    started.append(_Worker(context, function))
                    idle.put(started[-1])
            for task in tasks:
                pending.append(threads.submit(run, task))
                if len(pending) >= 4 * workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            with _signals_held():
                for future in pending:
                    future.cancel()
                for worker in started:
                    worker.kill()


def apart(function: Callable[[T], R], task: T) -> R:
    """Return function(task), or raise what it raises, from a process of its own: other threads of this one go on."""
    with _signals_held():
        worker = _Worker(_context(), function)
    try:
        result: R = worker.run(task)
        return result
    finally:
        with _signals_held():
            worker.kill()


class _Worker:
    """A process that runs a function on one task after the other."""

    def __init__(self, context: ForkServerContext, function: Callable[[Any], Any]) -> None:
        self._owner = os.getpid()
        self._pipe, there = context.Pipe()
        self._process = context.Process(target=_serve, args=(there, function))
        self._process.start()
        there.close()
        _living.add(self)

    def run(self, task: Any) -> Any:
        """Return function(task), or raise what it raised."""
        try:
            self._pipe.send(task)
            done, value = self._pipe.recv()
        except (EOFError, ConnectionError) as error:
            raise RuntimeError(
                "a worker process ended abruptly: it was killed (out of memory?), or the script that called "
                'build_shards lacks `if __name__ == "__main__":`; run the same command again to go on, '
                "with fewer workers if memory is short"
            ) from error
        if not done:
            raise value
        return value

    def kill(self) -> None:
        """End the process, whatever it does; run then raises."""
        if os.getpid() == self._owner:  # not in a fork, where an iterator's copy ends
            self._process.kill()
            self._process.join()


_living: weakref.WeakSet[_Worker] = weakref.WeakSet()


@atexit.register  # later than multiprocessing, so that it runs before that waits for its processes
def _kill_all() -> None:
    """End the workers of iterators that were never closed, such as one that an interrupt's traceback keeps."""
    for worker in list(_living):
        worker.kill()


def _context() -> ForkServerContext:
    # forkserver: forking this process would copy its threads' locks in whatever state they are
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["loaders.shards.encode"])
    return context


@contextmanager
def _signals_held() -> Iterator[None]:
    """Hold signals back until the end: an interrupt must not leave a process half started or half ended.

    Processes that are started meanwhile never get them. A terminal sends SIGINT and SIGHUP to every process of the
    command, but only the one that the user started may answer; the others would print tracebacks, or be missed.
    """
    if threading.current_thread() is not threading.main_thread():  # no other thread is interrupted
        handlers: dict[int, Any] = {}
    else:
        # None: a handler that Python did not set
        handlers = {number: found for number in _SIGNALS if (found := signal.getsignal(number)) is not None}
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)

    try:
        for number in handlers:
            signal.signal(number, note)  # the mask holds for this thread alone
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            resource_tracker.ensure_running()
            signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # some of which the tracker's start unblocks
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for number in came:
            signal.raise_signal(number)


def _serve(pipe: Connection, function: Callable[[Any], Any]) -> None:
    """Run function on each task from the pipe and send back what came of it, until it closes."""
    warnings.simplefilter("ignore")  # Pillow warns about metadata; what cannot be decoded raises
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    while True:
        try:
            task = pipe.recv_bytes()
        except EOFError:
            return
        answer = _answer(function, task)
        try:
            pipe.send_bytes(answer)
        except ConnectionError:  # the parent is gone
            return


def _answer(function: Callable[[Any], Any], task: bytes) -> bytes:
    """(True, result) or (False, exception) of function on a pickled task, pickled."""
    try:
        return pickle.dumps((True, function(pickle.loads(task))))
    except Exception as error:
        told, note = error, traceback.format_exc()  # the traceback itself stays here
        told.add_note(note)
    try:
        answer = pickle.dumps((False, told))
        pickle.loads(answer)
        return answer
    except Exception:  # many exceptions cannot be pickled, or not be made again, such as HTTPError of urllib
        kind = OSError if isinstance(told, OSError) else RuntimeError
        instead = kind(f"{type(told).__name__}: {told}")
        instead.add_note(note)
        return pickle.dumps((False, instead))


def _leave_with_parent() -> None:
    """A busy worker would not notice that its parent was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
