"""Synthetic archives with known truth, for tests, examples and benchmarks.

`simulate` writes a GADF archive of a four-telescope array at the H.E.S.S. site. Targets, times,
pointings and zenith angles belong together; the responses follow zenith angle, muon efficiency,
telescope pattern and the epoch of the instrument (`response`); the column ``EPOCH`` of the
obs-index holds the true group of every run.

A run depends on the seed and its own number only, so a larger archive contains the smaller one.

==============  =================================================================================
you look for    module
==============  =================================================================================
the files       `~obscluster.simulate.write`, from where all the others are called
what, and when  `~obscluster.simulate.plan`, `~obscluster.simulate.model`,
                `~obscluster.simulate.sky` (site, time, coordinates)
the response    `~obscluster.simulate.model` (the model), `~obscluster.simulate.irfs` (the
                same as IRF tables), `~obscluster.simulate.irfs`
the events      `~obscluster.simulate.irfs`
bad arguments   `~obscluster.simulate.model`
==============  =================================================================================
"""

from obscluster.simulate.model import TARGETS, Response, response
from obscluster.simulate.plan import plan_runs
from obscluster.simulate.write import simulate

__all__ = ["TARGETS", "Response", "plan_runs", "response", "simulate"]
