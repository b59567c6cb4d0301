# SPDX-License-Identifier: Apache-2.0
r"""How is a command line shown to people and log systems? As it was, with `***` for every secret in it.

A secret is found by what it is called (`--password=`, `PGPASSWORD=`, `"token":`), by the program that takes
it (`mysql -p`, `curl -u`), by its place (`https://user:secret@host`) or by its form (a JSON Web Token). Where
that is in doubt, it is hidden. It is hidden before anything is cut, so that nothing depends on where a line
ends. Scripts and nested commands (`sh -c`, `ssh host`, `sudo`) are read the same way.

Words stand in quotes where a shell would need them. Bytes that are not UTF-8, and characters that would move
a terminal's cursor, are written `\xNN` (see `agent.model.canonical`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from agent.model import canonical
from agent.printing.command_forms import MASK, credential, hidden, is_mount
from agent.printing.command_secrets import (
    CONTAINERS,
    OPENSSL_PASSWD,
    PROGRAMS,
    SCHEME,
    SHELLS,
    Program,
    is_random,
    is_secret,
    is_secret_name,
)

CUT = "..."
# A line of a log that people read. Java's class paths are longer, and say little.
LINE_CHARS_MAX = 4096
# What is longer is a script or a class path; it is left out whole, so that no half of a secret is left.
WORD_BYTES_MAX = 2048
# To be read, before anything is hidden: whoever runs a program chooses how much there is.
ARGV_BYTES_MAX = 8192
WORDS_MAX = 256
# A shell in a shell in a shell.
_DEPTH_MAX = 3

_BARE = re.compile(r"[\w@%+=:,./-]+", re.ASCII)
# What a terminal may obey instead of showing it, or no ASCII: `_escaped` tells them apart.
_CONTROL = re.compile(r"[^ -~]")

# A name and its value that are a whole word. -D is Java's.
_ASSIGNMENT = re.compile(
    r"(?P<name>(?:--?|-D)?[A-Za-z_][\w.\[\]-]*?)(?P<sep>:=|=|:(?!//))(?P<value>.*)", re.DOTALL
)
_SHELL_WORD = re.compile(r"(?:[^\s\"'\\;|&()`]|\\.|\"(?:[^\"\\]|\\.)*+\"?|'[^']*+'?)+|[;|&()`\n]+", re.DOTALL)
# The quotes and escapes of a word of a shell.
_QUOTING = re.compile(r"'(?P<single>[^']*+)'?|\"(?P<double>(?:[^\"\\]|\\.)*+)\"?|\\(?P<escaped>.)", re.DOTALL)
_ESCAPE = re.compile(r"\\(?:\n|([\"\\$`]))")
# Behind these a command begins.
_SEPARATORS = ";|&()`\n"
_BEGINNING = frozenset({"{", "}", "!"})
# A name alone whose value is the next word: `aws configure set aws_secret_access_key`, `app set password`.
# With hyphens it is a package or a program (base-passwd), with another last part a file (passwd.conf).
_NAME = re.compile(
    r"(?:[a-z][a-z0-9]*\.|[^\s:]{0,200}:(?=_))*(?P<last>_(?:authtoken|auth|password)|[a-z][a-z0-9]*(?:_[a-z0-9]+)+|password|passphrase|requirepass|masterauth)",
    re.IGNORECASE,
)
_OPTION = re.compile(r"--?[A-Za-z][\w.-]*")
# A name and a password, of any program that asks for both in one word.
_USER = "--user"
# Behind these stands no program, whatever it is called.
_NAMING = frozenset({"--name", "--hostname", "--network", "--link", "--user", "-u"})
# Behind these stands a program, whatever it is called.
_RUNNING = frozenset({"", "sudo", "doas", "env", "exec", "nohup", "install", "reinstall", "--"})


def masked(argv: Sequence[bytes], *, is_cut: bool = False) -> str:
    """The command line on one line, at most LINE_CHARS_MAX characters.

    Args:
        argv: its words as the kernel has them.
        is_cut: the last word may lack its end; then it is left out, for half of a secret has no mark.
    """
    words: list[str | None] = []
    left = ARGV_BYTES_MAX
    for number, raw in enumerate(argv, start=1):
        is_shown = len(raw) <= min(WORD_BYTES_MAX, left) and not (is_cut and number == len(argv))
        words.append(raw.decode(errors="surrogateescape") if is_shown else None)
        left -= len(raw) if is_shown else 0
        if number == WORDS_MAX and len(argv) > WORDS_MAX:
            words.append(None)
            break
    shown = [None if word is None else _readable(word) for word in _Reader().words(_without_keys(words))]
    if len(shown) == 1 and shown[0] is not None:
        # A title that a server has written over its arguments, and no command: `nginx: worker process`.
        line = shown[0]
    else:
        line = " ".join(CUT if word is None else _quoted(word) for word in shown)
    return line if len(line) <= LINE_CHARS_MAX else line[: LINE_CHARS_MAX - len(CUT)] + CUT


def _without_keys(words: Sequence[str | None]) -> list[str | None]:
    """The words without those of a private key in PEM that a shell has taken apart."""
    out = list(words)
    is_key = is_ending = False
    for at, word in enumerate(words):
        if word is None:
            continue
        if not is_key and "-----BEGIN" in word and "-----END" not in word.partition("-----BEGIN")[2]:
            following = " ".join(part for part in words[at : at + 6] if part is not None)
            is_key, is_ending = "PRIVATE KEY" in following[: following.find("BEGIN") + 60], False
        if is_key:
            out[at] = MASK
            is_ending = is_ending or "-----END" in word
            is_key = not (is_ending and word.partition("-----END")[2].endswith("-----")) and not (
                is_ending and "-----END" not in word and word.endswith("-----")
            )
    return out


def _readable(word: str) -> str:
    return _CONTROL.sub(_escaped, canonical.escape_bytes(word.encode(errors="surrogateescape")))


def _escaped(match: re.Match[str]) -> str:
    char = match[0]
    return char if char.isprintable() else "".join(f"\\x{byte:02x}" for byte in char.encode())


def _quoted(word: str) -> str:
    if _BARE.fullmatch(word.replace(MASK, "x")):
        return word
    return "'" + word.replace("'", "'\"'\"'") + "'"


class _Reader:
    """Goes along the words of one command, knowing what the ones before ask for."""

    def __init__(self, depth: int = 0) -> None:
        self._depth = depth
        self._begin()

    def _begin(self) -> None:
        self._program: Program | None = None
        self._is_reached = False
        self._is_shell = False
        # What the next word is: None nothing special, "" a secret, else a secret behind this mark.
        self._waiting: str | None = None
        self._waiting_name = ""
        self._before = ""
        # So many words on there is a secret.
        self._countdown = 0

    def words(self, words: Sequence[str | None]) -> list[str | None]:
        """The words with secrets hidden; None stays, for one that is not shown."""
        shown: list[str | None] = []
        last = ""
        for word in words:
            if word is None:
                self._waiting = None
            shown.append(None if word is None else self.word(word))
            last = last or (self._program.last if self._program else "")
        if last and len(words) > 2 and words[-1] is not None:
            flags = {char for word in words if word and re.fullmatch(r"-[A-Za-z0-9]+", word) for char in word}
            if last == "*" or last in flags:
                shown[-1] = MASK
        return shown

    def word(self, word: str) -> str:
        """One word with secrets hidden."""
        if self._depth and (word in _BEGINNING or (word and not word.strip(_SEPARATORS))):
            self._begin()
            return word
        waiting, name = self._waiting, self._waiting_name
        self._waiting = None
        # Also of a word that is hidden: `--password --token x` leaves two of them to hide.
        self._look(word)
        if waiting is None:
            shown = self._attached(word) or self._inside(word)
        elif waiting:
            shown = _split(word, waiting) or self._inside(word)
        else:
            shown = self._value(name, word)
        self._before = word
        return shown

    def _value(self, name: str, word: str) -> str:
        """A word that is the value of the one before."""
        if SCHEME.fullmatch(word):
            self._wait("")
            return word
        if name and not is_secret(name, word):
            return self._inside(word)
        if not word or word.rstrip(",;)]}") == MASK:
            return word  # that there is none is no secret
        return "pass:" + MASK if word.startswith("pass:") else MASK

    def _wait(self, mark: str, name: str = "") -> None:
        self._waiting, self._waiting_name = mark, name

    def _look(self, word: str) -> None:
        """What this word says about the ones behind it."""
        self._take_program(word)
        if word == _USER and self._program is not CONTAINERS:
            self._wait(":")
        elif word.startswith("-"):
            if _OPTION.fullmatch(word) and is_secret_name(word):
                self._wait("", word)
        elif word.endswith(":") and is_secret_name(word[:-1]):
            self._wait("")
        elif self._depth == 0 and self._before not in _RUNNING:
            match = _NAME.fullmatch(word)
            if match and is_secret_name(match["last"]):
                self._wait("", word)
        self._count(word)
        rule = self._rule()
        if rule is None:
            return
        if word in rule.words:
            self._wait("")
        elif word in rule.split:
            self._wait(rule.split[word])
        else:
            letter = _letter(word, rule.flags, rule.all_letters)
            if letter and letter not in rule.attached and word.endswith(letter):
                self._wait(rule.split.get("-" + letter, ""))

    def _count(self, word: str) -> None:
        """Goes on to the word that is a secret by its number."""
        behind = self._program.behind if self._program else {}
        if word in behind:
            self._countdown = behind[word]
        elif self._countdown and not word.startswith("-"):
            self._countdown -= 1
        else:
            return
        self._waiting = "" if self._countdown == 1 else None

    def _take_program(self, word: str) -> None:
        name = word.rpartition("/")[2]
        if name in SHELLS:
            self._is_shell = True
        if name in PROGRAMS and self._before not in _NAMING:
            self._program, self._is_reached = PROGRAMS[name], False
        elif self._program is PROGRAMS["openssl"] and word == OPENSSL_PASSWD.subcommand:
            self._program, self._is_reached = OPENSSL_PASSWD, False
        elif self._program is not None and self._before == self._program.subcommand:
            self._is_reached = True
        elif self._program is not None and word == self._program.subcommand:
            self._is_reached = not self._program.every

    def _rule(self) -> Program | None:
        rule = self._program
        return None if rule is None or (rule.subcommand and not self._is_reached) else rule

    def _attached(self, word: str) -> str | None:
        """The word with a secret of its program's hidden in it; None where there is none of that kind."""
        rule = self._rule()
        if rule is None:
            return None
        if rule.every and not word.startswith("-"):
            return MASK
        if letter := _letter(word, rule.flags, rule.all_letters):
            before, _, value = word.partition(letter)
            head, mark = before + letter, rule.split.get("-" + letter)
        elif "=" in word and word.partition("=")[0] in rule.split:
            name, _, value = word.partition("=")
            head, mark = name + "=", rule.split[name]
        elif rule.split.get("") and not word.startswith("-"):
            head, value, mark = "", word, rule.split[""]
        else:
            return None
        if mark is not None:
            shown = _split(value, mark)
            return head + shown if shown else None
        return head + MASK if value else None

    def _inside(self, word: str) -> str:
        """The word with what is called or looks like a secret hidden in it."""
        if is_random(word):
            return MASK
        is_script = self._is_shell and re.fullmatch(r"-[a-z]*c", self._before) is not None
        match = None if is_script else _ASSIGNMENT.fullmatch(word)
        if match:
            name, sep, value = match["name"], match["sep"], match["value"]
            called = name.removeprefix("-D")
            if value.strip("\"')}];,") == MASK:
                return word
            if is_secret(called, value.strip()) and not is_mount(called, sep, value):
                # `Authorization: Bearer x` is one word too.
                space = " " if value.startswith(" ") else ""
                return name + sep + space + (credential(value) if space else MASK)
            if name == _USER and ":" in value and self._program is not CONTAINERS:
                return name + sep + value.partition(":")[0] + ":" + MASK
            if sep == "=" and self._depth < _DEPTH_MAX:
                # The value may be a command, an assignment or a URL itself.
                return name + sep + _Reader(self._depth + 1).word(value)
        shown = hidden(word)
        if re.search(r"\s", shown.strip()):
            # Deeper than anybody looks, nobody knows what is in it.
            shown = self._nested(shown) if self._depth < _DEPTH_MAX else MASK
        return shown

    def _nested(self, script: str) -> str:
        """A word that holds several, as a shell would take them apart."""
        reader = _Reader(self._depth + 1)
        out = []
        at = 0
        for match in _SHELL_WORD.finditer(script):
            token = match[0]
            plain = _QUOTING.sub(_unquoted, token)
            out.append(script[at : match.start()])
            at = match.end()
            if plain or token[0] != "\\":  # else the line goes on
                shown = reader.word(plain)
                out.append(token if shown == plain else _requoted(token, shown))
            else:
                out.append(token)
        return "".join([*out, script[at:]])


def _unquoted(match: re.Match[str]) -> str:
    if match["double"] is not None:
        return _ESCAPE.sub(lambda escape: escape[1] or "", match["double"])
    text = match["single"] if match["single"] is not None else match["escaped"]
    return "" if text == "\n" and match["escaped"] else text


def _requoted(token: str, shown: str) -> str:
    """What is shown instead of a word of a script, in the quotes it was in."""
    if token[0] == "'" and "'" not in shown:
        return f"'{shown}'"
    if token[0] == '"':
        return '"' + re.sub(r"([\"\\])", r"\\\1", shown) + '"'
    return shown if not re.search(r"[\s\"'\\]", shown) else "'" + shown.replace("'", "'\"'\"'") + "'"


def _split(value: str, mark: str) -> str:
    """The value with what is behind the mark hidden (before it, if that is an `@`); empty if nothing is."""
    if mark == "@":
        user, at, host = value.rpartition("@")
        name, colon, secret = user.partition(":")
        return f"{name}:{MASK}@{host}" if at and colon and secret and "://" not in value else ""
    before, mark, after = value.partition(mark)
    return hidden(before) + mark + MASK if after else ""


def _letter(word: str, flags: str, letters: str) -> str:
    """The option of one letter, one of `letters`, that a word is or holds behind flags; empty if none."""
    if len(word) < 2 or word[0] != "-":
        return ""
    for char in word[1:]:
        if char in letters:
            return char
        if char not in flags:
            return ""
    return ""
