# SPDX-License-Identifier: Apache-2.0
"""What is a crypto library, whatever its file is called, and what does it say of its version?"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from agent.elf import read_elf
from agent.recognise import Recognised, recognise
from tests.agent.elf_files import BUILD_ID, elf_file

LIBRARIES = Path("/usr/lib") / f"{os.uname().machine}-linux-gnu"


def told(data: bytes, search_bytes_max: int = 1 << 24) -> Recognised | None:
    """What is recognised in bytes."""
    elf = read_elf(lambda offset, length: data[offset : offset + length])
    return recognise(elf, search_bytes_max) if elf is not None else None


def told_of(path: Path) -> Recognised | None:
    """What is recognised in a file."""
    return told(path.read_bytes())


@pytest.mark.parametrize(
    ("soname", "family", "name"),
    [
        ("libcrypto.so.3", "openssl", "libcrypto"),
        ("libcrypto.so.1.1", "openssl", "libcrypto"),
        ("libcrypto.so.10", "openssl", "libcrypto"),
        ("libcrypto.so.1.0.0", "openssl", "libcrypto"),
        ("libssl.so", "openssl", "libssl"),
        ("libcrypto.so.52", "libressl", "libcrypto"),
        ("libssl.so.55", "libressl", "libssl"),
        ("libtls.so.28", "libressl", "libtls"),
        ("libcrypto-3a1b2c4d.so.3", "openssl", "libcrypto"),
        ("libgnutls.so.30", "gnutls", "libgnutls"),
        ("libgnutls-openssl.so.27", "gnutls", "libgnutls-openssl"),
        ("libnettle.so.8", "nettle", "libnettle"),
        ("libhogweed.so.6", "nettle", "libhogweed"),
        ("libgcrypt.so.20", "libgcrypt", "libgcrypt"),
        ("libnss3.so", "nss", "libnss3"),
        ("libnssutil3.so", "nss", "libnssutil3"),
        ("libssl3.so", "nss", "libssl3"),
        ("libsmime3.so", "nss", "libsmime3"),
        ("libsoftokn3.so", "nss", "libsoftokn3"),
        ("libfreebl3.so", "nss", "libfreebl3"),
        ("libfreeblpriv3.so", "nss", "libfreeblpriv3"),
        ("libmbedcrypto.so.7", "mbedtls", "libmbedcrypto"),
        ("libmbedtls.so.14", "mbedtls", "libmbedtls"),
        ("libmbedx509.so.1", "mbedtls", "libmbedx509"),
        ("libwolfssl.so.42", "wolfssl", "libwolfssl"),
        ("libsodium.so.23", "libsodium", "libsodium"),
        ("libbotan-2.so.19", "botan", "libbotan"),
        ("libbotan-3.so.5", "botan", "libbotan"),
        ("libkrb5.so.3", "krb5", "libkrb5"),
        ("libk5crypto.so.3", "krb5", "libk5crypto"),
        ("libgssapi_krb5.so.2", "krb5", "libgssapi_krb5"),
        ("libkrb5.so.26", "heimdal", "libkrb5"),
        ("libssh.so.4", "libssh", "libssh"),
        ("libssh2.so.1", "libssh2", "libssh2"),
        ("libp11-kit.so.0", "p11-kit", "libp11-kit"),
    ],
)
def test_a_soname_tells_the_family(soname: str, family: str, name: str) -> None:
    """Programs are linked against SONAMEs, so distributions do not change them."""
    found = told(elf_file(soname))

    assert found is not None
    assert (found.family, found.name, found.soname, found.build_id) == (family, name, soname, BUILD_ID)


@pytest.mark.parametrize(
    "soname",
    [
        "libnss_files.so.2",  # name service switch
        "libcrypt.so.1",
        "libcryptsetup.so.12",
        "libcrypto_notes.so.1",
        "libssl.so.3/../x",
        "libssl",
        "mylibssl.so.3",
        "libssl.sock",
        "libc.so.6",
        "",
        "\n",
    ],
)
def test_a_likely_name_is_not_enough(soname: str) -> None:
    """A substring of a name convicts the innocent."""
    assert told(elf_file(soname, constants=b"OpenSSL 3.0.19 27 Jan 2026\0")) is None


@pytest.mark.parametrize(
    ("export", "family", "name"),
    [
        ("SSL_CTX_new", "openssl", "libssl"),
        ("EVP_EncryptInit_ex", "openssl", "libcrypto"),
        ("OSSL_provider_init", "openssl", "provider"),
        ("gnutls_global_init", "gnutls", "libgnutls"),
        ("sodium_init", "libsodium", "libsodium"),
        ("C_GetFunctionList", "pkcs11", "module"),
    ],
)
def test_without_a_soname_the_exports_tell(export: str, family: str, name: str) -> None:
    """Plug-ins and hurried builds have no SONAME."""
    found = told(elf_file(None, exports=["something_else", export]))

    assert found is not None
    assert (found.family, found.name, found.soname) == (family, name, None)


def test_under_another_soname_the_exports_tell_and_its_own_name_stays() -> None:
    """A vendor's HSM module, or OpenSSL built under a new name."""
    found = told(elf_file("libvendorhsm.so.2", exports=["C_GetFunctionList"]))

    assert found is not None
    assert (found.family, found.name, found.soname) == ("pkcs11", "libvendorhsm", "libvendorhsm.so.2")


def test_a_program_that_exports_its_crypto_has_it_linked_in() -> None:
    """node and nginx may have OpenSSL linked in and exported: that is inside them, they are no library."""
    found = told(elf_file(None, exports=["SSL_CTX_new"], interpreter=b"/lib64/ld-linux-x86-64.so.2"))

    assert found is not None
    assert (found.family, found.name, found.embedded) == ("openssl", "libssl", True)


def test_names_that_are_no_text_are_escaped() -> None:
    """A SONAME is bytes, a document is UTF-8."""
    found = told(elf_file(b"lib\xff\\.so.1", exports=["C_GetFunctionList"]))

    assert found is not None
    assert (found.name, found.soname) == (r"lib\xff\\", r"lib\xff\\.so.1")


@pytest.mark.parametrize(
    ("soname", "constant", "family", "version"),
    [
        ("libcrypto.so.3", "OpenSSL 3.0.19 27 Jan 2026", "openssl", "3.0.19"),
        ("libcrypto.so.3", "OpenSSL 3.5.0-beta1 8 Apr 2025", "openssl", "3.5.0-beta1"),
        ("libcrypto.so.10", "OpenSSL 1.0.2k-fips  26 Jan 2017", "openssl", "1.0.2k"),
        ("libcrypto.so.1.1", "OpenSSL 1.1.1k  FIPS 25 Mar 2021", "openssl", "1.1.1k"),
        ("libcrypto.so", "OpenSSL 1.1.1 (compatible; BoringSSL)", "boringssl", None),
        ("libcrypto.so", "OpenSSL 1.1.1 (compatible; AWS-LC 1.29.0)", "aws-lc", "1.29.0"),
        ("libcrypto.so.52", "LibreSSL 3.8.2", "libressl", "3.8.2"),
        ("libcrypto.so", "LibreSSL 3.8.2", "libressl", "3.8.2"),
        ("libcrypto.so.3", "OpenSSL CMS support", "openssl", None),
        ("libgnutls.so.30", "Enabled GnuTLS 3.7.9 logging...", "gnutls", "3.7.9"),
        ("libgcrypt.so.20", "This is Libgcrypt 1.10.1 - The GNU Crypto Library", "libgcrypt", "1.10.1"),
        ("libnss3.so", "Version: NSS 3.87.1 Basic ECC", "nss", "3.87.1"),
        ("libmbedcrypto.so.7", "mbed TLS 2.28.3", "mbedtls", "2.28.3"),
        ("libmbedcrypto.so.16", "Mbed TLS 3.6.2", "mbedtls", "3.6.2"),
        ("libwolfssl.so.35", "wolfSSL 5.5.4", "wolfssl", "5.5.4"),
        ("libsodium.so.23", "1.0.18", "libsodium", "1.0.18"),
        ("libsodium.so.23", "1.0.18\0x\0001.0.19", "libsodium", None),
        ("libbotan-2.so.19", "Botan 2.19.3 (unreleased, revision unknown)", "botan", "2.19.3"),
        ("libkrb5.so.3", "KRB5_BRAND: krb5-1.20.1-final 1.20.1 20221111", "krb5", "1.20.1"),
        ("libssh.so.4", "SSH-2.0-libssh_0.10.6", "libssh", "0.10.6"),
        ("libssh2.so.1", "SSH-2.0-libssh2_1.10.0", "libssh2", "1.10.0"),
        # These libraries have functions that say it and no words.
        ("libssl.so.3", "OpenSSL 3.0.19 27 Jan 2026", "openssl", None),
        ("libnettle.so.8", "3.8.1", "nettle", None),
    ],
)
def test_the_version_is_what_the_bytes_state(
    soname: str, constant: str, family: str, version: str | None
) -> None:
    """Honest words or none: a version that is guessed would be judged."""
    found = told(elf_file(soname, constants=b"\0some text\0" + constant.encode() + b"\0"))

    assert found is not None
    assert (found.family, found.version) == (family, version)


def test_the_search_for_a_version_ends_with_its_budget() -> None:
    """A library of a gigabyte must not cost a gigabyte."""
    data = elf_file("libcrypto.so.3", constants=bytes(100_000) + b"OpenSSL 3.0.19 27 Jan 2026\0")

    found = told(data, search_bytes_max=10_000)

    assert found is not None
    assert found.version is None
    assert found.searched_bytes == 10_000


def test_words_that_are_repeated_without_end_do_not_hold_us_up() -> None:
    """Every start would have to be tried; after a thousand it is nobody's library."""
    truth = b"Enabled GnuTLS 3.7.9 logging"
    found = told(elf_file("libgnutls.so.30", constants=b"Enabled GnuTLS 1" * 2000 + truth))

    assert found is not None
    assert found.version is None


def test_a_copy_by_another_name_is_recognised_and_a_text_by_its_name_is_not(tmp_path: Path) -> None:
    """Content first, names last."""
    copy, text = tmp_path / "notes.txt", tmp_path / "libcrypto.so.3"
    shutil.copy(real("libcrypto.so.3"), copy)
    text.write_text("libcrypto.so.3\nOpenSSL 3.0.19 27 Jan 2026\n")

    found = told_of(copy)

    assert found is not None
    assert (found.family, found.name, found.soname) == ("openssl", "libcrypto", "libcrypto.so.3")
    assert told_of(text) is None


def real(name: str) -> Path:
    """A library of this host, or a skip that says which is missing."""
    path = LIBRARIES / name
    if not path.exists():
        pytest.skip(f"{path} is not installed here")
    return path


def test_openssl_says_the_same_version() -> None:
    """Against the program of the same library."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl here")
    said = subprocess.run(["openssl", "version"], capture_output=True, text=True, check=True).stdout
    library = re.search(r"\(Library: OpenSSL (\S+)|^OpenSSL (\S+)", said)
    assert library is not None

    found = told_of(real("libcrypto.so.3"))

    assert found is not None
    assert found.version == (library[1] or library[2])


@pytest.mark.parametrize(
    ("name", "package"),
    [
        ("libcrypto.so.3", "libssl3"),
        ("libgnutls.so.30", "libgnutls30"),
        ("libgcrypt.so.20", "libgcrypt20"),
        ("libnss3.so", "libnss3"),
        ("libsodium.so.23", "libsodium23"),
        ("libkrb5.so.3", "libkrb5-3"),
        ("libssh2.so.1", "libssh2-1"),
    ],
)
def test_the_package_manager_says_the_same_version(name: str, package: str) -> None:
    """Against dpkg: `[epoch:]upstream-revision`."""
    if shutil.which("dpkg-query") is None:
        pytest.skip("there is no dpkg here")
    path = real(name)
    asked = ["dpkg-query", "--show", "--showformat", "${Version}", package]
    said = subprocess.run(asked, capture_output=True, text=True, check=False).stdout
    if not said:
        pytest.skip(f"{package} is not installed here")

    found = told_of(path)

    assert found is not None
    assert found.version is not None
    assert re.match(rf"(?:[0-9]+:)?{re.escape(found.version)}[-+]", said)
