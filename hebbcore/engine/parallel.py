"""Threads over rows on the CPU: each runs whole chunks (patches, GEMMs with one BLAS thread, competition).

Rows are the long axis of Hebbian learning, and a chunk fits a core's cache, so this beats BLAS's own threads, and
needs no barrier between the steps. NumPy, BLAS and the kernels release the GIL.
"""

import contextlib
import contextvars
import functools
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import joblib
import threadpoolctl

from hebbcore.engine import backend, devices, tuning

T = TypeVar("T")

_lock = threading.RLock()
_thread = threading.local()  # .busy: it runs a task
_sharers = 1  # processes that share the cores of this one, itself among them
_users = 0  # threads inside one_blas_thread(): the last one out restores the limit
_before: list[tuple[Any, int]] = []  # BLAS libraries inside it, and their threads before
_limited: list[Any] = []  # the libraries that were there when they were limited


@functools.lru_cache(1)
def _libraries_after(modules: int) -> list[Any]:
    """Return the BLAS libraries that are loaded.

    modules: how many are imported; each can bring a library, as SciPy's do. Beside others those with OpenMP, such as
    that of faiss, are left alone: their number of threads is each thread's own.
    """
    found = threadpoolctl.ThreadpoolController().select(user_api="blas").lib_controllers
    return [library for library in found if getattr(library, "threading_layer", "") != "openmp"] or found


def _libraries() -> list[Any]:
    return _libraries_after(len(sys.modules))


def _blas_threads() -> int:
    return max((library.num_threads for library in _libraries()), default=0) or os.cpu_count() or 1


def _take_control(libraries: list[Any]) -> None:
    """Let this thread set the limit: threadpoolctl 3.8 ignores all but the first that did, without a word."""
    for library in libraries:
        if hasattr(library, "clear_controlling_thread"):
            library.clear_controlling_thread(force=True)


def _limit() -> None:
    """Limit the libraries, unless all of them are limited already."""
    global _limited
    if _users and _limited is _libraries():
        return
    _limited, limited = _libraries(), {library.filepath for library, _ in _before}
    _take_control(_limited)
    for library in _limited:
        if library.filepath not in limited:
            _before.append((library, library.num_threads))
        library.set_num_threads(1)


def _restore_limit() -> None:
    try:
        _lift()
    except BaseException:  # of a signal's handler: the limit would stay for all that the process does next
        _lift()
        raise


def _lift() -> None:
    libraries = [library for library, _ in _before]
    _take_control(libraries)
    for library, count in _before:
        library.set_num_threads(count)
    _take_control(libraries)  # for whoever sets one next
    _before.clear()


def usable_cores() -> frozenset[int]:
    """Return the cores, by number, that this process may run on."""
    return frozenset(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1))


@functools.cache
def _allowed(count: int) -> int:
    """Return how many of so many cores, all that this process may run on, a container's limit leaves."""
    try:
        return min(count, int(joblib.cpu_count()))
    except ValueError:  # which does not name the variable
        given = os.environ.get("LOKY_MAX_CPU_COUNT")
        raise ValueError(f"LOKY_MAX_CPU_COUNT must be a number of cores, got {given!r}; correct or unset it.") from None


def share_cores(processes: int) -> None:
    """Let this process have its part of the cores on which so many processes run, itself among them."""
    global _sharers
    _sharers = max(_sharers, processes)


def cores() -> int:
    """Return how many cores this process has: its part of those that it may run on, at least one."""
    return max(1, _allowed(len(usable_cores())) // _sharers)


def threads() -> int:
    """Return how many threads to use: as many as BLAS may (OMP_NUM_THREADS, threadpoolctl), at most the cores."""
    usable = cores()
    with _lock:
        free = max((count for _, count in _before), default=usable) if _users else _blas_threads()
    return max(1, min(usable, free))


@functools.cache
def _is_openblas() -> bool:
    return {library.internal_api for library in _libraries()} == {"openblas"}


def is_for_one_thread(products: int, narrowest: int) -> bool:
    """Return whether BLAS takes one thread anyhow for matrices of so many multiplications, so that no limit is needed.

    narrowest: the fewest rows or columns of the matrices: products with vectors go by another rule.
    """
    return products <= tuning.MEASURED.one_thread_products and narrowest > 1 and _is_openblas()


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """Let BLAS use one thread inside the block. The limit is the process's; the last block to end restores it."""
    global _users
    counted = 0
    try:
        with _lock:
            _limit()
            _users, counted = _users + 1, 1
        yield
    finally:
        with _lock:
            _users -= counted
            if _users == 0:
                _restore_limit()


class _Worker(threading.Thread):
    """A thread that waits for one task after the other. It wakes in a third of the time of a pool's thread."""

    def __init__(self) -> None:
        super().__init__(name="hebbcore", daemon=True)
        self._begun, self._ended = threading.Lock(), threading.Lock()
        self._begun.acquire()
        self._ended.acquire()
        self._task: Callable[[], None] | None = None
        self.start()

    def run(self) -> None:
        """Run tasks until there is none."""
        self._begun.acquire()
        while self._task is not None:
            self._task()
            self._task = None
            self._ended.release()
            self._begun.acquire()

    def begin(self, task: Callable[[], None]) -> None:
        """Run a task, which must not raise; then `wait`."""
        self._task = task
        self._begun.release()

    def wait(self) -> None:
        """Return when the task has ended, from when on the thread is free for others."""
        try:
            self._ended.acquire()
        except BaseException:  # of a signal's handler, perhaps after the thread was free: it ends with its task
            while self._task is not None:  # which works on memory of whoever waits
                time.sleep(1e-3)
            self._begun.release()
            raise
        _free.append(self)


_free: list[_Worker] = []


def _begin(task: Callable[[], None]) -> _Worker:
    try:
        worker = _free.pop()
    except IndexError:
        worker = _Worker()
    worker.begin(task)
    return worker


def _forget_threads() -> None:
    """In a forked child: the parent's threads are not there, neither those of pools nor those that hold anything."""
    global _lock, _users
    _free.clear()
    _lock = threading.RLock()
    if _users:
        _users = 0
        _restore_limit()


if hasattr(os, "register_at_fork"):  # no fork while a thread is between the limit of BLAS and its count in _users
    os.register_at_fork(
        before=lambda: _lock.acquire(), after_in_parent=lambda: _lock.release(), after_in_child=_forget_threads
    )


def cuts(length: int, parts: int) -> list[tuple[int, int]]:
    """Cut 0…length into at most so many even, non-empty (start, end) parts."""
    parts = max(1, min(parts, length))
    return [(part * length // parts, (part + 1) * length // parts) for part in range(parts)]


def worth_splitting(array: Any) -> bool:
    """Return True for arrays on the CPU whose rows are worth sharing among threads."""
    return not backend.on_cuda(array) and array.size > tuning.MEASURED.split_numbers


def _busy(task: Callable[[], T], on_device: Callable[[], contextlib.AbstractContextManager[None]]) -> T:
    _thread.busy = True
    try:
        with on_device():
            return task()
    finally:
        _thread.busy = False


def run(tasks: Sequence[Callable[[], T]], blas: bool = True) -> list[T]:
    """Run the tasks side by side, with one BLAS thread each, and return their results in order.

    blas: False if the tasks make no product on the CPU. BLAS is then left as it is: to limit it takes longer than a
    launch on CUDA, or a small task.

    The first task runs in the caller's thread, which costs no waking of another; so do tasks of tasks, one after the
    other, since waiting for a thread could be waiting for oneself. If tasks fail, the error of the first of them is
    raised, after all ended.
    """
    with one_blas_thread() if blas else contextlib.nullcontext():
        if len(tasks) == 1 or getattr(_thread, "busy", False):
            return [task() for task in tasks]
        on_device, results, errors = devices.here(), {}, {}

        def one(i: int) -> None:
            try:
                results[i] = _busy(tasks[i], on_device)
            except BaseException as error:  # it is raised below
                errors[i] = error

        with contextlib.ExitStack() as ends:
            for i in range(1, len(tasks)):
                here = contextvars.copy_context()  # which holds NumPy's errstate
                ends.callback(_begin(functools.partial(here.run, one, i)).wait)
            first = _busy(tasks[0], contextlib.nullcontext)
        if errors:
            raise errors.pop(min(errors))
        return [first, *(results[i] for i in range(1, len(tasks)))]


def each(work: Callable[[T], object], items: Iterable[T]) -> None:
    """Call work for each of some items, side by side as `run` does: whichever thread is free takes the next one.

    After an error, or a signal, none is begun any more.
    """
    rest = deque(items)

    def until_none_is_left() -> None:
        while True:
            try:
                item = rest.popleft()
            except IndexError:
                return
            try:
                work(item)
            except BaseException:
                rest.clear()
                raise

    run([until_none_is_left] * max(1, min(threads(), len(rest))))


class ForkedLock:
    """A lock that the thread which holds it may take again, and that is free in a forked child and in a copy.

    The thread that held it in the parent does not run in the child, and would never release it there.
    """

    def __init__(self) -> None:
        self._lock, self._process = threading.RLock(), os.getpid()

    def __enter__(self) -> None:
        if self._process != os.getpid():
            with _lock:
                if self._process != os.getpid():  # else another thread of the child was first
                    self.__init__()  # type: ignore[misc]
        self._lock.acquire()

    def __exit__(self, *error: object) -> None:
        self._lock.release()

    def __reduce__(self) -> tuple[type["ForkedLock"], tuple[()]]:
        return ForkedLock, ()
