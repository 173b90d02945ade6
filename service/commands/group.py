"""The command group: every failure is one line on stderr and an exit code, never a traceback.

Exit codes: 0 done; 1 something failed; 2 what was given is wrong; 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from service.commands.console import complain

FAILED, WRONG, INTERRUPTED = 1, 2, 130
TRACEBACK = "ONNX_EXPLAIN_TRACEBACK"  # set to anything: unexpected errors keep their traceback

_WRONG_CODES = ("INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION", "OUT_OF_RANGE", "UNIMPLEMENTED")


class Command(TyperCommand):
    """A command whose help shows no type beside flags."""

    def get_params(self, ctx: Any) -> Any:
        """All, also ``--help``."""
        return _bare_flags(super().get_params(ctx))


class Commands(TyperGroup):
    """A group whose commands may raise."""

    def get_params(self, ctx: Any) -> Any:
        """All, also ``--help``."""
        return _bare_flags(super().get_params(ctx))

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run, and leave with an exit code."""
        given = (args, prog_name, complete_var, False, windows_expand_args)
        if not standalone_mode:
            return super().main(*given, **extra)
        try:
            code = super().main(*given, **extra)
        except KeyboardInterrupt:
            code = INTERRUPTED
        except Exception as error:
            code = told(error)
        sys.exit(code if isinstance(code, int) else 0)


def _bare_flags(params: Any) -> Any:
    for one in params:
        if getattr(one, "is_flag", False):
            one.metavar = ""
    return params


def told(error: Exception) -> int:
    """Print ``error`` as one line; its exit code."""
    if isinstance(error, typer.Abort):
        return INTERRUPTED
    if isinstance(error, typer.TyperException):
        context = getattr(error, "ctx", None)
        hint = f" ({context.command_path} --help tells more)" if context is not None else ""
        complain(_plain(error.format_message()) + hint)
        return error.exit_code
    message, code = _reading(error)
    complain(message)
    return code


def _plain(message: str) -> str:
    """``message`` without the validator's own words."""
    for theirs, ours in ((": Value error, ", ": "), (": Input should be ", ": it must be ")):
        message = message.replace(theirs, ours, 1)
    return message.rstrip(".")


def _reading(error: Exception) -> tuple[str, int]:
    from graph_tools import errors

    late = (errors.Busy, errors.DeadlinePassed, errors.Cancelled)
    if isinstance(error, errors.ExplainError):
        return str(error), FAILED if isinstance(error, late) else WRONG
    remote = sys.modules.get("service.client.errors")  # loaded where a server was asked
    if remote is not None and isinstance(error, remote.ServiceError):
        return error.message, WRONG if error.code in _WRONG_CODES else FAILED
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or error}", FAILED
    if isinstance(error, MemoryError):
        return "out of memory; give fewer inputs or targets at a time", FAILED
    if os.environ.get(TRACEBACK):
        raise error
    kind = type(error).__name__
    return f"unexpected {kind}: {error}. This is a bug; {TRACEBACK}=1 shows where it happened", FAILED
