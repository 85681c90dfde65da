"""Archives without index files: both index tables from the headers of the files.

https://gamma-astro-data-formats.readthedocs.io/en/v0.3/data_storage/index.html
"""

from obscluster.gadf.discover.discovery import Discovery, discover
from obscluster.gadf.discover.write import check_index_files, write_index_files

__all__ = ["Discovery", "check_index_files", "discover", "write_index_files"]
