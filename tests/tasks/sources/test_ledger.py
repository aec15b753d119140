"""The ledger: whatever is wrong with the pages of a list shows, and points at the page that is wrong."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tasks.sources.ledger import Ledger, PageFacts

Pages = dict[str, PageFacts]
READ_BEFORE = "the page's next page is one that was read before"


def cut(n_rows: int, size: int, counted: bool = True, group: str = "all") -> Pages:
    """Cut a list of rows into pages; `counted`: the service says how many rows there are on a page and in all."""
    rows = [f"row-{number}" for number in range(n_rows)]
    return {
        f"{group}?offset={start}": PageFacts(
            tuple(rows[start : start + size]),
            group,
            total=n_rows,
            expected=min(size, n_rows - start) if counted else None,
        )
        for start in range(0, max(n_rows, 1), size)
    }


def walked(pages: Pages, vital: frozenset[str] = frozenset()) -> Ledger:
    ledger = Ledger(vital)
    for address, page in pages.items():
        ledger.accept(address, page)
    return ledger


lists = st.tuples(st.integers(0, 40), st.integers(1, 12), st.booleans())
several_pages = lists.filter(lambda drawn: drawn[0] > drawn[1])


@given(lists)
def test_a_sound_list_is_complete(drawn: tuple[int, int, bool]) -> None:
    pages = cut(*drawn)
    ledger = Ledger()
    for address, page in pages.items():
        assert ledger.doubt(address, page) is None
        assert address not in ledger
        ledger.accept(address, page)
        assert address in ledger
    assert ledger.audit() == set()
    assert (ledger.n_rows, ledger.total, ledger.addresses) == (drawn[0], drawn[0], list(pages))


@given(st.integers(0, 8), st.lists(st.lists(st.integers(0, 7), max_size=5), min_size=1, max_size=5))
def test_the_audit_is_content_only_if_every_row_is_there_once(n_rows: int, numbers: list[list[int]]) -> None:
    """Any rows on any pages, with nothing to tell but the total."""
    pages = {
        f"page-{at}": PageFacts(tuple(f"row-{number}" for number in on_page if number < n_rows), "all", total=n_rows)
        for at, on_page in enumerate(numbers)
    }
    found = Counter(name for page in pages.values() for name in page.ids)
    complete = found == Counter(f"row-{number}" for number in range(n_rows))
    assert (walked(pages).audit() == set()) == complete


@given(several_pages, st.data())
def test_another_page_in_the_place_of_one(drawn: tuple[int, int, bool], data: st.DataObject) -> None:
    pages = cut(*drawn)
    victim, other = data.draw(st.permutations(list(pages)))[:2]
    pages[victim] = replace(pages[victim], ids=pages[other].ids)
    assert {victim, other} <= walked(pages).audit()


@given(several_pages, st.integers(-5, 5).filter(bool), st.data())
def test_a_shifted_page(drawn: tuple[int, int, bool], by: int, data: st.DataObject) -> None:
    n_rows, size, _ = drawn
    pages = cut(*drawn)
    victim = data.draw(st.sampled_from(list(pages)))
    rows = [f"row-{number}" for number in range(n_rows)]
    start = list(pages).index(victim) * size + by
    assume(start >= 0)
    pages[victim] = replace(pages[victim], ids=tuple(rows[start : start + size]))
    assert victim in walked(pages).audit()


@given(lists, st.data())
def test_a_page_that_lacks_rows(drawn: tuple[int, int, bool], data: st.DataObject) -> None:
    pages = cut(*drawn)
    victim = data.draw(st.sampled_from(list(pages)))
    ids = pages[victim].ids
    assume(ids)
    lost = data.draw(st.sets(st.sampled_from(ids), min_size=1))
    pages[victim] = replace(pages[victim], ids=tuple(name for name in ids if name not in lost))
    suspects = walked(pages).audit()
    assert victim in suspects
    if drawn[2]:
        assert suspects == {victim}


@given(several_pages, st.integers(-3, 3).filter(bool), st.data())
def test_a_page_with_another_total(drawn: tuple[int, int, bool], by: int, data: st.DataObject) -> None:
    """Also where it is the last one, which all others contradict."""
    pages = cut(*drawn)
    victim = data.draw(st.sampled_from(list(pages)))
    pages[victim] = replace(pages[victim], total=drawn[0] + by)
    suspects = walked(pages).audit()
    assert {victim, list(pages)[-1]} <= suspects


@given(several_pages, st.integers(1, 5))
def test_a_list_that_grows_while_it_is_read(drawn: tuple[int, int, bool], more: int) -> None:
    n_rows, size, counted = drawn
    before, after = cut(n_rows, size, counted), cut(n_rows + more, size, counted)
    first = next(iter(before))
    pages = after | {first: before[first]}
    assert first in walked(pages).audit()


@given(several_pages, st.data())
def test_a_row_on_two_pages(drawn: tuple[int, int, bool], data: st.DataObject) -> None:
    pages = cut(*drawn)
    victim, other = data.draw(st.permutations(list(pages)))[:2]
    ids = list(pages[victim].ids)
    ids[data.draw(st.integers(0, len(ids) - 1))] = data.draw(st.sampled_from(pages[other].ids))
    pages[victim] = replace(pages[victim], ids=tuple(ids))
    assert {victim, other} <= walked(pages).audit()


@given(several_pages, st.data())
def test_a_list_that_breaks_off(drawn: tuple[int, int, bool], data: st.DataObject) -> None:
    """Where it broke off cannot be seen: everything is asked for again."""
    pages = cut(*drawn)
    n_left = data.draw(st.integers(1, len(pages) - 1))
    left = dict(list(pages.items())[:n_left])
    assert walked(left).audit() == set(left)


def test_the_end_of_a_list_whose_last_page_names_another() -> None:
    pages = {
        "one": PageFacts(("a", "b"), "all", next_address="two"),
        "two": PageFacts(("c", "d"), "all", next_address="three"),
    }
    assert walked(pages).audit() == {"two"}
    pages["three"] = PageFacts((), "all")
    assert walked(pages).audit() == set()


def test_a_row_twice_on_one_page() -> None:
    page = PageFacts(("a", "a", "b"), "all", total=2)
    assert Ledger().doubt("one", page) == "a row occurs twice on the page"
    assert walked({"one": page}).audit() == {"one"}


def test_lists_are_judged_apart() -> None:
    """The same rows in two lists are no repetition, and a spoilt list says nothing of the other."""
    sound, other = cut(30, 10, group="sound"), cut(30, 10, group="other")
    assert walked(sound | other).audit() == set()
    spoilt = other | {"other?offset=10": replace(other["other?offset=10"], ids=("row-29",))}
    assert walked(sound | spoilt).audit() == {"other?offset=10", "other?offset=20"}
    assert walked(sound | other).total == 60


def test_totals_count_only_where_every_page_states_one() -> None:
    pages = cut(30, 10, counted=False)
    first = next(iter(pages))
    pages[first] = replace(pages[first], total=None)
    del pages["all?offset=20"]
    assert walked(pages).audit() == set()


@pytest.mark.parametrize(
    ("page", "reason"),
    [
        (PageFacts(("row-0", "row-11"), "all", 30, 2), "row row-0 was on another page too"),
        (PageFacts(("row-10",), "all", 30, 10), "the page has 1 rows instead of 10"),
        (PageFacts(("row-10",), "all", next_address="all?offset=0"), READ_BEFORE),
        (PageFacts(("row-10",), "all", next_address="all?offset=10"), READ_BEFORE),
        (PageFacts(("row-10",), "all", missing=frozenset({"gap", "energy"})), "no proper energy, gap in some row"),
    ],
)
def test_doubts_say_why(page: PageFacts, reason: str) -> None:
    first = dict(list(cut(30, 10).items())[:1])
    assert walked(first).doubt("all?offset=10", page) == reason


def test_a_missing_field_is_believed_after_one_page_but_a_vital_one_never() -> None:
    page = PageFacts(("a",), "all", missing=frozenset({"gap", "energy"}))
    ledger = walked({"one": page}, vital=frozenset({"energy"}))
    assert ledger.doubt("two", replace(page, ids=("b",))) == "no proper energy in some row"
    assert ledger.doubt("two", replace(page, ids=("b",), missing=frozenset({"gap"}))) is None


def test_a_page_asked_for_again_takes_the_place_of_the_first() -> None:
    pages = cut(30, 10)
    ledger = walked(pages | {"all?offset=10": replace(pages["all?offset=10"], ids=pages["all?offset=0"].ids)})
    assert ledger.audit() == {"all?offset=0", "all?offset=10"}
    again = pages["all?offset=10"]
    assert ledger.doubt("all?offset=10", again) is None
    ledger.accept("all?offset=10", again)
    assert ledger.audit() == set()
    assert ledger.n_rows == 30
