"""Vectors that are searched: an index in a folder, any folder of pictures, and a sheet of what was found."""

from diptych.search.build import Built, build_index
from diptych.search.folder import FolderIndex, Refresh, search_folder
from diptych.search.index import VectorIndex
from diptych.search.sheet import write_sheet
from diptych.tasks.retrieve import Hit

__all__ = ["Built", "FolderIndex", "Hit", "Refresh", "VectorIndex", "build_index", "search_folder", "write_sheet"]
