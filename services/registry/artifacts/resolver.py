"""What an artifact's addresses stand for: that it is there, that the caller may name it, its digest and size."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncSession

from services.registry.artifacts import queries
from services.registry.artifacts.domain import (
    SCHEMES,
    Address,
    Artifact,
    OnServer,
    Uploaded,
    addresses,
    parse_address,
)
from services.registry.errors import UnsupportedScheme
from shared.errors import FieldProblem, ValidationFailed
from shared.http import Caller


class FileFolders:
    """The folders of this server that file:// artifacts may lie in."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = tuple(folders)

    @property
    def schemes(self) -> tuple[str, ...]:
        """What addresses this installation supports."""
        return ("file", "registry") if self._folders else ("registry",)

    async def locate(self, path: str) -> Path | None:
        """The real path, if it is there and within an allowed folder, links followed."""
        return await asyncio.to_thread(self._locate, path)

    async def size(self, path: Path) -> int | None:
        """Of a file; None of a folder."""
        return await asyncio.to_thread(lambda: path.stat().st_size if path.is_file() else None)

    def _locate(self, path: str) -> Path | None:
        try:
            real = Path(path).resolve(strict=True)
            allowed = any(real.is_relative_to(folder.resolve()) for folder in self._folders)
        except (OSError, RuntimeError, ValueError):  # absent, too long, a loop of links
            return None
        return real if allowed and (real.is_file() or real.is_dir()) else None


@dataclass(frozen=True)
class Resolved:
    """`digest` of an artifact that is one upload; `digests` of all uploads that it consists of; `size` if known."""

    digest: str | None
    digests: tuple[str, ...]
    size: int | None


async def resolve(session: AsyncSession, artifact: Artifact, *, caller: Caller, folders: FileFolders) -> Resolved:
    """Raises ValidationFailed, or UnsupportedScheme with what is supported."""
    parsed = _parse(artifact, folders)
    uploads = {address.digest for address in parsed.values() if isinstance(address, Uploaded)}
    known = await queries.hold(session, uploads, caller=caller)
    sizes: list[int | None] = []
    problems: list[FieldProblem] = []
    for pointer, address in parsed.items():
        match address:
            case Uploaded(digest=digest) if digest in known:
                sizes.append(known[digest])
            case Uploaded(digest=digest):
                problems.append(FieldProblem(pointer, f"there is no upload {digest} that you may name; upload it"))
            case OnServer(path=path):
                found = await folders.locate(path)
                if found is None:
                    problems.append(FieldProblem(pointer, "is not within a folder that this installation allows"))
                else:
                    sizes.append(await folders.size(found))
    if problems:
        raise ValidationFailed(problems)
    only = next(iter(parsed.values())) if isinstance(artifact, str) else None
    return Resolved(
        digest=only.digest if isinstance(only, Uploaded) else None,
        digests=tuple(sorted(uploads)),
        size=None if None in sizes else sum(size or 0 for size in sizes),
    )


def _parse(artifact: Artifact, folders: FileFolders) -> dict[str, Address]:
    parsed: dict[str, Address] = {}
    problems: list[FieldProblem] = []
    refused: list[FieldProblem] = []
    for below, uri in addresses(artifact).items():
        pointer = f"/artifact{below}"
        try:
            address = parse_address(uri)
        except ValueError as error:
            problems.append(FieldProblem(pointer, str(error)))
            continue
        if address.scheme not in folders.schemes:
            known = "is not configured in this installation" if address.scheme in SCHEMES else "is not known"
            message = f"the scheme {address.scheme} {known}; supported are: {', '.join(folders.schemes)}"
            refused.append(FieldProblem(pointer, message))
        parsed[pointer] = address
    if problems:
        raise ValidationFailed(problems)
    if refused:
        raise UnsupportedScheme(refused, supported=list(folders.schemes))
    return parsed
