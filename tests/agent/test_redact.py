# SPDX-License-Identifier: Apache-2.0
"""People are hidden in what is printed and posted, and nothing else is."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.host import Host
from agent.model.asset import FipsMode
from agent.model.inventory import Entry, encode_part
from agent.model.location import Location
from agent.redact import (
    People,
    Printed,
    Pseudonyms,
    Truth,
    redact_entries,
    redact_example,
    redact_words,
)

PEOPLE = People({"/home/alice": "alice", "/srv/people/bob": "bob"}, {"alice", "bob"})
KEY = b"k" * 32


def entry(path: str, owner: str | None = None) -> Entry:
    """An entry whose key is its path."""
    asset = FipsMode(enabled=False, supported=True)
    return Entry(key=path, asset=asset, where=Location(path=path, owner=owner))


@pytest.mark.parametrize(
    ("path", "printed"),
    [
        ("/home/alice/key.pem", "/home/USER/key.pem"),
        ("/home/bob/cert.pem", "/home/USER/cert.pem"),
        ("/root/secret.key", "/home/ROOT/secret.key"),
        ("/root", "/home/ROOT"),
        ("/srv/people/bob/x", "/home/USER/x"),
        ("/var/home/carol/x", "/home/USER/x"),
        ("/home", "/home"),
        ("/rooted/x", "/rooted/x"),
        ("/homework/alice/x", "/homework/alice/x"),
        ("/etc/ssl/certs/ca.crt", "/etc/ssl/certs/ca.crt"),
        ("/usr/lib/libssl.so", "/usr/lib/libssl.so"),
        ("/var/lib/ssl/cert.pem", "/var/lib/ssl/cert.pem"),
    ],
)
def test_printed_paths_have_the_form_that_scripts_know(path: str, printed: str) -> None:
    """The table of the users' documentation, and its corners."""
    assert Printed(PEOPLE).path(path) == printed


def test_pseudonyms_keep_two_users_apart_and_one_user_together() -> None:
    """Hosts stay comparable: the same user is the same pseudonym in a path and as an owner."""
    hide = Pseudonyms(PEOPLE, KEY)

    assert hide.path("/home/alice/a.pem") == f"/home/{hide.name('alice')}/a.pem"
    assert hide.path("/srv/people/bob/a.pem") == f"/srv/people/{hide.name('bob')}/a.pem"
    assert hide.name("alice") != hide.name("bob")
    assert hide.name("root") == "root"
    assert Pseudonyms(PEOPLE, b"other" * 7).name("alice") != hide.name("alice")
    assert hide.path("/root/x") == "/root/x"


def test_the_key_of_the_pseudonyms_is_in_no_text() -> None:
    """A log that prints the object must not give the key away."""
    assert "kkk" not in repr(Pseudonyms(PEOPLE, KEY))


def test_a_file_called_like_a_numbered_one_is_told_apart(tmp_path: Path) -> None:
    """Every user chooses the names of his files, and none of them may end the run."""
    paths = ["/home/alice/a.pem", "/home/bob/a.pem", "/home/carol/a.pem (2)", "/home/dave/a.pem (2)"]

    hidden = redact_entries([entry(path, owner=path) for path in paths], Printed(PEOPLE))

    assert len({one.key for one in hidden}) == len(paths)
    assert encode_part(hidden)


@given(
    st.lists(st.sampled_from(["/home/alice", "/home/bob", "/home/carol", "/etc"]), min_size=1, unique=True)
)
def test_entries_that_hiding_makes_alike_are_still_told_apart(homes: list[str]) -> None:
    """Two users' files may print as one path, and no entry may be lost by it."""
    entries = [entry(f"{home}/a.pem", owner=home) for home in homes]

    hidden = redact_entries(entries, Printed(PEOPLE))

    assert len(hidden) == len(entries)
    assert len({e.key for e in hidden}) == len(entries)
    again = redact_entries(entries[::-1], Printed(PEOPLE))
    assert sorted(hidden, key=lambda e: e.key) == sorted(again, key=lambda e: e.key)


def test_a_name_is_hidden_wherever_a_key_holds_the_path() -> None:
    """Keys are built of paths; executable and library may both be a user's."""
    use = Entry(
        key="/home/alice/bin/app app.service /home/alice/lib/libssl.so.3 (deleted)",
        asset=FipsMode(enabled=False, supported=True),
        where=Location(
            path="/home/alice/lib/libssl.so.3", exe="/home/alice/bin/app", owner="alice", group="alice"
        ),
    )

    for way in (Printed(PEOPLE), Pseudonyms(PEOPLE, KEY)):
        (hidden,) = redact_entries([use], way)
        assert "alice" not in repr(hidden)
        assert hidden.key.endswith("/lib/libssl.so.3 (deleted)")


def test_aliases_and_words_are_hidden_too() -> None:
    """Coverage quotes paths."""
    with_alias = Entry(
        key="/etc/a.pem",
        asset=FipsMode(enabled=False, supported=True),
        where=Location(path="/etc/a.pem", aliases=("/home/alice/link.pem",)),
    )

    (hidden,) = redact_entries([with_alias], Printed(PEOPLE))

    assert hidden.where.aliases == ("/home/USER/link.pem",)
    assert redact_words("denied: /home/alice/x, /etc/y", Printed(PEOPLE)) == "denied: /home/USER/x, /etc/y"
    odd = People({"/srv/al, ice": "al, ice"}, {"al, ice"})
    assert redact_example("denied: /srv/al, ice/x", Printed(odd)) == "denied: /home/USER/x"
    assert redact_example("denied: process sshd", Printed(odd)) == "denied: process sshd"


def test_truth_hides_nothing() -> None:
    """--no-redact."""
    assert redact_entries([entry("/home/alice/x", owner="alice")], Truth()) == [
        entry("/home/alice/x", owner="alice")
    ]


def test_people_are_those_whom_the_host_calls_human(tmp_path: Path) -> None:
    """System users live in paths that say what a service is, and stay readable."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(
        "root:x:0:0::/root:/bin/sh\nnginx:x:101:101::/var/lib/nginx:/bin/false\n"
        "alice:x:1000:1000::/data/alice:/bin/sh\nodd:x:1001:1001::/:/bin/sh\nnobody:x:65534:65534::/nonexistent:/bin/false\n"
    )

    people = People.of(Host(str(tmp_path)))

    assert people.homes == {"/data/alice": "alice"}
    assert people.names == {"alice", "odd"}


def test_a_home_is_hidden_by_the_path_where_it_really_is(tmp_path: Path) -> None:
    """A host whose /home is a link, or whose passwd names one: files are told by their real paths."""
    # Given homes that are reached through links, one of them of a user whom only a directory service knows
    for home in ("data/home/alice", "data/home/carol", "data/people/bob", "etc"):
        (tmp_path / home).mkdir(parents=True)
    (tmp_path / "home").symlink_to("/data/home")
    (tmp_path / "srv").symlink_to("data")
    (tmp_path / "etc/passwd").write_text(
        "alice:x:1000:1000::/home/alice:/bin/sh\nbob:x:1001:1001::/srv/people/bob:/bin/sh\n"
    )

    # When their files are printed or posted
    people = People.of(Host(str(tmp_path)))
    real = [
        "/data/home/alice/x",
        "/data/home/carol/x",
        "/data/people/bob/x",
        "/srv/people/bob/x",
        "/home/bob/x",
    ]

    # Then nobody is named, and what is no home is as it was
    assert [Printed(people).path(path) for path in real] == ["/home/USER/x"] * len(real)
    posted = [Pseudonyms(people, KEY).path(path) for path in real]
    assert not any(name in path for name in ("alice", "bob", "carol") for path in posted)
    assert posted[0].startswith("/data/home/u-")
    assert Printed(people).path("/data/x/y") == "/data/x/y"


@pytest.mark.parametrize(
    "page",
    [
        b"alice:x:\xc2\xb2:1::/home/a:/bin/sh\n",
        b"alice:x:" + b"9" * 5000 + b":1::/home/a:/bin/sh\n",
        b"alice:x:1000:1000::/srv/a\0b:/bin/sh\n",
        b"\xff\xfe\0:::::::\n:::\n\n\x1b[31m:x:1000:1000:::\n",
        bytes(range(256)) * 100,
    ],
)
def test_a_passwd_of_garbage_names_nobody(tmp_path: Path, page: bytes) -> None:
    """It is read before anything else; whatever is in it, the run goes on."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_bytes(page)

    people = People.of(Host(str(tmp_path)))

    assert people.homes == {}
    assert Printed(people).path("/home/alice/x") == "/home/USER/x"


def test_names_that_are_not_utf8_are_hidden_in_the_form_that_documents_have(tmp_path: Path) -> None:
    """The escape is applied once, or a home would not be found in a path."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_bytes(
        b"b\\x:x:1000:1000::/srv/b\\x:/bin/sh\nj\xf6rg:x:1001:1::/srv/j\xf6rg:/bin/sh\n"
    )
    host = Host(str(tmp_path))

    people = People.of(host)

    assert host.homes() == {"/srv/b\\x": 1000, "/srv/j\udcf6rg": 1001}
    assert people.homes == {r"/srv/b\\x": r"b\\x", r"/srv/j\xf6rg": r"j\xf6rg"}
    assert people.names == set(people.homes.values())
