"""What an artifact's addresses stand for: that it is there, that the caller may name it, its digest and size."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncSession

from services.registry.artifacts import queries
from services.registry.artifacts.domain import (
    Address,
    Artifact,
    Elsewhere,
    OnServer,
    Unknown,
    Uploaded,
    addresses,
    parse_address,
)
from services.registry.artifacts.guarded import Networks
from services.registry.errors import UnsupportedScheme
from shared.errors import FieldProblem, ValidationFailed
from shared.http import Caller


class FileFolders:
    """The folders of this server that file:// artifacts may lie in."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = tuple(folders)

    def __bool__(self) -> bool:
        return bool(self._folders)

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
class Sources:
    """Where the artifacts of this installation may lie, apart from uploads: in folders of the server, below prefixes
    such as `s3://models/`, and of http(s) on `networks`."""

    folders: FileFolders
    prefixes: tuple[str, ...]
    networks: Networks

    @property
    def supported(self) -> list[str]:
        """What addresses may begin with."""
        return sorted(["registry://", *self.prefixes, *(["file://"] if self.folders else [])])

    def refusal(self, address: Address) -> str | None:
        """Why no artifact may lie there."""
        match address:
            case Uploaded():
                return None
            case OnServer():
                allowed = bool(self.folders)
            case Elsewhere(uri=uri, host=host):
                if host and self.networks.refuse_literal(host):
                    return "leads to a private address"
                allowed = uri.startswith(self.prefixes)
            case Unknown():
                allowed = False
        return None if allowed else f"is not supported here; supported are: {', '.join(self.supported)}"


@dataclass(frozen=True)
class Resolved:
    """`digest` of an artifact that is one upload; `digests` of all uploads that it consists of; `size` if known."""

    digest: str | None
    digests: tuple[str, ...]
    size: int | None


async def resolve(session: AsyncSession, artifact: Artifact, *, caller: Caller, sources: Sources) -> Resolved:
    """Raises ValidationFailed, or UnsupportedScheme with what is supported."""
    parsed = _parse(artifact, sources)
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
                found = await sources.folders.locate(path)
                if found is None:
                    problems.append(FieldProblem(pointer, "is not within a folder that this installation allows"))
                else:
                    sizes.append(await sources.folders.size(found))
            case _:
                sizes.append(None)
    if problems:
        raise ValidationFailed(problems)
    only = next(iter(parsed.values())) if isinstance(artifact, str) else None
    return Resolved(
        digest=only.digest if isinstance(only, Uploaded) else None,
        digests=tuple(sorted(uploads)),
        size=None if None in sizes else sum(size or 0 for size in sizes),
    )


def _parse(artifact: Artifact, sources: Sources) -> dict[str, Address]:
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
        if why := sources.refusal(address):
            refused.append(FieldProblem(pointer, why))
        parsed[pointer] = address
    if problems:
        raise ValidationFailed(problems)
    if refused:
        raise UnsupportedScheme(refused, supported=sources.supported)
    return parsed
