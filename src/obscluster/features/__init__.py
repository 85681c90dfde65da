"""What characterises each run: one row of numbers per observation."""
