"""Pages of a service under construction: whole or absent, and nothing in them but the answer."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.pages import PageFolder

ADDRESS = "https://host/rows?offset=100&limit=50"
BODY = b'{"data": [1, 2, 3]}'


@pytest.fixture
def pages(tmp_path: Path) -> PageFolder:
    return PageFolder(tmp_path / "deep" / "pages")


def only_file(pages: PageFolder) -> Path:
    (path,) = pages.folder.iterdir()
    return path


@pytest.mark.parametrize("body", [BODY, b"", b"\n\n", b"elemscreen page 1\n{}\n", bytes(range(256)) * 500])
def test_round_trip(pages: PageFolder, body: bytes) -> None:
    pages.write(ADDRESS, body)
    assert pages.read(ADDRESS) == body
    assert PageFolder(pages.folder).read(ADDRESS) == body


def test_addresses_are_told_apart(pages: PageFolder) -> None:
    addresses = [ADDRESS, ADDRESS + "0", ADDRESS.upper(), "https://host/" + "x" * 5000]
    for number, address in enumerate(addresses):
        pages.write(address, b"%d" % number)
    assert [pages.read(address) for address in addresses] == [b"0", b"1", b"2", b"3"]
    assert len(pages) == 4
    assert pages.read("https://host/other") is None


def test_a_page_is_replaced(pages: PageFolder) -> None:
    pages.write(ADDRESS, b"old")
    pages.write(ADDRESS, b"new")
    assert pages.read(ADDRESS) == b"new"
    assert len(pages) == 1


def test_a_dropped_page_is_gone(pages: PageFolder) -> None:
    pages.write(ADDRESS, BODY)
    pages.drop(ADDRESS)
    pages.drop(ADDRESS)
    assert pages.read(ADDRESS) is None
    assert list(pages.folder.iterdir()) == []


def test_the_file_holds_address_digest_and_body_and_no_more(pages: PageFolder) -> None:
    pages.write(ADDRESS, BODY)
    magic, head, packed = only_file(pages).read_bytes().split(b"\n", 2)
    assert magic == b"elemscreen page 1"
    assert set(json.loads(head)) == {"address", "sha256"}
    assert json.loads(head)["address"] == ADDRESS
    assert zlib.decompress(packed) == BODY


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def other_body(data: bytes) -> bytes:
    head = data.split(b"\n", 2)[:2]
    return b"\n".join([*head, zlib.compress(b"another body")])


def other_head(data: bytes) -> bytes:
    magic, _, packed = data.split(b"\n", 2)
    return b"\n".join([magic, b'["sha256"]', packed])


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "cut": cut,
    "empty": lambda data: b"",
    "first line only": lambda data: data.split(b"\n")[0],
    "another body": other_body,
    "head is no object": other_head,
    "no first line": lambda data: data.split(b"\n", 1)[1],
    "last byte missing": lambda data: data[:-1],
    "no digest": lambda data: data.replace(b"sha256", b"sha257"),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_page_counts_as_absent(
    pages: PageFolder, damage: Callable[[bytes], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    pages.write(ADDRESS, BODY)
    path = only_file(pages)
    path.write_bytes(damage(path.read_bytes()))
    assert pages.read(ADDRESS) is None
    assert [record.getMessage() for record in caplog.records] == [f"page {path} is damaged and will be asked for again"]
    pages.write(ADDRESS, BODY)
    assert pages.read(ADDRESS) == BODY


@given(st.integers(0, 10**6), st.integers(1, 255))
def test_no_changed_byte_passes(tmp_path_factory: pytest.TempPathFactory, where: int, change: int) -> None:
    """Wherever a byte is altered, the page is what it was or absent."""
    pages = PageFolder(tmp_path_factory.mktemp("pages"))
    pages.write(ADDRESS, BODY * 20)
    path = only_file(pages)
    data = bytearray(path.read_bytes())
    data[where % len(data)] ^= change
    path.write_bytes(bytes(data))
    assert pages.read(ADDRESS) in (None, BODY * 20)


def test_an_absent_page_is_no_reason_to_warn(pages: PageFolder, caplog: pytest.LogCaptureFixture) -> None:
    assert pages.read(ADDRESS) is None
    assert not caplog.records
