"""The fields of a protobuf message (https://protobuf.dev/programming-guides/encoding)."""

from __future__ import annotations

__all__ = ["as_bytes", "as_integer", "as_text", "fields", "message_field", "packed_integers"]


def fields(message: bytes) -> list[tuple[int, int | bytes]]:
    """Number and content of each field: whole numbers as they are stored, strings and messages as bytes.

    Numbers of a fixed size are passed over. Raises ValueError where it is no message.
    """
    found: list[tuple[int, int | bytes]] = []
    at, end = 0, len(message)
    while at < end:
        tag, at = _varint(message, at)
        wire_type = tag & 7
        if wire_type == 2:
            length, start = _varint(message, at)
            at = start + length
            found.append((tag >> 3, message[start:at]))
        elif wire_type == 0:
            value, at = _varint(message, at)
            found.append((tag >> 3, value))
        elif wire_type in (1, 5):
            at += 8 if wire_type == 1 else 4
        else:
            raise ValueError(f"wire type {wire_type} is not one of protobuf's")
        if at > end:
            raise ValueError("a field ends after its message")
    return found


def message_field(number: int, content: bytes) -> bytes:
    """A field that holds a string or a message."""
    return _varint_bytes(number << 3 | 2) + _varint_bytes(len(content)) + content


def as_bytes(content: int | bytes) -> bytes:
    """What a string or message holds. Raises ValueError for a number."""
    if isinstance(content, int):
        raise ValueError("there is a number where a string or a message belongs")
    return content


def as_text(content: int | bytes) -> str:
    """A string. Raises ValueError where it is none, or no UTF-8."""
    return as_bytes(content).decode("utf-8")


def as_integer(content: int | bytes) -> int:
    """A number of 64 bits as int64 has it. Raises ValueError where it is none."""
    if not isinstance(content, int):
        raise ValueError("there is a string where a number belongs")
    value = content & ((1 << 64) - 1)
    return value - (1 << 64) if value >> 63 else value


def packed_integers(content: int | bytes) -> list[int]:
    """Repeated numbers, which lie side by side in one field, or the single one of a field."""
    if isinstance(content, int):
        return [as_integer(content)]
    values, at = [], 0
    while at < len(content):
        value, at = _varint(content, at)
        values.append(as_integer(value))
    return values


def _varint_bytes(value: int) -> bytes:
    """A number of seven bits per byte, lowest first."""
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*written, value])


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """A number of seven bits per byte, lowest first, and the place after it."""
    if at < len(message) and message[at] < 0x80:  # most of them, and worth the line
        return message[at], at + 1
    value = shift = 0
    for byte in message[at : at + 10]:
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError("a number is cut off or longer than ten bytes")
