"""What is wrong with an archive: every run, every file, every HDU.

A check is a generator of `~obscluster.check.findings.Finding`. An error is something that stops
or falsifies an analysis; a warning deviates from the specification or from what is plausible, and
data with warnings is used daily; an info is worth knowing.

=====================================  ==========================================================
you look for                           module
=====================================  ==========================================================
the walk over runs and files           `~obscluster.check.walk`, from where the rest is called
the index tables                       `~obscluster.check.indices`
headers against the index              `~obscluster.check.indices`
keywords, HDU names and classes        `~obscluster.check.headers`
event lists and good time intervals    `~obscluster.check.headers`
responses                              `~obscluster.check.responses`, normalisation in
                                       `~obscluster.check.responses`
the table of findings, as text         `~obscluster.check.findings`
=====================================  ==========================================================
"""

from obscluster.check.findings import SEVERITIES, describe_findings, severity_counts
from obscluster.check.walk import check_archive

__all__ = ["SEVERITIES", "check_archive", "describe_findings", "severity_counts"]
