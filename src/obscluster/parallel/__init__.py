"""Where work is done: here, by processes of this machine, or on a dask cluster."""
