"""What Prefect and Dask say: warnings in the terminal beside the progress bars, everything on request.

Only the console is quiet. Run logs still go to the Prefect server, down to INFO, where its UI shows them; in the
console they would put three tracebacks before the one line that says what was wrong.
"""

from __future__ import annotations

import logging


def console_log_environment(verbose: bool) -> dict[str, str]:
    """Return the environment that gives child processes the same console level."""
    level = "INFO" if verbose else "WARNING"
    return {
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": level,
        "DASK_LOGGING__DISTRIBUTED": level.lower(),
    }


def set_console_level(verbose: bool) -> None:
    """Set the level of Prefect's console handlers in this process, whether or not Prefect has made them already."""
    from prefect.logging.configuration import ensure_logging_setup
    from prefect.logging.handlers import PrefectConsoleHandler

    from tasks.cluster import RUN_LOGGERS

    ensure_logging_setup()
    level = logging.INFO if verbose else logging.WARNING
    for name in (None, "prefect", "uvicorn", "fastapi"):
        for handler in logging.getLogger(name).handlers:
            if isinstance(handler, PrefectConsoleHandler):
                handler.setLevel(level)
    for name in RUN_LOGGERS:
        logging.getLogger(name).propagate = verbose
    # what sends logs and states warns at every stop that it still has some to send
    for name in ("APILogWorker", "EventsWorker"):
        logging.getLogger(name).setLevel(logging.NOTSET if verbose else logging.ERROR)
    logging.getLogger("distributed").setLevel(level)


def drain() -> None:
    """Send what Prefect's background threads still hold to the server.

    Logs and the events that carry task states are sent by threads; a server that stops before them loses the last
    ones, and the interpreter then tries for a minute to reach it before it ends.
    """
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    for service in (EventsWorker, APILogWorker):
        service.drain_all(timeout=10.0, at_exit=False)
