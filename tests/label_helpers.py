"""A running `hebbcore label`, for the tests that kill it and start it again."""

import signal
import subprocess
import sys
import time

from cli_helpers import ENVIRONMENT
from page_helpers import Client

LINE = "label photos --classes none,one,two --out work --features net.h5 --no-browser --device cpu"


class Server:
    """A running command, and a client of its page."""

    def __init__(self, line=LINE):
        command = [sys.executable, "-m", "hebbcore", *line.split()]
        self.process = subprocess.Popen(
            command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.url = self.process.stdout.readline().strip()
        assert self.url, self.process.communicate()[1]
        self.client = Client(int(self.url.partition("/?")[0].rpartition(":")[2]))
        assert self.client.get("/?" + self.url.partition("?")[2]).status_code == 303

    def get(self, path):
        return self.client.get(path).json()

    def post(self, path, **data):
        answer = self.client.post(path, data)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def label(self, photos, name):
        return self.post("/api/label", images=photos, label=name, unsure=False)

    def state_when(self, reached):
        until = time.monotonic() + 120
        while not reached(state := self.get("/api/state")):
            assert time.monotonic() < until, state
            time.sleep(0.05)
        return state

    def end(self, number=signal.SIGTERM):
        """Send a signal; returns (status, what was printed to standard error)."""
        self.process.send_signal(number)
        _, err = self.process.communicate(timeout=30)
        return self.process.returncode, err

    def __enter__(self):
        return self

    def __exit__(self, *error):
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()
