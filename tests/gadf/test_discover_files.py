"""Which files make an archive: paths, identifiers, responses, damage."""

import warnings

import numpy as np
import pytest
from astropy.io import fits
from numpy.testing import assert_array_equal

from obscluster.archive.store import DataStore
from obscluster.exceptions import (
    ArchiveError,
    ObsClusterError,
    ObsClusterWarning,
    RequestError,
    SkippedRunWarning,
)
from obscluster.gadf.discover import discover, write_index_files
from unindexed import edit, run_files, strip_responses

EVERY_HDU = ("EVENTS", "GTI", "AEFF", "EDISP", "PSF", "BKG")


@pytest.fixture
def truth(unpacked_archive):
    return DataStore.from_dir(unpacked_archive)


class TestPaths:
    @pytest.mark.parametrize("way", ["directory", "glob", "list", "patterns", "variable", "home"])
    def test_ways_to_name_files(self, way, unindexed, truth, monkeypatch):
        monkeypatch.setenv("HOME", str(unindexed.parent))
        monkeypatch.setenv("ARCHIVES", str(unindexed.parent))
        data = unindexed / "data"
        paths = {
            "directory": unindexed,
            "glob": f"{unindexed.parent}/**/run_*.fits",
            "list": run_files(unindexed)[::-1],
            "patterns": [f"{data}/run_[01]*", str(data / "run_*"), data],
            "variable": "${ARCHIVES}/archive/data/*.fits",
            "home": "~/archive",
        }[way]
        store = DataStore.from_files(paths)
        assert_array_equal(store.obs_ids, truth.obs_ids)
        assert_array_equal(store.obs_table["OBS_ID"], truth.obs_ids)
        assert store.base_dir == (unindexed if way in ("directory", "home") else data)
        assert all(len(obs.events) for obs in store.get_observations())

    def test_links_and_hidden_files(self, unindexed, truth, tmp_path):
        (tmp_path / "in").mkdir()
        (tmp_path / "in" / "link").symlink_to(unindexed)
        (unindexed / "circle").symlink_to(tmp_path / "in")
        (unindexed / "._run.fits").write_bytes(b"not a run")
        store = DataStore.from_files(tmp_path / "in")
        assert_array_equal(store.obs_ids, truth.obs_ids)
        # From below a link, ".." leads to where the link points.
        (unindexed / "deep" / "index").mkdir(parents=True)
        found = discover(unindexed, base_dir=tmp_path / "in" / "link" / "deep" / "index")
        assert set(found.hdu_table["FILE_DIR"]) == {"../../data"}

    @pytest.mark.parametrize(
        ("paths", "message"),
        [
            ("nowhere", "no such file or directory"),
            ("nowhere/*.fits", "matches the pattern"),
            ("empty", "no file .fits"),
            ([], "no files named"),
            ("$NOT_SET_AT_ALL/x.fits", "NOT_SET_AT_ALL"),
        ],
    )
    def test_no_files(self, paths, message, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "empty").mkdir()
        with pytest.raises(RequestError, match=message):
            DataStore.from_files(paths)


class TestIdentifiers:
    def test_text(self, unindexed, truth):
        for path, obs_id in zip(run_files(unindexed), truth.obs_ids, strict=True):
            edit(path, OBS_ID=f"{obs_id:08d} ")
        assert_array_equal(DataStore.from_files(unindexed).obs_ids, truth.obs_ids)

    def test_beyond_32_bits(self, unindexed):
        edit(run_files(unindexed)[0], OBS_ID=20131103093)
        assert DataStore.from_files(unindexed).obs_ids[-1] == 20131103093

    @pytest.mark.parametrize("value", [None, "Run A", 1.5, True, 10**30])
    def test_by_file_name(self, value, unindexed, truth):
        edit(run_files(unindexed)[1], *EVERY_HDU, OBS_ID=None)
        edit(run_files(unindexed)[1], OBS_ID=value)
        with pytest.warns(ObsClusterWarning, match="1 of 5 runs .* digits of the file names"):
            store = DataStore.from_files(unindexed)
        assert_array_equal(store.obs_ids, truth.obs_ids)
        assert_array_equal(store.obs_table["RA_PNT"], truth.obs_table["RA_PNT"])

    @pytest.mark.parametrize(
        ("names", "expected"),
        [
            (["20131103_7_dl3", "20131103_8_dl3"], [2013110373, 2013110383]),
            (["dl3_a", "dl3_b"], [1, 2]),
            (["run_1", "b"], [1, 2]),
        ],
    )
    def test_names_that_do_not_tell(self, names, expected, unindexed, tmp_path):
        (tmp_path / "two").mkdir()
        for path, name in zip(run_files(unindexed), names, strict=False):
            edit(path, *EVERY_HDU, OBS_ID=None)
            path.rename(tmp_path / "two" / f"{name}.fits")
        with pytest.warns(ObsClusterWarning, match="OBS_ID"):
            assert DataStore.from_files(tmp_path / "two").obs_ids.tolist() == expected

    def test_the_same_run_twice(self, unindexed):
        first, second = run_files(unindexed)[:2]
        edit(second, OBS_ID=int(first.stem[4:]))
        with pytest.raises(ArchiveError, match=rf"{first.name} and .*{second.name}"):
            DataStore.from_files(unindexed)

    def test_by_another_hdu_of_the_file(self, unindexed, truth):
        edit(run_files(unindexed)[1], OBS_ID=None)
        assert_array_equal(DataStore.from_files(unindexed).obs_ids, truth.obs_ids)


class TestResponses:
    def test_in_files_of_their_own(self, unindexed):
        (unindexed / "irf").mkdir()
        for path in run_files(unindexed):
            strip_responses(path, unindexed / "irf" / f"irf_{path.name}")
        store = DataStore.from_files(unindexed)
        for obs in store.get_observations():
            assert obs.available_irfs == ["aeff", "edisp", "psf", "bkg"]
            assert obs.locations["psf"].path.name == f"irf_run_{obs.obs_id:06d}.fits"

    def test_asked_for(self, unindexed):
        files = run_files(unindexed)
        for path in files:
            strip_responses(path, unindexed.parent / f"irf_{path.name}")
        responses = [unindexed.parent / f"irf_{path.name}" for path in files]
        one = DataStore.from_files(unindexed, irf_paths=responses[0])
        assert {obs.locations["aeff"].path.name for obs in one.get_observations()} == {
            responses[0].name
        }
        files[0].write_bytes(b"broken")  # must not shift the others
        with pytest.warns(SkippedRunWarning):
            each = DataStore.from_files(files, irf_paths=responses)
        for obs, path in zip(each.get_observations(), responses[1:], strict=True):
            assert obs.locations["aeff"].path.samefile(path)
        with pytest.raises(RequestError, match="2 response files for 5 runs"):
            DataStore.from_files(unindexed, irf_paths=responses[:2])
        with pytest.raises(ArchiveError, match="no response in it"):
            DataStore.from_files(unindexed, irf_paths=files[1])

    def test_none(self, unindexed):
        for path in run_files(unindexed):
            strip_responses(path)
        with pytest.warns(ObsClusterWarning, match="5 of 5 runs have no instrument response"):
            store = DataStore.from_files(unindexed)
        assert set(store.hdu_table["HDU_TYPE"]) == {"events", "gti"}

    def test_names_that_do_not_identify(self, unindexed, truth):
        edit(run_files(unindexed)[0], "AEFF", "EDISP", "PSF", "BKG", EXTNAME="RESPONSE")
        obs, other = (s.get_observations()[0] for s in (DataStore.from_files(unindexed), truth))
        assert_array_equal(obs.psf.data, other.psf.data)


def test_broken_files_are_named_and_the_rest_goes_on(unindexed):
    files = run_files(unindexed)
    files[0].write_bytes(b"SIMPLE")
    files[1].write_bytes(files[1].read_bytes()[:-20000])
    with pytest.warns(SkippedRunWarning) as caught:
        store = DataStore.from_files(unindexed)
    (message,) = (str(warning.message) for warning in caught)
    assert f"{files[0]}: not a FITS file" in message
    assert f"{files[1]}: HDU" in message
    assert "truncated" in message
    assert len(store.obs_table) == 3
    for path in files:
        path.write_bytes(b"SIMPLE")
    with pytest.raises(ArchiveError, match="none can be read"):
        DataStore.from_files(unindexed)
    fits.HDUList([fits.PrimaryHDU()]).writeto(files[0], overwrite=True)
    with pytest.raises(ArchiveError, match="no EVENTS table"):
        DataStore.from_files(unindexed)


def test_damaged_headers_give_typed_errors_or_an_index(unindexed):
    path = run_files(unindexed)[0]
    good = path.read_bytes()
    header = good[2880 : 2880 + 11520]
    rng = np.random.default_rng(1)
    for _ in range(60):
        damaged = bytearray(good)
        place = 2880 + rng.integers(len(header), size=4)
        damaged[place[0]] = rng.integers(32, 127)
        damaged[place[1]] = rng.integers(48, 58)
        damaged[place[2] : place[2] + 12] = b"= 9999999999"
        damaged[place[3]] = rng.integers(0, 256)
        path.write_bytes(damaged)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ObsClusterWarning)
            try:
                found = discover(path)
                write_index_files(found, unindexed, overwrite=True)
            except ObsClusterError:
                continue
        assert len(DataStore.from_dir(unindexed).obs_table) == 1


def test_progress_and_index_files(unpacked_archive):
    seen = []
    DataStore.from_files(unpacked_archive, progress=lambda files: seen.extend(files) or files)
    assert [path.name for path in seen] == [path.name for path in run_files(unpacked_archive)]
    renamed = discover(
        [unpacked_archive / "obs-index.fits.gz", *(unpacked_archive / "data").iterdir()]
    )
    assert len(renamed.obs_table) == 5
