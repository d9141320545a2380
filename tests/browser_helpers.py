"""A headless Chromium and a labelling server, for the tests of the page."""

import contextlib
import json
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from cli_helpers import ENVIRONMENT

webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium")
pytest.importorskip("starlette", reason="needs starlette")
pytest.importorskip("uvicorn", reason="needs uvicorn")
from selenium.common.exceptions import StaleElementReferenceException, WebDriverException  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402

CHROMIUM, DRIVER = (shutil.which(name) for name in ("chromium", "chromedriver"))
if CHROMIUM is None or DRIVER is None:
    pytest.skip("needs chromium and chromedriver", allow_module_level=True)

SWITCHES = ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--window-size=1280,900")
PATIENCE = 60  # seconds
CLASSES = ("red", "green", "blue")


class Server:
    """The server of a folder: starts, is killed, and starts again at the same port."""

    def __init__(self, folder, names, classes=CLASSES):
        (folder / "set.json").write_text(json.dumps({"names": names, "classes": classes}))
        self.folder, self.port = folder, 0
        self.start()

    def start(self):
        """Start; `address` opens the page."""
        command = [sys.executable, Path(__file__).with_name("browser_server.py"), self.folder, str(self.port)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=ENVIRONMENT)
        self.address = self.process.stdout.readline().strip()
        assert self.address, "the server did not start"
        self.port = int(self.address.split(":")[2].split("/")[0])

    def kill(self):
        """Kill with SIGKILL."""
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


class Page:
    """A page in a tab of the browser, worked by keys as a user does."""

    def __init__(self, driver, address):
        self.driver, self.tab = driver, driver.current_window_handle
        driver.get(address)
        self.until(lambda: self.state()["guesses_version"])  # then come the first suggestions
        self.until(lambda: not self.script("return document.querySelector('#reload.newer')"))
        self.until(lambda: self.script("return document.querySelectorAll('.cell[aria-label]').length"))
        time.sleep(0.5)  # a key right after other photos have come is refused

    def script(self, text, *values):
        """Return what a script returns."""
        self.driver.switch_to.window(self.tab)
        return self.driver.execute_script(text, *values)

    def until(self, true):
        """Wait until something is true; return it."""
        end = time.monotonic() + PATIENCE
        while True:
            try:
                if value := true():
                    return value
            except StaleElementReferenceException:
                pass
            if time.monotonic() > end:
                raise AssertionError(f"{true.__doc__ or 'it'} did not come true; the page says: {self.text('body')}")
            time.sleep(0.05)

    def press(self, *keys):
        """Press keys, one after another, where the focus is."""
        self.driver.switch_to.window(self.tab)
        for key in keys:
            self.driver.switch_to.active_element.send_keys(key)

    def click(self, selector):
        """Click on an element."""
        self.driver.switch_to.window(self.tab)
        self.driver.find_element("css selector", selector).click()

    def text(self, selector):
        """Return the text of an element."""
        return self.script("return document.querySelector(arguments[0]).textContent", selector)

    def says(self, selector, part):
        """Wait until an element's text has a part."""
        self.until(lambda: part in self.text(selector))

    def cells(self):
        """Return {index: what is said of the photo} of those in the document."""
        script = "return [...document.querySelectorAll('.cell')].map(c => [c.dataset.index, c.ariaLabel])"
        return {int(index): said for index, said in self.script(script)}

    def focused(self):
        """Return what is said of the photo in focus."""
        return self.script("return document.getElementById(grid.getAttribute('aria-activedescendant')).ariaLabel")

    def state(self):
        """Return the server's state as the page is told it."""
        script = "const told = arguments[0]; fetch('/api/state').then(answer => answer.json()).then(told)"
        self.driver.switch_to.window(self.tab)
        return self.driver.execute_async_script(script)

    def saved(self, labels):
        """Wait until the page says that all is on disk, and the server has so many labels."""
        self.until(lambda: self.text("#saved") == "Every label is on disk" and self.state()["labelled"] == labels)

    def export(self):
        """Return the rows of the exported table."""
        self.driver.switch_to.window(self.tab)
        cookie = "; ".join(f"{one['name']}={one['value']}" for one in self.driver.get_cookies())
        address = self.script("return document.getElementById('export').href")
        with urllib.request.urlopen(urllib.request.Request(address, headers={"Cookie": cookie})) as answer:
            return answer.read().decode().split()

    def view(self, name):
        """Show a view."""
        self.script("document.querySelector(`[name=view][value=${arguments[0]}]`).click()", name)
        self.script("grid.focus()")
        self.until(lambda: self.script("return grid.ariaLabel").lower() == f"photos: {name}")

    def errors(self):
        """Return what went wrong in the page, by the browser's log; refused requests are none."""
        log = [entry["message"] for entry in self.driver.get_log("browser")]
        return [text for text in log if "Failed to load resource" not in text]


@pytest.fixture(scope="session")
def chromium():
    """A headless Chromium."""
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for switch in SWITCHES:
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    try:
        driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    except WebDriverException as error:
        pytest.skip(f"chromium does not start here: {error.msg}")
    yield driver
    driver.quit()


@pytest.fixture
def serve(tmp_path):
    """Start a server of photos with names and classes."""
    servers = []

    def serve(names, classes=CLASSES):
        servers.append(Server(tmp_path, names, classes))
        return servers[-1]

    yield serve
    for server in servers:
        server.kill()


@pytest.fixture
def open_page(chromium):
    """Open a page in a tab of its own; closed after the test, when the browser must have told of no error."""
    first, pages = chromium.current_window_handle, []

    def open_page(address):
        chromium.switch_to.new_window("tab")
        pages.append(Page(chromium, address))
        return pages[-1]

    yield open_page
    errors = pages[-1].errors() if pages else []
    for page in pages:
        chromium.switch_to.window(page.tab)
        with contextlib.suppress(WebDriverException):  # a tab that stays open harms nobody
            chromium.close()
    chromium.switch_to.window(first)
    assert errors == []


def names_of(count):
    """Return names of photos."""
    return [f"photos/{number:05d}.jpg" for number in range(count)]


SHIFT_RIGHT = Keys.SHIFT + Keys.ARROW_RIGHT + Keys.NULL
