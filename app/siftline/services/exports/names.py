"""Names that are safe to unpack anywhere, made of names that strangers chose."""

import itertools
import re
import unicodedata

ENDINGS = {
    "bmp": ("bmp",),
    "gif": ("gif",),
    "jpeg": ("jpg", "jpeg"),
    "png": ("png",),
    "ppm": ("ppm", "pgm", "pbm", "pnm"),
    "tiff": ("tif", "tiff"),
    "webp": ("webp",),
}
UNSAFE = re.compile(r'[\x00-\x1f\x7f-\x9f<>:"|?*\u200e\u200f\u202a-\u202e\u2066-\u2069]')
RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?", re.IGNORECASE)  # on Windows
PART_BYTES = 150  # file systems take 255; a suffix and an ending are added
PARTS = 8


class SafeNames:
    """One name for each image of a version; asked by rank, so that each is called the same in all exports.

    Relative, `/`-separated (`flat`: no folders), at most 9 parts of 150 bytes and an ending; no two differ
    only by case; each ends as its format does, and no folder does.
    """

    def __init__(self, *, flat: bool = False) -> None:
        self._taken: set[str] = set()
        self._flat = flat

    def name(self, original: str, image_format: str, sha256: str) -> str:
        *folders, last = [part for part in map(safe_part, re.split(r"[/\\]+", original)) if part] or ["image"]
        stem, _, ending = last.rpartition(".")
        if not stem or ending.lower() not in ENDINGS[image_format]:
            stem, ending = last, ENDINGS[image_format][0]
        path = self._joined([*folders[-PARTS:], stem])
        name = f"{path}.{ending}"
        for copy in itertools.count(1):
            if name.casefold() not in self._taken:
                break
            name = f"{path}~{sha256[:16]}{f'~{copy}' if copy > 1 else ''}.{ending}"
        self._taken.add(name.casefold())
        return name

    def _joined(self, parts: list[str]) -> str:
        if self._flat:
            return _cut("__".join(parts))
        # A folder must not be called what an image could be called.
        return "/".join([*(part.replace(".", "_") for part in parts[:-1]), parts[-1]])


def safe_part(part: str) -> str:
    """A file or folder name; empty when nothing is left of it."""
    part = _cut(UNSAFE.sub("_", unicodedata.normalize("NFC", part)).strip(" ."))
    return f"_{part}" if RESERVED.fullmatch(part) else part


def _cut(part: str) -> str:
    return part.encode("utf-8", "replace")[:PART_BYTES].decode("utf-8", "ignore").rstrip(" .")
