"""The scripts in examples/ run as they stand."""

import os
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parent.parent / "examples"


def test_observation_clustering(hess_dr1, tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / "observation_clustering.py", hess_dr1, tmp_path],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"MPLBACKEND": "agg"},
    )
    assert done.returncode == 0, done.stderr
    assert "zenith angle from 7.23 deg to 50.42 deg" in done.stdout
    assert "muon efficiency from 0.97 to 1.03" in done.stdout
    assert "'group_1': <Observations: 5" in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["features.png", "zenith.png"]
