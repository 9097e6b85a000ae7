"""The state of an exploration in a short string: compressed JSON, parsed and never evaluated."""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nlmewidgets import datasets
from nlmewidgets.core.data import Data
from nlmewidgets.core.errors import DataError, NlmeError
from nlmewidgets.core.exclusions import replay, steps
from nlmewidgets.fit.store import to_json

__all__ = ["data_from_source", "decode", "encode", "source_of"]

_BEGIN = "nlme1."
"""What a link begins with: the kind of string, and the version of its contents."""

_LONGEST, _LARGEST = 200_000, 4_000_000
"""Characters of a link, and bytes it may unpack to: a small string must not fill the memory."""


def encode(document: Mapping[str, Any]) -> str:
    """Return the document as a string of letters, digits, '-', '_' and one point: safe in a URL and in a chat.

    Examples
    --------
    >>> decode(encode({"ka": 1.5}))
    {'ka': 1.5}
    """
    flat = json.dumps(json.loads(to_json(document)), separators=(",", ":"), ensure_ascii=False)
    packed = zlib.compress(flat.encode("utf-8"), 9)
    return _BEGIN + base64.urlsafe_b64encode(packed).decode("ascii").rstrip("=")


def decode(link: str) -> dict[str, Any]:
    """Return the document of `encode`; line breaks and spaces that came in on the way do no harm.

    Raises
    ------
    NlmeError
        If the string is no link, too long, or damaged.
    """
    if not isinstance(link, str) or not link.strip().startswith(_BEGIN):
        raise NlmeError(f"This is not a link of an exploration; such a link begins with '{_BEGIN}' (explorer.link()).")
    body = "".join(link.split()).removeprefix(_BEGIN)
    if len(body) > _LONGEST:
        raise NlmeError(
            f"The link has {len(body)} characters, more than {_LONGEST}: explorer.link() makes none so long."
        )
    damaged = "The link is damaged: copy all of it, from 'nlme1.' to its last letter."
    try:
        packed = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
        unpacking = zlib.decompressobj()
        flat = unpacking.decompress(packed, _LARGEST)
        if not unpacking.eof:
            raise NlmeError("The link unpacks to more than it should, or its end is missing: copy all of it.")
        document = json.loads(flat.decode("utf-8"))
    except (binascii.Error, zlib.error, ValueError, RecursionError) as error:
        if isinstance(error, NlmeError):
            raise
        raise NlmeError(damaged) from None
    if not isinstance(document, dict):
        raise NlmeError(damaged)
    return document


# ---------------------------------------------------------------------------- data


def source_of(data: Data) -> dict[str, Any] | None:
    """Return where the data are and what is left out of them; None where they came from a table in memory."""
    kind = data.origin.get("kind")
    if kind == "dataset":
        where = {"dataset": data.origin["name"]}
    elif kind == "csv":
        where = {"csv": str(data.origin["path"]), "options": dict(data.origin.get("options", {}))}
    else:
        return None
    return where | {"left_out": steps(data), "sha256": data.fingerprint}


def data_from_source(source: Any) -> tuple[Data, str]:
    """Return the data of `source_of`, and a sentence if they are not what they were.

    Raises
    ------
    DataError
        If they are not there.
    """
    if not isinstance(source, Mapping):
        raise DataError("The link holds no data, for they came from a table in memory; give them: nw.open(link, data).")
    if "dataset" in source:
        data = datasets.load(str(source["dataset"]))
    else:
        path = str(source.get("csv", ""))
        # A path to another computer is not for a string from elsewhere to open.
        if path.startswith(("//", "\\\\")) or "://" in path or not Path(path).is_file():
            raise DataError(f"The data of the link, '{path}', are not here; give them: nw.open(link, data).")
        options = source.get("options") or {}
        data = Data.read_csv(path, **{str(k): v for k, v in options.items() if k != "content"})
    data = replay(data, source.get("left_out") or ())
    same = source.get("sha256") in (None, data.fingerprint)
    return data, "" if same else "The data are not those of the link: they have changed since."
