"""cupy.cuda: one device, on whose streams everything is done at once."""

import threading

from . import cublas, device, runtime

__all__ = ["cublas", "device", "runtime"]
_thread = threading.local()


class Device:
    def __init__(self, id=0):
        self.id = int(id)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def synchronize(self):
        pass


class Stream:
    done = True

    def __init__(self, null=False, non_blocking=False):
        self.ptr = 0 if null else id(self)

    def __enter__(self):
        self._before = get_current_stream()
        _thread.stream = self
        return self

    def __exit__(self, *error):
        _thread.stream = self._before

    def synchronize(self):
        pass


_NULL = Stream(null=True)


def get_current_stream():
    return getattr(_thread, "stream", _NULL)
