# SPDX-License-Identifier: Apache-2.0
"""What kind of cryptographic file is it? Told by its first 4 KiB; a name is only a hint.

`file_type` is the seeds' four words, which users' scripts compare with; `kind` is the finer word beside it.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

FileType = Literal["certificate", "private_key", "keystore", "unknown"]
HEAD_BYTES = 4096


class FileKind(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A kind of file.

    Attributes:
        file_type: one of four words.
        kind: the finer word, for example `pkcs8-encrypted`; None where nothing was recognised.
    """

    file_type: FileType
    kind: str | None = None
