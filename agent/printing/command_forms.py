# SPDX-License-Identifier: Apache-2.0
"""Which parts of one text are a secret by their name, place or form? The text with those parts hidden.

The text may be anything a word of a command line can be: a URL, a header, JSON, XML, a list of assignments, a
line of SQL. `agent.printing.command_line` knows what the words around it mean.
"""

from __future__ import annotations

import re

from agent.printing.command_secrets import (
    PROGRAMS,
    SCHEME,
    TOKEN,
    is_random,
    is_secret,
    is_secret_name,
    may_be_secret,
)

MASK = "***"

# A name and its value inside a text. What stands before the name says where the value ends.
_INNER = re.compile(
    r"(?:^|(?<=[\s\"'{,;&?(\[|:/=]))(?P<name>(?:--?|-D)?[A-Za-z_][\w.-]{0,80})"
    r"(?P<sep>\\?[\"']?[\]}]?\s{0,8}(?:"
    r"(?::=|=>|={1,2})(?:\s{0,8}(?=[\"'\[{])|[ \t]{0,8})"
    r"|:(?!//)(?:\s{0,8}(?=[\"'\[{|>-])|[ \t]{0,8}(?:\r?\n[ \t]{1,40})?)))"
)
# In quotes that are escaped, in quotes, a block or a list of YAML, bare.
_VALUE = re.compile(
    r"\\\"(?:[^\"\\]|\\\\(?:\\\")?|\\[^\"\\])*+(?:\\\")?"
    r"|\"(?:[^\"\\]|\\.)*+\"?|'[^']*+'?"
    r"|[|>][-+0-9]{0,2}[ \t]*+\r?\n(?:[ \t]++[^\n]*+\n?|\n)*+"
    r"|(?:-[ \t][^\n]*+(?:\n[ \t]*+(?=-[ \t]))?)++"
    r"|(?:[^\s\"'\\]|\\.)*+",
    re.DOTALL,
)
_BRACKET = re.compile(r"\\.|\"(?:[^\"\\]|\\.)*+\"|'[^']*+'|[\[\]{}]", re.DOTALL)
_RUN = re.compile(r"(?<![A-Za-z0-9+/_-])[A-Za-z0-9+/_-]{32,}={0,2}")
_ENDS = {"&": "&#", "?": "&#", ",": ",", ";": ";", "(": ",)", "{": ",}", "[": ",]"}
_HEADER = re.compile(
    r"(?P<name>[A-Za-z][\w-]{2,60}):[ \t]{1,8}+(?![\[{]|[|>][-+0-9]{0,2}+[ \t]*+[\r\n])(?P<value>[^\r\n\"']+)"
)
_TAG = re.compile(
    r"<(?P<name>[A-Za-z_][\w:.-]{0,60})(?P<attributes>(?:\s(?:[^<>\"']|\"[^\"]*+\"|'[^']*+')*+)?)(?P<end>/?)>"
)
_ATTRIBUTE_NAME = re.compile(
    r"\s(?:key|name|id|property)\s{0,4}=\s{0,4}[\"']([^\"']{1,80})[\"']", re.IGNORECASE
)
_ATTRIBUTE_VALUE = re.compile(
    r"(\s(?:value|content|data|text)\s{0,4}=\s{0,4})(\"[^\"]*+\"|'[^']*+')", re.IGNORECASE
)
_CREDENTIAL = re.compile(r"\b(bearer|basic|splunk|apikey)\s{1,8}(?!\*\*\*)[^\s\"']+", re.IGNORECASE)
_SQL = re.compile(
    r"\b(?P<name>identified\s{1,8}(?:with\s{1,8}\S{1,40}\s{1,8})?(?:by|as)(?:\s{1,8}password)?|set\s{1,8}password\s{1,8}for\s{1,8}\S{1,80}"
    r"|pragma\s{1,8}(?:\w{1,40}\.)?(?:hex)?(?:re)?key|password|passphrase)"
    r"(?P<gap>\s{1,8}\(?|\(\s{0,8}|\s{0,8}=\s{0,8}(?:password\s{0,8}\(\s{0,8})?)"
    r"(?:(?P<quotes>[\\'\"`]{2,12}+)[^'\"`]+"
    r"|(?P<quote>['\"`])(?:\\.|(?P=quote){2}|(?!(?P=quote))[^\\])++)",
    re.IGNORECASE | re.DOTALL,
)

_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]{1,30})://(?P<rest>[^\s\"'<>]+)")
# An address without a scheme, and Go's names of databases.
_NET = re.compile(r"(?<![:/\w.])//(?P<user>[^\s/@:\"'<>]{0,64}):(?P<secret>[^\s\"'<>]+)@")
_DSN = re.compile(r"(?<![\w.%+-])(?P<user>[\w.%+-]{0,64}):[^\s\"']{1,200}@(?=[a-z0-9]{2,10}\()")
_NEXT_URL = re.compile(r"[,;|](?=[A-Za-z][A-Za-z0-9+.-]{1,30}://)")
_PORT = re.compile(r"\d{0,5}(?:$|[/?#,;])")
_BRACKETS = re.compile(r"\[[0-9A-Fa-f:.%]*\]")
# Before a web address the name alone may be the token; before all others it is somebody's account.
_WEB = frozenset({"http", "https"})


def hidden(text: str) -> str:
    """The text with MASK for what is a secret."""
    text = TOKEN.sub(MASK, text)
    text = _URL.sub(_url, text)
    text = _NET.sub(
        lambda match: match[0] if _PORT.match(match["secret"]) else f"//{match['user']}:{MASK}@", text
    )
    text = _DSN.sub(lambda match: f"{match['user']}:{MASK}@", text)
    text = _HEADER.sub(_header, text)
    text = _CREDENTIAL.sub(lambda match: f"{match[1]} {MASK}", text)
    text = _elements(text)
    text = _SQL.sub(
        lambda match: match["name"] + match["gap"] + (match["quotes"] or match["quote"]) + MASK, text
    )
    text = _named(text)
    return _RUN.sub(lambda match: MASK if is_random(match[0]) else match[0], text)


def credential(value: str) -> str:
    """What is shown for the value of a header that holds one: its scheme, if it has one, stays."""
    scheme, space, rest = value.lstrip().partition(" ")
    return f"{scheme} {MASK}" if space and rest and SCHEME.fullmatch(scheme) else MASK


def _url(match: re.Match[str]) -> str:
    # Several may stand in a row, each with its own password.
    pieces = _NEXT_URL.split(match["rest"])
    marks = [found[0] for found in _NEXT_URL.finditer(match["rest"])]
    first = f"{match['scheme']}://{_address(match['scheme'], pieces[0])}"
    rest = [mark + _URL.sub(_url, piece) for mark, piece in zip(marks, pieces[1:], strict=True)]
    return "".join([first, *rest])


def _address(scheme: str, rest: str) -> str:
    """What follows `://`, without its secret (RFC 3986 section 3.2.1), also where it was not escaped."""
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    user, colon, after = rest.partition(":")
    # What follows a colon and is no port is a password; it may hold slashes, or its end and `@` be cut off.
    is_password = (
        bool(colon) and not set("/?#@") & set(user) and not _BRACKETS.match(rest) and not _PORT.match(after)
    )
    if not is_password and "@" not in authority:
        return rest
    # A password may hold an `@` itself, so the last one counts.
    at = rest.rfind("@") if is_password else authority.rfind("@")
    host = rest[at:] if at >= 0 else ""
    if scheme.lower().rpartition("+")[2] in _WEB:
        return MASK + host
    return f"{user}:{MASK}{host}" if is_password else rest


def _header(match: re.Match[str]) -> str:
    return f"{match['name']}: {credential(match['value'])}" if is_secret_name(match["name"]) else match[0]


def _elements(text: str) -> str:
    """The text with what elements of XML hold hidden, where they or their key are called like a secret."""
    out = []
    at = 0
    while match := _TAG.search(text, at):
        names = [match["name"].rpartition(":")[2], *_ATTRIBUTE_NAME.findall(match["attributes"])]
        called = next((name for name in names if is_secret_name(name)), "")
        begin = match.end()
        out.append(text[at : match.start()])
        at = begin
        if not called:
            out.append(match[0])
            continue
        attributes = _ATTRIBUTE_VALUE.sub(
            lambda value: value[1] + value[2][0] + MASK + value[2][0], match["attributes"]
        )
        out.append(f"<{match['name']}{attributes}{match['end']}>")
        if match["end"]:
            continue
        end = text.find("</" + match["name"], begin)
        if end < 0 and not text.startswith("<![CDATA[", begin):
            end = text.find("<", begin)
        end = len(text) if end < 0 else end
        if is_secret(called, text[begin:end].strip()):
            out.append(MASK)
            at = end
    return "".join([*out, text[at:]])


def _named(text: str) -> str:
    """The text with the values of secret names hidden."""
    out = []
    at = 0
    while match := _INNER.search(text, at):
        begin = match.end()
        out.append(text[at:begin])
        at = begin
        name = match["name"].removeprefix("-D")
        # Most names are told by themselves; a value may hold further names: `opts=user=x,password=y`.
        if not may_be_secret(name):
            continue
        mark, value = _value(text[match.start() - 1 : match.start()], text, begin)
        if value in PROGRAMS and match["sep"].endswith((" ", "\t")):
            continue  # a variable that is emptied for one command
        plain = value.strip("\"'\\")
        if is_mount(name, match["sep"].strip(), plain):
            at += len(value)
            out.append(value)
        elif is_secret(name, plain):
            at += len(value)
            out.append(mark + MASK + mark)
    return "".join([*out, text[at:]])


def _value(before: str, text: str, begin: int) -> tuple[str, str]:
    """Its quotation mark, and the value as far as it reaches: what stands before the name says how far."""
    if text[begin : begin + 1] in ("[", "{"):
        return "", text[begin : _closed(text, begin)]
    found = _VALUE.match(text, begin)
    value = found[0] if found else ""
    for mark in ('\\"', '"', "'"):
        if value.startswith(mark):
            return mark, value
    ends = _ENDS.get(before, "")
    cut = min((at for end in ends if (at := value.find(end)) >= 0), default=len(value))
    return "", value[:cut]


def _closed(text: str, begin: int) -> int:
    """Where what the bracket opens ends; the end of the text if nowhere."""
    depth = 0
    for match in _BRACKET.finditer(text, begin):
        depth += 1 if match[0] in ("[", "{") else -1 if match[0] in ("]", "}") else 0
        if depth == 0:
            return match.end()
    return len(text)


def is_mount(name: str, sep: str, value: str) -> bool:
    """Whether it is a place and another, `secrets:/run/secrets`; `pass:/abc` is a password."""
    return sep == ":" and value.startswith("/") and not name.startswith("pass")
