"""The media type of an artifact: what the author said, or what its name says."""

from __future__ import annotations

import mimetypes
import re

from flowq.errors import InvalidValue

DEFAULT_CONTENT_TYPE = "application/octet-stream"
# A header value: anything looser would let a name from outside write headers.
_CONTENT_TYPE = re.compile(r'[\w.+\-]{1,60}/[\w.+\-]{1,60}(; ?[\w\-]{1,30}=["\w.+\-]{1,60})*', re.ASCII)
# Without the host's own files, so that every worker says the same of one name.
_known = mimetypes.MimeTypes(filenames=())
for _suffix, _type in {
    ".vtt": "text/vtt", ".srt": "application/x-subrip", ".mkv": "video/x-matroska", ".m4a": "audio/mp4", ".opus": "audio/ogg",
    ".flac": "audio/flac", ".webp": "image/webp", ".md": "text/markdown", ".jsonl": "application/jsonl",
    ".parquet": "application/vnd.apache.parquet",
}.items():  # fmt: skip
    _known.add_type(_type, _suffix)


def content_type_of(name: str, said: str | None) -> str:
    """The media type to store: `said`, checked, or the one that goes with the name's suffix.

    Raises:
        InvalidValue: `said` is no media type.
    """
    if said is None:
        guessed, encoding = _known.guess_type(name)
        return guessed if guessed and not encoding else DEFAULT_CONTENT_TYPE
    if not _CONTENT_TYPE.fullmatch(said):
        raise InvalidValue("content_type", said, "a media type such as 'video/mp4'")
    return said
