"""Results as text for a terminal and as HTML for a notebook, from the same rows."""
