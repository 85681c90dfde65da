"""Work on a dask.distributed cluster: complete, identical, and small on the wire."""

import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table

from obscluster import DataStore, get_features
from obscluster.exceptions import RequestError, SkippedRunWarning
from obscluster.features.catalog import load_features
from obscluster.parallel.dask_cluster import DaskCluster
from obscluster.parallel.engine import get_engine

distributed = pytest.importorskip("distributed")

NAMES = ["edisp-res", "psf-r68", "aeff-threshold", "zenith", "MUONEFF"]
ENERGIES = ["1 TeV", "10 TeV"]


@pytest.fixture(scope="module")
def cluster():
    """Two worker processes."""
    with distributed.LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        processes=True,
        dashboard_address=":0",
        protocol="tcp",
    ) as cluster:
        yield cluster


def assert_identical(table, other):
    assert table.colnames == other.colnames
    assert table.meta == other.meta
    for name in table.colnames:
        assert np.asarray(table[name]).tobytes() == np.asarray(other[name]).tobytes(), name


def slow_square(number, directory):
    """Leaves a mark of where it was done; some tenths of a second for all."""
    (directory / f"{number}-{os.getpid()}").touch()
    time.sleep(0.02)
    return number**2


def test_features_are_those_of_one_process(small_archive, cluster):
    observations = DataStore.from_dir(small_archive).get_observations()
    serial = get_features(observations, NAMES, ENERGIES)
    engine = get_engine(scheduler=cluster.scheduler_address)
    assert_identical(get_features(observations, NAMES, ENERGIES, engine=engine), serial)


def test_own_features_travel_with_their_helpers(small_archive, cluster, tmp_path):
    path = tmp_path / "own_features.py"
    path.write_text(
        "from obscluster.features import feature\n"
        "def helper(run):\n"
        "    return 2 * run.irf('aeff').arrays['EFFAREA'].max()\n"
        "@feature('twice', needs=['aeff'])\n"
        "def twice(run):\n"
        "    return helper(run)\n"
    )
    own = load_features([path])
    observations = DataStore.from_dir(small_archive).get_observations()
    table = get_features(
        observations, ["twice"], own=own, engine=DaskCluster(cluster.scheduler_address)
    )
    assert_identical(table, get_features(observations, ["twice"], own=own))


def test_runs_that_cannot_be_read_are_noted_as_in_one_process(small_archive, cluster, tmp_path):
    import shutil

    archive = shutil.copytree(small_archive, tmp_path / "archive")
    path = sorted((archive / "data").iterdir())[3]
    path.write_bytes(path.read_bytes()[:1000])
    observations = DataStore.from_dir(archive).get_observations()
    with pytest.warns(SkippedRunWarning):
        serial = get_features(observations, NAMES, ENERGIES)
    engine = DaskCluster(cluster.scheduler_address)
    with pytest.warns(SkippedRunWarning):
        table = get_features(observations, NAMES, ENERGIES, engine=engine)
    assert_identical(table, serial)


def test_a_killed_worker_costs_nothing_but_time(small_archive, tmp_path):
    """One of two processes is killed in the middle: complete, identical, in order."""
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0", protocol="tcp"
    ) as cluster:
        engine = DaskCluster(cluster.scheduler_address, chunk_size=4)
        results = engine.map(partial(slow_square, directory=tmp_path), range(150))
        found = [next(results) for _ in range(10)]
        pids = {int(path.name.partition("-")[2]) for path in tmp_path.iterdir()}
        assert len(pids) == 2
        os.kill(min(pids), signal.SIGKILL)
        found += results
        assert found == [n**2 for n in range(150)]
        # It was in the middle: the one that is left has done what the other one had not.
        done = {int(path.name.partition("-")[0]) for path in tmp_path.iterdir()}
        assert done == set(range(150))
        observations = DataStore.from_dir(small_archive).get_observations()
        table = get_features(observations, NAMES, ENERGIES, engine=engine)
    assert_identical(table, get_features(observations, NAMES, ENERGIES))


def test_errors_of_the_function_are_raised_here(cluster):
    engine = DaskCluster(cluster.scheduler_address)
    with pytest.raises(ZeroDivisionError):
        list(engine.map(partial(divmod, 1), [1, 0, 1]))


def test_nothing_is_nothing(cluster):
    assert list(DaskCluster(cluster.scheduler_address).map(abs, [])) == []


def test_a_client_that_was_given_stays_open(cluster):
    with distributed.Client(cluster, set_as_default=False) as client:
        assert list(DaskCluster(client).map(abs, [-1, 2])) == [1, 2]
        assert client.status == "running"


def test_a_run_is_small_on_the_wire(tmp_path, small_archive):
    """Whatever the size of the archive that it is from."""
    sizes = []
    for n_columns in (1, 200):
        archive = tmp_path / str(n_columns)
        archive.mkdir()
        (archive / "data").symlink_to(small_archive / "data")
        for kind in ("obs", "hdu"):
            table = Table.read(small_archive / f"{kind}-index.fits.gz")
            if kind == "obs":
                # As many rows as a large archive has.
                first = table[:1]
                more = [first["OBS_ID"][0] + 10_000_000 + i for i in range(100 * n_columns)]
                grown = Table(np.repeat(table.as_array()[:1], len(more)))
                grown["OBS_ID"] = more
                from astropy.table import vstack

                table = vstack([table, grown], metadata_conflicts="silent")
            table.write(archive / f"{kind}-index.fits.gz")
        observations = DataStore.from_dir(archive).get_observations(
            DataStore.from_dir(small_archive).obs_table["OBS_ID"]
        )
        observations[0].events  # noqa: B018 what was read stays here
        observations[0].get_pointing_icrs()
        sizes.append(len(pickle.dumps(list(observations), protocol=5)) / len(observations))
    assert sizes[0] < 2500
    assert sizes[1] < sizes[0] + 50


def test_a_pickled_observation_is_the_same(small_archive):
    obs = DataStore.from_dir(small_archive).get_observations()[2]
    copy = pickle.loads(pickle.dumps(obs))  # noqa: S301 our own
    assert copy.obs_id == obs.obs_id
    assert copy.locations == obs.locations
    assert copy.index_row == obs.index_row
    assert copy.index_header == obs.index_header
    assert copy.obs_table is None
    assert copy.pointing_lon_lat() == obs.pointing_lon_lat()
    (mine,), (its,) = (get_features([o], ["mjd", "psf-r68"], "1 TeV") for o in (obs, copy))
    assert [mine[n] for n in mine.colnames] == [its[n] for n in its.colnames]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def test_a_scheduler_that_is_not_there(small_archive):
    start = time.monotonic()
    engine = get_engine(scheduler=f"tcp://127.0.0.1:{free_port()}")
    with pytest.raises(RequestError, match=r"cannot be reached .*start it by: dask scheduler"):
        list(engine.map(abs, [1]))
    assert time.monotonic() - start < 5


def test_something_else_that_answers():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        engine = DaskCluster(f"tcp://127.0.0.1:{s.getsockname()[1]}", timeout=1)
        with pytest.raises(RequestError, match="cannot be reached"):
            list(engine.map(abs, [1]))


def test_an_address_that_is_none():
    with pytest.raises(RequestError, match="scheduler nonsense: cannot be reached"):
        list(get_engine(scheduler="nonsense").map(abs, [1]))


def test_a_scheduler_without_workers():
    with (
        distributed.LocalCluster(
            n_workers=0, processes=False, dashboard_address=":0", protocol="tcp"
        ) as cluster,
        pytest.raises(RequestError, match="has no worker; start some by: dask worker"),
    ):
        list(DaskCluster(cluster.scheduler_address, timeout=1).map(abs, [1]))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("raise ModuleNotFoundError(\"No module named 'obscluster'\")", "cannot import obscluster"),
        ("__version__ = '0.0.1'", "has obscluster 0.0.1, here is"),
    ],
)
def test_workers_that_cannot_do_the_work(tmp_path, content, message):
    """A worker whose obscluster is another one, or none."""
    package = tmp_path / "obscluster"
    package.mkdir()
    (package / "__init__.py").write_text(content)
    with distributed.LocalCluster(n_workers=0, dashboard_address=":0", protocol="tcp") as cluster:
        address = cluster.scheduler_address
        worker = subprocess.Popen(
            [sys.executable, "-m", "dask", "worker", address, "--no-nanny", "--no-dashboard"],
            env=os.environ | {"PYTHONPATH": str(tmp_path)},
            stderr=subprocess.DEVNULL,
        )
        try:
            with pytest.raises(RequestError, match=message):
                list(DaskCluster(address, timeout=20).map(abs, [1]))
        finally:
            worker.terminate()
            worker.wait()


def test_without_dask(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(RequestError, match=r"pip install \"obscluster\[scale\]\""):
        list(get_engine(scheduler="tcp://127.0.0.1:1").map(abs, [1]))


def test_scheduler_from_the_command_line(small_archive, cluster, tmp_path, capsys, monkeypatch):
    from obscluster.cli import main

    # Workers stand elsewhere, so the archive must not be named from here.
    monkeypatch.chdir(small_archive.parent)
    arguments = ["group", small_archive.name, "--n-groups", "2", "--no-plots"]
    here, there = tmp_path / "here", tmp_path / "there"
    assert main([*arguments, "-o", str(here)]) == 0
    scheduler = ["--scheduler", cluster.scheduler_address]
    assert main([*arguments, *scheduler, "-o", str(there)]) == 0
    assert (here / "features.ecsv").read_text() == (there / "features.ecsv").read_text()
    assert main([*arguments, "--scheduler", "nonsense", "-o", str(tmp_path / "no")]) == 2
    assert "scheduler nonsense" in capsys.readouterr().err


def test_paths_are_plain(small_archive):
    first = DataStore.from_dir(small_archive).get_observations()[0]
    obs = pickle.loads(pickle.dumps(first))  # noqa: S301 our own
    assert all(type(at.path) is type(Path()) for at in obs.locations.values())
