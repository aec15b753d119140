"""The entry point `elemscreen`.

An error that a user can cause ends with one line and exit code 2; a run that failed exits 1; Ctrl-C exits 130 and
leaves everything that was finished in the store.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from typing import Any


def main() -> None:
    """Run the command line."""
    # before anything of ours is imported: a folder of the same name may be in the way
    from deployments.guard import check_packages

    check_packages()
    from deployments.server import CHILD_ENVIRONMENT

    for name, value in CHILD_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    warnings.filterwarnings("ignore")
    console = logging.StreamHandler()
    console.setLevel(logging.WARNING)  # of the handler: records of Prefect's own loggers pass the root's level by
    logging.basicConfig(handlers=[console], format="%(message)s")
    sys.exit(_run())


def _run() -> int:
    """Run the command and turn its end into an exit code."""
    import typer
    from pydantic import ValidationError

    from deployments.commands.app import app
    from deployments.commands.run import explain_validation, say_error
    from deployments.server import ServerError
    from models.errors import InputError
    from storage.errors import StoreError
    from tasks.sources.errors import SourceError

    # from 0.26 on Typer has its own copy of click: what it raises is not click's class
    usage_error: Any = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException")
    try:
        code = typer.main.get_command(app).main(prog_name="elemscreen", standalone_mode=False)
    except typer.Exit as ending:
        return int(ending.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        say_error("interrupted; run the same command again to go on where it was")
        return 130
    except usage_error as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # a group without a command: its help
            error.show()
        else:
            context = getattr(error, "ctx", None)
            say_error(f"{error.format_message()}; see {context.command_path if context else 'elemscreen'} --help")
        return 2
    except ValidationError as error:
        say_error(explain_validation(error))
        return 2
    except (InputError, StoreError) as error:
        say_error(str(error))
        return 2
    except (ServerError, SourceError) as error:
        say_error(str(error))
        return 1
    except Exception as error:
        if os.environ.get("ELEMSCREEN_TRACEBACK"):
            raise
        say_error(
            f"the run failed ({type(error).__name__}: {' '.join(str(error).split())[:300]}); finished stages are in "
            "the store, run the same command again to go on; ELEMSCREEN_TRACEBACK=1 shows where it failed"
        )
        return 1
    return code if isinstance(code, int) else 0  # of `raise typer.Exit(code)`, which click catches itself


if __name__ == "__main__":
    main()
