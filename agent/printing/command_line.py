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
_SHELL_WORD = re.compile(r"(?:[^\s\"'\\;|&]|\\.|\"(?:[^\"\\]|\\.)*+\"?|'[^']*+'?)+|[;|&]+", re.DOTALL)
# A name alone whose value is the next word: `aws configure set aws_secret_access_key`, `app set password`.
# With hyphens it is a package or a program (base-passwd), with another last part a file (passwd.conf).
_NAME = re.compile(
    r"(?:[a-z][a-z0-9]*\.)*(?P<last>[a-z][a-z0-9]*(?:_[a-z0-9]+)+|password|passphrase|requirepass|masterauth)",
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
        words.append(_readable(raw) if is_shown else None)
        left -= len(raw) if is_shown else 0
        if number == WORDS_MAX and len(argv) > WORDS_MAX:
            words.append(None)
            break
    shown = _Reader().words(words)
    if len(shown) == 1 and shown[0] is not None:
        # A title that a server has written over its arguments, and no command: `nginx: worker process`.
        line = shown[0]
    else:
        line = " ".join(CUT if word is None else _quoted(word) for word in shown)
    return line if len(line) <= LINE_CHARS_MAX else line[: LINE_CHARS_MAX - len(CUT)] + CUT


def _readable(raw: bytes) -> str:
    return _CONTROL.sub(_escaped, canonical.escape_bytes(raw))


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
        if self._depth and word and not word.strip(";|&"):
            self._begin()
            return word
        waiting, name = self._waiting, self._waiting_name
        self._waiting = None
        # Also of a word that is hidden: `--password --token x` leaves two of them to hide.
        self._look(word)
        if waiting is None:
            shown = self._attached(word) or self._inside(word)
        elif waiting:
            before, mark, after = word.partition(waiting)
            shown = before + mark + MASK if after else self._inside(word)
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
        if not word:
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
            before, mark, value = value.partition(mark)
            head += before + mark
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
        if self._depth < _DEPTH_MAX and re.search(r"\s", shown):
            shown = self._nested(shown)
        return shown

    def _nested(self, script: str) -> str:
        """A word that holds several, as a shell would take them apart."""
        reader = _Reader(self._depth + 1)
        out = []
        at = 0
        for match in _SHELL_WORD.finditer(script):
            token = match[0]
            is_quoted = len(token) > 1 and token[0] in "\"'" and token[0] == token[-1]
            quote = token[0] if is_quoted else ""
            inner = token[1:-1] if is_quoted else token
            out += [script[at : match.start()], quote, reader.word(inner), quote]
            at = match.end()
        return "".join([*out, script[at:]])


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
