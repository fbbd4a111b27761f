"""The one exception for a user's mistake; everything else that is raised is a fault of ours."""

import shutil
import sys
import textwrap
from collections.abc import Iterable
from difflib import get_close_matches


class ConfigError(ValueError):
    """A mistake in the user's input: printed as one line, exit code 2, no traceback."""


class EngineFailed(ConfigError):
    """An engine's server failed for good: one line too, and the same command goes on from there."""


def must_be(
    key: str, wanted: str, got: object, choices: Iterable[str] = (), near: Iterable[str] = ()
) -> ConfigError:
    """``key must be wanted, got 'got'``, what may have been meant, the valid choices, on one line.

    ``near``: what may have been meant; none: the nearest choice, where there is a near one.
    """
    valid = sorted(choices)
    line = f"{key} must be {wanted}, got {got!r}"
    if meant := list(near) or get_close_matches(str(got), valid, n=1):
        line += f"; did you mean {' or '.join(map(repr, meant))}?"
    if valid:
        line += f" (choices: {', '.join(valid)})"
    return ConfigError(line)


def tell(error: object) -> None:
    """``error: ...`` on stderr: one line, which a terminal gets broken between words."""
    line = f"error: {error}"
    if sys.stderr.isatty():
        width = shutil.get_terminal_size().columns
        line = textwrap.fill(
            line, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
        )
    print(line, file=sys.stderr)
