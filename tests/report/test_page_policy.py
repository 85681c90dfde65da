"""The policy of the report: it is on, it hinders nothing that is ours, and nothing else runs."""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from astropy.table import Table

from obscluster.archive.obs_table import ObservationTable
from obscluster.gadf.index import write_index
from pages import (
    downloaded,
    hover,
    labels_of,
    make_report,
    marked,
    opened,
    runs,
    set_number,
    spot,
    table_rows,
    wait_until,
    watched,
)

PLOTS = ("conditions", "features", "sky", "time", "tree")
# What can be used: links, controls, regions that scroll by keys, and the tools of the plots, which
# stand in shadows. Controls of one kind, one for each run or group, count as one.
FIND = """
    const TOOL = ".bk-OnOffButton, .bk-ClickButton";
    const CONTROL = `a[href], button, input, select, summary, [tabindex], ${TOOL}`;
    const hostOf = (one) => {
        const host = one.getRootNode().host;
        return host ? hostOf(host) : one;
    };
    window.nameOf = (one) => {
        if (one.matches(TOOL)) return `${one.title} of ${hostOf(one).closest(".canvas").id}`;
        const name = one.id || one.getAttribute("aria-label") || one.title;
        return (name || one.textContent.trim()).replace(/\\d+$/, "N");
    };
    window.controls = (root = document) => [...root.querySelectorAll("*")].flatMap((one) => [
        ...(one.matches(CONTROL) ? [nameOf(one)] : []),
        ...(one.shadowRoot ? controls(one.shadowRoot) : []),
    ]);
    window.focused = (root = document) =>
        root.activeElement.shadowRoot?.activeElement
            ? focused(root.activeElement.shadowRoot) : root.activeElement;
    window.used = new Set();
    for (const type of ["pointerdown", "click", "input", "change", "keydown"]) {
        window.addEventListener(type, (event) => {
            const path = event.composedPath().filter((one) => one.matches?.(CONTROL));
            for (const one of path) used.add(nameOf(one));
        }, true);
    }
"""
EVIL = (
    "</script><script>window.hacked = 1</script>",
    '"onload="window.hacked=1" onerror="window.hacked=1',
    "javascript:window.hacked=1",
    "<img src=x onerror=window.hacked=1>",
    "<svg onload=window.hacked=1><!--",
    "{{ 7 * 7 }}${window.hacked=1}$$x$$",
)


def policy_of(text):
    found = re.findall(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)">', text)
    assert len(found) == 1
    return dict(part.strip().split(" ", 1) for part in found[0].split(";"))


def test_the_policy_names_the_scripts_by_their_hashes(report_results):
    text = (report_results / "report.html").read_text("utf-8")
    # Before anything that it is for, and with the encoding where browsers look for it.
    assert re.search(r"<head>\s*<meta http-equiv=.Content-Security-Policy", text)
    assert b'<meta charset="utf-8">' in text.encode()[:1024]
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digests = [hashlib.sha256(script.encode()).digest() for script in scripts]
    hashes = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    assert policy_of(text) == {
        "default-src": "'none'",
        "script-src": hashes,
        "style-src": "'unsafe-inline'",
        "img-src": "data: blob:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    assert len(scripts) == 3
    assert text.count("<script") == 4
    # Nor is there what such a policy would refuse.
    page = re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)
    assert not re.search(r"<[^>]*\son\w+\s*=", page)
    assert "javascript:" not in page
    assert "CustomJS" not in text.split('id="explorer-data">')[1].split("</script>")[0]


def test_what_is_put_into_the_page_does_not_run(browser, report_results):
    """The policy is on: each way to run or load something that is not ours is refused."""
    with watched(browser, (report_results / "report.html").as_uri()) as (page, seen):
        assert seen.complaints == []
        page.evaluate(
            """async () => {
                const script = document.createElement("script");
                script.textContent = "window.hacked = 'inline'";
                document.body.append(script);
                const other = document.createElement("script");
                other.src = "data:text/javascript,window.hacked='data'";
                document.body.append(other);
                const image = document.createElement("div");
                image.innerHTML = `<img src="x.png" onerror="window.hacked='event'">`;
                document.body.append(image);
                const link = document.createElement("a");
                link.href = "javascript:window.hacked='link'";
                document.body.append(link);
                link.click();
                const frame = document.createElement("iframe");
                frame.srcdoc = "<script>parent.hacked = 'frame'<" + "/script>";
                document.body.append(frame);
                const base = document.createElement("base");
                base.href = "http://localhost:9/";
                document.head.append(base);
                try { setTimeout("window.hacked = 'timer'", 0); } catch {}
                await fetch("http://localhost:9/").catch(() => null);
                await new Promise((done) => setTimeout(done, 300));
            }"""
        )
        # As the page itself would: what a driver of browsers evaluates is not held by policies.
        handler = "document.getElementById('clear').setAttribute('onclick', 'window.hacked=1')"
        page.evaluate(handler)
        assert page.evaluate("window.hacked") is None
        refused = {text.split()[0] for text in page.evaluate("window.refused")}
        assert {"script-src-elem", "script-src-attr", "img-src", "connect-src"} <= refused
        assert {"base-uri", "script-src"} <= refused
        assert [url for url in seen.requests if url.startswith("http")] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_control_works(browser, report_results, scheme):
    """Each control is used, its effect is seen, and nothing is refused."""
    path = report_results / "report.html"
    with opened(browser, path, color_scheme=scheme, init=FIND) as page:
        assert page.evaluate("document.documentElement.dataset.theme") == scheme
        use_theme(page, scheme)
        use_links(page)
        for plot in PLOTS:
            use_plot(page, plot)
        use_choosers(page)
        use_table(page)
        use_groups(page)
        unused = set(page.evaluate("controls().filter((name) => !used.has(name))"))
        # Regions that scroll, and the canvases, which have no name of their own.
        regions = {"Table of groups", "Description of the run", "Command", ""}
        assert unused <= regions, "add these to this test"
        use_keyboard(page)


def use_theme(page, scheme):
    other = {"light": "dark", "dark": "light"}[scheme]
    for shown in (other, scheme):
        page.click("#theme")
        assert page.evaluate("document.documentElement.dataset.theme") == shown


def use_links(page):
    links = page.locator("a[href]")
    assert links.count() == 8
    for link in links.all():
        target = link.get_attribute("href")
        link.focus()
        page.keyboard.press("Enter")
        wait_until(page, "target => location.hash === target", target)
        assert page.locator(target).count() == 1


def ranges(page, plot):
    return page.evaluate(
        """name => {
            const {x_range, y_range} = Bokeh.documents[0].get_model_by_name(name);
            return [x_range.start, x_range.end, y_range.start, y_range.end];
        }""",
        plot,
    )


def tool(page, plot, title):
    """Take a tool of a plot, or put it away."""
    # Bokeh takes two quick clicks on one tool for a double click, and does nothing.
    page.wait_for_timeout(350)
    page.locator(f"#plot-{plot} [title='{title}']").click()


def frame_of(page, plot):
    """Left, top, right and bottom of what is drawn, on the screen."""
    spot(page, plot, 0)
    return page.evaluate(
        """name => {
            const view = Object.values(Bokeh.index.roots ?? Bokeh.index)
                .find((one) => one.model.name === name);
            const box = document.getElementById(`plot-${name}`).getBoundingClientRect();
            const {left, top, right, bottom} = view.frame.bbox;
            return [box.x + left, box.y + top, box.x + right, box.y + bottom];
        }""",
        plot,
    )


def drag(page, *points):
    page.mouse.move(*points[0])
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*point, steps=4)
    page.mouse.up()


def selected(page, at_least=1):
    wait_until(
        page,
        "n => document.querySelectorAll('#table tr[aria-selected=true]').length >= n",
        at_least,
    )
    return runs(page)["selected"]


def use_plot(page, plot):
    """The tools of a plot, the pointer over a run, and a run that is clicked."""
    before = ranges(page, plot)
    moved = "([name, at]) => Bokeh.documents[0].get_model_by_name(name).x_range.start !== at"
    back = moved.replace("!==", "===")
    for use in ("Pan", "Wheel Zoom"):
        tool(page, plot, use)
        # A click on a tool may scroll the page, so that places are asked for after it.
        left, top, right, bottom = frame_of(page, plot)
        x, y = 0.5 * (left + right), 0.5 * (top + bottom)
        if use == "Pan":
            drag(page, (x, y), (x + 40, y + 30))
        else:
            page.mouse.move(x, y)
            page.mouse.wheel(0, -120)
        wait_until(page, moved, [plot, before[0]])
        tool(page, plot, "Reset")
        wait_until(page, back, [plot, before[0]])
        assert ranges(page, plot) == before
    tool(page, plot, "Wheel Zoom")
    for use in ("Lasso Select", "Box Select"):
        tool(page, plot, use)
        left, top, right, bottom = frame_of(page, plot)
        corners = [(left + 3, top + 3), (right - 3, bottom - 3)]
        if use == "Lasso Select":
            corners = [corners[0], (right - 3, top + 3), corners[1], (left + 3, bottom - 3)]
        drag(page, *corners)
        assert selected(page)
        page.click("#clear")
    tool(page, plot, "Tap")
    page.mouse.click(*spot(page, plot, 3))
    assert runs(page)["selected"] == []
    tool(page, plot, "Tap")
    page.mouse.click(*spot(page, plot, 3))
    assert 3 in selected(page)
    # Runs that were taken at one place lie above each other; the tip tells the first.
    assert "run " in hover(page, plot, 3)
    page.click("#clear")


def use_choosers(page):
    for name, side in (("x", "below"), ("y", "left")):
        for plot in ("conditions", "features", "time"):
            if (plot, name) == ("time", "x"):
                continue
            chooser = page.locator(f"#{plot}-{name}")
            for option in chooser.locator("option").all_text_contents():
                chooser.select_option(label=option)
                axis = f"Bokeh.documents[0].get_model_by_name('{plot}').{side}[0].axis_label"
                assert page.evaluate(axis) == option


def use_table(page):
    ids = runs(page)["ids"]
    for button in page.locator("#table th button").all():
        button.click()
        rising = [obs_id for _, obs_id, _ in table_rows(page)]
        assert page.locator("#table th[aria-sort=ascending]").count() == 1
        button.click()
        assert page.locator("#table th[aria-sort=descending]").count() == 1
        assert sorted(rising) == sorted(obs_id for _, obs_id, _ in table_rows(page))
    page.locator("#table thead input").check()
    assert len(selected(page, len(ids))) == len(ids)
    page.locator("#table thead input").uncheck()
    assert runs(page)["selected"] == []
    page.locator("#table tbody input").first.check()
    page.locator("#table tr[data-row] td:nth-child(3)").nth(1).click()
    assert len(selected(page, 2)) == 2
    page.check("#only")
    assert len(table_rows(page)) == 2
    page.uncheck("#only")
    page.fill("#search", ids[5])
    assert [obs_id for _, obs_id, _ in table_rows(page)] == [ids[5]]
    page.press("#search", "Enter")
    assert marked(page) == [ids[5]]
    page.fill("#search", "")
    page.click("#clear")
    page.focus("#table")
    page.keyboard.press("PageDown")


def use_groups(page):
    before = runs(page)["colours"]
    set_number(page, 4)
    assert len(set(runs(page)["colours"])) == 5
    page.locator("#explorer-legend button").first.click()
    assert selected(page)
    page.select_option("#target-group", "new")
    page.click("#move")
    assert page.locator("#number-text").text_content() == "by hand"
    assert len(set(labels_of(downloaded(page)).values())) == 5
    page.click("#undo")
    assert page.locator("#number-text").text_content() == "5 groups"
    page.click("#reset")
    assert runs(page)["colours"] == before
    page.click("#clear")
    assert marked(page) == []


def use_keyboard(page):
    """All that can be used is reached by the keyboard alone, unless it has nothing to do now."""
    page.locator(".skip").focus()
    reached = set()
    for _ in range(120):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("nameOf(focused())"))
        if "Command" in reached:
            break
    disabled = page.evaluate("[...document.querySelectorAll(':disabled')].map(nameOf)")
    assert set(page.evaluate("controls()")) <= reached | set(disabled) | {"To the result"}


def test_it_works_where_it_is_served(browser, report_results):
    """The same page from a web server, and in the frame of another page, as notebooks show it."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(report_results))
    handler.log_message = lambda *_: None
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"http://127.0.0.1:{server.server_port}/report.html"
        with watched(browser, url) as (page, seen):
            set_number(page, 4)
            assert len(set(runs(page)["colours"])) == 5
            assert downloaded(page)
            assert page.evaluate("window.refused") == []
            assert seen.complaints == []
            assert [one for one in seen.requests if one.startswith("http")] == [url]
    finally:
        server.shutdown()
        server.server_close()


def test_the_map_around_0h_has_angles_within_360(browser, small_archive, tmp_path):
    archive = shutil.copytree(small_archive, tmp_path / "archive")
    table = Table(ObservationTable.read(archive / "obs-index.fits.gz"), copy=True)
    table["RA_PNT"] = np.linspace(358.0, 362.0, len(table)) % 360
    table["DEC_PNT"] = np.linspace(-1.0, 1.0, len(table))
    write_index(table, archive / "obs-index.fits.gz")
    results = make_report(archive, tmp_path / "results", "--by", "ZEN_PNT")
    with opened(browser, results / "report.html") as page:
        labels = page.evaluate(
            """() => {
                const axis = Bokeh.documents[0].get_model_by_name("sky").below[0];
                return axis.formatter.doFormat([358, 359.5, 360, 361.25, -1], axis);
            }"""
        )
        assert labels == ["358", "359.5", "0", "1.25", "359"]


def test_texts_of_an_archive_do_nothing(browser, small_archive, tmp_path):
    """Targets, columns, files and notes whose names are scripts are shown as they are."""
    archive = shutil.copytree(small_archive, tmp_path / EVIL[3])
    table = Table(ObservationTable.read(archive / "obs-index.fits.gz"), copy=True)
    n_obs = len(table)
    table["OBJECT"] = [EVIL[i % len(EVIL)] for i in range(n_obs)]
    table[EVIL[4]] = np.arange(n_obs) * 1.0
    write_index(table, archive / "obs-index.fits.gz")
    index = archive / "hdu-index.fits.gz"
    hdus = Table.read(index)
    # The files of one run have gone, and its note names them.
    names = [str(name).strip() for name in hdus["FILE_NAME"]]
    hdus["FILE_NAME"] = [EVIL[3] if name == names[0] else name for name in names]
    write_index(hdus, index)
    names = ("--features", "psf-r68", "aeff", EVIL[4], "--n-groups", "2")
    results = make_report(archive, tmp_path / "{{ 7 * 7 }}", *names)
    with opened(browser, results / "report.html", init=FIND) as page:
        for button in page.locator("#table th button").all():
            button.click()
        shown = page.locator("#table").text_content()
        for text in EVIL:
            assert text in shown
        assert EVIL[3] in page.locator("#odd").text_content()
        assert hover(page, "conditions", 1)
        for option in page.locator("#features-x option").all_text_contents():
            page.locator("#features-x").select_option(label=option)
        assert EVIL[4] in downloaded(page) + page.locator("#features-x").text_content()
        assert page.evaluate("window.hacked") is None
        assert page.locator("img").count() == 0
        assert page.locator("script").count() == 4
