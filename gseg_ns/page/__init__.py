"""A scene and its objects as one HTML file that needs no server and no network, and as a page that a server gives out.

`built/` holds what browsers run, built from `web/`; here it is filled with splats.
"""

import lazy_loader

# The names are in __init__.pyi. What is behind them is loaded when it is asked for: a server starts quickly.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
