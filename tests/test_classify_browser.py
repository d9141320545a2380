"""report.html in a real browser: it loads nothing from elsewhere, shows its pictures, and names as text."""

import json
import shutil
from pathlib import Path

import pytest
from classify_helpers import photos, some_labels, write_labels
from cli_helpers import call

__all__ = ["call", "photos"]
SMALL = "classify photos --labels labels.csv --out work --device cpu --features net.h5"
WIDTHS = (390, 1280)  # of a phone and of a desktop, in pixels
NAMES = ("<script>document.title=1<.png", '" onerror="document.title=2.png', "<img src=x onerror=document.title=3>.png")
LONG = "Pneumonoultramicroscopicsilicovolcanoconiosis" * 3


@pytest.fixture(scope="module")
def browser():
    """Return Chromium without a window, that notes all requests and messages."""
    selenium = pytest.importorskip("selenium", reason="selenium is not installed: pip install -e '.[test]'")
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("no chromium and chromedriver on the path")
    from selenium.webdriver.chrome.service import Service

    options = selenium.webdriver.ChromeOptions()
    options.binary_location = program
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    chromium = selenium.webdriver.Chrome(options=options, service=Service(driver))
    yield chromium
    chromium.quit()


def shown(browser, path, width, mode="light"):
    """Show a page; returns the addresses that were asked for, and what the console says."""
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    modes = [{"name": "prefers-color-scheme", "value": mode}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": modes})
    browser.get_log("performance")
    browser.get(Path(path).resolve().as_uri())
    browser.execute_script("for (const one of document.images) one.loading = 'eager'")
    pictures = "return Promise.all([...document.images].map(one => one.decode())).then(() => document.images.length)"
    assert browser.execute_script(pictures) > 0  # decode() fails for a picture that is none
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    return asked, browser.get_log("browser")


def luminance(colour):
    """Return how bright a colour is, "rgb(r, g, b)", as WCAG has it."""
    parts = [int(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("labels", [True, False])
def test_the_report_in_a_browser(labels, browser, photos, call):
    files = dict(zip(sorted(photos), NAMES, strict=False))
    for file, name in files.items():
        Path("photos", file).rename(Path("photos", name))
    classes = dict(zip(("none", "one", "two"), ("<b onclick=x>one</b>", "&lt;", LONG), strict=True))
    table = {files.get(file, file): classes[label] for file, label in some_labels(photos, 5).items()}
    write_labels(Path("labels.csv"), table)
    line = SMALL if labels else SMALL.replace("--labels labels.csv", "--suggestions 60")
    call(line)
    for width in WIDTHS:
        asked, said = shown(browser, "work/report.html", width)
        assert [address for address in asked if not address.startswith("data:")] == [browser.current_url]
        assert said == []
        text = browser.execute_script("return document.body.innerText")
        assert all(name in text for name in NAMES)
        if labels:
            assert all(name in text for name in classes.values())
        assert (
            browser.execute_script("return document.scripts.length + document.querySelectorAll('[onclick]').length")
            == 0
        )
        assert browser.title == ("Labels for all images" if labels else "Images to label first")
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    for link in browser.execute_script("return [...document.querySelectorAll('a')].map(one => one.hash.slice(1))"):
        assert browser.execute_script("return !!document.getElementById(arguments[0])", link)


def test_a_class_from_right_to_left_leaves_its_number_behind_it(browser, photos, call):
    classes = {"none": "חתול", "one": "כלב", "two": "עז"}
    write_labels(Path("labels.csv"), {file: classes[label] for file, label in some_labels(photos, 5).items()})
    call(SMALL)
    shown(browser, "work/report.html", 1280)
    script = """return [...document.querySelectorAll('figcaption b')].map(name => {
        const number = document.createRange()
        number.setStart(name.nextSibling, 1)
        number.setEnd(name.nextSibling, 3)
        return [name.getBoundingClientRect().right, number.getBoundingClientRect().left]
    })"""
    places = browser.execute_script(script)
    assert places
    assert all(name <= number for name, number in places)


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_text_stands_out_in_light_and_dark(mode, browser, photos, call):
    call(SMALL)
    shown(browser, "work/report.html", 1280, mode)
    below = "rgb(18, 18, 18)" if mode == "dark" else "rgb(255, 255, 255)"  # what Chromium paints below a bare page
    for tag in ("p", "a", "figcaption", "td"):
        colour = browser.execute_script(f"return getComputedStyle(document.querySelector('{tag}')).color")
        low, high = sorted(map(luminance, (colour, below)))
        assert (high + 0.05) / (low + 0.05) > 4.5, (tag, colour)  # WCAG 1.4.3
