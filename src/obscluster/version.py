"""Version of obscluster, in a place that any module may import."""

__version__ = "0.1.0"
