"""The content of an answer, read as fast as the client takes it."""

from threading import Lock

from django.http.response import HttpResponseBase

PIECE_BYTES = 256 * 1024


class Download:
    """Read in threads, a piece at a time, so that no thread waits while a slow client takes one."""

    def __init__(self, response: HttpResponseBase) -> None:
        self.response = response
        self.piece = b""
        self.is_over = False
        self._parts = iter(response)
        # A client that hangs up while a piece is read: what reads it ends first.
        self._lock = Lock()

    def read(self) -> None:
        """The next piece. With the last one, `is_over`."""
        with self._lock:
            parts, size = [], 0
            while size < PIECE_BYTES and not self.is_over:
                try:
                    parts.append(next(self._parts))
                except StopIteration:
                    self._end()
                else:
                    size += len(parts[-1])
            self.piece = b"".join(parts)

    def close(self) -> None:
        with self._lock:
            if not self.is_over:
                self._end()

    def _end(self) -> None:
        self.is_over = True
        self.response.close()
