"""Errors that only the registry raises.

ValidationFailed
├── BadArchive                an archive that could do harm, or is broken
├── DigestMismatch            the bytes that came are not the ones that were announced
├── FetchFailed               an address from which no bytes come, or that must not be gone to
└── UnsupportedScheme         an artifact's address of a kind that this installation cannot read
Conflict
├── LastManager               nobody could manage the group any more
├── ManagedElsewhere          a membership that an identity provider gives, and would give again
├── OffsetMismatch            the upload stands elsewhere than where these bytes begin
├── RunMismatch               the run has registered something else before
├── UploadBusy                another request is at this upload
└── UploadComplete            nothing can be added to an upload that is whole
"""

from shared.errors import Conflict, ValidationFailed


class BadArchive(ValidationFailed):
    code = "bad_archive"
    title = "The archive is refused"


class DigestMismatch(ValidationFailed):
    code = "digest_mismatch"
    title = "The bytes are not the ones that were announced"


class FetchFailed(ValidationFailed):
    code = "fetch_failed"
    title = "The bytes cannot be fetched"


class UnsupportedScheme(ValidationFailed):
    code = "unsupported_scheme"
    title = "Artifacts of this scheme are not supported here"


class ManagedElsewhere(Conflict):
    code = "managed_elsewhere"
    title = "This membership comes from an identity provider"


class LastManager(Conflict):
    code = "last_manager"
    title = "The group needs a manager"


class RunMismatch(Conflict):
    code = "run_mismatch"
    title = "The run has registered another version before"


class OffsetMismatch(Conflict):
    code = "offset_mismatch"
    title = "The upload stands elsewhere"


class UploadBusy(Conflict):
    code = "upload_busy"
    title = "Another request is at this upload"


class UploadComplete(Conflict):
    code = "upload_complete"
    title = "The upload is complete"
