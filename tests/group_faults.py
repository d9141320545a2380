"""What `hebbcore train --import` reads in each process of tests/test_group_faults.py: who it is, and what goes wrong.

FAULTS is the folder for process numbers; FAULT is "", or "rank kind step": in that process's gate of that step it
raises ("raise"), or from then on its files cannot grow ("full"). Steps take milliseconds, so that signals find them.
"""

import os
import resource
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import hebbcore

RANK = hebbcore.world().rank
Path(os.environ["FAULTS"], f"pid.{RANK}").write_text(str(os.getpid()))
_rank, _kind, _step = (os.environ.get("FAULT") or "-1 none 0").split()
_steps = [0]


@dataclass(frozen=True)
class Slow(hebbcore.HPCA):
    """HPCA that takes its time."""

    def gate(self, scores, norms):
        time.sleep(0.002)
        _steps[0] += 1
        if int(_rank) == RANK and _steps[0] == int(_step):
            if _kind == "raise":
                raise ArithmeticError("as it was told to")
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        return super().gate(scores, norms)


hebbcore.RULES["slow"] = Slow
