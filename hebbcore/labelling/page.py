"""A page that holds its pictures itself, loads nothing and runs nothing: its head, its style, and figures in rows."""

import html
from collections.abc import Iterable, Mapping

from hebbcore.texts import plain

_STYLE = (
    ":root{color-scheme:light dark}*{box-sizing:border-box}"
    "body{font-family:sans-serif;line-height:1.45;max-width:75em;margin:0 auto;padding:1em;overflow-wrap:anywhere}"
    "h2{margin:1.6em 0 .4em}h3{display:inline;font-size:1em}"
    "nav{display:flex;flex-wrap:wrap;gap:.3em 1.2em}nav a{padding:.3em 0}"
    ".wide{overflow-x:auto}table{border-collapse:collapse;overflow-wrap:normal}"
    "td,th{border:1px solid #8888;padding:.3em .6em;text-align:right}td{white-space:nowrap}"
    "th:first-child{text-align:left;overflow-wrap:anywhere;min-width:7em;max-width:20em}"
    "@media(max-width:30em){table{font-size:.8em}td,th{padding:.3em .35em}}"
    ".images{display:grid;grid-template-columns:repeat(auto-fill,minmax(96px,1fr));gap:.8em;list-style:none;padding:0}"
    "figure{margin:0}figcaption{font-size:.8em}"
    "b{unicode-bidi:isolate}"  # a name from right to left would take the number behind it along
    "img{display:block;width:96px;height:96px;object-fit:contain;image-rendering:pixelated;background:#8882}"
    "summary{cursor:pointer;padding:.4em 0}.mine{outline:3px solid #2a7}"
)
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def document(title: str, parts: Iterable[str]) -> str:
    """Return a page of parts that are HTML. title: plain text."""
    head = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f"<title>{shown(title)}</title><style>{_STYLE}</style></head><body><main><h1>{shown(title)}</h1>",
    ]
    return "\n".join([*head, *parts, "</main></body></html>\n"])


def shown(name: object) -> str:
    """Return a name as HTML shows it: on one line, with no code for a browser or a terminal."""
    return html.escape(plain(name))


def figure(name: object, picture: str, caption: str = "", *, second: object = None, own: bool = False) -> str:
    """Return a picture with its name below.

    picture: its address, which holds it. caption: HTML above the name. second: what it may be besides, shown beside the
    pointer. own: the label is the user's.
    """
    title = shown(name) if second is None else f"{shown(name)}; second choice: {shown(second)}"
    mark = ' class="mine"' if own else ""
    above = f"{caption}<br>" if caption else ""
    return (
        f'<li><figure title="{title}"><img{mark} alt="{shown(name)}" loading="lazy" src="{picture}">'
        f"<figcaption>{above}{shown(name)}</figcaption></figure></li>"
    )


def section(anchor: str, title: str, *parts: str) -> str:
    """Return a section of a page, which `contents` can lead to. anchor: its address in the page. parts: HTML."""
    return "\n".join([f'<section aria-label="{title}"><h2 id="{anchor}">{title}</h2>', *parts, "</section>"])


def contents(titles: Mapping[str, str]) -> str:
    """Return links to sections. titles: of their anchors."""
    links = "".join(f'<a href="#{anchor}">{title}</a>' for anchor, title in titles.items())
    return f'<nav aria-label="Sections">{links}</nav>'


def figures(found: Iterable[str]) -> str:
    """Return figures in rows."""
    joined = "".join(found)
    return f'<ul class="images">{joined}</ul>' if joined else "<p>None.</p>"


def first_page(
    names: Mapping[int, object], pictures: Mapping[int, str], images: int, state: str, more: Iterable[str]
) -> str:
    """Return the page for the time before there are labels of two classes: the images to label first.

    names, pictures: of these images by number, the most useful first. images: how many there are in all. state: what
    labels there are, plain text. more: parts below, HTML.
    """
    return document(
        "Images to label first",
        [
            f"<p>{images:,} images; {shown(state)}. Guesses need labels of two classes at least, better a few of each "
            "class.</p>",
            "<p>These images stand for many others; next.csv lists them. Write what you see on them into the column "
            "“label” of a copy of next.csv, and give that copy to the same command as --labels.</p>",
            figures(figure(name, pictures[number]) for number, name in names.items()),
            *more,
        ],
    )
