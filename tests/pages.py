"""Reports in a real browser: opening them, watching them, and reading off what they show."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from obscluster.cli import main

# Notes what the policy of the page refuses, from before the page is read.
WATCH = """
    window.refused = [];
    window.addEventListener("securitypolicyviolation", (event) => {
        window.refused.push(`${event.effectiveDirective} ${event.blockedURI} ${event.sample}`);
    }, true);
"""


@dataclass
class Seen:
    """What happened around a page."""

    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)


@contextmanager
def watched(browser, url, width=1400, init="", **options) -> Iterator:
    """The page of a report, and what happens around it.

    ``init`` is JavaScript that runs before the page does.
    """
    seen = Seen()
    context = browser.new_context(
        viewport={"width": width, "height": 900},
        accept_downloads=True,
        # Nothing moves under the pointer.
        reduced_motion="reduce",
        **options,
    )
    context.set_default_timeout(20000)
    context.add_init_script(WATCH + init)
    page = context.new_page()

    def on_dialog(dialog):
        seen.dialogs.append(dialog.message)
        dialog.dismiss()

    page.on("dialog", on_dialog)
    page.on("request", lambda request: seen.requests.append(request.url))
    page.on("pageerror", lambda error: seen.complaints.append(str(error)))
    page.on(
        "console",
        lambda message: (
            message.type in ("error", "warning") and seen.complaints.append(message.text)
        ),
    )
    page.goto(url)
    page.wait_for_selector("#explorer[data-ready]", timeout=30000)
    yield page, seen
    context.close()


@contextmanager
def opened(browser, path, **options) -> Iterator:
    """The page of a report, which must neither complain, nor ask for or be refused anything."""
    with watched(browser, path.as_uri(), **options) as (page, seen):
        yield page
        assert page.evaluate("window.refused") == []
        assert seen.complaints == []
        assert seen.dialogs == []
        outside = ("file:", "data:", "blob:")
        assert [url for url in seen.requests if not url.startswith(outside)] == []
        assert len([url for url in seen.requests if url.startswith("file:")]) == 1


def make_report(archive, directory, *arguments):
    """Results and their report, both by the command line."""
    command = ["group", str(archive), "--output", str(directory), "--no-plots", *arguments]
    assert main(command) == 0
    assert main(["report", str(directory)]) == 0
    return directory


def runs(page):
    """What the plots show of the runs."""
    return page.evaluate(
        """() => {
            const source = Bokeh.documents[0].get_model_by_name("runs");
            return {ids: [...source.data.obs_id], colours: [...source.data.color],
                    markers: [...source.data.marker], selected: [...source.selected.indices]};
        }"""
    )


def wait_until(page, expression, argument=None):
    """Wait until JavaScript is true; asked from outside, since the policy refuses texts as code."""
    for _ in range(200):
        if page.evaluate(expression, argument):
            return
        page.wait_for_timeout(100)
    raise AssertionError(f"within 20 s, never true: {expression}")


def table_rows(page):
    """The rows of the table: group, OBS_ID, and whether they are marked."""
    return page.evaluate(
        """() => [...document.querySelectorAll("#table tr[data-row]")].map((row) =>
            [row.cells[1].textContent.trim(), row.cells[2].textContent,
             row.getAttribute("aria-selected") === "true"])"""
    )


def marked(page):
    return sorted(obs_id for _, obs_id, is_marked in table_rows(page) if is_marked)


def select(page, rows):
    page.evaluate(
        "rows => { Bokeh.documents[0].get_model_by_name('runs').selected.indices = rows; }", rows
    )


def set_number(page, place):
    slider = page.locator("#number")
    slider.focus()
    slider.press("Home")
    for _ in range(place):
        slider.press("ArrowRight")


def downloaded(page):
    with page.expect_download() as waiting:
        page.click("#download")
    assert waiting.value.suggested_filename == "labels.csv"
    return Path(waiting.value.path()).read_text(encoding="utf-8")


def labels_of(text):
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return {
        int(row["OBS_ID"]): int(row["label"])
        for row in csv.DictReader(io.StringIO("\n".join(lines)))
    }


def spot(page, plot, row):
    """Where a run is on the screen, in a plot that is scrolled there."""
    return page.evaluate(
        """([name, row]) => {
            const canvas = document.getElementById(`plot-${name}`);
            canvas.scrollIntoView({block: "center", behavior: "instant"});
            const view = Object.values(Bokeh.index.roots ?? Bokeh.index)
                .find((one) => one.model.name === name);
            const source = Bokeh.documents[0].get_model_by_name("runs");
            const {x, y} = view.model.renderers.find((one) => one.name === "points").glyph;
            const box = canvas.getBoundingClientRect();
            return [box.x + view.frame.x_scale.compute(source.data[x.field][row]),
                    box.y + view.frame.y_scale.compute(source.data[y.field][row])];
        }""",
        [plot, row],
    )


def hover(page, plot, row):
    """Text beside the pointer, over a run."""
    x, y = spot(page, plot, row)
    page.mouse.move(x - 30, y)
    page.mouse.move(x, y, steps=5)
    tip = page.locator("#tip")
    tip.wait_for(state="visible", timeout=5000)
    return tip.text_content()
