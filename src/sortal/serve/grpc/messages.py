"""The messages of our services, in a pool of descriptors of their own.

Every program that speaks the Open Inference Protocol has messages called `inference.ModelInferRequest`; in the pool
that all generated code shares there may be only one. With a pool of our own a process may have `tritonclient` too.
`descriptors.binpb` is written by `tools/protocols.sh` from the .proto files beside it.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.json_format import ParseDict
from google.protobuf.message import DecodeError

from sortal.core.errors import InputError

INFERENCE = "inference"
CLASSIFIER = "sortal.v1"


@cache
def message_class(name: str) -> Any:
    """The class of a message, by its full name."""
    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(name))


def parsed(kind: Any, data: bytes) -> Any:
    """A message of the class `kind`. Raises InputError."""
    try:
        return kind.FromString(data)
    except DecodeError as error:
        raise InputError(f"this is no {kind.DESCRIPTOR.name}", received=f"{len(data)} bytes") from error


def built(name: str, values: dict[str, Any]) -> Any:
    """A message out of plain values; those that it has no field for are left out."""
    return ParseDict(values, message_class(name)(), ignore_unknown_fields=True)


@cache
def _pool() -> Any:
    found = descriptor_pb2.FileDescriptorSet.FromString(
        files(__package__).joinpath("protos", "descriptors.binpb").read_bytes()
    )
    pool = descriptor_pool.DescriptorPool()
    for file in found.file:
        pool.Add(file)
    return pool
