"""The page: templates, styles and scripts put together with what is to be told.

A name in an archive may be any text. Every text is escaped where it enters the page; should one
ever get through, the browser refuses to run it, to load anything and to send anything, by
`Content Security Policy <https://www.w3.org/TR/CSP3/>`_. The scripts are allowed by their hashes,
so that they neither need a server nor a number that differs from page to page.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterable, Mapping
from hashlib import sha256
from importlib.resources import files
from typing import Any

from bokeh.resources import INLINE
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from obscluster.report.content import ReportContent, hours_text, result_sentence, variable
from obscluster.report.explorer import explorer_data
from obscluster.report.figures import parts_of
from obscluster.report.tables import (
    asked_rows,
    checksum_rows,
    cut_flow_rows,
    group_columns,
    group_rows,
    outlier_rows,
    unassigned_rows,
)

__all__ = ["content_security_policy", "json_for_page", "render", "script_element"]

# Bokeh and matplotlib set styles from code and on elements. Icons of bokeh's tools are of the page
# itself, as all pictures are. The last two do not follow from default-src.
_POLICY = {
    "default-src": "'none'",
    "script-src": "{hashes}",
    "style-src": "'unsafe-inline'",
    "img-src": "data: blob:",
    "base-uri": "'none'",
    "form-action": "'none'",
}


def script_element(text: str) -> Markup:
    """Content of a script element: nothing in it ends the element.

    Parameters
    ----------
    text : str
        JavaScript.

    Returns
    -------
    content : `~markupsafe.Markup`
        The same, as a browser reads it out of the element, to the character: what is hashed here
        and what is hashed there must be one.
    """
    # Browsers know one end of line.
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return Markup(text.replace("</script", "<\\/script").replace("<!--", "<\\!--"))  # noqa: S704


def content_security_policy(scripts: Iterable[str]) -> Markup:
    """Policy of a page that may run these scripts.

    Parameters
    ----------
    scripts : iterable of str
        Contents of all script elements that run, as `script_element` gives them.

    Returns
    -------
    policy : `~markupsafe.Markup`
        Content of ``<meta http-equiv="Content-Security-Policy">``; it holds no double quote.
    """
    hashes = " ".join(f"'sha256-{_hash(text)}'" for text in scripts) or "'none'"
    parts = (f"{name} {value.format(hashes=hashes)}" for name, value in _POLICY.items())
    return Markup("; ".join(parts))  # noqa: S704 (constants and base64)


def _hash(text: str) -> str:
    return b64encode(sha256(text.encode("utf-8")).digest()).decode("ascii")


_PAGE = "page"
# In the order in which they need each other.
_SCRIPTS = ("text", "tip", "choices", "table", "linked", "explorer")
_MOST_CARDS = 10
_MOST_ROWS = 200

# Markers as paths in a square of 12 by 12 around the origin, by the names that bokeh has for them.
_MARKS = {
    "circle": '<circle r="5" fill="currentColor"/>',
    "square": '<path d="M-4.6-4.6h9.2v9.2h-9.2z" fill="currentColor"/>',
    "triangle": '<path d="M0-5.4 5.5 4.4h-11z" fill="currentColor"/>',
    "diamond": '<path d="M0-5.8 5 0 0 5.8-5 0z" fill="currentColor"/>',
    "inverted_triangle": '<path d="M0 5.4 5.5-4.4h-11z" fill="currentColor"/>',
    "plus": '<path d="M-1.8-5.4h3.6v3.6h3.6v3.6h-3.6v3.6h-3.6v-3.6h-3.6v-3.6h3.6z" '
    'fill="currentColor"/>',
    "star": '<path d="M0-6 1.5-1.9h4.2L2.3.8 3.5 5 0 2.5-3.5 5-2.3.8-5.7-1.9h4.2z" '
    'fill="currentColor"/>',
    "hex": '<path d="M0-5.6 4.9-2.8v5.6L0 5.6-4.9 2.8v-5.6z" fill="currentColor"/>',
    "triangle_pin": '<path d="M0-5.8Q1 2 5.8 4.4 0 3-5.8 4.4-1 2 0-5.8z" fill="currentColor"/>',
    "asterisk": '<path d="M0-5.5V5.5M-5.5 0H5.5M-3.9-3.9 3.9 3.9M-3.9 3.9 3.9-3.9" '
    'stroke="currentColor" stroke-width="1.6" fill="none"/>',
    "square_pin": '<path d="M-5.2-5.2Q0-2 5.2-5.2 2 0 5.2 5.2 0 2-5.2 5.2-2 0-5.2-5.2z" '
    'fill="currentColor"/>',
    "x": '<path d="M-4-4 4 4M-4 4 4-4" stroke="currentColor" stroke-width="2" fill="none"/>',
}


def render(content: ReportContent) -> str:
    """The page as text.

    Parameters
    ----------
    content : `~obscluster.report.content.ReportContent`
        What is to be told.

    Returns
    -------
    page : str
        HTML that needs no other file.
    """
    environment = Environment(
        loader=PackageLoader("obscluster.report", _PAGE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["variable"] = variable
    context = _context(content)
    # Styles and scripts are ours, and hold nothing of the user's.
    css = environment.overlay(autoescape=False)
    style = css.get_template("variables.css").render(looks=content.looks)
    context["style"] = Markup(style + _asset("page.css") + _asset("explorer.css"))  # noqa: S704
    own = "\n".join(_asset(f"{name}.js") for name in _SCRIPTS)
    # The part of bokeh's scripts that plots need; widgets and tables are the page's own.
    scripts = [
        script_element(text)
        for text in (_asset("theme.js"), "\n".join(INLINE.clone(components=["bokeh"]).js_raw), own)
    ]
    context["theme_script"], context["bokeh_script"], context["own_script"] = scripts
    context["policy"] = content_security_policy(scripts)
    context["explorer_json"] = json_for_page(explorer_data(content))
    return environment.get_template("report.html").render(context)


def json_for_page(data: Any) -> Markup:
    """Data as JSON that cannot end the element it is in, whatever texts it holds."""
    text = json.dumps(_without_nan(data), ensure_ascii=False, separators=(",", ":"))
    for character in ("<", ">", "&", "\u2028", "\u2029"):
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704 (escaped above)


def _without_nan(value: Any) -> Any:
    """Plain values, with null for what is no number: JSON has no NaN."""
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, Mapping):
        return {str(key): _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return value


def _asset(name: str) -> str:
    return (files("obscluster.report") / _PAGE / name).read_text(encoding="utf-8")


def _context(content: ReportContent) -> dict[str, Any]:
    record = content.record
    columns = group_columns(content)
    rows = group_rows(content, columns)
    numbers = sorted({*content.partitions, content.grouping.n_groups})
    unassigned = unassigned_rows(content)
    outliers = outlier_rows(content)
    knows_time = bool(content.hours.any())
    sentence = result_sentence(content.labels, content.hours, content.words, content.loss)
    total = content.hours.sum() or 1.0
    cards = [
        row
        | {
            "runs": f"{row['n_obs']} run{'' if row['n_obs'] == 1 else 's'}",
            "hours": hours_text(row["hours"]) if knows_time else "",
            "share": round(100 * row["hours"] / total, 1)
            if knows_time
            else round(100 * row["n_obs"] / len(content.labels), 1),
        }
        for row in rows
        if row["label"] > 0
    ]
    archive = str(record.get("archive", ""))
    target = record["config"].get("target") or ""
    subject = " · ".join(filter(None, [str(target), archive.rstrip("/").rpartition("/")[2]]))
    asked = record["config"].get("report")
    if isinstance(asked, Mapping) and asked.get("title"):
        subject = str(asked["title"])
    # The linked plots, as the template needs them.
    alternative = "the table of runs holds the same values"
    plots: list[dict[str, Any]] = [
        {"name": "conditions", "title": "Observing conditions", "axes": ("x", "y")},
        {"name": "features", "title": "Features", "axes": ("x", "y")},
    ]
    if content.pointing is not None:
        plots.append({"name": "sky", "title": "Sky map of the pointings", "axes": ()})
    if (content.mjd == content.mjd).any():
        plots.append({"name": "time", "title": "Time line", "axes": ("y",)})
    linkage = content.grouping.linkage
    assigned = int((content.labels > 0).sum())
    if linkage is not None and len(linkage) and assigned == len(linkage) + 1:
        plots.append({"name": "tree", "title": "Tree", "axes": (), "whole": True})
    odd = len([plot for plot in plots if not plot.get("whole")]) % 2
    for plot in plots:
        plot["alt"] = f"Interactive plot: {plot['title']}; {alternative}"
        plot.setdefault("whole", bool(odd) and plot["name"] == "time")
    return {
        "title": f"{subject or 'Observations'}: {content.grouping.n_groups} groups",
        "subject": subject,
        "sentence": sentence,
        "fit_verdict": [text.strip() for text in content.fit_verdict],
        "cards": cards if len(cards) <= _MOST_CARDS else [],
        "told": _told(content),
        "asked": asked_rows(content),
        "cut_flow": cut_flow_rows(content),
        "knows_time": knows_time,
        "group_columns": columns,
        "group_rows": rows,
        "unassigned": unassigned[:_MOST_ROWS],
        "more_unassigned": max(len(unassigned) - _MOST_ROWS, 0),
        "outliers": outliers[:_MOST_ROWS],
        "more_outliers": max(len(outliers) - _MOST_ROWS, 0),
        "no_outliers": "No runs are far from every group."
        if len(content.spreads)
        else "The groups are categories: there are no features to compare.",
        "parts": parts_of(content),
        "plots": plots,
        "with_slider": len(numbers) > 1,
        "last_number": len(numbers) - 1,
        "number_place": numbers.index(content.grouping.n_groups),
        "no_slider": _no_slider(content),
        "yaml": content.yaml.strip(),
        "versions": {str(k): str(v) for k, v in (record.get("versions") or {}).items()},
        "checksums": checksum_rows(content),
        "archive": archive or "an archive that is not recorded",
        "attribution": content.attribution,
        "marks": {name: Markup(path) for name, path in _MARKS.items()},  # noqa: S704
    }


def _no_slider(content: ReportContent) -> str:
    if len(content.labels) == 1:
        return "Of a single run there are no other numbers of groups to look at."
    method = content.record["config"]["grouping"].get("method", "this method")
    return f"Groups by {method} have no tree, so there are no other numbers of groups to look at."


def _told(content: ReportContent) -> list[str]:
    """What a reader should know beside the sentence."""
    told = []
    if content.losses is not None and len(content.losses) > 1:
        stacked = float(content.losses["loss"][1])
        told.append(
            f"Stacking all runs into one dataset would lose {100 * stacked:.1f} % of the "
            "information, in the measurement that was asked about."
        )
    if content.suggestion is not None:
        told.append(f"Suggested by the features: {content.suggestion}.")
    return told + [f"{text[0].upper()}{text[1:]}." for text in content.grouping.remarks if text]
