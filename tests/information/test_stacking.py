"""From an archive to what stacking costs: the method, the frontier, and what the user sees."""

import numpy as np
import pytest
import yaml
from astropy import units as u
from astropy.table import QTable, Table
from numpy.testing import assert_allclose, assert_array_equal

from obscluster import Grouping
from obscluster.cli import main
from obscluster.config import make_config
from obscluster.exceptions import RequestError
from obscluster.files.records import LIST_FILE
from obscluster.information.background import shared_rates
from obscluster.information.cluster import cluster_by_information
from obscluster.information.loss import error_inflation, information_loss, loss_table
from obscluster.information.scores import Scores
from obscluster.simulate import simulate
from obscluster.workflow.assign import assign_observations
from obscluster.workflow.frontier import frontier
from obscluster.workflow.group import group_observations, write_results
from obscluster.workflow.runs import characterise, scores_of

TARGET = "Crab Nebula"
TWO_GROUPS = {"grouping": {"method": "information", "n_groups": 2}}
FAINT = {"amplitude": "0.6 % Crab"}


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Sixty runs in three epochs, a fifth of them on the Crab."""
    directory = tmp_path_factory.mktemp("stacked") / "archive"
    return simulate(directory, n_obs=60, seed=4, size="small", events=False, separation=2)


def describe(archive, **content):
    return make_config({"archive": str(archive), "target": TARGET, "source": FAINT} | content)


@pytest.fixture(scope="module")
def runs_and_scores(archive):
    config = describe(archive)
    runs = characterise(config)
    return config, runs, scores_of(config, runs)


class TestMethod:
    @pytest.mark.parametrize("budget", [0.002, 0.02, 0.2])
    def test_the_fewest_groups_within_the_budget(self, budget, archive, runs_and_scores):
        config = describe(archive, grouping={"method": "information", "max_loss": budget})
        grouping = group_observations(config).grouping
        _, runs, scores = runs_and_scores
        assert information_loss(scores, grouping.label_of(scores.obs_ids)) <= budget
        table = frontier(config, runs, scores)
        best = table[table["grouping"] == "information"]
        fewer = best[best["n_groups"] < grouping.n_groups]
        assert (fewer["loss"] > budget).all()

    def test_a_number_of_groups_and_what_is_said_of_it(self, archive, runs_and_scores):
        config = describe(archive, grouping={"method": "information", "n_groups": 3})
        result = group_observations(config)
        scores = runs_and_scores[2]
        loss = information_loss(scores, result.grouping.label_of(scores.obs_ids))
        assert result.grouping.n_groups == 3
        assert f"into 3 groups loses {loss:.2%}" in result.grouping.remarks[-1]
        assert_allclose(result.grouping.parameters["loss"], loss)
        # Epochs differ in their PSF by a factor: they are what must not be mixed.
        epochs = result.obs_table["EPOCH"]
        assert len(set(zip(epochs, result.grouping.labels, strict=True))) == 3

    def test_columns_are_not_mixed_and_groups_hold_enough(self, archive):
        config = describe(
            archive,
            grouping={"method": "information", "max_loss": "1%"},
            constraints={"within": ["EPOCH"], "min_livetime": "0.5 h"},
        )
        result = group_observations(config)
        labels = result.grouping.labels
        for label in range(1, result.grouping.n_groups + 1):
            inside = labels == label
            assert len(set(result.obs_table["EPOCH"][inside])) == 1
            assert u.Quantity(result.obs_table["LIVETIME"][inside]).sum() >= 0.5 * u.h

    def test_it_lasts(self, archive, tmp_path):
        config = describe(archive, grouping={"method": "information", "n_groups": 3})
        result = group_observations(config)
        write_results(result, tmp_path / "groups", plots=False)
        assert Grouping.read(tmp_path / "groups") == result.grouping
        assignment = assign_observations(tmp_path / "groups", archive)
        assert_array_equal(assignment.table["label"], result.grouping.labels)
        labels, _ = result.grouping.rule.assign(result.features)
        assert_array_equal(labels, result.grouping.labels)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ({"target": None}, "needs a target"),
            ({"grouping": {"method": "information"}}, "n_groups or max_loss"),
            ({"grouping": {"method": "information", "max_loss": "two"}}, "a fraction such as 1%"),
            ({"grouping": {"method": "information", "max_loss": 0}}, None),
            ({"source": {"amplitude": "3 m"}}, "amplitude: '3 m'; expected a flux"),
            ({"source": {"parameters": ["indx"]}}, "'indx' is not known; did you mean 'index'"),
            ({"constraints": {"max_spread": {"psf-radius": 1}}}, "leave max_spread out"),
            ({"constraints": {"min_livetime": "9 deg"}}, "expected a time above zero"),
            ({"constraints": {"min_livetime": "900 h"}}, "no run can be grouped"),
            ({"counts": {"background": "dark"}}, "background: 'dark'; expected auto, irf"),
            ({"counts": {"energy": ["1 m", "2 m"]}}, "counts.energy"),
        ],
    )
    def test_what_makes_no_sense_is_said(self, content, message, archive):
        asked = {"grouping": {"method": "information", "n_groups": 2}} | content
        if message is None:
            n_runs = len(characterise(describe(archive)).table)
            assert group_observations(describe(archive, **asked)).grouping.n_groups == n_runs
            return
        with pytest.raises(RequestError, match=message):
            group_observations(describe(archive, **asked))


class TestContract:
    """What the contract test of the toolbox claims of every method."""

    def test_order_of_rows_and_workers_do_not_matter(self, archive, runs_and_scores):
        first = group_observations(describe(archive, **TWO_GROUPS)).grouping
        assert group_observations(describe(archive, workers=3, **TWO_GROUPS)).grouping == first
        scores = runs_and_scores[2]
        order = np.random.default_rng(0).permutation(len(scores))
        shuffled = cluster_by_information(scores.select(order), n_groups=2)
        assert_array_equal(shuffled.label_of(first.obs_ids), first.labels)

    def test_one_run_and_identical_runs(self, runs_and_scores):
        scores = runs_and_scores[2]
        assert cluster_by_information(scores.select([0]), n_groups=1).labels.tolist() == [1]
        same = scores.select([0])
        twins = Scores([1, 2, 3], *(np.repeat(x, 3, axis=0) for x in (same.mu, same.d, same.b)))
        assert set(cluster_by_information(twins, max_loss=0.0).labels) == {1}

    def test_a_run_without_counts_is_in_no_group(self, runs_and_scores):
        scores = runs_and_scores[2]
        mu = scores.mu.copy()
        mu[2] = np.nan
        broken = Scores(scores.obs_ids, mu, scores.d, scores.b, scores.names, scores.livetimes)
        labels = cluster_by_information(broken, n_groups=2).labels
        assert labels[2] == -1
        assert_array_equal(np.unique(np.delete(labels, 2)), [1, 2])


class TestFrontier:
    def test_no_way_to_group_loses_less(self, runs_and_scores):
        table = frontier(*runs_and_scores)
        best = {row["n_groups"]: row["loss"] for row in table if row["grouping"] == "information"}
        assert set(table["grouping"]) == {"information", "ward", "zenith median", "all stacked"}
        for row in table:
            assert row["loss"] >= best[row["n_groups"]] - 1e-12
        losses = [best[n] for n in sorted(best)]
        assert (np.diff(losses) <= 1e-12).all()
        assert losses[0] == table["loss"][table["grouping"] == "all stacked"][0]

    def test_its_figures_are_those_of_the_labels(self, runs_and_scores):
        _, runs, scores = runs_and_scores
        labels = np.asarray(runs.obs_table["EPOCH"])
        (row,) = loss_table(scores, {"epochs": labels})
        assert_allclose(row["loss"], information_loss(scores, labels))
        for name, value in error_inflation(scores, labels).items():
            assert_allclose(row[f"{name} inflation"], value)
        hours = u.Quantity(runs.obs_table["LIVETIME"]).sum()
        assert u.isclose(row["lost_time"], row["loss"] * hours, rtol=1e-6)

    def test_hess(self, hess_dr1):
        """The three sources of the issue: never more than Ward or the zenith split."""
        for flux, stacked in (("0.6 % Crab", 0.088), ("6 % Crab", 0.0173), ("100 % Crab", 0.0013)):
            config = make_config(
                {"archive": str(hess_dr1), "target": "PKS 2155-304", "source": {"amplitude": flux}}
            )
            runs = characterise(config)
            table = frontier(config, runs, scores_of(config, runs), max_groups=21)
            best = {r["n_groups"]: r["loss"] for r in table if r["grouping"] == "information"}
            assert sorted(best) == list(range(1, 22))
            assert all(row["loss"] >= best[row["n_groups"]] - 1e-12 for row in table)
            assert_allclose(best[1], stacked, rtol=0.05)
            assert best[21] < 1e-12


class TestOwnEvents:
    def test_identical_responses_lose_next_to_nothing(self, fact_crab):
        """125 runs with one response: what few background events scatter is no difference."""
        config = make_config(
            {
                "archive": str(fact_crab),
                "target": "83.63 22.01",
                "features": {"names": ["zenith"]},
                "counts": {"background": "events"},
            }
        )
        runs = characterise(config)
        table = frontier(config, runs, scores_of(config, runs), max_groups=2)
        assert table["loss"].max() < 0.01

    def test_fluctuations_of_a_common_rate_are_taken_out(self):
        rng = np.random.default_rng(3)
        exposure = rng.uniform(0.5, 1.5, (100, 6)) * np.geomspace(8, 0.2, 6)
        for scatter in (0.0, 0.5):
            truth = np.exp(scatter * rng.normal(size=100))[:, None]
            rates = shared_rates(rng.poisson(exposure * truth).astype(float), exposure)
            found = np.log((rates * exposure).sum(axis=1) / exposure.sum(axis=1))
            # No scatter is found where there is none, and most of what there is.
            assert found.std() < 0.06 if scatter == 0 else found.std() > 0.3

    def test_a_rate_of_the_users(self, archive):
        for text in ("100 s-1 sr-1", ",".join(["4"] * 24) + " s-1 sr-1"):
            config = describe(archive, counts={"background": text, "safe_energy": "none"})
            scores = scores_of(config, characterise(config))
            counts = scores.background.sum(axis=1)
            assert_allclose(counts / counts[0], scores.livetimes / scores.livetimes[0], rtol=0.1)


class TestCommands:
    def test_frontier(self, archive, tmp_path, capsys):
        arguments = ["frontier", str(archive), "--target", TARGET, "--flux", "0.6 % Crab"]
        assert main([*arguments, "--max-groups", "5", "-o", str(tmp_path / "f")]) == 0
        out = capsys.readouterr().out
        assert "source of 0.6 % Crab, index 2.7; information on amplitude, index" in out
        table = QTable.read(tmp_path / "f" / "frontier.ecsv")
        assert table["n_groups"].max() == 5
        assert table["lost_time"].unit == u.h
        assert (tmp_path / "f" / "frontier.png").stat().st_size > 10_000

    # The command prints warnings; here they must not be errors.
    @pytest.mark.filterwarnings("always::obscluster.exceptions.ObsClusterWarning")
    def test_features_that_are_missing_are_left_out_if_asked(self, archive, capsys):
        arguments = ["frontier", str(archive), "--target", TARGET, "--max-groups", "2"]
        arguments += ["--features", "psf-r68", "rad-max"]
        assert main([*arguments, "--missing", "drop-feature"]) == 0
        captured = capsys.readouterr()
        assert "left out, since some runs do not have them: rad-max" in captured.err
        assert "ward" in captured.out
        assert main(arguments) == 0
        captured = capsys.readouterr()
        assert "no tree on psf-r68, rad-max, which no run has" in captured.err
        assert "ward" not in captured.out

    def test_group_and_assess(self, archive, tmp_path, capsys):
        options = ["--target", TARGET, "--flux", "0.6 % Crab", "--max-loss", "1%", "--no-plots"]
        assert main(["group", str(archive), *options, "-o", str(tmp_path / "g")]) == 0
        assert "of the information; errors grow: amplitude" in capsys.readouterr().out
        record = yaml.safe_load((tmp_path / "g" / "groups.yaml").read_text())
        assert record["parameters"]["method"] == "information"
        assert main(["assess", str(tmp_path / "g"), "-o", str(tmp_path / "a")]) == 0
        assert "information that stacking loses" in capsys.readouterr().out
        losses = Table.read(tmp_path / "a" / "losses.ecsv")
        assert_allclose(losses["loss"][0], record["parameters"]["loss"])

    def test_any_grouping_is_assessed_when_a_source_is_named(self, archive, tmp_path, capsys):
        group = ["group", str(archive), "--by", "ZEN_PNT", "-o", str(tmp_path / "g"), "--no-plots"]
        assert main(group) == 0
        capsys.readouterr()
        assert main(["assess", str(tmp_path / "g")]) == 0
        assert "information" not in capsys.readouterr().out
        assert main(["assess", str(tmp_path / "g"), "--flux", "1 % Crab"]) == 2
        assert "needs a target (--target)" in capsys.readouterr().err
        target = ["--target", TARGET, "--flux", "1 % Crab"]
        assert main(["assess", str(tmp_path / "g"), *target]) == 0
        assert "these groups" in capsys.readouterr().out

    def test_categories_lose_information_too(self, archive, tmp_path, capsys):
        options = ["--by", "EPOCH", "--categories", "--target", TARGET, "--no-plots"]
        assert main(["group", str(archive), *options, "-o", str(tmp_path / "g")]) == 0
        capsys.readouterr()
        assert main(["assess", str(tmp_path / "g"), "-o", str(tmp_path / "none")]) == 0
        out = capsys.readouterr().out
        assert "categories: no features to compare" in out
        assert "information" not in out
        flux = ["--flux", "1 % Crab", "-o", str(tmp_path / "a")]
        assert main(["assess", str(tmp_path / "g"), *flux]) == 0
        assert "these groups  3" in capsys.readouterr().out
        assert {p.name for p in (tmp_path / "a").iterdir()} == {"losses.ecsv", LIST_FILE}

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ([], "frontier needs --target"),
            (["--target", TARGET, "--max-groups", "0"], "expected at least 1"),
            (["--target", TARGET, "--flux", "bright"], "amplitude: 'bright'; expected a flux"),
            (["--target", TARGET, "--model", "log-parabola"], "needs curvature"),
        ],
    )
    def test_bad_requests(self, options, message, archive, capsys):
        assert main(["frontier", str(archive), *options]) == 2
        err = capsys.readouterr().err
        assert message in err
        assert err.count("\n") == 1
