"""`group_runs` takes every method, as its options or by its name, and one's own."""

from typing import ClassVar, Literal

import numpy as np
import pytest
from astropy import units as u
from astropy.table import QTable
from numpy.testing import assert_array_equal

from obscluster import group_runs
from obscluster.config import METHODS, InformationConfig, LabelsConfig
from obscluster.exceptions import RequestError
from obscluster.grouping import Grouping
from obscluster.grouping.method import Method, MethodConfig, positions_by, scaler
from obscluster.information import Scores, cluster_by_information


@pytest.fixture
def runs():
    rng = np.random.default_rng(3)
    x = np.concatenate([rng.normal(0, 0.1, 6), rng.normal(5, 0.1, 6)])
    return QTable({"obs_id": np.arange(101, 113), "x": x, "livetime": np.full(12, 0.5) * u.h})


@pytest.fixture
def scores(runs):
    rng = np.random.default_rng(4)
    mu = rng.uniform(5, 20, (12, 4))
    derivatives = rng.uniform(0.1, 1, (12, 4, 2)) * np.where(runs["x"] > 2, 3, 1)[:, None, None]
    return Scores(np.asarray(runs["obs_id"]), mu, derivatives, names=("amplitude", "index"))


# What methods cannot do without, and what they then say.
NEEDED = {"cuts": "by", "labels": "file", "information": "max_loss", "spread": "max_spread"}


@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_called_by_its_name_or_says_what_it_needs(name, runs):
    if name in NEEDED:
        with pytest.raises(RequestError, match=NEEDED[name]):
            group_runs(runs, ["x"], name)
    else:
        labels = group_runs(runs, ["x"], name).labels
        assert_array_equal(labels, np.repeat([1, 2], 6))


def test_a_name_that_is_not_known_is_told(runs):
    with pytest.raises(RequestError, match="did you mean 'kmeans'"):
        group_runs(runs, ["x"], "kmean")


def test_groups_that_lose_least_are_those_of_the_scores(runs, scores):
    shuffled = runs[np.random.default_rng(5).permutation(12)]
    found = group_runs(shuffled, ["x"], InformationConfig(n_groups=3), scores=scores)
    expected = cluster_by_information(scores, 3)
    assert_array_equal(found.obs_ids, shuffled["obs_id"])
    assert_array_equal(found.label_of(expected.obs_ids), expected.labels)
    assert "loses" in found.remarks[0]
    with pytest.raises(RequestError, match="expected counts"):
        group_runs(runs, ["x"], InformationConfig(n_groups=3))
    with pytest.raises(RequestError, match="no expected counts of run 112"):
        group_runs(runs, ["x"], InformationConfig(n_groups=3), scores=scores.select(np.arange(11)))


def test_labels_of_a_file_are_a_method_too(runs, tmp_path):
    lines = [f"{obs_id},{1 + obs_id % 2}" for obs_id in runs["obs_id"]]
    file = tmp_path / "labels.csv"
    file.write_text("\n".join(["OBS_ID,label", *lines]))
    found = group_runs(runs, ["x"], LabelsConfig(file=str(file)))
    assert_array_equal(found.labels, 1 + runs["obs_id"] % 2)


class OddAndEvenConfig(MethodConfig):
    """Two groups, by the parity of the identifier."""

    method: Literal["odd-and-even"] = "odd-and-even"
    resampled: ClassVar[bool] = False

    def prepare(self, request):
        """See `MethodConfig`."""

        def group(part, _n_groups):
            obs_ids = np.asarray(part["obs_id"])
            return Grouping(obs_ids, 1 + obs_ids % 2, None, {"method": self.method})

        return Method(group, positions_by(scaler(request, request.names, request.scaling)))


def test_a_method_of_ones_own_needs_one_class(runs):
    found = group_runs(runs, ["x"], OddAndEvenConfig())
    assert_array_equal(found.labels, 1 + runs["obs_id"] % 2)
