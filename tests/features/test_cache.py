"""The cache of features: what is in it is what would be computed, and never anything old."""

import multiprocessing
import os
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table

from obscluster import DataStore, get_features
from obscluster.exceptions import ObsClusterWarning, RequestError, SkippedRunWarning
from obscluster.features import cache_keys
from obscluster.features.base import feature
from obscluster.features.cache import CachedColumn, FeatureCache
from obscluster.features.catalog import load_features
from obscluster.simulate import simulate

NAMES = ("edisp-res", "psf-r68", "aeff-threshold", "zenith")
ENERGIES = ["1 TeV", "10 TeV"]


@pytest.fixture
def archive(unpacked_archive, tmp_path):
    """Copy of five unpacked runs."""
    return shutil.copytree(unpacked_archive, tmp_path / "archive")


@pytest.fixture
def cache(tmp_path):
    return FeatureCache(tmp_path / "cache")


class Recorder:
    """An engine that counts the runs for which anything is computed."""

    def __init__(self):
        self.obs_ids = []

    def map(self, function, items):
        for item in items:
            self.obs_ids.append(item.obs_id)
            yield function(item)


def features(archive, cache=None, names=NAMES, energy=ENERGIES, **options):
    observations = DataStore.from_dir(archive).get_observations()
    return get_features(observations, names, energy, cache=cache, **options)


def computed(archive, cache, names=NAMES, energy=ENERGIES, **options):
    """Runs for which something was computed."""
    engine = Recorder()
    features(archive, cache, names, energy, engine=engine, **options)
    return engine.obs_ids


def assert_identical(table, other):
    assert table.colnames == other.colnames
    assert table.meta == other.meta
    for name in table.colnames:
        a, b = np.asarray(table[name]), np.asarray(other[name])
        assert a.dtype == b.dtype
        assert a.tobytes() == b.tobytes(), name
        assert getattr(table[name], "unit", None) == getattr(other[name], "unit", None)
        assert table[name].info.description == other[name].info.description


def test_repeat_computes_nothing_and_is_identical(archive, cache):
    without = features(archive)
    first = features(archive, cache)
    assert (cache.n_found, cache.n_computed) == (0, 5)
    assert computed(archive, cache) == []
    assert (cache.n_found, cache.n_computed) == (5, 0)
    assert_identical(first, without)
    assert_identical(features(archive, cache), without)
    assert_identical(features(archive, cache.directory), without)


def test_values_that_are_missing_are_kept_with_their_notes(archive, cache):
    # Beyond the energies, and a target beyond the offsets of the responses.
    options = {
        "energy": ["1 TeV", "5000 TeV"],
        "position": SkyCoord(83.63, 22.01, unit="deg"),
    }
    without = features(archive, **options)
    assert np.isnan(without["psf-r68@5000TeV"]).all()
    reason = "energy outside the response (edisp_2d: 5000 TeV"
    assert all(reason in note for note in without["notes"])
    features(archive, cache, **options)
    assert computed(archive, cache, **options) == []
    assert_identical(features(archive, cache, **options), without)


def test_only_new_runs_are_computed(tmp_path, cache):
    archive = simulate(tmp_path / "archive", n_obs=7, size="small", compress=False, events=False)
    whole = {kind: Table.read(archive / f"{kind}-index.fits.gz") for kind in ("obs", "hdu")}
    new = np.asarray(whole["obs"]["OBS_ID"])[-2:].tolist()
    for kind, table in whole.items():
        known = table[~np.isin(table["OBS_ID"], new)]
        # A longer name among the new ones makes the columns of the index wider.
        known.write(archive / f"{kind}-index.fits.gz", overwrite=True)
    features(archive, cache)
    whole["obs"]["OBJECT"] = [*whole["obs"]["OBJECT"][:-1], "a source with quite a long name"]
    for kind, table in whole.items():
        table.write(archive / f"{kind}-index.fits.gz", overwrite=True)
    assert computed(archive, cache) == new
    assert (cache.n_found, cache.n_computed) == (5, 2)
    assert_identical(features(archive, cache), features(archive))


def test_only_new_features_are_computed(archive, cache):
    asked = []

    class Spy:
        def map(self, function, items):
            asked.append([request.column for request in function.keywords["task"].requests])
            return map(function, items)

    features(archive, cache, names=["zenith", "edisp-res"])
    features(archive, cache, names=["psf-r68", "edisp-res", "zenith"], engine=Spy())
    assert asked == [["psf-r68@1TeV", "psf-r68@10TeV"]]
    # The same energy in other words is the same.
    assert computed(archive, cache, names=["edisp-res"], energy="1000 GeV") == []
    assert len(computed(archive, cache, names=["edisp-res"], energy="2 TeV")) == 5


@pytest.mark.parametrize(
    "options",
    [
        {"fixed_offset": "0.5 deg"},
        {"position": SkyCoord(83.63, 22.01, unit="deg")},
        {"containment_fraction": 0.5},
    ],
)
def test_where_it_is_evaluated_counts(archive, cache, options):
    features(archive, cache)
    assert len(computed(archive, cache, **options)) == 5
    assert_identical(features(archive, cache, **options), features(archive, **options))


def change_time(archive, path):
    os.utime(path, ns=(1, path.stat().st_mtime_ns + 1))


def change_size(archive, path):
    stat = path.stat()
    path.write_bytes(path.read_bytes() + b"\0" * 2880)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def change_index(archive, path):
    table = Table.read(archive / "obs-index.fits.gz")
    table["MUONEFF"][0] *= 1.0001
    table.write(archive / "obs-index.fits.gz", overwrite=True)


def compress(archive, path):
    import gzip

    path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()


@pytest.mark.parametrize("change", [change_time, change_size, change_index, compress])
def test_what_has_changed_is_computed_anew(archive, cache, change):
    features(archive, cache)
    first = DataStore.from_dir(archive).get_observations()[0]
    change(archive, first.locations["aeff"].path)
    assert computed(archive, cache) == [first.obs_id]
    assert_identical(features(archive, cache), features(archive))


def test_checksums_see_what_times_do_not_tell(archive, tmp_path):
    path = DataStore.from_dir(archive).get_observations()[0].locations["aeff"].path
    by_stat, by_sum = (
        FeatureCache(tmp_path / identity, identity) for identity in ("stat", "checksum")
    )
    for cache in (by_stat, by_sum):
        features(archive, cache)
    stat = path.stat()
    with fits.open(path, mode="update") as hdulist:
        hdulist["AEFF"].data["EFFAREA"] *= 2
    assert path.stat().st_size == stat.st_size
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert len(computed(archive, by_stat)) == 0
    assert len(computed(archive, by_sum)) == 1
    for other_path in archive.rglob("*.fits"):
        change_time(archive, other_path)
    assert len(computed(archive, by_sum)) == 0


def test_an_archive_that_moved_is_known(archive, cache, tmp_path, monkeypatch):
    features(archive, cache)
    archive.rename(tmp_path / "elsewhere")
    assert computed(tmp_path / "elsewhere", cache) == []
    monkeypatch.chdir(tmp_path)
    assert computed("elsewhere", cache) == []


def test_runs_that_cannot_be_read_are_tried_again(archive, cache):
    path = DataStore.from_dir(archive).get_observations()[0].locations["aeff"].path
    content = path.read_bytes()
    stat = path.stat()
    path.write_bytes(content[:6000])
    for _ in range(2):
        with pytest.warns(SkippedRunWarning):
            without = features(archive)
        with pytest.warns(SkippedRunWarning):
            table = features(archive, cache)
        assert_identical(table, without)
        assert table["notes"][0].startswith("skipped: ")
    assert (cache.n_found, cache.n_computed) == (4, 1)
    path.write_bytes(content)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert_identical(features(archive, cache), features(archive))


def test_a_run_skipped_for_a_new_feature_is_skipped_as_a_whole(archive, cache):
    path = DataStore.from_dir(archive).get_observations()[0].locations["aeff"].path
    content = path.read_bytes()
    # The background is the last: without it all others can be read.
    path.write_bytes(content[:-6000])
    features(archive, cache, names=["edisp-res"])
    names = ["edisp-res", "bkg-rate"]
    with pytest.warns(SkippedRunWarning):
        table = features(archive, cache, names=names)
    with pytest.warns(SkippedRunWarning):
        without = features(archive, names=names)
    assert np.isnan(table["edisp-res@1TeV"][0])
    assert_identical(table, without)


OWN = """
import helper_of_own
from obscluster.features import feature

@feature("twice", needs=["aeff"])
def twice(run):
    return helper_of_own.FACTOR * run.irf("aeff").arrays["EFFAREA"].max()
"""


def test_own_features_are_known_by_their_source(archive, cache, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    helper, path = tmp_path / "helper_of_own.py", tmp_path / "own.py"

    def run():
        import importlib
        import sys

        importlib.invalidate_caches()
        sys.modules.pop("helper_of_own", None)
        own = load_features([path])
        table = features(archive, cache, names=["twice"], own=own)
        assert_identical(table, features(archive, names=["twice"], own=own))
        return cache.n_computed

    monkeypatch.setattr("sys.dont_write_bytecode", True)
    helper.write_text("FACTOR = 2\n")
    path.write_text(OWN)
    assert [run(), run()] == [5, 0]
    path.write_text(OWN.replace('EFFAREA"].max()', 'EFFAREA"].min()'))
    assert [run(), run()] == [5, 0]
    helper.write_text("FACTOR = 3\n")
    assert [run(), run()] == [5, 0]


def test_features_whose_code_cannot_be_told_are_never_kept(archive, cache):
    factor = 2.0

    @feature("remembers", unit="")
    def remembers(run):
        return factor

    for factor in (2.0, 3.0):
        table = features(archive, cache, names=[remembers])
        assert (table["remembers"] == factor).all()
    assert cache.parts() == []


def test_columns_of_the_index_are_kept(archive, cache):
    features(archive, cache, names=["MUONEFF"])
    assert computed(archive, cache, names=["MUONEFF"]) == []


def test_another_version_of_the_code_computes_anew(archive, cache, monkeypatch):
    features(archive, cache)
    monkeypatch.setattr("scipy.__version__", "1.2.3")
    assert len(computed(archive, cache)) == 5


def test_sources_between_file_and_value_count():
    import obscluster

    root = Path(obscluster.__file__).parent
    hashed = {path for pattern in cache_keys._SOURCES for path in root.glob(pattern)}
    for name in ("features/psf.py", "features/table.py", "gadf/unpack.py", "gadf/hdu_index.py"):
        assert root / name in hashed


def truncate(path):
    path.write_bytes(path.read_bytes()[:-10])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 0xFF
    path.write_bytes(content)


def replace(path):
    Table({"obs_id": [1], "value": [2.0]}).write(path, overwrite=True)


def empty(path):
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [truncate, flip, replace, empty])
def test_a_damaged_part_is_named_and_rebuilt(archive, cache, damage):
    features(archive, cache)
    (part,) = cache.parts()
    damage(part)
    with pytest.warns(ObsClusterWarning, match=f"{part.name} is damaged"):
        table = features(archive, cache)
    assert cache.n_computed == 5
    assert_identical(table, features(archive))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert computed(archive, cache) == []


def test_astropy_and_pandas_open_it(archive, cache):
    table = features(archive, cache, energy=["1 TeV", "5000 TeV"])
    (part,) = cache.parts()
    found = Table.read(part)
    assert found["obs_id"].tolist() == table["obs_id"].tolist()
    assert found["zenith"].unit == u.deg
    assert found["zenith"].description == "Zenith angle"
    assert np.array_equal(found["psf-r68@1.0TeV"], table["psf-r68@1TeV"].value)
    assert "energy outside the response (edisp_2d: 5000 TeV" in found["notes"][0]
    pandas = pytest.importorskip("pandas")
    frame = pandas.read_parquet(part)
    assert frame["edisp-res@1.0TeV"].tolist() == table["edisp-res@1TeV"].value.tolist()


def test_many_parts_become_one(archive, cache):
    observations = DataStore.from_dir(archive).get_observations()
    energies = [f"{n} TeV" for n in range(1, 9)]
    for obs in observations:
        for energy in energies:
            get_features([obs], ["edisp-res", "psf-r68"], energy, cache=cache)
    assert len(cache.parts()) <= 16
    options = {"names": ["edisp-res", "psf-r68"], "energy": energies}
    assert computed(archive, cache, **options) == []
    assert_identical(features(archive, cache, **options), features(archive, **options))


KEYS = np.arange(2000, dtype=np.uint64).reshape(1000, 2)
COLUMN = CachedColumn("x", "definition")


def add(directory, first, n_adds):
    """Add ten rows at a time, from a process of its own."""
    cache = FeatureCache(directory)
    for start in range(first, first + 10 * n_adds, 10):
        rows = np.arange(start, start + 10)
        known = np.ones((10, 1), dtype=bool)
        remarks = [{"x": [f"row {i}"]} for i in rows]
        cache.add("0" * 16, KEYS[rows], rows, [COLUMN], rows[:, None] * 1.5, known, remarks)


def test_parts_that_are_merged_while_they_are_listed_are_not_missed(tmp_path, monkeypatch):
    add(tmp_path / "cache", 0, 5)
    cache = FeatureCache(tmp_path / "cache")
    assert len(cache.parts()) == 5
    iterdir = Path.iterdir

    def merged_meanwhile(path):
        names = list(iterdir(path))
        monkeypatch.setattr(Path, "iterdir", iterdir)
        cache.merge("0" * 16)
        return iter(names)

    monkeypatch.setattr(Path, "iterdir", merged_meanwhile)
    assert cache.lookup("0" * 16, KEYS, [COLUMN]).known.sum() == 50
    assert len(cache.parts()) == 1


def test_processes_that_write_at_once_lose_nothing(tmp_path):
    # Spawned, and enough to have parts merged while others write.
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=add, args=(tmp_path / "cache", first, 25))
        for first in (0, 250, 500, 750)
    ]
    for process in processes:
        process.start()
    cache = FeatureCache(tmp_path / "cache")
    seen = 0
    while any(process.is_alive() for process in processes):
        n_known = int(cache.lookup("0" * 16, KEYS, [COLUMN]).known.sum())
        assert n_known >= seen, "a reader misses what was there before"
        seen = n_known
    for process in processes:
        process.join()
        assert process.exitcode == 0
    found = cache.lookup("0" * 16, KEYS, [COLUMN])
    assert found.known.all()
    assert np.array_equal(found.values[:, 0], np.arange(1000) * 1.5)
    assert found.remarks[123] == {"x": ["row 123"]}
    assert len(cache.parts()) < 40


def test_a_definition_that_changed_is_not_taken(tmp_path):
    cache = FeatureCache(tmp_path / "cache")
    known = np.ones((10, 1), dtype=bool)
    ids = np.arange(10)
    for definition, value in (("old", 1.0), ("new", 2.0)):
        column = CachedColumn("x", definition)
        values = np.full((10, 1), value)
        cache.add("0" * 16, KEYS[:10], ids, [column], values, known, [{}] * 10)
    for _ in range(2):
        found = cache.lookup("0" * 16, KEYS[:10], [CachedColumn("x", "new")])
        assert (found.values == 2.0).all()
        cache.merge("0" * 16)
    assert len(cache.parts()) == 1
    assert not cache.lookup("0" * 16, KEYS[:10], [CachedColumn("x", "old")]).known.any()


def test_a_cache_that_cannot_be_written_stops_nothing(archive, tmp_path, monkeypatch):
    cache = FeatureCache(tmp_path / "cache")

    def no_space(self, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", no_space)
    with pytest.warns(ObsClusterWarning, match="No space left on device.; nothing was kept"):
        table = features(archive, cache)
    assert_identical(table, features(archive))


def test_interrupted_work_is_kept(archive, cache):
    def interrupt(rows):
        for i, row in enumerate(rows):
            yield row
            if i == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        features(archive, cache, progress=interrupt)
    assert len(computed(archive, cache)) == 2


def test_progress_counts_all_runs(archive, cache):
    steps = []
    for n_steps in (5, 10):
        features(archive, cache, progress=lambda rows: (steps.append(row) or row for row in rows))
        assert len(steps) == n_steps


def test_unusable_caches(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(RequestError, match="is a file"):
        FeatureCache(tmp_path / "file")
    with pytest.raises(RequestError, match="identity 'size'"):
        FeatureCache(tmp_path, "size")
    monkeypatch.setattr("obscluster.features.cache.find_spec", lambda _: None)
    with pytest.raises(RequestError, match=r"pip install \"obscluster\[scale\]\""):
        FeatureCache(tmp_path / "cache")


def test_keys_of_the_same_runs_in_another_order_are_the_same(archive):
    observations = DataStore.from_dir(archive).get_observations()
    keys = cache_keys.run_keys(list(observations))
    assert len(np.unique(keys[:, 0])) == 5
    backwards = cache_keys.run_keys(list(observations)[::-1])
    assert np.array_equal(backwards[::-1], keys)


def test_cache_from_the_command_line(archive, tmp_path, capsys):
    from obscluster.cli import main

    arguments = ["group", str(archive), "--cache", str(tmp_path / "cache"), "--no-plots"]
    for name in ("first", "second"):
        assert main([*arguments, "--n-groups", "2", "-o", str(tmp_path / name)]) == 0
    assert len(FeatureCache(tmp_path / "cache").parts()) == 1
    first, second = (
        (tmp_path / name / "features.ecsv").read_text() for name in ("first", "second")
    )
    assert first == second
