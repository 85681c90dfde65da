"""A response that many runs share is read once, and what is read is the same."""

import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from astropy.coordinates import SkyCoord

from archives import Archive
from obscluster import DataStore, get_features
from obscluster.exceptions import FormatError, SkippedRunWarning
from obscluster.gadf import hdu_index
from obscluster.gadf.fits import FitsFile
from obscluster.gadf.shared_irfs import SharedIRFs
from obscluster.parallel.engine import get_engine

NAMES = ["aeff", "edisp-res", "psf-r68"]


@pytest.fixture
def opened(monkeypatch, tmp_path):
    """Function that tells which files observations have opened, also in other processes."""
    log = tmp_path / "opened"
    log.touch()

    class Recorded(FitsFile):
        def __init__(self, path):
            with log.open("a") as file:
                file.write(f"{path.name}\n")
            super().__init__(path)

    monkeypatch.setattr(hdu_index, "FitsFile", Recorded)
    return lambda: log.read_text().split()


class Threads:
    """An engine of threads that share one memory."""

    def map(self, function, items):
        with ThreadPoolExecutor(4) as pool:
            yield from pool.map(function, items)


@pytest.fixture
def shared_archive(unpacked_archive, tmp_path):
    """Five runs whose responses are all in the file of the first."""
    archive = Archive.copy_of(unpacked_archive, tmp_path / "archive")
    archive.move_responses(archive.directory / "irfs", "irfs")

    def edit(table):
        of_irfs = ~np.isin(table["HDU_TYPE"], ["events", "gti"])
        table["FILE_NAME"][of_irfs] = table["FILE_NAME"][of_irfs][0]

    archive.index("hdu", edit)
    return archive.directory


def features(archive, **options):
    observations = DataStore.from_dir(archive).get_observations()
    return get_features(observations, NAMES, "1 TeV", **options)


@pytest.mark.parametrize("engine", [None, Threads()])
def test_a_file_for_all_runs_is_opened_once(shared_archive, opened, engine):
    table = features(shared_archive, engine=engine)
    assert len(table) == 5
    assert len(opened()) == 1


def test_processes_open_it_once_each(shared_archive, opened):
    table = features(shared_archive, engine=get_engine(2))
    assert len(table) == 5
    assert 1 <= len(opened()) <= 2


def test_a_file_for_each_run_is_opened_once_and_not_held(unpacked_archive, opened):
    features(unpacked_archive)
    assert len(opened()) == len(set(opened())) == 5
    observations = DataStore.from_dir(unpacked_archive).get_observations()
    assert SharedIRFs.among(obs.files("aeff", "psf") for obs in observations) is None


def test_values_are_those_of_runs_by_themselves(shared_archive):
    position = SkyCoord(83.63, 22.01, unit="deg")
    observations = DataStore.from_dir(shared_archive).get_observations()
    table = features(shared_archive, position=position)
    for row, obs in zip(table, observations, strict=True):
        (alone,) = get_features([obs], NAMES, "1 TeV", position=position)
        for name in table.colnames:
            assert np.array_equal(row[name], alone[name]), name


def test_real_data(fact_crab, opened):
    observations = DataStore.from_files(fact_crab, fact_crab / "fact_irf.fits").get_observations()
    before = len(opened())
    table = get_features(observations, ["aeff", "edisp-res"], "1 TeV")
    assert len(table) == len(observations) > 100
    assert opened()[before:].count("fact_irf.fits") == 1


def test_a_damaged_file_is_an_error_of_every_run(shared_archive):
    (path,) = {
        obs.locations["psf"].path for obs in DataStore.from_dir(shared_archive).get_observations()
    }
    path.write_bytes(path.read_bytes()[:6000])
    with pytest.warns(SkippedRunWarning, match="5 of 5 runs"):
        table = features(shared_archive)
    assert all("truncated" in note for note in table["notes"])


class Reader:
    """Stands in for a file; counts what is read."""

    def __init__(self, is_bad=False):
        self.read = []
        self.is_bad = is_bad

    def __call__(self, wanted):
        self.read.append([name for name, _ in wanted])
        if self.is_bad:
            raise FormatError("damaged")
        return {name: object() for name, _ in wanted}


@pytest.fixture
def locations(unpacked_archive):
    (obs,) = DataStore.from_dir(unpacked_archive).get_observations()[:1]
    return [(name, obs.locations[name]) for name in ("aeff", "psf")]


def test_only_the_latest_files_are_held(locations):
    paths = [Path(f"file-{i}") for i in range(4)]
    shared, readers = SharedIRFs(paths, max_files=2), [Reader() for _ in paths]
    for i in (0, 1, 0, 2, 0, 1):
        shared.get(readers[i], paths[i], locations)
    assert [len(reader.read) for reader in readers] == [1, 2, 1, 0]


def test_what_is_not_held_of_a_file_is_read(locations):
    path = Path("file")
    shared, reader = SharedIRFs([path]), Reader()
    first = shared.get(reader, path, locations[:1])
    both = shared.get(reader, path, locations)
    assert both["aeff"] is first["aeff"]
    assert reader.read == [["aeff"], ["psf"]]


def test_errors_are_not_held(locations):
    shared, reader = SharedIRFs([Path("bad")]), Reader(is_bad=True)
    for _ in range(2):
        with pytest.raises(FormatError):
            shared.get(reader, Path("bad"), locations)
    assert len(reader.read) == 2


def test_threads_wait_for_the_one_that_reads(locations):
    shared, reader = SharedIRFs([Path("file")]), Reader()
    barrier = threading.Barrier(8)

    def ask(_):
        barrier.wait()
        return shared.get(reader, Path("file"), locations)["psf"]

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(ask, range(8)))
    assert len(set(map(id, found))) == 1
    assert len(reader.read) == 1


def test_pickled_it_holds_nothing(locations):
    shared = SharedIRFs([Path("file")], max_files=3)
    shared.get(Reader(), Path("file"), locations)
    copy = pickle.loads(pickle.dumps(shared))  # noqa: S301 our own
    reader = Reader()
    assert (copy.paths, copy.max_files) == (shared.paths, 3)
    copy.get(reader, Path("file"), locations)
    assert len(reader.read) == 1
