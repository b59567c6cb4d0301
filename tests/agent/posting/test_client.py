# SPDX-License-Identifier: Apache-2.0
"""One exchange with a collector: whom it trusts, what it bears with, and what each refusal means."""

from __future__ import annotations

import datetime as dt
import functools
import threading
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import errors
from agent.model import canonical, wire
from agent.posting import client, tls
from agent.secret import HIDDEN, Secret
from tests.agent.loopback import NOW, YEAR, Authority, Proxy, Reply, Request, proxy_credentials, serving

WORD = "cft_a-token-for-tests-and-nothing-else"


def clock_ns() -> int:
    """A clock that stands."""
    return 1_795_000_000_000_000_000


def connect(
    url: str, ca: Authority | bytes, *, proxy: Secret | None = None, timeout_s: float = 10
) -> client.Client:
    """A client that trusts this CA alone."""
    pem = ca if isinstance(ca, bytes) else ca.pem
    trust = functools.partial(tls.verified_context, pem)
    return client.Client(url, trust, clock_ns, proxy=proxy, timeout_s=timeout_s)


def ok(_request: Request) -> Reply:
    """Always 200."""
    return Reply(200, b"{}", {"Date": "Sat, 21 Nov 2026 05:00:00 GMT"})


def says(status: int, body: bytes = b"", **headers: str) -> Callable[[Request], Reply]:
    """Always that."""
    return lambda _request: Reply(
        status, body, {name.replace("_", "-"): text for name, text in headers.items()}
    )


@pytest.fixture(scope="module")
def ca() -> Authority:
    """The CA that the host knows."""
    return Authority()


@pytest.fixture(scope="module")
def pem(ca: Authority, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good server certificate for 127.0.0.1."""
    return ca.issue(tmp_path_factory.mktemp("tls") / "server.pem")


# -- trust


def test_the_pinned_ca_is_trusted_and_the_request_arrives_as_it_was(ca: Authority, pem: Path) -> None:
    """With its length, for the collector takes no chunks."""
    with serving(pem, ok) as server, connect(server.url, ca) as connection:
        answer = connection.exchange("PUT", "/v1/parts/sha256:00", b"[]", headers={"X": "y"})

    assert (answer.status, answer.body) == (200, b"{}")
    assert connection.clock_doubt is None
    (request,) = server.requests
    assert (request.method, request.path, request.body) == ("PUT", "/v1/parts/sha256:00", b"[]")
    assert request.headers["content-length"] == "2"
    assert request.headers["x"] == "y"
    assert "transfer-encoding" not in request.headers


def test_one_connection_serves_several_exchanges(ca: Authority, pem: Path) -> None:
    """A post of many parts pays for one handshake."""
    peers = set()

    def note(_request: Request) -> Reply:
        peers.add(threading.get_ident())
        return Reply(200)

    with serving(pem, note) as server, connect(server.url, ca) as connection:
        for _ in range(5):
            connection.exchange("GET", "/")

    assert len(peers) == 1


def test_another_ca_is_not_trusted_whatever_the_environment_says(
    ca: Authority, pem: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the system's trust store nor SSL_CERT_FILE has a say; nothing is sent."""
    (tmp_path / "ca.pem").write_bytes(ca.pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))

    with (
        serving(pem, ok) as server,
        connect(server.url, Authority()) as connection,
        pytest.raises(tls.UntrustedError, match="is not the collector this host trusts"),
    ):
        connection.exchange("GET", "/")
    assert server.requests == []


def test_another_ca_of_the_same_name_is_not_trusted(pem: Path) -> None:
    """Names are free; keys are not."""
    with (
        serving(pem, ok) as server,
        connect(server.url, Authority("test CA")) as connection,
        pytest.raises(tls.UntrustedError),
    ):
        connection.exchange("GET", "/")
    assert server.requests == []


@pytest.mark.parametrize("names", [("127.0.0.2",), ("localhost",), ("collector.example",)])
def test_a_certificate_for_another_name_is_refused(ca: Authority, tmp_path: Path, names: tuple[str]) -> None:
    """The CA may have issued certificates for other things too."""
    with (
        serving(ca.issue(tmp_path / "server.pem", *names), ok) as server,
        connect(server.url, ca) as connection,
        pytest.raises(errors.UnreachableError, match=r"IP address mismatch.*let its certificate name it"),
    ):
        connection.exchange("GET", "/")
    assert server.requests == []


def test_a_pinned_intermediate_is_enough(tmp_path: Path) -> None:
    """What is pinned is trusted by itself; its own issuer is nobody the host knows."""
    # Given a CA whose certificate another one issued
    root, middle = Authority("root"), Authority("middle")
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.serialization import Encoding

    signed = (
        x509.CertificateBuilder()
        .subject_name(middle.name)
        .issuer_name(root.name)
        .public_key(middle.key.public_key())
        .serial_number(7)
        .not_valid_before(NOW - YEAR)
        .not_valid_after(NOW + YEAR)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(root.key, hashes.SHA256())
    ).public_bytes(Encoding.PEM)

    with (
        serving(middle.issue(tmp_path / "server.pem"), ok) as server,
        connect(server.url, signed) as connection,
    ):
        assert connection.exchange("GET", "/").status == 200


def test_nothing_older_than_tls_1_2_is_spoken(ca: Authority) -> None:
    """On both kinds of connection."""
    for context in (tls.verified_context(ca.pem), tls.unverified_context()):
        assert context.minimum_version.name == "TLSv1_2"


# -- dates


@pytest.mark.parametrize(
    ("begins", "ends", "words"),
    [(NOW - 2 * YEAR, NOW - YEAR, "expired"), (NOW + YEAR, NOW + 2 * YEAR, "not yet valid")],
)
def test_a_certificate_that_is_wrong_only_in_its_dates_is_taken_and_told(
    ca: Authority, tmp_path: Path, begins: dt.datetime, ends: dt.datetime, words: str
) -> None:
    """A host whose clock is years off must still reach its collector; both clocks are named."""
    with (
        serving(ca.issue(tmp_path / "server.pem", begins=begins, ends=ends), ok) as server,
        connect(server.url, ca) as connection,
    ):
        assert connection.exchange("PUT", "/one", b"[]").status == 200
        assert connection.exchange("PUT", "/two", b"[]").status == 200

    # Each request arrived once: the first try had ended in the handshake.
    assert [request.path for request in server.requests] == ["/one", "/two"]
    assert connection.clock_doubt is not None
    for part in (words, canonical.timestamp(clock_ns()), "Sat, 21 Nov 2026 05:00:00 GMT", "set the clock"):
        assert part in connection.clock_doubt


def test_a_ca_that_is_wrong_only_in_its_dates_is_taken_too(tmp_path: Path) -> None:
    """Its key is what was pinned."""
    ended = Authority(begins=NOW - 2 * YEAR, ends=NOW - YEAR)
    with (
        serving(ended.issue(tmp_path / "server.pem"), ok) as server,
        connect(server.url, ended) as connection,
    ):
        assert connection.exchange("GET", "/").status == 200
    assert connection.clock_doubt is not None


def test_an_expired_certificate_of_another_ca_is_refused(ca: Authority, tmp_path: Path) -> None:
    """The second try overlooks dates and nothing else."""
    other = Authority()
    with (
        serving(other.issue(tmp_path / "server.pem", begins=NOW - 2 * YEAR, ends=NOW - YEAR), ok) as server,
        connect(server.url, ca) as connection,
        pytest.raises(tls.UntrustedError),
    ):
        connection.exchange("GET", "/")
    assert server.requests == []
    assert connection.clock_doubt is None


def test_an_expired_certificate_for_another_name_is_refused(ca: Authority, tmp_path: Path) -> None:
    """The same for names."""
    expired = ca.issue(tmp_path / "server.pem", "127.0.0.2", begins=NOW - 2 * YEAR, ends=NOW - YEAR)
    with (
        serving(expired, ok) as server,
        connect(server.url, ca) as connection,
        pytest.raises(errors.UnreachableError, match="IP address mismatch"),
    ):
        connection.exchange("GET", "/")
    assert server.requests == []


# -- what is not followed, not asked, not believed


def test_a_redirect_is_not_followed(ca: Authority, pem: Path) -> None:
    """A signed request belongs to one place."""
    with (
        serving(pem, says(307, Location="https://127.0.0.1:1/elsewhere")) as server,
        connect(server.url, ca) as connection,
        pytest.raises(errors.RefusedError, match="redirects are not followed") as caught,
    ):
        connection.exchange("PUT", "/", b"[]")
    assert caught.value.status == 307
    assert len(server.requests) == 1


def test_a_proxy_of_the_environment_is_not_asked(
    ca: Authority, pem: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service inherits variables that nobody meant for it."""
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)

    with serving(pem, ok) as server, connect(server.url, ca) as connection:
        assert connection.exchange("GET", "/").status == 200


def test_a_configured_proxy_tunnels_and_never_sees_the_request(ca: Authority, pem: Path) -> None:
    """TLS ends at the collector; the proxy's password goes to the proxy."""
    with Proxy() as proxy, serving(pem, ok) as server:
        way = Secret(f"http://agent:{WORD}@127.0.0.1:{proxy.port}")
        with connect(server.url, ca, proxy=way) as connection:
            assert connection.exchange("GET", "/").status == 200

    assert proxy.asked[0].startswith(f"CONNECT 127.0.0.1:{server.port} ")
    assert proxy_credentials(proxy.asked[0]) == f"agent:{WORD}"
    assert WORD not in str(server.requests)


@pytest.mark.parametrize(
    "url", ["socks5://a:{}@h:1", "https://a:{}@h:1", "http://", "a:{}@h", "http://a:{}@[h"]
)
def test_a_proxy_of_another_kind_is_refused_without_its_password(ca: Authority, url: str) -> None:
    """The libraries' own messages quote the URL."""
    with pytest.raises(errors.ConfigError, match="the proxy is no URL") as caught:
        connect("https://127.0.0.1:1", ca, proxy=Secret(url.format(WORD)))
    assert WORD not in str(caught.value)
    assert caught.value.__cause__ is None


def test_an_answer_of_any_size_takes_no_more_memory_than_an_honest_one(ca: Authority, pem: Path) -> None:
    """Neither large nor compressed; we say so, and what comes compressed all the same is not unpacked."""
    with (
        serving(pem, says(200, bytes(client.ANSWER_BYTES_MAX + 1))) as server,
        connect(server.url, ca) as connection,
        pytest.raises(errors.UnreachableError, match="none of ours"),
    ):
        connection.exchange("GET", "/")
    assert server.requests[0].headers["accept-encoding"] == "identity"
    bomb = b"\x1f\x8b not unpacked"
    with (
        serving(pem, says(200, bomb, Content_Encoding="gzip")) as server,
        connect(server.url, ca) as connection,
    ):
        assert connection.exchange("GET", "/").body == bomb


# -- failures of the network


def test_nobody_listening_is_for_later(ca: Authority) -> None:
    """In words that name the collector and the cause."""
    with (
        connect("https://127.0.0.1:1", ca) as connection,
        pytest.raises(errors.UnreachableError, match=r"cannot reach https://127.0.0.1:1: .*refused"),
    ):
        connection.exchange("GET", "/")


def test_a_server_that_hangs_up_is_for_later(ca: Authority, pem: Path) -> None:
    """A collector that is being restarted does."""
    with (
        serving(pem, lambda _request: Reply(None)) as server,
        connect(server.url, ca) as connection,
        pytest.raises(errors.UnreachableError, match="cannot reach"),
    ):
        connection.exchange("GET", "/")


def test_a_server_that_does_not_answer_is_for_later(ca: Authority, pem: Path) -> None:
    """The wait has an end."""
    enough = threading.Event()

    def wait(_request: Request) -> Reply:
        enough.wait(20)
        return Reply(200)

    with serving(pem, wait) as server, connect(server.url, ca, timeout_s=0.2) as connection:
        with pytest.raises(errors.UnreachableError, match=r"no answer within 0\.2 s"):
            connection.exchange("GET", "/")
        enough.set()


def test_a_server_that_drips_is_left(ca: Authority, pem: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each single read is in time; all together are not."""
    monkeypatch.setattr("agent.posting.client._ANSWER_S_MAX", -1.0)

    with (
        serving(pem, ok) as server,
        connect(server.url, ca) as connection,
        pytest.raises(errors.UnreachableError, match="took more than"),
    ):
        connection.exchange("GET", "/")


# -- what answers mean


def problem_body(name: str, detail: str | None = None, seq: int | None = None) -> bytes:
    """A problem as the collector writes it."""
    return canonical.encode(wire.problem(name, detail, seq=seq))


@pytest.mark.parametrize("name", [name for name, (status, _) in wire.PROBLEMS.items() if status != 409])
def test_each_problem_is_for_later_or_for_good(name: str, ca: Authority, pem: Path) -> None:
    """As agreed: 401, 408, 429 and 5xx may be different the next time, and nothing else."""
    status, title = wire.PROBLEMS[name]
    body = problem_body(name, "what happened, to what, and what to do")
    with (
        serving(pem, says(status, body, Content_Type=wire.MEDIA_PROBLEM)) as server,
        connect(server.url, ca) as connection,
        pytest.raises(errors.CollectorError) as caught,
    ):
        connection.exchange("PUT", "/v1/x", b"{}")

    for part in (str(status), title, "what happened, to what, and what to do", "PUT", "/v1/x"):
        assert part in str(caught.value)
    if status in (401, 408, 429) or status >= 500:
        assert isinstance(caught.value, errors.UnreachableError)
    else:
        assert isinstance(caught.value, errors.RefusedError)
        assert (caught.value.status, caught.value.problem) == (status, name)


def test_a_later_state_is_an_answer(ca: Authority, pem: Path) -> None:
    """Whoever asked knows what to do with its number."""
    with (
        serving(pem, says(409, problem_body("state-ahead", seq=12))) as server,
        connect(server.url, ca) as connection,
    ):
        answer = connection.exchange("PUT", "/", b"{}")
    assert answer.status == 409
    assert answer.problem is not None
    assert answer.problem.seq == 12


def test_a_conflict_without_a_number_is_for_later(ca: Authority, pem: Path) -> None:
    """It is not ours to guess."""
    with (
        serving(pem, says(409, b"<html>")) as server,
        connect(server.url, ca) as connection,
        pytest.raises(errors.UnreachableError, match="409"),
    ):
        connection.exchange("PUT", "/", b"{}")


def test_words_of_others_come_on_one_line_and_not_without_end(ca: Authority, pem: Path) -> None:
    """A terminal obeys what it prints."""
    detail = "\x1b[2Jcleared\nfleet-agent: all is well" + "x" * 9999
    with (
        serving(pem, says(403, problem_body("forbidden", detail))) as server,
        connect(server.url, ca) as connection,
        pytest.raises(errors.RefusedError) as caught,
    ):
        connection.exchange("PUT", "/", b"{}")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 700


@given(
    st.integers(300, 599),
    st.text(max_size=40),
    st.text(max_size=40),
    st.sampled_from(["detail", "title", "reason"]),
)
def test_no_answer_makes_an_error_that_quotes_a_secret(
    status: int, before: str, after: str, where: str
) -> None:
    """Some servers repeat what they did not like."""
    words = before + WORD + after
    body = canonical.encode(
        wire.Problem(
            type="urn:cryptofleet:problem:bad-token",
            title=words if where == "title" else "title",
            status=status,
            detail=words if where == "detail" else None,
        )
    )
    response = httpx.Response(
        status,
        content=b"<html>" if where == "reason" else body,
        extensions={"reason_phrase": words.encode("ascii", "replace")},
    )

    with pytest.raises(errors.CollectorError) as caught:
        client._judge(response, response.content, "POST https://c.example/v1/enroll", [Secret(WORD)])

    assert WORD not in str(caught.value)
    assert WORD not in repr(caught.value)
    assert HIDDEN in str(caught.value)


@pytest.mark.parametrize(
    ("header", "date", "seconds"),
    [
        (None, None, None),
        ("0", None, 0),
        ("30", None, 30),
        ("99999999999999999999", None, client.RETRY_AFTER_S_MAX),
        ("-1", None, None),
        ("1.5", None, None),
        ("soon", None, None),
        ("", None, None),
        ("Sat, 21 Nov 2026 05:01:30 GMT", "Sat, 21 Nov 2026 05:00:00 GMT", 90),
        ("Sat, 21 Nov 2026 04:00:00 GMT", "Sat, 21 Nov 2026 05:00:00 GMT", 0),
        ("Sat, 21 Nov 2099 05:00:00 GMT", "Sat, 21 Nov 2026 05:00:00 GMT", client.RETRY_AFTER_S_MAX),
        # Without the collector's own time, a date says nothing: ours may be wrong.
        ("Sat, 21 Nov 2026 05:01:30 GMT", None, None),
        ("Sat, 21 Nov 2026 05:01:30", "Sat, 21 Nov 2026 05:00:00 GMT", None),
    ],
)
def test_retry_after_is_read_in_both_its_forms(
    header: str | None, date: str | None, seconds: int | None
) -> None:
    """RFC 9110, section 10.2.3; nonsense is as if it were not there."""
    assert client.retry_after_s(header, date) == seconds


def test_retry_after_comes_with_the_error(ca: Authority, pem: Path) -> None:
    """Where the one who waits catches it."""
    with (
        serving(pem, says(503, Retry_After="42")) as server,
        connect(server.url, ca) as connection,
        pytest.raises(errors.UnreachableError) as caught,
    ):
        connection.exchange("GET", "/")
    assert caught.value.retry_after_s == 42


@pytest.mark.parametrize(
    ("header", "pace"),
    [
        (None, client.Pace()),
        ("", client.Pace()),
        ("next_post_s=3600, rescan=?0", client.Pace(next_post_s=3600)),
        (
            'next_post_s=900, rescan=?1, config_digest="sha256:00"',
            client.Pace(next_post_s=900, rescan=True, config_digest="sha256:00"),
        ),
        ("next_post_s=1", client.Pace(next_post_s=client.NEXT_POST_S_MIN)),
        ("next_post_s=-5", client.Pace(next_post_s=client.NEXT_POST_S_MIN)),
        ("next_post_s=999999999", client.Pace(next_post_s=client.NEXT_POST_S_MAX)),
        ("next_post_s=?1, rescan=1, config_digest=2", client.Pace()),
        ('next_post_s="60"', client.Pace()),
        ("next_post_s=60.5", client.Pace()),
        ("rescan", client.Pace(rescan=True)),
        ("next_post_s=(1 2), future=3, rescan=?1;why=x", client.Pace(rescan=True)),
        ("{not a dictionary", client.Pace()),
        ("n\u00e4chstes=1", client.Pace()),
    ],
)
def test_the_pace_is_advice_within_bounds(header: str | None, pace: client.Pace) -> None:
    """A collector's mistake must not make its agents harm their hosts, or fall silent."""
    assert client.parse_pace(header) == pace


def test_the_collectors_own_pace_is_understood() -> None:
    """As the other side writes it."""
    from fleet.collector.service import Collector

    pace = Collector.pace.fget(type("C", (), {"next_post_s": 777}))  # type: ignore[attr-defined]
    assert client.parse_pace(pace) == client.Pace(next_post_s=777)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("https://collector.example", "https://collector.example"),
        ("https://collector.example/", "https://collector.example"),
        (" https://Collector.Example:443 ", "https://collector.example"),
        ("https://collector.example:8443", "https://collector.example:8443"),
        ("https://192.0.2.7:8443/", "https://192.0.2.7:8443"),
        ("https://[2001:DB8::7]:8443", "https://[2001:db8::7]:8443"),
        ("https://b\u00fccher.example", "https://xn--bcher-kva.example"),
    ],
)
def test_a_collectors_url_has_one_form(text: str, url: str) -> None:
    """It is kept, compared and shown."""
    assert client.collector_url(text) == url


@pytest.mark.parametrize(
    "text",
    [
        "",
        "collector.example",
        "http://collector.example",
        "https://",
        "https://collector.example/fleet",
        "https://collector.example?x=1",
        "https://collector.example#x",
        "https://collector.example:99999",
        "https://collector.example:port",
        "https://[::1",
        "https://a b.example",
        f"https://agent:{WORD}@collector.example",
        f"https://{WORD}@collector.example:99999",
        "ftp://collector.example",
    ],
)
def test_another_url_is_refused_without_quoting_a_password(text: str) -> None:
    """At once, and not as a collector that cannot be reached."""
    with pytest.raises(errors.ConfigError, match=r"https://HOST\[:PORT\]|the host key is all") as caught:
        client.collector_url(text)
    assert WORD not in str(caught.value)
