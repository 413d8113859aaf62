"""Archives that are refused, and those that are not; what a replica makes of whatever is accepted; examples."""

import bz2
import gzip
import io
import json
import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from modelserver import archives as unpacking
from services.registry.artifacts.archives import Content, Limits, Refused, examine
from services.registry.artifacts.example import LIMIT
from tests.registry.world import tar

LIMITS = Limits(unpacked=1 << 20, entries=50, ratio=20, ratio_from=1 << 16)
FILES = {"a/b/model.bin": bytes(range(256)) * 9, "a/c.json": b"{}", "größe/模型.txt": b"x"}


def _member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("good"))
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, link
        archive.addfile(member)
    return packed.getvalue()


def _zip(files: dict[str, bytes], *, mode: int = 0, compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", compression) as archive:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = mode << 16
            entry.compress_type = compression
            archive.writestr(entry, data)
    return packed.getvalue()


def _zip_with_flag(flag: int) -> bytes:
    packed = bytearray(_zip({"a": b"x"}))
    at = packed.index(b"PK\x01\x02")
    packed[at + 8 : at + 10] = struct.pack("<H", flag)
    return bytes(packed)


def _flip(data: bytes, *, at: int) -> bytes:
    changed = bytearray(data)
    changed[at] ^= 255
    return bytes(changed)


def _long_header() -> bytes:
    """A pax header that says it is 20 MiB long, and is."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        header = tarfile.TarInfo("x")
        header.type, header.size = tarfile.XHDTYPE, 20 << 20
        archive.addfile(header, io.BytesIO(bytes(header.size)))
    return packed.getvalue()


def _xz(plain: bytes, *, dictionary: int) -> bytes:
    """As from xz, with a header that asks for a dictionary of this size byte (xz file format, 5.3.1: 40 is 4 GiB)."""
    packed = bytearray(lzma.compress(plain, preset=0))
    end = 12 + packed[12] * 4  # of the block's header, which its checksum follows
    packed[packed.index(b"\x21\x01", 12, end) + 2] = dictionary
    packed[end : end + 4] = struct.pack("<I", zlib.crc32(packed[12:end]))
    return bytes(packed)


GOOD = {
    **{mode: tar(FILES, mode) for mode in ("w:", "w:gz", "w:bz2", "w:xz")},
    "gnu": tar({"x" * 150 + "/model": b"1"}, "w:"),
    "zip": _zip(FILES),
    "stored": _zip(FILES, compression=zipfile.ZIP_STORED),
    "folders": _zip({"a/": b"", "a/b": b"1"}),
    "empty file": tar({"a": b""}),
    "dot": tar({"./a": b"1", "./b/./c": b"2"}),
    "xz -9": _xz(tar(FILES, "w:"), dictionary=28),
    "xz of several streams": lzma.compress(tar(FILES, "w:")[:999]) + lzma.compress(tar(FILES, "w:")[999:]),
    "xz and something": tar(FILES, "w:xz") + b"a signature that is no stream",
    "xz of whole blocks": tar({"a": bytes(range(256)) * 80, "b": b"1" * 512, "c": b"2"}, "w:xz"),
}
HUNGRY = {
    "xz": _xz(tar(FILES, "w:"), dictionary=40),
    "xz of no tar": _xz(b"pickle", dictionary=40),
    "second stream": tar(FILES, "w:xz") + _xz(b"x", dictionary=40),
    "zip of bzip2": _zip(FILES, compression=zipfile.ZIP_BZIP2),
    "zip of lzma": _zip(FILES, compression=zipfile.ZIP_LZMA),
}
PLAIN = {
    "text": b"just text",
    "zeros": bytes(5000),
    "a block of zeros": bytes(512) + b"weights",
    "gzip of zeros": gzip.compress(bytes(5000)),
    "gzip of no tar": gzip.compress(b"pickle"),
    "bz2 of no tar": bz2.compress(b"pickle"),
    "xz of no tar": lzma.compress(b"pickle"),
    "broken gzip": b"\x1f\x8b nonsense",
    "one byte": b"x",
    "zip in the end": b"#!/bin/sh\n" + _zip({"a": b"1"}),
}
BAD = {
    "up": tar({"a/../../x": b""}),
    "absolute": tar({"/etc/passwd": b""}),
    "backslash": tar({"a\\..\\..\\x": b""}),
    "control": tar({"a\nb": b""}),
    "not UTF-8": tar({"a\udcff": b""}),
    "long part": tar({"x" * 256: b""}),
    "long name": tar({"/".join(["x" * 200] * 6): b""}),
    "twice": tar({"a": b"1", "./a": b"2"}),
    "file and folder": tar({"a": b"1", "a/b": b"2"}),
    "no file": gzip.compress(_member("x", tarfile.DIRTYPE)[512:]),
    "symlink": _member("x", tarfile.SYMTYPE, "/etc/passwd"),
    "inner symlink": _member("x", tarfile.SYMTYPE, "good"),
    "hard link": _member("x", tarfile.LNKTYPE, "good"),
    "character device": _member("x", tarfile.CHRTYPE),
    "block device": _member("x", tarfile.BLKTYPE),
    "pipe": _member("x", tarfile.FIFOTYPE),
    "too many": tar({f"f{n}": b"" for n in range(51)}),
    "too large": tar({"a": bytes(range(256)) * 4200}, "w:"),
    "gzip bomb": tar({"a": bytes(1 << 19)}),
    "xz bomb": tar({"a": bytes(1 << 19)}, "w:xz"),
    "bomb behind the end": gzip.compress(tar({"a": b"1"}, "w:") + bytes(1 << 19)),
    "truncated": tar({"a": bytes(range(256)) * 900})[:-200],
    "flipped": _flip(tar({"a": b"1" * 99}), at=-6),
    "long header": gzip.compress(_long_header()),
    "zip up": _zip({"../x": b""}),
    "zip absolute": _zip({"/x": b""}),
    "zip NUL": _zip({"aXb": b""}).replace(b"aXb", b"a\0b"),
    "zip symlink": _zip({"a": b"/etc/passwd"}, mode=stat.S_IFLNK | 0o777),
    "zip device": _zip({"a": b""}, mode=stat.S_IFCHR),
    "zip twice": _zip({"a": b"1", "a/": b""}),
    "zip encrypted": _zip_with_flag(1),
    "zip bomb": _zip({"a": bytes(1 << 19)}),
    "zip too many": _zip({f"f{n}": b"" for n in range(51)}),
    "zip truncated": _zip(FILES)[:-30],
    "zip flipped": _zip({"a": b"0123456789"}, compression=zipfile.ZIP_STORED).replace(b"0123456789", b"0123x56789"),
    "zip empty": _zip({}),
    "zip of a method nobody knows": _zip({"a": b"1"}).replace(b"\x08\x00", b"\x63\x00"),
    "only magic": b"PK\x03\x04",
}


@pytest.fixture
def look(tmp_path: Path) -> Callable[[bytes], Content]:
    def examined(data: bytes) -> Content:
        path = tmp_path / "blob"
        path.write_bytes(data)
        return examine(path, LIMITS)

    return examined


@pytest.fixture
def unpacks(tmp_path: Path) -> Callable[[], bool]:
    """Whether a replica takes what was looked at for an archive, and unpacks it."""

    def unpacked() -> bool:
        (tmp_path / "out").mkdir()
        limits = {"bytes_limit": LIMITS.unpacked, "entries_limit": LIMITS.entries}
        return unpacking.unpack(tmp_path / "blob", tmp_path / "out", **limits)

    return unpacked


@pytest.mark.parametrize("name", GOOD)
def test_good_archives_are_accepted_and_can_be_unpacked(
    name: str, look: Callable[[bytes], Content], unpacks: Callable[[], bool]
) -> None:
    assert look(GOOD[name]).kind in ("tar", "zip")
    assert unpacks()


@pytest.mark.parametrize("name", HUNGRY)
def test_what_asks_for_any_amount_of_memory_is_refused(
    name: str, look: Callable[[bytes], Content], unpacks: Callable[[], bool]
) -> None:
    with pytest.raises(Refused, match=r"MiB of memory|neither stored nor deflated"):
        look(HUNGRY[name])
    if name != "second stream":  # a replica does not read beyond the tar's end
        with pytest.raises(unpacking.Refused, match=r"MiB of memory|neither stored nor deflated"):
            unpacks()


@pytest.mark.parametrize("name", PLAIN)
def test_what_is_no_archive_is_a_file_to_both_sides(
    name: str, look: Callable[[bytes], Content], unpacks: Callable[[], bool]
) -> None:
    assert look(PLAIN[name]) == Content("file")
    assert not unpacks()


@pytest.mark.parametrize("name", BAD)
def test_bad_archives_are_refused(name: str, look: Callable[[bytes], Content]) -> None:
    with pytest.raises(Refused):
        look(BAD[name])


EXAMPLE = {"text": "it's", "rows": [[1.5, -2e-9, None]], "größe": "\U0001f40b"}
TEXT = json.dumps(EXAMPLE, ensure_ascii=False, indent=1).encode()
FOUND = {
    "top": {"model.bin": bytes(700), "example.json": TEXT, "a/example.json": b"{}"},
    "dot": {"./example.json": TEXT, "./z": b"1"},
    "only folder": {"m/sub/example.json": b"{}", "m/z": b"1", "m/example.json": TEXT},
    "alone": {"example.json": TEXT},
    "a whole block": {"example.json": TEXT.ljust(512), "z": b"1"},
    "a byte less": {"example.json": TEXT.ljust(511), "z": b"1"},
    "as large as may be": {"example.json": TEXT.ljust(LIMIT)},
    "byte order mark": {"example.json": b"\xef\xbb\xbf" + TEXT},
}
IGNORED = {
    "none": {"a": b"1"},
    "below": {"m/sub/example.json": TEXT},
    "one of two folders": {"m/example.json": TEXT, "n/z": b"1"},
    "beside a file": {"m/example.json": TEXT, "z": b"1"},
    "another name": {"Example.json": TEXT},
    "a folder": {"example.json/example.txt": TEXT},
    "too large": {"example.json": TEXT.ljust(LIMIT + 1)},
    "empty": {"example.json": b""},
    "no object": {"example.json": b"[1]"},
    "no JSON": {"example.json": b"{'a': 1}"},
    "no UTF-8": {"example.json": b'{"a": "\xff"}'},
    "not finite": {"example.json": b'{"a": NaN}'},
    "infinite": {"example.json": b'{"a": 1e999}'},
    "deep": {"example.json": b'{"a": ' + b"[" * 8000 + b"]" * 8000 + b"}"},
    "NUL": {"example.json": b'{"a": "\\u0000"}'},
    "half a pair": {"example.json": b'{"a": "\\ud800"}'},
    "endless number": {"example.json": b'{"a": ' + b"9" * 5000 + b"}"},
}


@pytest.mark.parametrize("pack", [tar, _zip])
@pytest.mark.parametrize("name", FOUND)
def test_the_example_at_the_top_is_found(
    name: str, pack: Callable[[dict[str, bytes]], bytes], look: Callable[[bytes], Content]
) -> None:
    assert look(pack(FOUND[name])).example == EXAMPLE


@pytest.mark.parametrize("pack", [tar, _zip])
@pytest.mark.parametrize("name", IGNORED)
def test_any_other_example_is_ignored(
    name: str, pack: Callable[[dict[str, bytes]], bytes], look: Callable[[bytes], Content]
) -> None:
    assert look(pack(IGNORED[name])).example is None
