"""What the commands do: one module each, with the Python function that the command line calls."""
