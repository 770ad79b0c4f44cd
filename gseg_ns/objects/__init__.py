"""Objects as things to be used: what floats, boxes, and one table of what there is to say of each."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
