"""Average linkage: the clusters that SciPy finds."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sortal.data.linkage import average_linkage


@settings(max_examples=25, deadline=None)
@given(count=st.integers(1, 40), least=st.floats(-3, -0.3), seed=st.integers(0, 999))
def test_average_linkage_is_that_of_scipy(count: int, least: float, seed: int) -> None:
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    points = np.random.Generator(np.random.Philox(key=seed)).normal(size=(count, 3))
    distance = np.linalg.norm(points[:, None] - points[None], axis=2)
    found = average_linkage(-distance.astype(np.float32), least)
    if count == 1:
        assert found.tolist() == [0]
        return
    theirs = fcluster(linkage(squareform(distance, checks=False), "average"), -least, "distance")
    assert ((found[:, None] == found[None]) == (theirs[:, None] == theirs[None])).all()
