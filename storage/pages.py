"""Answers of a service under construction: each page kept whole under its address, found again by the next run."""

from __future__ import annotations

import hashlib
import json
import logging
import zlib
from pathlib import Path

from storage.tables import write_whole

logger = logging.getLogger(__name__)

_MAGIC = b"elemscreen page 1\n"


class PageFolder:
    """A folder of answers, usually in `ArtifactStore.scratch`: the checkpoint of an ingest.

    A page counts as there when its digest fits; a damaged one is asked for again. The folder keeps addresses and
    bodies and nothing of the request's headers, where keys are.

    Parameters
    ----------
    folder
        The folder; made when it is absent.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def read(self, address: str) -> bytes | None:
        """Return the body that an address answered, or None when it is not there or damaged."""
        path = self._path(address)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        try:
            head, packed = data.removeprefix(_MAGIC).split(b"\n", 1)
            body = zlib.decompress(packed)
            sound = data.startswith(_MAGIC) and json.loads(head)["sha256"] == hashlib.sha256(body).hexdigest()
        except (ValueError, KeyError, TypeError, zlib.error):
            sound = False
        if not sound:
            logger.warning("page %s is damaged and will be asked for again", path)
            return None
        return body

    def write(self, address: str, body: bytes) -> None:
        """Keep the body of an answer, whole or not at all."""
        head = json.dumps({"address": address, "sha256": hashlib.sha256(body).hexdigest()}).encode()
        write_whole(self._path(address), _MAGIC + head + b"\n" + zlib.compress(body, 1))

    def drop(self, address: str) -> None:
        """Forget a page, so that it is asked for again."""
        self._path(address).unlink(missing_ok=True)

    def __len__(self) -> int:
        """Return how many pages there are, sound or not."""
        return sum(1 for _ in self.folder.glob("*.page"))

    def _path(self, address: str) -> Path:
        return self.folder / f"{hashlib.sha256(address.encode()).hexdigest()[:32]}.page"
