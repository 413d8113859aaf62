"""Written by the registry: models, their versions, and the bytes that were uploaded to us."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    Computed,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    String,
    UniqueConstraint,
    func,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TEXT, TSVECTOR
from sqlalchemy.orm import Mapped, mapped_column

from shared.schema.base import Base, Stamped, dns_label

# Words are what stands between signs: `churn-2024` is found by either part.
_WORDS = (
    "to_tsvector('simple'::regconfig,"
    " regexp_replace(name || ' ' || framework || ' ' || description, '[^[:alnum:]]+', ' ', 'g'))"
    " || array_to_tsvector(tags)"
)


class Model(Stamped, Base):
    """`latest` is the highest version number ever given; numbers are never used again. Tags are in lower case."""

    __tablename__ = "models"
    __table_args__ = (
        dns_label("name", longest=63),
        CheckConstraint("latest >= 0", name="latest_not_negative"),
        UniqueConstraint("group_id", "name"),
        Index(None, "updated_at", "id"),
        # The newest of a group, of a person, of a framework, without sorting all that they have.
        Index(None, "group_id", "updated_at", "id"),
        Index(None, "created_by", "updated_at", "id"),
        Index(None, "framework", "updated_at", "id"),
        Index("ix_models_tags", "tags", postgresql_using="gin"),
        Index("ix_models_search", "search", postgresql_using="gin"),
        Index(None, "created_by", "group_id", "name"),
        Index(None, "framework", "group_id", "name"),
    )

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    group_id: Mapped[str] = mapped_column(ForeignKey("groups.id"))
    name: Mapped[str] = mapped_column(String(63))
    framework: Mapped[str] = mapped_column(String(63), default="")
    description: Mapped[str] = mapped_column(default="")
    tags: Mapped[list[str]] = mapped_column(ARRAY(TEXT), default=list)
    latest: Mapped[int] = mapped_column(default=0)
    created_by: Mapped[str] = mapped_column(String(63))
    version: Mapped[int] = mapped_column(default=1)
    search: Mapped[Any] = mapped_column(TSVECTOR, Computed(_WORDS, persisted=True), deferred=True)


class ModelVersion(Base):
    """`artifact` is one URI or an object of them; `digest` the sha-256 of what was uploaded, None for other schemes.

    `digests` names every blob that the artifact consists of: what may not be removed, and who may read it.
    """

    __tablename__ = "model_versions"
    __table_args__ = (
        CheckConstraint("number >= 1", name="number_from_one"),
        CheckConstraint("size >= 0", name="size_not_negative"),
        UniqueConstraint("model_id", "run"),
        Index(None, "digest"),
        Index("ix_model_versions_digests", "digests", postgresql_using="gin"),
    )

    model_id: Mapped[int] = mapped_column(ForeignKey("models.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    artifact: Mapped[Any] = mapped_column(JSONB)
    framework: Mapped[str] = mapped_column(String(63), default="")
    metrics: Mapped[Any] = mapped_column(JSONB(none_as_null=True), nullable=True)
    parameters: Mapped[dict[str, Any]] = mapped_column(default=dict)
    description: Mapped[str] = mapped_column(default="")
    digest: Mapped[str | None] = mapped_column(String(71))
    digests: Mapped[list[str]] = mapped_column(ARRAY(TEXT), default=list)
    size: Mapped[int | None]
    run: Mapped[str | None] = mapped_column(String(200))
    created_by: Mapped[str] = mapped_column(String(63))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class ModelAlias(Base):
    __tablename__ = "model_aliases"
    __table_args__ = (
        dns_label("alias", longest=63),
        ForeignKeyConstraint(
            ["model_id", "number"], ["model_versions.model_id", "model_versions.number"], ondelete="CASCADE"
        ),
    )

    model_id: Mapped[int] = mapped_column(primary_key=True)
    alias: Mapped[str] = mapped_column(String(63), primary_key=True)
    number: Mapped[int]


class ModelCurve(Base):
    """A training curve, `[[step, value], …]`, apart from the version so that lists never read it."""

    __tablename__ = "model_curves"
    __table_args__ = (
        ForeignKeyConstraint(
            ["model_id", "number"], ["model_versions.model_id", "model_versions.number"], ondelete="CASCADE"
        ),
    )

    model_id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(100), primary_key=True)
    points: Mapped[list[Any]] = mapped_column(JSONB)


class Blob(Base):
    """Bytes that were uploaded to us, kept once by their content. `digest` is `sha256:<64 hex>`; `example` the body of
    one request that the model in them takes, if they hold one. The gateway reads it. `blake3` is
    their BLAKE3 in hex: it tells as surely whether they are those that were uploaded, in a third of the time. None:
    they came before it was noted.

    `place` is the name that the bytes have in the storage, used once and never for others, so that whoever removes them
    cannot hit the same bytes that come anew; None when they were found damaged, until they are uploaded again.
    """

    __tablename__ = "blobs"
    __table_args__ = (
        CheckConstraint("digest ~ '^sha256:[0-9a-f]{64}$'", name="digest_sha256"),
        CheckConstraint("size >= 0", name="size_not_negative"),
    )

    digest: Mapped[str] = mapped_column(String(71), primary_key=True)
    size: Mapped[int]
    blake3: Mapped[str | None] = mapped_column(String(64))
    place: Mapped[str | None] = mapped_column(String(200))
    example: Mapped[dict[str, Any] | None]
    created_by: Mapped[str] = mapped_column(String(63))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class BlobUpload(Base):
    """Who has shown us the bytes, and so may name them: knowing a digest alone opens nothing."""

    __tablename__ = "blob_uploads"

    digest: Mapped[str] = mapped_column(ForeignKey("blobs.digest", ondelete="CASCADE"), primary_key=True)
    user_id: Mapped[str] = mapped_column(String(63), primary_key=True)
    at: Mapped[datetime] = mapped_column(server_default=func.now())


class Upload(Base):
    """A resumable upload on its way, or done: `stored` is then the digest of what it became. How far it has come is the
    length of its file. `size` and `digest` are what its user has announced."""

    __tablename__ = "uploads"
    __table_args__ = (CheckConstraint("size >= 0", name="size_not_negative"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[str] = mapped_column(String(63))
    size: Mapped[int | None]
    digest: Mapped[str | None] = mapped_column(String(71))
    stored: Mapped[str | None] = mapped_column(String(71))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    touched_at: Mapped[datetime] = mapped_column(server_default=func.now())
