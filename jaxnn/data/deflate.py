"""Decompression of bytes that nobody vouches for: bounded, incremental, checksums verified."""

import zlib
from collections.abc import Iterable, Iterator

from jaxnn.data.field import STEP
from jaxnn.errors import DataError

#: The formats that deflate comes in, as zlib's `wbits`: gzip has a CRC-32, zlib an Adler-32.
GZIP, ZLIB = 31, 15

#: No deflate stream expands further than this.
LARGEST_RATIO = 1032


def inflate(pieces: Iterable[bytes], size: int, wbits: int) -> Iterator[bytes]:
    """Decompress one stream of exactly `size` bytes, never more than `STEP` of them at a time.

    Raises ValueError or zlib.error for a stream that is damaged, ends early or is followed by more,
    and as soon as it has produced one byte too many.
    """
    stream = zlib.decompressobj(wbits)
    left = size
    for piece in pieces:
        ended = stream.eof
        for out in _drain(stream, piece):
            left -= len(out)
            if left < 0:
                raise ValueError(f"{size:,} bytes expected after decompression, found more")
            yield out
        if ended or stream.unused_data:
            raise ValueError("more bytes follow the end of the compressed data")
    if not stream.eof or left:
        raise ValueError(f"{size:,} bytes expected after decompression, found {size - left:,}")


def _drain(stream: "zlib._Decompress", piece: bytes) -> Iterator[bytes]:
    """All that `piece` decompresses to. Only a full output can leave something behind."""
    full = True
    while full and not stream.eof:
        out = stream.decompress(piece, STEP)
        piece, full = stream.unconsumed_tail, len(out) == STEP
        yield out


def check_ratio(where: str, claimed: int, stored: int) -> None:
    """DataError if `stored` bytes cannot hold the `claimed` ones, before any memory is taken."""
    if claimed > LARGEST_RATIO * stored:
        raise DataError(
            f"{where}: its header promises {claimed:,} bytes, more than {stored:,} stored bytes "
            "can hold: the file is damaged or cut short"
        )
