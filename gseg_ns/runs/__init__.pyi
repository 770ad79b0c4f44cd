from .edited_run import EditedRun, saved_edits
from .isolated import export_command, write_run
from .object_pictures import best_views, turntable
from .packing import pack_run
from .prompting import Point, Prompter
from .run import Run, load_run
from .safe_config import check_config, read_config
from .text_search import TextSearch

__all__ = [
    "EditedRun",
    "Point",
    "Prompter",
    "Run",
    "TextSearch",
    "best_views",
    "check_config",
    "export_command",
    "load_run",
    "pack_run",
    "read_config",
    "saved_edits",
    "turntable",
    "write_run",
]
