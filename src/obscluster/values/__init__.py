"""What users write and read: quantities with their limits, and texts."""
