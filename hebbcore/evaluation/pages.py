"""Notes, tables and pictures as Markdown and as a self-contained HTML page."""

import base64
import html

from hebbcore.texts import in_markdown

Table = list[list[str]]  # its first row is the head

_CAPTIONS = {
    "accuracy.png": "Accuracy against labels; baselines are dashed.",
    "filters.png": "Filters of the first layer of which they can be drawn.",
}


def as_markdown(title: str, notes: list[str], sections: list[tuple[str, Table]], pictures: dict[str, bytes]) -> str:
    """Return Markdown whose pictures are files beside it."""
    parts = [
        f"# {in_markdown(title)}",
        *map(in_markdown, notes),
        *[f"![{_CAPTIONS[name]}]({name})" for name in pictures],
    ]
    for name, table in sections:
        lines = ["| " + " | ".join(map(in_markdown, row)) + " |" for row in table]
        lines.insert(1, "|" + "---|" * len(table[0]))
        parts += [f"## {in_markdown(name)}", "\n".join(lines)]
    return "\n\n".join(parts) + "\n"


_STYLE = (
    "body{font-family:sans-serif;max-width:60em;margin:2em auto;padding:0 1em}table{border-collapse:collapse}"
    "td,th{border:1px solid #ccc;padding:.3em .6em;text-align:right}td:first-child,th:first-child{text-align:left}"
    "figure{margin:1em 0}img{max-width:100%}"
)


def as_page(title: str, notes: list[str], sections: list[tuple[str, Table]], pictures: dict[str, bytes]) -> str:
    """Return an HTML page that holds its pictures."""
    parts = [
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{_STYLE}</style></head><body><h1>{html.escape(title)}</h1>",
        *[f"<p>{html.escape(note)}</p>" for note in notes],
        *[
            f'<figure><img alt="" src="data:image/png;base64,{base64.b64encode(data).decode()}">'
            f"<figcaption>{html.escape(_CAPTIONS[name])}</figcaption></figure>"
            for name, data in pictures.items()
        ],
    ]
    for name, table in sections:
        head, *rows = ["".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in row) for row, tag in _tagged(table)]
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        parts.append(f"<h2>{html.escape(name)}</h2><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")
    return "\n".join([*parts, "</body></html>\n"])


def _tagged(table: Table) -> list[tuple[list[str], str]]:
    return [(row, "td" if i else "th") for i, row in enumerate(table)]
