"""deploy/configuration.md: every key of the configuration, from the models that read it."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Le, MaxLen, MinLen
from pydantic import BaseModel, BeforeValidator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from hasyncd.config import Settings
from hasyncd.config_section import Unit

HEAD = """\
# Configuration

Every key, from the models that read the file: `python3 -m deploy.reference` writes this page. One TOML file a node;
`hasyncd check FILE` names every error as `FILE: key.path: message`. [hasyncd.example.toml](hasyncd.example.toml) is a
whole one with its reasons. A key that is not known is an error. What is not marked *required* may be left out.
"""
UNITS = {"_ms": "ms", "_s": "s", "_bytes": "bytes"}
READERS = {
    "read_absolute_path": "absolute path",
    "read_address": "address",
    "read_device_name": "interface name",
    "read_endpoint": "address:port",
    "read_interface": "address/prefix",
    "read_interface_choice": "interface name or address/prefix",
    "read_ipv4_address": "IPv4 address",
    "read_ipv4_endpoint": "IPv4 address:port",
    "read_ipv4_network": "IPv4 network",
    "read_ipv6_network": "IPv6 network",
    "read_listener": "address:port",
    "read_name": "name",
    "read_network": "network",
    "read_port_range": "port or range",
    "read_socket_path": "absolute path",
    "read_statuses": "status or range",
    "read_url": "URL",
}
WORDS = {bool: "true, false", int: "whole number", float: "number", str: "string", Path: "path"}
WORDS[dict[str, str]] = "table of strings"


@dataclass(frozen=True)
class Key:
    """One row of the reference."""

    name: str
    type: str
    default: str
    unit: str
    meaning: str


def text() -> str:
    """The whole page."""
    parts = [HEAD]
    for name, field in Settings.model_fields.items():
        model, is_array = table_of(field)
        if model is not None:
            key = field.alias or name
            parts += section(key, f"[[{key}]]" if is_array else f"[{key}]", model, field.is_required())
    return "\n".join(parts)


def section(path: str, title: str, model: type[BaseModel], required: bool) -> Iterator[str]:
    """A table's heading and keys, then those of the tables inside of it."""
    level = "##" if title.startswith("[") else "###"
    yield f"{level} `{title}`{' (required)' if required else ''}\n"
    if said := inspect.cleandoc(model.__dict__.get("__doc__") or ""):
        yield " ".join(said.split()) + "\n"
    yield "| key | type | default | unit | meaning |\n|---|---|---|---|---|"
    for key in keys(model):
        yield f"| `{key.name}` | {key.type} | {key.default} | {key.unit} | {key.meaning} |"
    yield ""
    for name, field in model.model_fields.items():
        inner, is_array = table_of(field)
        if inner is not None:
            inner_path = f"{path}.{name}"
            yield from section(
                inner_path,
                f"{inner_path} = [{{ … }}]" if is_array else f"{inner_path} = {{ … }}",
                inner,
                False,
            )


def keys(model: type[BaseModel]) -> Iterator[Key]:
    """The rows of one table."""
    for name, field in model.model_fields.items():
        meaning = " ".join((field.description or "").split()).replace("|", "\\|")
        yield Key(field.alias or name, type_of(field), default_of(field), unit_of(name, field), meaning)


def table_of(field: FieldInfo) -> tuple[type[BaseModel] | None, bool]:
    """The model of a key that is a table, and whether it is an array of them."""
    return _model_in(field.annotation, False)


def _model_in(annotation: Any, in_array: bool) -> tuple[type[BaseModel] | None, bool]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, in_array
    is_array = typing.get_origin(annotation) is tuple
    for argument in typing.get_args(annotation):
        model, array = _model_in(argument, in_array or is_array)
        if model is not None:
            return model, array
    return None, False


def unit_of(name: str, field: FieldInfo) -> str:
    """By the key's own end, or as the model says."""
    said = [item.name for item in field.metadata if isinstance(item, Unit)]
    return next((unit for end, unit in UNITS.items() if name.endswith(end)), said[0] if said else "")


def default_of(field: FieldInfo) -> str:
    if field.default_factory is not None:
        return "(see there)"
    if field.default is PydanticUndefined:
        # The socket's path is filled in from the node's name before the models see it.
        return "(see there)" if "Default:" in (field.description or "") else "*required*"
    return _shown(field.default)


def _shown(value: Any) -> str:
    match value:
        case None | ():
            return ""
        case bool():
            return f"`{str(value).lower()}`"
        case int() | float():
            return f"`{value}`"
        case tuple() if not hasattr(value, "_fields"):
            return "`[" + ", ".join(f'"{item}"' for item in value) + "]`"
        case BaseModel():
            return ""
        case _:
            return f'`"{value}"`'


def type_of(field: FieldInfo) -> str:
    return _type(field.annotation, field.metadata)


def _type(annotation: Any, metadata: list[Any] | tuple[Any, ...]) -> str:
    arguments = typing.get_args(annotation)
    origin = typing.get_origin(annotation)
    if origin is Annotated:
        return _type(arguments[0], [*arguments[1:], *metadata])
    for item in metadata:
        if isinstance(item, BeforeValidator) and item.func.__name__ in READERS:
            return READERS[item.func.__name__]
    if origin in (typing.Union, types.UnionType):
        return ", ".join(
            _type(argument, metadata) for argument in arguments if argument is not types.NoneType
        )
    limits = _limits(metadata)
    if origin is tuple:
        inner = _type(arguments[0], ())
        return f"{limits.most} {inner}s" if inner == "table" else f"array of {limits.most}: {inner}"
    if origin is Literal:
        return ", ".join(f'`"{choice}"`' for choice in arguments)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "table"
    return f"{WORDS[annotation]}{limits.range}"


@dataclass
class Limits:
    low: Any = None
    high: Any = None
    fewest: int = 0
    greatest: int | None = None

    @property
    def range(self) -> str:
        return "" if self.low is None else f", {self.low} … {self.high}"

    @property
    def most(self) -> str:
        return f"{self.fewest} … {self.greatest}"


def _limits(metadata: list[Any] | tuple[Any, ...]) -> Limits:
    found = Limits()
    flat = [
        part for item in metadata for part in ([*item.metadata] if isinstance(item, FieldInfo) else [item])
    ]
    for item in flat:
        match item:
            case Ge():
                found.low = item.ge
            case Le():
                found.high = item.le
            case MinLen():
                found.fewest = item.min_length
            case MaxLen():
                found.greatest = item.max_length
    return found
