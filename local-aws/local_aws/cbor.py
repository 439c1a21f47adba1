"""CBOR (RFC 8949), as far as Smithy's RPC protocol needs it.

The AWS SDK for Rust uses only that protocol for CloudWatch. ministack answers it with the package cbor2, which this
module replaces.
"""
import struct
import sys
from dataclasses import dataclass

_BREAK = object()
_SIMPLE = {20: False, 21: True, 22: None, 23: None}
_FLOATS = {25: ">e", 26: ">f", 27: ">d"}
_TYPES = {0: "integer", 1: "negative", 2: "bytes", 3: "string", 4: "array", 5: "map", 6: "tag", 7: "other"}


@dataclass
class CBORTag:
    """A tagged value: a timestamp is a number with the tag 1."""

    tag: int
    value: object


def dumps(value):
    if value is None or isinstance(value, bool):
        return {False: b"\xf4", True: b"\xf5", None: b"\xf6"}[value]
    if isinstance(value, int):
        return _head(0, value) if value >= 0 else _head(1, -1 - value)
    if isinstance(value, float):
        return b"\xfb" + struct.pack(">d", value)
    if isinstance(value, (bytes, str)):
        content = value if isinstance(value, bytes) else value.encode()
        return _head(2 if content is value else 3, len(content)) + content
    return _dumps_composed(value)


def _dumps_composed(value):
    if isinstance(value, CBORTag):
        return _head(6, value.tag) + dumps(value.value)
    if isinstance(value, dict):
        return _head(5, len(value)) + b"".join(dumps(key) + dumps(item) for key, item in value.items())
    return _head(4, len(value)) + b"".join(dumps(item) for item in value)


def _head(kind, number):
    for more, size in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if number < 24:
            return bytes([kind << 5 | number])
        if number < 1 << 8 * size:
            return bytes([kind << 5 | more]) + number.to_bytes(size, "big")
    raise ValueError(f"{number} has more than 64 bits")


def loads(data):
    """The value, with timestamps as numbers."""
    return _Reader(data).value()


class _Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, size):
        self.at += size
        if self.at > len(self.data):
            raise ValueError("the CBOR data ends too early")
        return self.data[self.at - size:self.at]

    def value(self):
        first = self.take(1)[0]
        kind, number = _TYPES[first >> 5], first & 31
        if kind == "other":
            if number == 31:
                return _BREAK
            if number in _FLOATS:
                return struct.unpack(_FLOATS[number], self.take(1 << number - 24))[0]
            return _SIMPLE[number]
        if number == 31:
            return self.indefinite(kind)
        if number >= 24:
            number = int.from_bytes(self.take(1 << number - 24), "big")
        return self.definite(kind, number)

    def definite(self, kind, number):
        if kind in ("integer", "negative"):
            return number if kind == "integer" else -1 - number
        if kind in ("bytes", "string"):
            return self.take(number) if kind == "bytes" else self.take(number).decode()
        if kind == "tag":
            return self.value()
        if kind == "array":
            return [self.value() for _ in range(number)]
        return {self.value(): self.value() for _ in range(number)}

    def indefinite(self, kind):
        items = list(iter(self.value, _BREAK))
        if kind == "map":
            return dict(zip(items[::2], items[1::2], strict=True))
        return items if kind == "array" else (b"" if kind == "bytes" else "").join(items)


def install():
    sys.modules.setdefault("cbor2", sys.modules[__name__])
