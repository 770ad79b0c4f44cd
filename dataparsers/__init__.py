"""What `--data` can be: posed images that come with masks."""
