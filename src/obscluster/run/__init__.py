"""Everything that a description asks for, step by step, each kept until its inputs change.

============  ==================================================================================
step          outcome in the output
============  ==================================================================================
``features``  ``steps/features.ecsv``
``group``     ``groups.yaml`` and the files beside it
``assess``    ``assessment/``
``report``    ``report.html``
``reduce``    ``datasets/``
``fit``       ``fit/``
============  ==================================================================================

The index of the archive is read and the runs are selected each time: this tells what has changed.

- `plan`: the description, and whether it can be met.
- `steps`: what is there already, and of which inputs.
- `inputs`: what each step depends on.
- `work`: the steps.
"""

from __future__ import annotations

from obscluster.run.plan import Plan, read_plan
from obscluster.run.work import RunOutcome, run_plan

__all__ = ["Plan", "RunOutcome", "read_plan", "run_plan"]
