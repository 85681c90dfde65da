"""The GADF file format: nothing outside this package opens FITS files.

https://gamma-astro-data-formats.readthedocs.io
"""
