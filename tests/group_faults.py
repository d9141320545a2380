"""What `hebbcore train --import` reads in each process of tests/test_group_faults.py: who it is, and what goes wrong.

FAULTS is the folder for process numbers; FAULT is "", or "rank kind step …": what FAULTS below does happens in that
process's gate of that step. Steps take milliseconds, so that signals find them.
"""

import gc
import os
import resource
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import hebbcore

RANK = hebbcore.world().rank
Path(os.environ["FAULTS"], f"pid.{RANK}").write_text(str(os.getpid()))
_rank, _kind, _step, *_more = (os.environ.get("FAULT") or "-1 none 0").split()
_steps = [0]


def fail():
    raise ArithmeticError("as it was told to")


def fill_the_disk():
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))


def kill(milliseconds):
    def now():
        Path(os.environ["FAULTS"], "killed").write_text(str(time.time()))
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Timer(milliseconds / 1000, now).start()


def scale(factor):
    """Let the memory of the last layer's weights fail."""
    next(found for found in gc.get_objects() if isinstance(found, hebbcore.Dense)).weights[0] *= factor


def stop():
    os.kill(os.getpid(), signal.SIGTERM)


FAULTS = {"raise": fail, "full": fill_the_disk, "kill": kill, "scale": scale, "stop": stop}


@dataclass(frozen=True)
class Slow(hebbcore.HPCA):
    """HPCA that takes its time."""

    def gate(self, scores, norms):
        time.sleep(0.002)
        _steps[0] += 1
        if int(_rank) == RANK and _steps[0] == int(_step):
            FAULTS[_kind](*map(float, _more))
        return super().gate(scores, norms)


hebbcore.RULES["slow"] = Slow
