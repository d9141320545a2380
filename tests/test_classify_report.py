"""What `hebbcore classify` writes: a page and tables that hold any name, and that do and load nothing by themselves."""

import csv
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from classify_helpers import photos, rows_of, some_labels, write_labels
from cli_helpers import call

import loaders
from hebbcore.labelling.guesses import Guesses
from hebbcore.labelling.left_out import LeftOut
from hebbcore.labelling.report import Findings, page_of
from hebbcore.labelling.tables import NEW, write_table
from hebbcore.labelling.work import Labels

__all__ = ["call", "photos"]
SMALL = "classify photos --labels labels.csv --out work --device cpu --features net.h5"
TAGS = {
    "html", "head", "meta", "title", "style", "body", "main", "nav", "a", "section", "h1", "h2", "h3", "p", "ul", "li",
    "table", "thead", "tbody", "tr", "td", "th", "div", "figure", "figcaption", "img", "b", "br", "details", "summary",
}  # fmt: skip
ATTRIBUTES = {
    "lang", "charset", "name", "content", "http-equiv", "class", "title", "alt", "loading", "src", "open",
    "scope", "tabindex", "role", "aria-label", "id", "href",
}  # fmt: skip
HOSTILE = [
    "<script>alert(1)<", "<img src=x onerror=alert(1)>", '" onload="alert(1)', "' x='", "a,b", 'say "no"', "two\nlines",
    "return\rhere", " space ", "&lt;", "\x1b[31mred", "=1+1", "ünïcödé", "https://example.org/x.png",
]  # fmt: skip


class Page(HTMLParser):
    """Collects what a page holds."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.sources, self.links, self.text = set(), set(), [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.sources += [value for name, value in attrs if name == "src"]
        self.links += [value for name, value in attrs if name == "href"]

    def handle_data(self, data):
        self.text += data


def harmless(text):
    page = Page(text)
    assert page.tags <= TAGS
    assert page.attributes <= ATTRIBUTES
    assert page.sources
    assert all(link.startswith("#") for link in page.links)
    assert all(re.match("data:image/(png|jpeg);base64,[A-Za-z0-9+/=]+$", one) for one in page.sources)
    assert "default-src 'none'" in text
    return page


def test_hostile_names_of_files_and_classes(photos, call):
    renamed = {}
    for file, name in zip(sorted(photos), HOSTILE, strict=False):
        renamed[file] = f"{name.replace('/', '_')}.png"
        Path("photos", file).rename(Path("photos", renamed[file]))
    classes = dict(
        zip(("none", "one", "two"), ("<script>alert(2)</script>", '"><b onclick=x>', "a, b\nc"), strict=True)
    )
    write_labels(
        Path("labels.csv"),
        {renamed.get(file, file): classes[label] for file, label in some_labels(photos, 5).items()},
    )
    call(SMALL)
    page = harmless(Path("work/report.html").read_text("utf-8"))
    assert "<script>alert(2)</script>" in page.text
    assert "<script>alert(1)<.png" in page.text
    rows = rows_of(Path("work/predictions.csv"))
    assert {row["file"] for row in rows} == {renamed.get(file, file) for file in photos}
    assert {row["label"] for row in rows} == {name.replace("\n", " ") for name in classes.values()}
    call("predict work photos --out new.csv --device cpu")
    assert [row["file"] for row in rows_of(Path("new.csv"))] == [row["file"] for row in rows]


@pytest.mark.parametrize("name", [*HOSTILE, "bytes \udcff", ""])
def test_every_name_comes_back_from_a_table(name, tmp_path):
    write_table(tmp_path / "new.csv", NEW, [(name, "x", 0.98765, name)])
    with (tmp_path / "new.csv").open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        assert list(csv.reader(file)) == [list(NEW), [name, "x", "0.9877", name]]


@pytest.fixture
def stream(tmp_path):
    """Images of 5 × 5 pixels, whose grey tells their number."""
    images = np.broadcast_to(np.arange(200, dtype=np.uint8)[:, None, None, None], (200, 5, 5, 3))
    loaders.write_shards((images, np.zeros(200, np.int64)), tmp_path / "shards")
    return loaders.ShardStream(tmp_path / "shards", batch_size=7)


def findings(random, classes, doubts=(), accuracy=None, calibration=None):
    labels = np.where(np.arange(200) < 2 * classes, np.arange(200) % classes, -1)
    guesses = Guesses.of(random.dirichlet(np.ones(classes), 200), labels)
    names = [f"{number}.png" for number in range(200)]
    return Findings(
        names, [f"c{k}" for k in range(classes)], labels, guesses, [150, 151], list(doubts), accuracy, calibration
    )


def test_the_page_tells_what_was_found(stream, generator):
    found = findings(generator, 3, [4, 2], (0.81, 0.7, 0.9), (0.123, 0.1))
    text = page_of(found, stream)
    page = harmless(text)
    assert "Estimated share of right guesses: 81 % (95 % interval 70 to 90 %)." in page.text
    assert "counts a wrong label as a wrong guess" in page.text
    assert "differ by 12 points on the mean (expected calibration error, measured on your labels by" in page.text
    assert "10 would be chance alone" in page.text
    assert "200 images, 6 with a label of yours, in 3 classes" in page.text
    assert page.text.index("4.png") < page.text.index("2.png", page.text.rindex("Labels that are likely wrong"))
    doubtful = text.split("Most doubtful guesses</h2>")[1].split("<h2")[0]
    least = np.flatnonzero(found.labels < 0)[np.argsort(found.guesses.confidence[6:], kind="stable")][:48]
    assert re.findall(r'alt="(\d+)\.png"', doubtful) == [str(number) for number in least]
    rows = re.findall(r'<tr><th scope="row">c(\d)</th><td>(\d+)</td><td>(\d+)</td>', text)
    first = np.bincount(found.guesses.first[6:], minlength=3)
    assert rows == [(str(k), "2", str(first[k])) for k in range(3)]


def test_pictures_are_those_of_the_images(stream, generator):
    import base64
    import io

    from PIL import Image

    text = page_of(findings(generator, 2), stream)
    pairs = re.findall(r'alt="(\d+)\.png" loading="lazy" src="data:image/png;base64,([^"]+)"', text)
    assert len(pairs) > 50
    for number, data in pairs:
        pixels = np.array(Image.open(io.BytesIO(base64.b64decode(data))))
        assert pixels.shape == (5, 5, 3)
        assert (pixels == int(number)).all()


def test_many_classes_do_not_make_an_endless_page(stream, generator):
    text = page_of(findings(generator, 90), stream)
    assert text.count("<details>") == 90
    assert "too few to estimate" in text


def test_many_files_left_out_do_not_make_an_endless_page():
    files = [(f"<b>{number}", f"byte {number} is wrong") for number in range(30)]
    files += [(f"{number}.txt", "not an image") for number in range(3000)]
    (text,) = LeftOut(files, [(f"{number}.txt", "cat") for number in range(20)]).sections()
    assert text.count("<li>") == 25
    assert "Files that are not among these images (3,030)" in text
    assert "<li>byte 0 is wrong (1): &lt;b&gt;0</li>" in text
    assert "other reasons (3,006): report.json" in text
    assert "of such files (20): 0.txt (cat), " in text
    assert "11.txt (cat) and 8 more.</p>" in text
    assert LeftOut().sections() == []


def test_guesses_keep_labels_and_rank_the_others():
    found = Guesses.of([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]], np.array([2, -1]))
    assert found.first.tolist() == [2, 2]
    assert found.second.tolist() == [0, 1]
    assert found.confidence.tolist() == [0.2, 0.7]


def test_classes_without_a_label_are_left_out():
    labels = Labels.of(np.array([3, -1, 1, 3]), ("a", "b", "c", "d"))
    assert labels.numbers.tolist() == [1, -1, 0, 1]
    assert labels.classes == ("b", "d")
