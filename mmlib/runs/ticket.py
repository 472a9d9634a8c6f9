"""A file that tells workers on any machine whether the runs that they make are still wanted.

The caller holds it locked for as long as it waits for the runs. So a worker knows when the caller withdraws it, when
the caller was killed, and whether files and locks reach from one machine to the other at all.
"""

import errno
import fcntl
import platform
import uuid
from pathlib import Path


class Ticket:
    """``<root>/.wanted-<random>``, there and locked inside the ``with``.

    Attributes:
        path: of the file.
        withdrawn: whether the caller has asked the runs to stop.
    """

    def __init__(self, root: Path) -> None:
        self.path = root / f".wanted-{uuid.uuid4().hex}"
        self.withdrawn = False

    def __enter__(self) -> "Ticket":
        self.path.parent.mkdir(parents=True, exist_ok=True)
        for left in self.path.parent.glob(".wanted-*"):  # by a caller that was killed
            if look(left) == "free":
                left.unlink(missing_ok=True)
        new = self.path.with_name(self.path.name.replace("wanted", "new"))
        self._file = open(new, "x+")
        fcntl.flock(self._file, fcntl.LOCK_EX)
        new.rename(self.path)  # seen only when it is locked
        return self

    def __exit__(self, *_) -> None:
        self.path.unlink(missing_ok=True)
        self._file.close()

    def withdraw(self) -> None:
        """Ask every run to write a checkpoint and stop."""
        self.withdrawn = True
        self.path.unlink(missing_ok=True)


def look(ticket: Path) -> str:
    """Whether a ticket is ``"held"`` by its caller, ``"free"`` since the caller was killed, or ``"gone"``."""
    try:
        with open(ticket) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return "free"
    except OSError as error:
        return "gone" if error.errno in (errno.ENOENT, errno.ESTALE) else "held"


def check_shared(ticket: Path) -> None:
    """Refuse to work where the caller's folder of runs, or its locks, cannot be seen.

    Raises:
        FileNotFoundError: if the ticket is not there.
        OSError: if it is not locked.
    """
    state, here = look(ticket), f"the worker on {platform.node()}"
    if state == "gone":
        reason = f"{here} does not see the caller's folder of runs; it must be shared, under the same path"
        raise FileNotFoundError(errno.ENOENT, reason, str(ticket.parent))
    if state == "free":
        reason = f"{here} does not see the caller's locks in the folder of runs, so a run could be made twice"
        raise OSError(errno.ENOLCK, reason, str(ticket.parent))
