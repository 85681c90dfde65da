"""Ward's tree of few runs is SciPy's, to the bit, and so is its cut."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_array_equal
from scipy.cluster import hierarchy

from obscluster.exceptions import RequestError
from obscluster.grouping.hierarchical import (
    cut_tree,
    hierarchical_clustering,
    linkage_tree,
    ward_tree,
)

shapes = st.tuples(st.integers(2, 30), st.integers(1, 12))
# Few different values, so that many distances are equal; and any.
ties = shapes.flatmap(lambda shape: arrays(float, shape, elements=st.integers(0, 3)))
smooth = shapes.flatmap(lambda shape: arrays(float, shape, elements=st.floats(-1e3, 1e3)))


@pytest.mark.filterwarnings("ignore:The symmetric non-negative hollow")
@settings(max_examples=300)
@given(ties)
def test_tree_and_every_cut_are_scipys_where_distances_are_equal(X):
    tree = ward_tree(X)
    assert_array_equal(tree, hierarchy.linkage(X, "ward"))
    for n_groups in range(1, len(X) + 2):
        expected = hierarchy.fcluster(tree, n_groups, "maxclust")
        assert_array_equal(cut_tree(tree, n_groups), expected)


@pytest.mark.filterwarnings("ignore:The symmetric non-negative hollow")
@settings(max_examples=200)
@given(smooth)
def test_heights_are_scipys_for_any_values(X):
    tree, expected = ward_tree(X), hierarchy.linkage(X, "ward")
    np.testing.assert_allclose(tree[:, 2], expected[:, 2], rtol=1e-9, atol=1e-9)
    assert hierarchy.is_valid_linkage(tree, throw=True)


def test_trees_of_usual_size_are_scipys_to_the_bit():
    rng = np.random.default_rng(5)
    for n in (2, 21, 105, 300):
        for n_features in (1, 3, 8, 21):
            X = rng.normal(size=(n, n_features))
            assert_array_equal(linkage_tree(X), hierarchy.linkage(X, "ward"))


@pytest.mark.parametrize("method", ["single", "complete", "average", "centroid"])
def test_cuts_of_other_trees_are_scipys(method):
    X = np.random.default_rng(2).normal(size=(40, 2))
    tree = hierarchy.linkage(X, method)
    if hierarchy.is_monotonic(tree):
        for n_groups in range(1, 41):
            expected = hierarchy.fcluster(tree, n_groups, "maxclust")
            assert_array_equal(cut_tree(tree, n_groups), expected)


def test_values_too_large_are_told():
    from astropy.table import QTable

    table = QTable({"obs_id": [1, 2, 3], "x": [1e200, -1e200, 0.0]})
    table.meta["names"] = ["x"]
    with pytest.raises(RequestError, match="not finite"):
        hierarchical_clustering(table, fcluster_kwargs={"t": 2})


def test_few_runs_are_grouped_without_loading_scipy():
    code = """
import sys
from astropy.table import QTable
from obscluster import hierarchical_clustering, standard_scaler
table = QTable({"obs_id": [1, 2, 3, 4], "x": [0.0, 0.1, 5.0, 5.2]})
table.meta["names"] = ["x"]
labels = hierarchical_clustering(standard_scaler(table), fcluster_kwargs={"t": 2})["labels"]
assert labels.tolist() == [1, 1, 2, 2], labels
assert not [name for name in sys.modules if name.startswith(("scipy.cluster", "asyncio"))]
"""
    subprocess.run([sys.executable, "-c", code], check=True)
