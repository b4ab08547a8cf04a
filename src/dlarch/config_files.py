"""YAML files that people write: read with errors that name file and line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from dlarch.errors import DataError, OptionError


def read_mapping(path: Path, called: str, hint: str) -> dict[str, Any]:
    """The content of a YAML file whose keys are words.

    Args:
        path: of the file.
        called: what it is, such as "recipe".
        hint: how its content must look, for the error.

    Raises:
        OptionError: it is no YAML, or no mapping.
        DataError: it cannot be read.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise DataError(f"The {called} {path} is not UTF-8 (byte {error.start}).") from error
    except OSError as error:
        raise DataError(f"The {called} {path} cannot be read: {error.strerror}.") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = "" if mark is None else f", line {mark.line + 1}"
        raise OptionError(f"{path}{line} is no YAML: {error.problem or error.context}.") from error
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise OptionError(f"{path} is no YAML: {first}.") from error
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise OptionError(f"The {called} {path} {hint}")
    return values
