"""What is done to a selection: operations that can be undone, saved and replayed, and baked on export."""
