"""The `gseg` command."""
