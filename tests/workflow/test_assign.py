"""A specification that lasts: new runs go into the groups that are there."""

import shutil

import numpy as np
import pytest
import yaml
from astropy.io import fits
from astropy.table import QTable, Table
from numpy.testing import assert_array_equal

from obscluster import DataStore, Grouping
from obscluster.cli import main
from obscluster.config import make_config
from obscluster.exceptions import ArchiveError, ObsClusterWarning, RequestError
from obscluster.files.records import LIST_FILE, listed
from obscluster.simulate import simulate
from obscluster.workflow.assess import assess_grouping, write_assessment
from obscluster.workflow.assign import assign_observations, write_assignment
from obscluster.workflow.group import group_observations, write_results

FEATURES = {"names": ["psf-r68", "edisp-res68"], "offset": "0.5 deg"}
METHODS = {
    "ward": {"grouping": {"method": "hierarchical", "n_groups": 3}, "features": FEATURES},
    "kmeans": {"grouping": {"method": "kmeans", "n_groups": 3}, "features": FEATURES},
    "mixture": {"grouping": {"method": "mixture", "n_groups": 2}, "features": FEATURES},
    "cut": {"grouping": {"method": "cuts", "by": "ZEN_PNT", "cut": ["35 deg"]}},
    "epochs": {
        "grouping": {"method": "hierarchical", "n_groups": 3},
        "features": FEATURES,
        "constraints": {"contiguous": True},
    },
    "within": {
        "grouping": {"method": "kmeans", "n_groups": 2},
        "features": FEATURES,
        "constraints": {"within": ["EPOCH"]},
    },
}
every_method = pytest.mark.parametrize("asked", METHODS.values(), ids=METHODS)


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Thirty runs in three epochs; every fifth comes later."""
    directory = tmp_path_factory.mktemp("grown") / "archive"
    return simulate(directory, n_obs=30, seed=2, size="small", events=False)


@pytest.fixture(scope="module")
def earlier(archive, tmp_path_factory):
    """The archive before it grew."""
    directory = tmp_path_factory.mktemp("earlier") / "archive"
    shutil.copytree(archive, directory)
    path = directory / "obs-index.fits.gz"
    with fits.open(path) as hdus:
        hdus[1].data = hdus[1].data[np.arange(30) % 5 != 0]
        hdus.writeto(directory / "new.fits.gz")
    (directory / "new.fits.gz").replace(path)
    return directory


def group(archive, asked, output):
    result = group_observations(make_config({"archive": str(archive)} | asked))
    write_results(result, output, plots=False)
    return result.grouping


@every_method
class TestEveryMethod:
    def test_runs_that_made_the_groups_keep_their_labels(self, asked, earlier, tmp_path):
        grouping = group(earlier, asked, tmp_path / "groups")
        assignment = assign_observations(tmp_path / "groups", earlier)
        assert set(assignment.table["status"]) == {"known"}
        assert_array_equal(assignment.table["label"], grouping.labels)

    def test_new_runs_join_and_old_ones_stay(self, asked, earlier, archive, tmp_path):
        grouping = group(earlier, asked, tmp_path / "groups")
        assignment = assign_observations(tmp_path / "groups" / "groups.yaml", archive)
        known = assignment.table["status"] == "known"
        assert known.sum() == 24
        obs_ids = assignment.table["obs_id"]
        assert_array_equal(assignment.table["label"][known], grouping.label_of(obs_ids[known]))
        assert assignment.count("new") >= 3
        # They are where a grouping of all runs has them, as far as that has the same groups.
        whole = group(archive, asked, tmp_path / "whole").label_of(obs_ids)
        new = assignment.table["status"] == "new"
        pairs = set(zip(whole[known].tolist(), assignment.table["label"][known], strict=True))
        if len(pairs) == grouping.n_groups:
            assert (
                set(zip(whole[new].tolist(), assignment.table["label"][new], strict=True)) <= pairs
            )

    def test_what_is_written_takes_further_runs(self, asked, earlier, archive, tmp_path):
        group(earlier, asked, tmp_path / "groups")
        assignment = assign_observations(tmp_path / "groups", archive)
        files = write_assignment(assignment, tmp_path / "extended")
        there = {p.name for p in (tmp_path / "extended").iterdir()}
        assert set(files) | {LIST_FILE} == there
        again = assign_observations(tmp_path / "extended", archive)
        assert set(again.table["status"]) == {"known"}
        assert_array_equal(again.table["label"], assignment.table["label"])
        record = yaml.safe_load((tmp_path / "extended" / "groups.yaml").read_text())
        assert record["assigned"][0]["known"] == 24
        assert record["n_obs"] == 30
        assert Grouping.read(tmp_path / "extended") == assignment.grouping


@every_method
def test_the_number_of_workers_does_not_matter(asked, archive, tmp_path):
    groupings = [group(archive, asked | {"workers": n}, tmp_path / str(n)) for n in (1, 3)]
    assert groupings[0] == groupings[1]


def test_epochs_are_recovered_for_new_runs(earlier, archive, tmp_path):
    """Three epochs with other mirrors: the new runs of each join the old ones."""
    group(earlier, METHODS["ward"], tmp_path / "groups")
    assignment = assign_observations(tmp_path / "groups", archive)
    epochs = Table.read(archive / "obs-index.fits.gz")["EPOCH"]
    assigned = assignment.table["label"] != -1
    assert len(set(zip(epochs[assigned], assignment.table["label"][assigned], strict=True))) == 3


class TestWhatChanged:
    @pytest.fixture
    def groups(self, earlier, tmp_path):
        group(earlier, METHODS["ward"], tmp_path / "groups")
        return tmp_path / "groups"

    def test_files_of_the_grouping(self, groups, archive):
        table = QTable.read(groups / "groups.ecsv")
        table["label"] = 1
        table.write(groups / "groups.ecsv", overwrite=True)
        with pytest.raises(ArchiveError, match=r"groups\.ecsv changed since it was written"):
            assign_observations(groups, archive)
        assign_observations(groups, archive, trust=True)

    def test_responses_of_known_runs(self, groups, archive, tmp_path):
        altered = shutil.copytree(archive, tmp_path / "altered")
        # Two runs that made the groups, of different epochs.
        observations = DataStore.from_dir(altered).get_observations()
        first, second = (observations[i].locations["psf"].path for i in (1, 29))
        shutil.copy(first, second)
        with pytest.warns(ObsClusterWarning, match="1 runs have other features than when"):
            assignment = assign_observations(groups, altered)
        assert assignment.count("known") == 24

    def test_a_run_unlike_all_others_is_flagged(self, groups, archive):
        path = groups / "rule.ecsv"
        table = Table.read(path)
        table["psf-r68"] += 100.0
        table.write(path, overwrite=True)
        assignment = assign_observations(groups, archive, trust=True)
        assert assignment.count("fits none") == 6
        assert "from the nearest run" in assignment.table["notes"][0]
        assert assignment.grouping.reasons

    @pytest.mark.parametrize("strict", [False, True])
    def test_a_run_that_could_not_be_read_is_tried_again(
        self, strict, groups, archive, tmp_path, capsys
    ):
        altered = shutil.copytree(archive, tmp_path / "altered")
        # The first that is new.
        run = DataStore.from_dir(altered).get_observations()[0]
        path, aside = run.locations["psf"].path, tmp_path / "aside"
        path.rename(aside)
        path.mkdir()
        command = ["assign", str(groups), str(altered), "-o", str(tmp_path / "first")]
        assert main([*command, *(["--strict"] if strict else [])]) == (3 if strict else 0)
        text = f"1 of 30 runs could not be read: {run.obs_id} (is a directory); groups are without"
        assert capsys.readouterr().out.splitlines()[0] == f"{text} it"
        table = Table.read(tmp_path / "first" / "assignment.ecsv")
        assert (table["label"][0], table["status"][0]) == (-1, "unread")
        # Once more, without success.
        again = assign_observations(tmp_path / "first", altered)
        assert list(again.unread) == [run.obs_id]
        assert again.table["status"][0] == "unread"
        write_assignment(again, tmp_path / "second")
        path.rmdir()
        aside.rename(path)
        whole = assign_observations(groups, archive)
        for name in ("first", "second"):
            found = assign_observations(tmp_path / name, altered)
            assert found.table["status"][0] == "new"
            assert_array_equal(found.table["label"], whole.table["label"])
            write_assignment(found, tmp_path / f"{name}-whole")
            record = yaml.safe_load((tmp_path / f"{name}-whole" / "groups.yaml").read_text())
            assert "unread" not in record
            assert record["n_obs"] == 30

    def test_no_rule(self, groups, archive):
        record = yaml.safe_load((groups / "groups.yaml").read_text())
        record["rule"] = None
        (groups / "groups.yaml").write_text(yaml.safe_dump(record))
        with pytest.raises(RequestError, match="the grouping has no rule"):
            assign_observations(groups, archive, trust=True)

    def test_an_assessment_beside_the_groups_leaves_them(self, groups):
        before = {p.name: p.read_bytes() for p in groups.iterdir() if p.name != LIST_FILE}
        write_assessment(assess_grouping(groups, n_resamples=0), groups, overwrite=True)
        after = {p.name: p.read_bytes() for p in groups.iterdir()}
        assert before.items() <= after.items()
        assert "quality.ecsv" in after
        assert set(listed(groups)) == {"group", "assess"}

    @pytest.mark.parametrize("key", ["names", "unassigned", "checksums", "config", "index_files"])
    def test_a_record_that_somebody_broke(self, key, groups, archive):
        record = yaml.safe_load((groups / "groups.yaml").read_text())
        record[key] = "foo"
        (groups / "groups.yaml").write_text(yaml.safe_dump(record))
        with pytest.raises(ArchiveError):
            assign_observations(groups, archive, trust=True)

    def test_no_grouping(self, tmp_path, archive):
        with pytest.raises(ArchiveError, match=r"groups\.yaml"):
            assign_observations(tmp_path, archive)


class TestCommands:
    def test_assign_assess_and_compare(self, earlier, archive, tmp_path, capsys):
        group(earlier, METHODS["ward"], tmp_path / "a")
        group(earlier, METHODS["cut"], tmp_path / "b")
        assert main(["assign", str(tmp_path / "a"), str(archive), "-o", str(tmp_path / "c")]) == 0
        out = capsys.readouterr().out
        assert "30 observations: 24 known" in out
        assert "changed since the groups were made: obs-index.fits.gz" in out
        assert main(["assess", str(tmp_path / "a"), "-o", str(tmp_path / "d")]) == 0
        out = capsys.readouterr().out
        for text in ("largest spread within a group", "suggested: 3 groups", "80% of the runs"):
            assert text in out
        assert (tmp_path / "d" / "quality.png").stat().st_size > 10_000
        assert main(["assess", str(tmp_path / "b")]) == 0
        assert "suggested" not in capsys.readouterr().out
        assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b")]) == 0
        assert "adjusted Rand index" in capsys.readouterr().out

    def test_a_description_does_what_the_options_do(self, archive, tmp_path, capsys):
        options = ["--offset", "0.5 deg", "--method", "kmeans", "--n-groups", "4", "--no-plots"]
        limits = ["--within", "EPOCH", "--min-runs", "3"]
        arguments = ["group", str(archive), *options, *limits, "-o", str(tmp_path / "options")]
        assert main(arguments) == 0
        description = {
            "archive": str(archive),
            "features": {"offset": "0.5 deg"},
            "grouping": {"method": "kmeans", "n_groups": 4},
            "constraints": {"within": ["EPOCH"], "min_runs": 3},
        }
        (tmp_path / "run.yaml").write_text(yaml.safe_dump(description))
        for number, source in enumerate((tmp_path / "run.yaml", tmp_path / "options/groups.yaml")):
            output = str(tmp_path / str(number))
            assert main(["run", str(source), "--no-plots", "-o", output]) == 0
            assert Grouping.read(output) == Grouping.read(tmp_path / "options")
        capsys.readouterr()
        (tmp_path / "run.yaml").write_text("archive: x\ngrouping: {method: kmens}\n")
        assert main(["run", str(tmp_path / "run.yaml"), "-o", str(tmp_path / "no")]) == 2
        assert "'kmeans'" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["assign", "nowhere", "nowhere"], "groups.yaml"),
            (["assess", "nowhere"], "groups.yaml"),
            (["compare", "nowhere", "nowhere"], "groups.yaml"),
        ],
    )
    def test_a_wrong_path_is_one_line(self, arguments, message, capsys):
        assert main(arguments) == 2
        err = capsys.readouterr().err
        assert message in err
        assert err.count("\n") == 1

    def test_the_suggested_number_is_taken_and_said(self, archive, tmp_path, capsys):
        options = ["--features", "psf-r68", "edisp-res68", "--offset", "0.5 deg", "--no-plots"]
        code = main(
            ["group", str(archive), *options, "--n-groups", "auto", "-o", str(tmp_path / "r")]
        )
        assert code == 0
        assert "suggested: 3 groups: the silhouette is" in capsys.readouterr().out
        epochs = Table.read(archive / "obs-index.fits.gz")["EPOCH"]
        assert len(set(zip(epochs, Grouping.read(tmp_path / "r").labels, strict=True))) == 3

    @pytest.mark.parametrize(
        ("options", "n_groups", "text"),
        [
            (["--method", "kmeans", "--n-groups", "3"], 3, ""),
            (["--method", "mixture", "--n-groups", "2", "--covariance", "diag"], 2, ""),
            (["--method", "hdbscan", "--cluster-runs", "4"], None, ""),
            (["--max-spread", "psf-r68=20%"], None, ""),
            (["--by", "ZEN_PNT=quantiles:2", "EPOCH=categories"], 6, "epoch"),
            (["--by", "cos-zenith", "--adaptive", "--min-runs", "8"], 3, "cos-zenith"),
            (["--by", "ZEN_PNT", "--livetime", "4"], 4, ""),
            (["--by", "ZEN_PNT", "--width", "2"], 2, ""),
            (["--within", "EPOCH", "--n-groups", "2"], 6, "EPOCH-1_1"),
            (["--n-groups", "8", "--min-livetime", "1 h"], None, "is merged with"),
            (["--n-groups", "3", "--contiguous"], 3, ""),
            (["--tolerance", "psf-r68=10%", "edisp-res68=0.02", "--n-groups", "3"], 3, ""),
            (["--criterion", "distance", "--threshold", "3"], None, ""),
            (["--scaling", "robust", "--log", "psf-r68", "--weight", "psf-r68=2"], 2, ""),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else None,
    )
    def test_every_method_runs(self, options, n_groups, text, archive, tmp_path, capsys):
        features = [] if "--by" in options else ["--features", "psf-r68", "edisp-res68"]
        if options[0] == "--max-spread":
            features = []
        arguments = ["group", str(archive), *features, "--offset", "0.5 deg", *options]
        assert main([*arguments, "-o", str(tmp_path / "r")]) == 0
        assert text.lower() in capsys.readouterr().out.lower()
        grouping = Grouping.read(tmp_path / "r")
        assert grouping.n_groups >= 2
        assert n_groups in (None, grouping.n_groups)
        assert list((tmp_path / "r").glob("*.png"))

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (
                ["--method", "kmeans", "--linkage", "ward"],
                "--linkage is no option of --method kmeans",
            ),
            (["--method", "cuts"], "cuts needs --by NAME"),
            (["--method", "kmeans", "--by", "ZEN_PNT"], "--by belongs to --method cuts"),
            (["--by", "ZEN_PNT=wedges:3"], "unknown way 'wedges'"),
            (["--by", "ZEN_PNT", "MUONEFF", "--cut", "3"], "of several, write"),
            (["--max-spread", "psf-r68"], "expected NAME=VALUE"),
            (["--max-spread", "psf-r99=3"], "unknown feature 'psf-r99'"),
            (["--max-spread", "psf-r68=wide"], "constraints.max_spread.psf-r68: 'wide'; expected"),
            (
                ["--min-livetime", "5 deg"],
                "constraints.min_livetime: '5 deg'; expected a time above zero",
            ),
            (["--min-livetime", "500 h"], "ask for less"),
            (["--tolerance", "psf-radius=10%"], "no tolerance for edisp-res"),
            (
                ["--weight", "psf-radius=-1"],
                "scaling.weights.psf-radius: given '-1', expected a value greater than 0",
            ),
            (["--log", "nothing"], "unknown feature 'nothing'"),
            (["--within", "SEASON"], "unknown column 'SEASON'"),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else None,
    )
    def test_what_makes_no_sense_is_said_in_one_line(
        self, options, message, archive, tmp_path, capsys
    ):
        arguments = ["group", str(archive), "--offset", "0.5 deg", *options]
        assert main([*arguments, "-o", str(tmp_path / "r")]) == 2
        err = capsys.readouterr().err
        assert message in err
        assert err.count("\n") == 1
        assert not (tmp_path / "r").exists()
