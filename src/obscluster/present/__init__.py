"""A report of results: `write_report`.

- `facts`: what results and their obs-index say of the runs.
- `collect`: all that is known of a grouping, from results and archive.
- `page`: the file.

What draws and lays out is `obscluster.report`.
"""

from obscluster.present.page import REPORT_FILE, require_report, write_report

__all__ = ["REPORT_FILE", "require_report", "write_report"]
