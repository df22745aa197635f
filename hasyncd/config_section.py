"""What every table of the configuration is: frozen, strict, and without keys that are not known."""

from __future__ import annotations

from typing import Annotated, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer

from hasyncd import addresses
from hasyncd.config_values import read_address, read_name

AsText = PlainSerializer(str, return_type=str)
Name = Annotated[str, BeforeValidator(read_name)]
Address = Annotated[addresses.Address, BeforeValidator(read_address), AsText]
Item = TypeVar("Item")
# TOML has arrays where settings have tuples; their elements stay strict. The limits, here and in config.py, are
# those of hasyncd/native/core/limits.h.
Several = Annotated[tuple[Item, ...], Field(strict=False, max_length=64)]
Some = Annotated[tuple[Item, ...], Field(strict=False, min_length=1, max_length=64)]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, validate_default=False)
