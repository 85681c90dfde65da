"""Archives at URLs: the same values as from local files, and no more bytes than needed."""

import functools
import shutil
import socket
import sys
import threading
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from obscluster import DataStore, get_features
from obscluster.cli import main
from obscluster.engine import get_engine
from obscluster.exceptions import ArchiveError, MissingDataError, RequestError, SkippedRunWarning
from obscluster.gadf.index import expand_path
from obscluster.gadf.remote import is_remote, join, make_path
from obscluster.simulate import simulate

fsspec = pytest.importorskip("fsspec")
pytest.importorskip("upath")

NAMES = ["aeff", "edisp-res", "psf-r68"]
# What is read around a header, in bytes: see obscluster.gadf.unpack and remote.
WINDOW = 1 << 14


class Handler(SimpleHTTPRequestHandler):
    """Files with ranges, as real servers have them; notes what it serves."""

    ranges = True

    def do_GET(self):
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        content = path.read_bytes()
        asked = self.headers.get("Range") if self.ranges else None
        start, stop = 0, len(content)
        if asked:
            first, _, last = asked.removeprefix("bytes=").partition("-")
            start, stop = int(first), min(int(last) + 1 if last else stop, stop)
        if self.command == "GET":
            self.server.served.append((path.name, start, stop))
        self.send_response(HTTPStatus.PARTIAL_CONTENT if asked else HTTPStatus.OK)
        self.send_header("Content-Length", str(stop - start))
        self.send_header("Last-Modified", self.date_time_string(path.stat().st_mtime))
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(content)}")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content[start:stop])

    def do_HEAD(self):
        self.do_GET()

    def log_message(self, *arguments):
        pass


class WithoutRanges(Handler):
    """A server that always sends the whole file."""

    ranges = False


class Server(ThreadingHTTPServer):
    """Serves a directory; ``served`` has name, first byte and end of each answer."""

    daemon_threads = True

    def __init__(self, directory, handler=Handler):
        super().__init__(("127.0.0.1", 0), functools.partial(handler, directory=str(directory)))
        self.served = []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def n_bytes(self, name=""):
        return sum(stop - start for file, start, stop in self.served if name in file)


@pytest.fixture
def serve():
    """Function that serves a directory."""
    servers = []

    def start(directory, handler=Handler):
        server = Server(directory, handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="session")
def long_archive(tmp_path_factory):
    """Three unpacked runs with 400 kB of events each, and background of 300 kB."""
    archive = simulate(
        tmp_path_factory.mktemp("long") / "archive", n_obs=3, size="full", compress=False
    )
    for path in (archive / "data").iterdir():
        with fits.open(path, memmap=False) as hdulist:
            events = hdulist["EVENTS"]
            rows = np.resize(events.data, 12_000)
            hdulist["EVENTS"] = fits.BinTableHDU(rows, header=events.header)
            hdulist.writeto(path, overwrite=True)
    return archive


@pytest.fixture
def in_memory(unpacked_archive):
    """URL of a copy in the memory of this process."""
    memory = fsspec.filesystem("memory")
    memory.put(str(unpacked_archive), "/archive", recursive=True)
    yield "memory://archive"
    memory.rm("/archive", recursive=True)


def features(archive, names=NAMES, **options):
    observations = DataStore.from_dir(archive).get_observations()
    return get_features(observations, names, "1 TeV", **options)


def assert_identical(table, other):
    assert table.colnames == other.colnames
    for name in table.colnames:
        assert np.asarray(table[name]).tobytes() == np.asarray(other[name]).tobytes(), name


def hdu_range(path, name):
    """First byte of the header of a HDU, and end of its data."""
    with fits.open(path) as hdulist:
        info = hdulist[name].fileinfo()
        return info["hdrLoc"], info["datLoc"] + info["datSpan"]


@pytest.mark.parametrize("compress", [False, True])
def test_values_over_http_are_those_of_local_files(tmp_path, serve, compress):
    archive = simulate(tmp_path / "archive", n_obs=4, size="small", compress=compress)
    server = serve(tmp_path)
    names = [*NAMES, "event-rate", "zenith", "bkg-rate"]
    assert_identical(features(f"{server.url}/archive", names), features(archive, names))


@pytest.mark.parametrize("n_workers", [2, 4])
def test_values_do_not_depend_on_workers(unpacked_archive, in_memory, serve, n_workers):
    """Workers that fork take no connection along."""
    server = serve(unpacked_archive)
    for url in (server.url, in_memory):
        data_store = DataStore.from_dir(url)
        # With connections open.
        assert data_store.get_observations()[0].aeff is not None
        observations = data_store.get_observations()
        table = get_features(observations, NAMES, "1 TeV", engine=get_engine(n_workers))
        assert_identical(table, features(unpacked_archive))


def test_values_in_memory_are_those_of_local_files(in_memory, unpacked_archive):
    assert_identical(features(in_memory), features(unpacked_archive))
    data_store = DataStore.from_dir(in_memory)
    assert str(data_store.base_dir) == in_memory
    assert len(data_store.get_observations()[0].events.table) > 0


def test_only_the_bytes_needed_are_fetched(long_archive, serve):
    server = serve(long_archive)
    observations = DataStore.from_dir(server.url).get_observations()
    first = observations[:1]
    name = first[0].locations["aeff"].path.name
    path = long_archive / "data" / name
    server.served.clear()
    get_features(first, NAMES, "1 TeV")
    needed = sum(np.diff(hdu_range(path, hdu))[0] for hdu in ("AEFF", "EDISP", "PSF"))
    # Beside the responses only the headers on the way, each with what is read around it.
    assert server.n_bytes() < needed + 5 * WINDOW
    for hdu in ("EVENTS", "BKG"):
        start, stop = hdu_range(path, hdu)
        assert stop - start > 10 * WINDOW
        fetched = sum(max(0, min(end, stop) - max(begin, start)) for _, begin, end in server.served)
        assert fetched < 2 * WINDOW, hdu
    assert len(server.served) < 12


def test_features_of_the_index_fetch_no_file(long_archive, serve):
    server = serve(long_archive)
    observations = DataStore.from_dir(server.url).get_observations()
    server.served.clear()
    get_features(observations, ["zenith", "MUONEFF", "mjd"])
    assert server.served == []


def test_packed_files_are_fetched_once_and_whole(tmp_path, serve):
    archive = simulate(tmp_path / "archive", n_obs=3, size="full")
    server = serve(archive)
    observations = DataStore.from_dir(server.url).get_observations()
    server.served.clear()
    get_features(observations[:1], NAMES, "1 TeV")
    size = observations[0].locations["aeff"].path.stat().st_size
    assert size <= server.n_bytes() <= size + 2 * WINDOW
    assert len(server.served) <= 3


def test_a_server_without_ranges(unpacked_archive, serve):
    server = serve(unpacked_archive, WithoutRanges)
    assert_identical(features(server.url), features(unpacked_archive))


def test_a_missing_file_is_named_by_its_url(unpacked_archive, tmp_path, serve):
    archive = shutil.copytree(unpacked_archive, tmp_path / "archive")
    server = serve(archive)
    observations = DataStore.from_dir(server.url).get_observations()
    path = archive / "data" / observations[0].locations["aeff"].path.name
    path.unlink()
    with pytest.raises(MissingDataError, match=f"{server.url}/data/{path.name}: no such file"):
        observations[0].read_irfs("aeff")
    with pytest.warns(SkippedRunWarning, match="no such file"):
        table = get_features(observations, NAMES, "1 TeV")
    assert np.isfinite(table["aeff"][1:]).all()


def test_a_file_that_was_packed_since_is_found(unpacked_archive, tmp_path, serve):
    import gzip

    archive = shutil.copytree(unpacked_archive, tmp_path / "archive")
    for path in (archive / "data").iterdir():
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    assert_identical(features(serve(archive).url), features(archive))


def test_files_beside_the_archive(in_memory, unpacked_archive):
    """FILE_DIR may lead upwards, which stores of objects do not understand."""
    memory = fsspec.filesystem("memory")
    table = Table.read(unpacked_archive / "hdu-index.fits.gz")
    directory = make_path(in_memory)
    assert str(join(directory / "a" / "b", "../../data/x.fits")) == "memory://archive/data/x.fits"
    table["FILE_DIR"] = ["../../data"] * len(table)
    memory.copy("/archive/obs-index.fits.gz", "/archive/index/gps/obs-index.fits.gz")
    with memory.open("/archive/index/gps/hdu-index.fits", "wb") as file:
        fits.HDUList([fits.PrimaryHDU(), fits.table_to_hdu(table)]).writeto(file)
    assert_identical(features(f"{in_memory}/index/gps"), features(unpacked_archive))


def test_an_index_that_is_not_there(unpacked_archive, serve):
    server = serve(unpacked_archive.parent)
    with pytest.raises(ArchiveError, match="below a URL nothing is searched, so name the dir"):
        DataStore.from_dir(server.url)


def closed_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def test_a_server_that_is_not_there(capsys):
    url = f"http://127.0.0.1:{closed_port()}/archive"
    with pytest.raises(ArchiveError, match="cannot be reached"):
        DataStore.from_dir(url)
    assert main(["info", url]) == 2
    error = capsys.readouterr().err
    assert url in error
    assert "cannot be reached" in error
    assert "Traceback" not in error


def test_a_server_that_goes_away(unpacked_archive, serve):
    server = serve(unpacked_archive)
    observations = DataStore.from_dir(server.url).get_observations()
    server.shutdown()
    server.server_close()
    with pytest.warns(SkippedRunWarning, match="cannot be read .Cannot connect to host"):
        table = get_features(observations, NAMES, "1 TeV")
    assert np.isnan(table["aeff"]).all()


@pytest.mark.parametrize(
    ("url", "message"),
    [("nonsense://a/b", "not a usable URL"), ("s3://bucket/archive", "is not installed")],
)
def test_urls_of_no_use(url, message, monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(RequestError, match=message):
        expand_path(url)


def test_without_fsspec(monkeypatch):
    monkeypatch.setitem(sys.modules, "upath", None)
    with pytest.raises(RequestError, match=r"pip install \"obscluster\[scale\]\""):
        DataStore.from_dir("https://host/archive")


def test_local_paths_stay_plain(unpacked_archive, monkeypatch):
    monkeypatch.setitem(sys.modules, "upath", None)
    for name in (str(unpacked_archive), f"file://{unpacked_archive}"):
        data_store = DataStore.from_dir(name)
        assert isinstance(data_store.base_dir, Path)
        paths = {at.path for obs in data_store.get_observations() for at in obs.locations.values()}
        assert not any(map(is_remote, paths))


def test_cache_sees_when_a_file_at_a_url_changes(in_memory, unpacked_archive, tmp_path, serve):
    pytest.importorskip("pyarrow")
    from obscluster.cache import FeatureCache

    archive = shutil.copytree(unpacked_archive, tmp_path / "archive")
    server = serve(archive)
    memory = fsspec.filesystem("memory")
    for url in (server.url, in_memory):
        cache = FeatureCache(tmp_path / "cache" / url[:4])
        features(url, cache=cache)
        server.served.clear()
        table = features(url, cache=cache)
        assert (cache.n_found, cache.n_computed) == (5, 0)
        assert not any("run_" in name for name, *_ in server.served)
        assert_identical(table, features(archive))
        path = sorted((archive / "data").iterdir())[0]
        # The time of HTTP has seconds.
        import os

        os.utime(path, (1, 1))
        memory.put(str(path), f"/archive/data/{path.name}")
        features(url, cache=cache)
        assert (cache.n_found, cache.n_computed) == (4, 1)


def test_from_the_command_line(unpacked_archive, tmp_path, serve, capsys):
    server = serve(unpacked_archive)
    assert main(["info", server.url]) == 0
    assert server.url in capsys.readouterr().out
    out = tmp_path / "out"
    arguments = ["--n-groups", "2", "--no-plots", "--workers", "2", "-o", str(out)]
    assert main(["group", server.url, *arguments]) == 0
    assert server.url in (out / "groups.yaml").read_text()
    table = Table.read(out / "features.ecsv")
    assert np.isfinite(table["edisp-res"]).all()


@pytest.fixture
def read_ranges(monkeypatch):
    """Positions of all bytes that are read of local files, in the order of the reads."""
    from obscluster.gadf import unpack

    ranges = []
    read = unpack._read

    def recorded(file, start, size, path):
        found = read(file, start, size, path)
        ranges.append((start, start + len(found)))
        return found

    monkeypatch.setattr(unpack, "_read", recorded)
    return ranges


def overlap(ranges, start, stop):
    return sum(max(0, min(end, stop) - max(begin, start)) for begin, end in ranges)


def test_events_are_read_only_when_asked(long_archive, read_ranges):
    (obs,) = DataStore.from_dir(long_archive).get_observations()[:1]
    path = obs.locations["events"].path
    events = hdu_range(path, "EVENTS")
    read_ranges.clear()
    get_features([obs], [*NAMES, "zenith", "livetime", "mjd"], "1 TeV")
    assert overlap(read_ranges, *events) < 2 * WINDOW


def test_events_are_read_once_and_nothing_beside_them(long_archive, read_ranges, monkeypatch):
    from obscluster.gadf.hdu import HDU

    columns = []
    view = HDU.view
    monkeypatch.setattr(HDU, "view", lambda hdu, name: columns.append(name) or view(hdu, name))
    (obs,) = DataStore.from_dir(long_archive).get_observations()[:1]
    path = obs.locations["events"].path
    read_ranges.clear()
    columns.clear()
    table = get_features([obs], ["event-rate"], ["1 TeV", "2 TeV", "5 TeV"])
    start, stop = hdu_range(path, "EVENTS")
    # Several thresholds are one look. Of a table the rows are stored one after the other, so all
    # of its bytes pass, but a single column is made of them.
    assert sum(end - begin for begin, end in read_ranges) < stop - start + 4 * WINDOW
    # The good time intervals count, for the events and for the livetime.
    assert columns == ["START", "STOP", "START", "STOP", "TIME", "ENERGY"]
    assert (np.diff([table[name][0].value for name in table.colnames[1:-1]]) < 0).all()
