"""How pydantic's findings are told: the key as it stands in the file, and a message that completes the sentence."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from hasyncd.config_values import show

Models = Mapping[str, type[BaseModel]]
"""What stands under a name, wherever that name stands; "" is the whole file."""


def _key(place: tuple[int | str, ...]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")


def _known_keys(place: tuple[int | str, ...], models: Models) -> list[str]:
    """The keys that are known where an unknown one stands."""
    model = models[""]
    for part in place[:-1]:
        model = models.get(part, model) if isinstance(part, str) else model
    return [field.alias or name for name, field in model.model_fields.items()]


def is_echo(detail: Mapping[str, Any]) -> bool:
    """Whether a finding only repeats others: an array is "too short" for its elements that were bad."""
    return bool(detail["type"] == "too_short" and detail["input"])


def describe(detail: Mapping[str, Any], models: Models) -> tuple[str, str]:
    """One finding as (key, message)."""
    place: tuple[int | str, ...] = detail["loc"]
    key, context, value = _key(place), detail.get("ctx", {}), detail.get("input")
    match detail["type"]:
        case "missing":
            message = "is missing: at least one [[vip]] is needed" if place == ("vip",) else "is missing"
        case "extra_forbidden":
            close = difflib.get_close_matches(str(place[-1]), _known_keys(place, models), n=1)
            message = "is not a known key" + (f"; did you mean {close[0]!r}?" if close else "")
        case "value_error":
            message = str(context["error"])
        case "literal_error":
            message = f"must be {context['expected']}, not {show(value)}"
        case "int_type":
            message = f"must be a whole number, not {show(value)}"
        case "bool_type":
            message = f"must be true or false, not {show(value)}"
        case "greater_than_equal":
            message = f"must be at least {context['ge']}, not {show(value)}"
        case "less_than_equal":
            message = f"must be at most {context['le']}, not {show(value)}"
        case "too_short":
            message = "must not be empty"
        case "too_long":
            message = f"must not have more than {context['max_length']} elements"
        case "tuple_type":
            tables = place in (
                ("vip",),
                ("track",),
                ("nat",),
                ("forward",),
                ("one_to_one",),
                ("pass",),
                ("service",),
            )
            wanted = f"an array of tables ([[{key}]])" if tables else "an array"
            message = f"must be {wanted}, not {show(value)}"
        case "model_type" | "model_attributes_type" | "dict_type":
            message = f"must be a table, not {show(value)}"
        case _:
            message = detail["msg"][:1].lower() + detail["msg"][1:]
    return key, message
