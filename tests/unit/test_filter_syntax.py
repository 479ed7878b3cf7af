from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import example, given, strategies as st

from sitegenctl.domain.diagnosis.condition import Condition, Diagnosis
from sitegenctl.domain.diagnosis.listing import (
    FilterText,
    ListedOrder,
    OrderFilter,
    OrderQuery,
    SortBy,
    parse_filter,
    sort_key,
)
from sitegenctl.domain.orders.order import OrderStatus
from tests.support.values import order

MINUTE = timedelta(minutes=1)


ANA = order(
    status=OrderStatus.REVIEW,
    customer_name="Ana Souza",
    customer_email="ana@example.com",
    business_name="Padaria 100%_pura",
    idle=30 * MINUTE,
    due_in=60 * MINUTE,
)


def test_nothing_filters_nothing() -> None:
    assert parse_filter("") == parse_filter("   ") == FilterText()
    assert parse_filter("").filter.is_empty


def test_words_and_facets_and_ages_together() -> None:
    typed = parse_filter("padaria condition:failed ana status:review age>10m c:empty age<2h")
    assert typed.problem is None
    assert typed.conditions == {Condition.FAILED, Condition.EMPTY}
    assert typed.filter == OrderFilter(
        statuses=frozenset({OrderStatus.REVIEW}),
        search="padaria ana",
        still_for=10 * MINUTE,
        since=120 * MINUTE,
    )


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("condition:f", {Condition.FAILED}),
        ("condition:un", {Condition.UNKNOWN, Condition.UNSTARTED}),
        ("CONDITION:Failed", {Condition.FAILED}),
        ("c:done", {Condition.DONE}),
        ("condition:", set()),
        ("condition:nope", set()),
    ],
)
def test_a_condition_is_meant_by_how_it_begins(typed: str, meant: set[Condition]) -> None:
    assert parse_filter(typed).conditions == meant


def test_a_status_that_begins_others_is_meant_alone() -> None:
    assert parse_filter("status:paid").filter.statuses == {OrderStatus.PAID}
    assert parse_filter("status:pa").filter.statuses == {OrderStatus.PAID}
    assert parse_filter("s:p").filter.statuses == {OrderStatus.PENDING_PAYMENT, OrderStatus.PAID}


@pytest.mark.parametrize(
    ("typed", "age"),
    [
        ("age>90s", timedelta(seconds=90)),
        ("age>10m", timedelta(minutes=10)),
        ("AGE>2H", timedelta(hours=2)),
        ("age>1.5d", timedelta(days=1.5)),
        ("age>2w", timedelta(weeks=2)),
        ("age>10m age>1h age>5m", timedelta(hours=1)),
    ],
)
def test_an_age_in_any_unit_the_strictest_of_several(typed: str, age: timedelta) -> None:
    assert parse_filter(typed).filter == OrderFilter(still_for=age)


def test_the_strictest_of_several_ages_at_most() -> None:
    assert parse_filter("age<1h age<10m age<2d").filter == OrderFilter(since=10 * MINUTE)


@pytest.mark.parametrize(
    ("typed", "only"),
    [
        ("due<1d", OrderFilter(due_within=timedelta(days=1))),
        ("DUE>2h", OrderFilter(due_after=120 * MINUTE)),
        ("due<0", OrderFilter(due_within=timedelta(0))),
        ("Late", OrderFilter(due_within=timedelta(0))),
        ("due<1d late due<2d", OrderFilter(due_within=timedelta(0))),
        ("due>1h due<1d due>0", OrderFilter(due_after=60 * MINUTE, due_within=timedelta(days=1))),
        ("late ana", OrderFilter(due_within=timedelta(0), search="ana")),
    ],
)
def test_due_dates_are_filtered_by_the_time_left(typed: str, only: OrderFilter) -> None:
    assert parse_filter(typed) == FilterText(filter=only)


@pytest.mark.parametrize(
    ("typed", "problem"),
    [
        ("condition:", "no condition begins with ''"),
        ("condition:x", "no condition begins with 'x'"),
        ("status:x", "no status begins with 'x'"),
        ("age>", "age needs a time, as in age>10m"),
        ("age>10", "age needs a time, as in age>10m"),
        ("age>10y", "age needs a time, as in age>10m"),
        ("age<-3m", "age needs a time, as in age>10m"),
        ("due<", "due needs a time, as in due<1d"),
        ("due<1", "due needs a time, as in due<1d"),
        ("due<-1d", "due needs a time, as in due<1d"),
        ("age> status:x", "age needs a time, as in age>10m"),  # the first of several
    ],
)
def test_an_unfinished_term_filters_nothing_and_is_reported(typed: str, problem: str) -> None:
    parsed = parse_filter(typed)
    assert parsed.problem == problem
    assert (parsed.filter, parsed.conditions) == (OrderFilter(), frozenset())


@pytest.mark.parametrize(
    "typed", ["a:b", "http://x", "age", "ages>3", "lately", ":", "aged", "42", "%", "D:\\", "[red]x[/]"]
)
def test_text_resembling_an_operator_is_a_word(typed: str) -> None:
    parsed = parse_filter(typed)
    assert (parsed.filter.search, parsed.problem) == (typed, None)


@given(
    st.one_of(
        st.text(),
        st.lists(
            st.tuples(
                st.sampled_from(["condition:", "c:", "status:", "s:", "age>", "age<", "due<", "", "AGE>"]), st.text()
            ).map("".join)
        ).map(" ".join),
    )
)
@example("age>999999999.999999999w")
@example("age>000000000.0s")
@example("age>\u0661\u0660m")
@example("status:\udce9")
@example("ﬁ c:İ")
def test_whatever_is_typed_is_never_an_error(typed: str) -> None:
    parsed = parse_filter(typed)
    assert parsed.problem is None or "\n" not in parsed.problem
    # What becomes of it is asked for at every key: neither a list in memory nor a query may fail.
    parsed.filter.matches(ANA)
    query = parsed.applied_to(OrderQuery(sort=SortBy.NAME, limit=7, offset=500))
    assert (query.sort, query.limit, query.offset) == (SortBy.NAME, 7, 0)


@given(st.sampled_from(["condition", "status"]), st.data())
def test_every_beginning_of_a_name_finds_it(kind: str, data: st.DataObject) -> None:
    member = data.draw(st.sampled_from(list(Condition if kind == "condition" else OrderStatus)))
    length = data.draw(st.integers(1, len(member)))
    parsed = parse_filter(f"{kind}:{member.lower()[:length]}")
    assert member in (parsed.conditions if kind == "condition" else parsed.filter.statuses)
    assert parsed.problem is None


@pytest.mark.parametrize(
    ("search", "takes"),
    [
        ("ana", True),
        ("ANA souza", True),
        ("souza padaria", True),  # each word for itself, wherever it is
        ("example.com", True),
        ("42", True),
        ("4", False),  # a number is the whole number, or a part of a name
        ("100", True),
        ("%", True),
        ("_", True),
        ("a%a", False),
        ("ana nobody", False),
    ],
)
def test_words_match_names_and_addresses(search: str, takes: bool) -> None:
    assert OrderFilter(search=search).matches(ANA) is takes


@pytest.mark.parametrize(
    ("only", "takes"),
    [
        (OrderFilter(still_for=10 * MINUTE), True),
        (OrderFilter(still_for=31 * MINUTE), False),
        (OrderFilter(since=10 * MINUTE), False),
        (OrderFilter(since=31 * MINUTE), True),
        (OrderFilter(due_within=timedelta(0)), False),
        (OrderFilter(due_within=timedelta(days=1)), True),
        (OrderFilter(due_after=timedelta(days=1)), False),
        (OrderFilter(statuses=frozenset({OrderStatus.PAID})), False),
        (OrderFilter(statuses=frozenset({OrderStatus.PAID, OrderStatus.REVIEW})), True),
    ],
)
def test_ages_and_statuses(only: OrderFilter, takes: bool) -> None:
    assert only.matches(ANA) is takes


def test_an_order_without_a_time_is_of_no_age() -> None:
    for only in (OrderFilter(since=MINUTE), OrderFilter(still_for=MINUTE)):
        assert not only.matches(replace(ANA, idle=None))


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("sort", [SortBy.FAULT, SortBy.NAME, SortBy.UPDATED, SortBy.CREATED, SortBy.STATUS, SortBy.DUE])
def test_missing_orders_are_last_of_their_condition(sort: SortBy, reverse: bool) -> None:
    verdict = Diagnosis(condition=Condition.GHOST, evidence=("a task",))
    rows = [ListedOrder(order_id=each, order=found, verdict=verdict) for each, found in ((5, None), (9, ANA))]
    rows.sort(key=sort_key(OrderQuery(sort=sort, reverse=reverse)))
    assert [row.order_id for row in rows] == [9, 5]
