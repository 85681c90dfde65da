"""Trees and cuts are SciPy's, also where fastcluster makes them without a matrix of distances."""

import numpy as np
import pytest
from astropy.table import QTable
from numpy.testing import assert_allclose, assert_array_equal
from scipy.cluster import hierarchy

from obscluster.exceptions import RequestError
from obscluster.grouping.hierarchical import hierarchical_clustering, linkage_tree


@pytest.mark.parametrize("n_obs", [2, 21, 300, 1200])
@pytest.mark.parametrize("method", ["ward", "single", "complete", "average", "centroid"])
def test_trees_and_their_cuts_are_scipys(method, n_obs):
    X = np.random.default_rng(n_obs).normal(size=(n_obs, 3))
    tree, expected = linkage_tree(X, method), hierarchy.linkage(X, method)
    assert_allclose(tree[:, 2], expected[:, 2], rtol=1e-9)
    for n_groups in {1, 2, min(n_obs, 7)}:
        assert_array_equal(
            hierarchy.fcluster(tree, n_groups, "maxclust"),
            hierarchy.fcluster(expected, n_groups, "maxclust"),
        )


def test_values_too_large_are_told():
    table = QTable({"obs_id": [1, 2, 3], "x": [1e200, -1e200, 0.0]})
    table.meta["names"] = ["x"]
    with pytest.raises(RequestError, match="finite"):
        hierarchical_clustering(table, fcluster_kwargs={"t": 2})
