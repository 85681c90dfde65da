"""Pictures, one function each, drawn into Matplotlib axes."""
