"""How other tools write masks down: one module a tool, all of them into a `MaskSet`."""
