"""Archives that tests share: a simulated one, and real ones where they are installed."""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest
from astropy.io import fits
from astropy.table import Table
from hypothesis import settings
from matplotlib.axes import Axes

from obscluster.simulate import simulate
from pages import make_report
from serving import Handler, Server

# How long an example takes depends on what else the machine does.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

ROOT = Path(__file__).resolve().parents[1]

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BROWSER_OPTIONS = ("--no-sandbox", "--disable-gpu", "--force-device-scale-factor=1")

# SHA-256 of the obs-index: numbers that are claimed of this archive hold for no other.
HESS_DR1_INDEX = "f44f788d37147439ff03bca3fd1144f8b1d3ecd7caae292ff7592ff7e6b1a8b9"


def data_directories() -> Iterator[Path]:
    """Where real data may lie, the first that has it counts."""
    if "OBSCLUSTER_TEST_DATA" in os.environ:
        yield Path(os.environ["OBSCLUSTER_TEST_DATA"])
    yield ROOT.parent / "shared" / "data"
    if "GAMMAPY_DATA" in os.environ:
        yield Path(os.environ["GAMMAPY_DATA"])


def real_data(name: str) -> Path:
    """A file or directory of the real data, by its name relative to the data directory."""
    for directory in data_directories():
        path = directory / name
        if path.exists():
            return path
    pytest.skip(
        f"no {name} in $OBSCLUSTER_TEST_DATA, {ROOT.parent / 'shared' / 'data'} or $GAMMAPY_DATA"
    )


@pytest.fixture(scope="session")
def small_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Simulated archive of 12 runs; do not change it."""
    directory = tmp_path_factory.mktemp("simulated") / "archive"
    return simulate(directory, n_obs=12, seed=1, size="small")


@pytest.fixture(scope="session")
def hess_dr1() -> Path:
    """H.E.S.S. public data: 105 runs, one file each."""
    archive = real_data("hess-dl3-dr1")
    index = (archive / "obs-index.fits.gz").read_bytes()
    if hashlib.sha256(index).hexdigest() != HESS_DR1_INDEX:
        pytest.skip(f"{archive} is not HESS DL3 DR1 with background: its obs-index is another")
    return archive


@pytest.fixture(scope="session")
def cta_1dc() -> Path:
    """Four simulated CTA runs; index files in ``index/gps``, responses in a file of their own."""
    return real_data("cta-1dc")


@pytest.fixture(scope="session")
def fact_crab() -> Path:
    """FACT public data: 125 runs with point-like responses in a file of their own."""
    return real_data("fact-crab")


@pytest.fixture(scope="session")
def pks_reference() -> Table:
    """Published features of 21 runs on PKS 2155-304; the file lies next to the data directory."""
    path = real_data("../reference/pks2155_1tev.csv")
    return Table.read(path, format="ascii.csv", comment="#")


@pytest.fixture
def write_fits(tmp_path: Path) -> Callable[..., Path]:
    """Function that writes HDUs behind an empty primary HDU and returns the path."""

    def write(*hdus: fits.hdu.base.ExtensionHDU, name: str = "file.fits") -> Path:
        path = tmp_path / name
        fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(path, overwrite=True)
        return path

    return write


@pytest.fixture(scope="session")
def unpacked_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Simulated archive of five unpacked files; do not change it."""
    directory = tmp_path_factory.mktemp("unpacked") / "archive"
    return simulate(directory, n_obs=5, size="small", compress=False)


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """Function that serves a directory over HTTP."""
    servers = []

    def start(directory: Path, handler: type[Handler] = Handler) -> Server:
        server = Server(directory, handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server

    yield start
    for server in servers:
        server.end()


@pytest.fixture
def unindexed(unpacked_archive: Path, tmp_path: Path) -> Path:
    """Copy of `unpacked_archive` without index files."""
    ignored = shutil.ignore_patterns("*-index.fits.gz")
    return shutil.copytree(unpacked_archive, tmp_path / "archive", ignore=ignored)


@pytest.fixture
def agg() -> Iterator[None]:
    """Matplotlib without a screen; figures are closed at the end."""
    before = plt.get_backend()
    plt.switch_backend("Agg")
    yield
    plt.close("all")
    plt.switch_backend(before)


@pytest.fixture
def ax(agg: None) -> Axes:
    """Axes of a new figure."""
    return plt.subplots(layout="constrained")[1]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A browser without a screen."""
    pytest.importorskip("bokeh", reason="the extra report is not installed: no bokeh")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=list(BROWSER_OPTIONS))
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def report_results(small_archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of a grouping with their report; do not change them."""
    pytest.importorskip("bokeh", reason="the extra report is not installed: no bokeh")
    directory = tmp_path_factory.mktemp("report") / "results"
    names = ("--features", "psf-r68", "edisp-res68", "aeff", "--n-groups", "3")
    return make_report(small_archive, directory, *names)
