"""Archives at URLs: the same values as from local files, and no more bytes than needed."""

import os
import shutil
import socket
import sys
import time
import warnings
from itertools import repeat
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

import serving
from obscluster import DataStore, get_features
from obscluster.cli import main
from obscluster.exceptions import (
    AbsentError,
    ArchiveError,
    DamagedError,
    MissingDataError,
    RequestError,
    SkippedRunWarning,
    UnreadableError,
)
from obscluster.features.cache_keys import file_states
from obscluster.gadf import remote
from obscluster.gadf.index import expand_path
from obscluster.gadf.remote import is_remote, join, make_path
from obscluster.parallel.engine import get_engine
from obscluster.simulate import simulate
from serving import WithoutRanges

fsspec = pytest.importorskip("fsspec")
pytest.importorskip("upath")

NAMES = ["aeff", "edisp-res", "psf-r68"]
# What is read around a header, in bytes: see obscluster.gadf.unpack and remote.
WINDOW = 1 << 14


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
    from obscluster.features.cache import FeatureCache

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
    from obscluster.gadf.fits import HDU

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


class Clock:
    """Time that passes only where somebody sleeps; ``slept`` has how long."""

    def __init__(self):
        self.now, self.slept = 0.0, []

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    """What waits before it tries again does not take that long."""
    clock = Clock()
    fake = SimpleNamespace(monotonic=clock.monotonic, sleep=clock.sleep)
    monkeypatch.setattr("obscluster.gadf.remote.time", fake)
    return clock


@pytest.fixture
def first_run(unpacked_archive, serve):
    """Server, the first observation of what it serves, and the name of its file."""
    server = serve(unpacked_archive)
    run = DataStore.from_dir(server.url).get_observations()[0]
    return server, run, run.locations["aeff"].path.name


def values_of(run):
    table = get_features([run], NAMES, "1 TeV")
    return [table[name].value[0] for name in NAMES]


class TestFaults:
    @pytest.mark.parametrize("fault", [429, 500, 502, 503, 504, serving.drop])
    def test_what_passes_is_tried_again(self, fault, first_run, clock, unpacked_archive):
        server, run, name = first_run
        server.faults["GET", name] = iter([fault, fault])
        expected = values_of(DataStore.from_dir(unpacked_archive).get_observations()[0])
        assert values_of(run) == expected
        assert clock.slept == [0.5, 1.0]

    def test_a_server_says_how_long_to_wait(self, first_run, clock):
        server, run, name = first_run
        server.faults["GET", name] = iter([(429, {"Retry-After": "7"}), 503])
        run.read_irfs("aeff")
        assert clock.slept == [7.0, 1.0]

    def test_what_asks_for_much_patience_ends_at_once(self, first_run, clock):
        server, run, name = first_run
        server.faults["GET", name] = repeat((429, {"Retry-After": "3600"}))
        with pytest.raises(UnreadableError, match=r"cannot be read \(the server answers 429\)"):
            run.read_irfs("aeff")
        assert clock.slept == []

    def test_what_does_not_pass_ends(self, first_run, clock):
        server, run, name = first_run
        server.faults["GET", name] = repeat(503)
        text = r"cannot be read \(the server answers 503 after 5 tries\)"
        with pytest.raises(UnreadableError, match=f"{name}: {text}") as caught:
            run.read_irfs("aeff")
        assert caught.value.reason == f"{text} ({server.url}/data/{name})".replace("\\", "")
        assert clock.slept == [0.5, 1.0, 2.0, 4.0]
        assert server.n_failed == 5

    @pytest.mark.parametrize("status", [400, 403, 404, 410])
    def test_what_will_not_pass_is_not_tried_again(self, status, first_run, clock):
        server, run, name = first_run
        server.faults[name] = repeat(status)
        with pytest.raises(UnreadableError):
            run.read_irfs("aeff")
        assert clock.slept == []

    def test_denied_is_not_missing(self, first_run):
        server, run, name = first_run
        server.faults[name] = repeat(403)
        denied = r"cannot be read \(access denied as the server answers 403\)"
        with pytest.raises(AbsentError, match=denied):
            run.read_irfs("aeff")
        server.faults[name] = repeat(404)
        with pytest.raises(AbsentError, match="no such file, though the index lists it"):
            run.read_irfs("aeff")

    def test_a_store_that_denies_what_is_not_there(self, unpacked_archive, tmp_path, serve):
        """The archive is packed otherwise than asked first, and the index says; all is found."""
        import gzip

        archive = shutil.copytree(unpacked_archive, tmp_path / "archive")
        for path in list(archive.glob("*.gz")):
            path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
            path.unlink()
        for path in list((archive / "data").iterdir()):
            path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
            path.unlink()
        server = serve(archive)
        absent = [path.with_suffix("").name for path in (archive / "data").iterdir()]
        absent += [f"{path.name}.gz" for path in archive.glob("*.fits")]
        server.faults = {name: repeat(403) for name in absent}
        assert_identical(features(server.url), features(archive))
        assert server.n_failed > 5

    def test_an_index_that_is_denied(self, unpacked_archive, serve, capsys):
        server = serve(unpacked_archive)
        server.faults = {f"hdu-index.fits{end}": repeat(403) for end in ("", ".gz")}
        assert main(["info", server.url]) == 2
        error = capsys.readouterr().err
        assert "may be read (access denied as the server answers 403)" in error
        assert "Traceback" not in error

    def test_an_index_that_does_not_come_is_not_taken_for_none(self, unpacked_archive, serve):
        server = serve(unpacked_archive)
        server.faults = {f"obs-index.fits{end}": repeat(400) for end in ("", ".gz")}
        with pytest.raises(ArchiveError, match=r"obs-index.fits.gz: cannot be reached"):
            DataStore.from_dir(server.url)

    @pytest.mark.parametrize(
        ("fault", "text"),
        [
            (serving.hang, "the server has sent nothing more for 0.5 s"),
            (serving.trickle, "the answer is not complete after 1 s"),
        ],
    )
    def test_what_was_announced_and_never_comes(
        self, fault, text, unpacked_archive, serve, monkeypatch
    ):
        monkeypatch.setenv("OBSCLUSTER_READ_TIMEOUT", "0.5")
        monkeypatch.setattr("obscluster.gadf.remote._WHOLE", 2)
        server = serve(unpacked_archive)
        run = DataStore.from_dir(server.url).get_observations()[0]
        server.faults["GET", run.locations["aeff"].path.name] = repeat(fault)
        start = time.monotonic()
        with pytest.raises(UnreadableError, match=rf"cannot be read \({text}\)"):
            run.read_irfs("aeff")
        assert time.monotonic() - start < 20
        assert server.n_failed == 1

    @pytest.mark.parametrize("text", ["soon", "0", "-1", "inf", "nan"])
    def test_a_time_that_is_none(self, text, monkeypatch):
        monkeypatch.setenv("OBSCLUSTER_READ_TIMEOUT", text)
        with pytest.raises(RequestError, match=f"OBSCLUSTER_READ_TIMEOUT={text}: expected a"):
            make_path("http://127.0.0.1:1/archive")

    def test_a_page_in_place_of_a_file_is_damage(self, unpacked_archive, tmp_path, serve):
        """Such as one that asks for a password."""
        archive = shutil.copytree(unpacked_archive, tmp_path / "archive")
        run = DataStore.from_dir(serve(archive).url).get_observations()[0]
        (archive / "data" / run.locations["aeff"].path.name).write_text("<html>Log in</html>" * 99)
        with pytest.raises(DamagedError, match="not a FITS file"):
            run.read_irfs("aeff")


class TestUnread:
    """What could not be read is told, and nothing that comes of it is kept."""

    @pytest.mark.parametrize("names", [NAMES, ["livetime", "mjd"], ["event-rate", *NAMES]])
    def test_no_cache_keeps_what_comes_of_it(self, names, unpacked_archive, tmp_path, serve):
        """Not even a livetime of the index, where the good time could not be read."""
        pytest.importorskip("pyarrow")
        from obscluster.features.cache import FeatureCache

        server = serve(unpacked_archive)
        run = DataStore.from_dir(server.url).get_observations()[1]
        server.faults["GET", run.locations["gti"].path.name] = repeat(400)
        cache = FeatureCache(tmp_path / "cache")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SkippedRunWarning)
            table = features(server.url, names, cache=cache)
        (unread,) = table.meta["unread"].items()
        assert unread[0] == run.obs_id
        assert unread[1].startswith("cannot be read (the server answers 400) (http://")
        assert table["notes"][1]
        server.faults.clear()
        table = features(server.url, names, cache=cache)
        assert (cache.n_found, cache.n_computed) == (4, 1)
        assert "unread" not in table.meta
        assert_identical(table, features(unpacked_archive, names))

    def test_a_state_that_no_server_tells_is_no_state(self, unpacked_archive, serve):
        server = serve(unpacked_archive)
        paths = [at.path for at in DataStore.from_dir(server.url).obs(26601).locations.values()]
        server.faults[paths[0].name] = repeat(400)
        first, second = (file_states(paths[:1])[paths[0]] for _ in range(2))
        assert first != second

    @pytest.mark.parametrize("n_workers", [1, 2])
    def test_who_was_lost_is_known_of_all_workers(self, n_workers, unpacked_archive, serve):
        server = serve(unpacked_archive)
        observations = DataStore.from_dir(server.url).get_observations()
        server.faults = {
            obs.locations["aeff"].path.name: repeat(400) for obs in observations[[1, 3]]
        }
        with pytest.warns(SkippedRunWarning, match="2 of 5 runs"):
            table = get_features(observations, NAMES, "1 TeV", engine=get_engine(n_workers))
        assert list(table.meta["unread"]) == [int(observations.ids[i]) for i in (1, 3)]

    def test_a_run_that_is_lost_to_the_selection(self, unpacked_archive, tmp_path, serve, capsys):
        """The header says what the index does not."""
        archive = shutil.copytree(unpacked_archive, tmp_path / "archive")
        with fits.open(archive / "obs-index.fits.gz", mode="update") as hdus:
            table = Table(hdus[1].data)
            table.remove_column("ZEN_PNT")
            hdus[1] = fits.BinTableHDU(table, header=hdus[1].header, name="OBS_INDEX")
        server = serve(archive)
        lost = DataStore.from_dir(server.url).get_observations()[2]
        server.faults["GET", lost.locations["events"].path.name] = repeat(400)
        command = ["group", server.url, "--where", "ZEN_PNT", "0 deg", "90 deg"]
        command += ["--features", "aeff", "--n-groups", "2", "--no-plots", "--strict"]
        assert main([*command, "-o", str(tmp_path / "out")]) == 3
        first = capsys.readouterr().out.splitlines()[0]
        text = f"1 of 5 runs could not be read: {lost.obs_id} (the server answers 400); "
        assert first == f"{text}groups are without it"


BUCKET = "archives"


@pytest.fixture
def s3_environment(monkeypatch):
    """Function that says where the store is, and who asks it; nobody unless told."""
    s3fs = pytest.importorskip("s3fs")
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)

    def set_up(url, user="somebody"):
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY") if user else ():
            monkeypatch.setenv(f"AWS_{name}", user)
        # It asks the environment once.
        s3fs.S3FileSystem.clear_instance_cache()

    yield set_up
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def s3(unpacked_archive, s3_environment):
    """URL of a copy in a store that speaks S3, and a client of that."""
    server_module = pytest.importorskip("moto.server", reason="needs moto[server]")
    import boto3

    server = server_module.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    s3_environment(f"http://{host}:{port}")
    client = boto3.client("s3")
    client.create_bucket(Bucket=BUCKET)
    for path in unpacked_archive.rglob("*.fits*"):
        key = path.relative_to(unpacked_archive).as_posix()
        client.upload_file(str(path), BUCKET, f"dr1/{key}")
    yield f"s3://{BUCKET}/dr1", client
    client.close()
    server.stop()
    # What it has in memory would be there for the next server, and is not for that.
    from moto.core.models import DEFAULT_ACCOUNT_ID
    from moto.s3.models import s3_backends

    s3_backends[DEFAULT_ACCOUNT_ID]["aws"].reset()


class TestS3:
    def test_values_are_those_of_local_files(self, s3, unpacked_archive):
        url, _ = s3
        assert_identical(features(url), features(unpacked_archive))

    def test_from_the_command_line(self, s3, tmp_path, capsys):
        url, _ = s3
        assert main(["info", url]) == 0
        assert url in capsys.readouterr().out
        out = tmp_path / "out"
        arguments = ["--n-groups", "2", "--no-plots", "--workers", "2", "-o", str(out)]
        assert main(["group", url, *arguments]) == 0
        assert np.isfinite(Table.read(out / "features.ecsv")["edisp-res"]).all()

    def test_cache_sees_when_a_file_changes(self, s3, unpacked_archive, tmp_path):
        pytest.importorskip("pyarrow")
        from obscluster.features.cache import FeatureCache

        url, client = s3
        cache = FeatureCache(tmp_path / "cache")
        features(url, cache=cache)
        features(url, cache=cache)
        assert (cache.n_found, cache.n_computed) == (5, 0)
        first, second = sorted((unpacked_archive / "data").iterdir())[:2]
        client.upload_file(str(second), BUCKET, f"dr1/data/{first.name}")
        table = features(url, cache=cache)
        assert (cache.n_found, cache.n_computed) == (4, 1)
        assert table["aeff"][0] == table["aeff"][1]

    def test_what_is_missing(self, s3, capsys):
        url, client = s3
        run = DataStore.from_dir(url).get_observations()[0]
        name = run.locations["aeff"].path.name
        client.delete_object(Bucket=BUCKET, Key=f"dr1/data/{name}")
        with pytest.raises(MissingDataError, match=f"{url}/data/{name}: no such file"):
            run.read_irfs("aeff")
        for nowhere in (f"{url}/nowhere", "s3://nowhere/dr1"):
            assert main(["info", nowhere]) == 2
            assert f"{nowhere}: no hdu-index.fits.gz" in capsys.readouterr().err

    @pytest.mark.parametrize(("status", "n_tries"), [(503, 5), (429, 5), (500, 5), (403, 1)])
    @pytest.mark.usefixtures("clock")
    def test_a_store_that_fails(self, status, n_tries, tmp_path, serve, s3_environment):
        """Neither s3fs nor botocore tries again where we do."""
        server = serve(tmp_path)
        s3_environment(server.url)
        server.faults["run.fits"] = repeat(status)
        error = PermissionError if status == 403 else OSError
        after = "" if n_tries == 1 else f" after {n_tries} tries"
        with pytest.raises(error, match=f"the server answers {status}{after}"):
            remote.open_remote(make_path("s3://bucket/run.fits"))
        assert server.n_failed == n_tries

    def test_nobody_who_may_ask(self, tmp_path, serve, monkeypatch, s3_environment):
        s3_environment(serve(tmp_path).url, user="")
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        monkeypatch.setenv("HOME", str(tmp_path))
        with pytest.raises(ArchiveError, match=r"no credentials for s3.*FSSPEC_S3_ANON=true"):
            DataStore.from_dir("s3://bucket/archive")
