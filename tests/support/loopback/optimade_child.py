"""Run the OPTIMADE reference server on a socket that the parent process bound; end when the parent does.

Arguments: number of the socket's file descriptor. The settings come from the file that `OPTIMADE_CONFIG_FILE` names.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
from typing import Any


def end_with_parent() -> None:
    """Leave as soon as standard input closes, which a parent's end does too, however it comes about."""
    sys.stdin.buffer.read()
    os._exit(0)


def with_page_limit(app: Any, limit: int) -> Any:
    """Wrap the server so that pages have `limit` rows where a request does not say.

    Its own setting `page_limit` comes too late: the routes put in a default of 20 before it is looked at.
    """

    async def wrapped(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"].rstrip("/").endswith("/structures"):
            query: bytes = scope["query_string"]
            if b"page_limit=" not in query:
                scope = {**scope, "query_string": query + (b"&" if query else b"") + b"page_limit=%d" % limit}
        await app(scope, receive, send)

    return wrapped


def main() -> None:
    listener = socket.socket(fileno=int(sys.argv[1]))
    threading.Thread(target=end_with_parent, daemon=True).start()
    import uvicorn
    from optimade.server.main import app

    served = with_page_limit(app, app.state.config.page_limit)
    config = uvicorn.Config(served, log_level="warning", access_log=False, lifespan="off", timeout_keep_alive=60)
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
