"""Files that only the agent may read, replaced whole or not at all."""

import os
from pathlib import Path

CREDENTIALS_FILE = "credentials.json"  # in the data folder, once the coordinator has taken the site's claim


def write_private(path: Path, content: bytes) -> None:
    """Replaces the file at `path` (mode 0600): a reader, or a power cut, sees the old content or the new one."""
    fresh = path.with_name(f"{path.name}.new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(fresh, path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)  # the rename itself
    finally:
        os.close(folder)
