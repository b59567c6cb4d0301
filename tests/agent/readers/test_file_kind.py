# SPDX-License-Identifier: Apache-2.0
"""Files as the tools write them that make them, and texts that only speak of keys."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import errors
from agent.readers.file_kind import (
    HEAD_BYTES,
    TEXT_BYTES_MAX,
    FileKind,
    classify,
    hinted,
    is_listed,
    read_kind,
)

KEY, CERTIFICATE, STORE, UNKNOWN = "private_key", "certificate", "keystore", "unknown"
PASSWORD = "not-a-secret"


def kind(path: Path) -> tuple[str, str | None]:
    """What `read_kind` says of a file."""
    fd = os.open(path, os.O_RDONLY)
    try:
        found = read_kind(fd, str(path))
    finally:
        os.close(fd)
    return found.file_type, found.kind


def run(*argv: str | Path, folder: Path, given_: bytes = b"") -> bytes:
    """Standard output of a tool, run in a folder."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "GNUPGHOME": str(folder / "gnupg")}
    done = subprocess.run(
        [str(word) for word in argv],
        cwd=folder,
        input=given_,
        capture_output=True,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what openssl makes: one RSA key, one EC key, and all that is made of them."""
    folder = tmp_path_factory.mktemp("made")

    def openssl(*argv: str) -> None:
        run("openssl", *argv, folder=folder)

    secret = f"pass:{PASSWORD}"
    openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", "rsa.pem")
    openssl("genpkey", "-algorithm", "ED25519", "-out", "ed25519.pem")
    openssl("ecparam", "-name", "prime256v1", "-genkey", "-out", "ec-with-parameters.pem")
    openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "ec.pem")
    openssl("req", "-x509", "-new", "-key", "rsa.pem", "-subj", "/CN=made", "-out", "certificate.pem")
    openssl("req", "-new", "-key", "rsa.pem", "-subj", "/CN=made", "-out", "request.pem")
    openssl("req", "-new", "-key", "rsa.pem", "-subj", "/", "-out", "request-unnamed.pem")
    openssl("dhparam", "-dsaparam", "-out", "dh.pem", "512")
    openssl("dsaparam", "-out", "dsaparam.pem", "1024")
    openssl("gendsa", "-out", "dsa.pem", "dsaparam.pem")
    openssl("dsa", "-in", "dsa.pem", "-outform", "DER", "-out", "dsa.der")
    for form in ("PEM", "DER"):
        end = form.lower()
        openssl("rsa", "-in", "rsa.pem", "-traditional", "-outform", form, "-out", f"pkcs1.{end}")
        openssl("ec", "-in", "ec.pem", "-outform", form, "-out", f"sec1.{end}")
        openssl("pkcs8", "-topk8", "-nocrypt", "-in", "rsa.pem", "-outform", form, "-out", f"pkcs8.{end}")
        openssl("pkey", "-in", "rsa.pem", "-pubout", "-outform", form, "-out", f"public.{end}")
        openssl("rsa", "-in", "rsa.pem", "-RSAPublicKey_out", "-outform", form, "-out", f"pkcs1-public.{end}")
        openssl("x509", "-in", "certificate.pem", "-outform", form, "-out", f"certificate.{end}")
        openssl("req", "-in", "request.pem", "-outform", form, "-out", f"request.{end}")
        openssl(
            "pkcs8", "-topk8", "-in", "rsa.pem", "-passout", secret, "-outform", form, "-out", f"locked.{end}"
        )
        openssl("crl2pkcs7", "-nocrl", "-certfile", "certificate.pem", "-outform", form, "-out", f"p7.{end}")
        openssl(
            "smime", "-sign", "-in", "request.pem", "-signer", "certificate.pem", "-inkey", "rsa.pem",
            "-outform", form, "-out", f"signed.{end}",
        )  # fmt: skip
    openssl(
        "rsa", "-in", "rsa.pem", "-traditional", "-aes128", "-passout", secret, "-out", "pkcs1-locked.pem"
    )
    openssl("ec", "-in", "ec.pem", "-aes128", "-passout", secret, "-out", "sec1-locked.pem")
    openssl("x509", "-in", "certificate.pem", "-trustout", "-addtrust", "serverAuth", "-out", "trusted.pem")
    openssl("x509", "-in", "certificate.pem", "-text", "-out", "text.pem")
    openssl(
        "pkcs12",
        "-export",
        "-in",
        "certificate.pem",
        "-inkey",
        "rsa.pem",
        "-passout",
        secret,
        "-out",
        "a.p12",
    )
    openssl("pkcs12", "-in", "a.p12", "-passin", secret, "-nodes", "-out", "bag.pem")
    (folder / "index.txt").touch()
    (folder / "ca.cnf").write_text(
        "[ca]\ndefault_ca=one\n[one]\ndatabase=index.txt\ndefault_md=sha256\ndefault_crl_days=9\n"
    )
    openssl(
        "ca",
        "-config",
        "ca.cnf",
        "-gencrl",
        "-keyfile",
        "rsa.pem",
        "-cert",
        "certificate.pem",
        "-out",
        "crl.pem",
    )
    openssl("crl", "-in", "crl.pem", "-outform", "DER", "-out", "crl.der")
    return folder


OPENSSL = {
    "rsa.pem": (KEY, "pkcs8"),
    "ed25519.pem": (KEY, "pkcs8"),
    "pkcs8.der": (KEY, "pkcs8"),
    "pkcs1.pem": (KEY, "pkcs1"),
    "pkcs1.der": (KEY, "pkcs1"),
    "ec.pem": (KEY, "sec1"),
    "sec1.der": (KEY, "sec1"),
    "ec-with-parameters.pem": (KEY, "sec1+ec-parameters"),
    "dsa.pem": (KEY, "pkcs8"),
    "locked.pem": (KEY, "pkcs8-encrypted"),
    "locked.der": (KEY, "pkcs8-encrypted"),
    "pkcs1-locked.pem": (KEY, "pkcs1-encrypted"),
    "sec1-locked.pem": (KEY, "sec1-encrypted"),
    "certificate.pem": (CERTIFICATE, "certificate"),
    "certificate.der": (CERTIFICATE, "certificate"),
    "trusted.pem": (CERTIFICATE, "certificate-trusted"),
    "text.pem": (CERTIFICATE, "certificate"),
    "p7.pem": (CERTIFICATE, "pkcs7-certificates"),
    "p7.der": (CERTIFICATE, "pkcs7-certificates"),
    "a.p12": (STORE, "pkcs12"),
    "bag.pem": (KEY, "pkcs8+certificate"),
    "signed.pem": (UNKNOWN, "pkcs7"),
    "signed.der": (UNKNOWN, "pkcs7"),
    "request.pem": (UNKNOWN, "certificate-request"),
    "request.der": (UNKNOWN, "certificate-request"),
    "request-unnamed.pem": (UNKNOWN, "certificate-request"),
    "crl.pem": (UNKNOWN, "crl"),
    "crl.der": (UNKNOWN, "crl"),
    "public.pem": (UNKNOWN, "public-key"),
    "public.der": (UNKNOWN, "public-key"),
    "pkcs1-public.pem": (UNKNOWN, "pkcs1-public"),
    "pkcs1-public.der": (UNKNOWN, "pkcs1-public"),
    "dh.pem": (UNKNOWN, "dh-parameters"),
    "dsaparam.pem": (UNKNOWN, "dsa-parameters"),
}


@pytest.mark.parametrize("name", OPENSSL)
def test_what_openssl_writes_is_told_by_its_content(name: str, made: Path, tmp_path: Path) -> None:
    """Under a name that says nothing, as /etc holds many."""
    copy = tmp_path / "no-suffix"
    shutil.copy(made / name, copy)

    assert kind(copy) == OPENSSL[name]


EDITS: dict[str, Callable[[bytes], bytes]] = {
    "crlf": lambda text: text.replace(b"\n", b"\r\n"),
    "byte-order-mark": lambda text: b"\xef\xbb\xbf" + text,
    "blank-lines-before": lambda text: b"\n \t\n\n" + text,
    "indented-first": lambda text: b"  " + text,
    "comments-before": lambda text: b"# Issued by us\n# for them\n" + text,
    "no-line-end": lambda text: text.rstrip(b"\n"),
    "text-after": lambda text: text + b"\nthat was it\n",
    "one-long-line": lambda text: (
        text.partition(b"\n")[0]
        + b"\n"
        + b"".join(text.split(b"\n")[1:-2])
        + b"\n"
        + text.rstrip().rpartition(b"\n")[2]
    ),
    "blanks-at-line-ends": lambda text: text.replace(b"\n", b" \t\n"),
}


@pytest.mark.parametrize("how", EDITS)
def test_what_editors_do_to_a_file_changes_nothing(how: str, made: Path) -> None:
    """Software in use reads all of these."""
    # Headers inside of a block are lines of their own, or they are none.
    locked = () if how == "one-long-line" else ("pkcs1-locked.pem",)
    for name in ("certificate.pem", "rsa.pem", *locked):
        text = EDITS[how]((made / name).read_bytes())
        found = classify(text[:HEAD_BYTES], len(text))
        assert (found.file_type, found.kind) == OPENSSL[name]


@pytest.mark.parametrize("first", ["key", "certificate"])
def test_a_file_with_a_key_in_it_is_a_key_wherever_it_stands(first: str, made: Path, tmp_path: Path) -> None:
    """HAProxy wants the key behind the whole chain, beyond the first 4 KiB."""
    key, chain = (made / "rsa.pem").read_bytes(), (made / "certificate.pem").read_bytes() * 6
    path = tmp_path / "haproxy"
    path.write_bytes(key + chain if first == "key" else chain + key)
    assert path.stat().st_size > HEAD_BYTES

    assert kind(path) == (KEY, "pkcs8+certificate")


def test_a_page_of_text_before_the_block_hides_nothing(made: Path, tmp_path: Path) -> None:
    """Easy-RSA writes what `openssl x509 -text` does; of a long key that is more than 4 KiB."""
    head, block = (made / "text.pem").read_bytes().split(b"-----BEGIN", 1)
    path = tmp_path / "issued"
    path.write_bytes(head.replace(b"Modulus:", b"Modulus:" + b"\n    00:11:22" * 500) + b"-----BEGIN" + block)
    assert path.read_bytes().index(b"-----BEGIN") > HEAD_BYTES

    assert kind(path) == (CERTIFICATE, "certificate")


def test_what_stands_behind_the_limit_is_not_seen(made: Path, tmp_path: Path) -> None:
    """A limit is a limit, and the docstring says what it means: the file is called by what was seen."""
    chain = (made / "certificate.pem").read_bytes()
    path = tmp_path / "bundle"
    path.write_bytes(chain * (TEXT_BYTES_MAX // len(chain) + 1) + (made / "rsa.pem").read_bytes())

    assert kind(path) == (CERTIFICATE, "certificate")


def test_a_block_that_is_cut_by_the_head_counts_when_its_length_fits(made: Path) -> None:
    """Of a large certificate the head shows the beginning; of one that was cut off there is no rest."""
    text = (made / "certificate.pem").read_bytes()

    assert classify(text[:500], len(text)).kind == "certificate"
    assert classify(text[:500], 500).kind is None


def test_der_that_does_not_fill_its_file_is_none(made: Path) -> None:
    """The length is what tells DER from any other bytes; a line end that an editor added is forgiven."""
    der = (made / "certificate.der").read_bytes()

    assert classify(der, len(der)).kind == "certificate"
    assert classify(der + b"\n", len(der) + 1).kind == "certificate"
    assert classify(der + bytes(100), len(der) + 100).kind is None
    assert classify(der[:-1], len(der) - 1).kind is None


# -- other tools ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["-t", "ed25519", "-N", ""], "openssh"),
        (["-t", "ed25519", "-N", PASSWORD], "openssh-encrypted"),
        (["-t", "rsa", "-b", "2048", "-N", ""], "openssh"),
        (["-t", "rsa", "-b", "2048", "-m", "PEM", "-N", ""], "pkcs1"),
        (["-t", "ecdsa", "-m", "PEM", "-N", PASSWORD], "sec1-encrypted"),
        (["-t", "ecdsa", "-m", "PKCS8", "-N", ""], "pkcs8"),
    ],
)
def test_ssh_keygen(argv: list[str], expected: str, tmp_path: Path) -> None:
    """Encrypted or not stands inside of the base64; the public half is no private key."""
    run("ssh-keygen", "-q", *argv, "-f", "id", "-C", "somebody@somewhere", folder=tmp_path)

    assert kind(tmp_path / "id") == (KEY, expected)
    assert kind(tmp_path / "id.pub") == (UNKNOWN, "openssh-public")


def test_lists_of_public_keys_are_no_private_keys(tmp_path: Path) -> None:
    """authorized_keys with options, known_hosts with a marker, a certificate of OpenSSH's own kind."""
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "ca", folder=tmp_path)
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "user", folder=tmp_path)
    run("ssh-keygen", "-q", "-s", "ca", "-I", "one", "-n", "alice", "user.pub", folder=tmp_path)
    key = (tmp_path / "user.pub").read_text()
    options = 'command="echo hello",no-pty '
    lists = {
        "authorized": ("# mine\n\n" + options + key, "openssh-public"),
        "restricted": ("restrict " + key, "openssh-public"),
        "known": ("web7,10.0.0.7 " + key, "known-hosts"),
        "authority": ("@cert-authority *.example.com " + key, "known-hosts"),
    }

    for name, (text, expected) in lists.items():
        (tmp_path / name).write_text(text)
        assert kind(tmp_path / name) == (UNKNOWN, expected), name
    assert kind(tmp_path / "user-cert.pub") == (UNKNOWN, "openssh-certificate")


@pytest.mark.parametrize(
    ("form", "locked", "expected"),
    [
        ("private", False, "putty"),
        ("private", True, "putty-encrypted"),
        ("private-sshcom", False, "ssh2"),
        ("private-sshcom", True, "ssh2"),
        ("private-openssh-new", True, "openssh-encrypted"),
        ("private-openssh", False, "pkcs1"),
    ],
)
def test_puttygen(form: str, locked: bool, expected: str, tmp_path: Path) -> None:
    """PuTTY's own form and those that it writes for others."""
    (tmp_path / "old").write_text("\n")
    (tmp_path / "new").write_text(PASSWORD if locked else "\n")
    run(
        "puttygen", "-q", "-t", "rsa", "-b", "2048", "-O", form, "-o", "key", "--new-passphrase", "new",
        "--random-device", "/dev/urandom", folder=tmp_path,
    )  # fmt: skip

    assert kind(tmp_path / "key") == (KEY, expected)
    assert kind(tmp_path / "new") == (UNKNOWN, None)


def test_gpg(tmp_path: Path) -> None:
    """Armoured and binary, both halves, and the files in which GnuPG itself keeps them."""
    home = tmp_path / "gnupg"
    home.mkdir(mode=0o700)
    gpg = ("gpg", "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", "")
    try:
        run(*gpg, "--quick-generate-key", "made@example.com", "ed25519", "sign", "never", folder=tmp_path)
        files = {
            "public.asc": (["--armor", "--export"], (UNKNOWN, "openpgp-public")),
            "public.gpg": (["--export"], (UNKNOWN, "openpgp-public")),
            "private.asc": (["--armor", "--export-secret-keys"], (KEY, "openpgp-private")),
            "private.gpg": (["--export-secret-keys"], (KEY, "openpgp-private")),
        }
        for name, (argv, expected) in files.items():
            (tmp_path / name).write_bytes(run(*gpg, *argv, folder=tmp_path))
            assert kind(tmp_path / name) == expected, name
        assert kind(home / "pubring.kbx") == (UNKNOWN, "keybox")
        for path in (home / "private-keys-v1.d").iterdir():
            assert kind(path) == (KEY, "gnupg")
    finally:
        run("gpgconf", "--kill", "all", folder=tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("form", "expected"), [("JKS", "jks"), ("JCEKS", "jceks"), ("PKCS12", "pkcs12")])
def test_keytool(form: str, expected: str, tmp_path: Path) -> None:
    """Java's keystores, with a key and a certificate in them."""
    run(
        "keytool", "-genkeypair", "-alias", "made", "-keyalg", "EC", "-dname", "CN=made", "-storetype", form,
        "-keystore", "store", "-storepass", PASSWORD, "-keypass", PASSWORD, folder=tmp_path,
    )  # fmt: skip

    assert kind(tmp_path / "store") == (STORE, expected)


def test_bouncy_castles_keystores_by_the_layout_of_their_writer() -> None:
    """BcKeyStoreSpi: version, salt with its length, iterations, then entries or ciphertext."""
    salt = bytes(range(20))
    begin = (2).to_bytes(4, "big") + (20).to_bytes(4, "big") + salt + (1500).to_bytes(4, "big")
    bks = begin + b"\1\0\4made" + bytes(200)
    uber = (1).to_bytes(4, "big") + begin[4:] + b"\xf7" + bytes(range(200))

    assert classify(bks, len(bks)) == FileKind(file_type="keystore", kind="bks")
    assert classify(uber, len(uber)) == FileKind(file_type="keystore", kind="uber")
    other = begin[:-4] + (7).to_bytes(4, "big") + b"\1" + bytes(200)
    assert classify(other, len(other)).kind is None


# -- what only looks like it ---------------------------------------------------------------------------------

BEGIN = "-----BEGIN CERTIFICATE-----"
BODY = base64.encodebytes(bytes(range(250))).decode()
LOOK_ALIKES = {
    "program-that-looks-for-it": f'if line.startswith("{BEGIN}"):\n    found = True\n',
    "log-line": f"08:15:00 web7 nginx: no start line, expected {BEGIN} in a.pem\n",
    "page-that-explains": f"A certificate begins with\n\n{BEGIN}\n\nand ends with its counterpart.\n",
    "template": f"{BEGIN}\n{{{{ certificate }}}}\n-----END CERTIFICATE-----\n",
    "left-out": f"{BEGIN}\nMIIDdzCCAl+gAwIBAgIE...\n-----END CERTIFICATE-----\n",
    "other-base64": f"{BEGIN}\n{BODY}-----END CERTIFICATE-----\n",
    "empty-block": f"{BEGIN}\n-----END CERTIFICATE-----\n",
    "only-a-begin": f"{BEGIN}\n",
    "four-dashes": f"----BEGIN CERTIFICATE----\n{BODY}----END CERTIFICATE----\n",
    "ssh-key-of-another-type": "ssh-ed25519 "
    + base64.b64encode(b"\0\0\0\7ssh-rsa" + bytes(64)).decode()
    + "\n",
    "about-ssh": "ssh-ed25519 AAAA is how it begins\n",
    "putty-manual": "The first line is PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none\n",
    "configuration": "ssl_certificate /etc/ssl/a.pem;\nssl_certificate_key /etc/ssl/a.key;\n",
    "nothing": "",
}


@pytest.mark.parametrize("name", LOOK_ALIKES)
def test_what_only_speaks_of_keys_is_none(name: str) -> None:
    """A scanner that takes a manual for a key is not believed about a key."""
    text = LOOK_ALIKES[name].encode()

    assert classify(text, len(text)) == FileKind(file_type="unknown")


@pytest.mark.parametrize("how", ["yaml", "quoted", "shell", "json", "c"])
def test_a_key_inside_of_another_format_is_no_key_file(how: str, made: Path) -> None:
    """Who opens a configuration opens a configuration; what is in it is told by who reads configurations."""
    text = (made / "certificate.pem").read_text()
    wrapped = {
        "yaml": "tls:\n  crt: |\n    " + text.replace("\n", "\n    "),
        "quoted": "".join(f"> {line}\n" for line in text.splitlines()),
        "shell": "CERT='" + text + "'\n",
        "json": '{"crt": "' + text.replace("\n", "\\n") + '"}\n',
        "c": "".join(f'"{line}\\n"\n' for line in text.splitlines()),
    }[how].encode()

    assert classify(wrapped, len(wrapped)).kind is None


def test_a_program_or_database_with_a_block_in_it_is_none(made: Path) -> None:
    """Libraries carry test certificates, dumps and disk images everybody's."""
    data = b"SQLite format 3\0" + bytes(80) + b"\n" + (made / "certificate.pem").read_bytes()

    assert classify(data[:HEAD_BYTES], len(data)).kind is None


DER_LOOK_ALIKES = {
    "ecdsa-signature": bytes.fromhex("3044") + (b"\2\x20" + b"\x11" * 32) * 2,
    "ldap-message": bytes.fromhex("300c020101600702010304008000"),
    "digest-info": bytes.fromhex("3031300d060960864801650304020105000420") + bytes(32),
    "one-number": bytes.fromhex("3003020101"),
    "empty-sequence": b"\x30\0",
    "deep": b"\x30\x80" * 300,
    "zeros": b"\x30\x82\x01\0" + bytes(256),
}


@pytest.mark.parametrize("name", DER_LOOK_ALIKES)
def test_other_asn1_is_none(name: str) -> None:
    """Signatures, messages and hashes are sequences too."""
    data = DER_LOOK_ALIKES[name]

    assert classify(data, len(data)).kind is None


# -- any bytes -----------------------------------------------------------------------------------------------


@given(st.binary(max_size=600), st.integers(0, 1 << 40))
def test_any_bytes_have_an_answer(data: bytes, size: int) -> None:
    """Whoever may write a file may write any file."""
    found = classify(data, size)

    assert found.file_type in (KEY, CERTIFICATE, STORE, UNKNOWN)


@given(data=st.data())
def test_a_damaged_file_is_the_same_or_nothing(data: st.DataObject, made: Path) -> None:
    """Damage never makes a key of a certificate, nor ends the agent."""
    name = data.draw(st.sampled_from(sorted(OPENSSL)))
    whole = bytearray((made / name).read_bytes())
    for _ in range(data.draw(st.integers(0, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    head = bytes(whole[: data.draw(st.integers(0, HEAD_BYTES))])

    found = classify(head, len(whole))

    assert found.file_type in (OPENSSL[name][0], UNKNOWN)


@given(st.text(alphabet="-BEGINDCRTFAKYPUV \r\n\t=:+/abc0", max_size=400))
def test_any_text_of_markers_has_an_answer(text: str) -> None:
    """Text that is made of the pieces of PEM."""
    assert classify(text.encode(), len(text)).kind in (None, "openssh-public", "known-hosts")


@pytest.mark.parametrize(
    "piece", [b"-----BEGIN CERTIFICATE-----\n", b" \t", b"\n=AAAA", b"a: b\n", b'"a" ', b"ssh-rsa ", b"\r\n"]
)
def test_hostile_text_costs_no_more_than_other_text(piece: bytes) -> None:
    """No pattern steps back: as much of it as is ever read is done with at once, or this test never ends."""
    text = piece * (TEXT_BYTES_MAX // len(piece))

    assert classify(text, len(text)).file_type == UNKNOWN
    assert classify(b"-----BEGIN RSA PRIVATE KEY-----\n" + text, len(text) + 40).file_type == UNKNOWN


def test_a_file_that_cannot_be_read_is_an_error_of_the_host(tmp_path: Path) -> None:
    """A directory, as what the kernel refuses to read."""
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(errors.HostError):
            read_kind(fd, str(tmp_path))
    finally:
        os.close(fd)


# -- names ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/etc/ssl/certs/server.crt", CERTIFICATE),
        ("/etc/ssl/certs/SERVER.CER", CERTIFICATE),
        ("/etc/ssl/private/server.key", KEY),
        ("/root/.ssh/id_ed25519", KEY),
        ("/root/.ssh/id_rsa_work", KEY),
        ("/root/.ssh/id_ecdsa_sk", KEY),
        ("/etc/ssh/ssh_host_rsa_key", KEY),
        ("/opt/app/identity.p12", STORE),
        ("/opt/app/identity.pfx", STORE),
        ("/opt/app/trust.jks", STORE),
        ("/opt/app/app.keystore", STORE),
        ("/etc/ssl/a.pem", UNKNOWN),
        ("/root/.ssh/id_rsa.pub", None),
        ("/etc/ssh/ssh_host_rsa_key.pub", None),
        ("/var/lib/id_map.db", None),
        ("/etc/hosts", None),
        ("keystore", None),
        ("", None),
    ],
)
def test_a_name_is_only_a_hint(path: str, expected: str | None) -> None:
    """What it promises where the content is out of reach; a .pem promises nothing."""
    found = hinted(path)

    assert (found and found.file_type) == expected
    assert found is None or found.kind is None


def test_what_is_listed() -> None:
    """By content, or by a name that users' scripts look for; a request by another name is not."""
    request = FileKind(file_type="unknown", kind="certificate-request")
    assert is_listed("/etc/a.pem", request)
    assert is_listed("/etc/A.PEM", FileKind(file_type="unknown"))
    assert not is_listed("/etc/a.csr", request)
    assert is_listed("/etc/anything", FileKind(file_type="private_key", kind="pkcs8"))
