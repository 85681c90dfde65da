"""What is wrong with an archive: every run, every file, every HDU.

A check is a generator of `~obscluster.check.findings.Finding`. An error is something that stops
or falsifies an analysis; a warning deviates from the specification or from what is plausible, and
data with warnings is used daily; an info is worth knowing.

=====================================  ==========================================================
you look for                           module
=====================================  ==========================================================
the walk over runs and files           `~obscluster.check.archive`, from where the rest is called
the index tables                       `~obscluster.check.index`
headers against the index              `~obscluster.check.agreement`
keywords, HDU names and classes        `~obscluster.check.headers`
event lists and good time intervals    `~obscluster.check.tables`
responses                              `~obscluster.check.response`, normalisation in
                                       `~obscluster.check.values`
the table of findings, as text         `~obscluster.check.findings`
=====================================  ==========================================================
"""

from obscluster.check.archive import check_archive
from obscluster.check.findings import SEVERITIES, describe_findings, severity_counts

__all__ = ["SEVERITIES", "check_archive", "describe_findings", "severity_counts"]
