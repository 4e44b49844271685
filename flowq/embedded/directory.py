"""The data directory of the embedded servers: what is in it, whether it may be used, its lock, and where its sockets are.

    .gitignore  lock  endpoint.json  keeper.log  valkey.log  s3.log  run/ (sockets)  valkey/ (data)  s3/ (data, keys)  artifacts/

`lock` is made before anything else, so a directory that is neither empty nor has it was not made by flowq and is refused:
a slip such as `attach(Path("."))` must not hide a whole repository behind our `.gitignore`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import pwd
import stat
import tempfile
from pathlib import Path

import msgspec

from flowq.errors import DataDirectoryUnusable

LOCK_NAME = "lock"
EPHEMERAL_PREFIX = "flowq-ephemeral-"
_LOGS = ("keeper.log", "valkey.log", "s3.log")
_HARMLESS_NAMES = {LOCK_NAME, ".gitignore", ".gitkeep", ".DS_Store"}
# sun_path holds 108 bytes on Linux and 104 on macOS, the final zero included; 100 leaves room for `.tmp` suffixes.
_SOCKET_PATH_BYTES_MAX = 100
_LONGEST_SOCKET_NAME = "keeper.sock"
_ELSEWHERE = "choose another directory, or use a server that runs elsewhere: FLOWQ_URL=redis://host:6379"


class Endpoint(msgspec.Struct, frozen=True):
    """What the keeper leaves in `endpoint.json` for those who want to attach. A hint: only an answer proves it.

    Attributes:
        runtime: the directory of the sockets.
        keeper_pid: the keeper's process.
        valkey_pid: Valkey's process, so that an orphan can be told from a stranger.
        ephemeral_data: the temporary data directory to remove if the keeper could not; empty: none.
    """

    runtime: str
    keeper_pid: int
    valkey_pid: int = 0
    ephemeral_data: str = ""

    @property
    def control_socket(self) -> Path:
        """Where the keeper listens."""
        return Path(self.runtime, "keeper.sock")

    @property
    def valkey_socket(self) -> Path:
        """Where Valkey listens."""
        return Path(self.runtime, "valkey.sock")


class DataDirectory:
    """A data directory that has been checked.

    Args:
        path: an absolute path; use `prepare` to make and check it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock_path = path / LOCK_NAME
        self.endpoint_path = path / "endpoint.json"
        self.keeper_log = path / "keeper.log"

    @classmethod
    def prepare(cls, directory: Path) -> DataDirectory:
        """Makes the directory if need be, private to its owner, and checks that it can be used.

        Raises:
            DataDirectoryUnusable: a file, a symlink, someone else's, read-only, full, or with content that is not flowq's.
        """
        place = cls(Path(os.path.abspath(directory)))
        if not _is_text(place.path):  # URLs, JSON and logs could not name it
            shown_path = os.fsencode(place.path).decode("utf-8", "backslashreplace")
            raise DataDirectoryUnusable(shown_path, "has a name that is no UTF-8 text", _ELSEWHERE)
        try:
            try:
                place._make()
            except FileNotFoundError:  # an ephemeral keeper that ended took it along
                place._make()
        except OSError as error:
            raise DataDirectoryUnusable(str(place.path), _reason(error), _ELSEWHERE) from None
        return place

    def _make(self) -> None:
        with contextlib.suppress(FileExistsError):
            self.path.mkdir(mode=0o700, parents=True)
        found = self.path.lstat()
        if stat.S_ISLNK(found.st_mode):
            self._refuse("is a symbolic link", f"name the directory it points to: {os.path.realpath(self.path)}")
        if not stat.S_ISDIR(found.st_mode):
            self._refuse("is not a directory", _ELSEWHERE)
        if found.st_uid != os.geteuid():
            self._refuse(
                f"belongs to {_user_name(found.st_uid)}", f"run this as {_user_name(found.st_uid)}, or choose another directory"
            )
        names = set(os.listdir(self.path))
        if LOCK_NAME not in names and not names <= _HARMLESS_NAMES:
            self._refuse("has files that are not flowq's", "name an empty or new directory, such as .flowq")
        if found.st_mode & 0o077:
            self.path.chmod(0o700)
        os.close(self._open_lock())
        ignore = self.path / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n")

    def _refuse(self, reason: str, remedy: str) -> None:
        raise DataDirectoryUnusable(str(self.path), reason, remedy)

    def _open_lock(self) -> int:
        return os.open(self.lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

    def try_lock(self) -> int | None:
        """The descriptor that now holds the lock, or None: someone has it.

        Raises:
            DataDirectoryUnusable: the file system has no locks, or the directory can't be used any more.
        """
        try:
            descriptor = self._open_lock()
        except FileNotFoundError:  # an ephemeral keeper took it along
            DataDirectory.prepare(self.path)
            return None
        except OSError as error:
            raise DataDirectoryUnusable(str(self.path), _reason(error), _ELSEWHERE) from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError as error:
            os.close(descriptor)
            raise DataDirectoryUnusable(str(self.path), f"its file system has no locks ({error.strerror})", _ELSEWHERE) from None
        if not self.is_locked_by(descriptor):  # wiped between opening and locking
            os.close(descriptor)
            return None
        return descriptor

    def remove_without_data(self) -> None:
        """Removes the directory if it keeps no data, only what each keeper makes; whoever waits for its lock makes it again."""
        with contextlib.suppress(OSError):
            if set(os.listdir(self.path)) <= {LOCK_NAME, ".gitignore", *_LOGS}:
                for name in (*_LOGS, ".gitignore", LOCK_NAME):
                    (self.path / name).unlink(missing_ok=True)
                self.path.rmdir()

    def is_locked_by(self, descriptor: int) -> bool:
        """Whether this descriptor's lock is still the lock of this directory, or the directory was wiped under it."""
        try:
            return os.path.samestat(self.lock_path.lstat(), os.fstat(descriptor))
        except OSError:
            return False

    def endpoint(self) -> Endpoint | None:
        """What the last keeper wrote, if it can be read."""
        try:
            return msgspec.json.decode(self.endpoint_path.read_bytes(), type=Endpoint)
        except (OSError, msgspec.DecodeError):
            return None

    def record(self, endpoint: Endpoint) -> None:
        """Replaces `endpoint.json` in one step."""
        write_private(self.endpoint_path, msgspec.json.encode(endpoint))

    def make_runtime(self) -> Path:
        """A private directory for the sockets: `run` inside, or a short one elsewhere if the path is too long for sockets.

        The same data directory gets the same one each time, so that a URL stays true when the servers are started again.
        """
        inside = self.path / "run"
        if _fits(inside):
            inside.mkdir(mode=0o700, exist_ok=True)
            return inside
        name = f"flowq-{os.geteuid()}-{hashlib.sha256(os.fsencode(self.path)).hexdigest()[:12]}"
        for base in (os.environ.get("XDG_RUNTIME_DIR", ""), tempfile.gettempdir(), "/tmp"):
            outside = Path(base, name)
            if base and _fits(outside) and _make_own(outside):
                return outside
        return Path(tempfile.mkdtemp(prefix="flowq-", dir="/tmp"))


def write_private(path: Path, content: bytes) -> None:
    """Replaces a file in one step; only its owner may read it."""
    written = path.with_name(f"{path.name}.tmp")
    descriptor = os.open(written, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "wb") as file:
        file.write(content)
    written.replace(path)


def _is_text(path: Path) -> bool:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def _fits(runtime: Path) -> bool:
    return len(os.fsencode(runtime / _LONGEST_SOCKET_NAME)) <= _SOCKET_PATH_BYTES_MAX


def _make_own(path: Path) -> bool:
    """Makes the directory; False when it can't be, or someone else made it first (the name can be guessed)."""
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        found = path.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def _reason(error: OSError) -> str:
    match error.errno:
        case errno.EROFS:
            return "is on a read-only file system"
        case errno.EACCES | errno.EPERM:
            return "can't be written: permission denied"
        case errno.ENOSPC | errno.EDQUOT:
            return "can't be written: no space is left on its file system"
        case errno.ENOTDIR | errno.EEXIST:
            return "is not a directory"
        case errno.ENAMETOOLONG:
            return "has a name that is too long"
        case errno.ELOOP:
            return "has a symbolic link in place of its lock"
        case _:
            return f"can't be used: {error.strerror or error}"
