"""Remove a folder whose contents somebody else chose.

Folders within folders, thousands deep, are more than a recursion or a path can hold, and folders may
be closed to their owner. So nothing is recursed into: every folder found is moved to the top first.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

__all__ = ["remove_tree"]

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_tree(path: Path) -> None:
    """The folder and all beneath it. No link is followed. Nobody else may be at work in it; OSError.

    One that is not there is none to remove.
    """
    try:
        top = os.open(path, _FOLDER)
    except FileNotFoundError:
        return
    try:
        moved = 0
        waiting = [name for name in os.listdir(top) if not _removed(top, name)]
        while waiting:
            name = waiting.pop()
            os.chmod(name, stat.S_IRWXU, dir_fd=top)
            here = os.open(name, _FOLDER, dir_fd=top)
            try:
                for inner in os.listdir(here):
                    if not _removed(here, inner):
                        moved, fresh = _free_name(top, moved)
                        # To move a folder is to write its "..".
                        os.chmod(inner, stat.S_IRWXU, dir_fd=here)
                        os.rename(inner, fresh, src_dir_fd=here, dst_dir_fd=top)
                        waiting.append(fresh)
            finally:
                os.close(here)
            os.rmdir(name, dir_fd=top)
    finally:
        os.close(top)
    os.rmdir(path)


def _removed(folder: int, name: str) -> bool:
    """Whether it was a file, and is gone."""
    if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
        return False
    os.unlink(name, dir_fd=folder)
    return True


def _free_name(top: int, number: int) -> tuple[int, str]:
    while True:
        number += 1
        name = f".removing-{number}"
        try:
            os.stat(name, dir_fd=top, follow_symlinks=False)
        except FileNotFoundError:
            return number, name
