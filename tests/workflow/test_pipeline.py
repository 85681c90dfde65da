"""From an archive to result files."""

import shutil

import numpy as np
import pytest
import yaml
from astropy.table import QTable, Table
from numpy.testing import assert_array_equal
from sklearn.metrics import adjusted_rand_score

from obscluster import DataStore, Grouping
from obscluster.config import make_config
from obscluster.exceptions import RequestError
from obscluster.files.records import LIST_FILE, checksum
from obscluster.gadf.index import read_index
from obscluster.plots.overview import _with_quantities
from obscluster.simulate import simulate
from obscluster.workflow.group import group_observations, write_results

WARD = {"method": "hierarchical", "n_groups": 3}
MEDIAN = {"method": "cuts", "by": "ZEN_PNT"}


def group(archive, grouping=WARD, **content):
    return group_observations(
        make_config({"archive": str(archive), "grouping": grouping} | content)
    )


@pytest.fixture(scope="module")
def result(small_archive):
    return group(small_archive, target="Crab Nebula", radius="180 deg")


class TestTruth:
    @pytest.mark.parametrize("seed", [1, 7])
    @pytest.mark.parametrize("offset", [None, "0.5 deg"])
    def test_three_epochs_are_recovered_exactly(self, seed, offset, tmp_path):
        archive = simulate(tmp_path / "a", n_obs=60, seed=seed, size="small", events=False)
        result = group(archive, features={"offset": offset})
        epochs = np.asarray(result.obs_table["EPOCH"])
        assert set(epochs) == {1, 2, 3}
        assert len(set(zip(epochs, result.grouping.labels, strict=True))) == 3

    def test_epochs_that_are_alike_are_not_recovered(self, tmp_path):
        """The claim above can fail: without differences, labels are unrelated to the epochs."""
        archive = simulate(tmp_path / "a", n_obs=60, size="small", events=False, separation=0)
        result = group(archive)
        assert adjusted_rand_score(result.obs_table["EPOCH"], result.grouping.labels) < 0.3

    def test_the_published_groups_of_pks_2155(self, hess_dr1, pks_reference):
        result = group(
            hess_dr1, WARD | {"n_groups": 2}, target="329.71693826 -30.2255890", radius="2 deg"
        )
        assert_array_equal(result.grouping.obs_ids, pks_reference["obs_id"])
        assert_array_equal(result.grouping.labels, pks_reference["label"])

    def test_the_median_zenith_split_of_pks_2155(self, hess_dr1):
        result = group(hess_dr1, MEDIAN, target="pks 2155-304")
        zenith = result.obs_table["ZEN_PNT"]
        assert (round(float(zenith.min()), 2), round(float(zenith.max()), 2)) == (7.23, 50.42)
        observations = result.data_store.get_observations(result.grouping.obs_ids)
        split = observations.group_by_label(result.grouping.named_labels)
        assert {name: len(group) for name, group in split.items()} == {
            "group_low_zenith": 10,
            "group_high_zenith": 11,
        }


class TestFiles:
    @pytest.fixture
    def output(self, result, tmp_path):
        write_results(result, tmp_path / "results")
        return tmp_path / "results"

    def test_all_are_there_and_recorded(self, output):
        names = {path.name for path in output.iterdir()} - {LIST_FILE}
        assert names == {
            "features.ecsv",
            "groups.ecsv",
            "groups.yaml",
            "linkage.ecsv",
            "rule.ecsv",
            "obs-index.fits.gz",
            "conditions.png",
            "features.png",
            "dendrogram.png",
            *(f"group_{label}.txt" for label in (1, 2, 3)),
        }
        assert set(yaml.safe_load((output / "groups.yaml").read_text())["files"]) == names

    def test_the_grouping_reads_back(self, result, output):
        assert Grouping.read(output) == result.grouping

    def test_tables_read_back_with_units(self, result, output):
        features = QTable.read(output / "features.ecsv")
        for name in result.features.colnames:
            assert_array_equal(features[name], result.features[name])
            assert features[name].unit == result.features[name].unit
        groups = QTable.read(output / "groups.ecsv")
        assert groups.colnames == ["obs_id", "edisp-res", "psf-radius", "label"]
        assert_array_equal(groups["label"], result.grouping.labels)

    def test_run_lists_name_each_run_once(self, result, output):
        for label in (1, 2, 3):
            listed = np.loadtxt(output / f"group_{label}.txt", dtype=int, ndmin=1)
            assert_array_equal(listed, result.grouping.obs_ids[result.grouping.labels == label])

    def test_the_obs_index_copy_has_an_integer_group_id(self, result, output, small_archive):
        copy = read_index(output / "obs-index.fits.gz")
        original = read_index(small_archive / "obs-index.fits.gz")
        assert copy.colnames == [*original.colnames, "GROUP_ID"]
        assert copy["GROUP_ID"].dtype.kind == "i"
        labels = dict(zip(result.grouping.obs_ids, result.grouping.labels, strict=True))
        assert [labels.get(i, -1) for i in copy["OBS_ID"]] == copy["GROUP_ID"].tolist()
        for name in original.colnames:
            assert_array_equal(copy[name], original[name])
            assert copy[name].unit == original[name].unit
        assert copy.meta["MJDREFI"] == original.meta["MJDREFI"]

    def test_the_copy_serves_as_index_of_the_archive(self, output, small_archive, tmp_path):
        archive = shutil.copytree(small_archive, tmp_path / "archive")
        shutil.copy(output / "obs-index.fits.gz", archive)
        table = DataStore.from_dir(archive).obs_table
        selection = {"type": "par_box", "variable": "GROUP_ID", "value_range": [1, 1]}
        listed = np.loadtxt(output / "group_1.txt", dtype=int, ndmin=1)
        assert_array_equal(table.select_observations(selection)["OBS_ID"], listed)

    def test_gammapy_reads_the_copy(self, output):
        data = pytest.importorskip("gammapy.data")
        table = data.ObservationTable.read(output / "obs-index.fits.gz")
        assert set(table["GROUP_ID"]) == {1, 2, 3}

    def test_the_record_says_what_was_done(self, output, small_archive):
        record = yaml.safe_load((output / "groups.yaml").read_text())
        assert record["config"]["target"] == "Crab Nebula"
        assert record["features"]["energy_true"] == ["1 TeV"]
        assert record["features"]["position"]["unit"] == "deg"
        rule = record["rule"]
        assert rule["scaling"]["constants"]["psf-radius"]["unit"] == "deg"
        assert record["parameters"]["linkage"] == {"method": "ward", "metric": "euclidean"}
        assert record["versions"]["obscluster"]
        for name in ("obs-index.fits.gz", "hdu-index.fits.gz"):
            assert record["index_files"][name] == checksum(small_archive / name)
        assert sum(group["n_obs"] for group in record["groups"].values()) == record["n_obs"] == 12
        assert [step["passed"] for step in record["cut_flow"]] == [12, 12]

    def test_the_same_request_gives_the_same_bytes(self, output, tmp_path, small_archive):
        again = group(small_archive, target="Crab Nebula", radius="180 deg", workers=3)
        write_results(again, tmp_path / "again")
        for path in output.iterdir():
            assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes(), path


class TestPlotsOfCuts:
    @pytest.mark.parametrize("by", ["ZEN_PNT", "zenith", "psf-r68"])
    def test_a_column_and_a_feature_are_drawn_alike(self, by, small_archive, tmp_path):
        split = group(small_archive, {"method": "cuts", "by": by})
        assert "conditions.png" in write_results(split, tmp_path / "results")

    def test_angles_are_drawn_where_they_were_cut(self, small_archive):
        edges = ("-90 deg", "90 deg", "270 deg")
        split = group(small_archive, {"method": "cuts", "by": "AZ_PNT", "edges": edges})
        table = _with_quantities(split.obs_table, split.features, split.grouping.rule.axes)
        drawn, labels = np.asarray(table["AZ_PNT"]), split.grouping.labels
        assert_array_equal(labels, np.where(drawn < 90, 1, 2))
        assert drawn.min() < 0
        assert drawn.max() < 270
        assert split.obs_table["AZ_PNT"].min() >= 0


class TestWriting:
    def test_an_error_leaves_nothing_behind(self, result, tmp_path, monkeypatch):
        def fail(*args):
            raise OSError("disk full")

        monkeypatch.setattr("obscluster.workflow.group.write_obs_index", fail)
        with pytest.raises(OSError, match="disk full"):
            write_results(result, tmp_path / "results")
        assert list(tmp_path.iterdir()) == []

    def test_an_error_leaves_earlier_results_as_they_are(self, result, tmp_path, monkeypatch):
        write_results(result, tmp_path / "results", plots=False)
        before = {p.name: p.read_bytes() for p in (tmp_path / "results").iterdir()}
        monkeypatch.setattr("obscluster.workflow.group.write_obs_index", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            write_results(result, tmp_path / "results", overwrite=True)
        assert {p.name: p.read_bytes() for p in (tmp_path / "results").iterdir()} == before

    def test_what_is_there_is_not_overwritten_unless_told(self, result, tmp_path):
        (tmp_path / "thesis.tex").write_text("years of work")
        with pytest.raises(RequestError, match="--overwrite"):
            write_results(result, tmp_path)
        write_results(result, tmp_path, overwrite=True, plots=False)
        assert (tmp_path / "thesis.tex").read_text() == "years of work"

    def test_overwriting_removes_files_of_the_earlier_result_only(self, small_archive, tmp_path):
        four = group(small_archive, {"method": "cuts", "by": "ZEN_PNT", "quantiles": 4})
        write_results(four, tmp_path / "results", plots=False)
        (tmp_path / "results" / "group_5.txt").write_text("mine")
        write_results(group(small_archive, MEDIAN), tmp_path / "results", overwrite=True)
        names = {path.name for path in (tmp_path / "results").iterdir()}
        assert {"group_1.txt", "group_2.txt", "group_5.txt"} <= names
        assert not {"group_3.txt", "group_4.txt"} & names

    def test_a_record_cannot_make_us_delete_elsewhere(self, result, tmp_path):
        (tmp_path / "precious").write_text("keep")
        output = tmp_path / "results"
        output.mkdir()
        (output / "groups.yaml").write_text("files: ['../precious', '/etc/hosts', 7]")
        write_results(result, output, overwrite=True, plots=False)
        assert (tmp_path / "precious").read_text() == "keep"

    def test_an_empty_directory_is_filled(self, result, tmp_path):
        write_results(result, tmp_path, plots=False)
        assert Grouping.read(tmp_path) == result.grouping

    def test_a_read_only_directory_is_left_alone(self, result, tmp_path):
        (tmp_path / "shared").mkdir(mode=0o555)
        with pytest.raises(RequestError, match="is read-only"):
            write_results(result, tmp_path / "shared" / "results")

    def test_a_file_in_the_way_is_named(self, result, tmp_path):
        (tmp_path / "results").write_text("")
        with pytest.raises(RequestError, match="is a file"):
            write_results(result, tmp_path / "results")


class TestSkippedRuns:
    def test_are_unassigned_with_their_reason(self, small_archive, tmp_path):
        archive = shutil.copytree(small_archive, tmp_path / "archive")
        gone, truncated = sorted((archive / "data").iterdir())[:2]
        gone.unlink()
        truncated.write_bytes(truncated.read_bytes()[:3000])
        result = group(archive)
        assert result.grouping.labels[:2].tolist() == [-1, -1]
        assert (result.grouping.labels[2:] > 0).all()
        first, second = result.unassigned.values()
        assert "no such file" in first
        assert gone.name in first
        assert "truncated" in second

    def test_a_run_that_the_hdu_index_does_not_know(self, small_archive, tmp_path):
        archive = shutil.copytree(small_archive, tmp_path / "archive")
        table = Table.read(archive / "hdu-index.fits.gz")
        lost = table["OBS_ID"][0]
        table[table["OBS_ID"] != lost].write(archive / "hdu-index.fits.gz", overwrite=True)
        assert "index lists no" in group(archive).unassigned[lost]

    def test_when_all_are_broken_the_reason_is_told(self, small_archive, tmp_path):
        archive = shutil.copytree(small_archive, tmp_path / "archive")
        shutil.rmtree(archive / "data")
        with pytest.raises(RequestError, match=r"none of the 12 runs has all.*no such file"):
            group(archive)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"radius": "2"}, None),
        ({"colour": "red"}, "colour: unknown key; allowed here: archive"),
        ({"grouping": {"method": "magic"}}, "'hierarchical', 'cuts'"),
        ({"grouping": {"method": "cuts", "by": "A", "cut": ["1"], "edges": ["1"]}}, "one of cut"),
        ({"features": {"containment_fraction": 2}}, "features.containment_fraction"),
        ({"workers": 0}, "workers"),
    ],
)
def test_a_description_names_the_key_that_is_wrong(content, message):
    content = {"archive": "a"} | content
    if message is None:
        assert make_config(content).radius == "2"
    else:
        with pytest.raises(RequestError, match=message):
            make_config(content)
