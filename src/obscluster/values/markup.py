"""How results show themselves in a notebook: pieces of HTML in which every text is escaped.

They take the notebook's own fonts and colours, light or dark.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

__all__ = ["html_folded", "html_list", "html_table", "html_text", "html_view"]

_CELL = "text-align: left; padding: 0.2em 1em 0.2em 0;"


def html_view(*parts: str) -> str:
    """Pieces of HTML one below the other; empty ones are left out."""
    return f"<div>{''.join(part for part in parts if part)}</div>"


def html_text(text: str, strong: bool = False) -> str:
    """A paragraph for each line."""
    weight = " font-weight: bold;" if strong else ""
    style = f'style="margin: 0.4em 0; max-width: 60em;{weight}"'
    return "".join(f"<p {style}>{escape(line)}</p>" for line in text.splitlines() if line.strip())


def html_table(rows: Sequence[Sequence[str]], caption: str = "", most: int = 40) -> str:
    """A table; the first row is its head.

    Parameters
    ----------
    rows : sequence of sequence of str
        Texts of the cells.
    caption : str
        What it shows.
    most : int
        More rows are counted, not shown.
    """
    if len(rows) < 2:
        return ""
    head = "".join(f'<th scope="col" style="{_CELL}">{escape(cell)}</th>' for cell in rows[0])
    body = "".join(
        f"<tr>{''.join(f'<td style={chr(34)}{_CELL}{chr(34)}>{escape(c)}</td>' for c in row)}</tr>"
        for row in rows[1 : most + 1]
    )
    title = f'<caption style="text-align: left;">{escape(caption)}</caption>' if caption else ""
    rest = html_text(f"... and {len(rows) - 1 - most} more") if len(rows) - 1 > most else ""
    return (
        f'<table style="margin: 0.6em 0;">{title}<thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table>{rest}"
    )


def html_list(texts: Iterable[str], most: int = 10) -> str:
    """A list; more items than ``most`` are counted, not shown."""
    texts = list(texts)
    items = "".join(f"<li>{escape(text)}</li>" for text in texts[:most])
    rest = f"<li>... and {len(texts) - most} more</li>" if len(texts) > most else ""
    return f'<ul style="max-width: 60em;">{items}{rest}</ul>' if texts else ""


def html_folded(summary: str, content: str) -> str:
    """Something that unfolds when its summary is clicked."""
    if not content:
        return ""
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"
