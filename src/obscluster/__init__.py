"""Group gamma-ray observations by observing conditions and instrument response."""

__version__ = "0.1.0"
