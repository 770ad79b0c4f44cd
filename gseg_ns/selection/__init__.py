"""Which Gaussians: sets, shapes, neighbourhoods, history, and selections on disk."""
