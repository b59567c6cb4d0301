# SPDX-License-Identifier: Apache-2.0
"""How does one exchange with the collector go? A request over pinned TLS, an answer, what a refusal means.

No redirect is followed, no proxy is taken from the environment, no answer is decompressed, and none may be
larger or take longer than is named here. Whatever the network or the collector does ends in an answer,
UnreachableError (try later) or RefusedError (the same thing will be refused again).
"""

from __future__ import annotations

import contextlib
import email.utils
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import http_sf
import httpx
import msgspec

import agent
from agent import errors
from agent.model import canonical, wire
from agent.posting import signing, tls
from agent.posting.identity import HostKey
from agent.secret import Secret

# The largest answer is a 202 that names all parts of a state: 128 digests are 10 KiB. A CA bundle is smaller.
ANSWER_BYTES_MAX = 256 * 1024
# One body each way. A server that drips byte by byte satisfies every timeout of a single read.
_ANSWER_S_MAX = 120.0
# What the collector may ask for: more often than each minute harms the host, more seldom than weekly hides
# it.
NEXT_POST_S_MIN, NEXT_POST_S_MAX = 60, 7 * 24 * 3600
RETRY_AFTER_S_MAX = 24 * 3600
# Later may help: who we are may be known again, the body may arrive in time, there may be fewer requests.
_RETRY_STATUS = {401, 408, 409, 429}
_DETAIL_CHARS_MAX = 500
_HOST = re.compile(r"[a-z0-9._-]+|[0-9a-f:.]+")


@dataclass(frozen=True, kw_only=True)
class Pace:
    """What the collector wants next. Members that were absent or senseless are None or False."""

    next_post_s: int | None = None
    rescan: bool = False
    config_digest: str | None = None


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An answer of 2xx, or a 409, which is for the caller to resolve."""

    status: int
    body: bytes
    pace: Pace
    problem: wire.Problem | None = None


def collector_url(text: str) -> str:
    """`https://HOST[:PORT]`, as it is kept and shown.

    Raises:
        ConfigError: another scheme, a path, a name and password, or no URL at all. What may hold a password
            is not quoted.
    """
    try:
        parts = urlsplit(text.strip())
        port = parts.port
        # The URL library of the client is stricter than Python's about host names.
        host = httpx.URL(f"https://{parts.netloc}").raw_host.decode("ascii").lower()
    except (ValueError, httpx.InvalidURL, UnicodeError) as error:
        raise errors.ConfigError("the collector's URL is none; write https://HOST[:PORT]") from error
    if "@" in parts.netloc:
        raise errors.ConfigError(
            "the collector's URL holds a name or password; the host key is all that is needed"
        )
    if (
        parts.scheme != "https"
        or not _HOST.fullmatch(host)
        or parts.path not in ("", "/")
        or parts.query
        or parts.fragment
    ):
        raise errors.ConfigError(
            f"the collector's URL is {text[:200]!r}; write https://HOST[:PORT] and no path"
        )
    shown = f"[{host}]" if ":" in host else host
    return f"https://{shown}" if port in (None, 443) else f"https://{shown}:{port}"


class Client:
    """Exchanges with one collector, over one connection kept open. To be closed."""

    def __init__(
        self,
        url: str,
        context: tls.ContextMaker,
        clock_ns: Callable[[], int],
        *,
        proxy: Secret | None = None,
        timeout_s: float = 30.0,
    ) -> None:
        """Prepare; nothing is sent yet.

        Args:
            url: as `collector_url` writes it.
            context: gives the TLS context, with dates of certificates checked or not.
            clock_ns: the host's wall clock.
            proxy: http://[NAME:PASSWORD@]HOST:PORT, through which TLS is tunnelled.
            timeout_s: for connecting, and for each read and write.

        Raises:
            ConfigError: the proxy is no URL of that form.
        """
        self.url = url
        self.clock_doubt: str | None = None
        """Set once a certificate was refused for its dates alone and then taken: words for people."""
        self._context = context
        self._clock_ns = clock_ns
        self._proxy = proxy
        self._timeout_s = timeout_s
        self._http = self._open(check_dates=True)

    def _open(self, *, check_dates: bool) -> httpx.Client:
        try:
            return httpx.Client(
                verify=self._context(check_dates=check_dates),
                trust_env=False,
                follow_redirects=False,
                proxy=None if self._proxy is None else _proxy(self._proxy),
                timeout=self._timeout_s,
                limits=httpx.Limits(max_connections=1),
                headers={
                    "Accept": f"{wire.MEDIA_JSON}, {wire.MEDIA_PROBLEM}",
                    # What a few bytes may expand to is not worth the few bytes an answer has.
                    "Accept-Encoding": "identity",
                    "User-Agent": f"fleet-agent/{agent.__version__}",
                },
            )
        except (ValueError, httpx.InvalidURL):
            # The library's words quote the URL, and the URL may hold a password.
            raise errors.ConfigError("the proxy is no URL; write http://[NAME:PASSWORD@]HOST:PORT") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def exchange(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        headers: dict[str, str] | None = None,
        key: HostKey | None = None,
        hide: Sequence[Secret] = (),
    ) -> Answer:
        """Send one request and read its answer.

        Args:
            method: in capitals.
            path: with its leading slash, as it goes over the wire.
            body: exactly what is sent.
            headers: besides the usual ones.
            key: signs the request; without it the request is anonymous.
            hide: secrets in the body, which no error may quote back to us.

        Raises:
            UntrustedError: another CA than ours issued the server's certificate.
            UnreachableError: no answer, or one that says later: 401, 408, 429, 5xx.
            RefusedError: any other status from 300 on, but 409.
        """
        request = self._http.build_request(method, self.url + path, content=body, headers=headers)
        if key is not None:
            signing.sign_request(request, key, self._clock_ns())
        what = f"{method} {self.url}{path}"
        hide = [*hide, *([self._proxy] if self._proxy else [])]
        try:
            with self._send(request) as response:
                content = _read(response, what)
        except httpx.TimeoutException as error:
            raise errors.UnreachableError(f"{what}: no answer within {self._timeout_s:g} s") from error
        except (httpx.TransportError, httpx.StreamError) as error:
            raise self._unreachable(error, hide) from error
        return _judge(response, content, what, hide)

    @contextlib.contextmanager
    def _send(self, request: httpx.Request) -> Iterator[httpx.Response]:
        """The answer, its body still to be read. Where dates alone were wrong, a second try ignores them."""
        try:
            response = self._http.send(request, stream=True)
        except httpx.ConnectError as error:
            failure = tls.date_failure(error)
            if failure is None or self.clock_doubt is not None:
                raise
            lenient = self._open(check_dates=False)
            try:
                response = lenient.send(request, stream=True)
            except httpx.HTTPError:
                # A try that failed for another reason must not leave a client behind that overlooks dates
                # unsaid.
                lenient.close()
                raise
            self._http.close()
            self._http = lenient
            self.clock_doubt = (
                f"the collector's certificate is {failure} by this host's clock, which says"
                f" {canonical.timestamp(self._clock_ns())}; the collector's says {_date(response)}. It was"
                f" taken because everything else about it is right; set the clock, or renew the certificate"
            )
        try:
            yield response
        finally:
            response.close()

    def _unreachable(self, error: Exception, hide: Sequence[Secret]) -> errors.UnreachableError:
        words = tls.refusal_words(error)
        if words is None:
            return errors.UnreachableError(
                f"cannot reach {self.url}: {_clean(str(error), hide) or 'no reason given'}"
            )
        kind = tls.UntrustedError if tls.untrusted(error) else errors.UnreachableError
        return kind(
            f"{self.url} is not the collector this host trusts: {_clean(words, hide)}. Nothing was sent. If"
            f" its CA was changed, enrol again with the new pin; if its name was, let its certificate name it"
        )


def _proxy(proxy: Secret) -> str:
    url = proxy.reveal()
    # A TLS proxy would need trust of its own, and SOCKS a library of its own.
    if urlsplit(url).scheme != "http" or not urlsplit(url).hostname:
        raise ValueError
    return url


def _read(response: httpx.Response, what: str) -> bytes:
    end = time.monotonic() + _ANSWER_S_MAX
    content = b""
    for chunk in response.iter_raw():
        content += chunk
        if len(content) > ANSWER_BYTES_MAX:
            raise errors.UnreachableError(
                f"{what}: an answer of more than {ANSWER_BYTES_MAX} bytes, which is none of ours"
            )
        if time.monotonic() > end:
            raise errors.UnreachableError(f"{what}: the answer took more than {_ANSWER_S_MAX:g} s")
    return content


def _judge(response: httpx.Response, content: bytes, what: str, hide: Sequence[Secret]) -> Answer:
    status = response.status_code
    if 200 <= status < 300:
        return Answer(status=status, body=content, pace=parse_pace(response.headers.get(wire.PACE_HEADER)))
    problem = _problem(content)
    if status == 409 and problem is not None and problem.seq is not None:
        return Answer(status=status, body=b"", pace=Pace(), problem=problem)
    words = f"{what}: {status} {_words(response, problem, hide)}"
    if status in _RETRY_STATUS or status >= 500:
        raise errors.UnreachableError(
            words, retry_after_s(response.headers.get("retry-after"), response.headers.get("date"))
        )
    if 300 <= status < 400:
        raise errors.RefusedError(
            f"{words}; redirects are not followed, enrol with the collector's own URL", status
        )
    raise errors.RefusedError(words, status, problem.type.rpartition(":")[2] if problem else None)


def _problem(content: bytes) -> wire.Problem | None:
    try:
        return msgspec.json.decode(content, type=wire.Problem)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError):
        # A proxy in between speaks HTML.
        return None


def _words(response: httpx.Response, problem: wire.Problem | None, hide: Sequence[Secret]) -> str:
    if problem is None:
        return _clean(response.reason_phrase, hide) or "without a word"
    return _clean(f"{problem.title}: {problem.detail}" if problem.detail else problem.title, hide)


def _clean(words: str, hide: Sequence[Secret]) -> str:
    """Foreign words on one line, without our secrets and without what a terminal would obey."""
    for secret in hide:
        words = secret.hide_in(words)
    return "".join(char if char.isprintable() else " " for char in words)[:_DETAIL_CHARS_MAX].strip()


def _date(response: httpx.Response) -> str:
    return _clean(response.headers.get("date", "nothing"), ())


def bounded_pace_s(next_post_s: int) -> int:
    """What the collector asks for, within what is good for a host."""
    return min(max(next_post_s, NEXT_POST_S_MIN), NEXT_POST_S_MAX)


def parse_pace(header: str | None) -> Pace:
    """The pace in a header, a structured dictionary (RFC 8941). It is advice: the unreadable is absent."""
    try:
        found = http_sf.parse((header or "").encode("ascii"), tltype="dictionary")
    except (ValueError, UnicodeEncodeError):
        return Pace()
    members = found.items() if isinstance(found, dict) else ()
    values = {name: member[0] for name, member in members if isinstance(member, tuple)}
    next_post_s, config = values.get("next_post_s"), values.get("config_digest")
    return Pace(
        next_post_s=bounded_pace_s(next_post_s) if type(next_post_s) is int else None,
        rescan=values.get("rescan") is True,
        config_digest=config if isinstance(config, str) else None,
    )


def retry_after_s(header: str | None, date: str | None) -> int | None:
    """Seconds in a Retry-After header, at most a day; None when there is none that can be read.

    A date in it is held against the answer's own `date`, not against a clock of ours, which may be wrong.

    Source: RFC 9110, section 10.2.3.
    """
    if header is None:
        return None
    if header.isascii() and header.isdigit():
        return min(int(header[:9]), RETRY_AFTER_S_MAX)
    try:
        wait = email.utils.parsedate_to_datetime(header) - email.utils.parsedate_to_datetime(date or "")
        return min(max(int(wait.total_seconds()), 0), RETRY_AFTER_S_MAX)
    except (ValueError, TypeError):
        return None
