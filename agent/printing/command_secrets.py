# SPDX-License-Identifier: Apache-2.0
"""Which words of a command line are called like a secret, or look like one? What `command_line` knows.

Where a name or a form is doubtful it counts: a hidden word costs a reader a question, a shown one a password.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, field
from itertools import pairwise

# -- names ---------------------------------------------------------------------------------------------------

# What options, variables, headers and keys that hold a secret are called, in small letters.
_SECRET_NAME = re.compile(
    r"(?<!by)(?<!com)pass(?!ive|thr|-thr|_thr|age|eng|port|es$|ed$)|(?:^|[^a-z])pw(?:$|[^a-z])|pw$|pwd|secret"
    r"|token(?!iz)|credential|creds?$|(?<![a-z])auth(?:$|[^a-z]|token|key|pass)|auth$|authorization$|bearer"
    r"|cookie|(?:^|[^a-z])(?:psk|pin|otp|jwt|sig|sas)$|signature$|session[-_.]?(?:id|key)$"
    r"|(?:api|access|account|master|license|subscription|hmac|hex)[-_.]?key(?:$|[^a-z])"
)
# Such a name with one of these behind it tells where the secret is, or something about it.
_ABOUT = re.compile(
    r"(?:[-_.]|(?<=pass)|(?<=word)|(?<=token)|(?<=secret)|(?<=key)|(?<=cookie)|(?<=credentials))"
    r"(?:file|path|dir|directory|url|uri|name|type|mode|ttl|length|len|size|timeout|prompt|stdin|env|command|cmd"
    r"|method|policy|expiry|expiration|expires|endpoint|issuer|provider|plugin|server|host|port|version|jar"
    r"|lifetime|format|fd|required|enabled|disabled|config|helper)s?$"
)
# Options that say whether, and have no value (--no-password, --ask-pass), or how many (--max-tokens).
_WHETHER = re.compile(
    r"(?:no|ask|without|with|disable|enable|use|has|show|hide|prompt|allow|require|skip|max|min|num|n)[-_]"
)
# A key, which may just as well be a file, a column of a table or a person's name.
_KEY_NAME = re.compile(r"(?:^|[-_.a-z])keys?(?:data|value)?$")
# These are never a person or a column: a secret or its file.
_KEY_OR_FILE = re.compile(
    r"(?:private|encryption|signing|shared|secret|storage|decryption|pre-?shared|recovery|unseal)[-_.]?key$"
    r"|pwd$"
)
# What is said of passwords and is none.
_PLAIN_VALUES = frozenset(
    {"yes", "no", "true", "false", "on", "off", "none", "never", "always", "prohibit-password"}
)
# What is said where only whether, how or how many was asked.
_WHETHER_VALUES = re.compile(
    r"[\d.,]+[a-z%]{0,2}|[yntf]|null|auto|ask|enabled?|disabled?|required?|optional|allowe?d?|all|any"
)
# Where openssl finds a password (openssl-passphrase-options(1)); only `pass:` is the password itself.
_ELSEWHERE = re.compile(r"(?:env|file|fd):\S+|stdin")
_FILE = re.compile(r"(?:[/~]|\.\.?/).*|[\w@./-]+\.(?:key|pem|der|crt|p8|p12|json|conf|ya?ml|txt|pub)")


@functools.lru_cache(maxsize=1024)
def is_secret_name(name: str) -> bool:
    """Whether what is called so holds a secret, or may."""
    name = name.lstrip("-").lower()
    return not _WHETHER.match(name) and _is_called_secret(name)


def _is_called_secret(name: str) -> bool:
    if _ABOUT.search(name):
        return False
    return bool(_SECRET_NAME.search(name) or _KEY_OR_FILE.search(name))


@functools.lru_cache(maxsize=1024)
def may_be_secret(name: str) -> bool:
    """Whether a value of what is called so has to be looked at."""
    name = name.lstrip("-").lower()
    return _is_called_secret(name) or bool(_KEY_NAME.search(name))


def is_secret(name: str, value: str) -> bool:
    """Whether a value is one, given what it is called.

    Args:
        name: an option, variable, key or header; leading dashes do not matter.
        value: the whole of it, without quotes.
    """
    if not value or value.lower() in _PLAIN_VALUES:
        return False
    if is_random(value):
        return True
    name = name.lstrip("-").lower()
    if _WHETHER.match(name) and _WHETHER_VALUES.fullmatch(value.lower()):
        return False
    if _is_called_secret(name):
        return not (_ELSEWHERE.fullmatch(value) or (_KEY_OR_FILE.search(name) and _FILE.fullmatch(value)))
    return bool(_KEY_NAME.search(name) and _KEY_LIKE.fullmatch(value))


# -- forms ---------------------------------------------------------------------------------------------------

# Tokens that say themselves whose they are, and keys in PEM.
TOKEN = re.compile(
    r"eyJ[A-Za-z0-9_-]{8,}+\.[A-Za-z0-9_-]{8,}+(?:\.[A-Za-z0-9_-]*+)*"  # JSON Web Token, RFC 7519
    r"|\bgh[opsur]_[A-Za-z0-9]{16,}+|\bgithub_pat_\w{16,}+|\bgl(?:pat|dt|rt|cbt|ptt|ft|soat|agent)-[\w-]{16,}+"
    r"|\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{12,}+|\bAIza[\w-]{30,}+|\bya29\.[\w-]{16,}+|\bGOCSPX-[\w-]{16,}+"
    r"|\bxox[a-z]-[\w-]{8,}+|\bxapp-[\w-]{8,}+|hooks\.slack\.com/(?:services|workflows)/[\w/]++"
    r"|\bsk-[\w-]{16,}+|\b[rsp]k_(?:live|test)_\w{8,}+|\bwhsec_\w{8,}+|\bhv[sbr]\.[\w-]{16,}+"
    r"|\bs\.[A-Za-z0-9]{24}\b|\bdckr_(?:pat|oat)_[\w-]{16,}+|\bnpm_[A-Za-z0-9]{16,}+|\bpypi-[\w-]{16,}+"
    r"|\bSG\.[\w-]{8,}+\.[\w-]{8,}+|\bdop_v1_[0-9a-f]{16,}+|\bhf_[A-Za-z0-9]{16,}+|\bAGE-SECRET-KEY-[A-Z0-9-]++"
    r"|-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----(?:(?!-----END ).)*+"
    r"(?:-----END [A-Z0-9 ]{0,48}-----)?",
    re.DOTALL,
)
# What stands before a credential in a header (RFC 9110 section 11.1; IANA's registry, and what is in use).
SCHEME = re.compile(r"(?:basic|bearer|digest|negotiate|token|splunk|apikey|aws4-hmac-sha256)", re.IGNORECASE)

_RANDOM = re.compile(r"[A-Za-z0-9+/_-]{32,}={0,2}")
# Of the characters of random base64 two in three have a neighbour of another class; of a name in camel case
# one in five.
_CHANGES_MIN = 0.35
# What is called a key and is one has no dot, has a digit, and is long.
_KEY_LIKE = re.compile(r"(?=[^0-9]*[0-9])[A-Za-z0-9+_=-][A-Za-z0-9+/_=-]{15,}")


def is_random(word: str) -> bool:
    """Whether it is long and of small letters, capitals and digits in no order, as generated secrets are.

    Hexadecimal digits and UUIDs are not: they are ids of containers, commits and images far more often.
    """
    if not _RANDOM.fullmatch(word) or word.startswith("/"):
        return False
    classes = [1 if char.islower() else 2 if char.isupper() else 3 if char.isdigit() else 0 for char in word]
    if not {1, 2, 3} <= set(classes):
        return False
    return sum(one != other for one, other in pairwise(classes)) >= _CHANGES_MIN * len(word)


# -- programs ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Program:
    """Where a program's command line holds a secret under no name that says so.

    Attributes:
        flags: letters of options without a value, which may stand before another in one word.
        letters: options of one letter whose value is secret, in the same word or the next.
        attached: the same where it is secret only in the same word (alone, the option means: ask).
        words: other options whose next word is secret.
        split: options with the mark behind which the rest of their value is secret; "" means any word. The
            mark `@` stands behind the secret: `user:secret@host`.
        behind: words, of which subcommand ever, behind which the so many-th word is secret.
        last: the last word of all is secret, given this flag (`*`: always).
        subcommand: what must stand before for any of it to hold.
        every: after the subcommand, every word that is no option is secret.
    """

    flags: str = ""
    letters: str = ""
    attached: str = ""
    words: frozenset[str] = frozenset()
    split: dict[str, str] = field(default_factory=dict)
    behind: dict[str, int] = field(default_factory=dict)
    last: str = ""
    subcommand: str = ""
    every: bool = False

    @property
    def all_letters(self) -> str:
        """Options of one letter with a secret in them."""
        return self.letters + self.attached + "".join(name[1] for name in self.split if len(name) == 2)


_MYSQL = Program(flags="BCEGHLNTXbcfijnoqrstvw", attached="p", words=frozenset({"password"}))
_LDAP = Program(flags="ACIKLMNPQTZcknruvxz", letters="w")
_ORACLE = Program(split={"": "/"})
_SAMBA = Program(split={"-U": "%", "--user": "%"})
_SNMP = Program(letters="AXc", words=frozenset({"-3k", "-3K", "-3m", "-3M"}))
_CURL = {
    "-u": ":",
    "-U": ":",
    "--user": ":",
    "--proxy-user": ":",
    "-E": ":",
    "--cert": ":",
    "--proxy-cert": ":",
    "-x": "@",
    "--proxy": "@",
    "--preproxy": "@",
}
_HTTPIE = Program(flags="hbpvfj", letters="a")
# Their --user is a user and a group.
CONTAINERS = Program(letters="p", subcommand="login")

_FAMILIES = {
    "mysql mysqldump mysqladmin mysqlimport mysqlshow mysqlcheck mysqlslap mysqlpump mysqlbinlog": _MYSQL,
    "mariadb mariadb-dump mariadb-admin mariadb-backup mariadb-binlog xtrabackup mytop": _MYSQL,
    "ldapsearch ldapmodify ldapadd ldapdelete ldapwhoami ldapcompare ldapmodrdn ldapexop": _LDAP,
    "ldappasswd": Program(flags=_LDAP.flags, letters="was"),
    "curl": Program(flags="#0123469BGIJLMNOSVafgijklnpqsv", split=_CURL, letters="b"),
    "etcdctl": Program(split={"--user": ":"}),
    "http https xh xhs": _HTTPIE,
    "sshpass": Program(flags="v", letters="p"),
    "openssl": Program(
        words=frozenset({"-k", "-K", "-hmac", "-psk", "-srppass"}),
        split={"-macopt": "key:", "-kdfopt": "key:"},
    ),
    "redis-cli redis-benchmark": Program(letters="a", words=frozenset({"auth", "AUTH"})),
    "mongo mongosh mongodump mongorestore mongoexport mongoimport": Program(letters="p"),
    "docker podman nerdctl buildah skopeo helm oras az oc": CONTAINERS,
    "htpasswd mosquitto_passwd": Program(last="b"),
    "wpa_passphrase isql": Program(last="*"),
    "sqlcmd bcp mssql-cli tsql fisql": Program(letters="P"),
    "sqlplus rman expdp impdp sqlldr": _ORACLE,
    "smbclient rpcclient smbget wbinfo smbcacls smbtree smbcquotas net winexe": _SAMBA,
    "snmpget snmpwalk snmpset snmpbulkwalk snmptrap snmpgetnext": _SNMP,
    "lftp": Program(split={"-u": ","}),
    "plink pscp psftp putty": Program(words=frozenset({"-pw"})),
    "7z 7za 7zr rar unrar": Program(attached="p"),
    "zip unzip zipcloak": Program(letters="P", flags="acdefgjklmnoqrstuvxyz"),
    "ipmitool mosquitto_pub mosquitto_sub mosquitto_rr": Program(letters="P"),
    "ssh-keygen": Program(flags="qvBelyopA", letters="NP"),
    "useradd usermod groupadd groupmod": Program(flags="mMrNUoGa", letters="p"),
    "xfreerdp wlfreerdp xfreerdp3": Program(split={"": "/p:"}),
    "rdesktop twine cqlsh": Program(letters="p"),
    "vault": Program(subcommand="login", every=True, behind={"unseal": 1, "unwrap": 1}),
    "rabbitmqctl": Program(behind={"add_user": 2, "change_password": 2, "authenticate_user": 2}),
    "mount mount.cifs": Program(split={"-o": "%"}),
    "nmcli": Program(
        words=frozenset(
            {"wifi-sec.psk", "802-11-wireless-security.psk", "802-1x.password", "wifi-sec.wep-key0"}
        )
    ),
    "kadmin kadmin.local ktutil ipa-client-install": Program(letters="w"),
    "pdftk": Program(words=frozenset({"owner_pw", "user_pw", "input_pw"})),
}
PROGRAMS = {name: program for names, program in _FAMILIES.items() for name in names.split()}
# `openssl` needs two: what its other subcommands take, and the words behind this one.
OPENSSL_PASSWD = Program(subcommand="passwd", every=True)
SHELLS = frozenset({"sh", "bash", "dash", "ash", "zsh", "ksh", "busybox", "su"})
