"""Is a video's file whole? What its container says of its own length, against the bytes that are there.

In: an open file. Out: how many bytes it says that it has, if that is more than there are. MP4, MOV, Matroska and WebM
say so at their beginnings; a decoder reads what is left of a file that was cut off, and does not tell.
"""

# Boxes of MP4 and MOV: ISO/IEC 14496-12, 4.2. Elements of Matroska and WebM: RFC 8794, 4 to 6.

import io
from typing import BinaryIO

_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot")  # that a file begins with
_MAX_BOXES = 100_000


def missing_length(file: BinaryIO) -> tuple[int, int] | None:
    """How many bytes are there, and how many the container says; None where they are all there, or it does not say.

    The file is left at its beginning.
    """
    num_bytes = file.seek(0, io.SEEK_END)
    file.seek(0)
    head = file.read(8)
    if head.startswith(_EBML):
        ends_at = _end_of_segment(file, num_bytes)
    elif head[4:] in _BOXES:
        ends_at = _end_of_boxes(file, num_bytes)
    else:
        ends_at = None
    file.seek(0)
    return (num_bytes, ends_at) if ends_at is not None and ends_at > num_bytes else None


def _end_of_boxes(file: BinaryIO, num_bytes: int) -> int | None:
    """Where the last box ends."""
    position = 0
    for _ in range(_MAX_BOXES):
        if position >= num_bytes:
            return position
        file.seek(position)
        header = file.read(16)
        size = int.from_bytes(header[:4], "big")
        if size == 0:  # as far as the file goes
            return num_bytes
        if size == 1:
            size = int.from_bytes(header[8:16], "big")
        if len(header) < 8 or size < 8:
            return None  # no box: what follows the last one is nobody's
        position += size
    return None


def _end_of_segment(file: BinaryIO, num_bytes: int) -> int | None:
    """Where the segment ends, which holds all but the header."""
    file.seek(4)
    size = _read_size(file)
    if size is None or file.tell() + size > num_bytes:
        return None
    file.seek(size, io.SEEK_CUR)
    if file.read(4) != _SEGMENT:
        return None
    size = _read_size(file)
    return None if size is None else file.tell() + size


def _read_size(file: BinaryIO) -> int | None:
    """A number whose leading zeros say how many bytes it has; None where all its bits are ones: it is not known."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    num_more = 8 - first[0].bit_length()
    rest = file.read(num_more)
    value = int.from_bytes(bytes([first[0] & ((1 << (7 - num_more)) - 1)]) + rest, "big")
    is_unknown = len(rest) < num_more or value == (1 << 7 * (num_more + 1)) - 1
    return None if is_unknown else value
