"""What `ns-train` offers: one file a method."""
