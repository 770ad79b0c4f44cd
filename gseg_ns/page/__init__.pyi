from .placing import View
from .writing import PageReport, Words, write_page

__all__ = ["PageReport", "View", "Words", "write_page"]
