"""An archive of runs: the one way to a quantity of a run."""
