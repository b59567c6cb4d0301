# SPDX-License-Identifier: Apache-2.0
"""What is a crypto library, whatever its file is called, and what does it say of its version?"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path

import msgspec
import pytest

from agent import errors
from agent.guard.parsing import InProcess, Opened
from agent.readers.elf import read_elf
from agent.readers.recognise import Examined, Recognised, examine, recognise
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
        ("p11-kit-trust.so", "p11-kit", "p11-kit-trust"),
        ("libcrypto++.so.8", "cryptopp", "libcryptopp"),
        ("libcryptopp.so.8", "cryptopp", "libcryptopp"),
        ("libssh-gcrypt.so.4", "libssh", "libssh"),
        ("libgssglue.so.1", "gssglue", "libgssglue"),
        ("libgssapi.so.3", "heimdal", "libgssapi"),
        ("libmbedcrypto-130976e3.so.7", "mbedtls", "libmbedcrypto"),
        ("libtfpsacrypto.so.0", "mbedtls", "libmbedcrypto"),
        ("liboqs.so.7", "liboqs", "liboqs"),
        ("libs2n.so.1", "s2n", "libs2n"),
        ("librustls.so.0.15", "rustls", "librustls"),
        ("libtomcrypt.so.1", "libtomcrypt", "libtomcrypt"),
        ("libbearssl.so.0", "bearssl", "libbearssl"),
    ],
)
def test_a_soname_tells_the_family(soname: str, family: str, name: str) -> None:
    """Programs are linked against SONAMEs, so distributions do not change them."""
    found = told(elf_file(soname))

    assert found is not None
    assert (found.family, found.name, found.soname, found.build_id) == (family, name, soname, BUILD_ID)
    assert not found.embedded


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


def test_a_module_under_another_soname_keeps_its_own_name() -> None:
    """A vendor's HSM module is what it is, whatever it is called."""
    found = told(elf_file("libvendorhsm.so.2", exports=["C_GetFunctionList"]))

    assert found is not None
    assert (found.family, found.name, found.soname) == ("pkcs11", "libvendorhsm", "libvendorhsm.so.2")
    assert not found.embedded


@pytest.mark.parametrize(
    ("soname", "imports"),
    [
        ("libparquet.so.2600", []),
        (None, ["PyInit__sodium"]),
        (None, ["JNI_OnLoad"]),
        (None, ["napi_register_module_v1"]),
    ],
)
def test_what_exports_a_library_and_is_something_else_has_it_inside(
    soname: str | None, imports: list[str]
) -> None:
    """Arrow's library exports the OpenSSL that it was linked with; modules of languages do so too."""
    found = told(elf_file(soname, exports=["sodium_init"], imports=imports))

    assert found is not None
    assert (found.family, found.name, found.soname, found.embedded) == (
        "libsodium",
        "libsodium",
        soname,
        True,
    )


def test_what_stands_between_a_library_and_its_users_is_neither() -> None:
    """A file that is preloaded to watch calls exports them, and is linked with who answers them."""
    assert told(elf_file("libwatch.so", exports=["SSL_CTX_new"], needed=["libssl.so.3"])) is None
    # And libssl is not linked with libssl, but with libcrypto.
    assert told(elf_file(None, exports=["SSL_CTX_new"], needed=["libcrypto.so.3"])) is not None


@pytest.mark.parametrize(
    ("soname", "exports", "family", "name"),
    [
        ("libcrypto.so", ["BORINGSSL_self_test", "EVP_EncryptInit_ex"], "boringssl", "libcrypto"),
        ("libssl.so", ["SSL_CTX_set_grease_enabled", "SSL_CTX_new"], "boringssl", "libssl"),
        ("libcrypto.so", ["awslc_version_string", "BORINGSSL_self_test"], "aws-lc", "libcrypto"),
        ("libssl.so", ["SSL_to_bytes", "SSL_CTX_set_grease_enabled"], "aws-lc", "libssl"),
        ("libcrypto-awslc.so", ["awslc_api_version_num"], "aws-lc", "libcrypto"),
        (None, ["BORINGSSL_self_test", "EVP_EncryptInit_ex"], "boringssl", "libcrypto"),
        ("libcrypto.so.3", ["BORINGSSL_self_test", "EVP_EncryptInit_ex"], "openssl", "libcrypto"),
        ("libssl.so", ["SSL_CTX_new"], "openssl", "libssl"),
    ],
)
def test_forks_under_openssls_own_name_are_told_by_what_only_they_export(
    soname: str | None, exports: list[str], family: str, name: str
) -> None:
    """Their SONAMEs have no number, as OpenSSL's always have, and they state no version in OpenSSL's form."""
    found = told(elf_file(soname, exports=exports))

    assert found is not None
    assert (found.family, found.name, found.embedded) == (family, name, False)


def test_libtls_on_openssl_is_another_project() -> None:
    """LibreTLS took LibreSSL's SONAME; what it is linked with tells."""
    for needed, family in (("libssl.so.3", "libretls"), ("libssl.so.55", "libressl")):
        found = told(elf_file("libtls.so.28", needed=["libc.so.6", needed]))

        assert found is not None
        assert (found.family, found.name) == (family, "libtls")


@pytest.mark.parametrize(
    ("words", "version"),
    [
        (
            "64-Bit Server VM (17.0.15+6-Debian-1) for linux-amd64 JRE (17.0.15+6-Debian-1), built",
            "17.0.15+6",
        ),
        ("64-Bit Server VM (25.0.3+9-LTS) for linux-amd64 JRE (25.0.3+9-LTS), built on", "25.0.3+9"),
        ("64-Bit Server VM (25.392-b08) for linux-amd64 JRE (1.8.0_392-b08), built on", "1.8.0_392"),
        ("JRE (build, unknown)", None),
    ],
)
def test_a_jvm_holds_the_providers_of_its_jdk(words: str, version: str | None) -> None:
    """They are Java, and no process runs them without this library."""
    found = told(elf_file("libjvm.so", constants=b"\0" + words.encode() + b"\0"))

    assert found is not None
    assert (found.family, found.name, found.version, found.embedded) == ("jdk", "libjvm", version, True)


@pytest.mark.parametrize("interpreter", [None, b"/lib64/ld-linux-x86-64.so.2"])
@pytest.mark.parametrize("soname", [None, "libarrow.so.2600"])
def test_what_a_file_holds_is_told_with_the_files_own_identity(
    soname: str | None, interpreter: bytes | None
) -> None:
    """The build id and the SONAME are the file's; the family, the name and the version what is in it."""
    inside = b"\0RSA Data Security, Inc. PKCS\0OpenSSL 3.5.7 9 Jun 2026\0"

    found = told(elf_file(soname, constants=inside, code_bytes=200_000, interpreter=interpreter))

    assert found is not None
    assert (found.family, found.name, found.version) == ("openssl", "libcrypto", "3.5.7")
    assert (found.soname, found.build_id, found.embedded) == (soname, BUILD_ID, True)


def test_a_library_of_its_own_is_never_one_inside() -> None:
    """OpenSSL's own library holds all that is looked for in others."""
    inside = b"\0RSA Data Security, Inc. PKCS\0OpenSSL 3.5.7 9 Jun 2026\0"

    found = told(elf_file("libcrypto.so.3", constants=inside, code_bytes=200_000))

    assert found is not None
    assert not found.embedded


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
        ("libcrypto.so", "BoringSSL", "boringssl", None),
        ("libcrypto.so", "AWS-LC FIPS 3.0.0", "aws-lc", "3.0.0"),
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


def test_a_search_that_ends_with_its_budget_is_told(tmp_path: Path) -> None:
    """A library without a version must not look like one that states none, nor a program like one without."""
    path = tmp_path / "file"
    inside = b"\0RSA Data Security, Inc. PKCS\0OpenSSL 3.5.7 9 Jun 2026\0"
    for data in (
        elf_file("libcrypto.so.3", constants=bytes(100_000) + b"OpenSSL 3.0.19 27 Jan 2026\0"),
        elf_file(None, constants=bytes(100_000) + inside, code_bytes=200_000),
    ):
        path.write_bytes(data)
        with path.open("rb") as file:
            cut = examine(file.fileno(), str(path), 10_000)
            whole = examine(file.fileno(), str(path))

        assert (cut.is_cut, cut.searched_bytes) == (True, 10_000)
        assert cut.library is None or cut.library.version is None
        assert not whole.is_cut
        assert whole.library is not None
        assert whole.library.version is not None


def test_a_library_without_a_build_id_is_hashed_where_that_is_asked(tmp_path: Path) -> None:
    """Then nothing else tells two builds apart; and only then is a file read whole."""
    path = tmp_path / "file"
    for build_id, soname, limit, is_hashed in (
        (None, "libssl.so.3", 1 << 20, True),
        (None, "libssl.so.3", 100, False),
        (None, "libssl.so.3", 0, False),
        (BUILD_ID, "libssl.so.3", 1 << 20, False),
        (None, "libc.so.6", 1 << 20, False),
    ):
        path.write_bytes(elf_file(soname, build_id=build_id))
        with path.open("rb") as file:
            examined = examine(file.fileno(), str(path), hash_bytes_max=limit)

        expected = hashlib.sha256(path.read_bytes()).hexdigest() if is_hashed else None
        assert examined.sha256 == expected


def test_a_file_is_examined_in_the_form_of_a_parser(tmp_path: Path) -> None:
    """What is no ELF file is nothing; what lies is malformed, and is named."""
    text, lie = tmp_path / "text", tmp_path / "lie"
    text.write_text("libcrypto.so.3")
    lie.write_bytes(elf_file("libcrypto.so.3")[:300])

    with text.open("rb") as one, lie.open("rb") as other:
        opened = [Opened(one.fileno(), "/text"), Opened(other.fileno(), "/lie")]
        nothing, malformed = InProcess().parse(examine, opened, 1 << 20, 1 << 20)

    assert nothing == Examined()
    assert isinstance(malformed, errors.MalformedError)
    assert malformed.path == "/lie"
    # A child answers in bytes.
    assert msgspec.json.decode(msgspec.json.encode(nothing), type=Examined) == nothing


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
        ("libssh.so.4", "libssh-4"),
        ("libssh-gcrypt.so.4", "libssh-gcrypt-4"),
        ("libmbedcrypto.so.7", "libmbedcrypto7"),
        ("libwolfssl.so.35", "libwolfssl35"),
        ("libbotan-2.so.19", "libbotan-2-19"),
        ("libtomcrypt.so.1", "libtomcrypt1"),
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
