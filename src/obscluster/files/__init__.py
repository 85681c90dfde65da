"""Files that are not the telescope's: YAML with its lines, and checksums."""
