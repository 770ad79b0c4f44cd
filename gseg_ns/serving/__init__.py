"""The page of our own before a session: `gseg view`, which neither viser nor Nerfstudio's viewer is needed for."""

import lazy_loader

# The names are in __init__.pyi. What is behind them is loaded when it is asked for: the command line starts quickly.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
