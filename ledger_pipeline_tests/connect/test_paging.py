"""Every pager over real HTTP, every way in which a listing can be wrong, and records byte for byte."""

from __future__ import annotations

import json

import pytest

from ledger_pipeline.connect.errors import BadPayload, PageFault, RedirectRefused, RequestRejected
from ledger_pipeline.connect.paging import (
    CursorParam,
    Cut,
    GraphQLConnection,
    LinkHeader,
    Listing,
    Offset,
    PageNumber,
    Pulled,
    StartingAfter,
    SyncToken,
)

from .conftest import Answer, to_json


def records(first: int, last: int) -> list[dict[str, object]]:
    return [{"id": f"r{i}", "n": i} for i in range(first, last)]


def ids(pages) -> list[str]:
    return [json.loads(bytes(item))["id"] for page in pages for item in page.items]


ALL = [f"r{i}" for i in range(10)]


@pytest.fixture
def listing(connect):
    """`listing(pager, server, …)`; more keywords go to Listing, `base` to the fetcher."""

    def make(pager, server, method="GET", base=None, **options):
        client = connect(server.url)
        fetch = client.fetcher(method, "/x", is_safe=True, **(base or {}))
        return Listing(pager, fetch, connection="stripe_us", stream="things", **options)

    return make


def stripe(rows=10, limit=4):
    def script(got):
        start = int(got.query["starting_after"][1:]) + 1 if "starting_after" in got.query else 0
        assert int(got.query["limit"]) == limit
        return to_json({"data": records(start, min(start + limit, rows)), "has_more": start + limit < rows})

    return script


def graphql(rows=10, limit=4):
    def script(got):
        assert got.json["query"] == "query"
        start = int(got.json["variables"].get("after") or 0)
        end = min(start + limit, rows)
        assert got.json["variables"]["filter"] == "all"
        page = {"nodes": records(start, end), "pageInfo": {"hasNextPage": end < rows, "endCursor": str(end)}}
        return to_json({"data": {"shop": {"orders": page}}})

    return script


def linked(rows=10, limit=4):
    def script(got):
        start = int(got.query.get("from", 0))
        more = start + limit < rows
        link = (
            f'</x?from={start + limit}&size=4>; rel="next", </x?from=0>; rel="first"' if more else '</x>; rel="first"'
        )
        return to_json(records(start, min(start + limit, rows)), headers={"Link": link})

    return script


def cursor(rows=10, limit=4, end=None):
    def script(got):
        start = int(got.query.get("cursor", 0))
        more = start + limit < rows
        paging = {"next": {"after": str(start + limit)}} if more else end
        body = {"results": records(start, min(start + limit, rows))}
        return to_json(body if paging is None else {**body, "paging": paging})

    return script


def numbered(rows=10, limit=4, **more):
    def script(got):
        start = (int(got.query["page"]) - 1) * limit
        body = {
            "items": records(start, max(start, min(start + limit, rows))),
            "total": rows,
            "pages": -(-rows // limit),
        }
        return to_json({**body, "more": start + limit < rows, **more})

    return script


def offset(rows=10, cap=4):
    def script(got):
        start = int(got.query["offset"])
        size = min(cap, int(got.query["limit"]))
        return to_json({"items": records(start, max(start, min(start + size, rows))), "total": rows})

    return script


CASES = {
    "starting after": (StartingAfter(limit=4), stripe(), {}),
    "graphql": (
        GraphQLConnection("data.shop.orders", limit_variable="first", limit=4),
        graphql(),
        {"method": "POST", "base": {"json": {"query": "query", "variables": {"filter": "all"}}}},
    ),
    "link header": (LinkHeader(limit_param="size", limit=4), linked(), {}),
    "cursor": (CursorParam("results", next="paging.next.after"), cursor(), {}),
    "cursor that ends null": (CursorParam("results", next="paging.next.after"), cursor(end={"next": None}), {}),
    "cursor that ends empty": (
        CursorParam("results", next="paging.next.after"),
        cursor(end={"next": {"after": ""}}),
        {},
    ),
    "numbers until empty": (PageNumber("items"), numbered(), {}),
    "numbers and more": (PageNumber("items", more="more"), numbered(), {}),
    "numbers of so many": (PageNumber("items", pages_path="pages"), numbered(), {}),
    "numbers and total": (PageNumber("items", total="total"), numbered(), {}),
    "offset until empty": (Offset("items", limit=4), offset(), {}),
    "offset and total": (Offset("items", limit=4, total="total"), offset(), {}),
    "offset where the server caps the limit": (Offset("items", limit=100, total="total"), offset(cap=3), {}),
}


@pytest.mark.parametrize("name", CASES)
def test_a_pager_reads_every_record_once(serve, listing, name):
    pager, script, options = CASES[name]
    pull = listing(pager, serve(script), **options)
    assert ids(pull) == ALL
    assert (pull.pulled.count, pull.pulled.repeated) == (10, 0)
    pull.expect(10)


@pytest.mark.parametrize("name", CASES)
def test_an_empty_listing_is_no_fault(serve, listing, name):
    pager, _, options = CASES[name]
    make = {
        "starting": stripe,
        "graphql": graphql,
        "link": linked,
        "cursor": cursor,
        "numbers": numbered,
        "offset": offset,
    }
    pull = listing(pager, serve(make[name.split()[0]](rows=0)), **options)
    assert ids(pull) == []
    assert pull.pulled.count == 0


@pytest.mark.parametrize("known", [{"more": "more"}, {"pages_path": "pages"}, {"total": "total"}])
def test_numbered_pages_ask_for_no_page_beyond_the_known_end(serve, listing, known):
    server = serve(numbered())
    list(listing(PageNumber("items", **known), server))
    assert [got.query["page"] for got in server.got] == ["1", "2", "3"]


def test_base_parameters_stay_with_every_request_but_not_with_links(serve, listing):
    server = serve(stripe())
    list(listing(StartingAfter(limit=4), server, base={"params": {"created[gte]": 5}}))
    assert [got.query.get("created[gte]") for got in server.got] == ["5"] * 3
    server = serve(linked())
    list(listing(LinkHeader(), server, base={"params": {"status": "any"}}))
    assert [got.query for got in server.got][1:] == [{"from": "4", "size": "4"}, {"from": "8", "size": "4"}]


def test_a_next_link_to_another_host_is_refused(serve, listing):
    other = serve([Answer()])
    server = serve([to_json([{"id": "r0"}], headers={"Link": f'<http://localhost:{other.server_port}/x>; rel="next"'})])
    with pytest.raises(RedirectRefused):
        list(listing(LinkHeader(), server))
    assert other.got == []


RAW = (
    b'{"id": "a", "zeta":1,"alpha" : [ ] , "amount":12.30, "big":123456789012345678901234567890, "e":1E+2}',
    b'{"id":"b","text":"\\u0000 \\/ \\ud83d\\ude00 caf\xc3\xa9 \\u00e9","n":-0.0,"dup":1,"dup":2}',
    b'{ "id" : "c" , "nested" : { "data" : [1 , 2] } }',
)


@pytest.mark.parametrize(
    ("pager", "before", "after"),
    [
        (StartingAfter(), b'{"object":"list", "data" : [ ', b' ],\n"has_more":false}'),
        (LinkHeader(), b"[", b"]"),
        (CursorParam("a.b c.d"), b'{"a":{"b c":{"d":[', b']}},"next_cursor":null}'),
        (
            GraphQLConnection("data.x"),
            b'{"data":{"x":{"nodes":[',
            b'],"pageInfo":{"endCursor":null,"hasNextPage":false}}}}',
        ),
        (SyncToken(), b'{"added":[', b'],"modified":[],"removed":[],"has_more":false,"next_cursor":"c"}'),
    ],
)
def test_records_are_the_provider_s_own_bytes(serve, listing, pager, before, after):
    body = before + b" , ".join(RAW) + after
    [page] = listing(pager, serve([Answer(body=body)]))
    assert tuple(bytes(item) for item in page.items) == RAW
    assert page.raw == body


def stripe_pages(*pages):
    """Pages as given, whatever is asked for."""
    return [to_json({"data": page, "has_more": i < len(pages)}) for i, page in enumerate(pages, 1)]


def test_the_same_page_again_is_a_fault(serve, listing):
    pull = listing(
        CursorParam("data", next="next"), serve([to_json({"data": records(0, 2), "next": f"c{n}"}) for n in range(3)])
    )
    with pytest.raises(PageFault, match="stripe_us: things, page 2: it has the same records") as caught:
        list(pull)
    assert caught.value.kind == "repeat"
    assert caught.value.is_transient


def test_the_same_page_again_is_a_fault_where_records_have_no_id(serve, listing):
    answers = [to_json({"data": [{"n": 1}, {"n": 2}], "next": f"c{n}"}) for n in range(3)]
    with pytest.raises(PageFault, match="same records"):
        list(listing(CursorParam("data", next="next"), serve(answers)))


def test_a_cursor_that_does_not_advance_is_a_fault(serve, listing):
    answers = [to_json({"data": records(n, n + 1), "next": "c"}) for n in range(3)]
    with pytest.raises(PageFault, match="used before") as caught:
        list(listing(CursorParam("data", next="next"), serve(answers)))
    assert (caught.value.kind, caught.value.page) == ("cursor", 2)


def test_more_without_a_cursor_is_a_fault(serve, listing):
    answer = to_json({"data": records(0, 1), "next": None, "more": True})
    with pytest.raises(PageFault, match="no cursor"):
        list(listing(CursorParam("data", next="next", more="more"), serve([answer])))


def test_a_record_that_comes_twice_is_kept_once_and_counted(serve, listing):
    pull = listing(StartingAfter(), serve(stripe_pages(records(0, 3), records(2, 5), records(4, 5))))
    assert ids(pull) == ["r0", "r1", "r2", "r3", "r4"]
    assert pull.pulled == Pulled(count=5, repeated=2, changed=0, pages=3, empty=0)


def test_a_record_that_comes_again_with_other_content_is_counted_as_changed(serve, listing):
    pull = listing(StartingAfter(), serve(stripe_pages(records(0, 2), [{"id": "r1", "n": 99}, *records(2, 3)])))
    pages = list(pull)
    assert ids(pages) == ["r0", "r1", "r2"]
    assert (pull.pulled.repeated, pull.pulled.changed) == (1, 1)
    assert json.loads(bytes(pages[0].items[1])) == {"id": "r1", "n": 1}


def test_nested_and_numeric_ids_are_understood(serve, listing):
    rows = [[{"node": {"id": 1}}, {"node": {"id": 2}}], [{"node": {"id": 2}}, {"node": {"id": 3}}]]
    pull = listing(StartingAfter(id_field="node.id"), serve(stripe_pages(*rows)), record_id="node.id")
    assert sum(len(page.items) for page in pull) == 3
    assert pull.pulled.repeated == 1


def test_records_without_an_id_are_all_kept(serve, listing):
    rows = [{"id": "a"}, {"n": 1}, {"id": None}, {"id": {"odd": 1}}, "text", {"n": 1}]
    pull = listing(CursorParam("data", next="next"), serve([to_json({"data": rows})]))
    assert sum(len(page.items) for page in pull) == len(rows)


def test_a_few_empty_pages_are_counted_and_too_many_are_a_fault(serve, listing):
    def script(got):
        return to_json(
            {"data": records(0, 1) if got.number == 4 else [], "next": None if got.number == 4 else f"c{got.number}"}
        )

    pull = listing(CursorParam("data", next="next"), serve(script))
    assert ids(pull) == ["r0"]
    assert pull.pulled.empty == 3
    with pytest.raises(PageFault, match="3 empty pages") as caught:
        list(listing(CursorParam("data", next="next"), serve(script), max_empty=2))
    assert caught.value.kind == "empty"


def test_an_empty_page_that_leads_nowhere_is_a_fault(serve, listing):
    with pytest.raises(PageFault, match="no cursor"):
        list(listing(StartingAfter(), serve(stripe_pages([], records(0, 1)))))


def test_a_listing_without_end_is_stopped(serve, listing):
    server = serve(lambda got: to_json({"data": records(got.number, got.number + 1), "next": f"c{got.number}"}))
    with pytest.raises(PageFault, match="more than 5 pages") as caught:
        list(listing(CursorParam("data", next="next"), server, max_pages=5))
    assert len(server.got) == 5
    assert caught.value.kind == "too_many"
    assert not caught.value.is_transient


@pytest.mark.parametrize(
    "body",
    [
        b'{"data": []}',
        b'{"has_more": false}',
        b'{"data": null, "has_more": false}',
        b'{"data": [], "has_more": null}',
        b"[]",
        b"{",
        b"",
    ],
)
def test_an_answer_without_items_or_end_mark_is_a_bad_payload_and_not_the_end(serve, listing, body):
    with pytest.raises(BadPayload):
        list(listing(StartingAfter(), serve([Answer(body=body)])))


def test_a_graphql_answer_without_data_is_a_bad_payload(serve, listing):
    with pytest.raises(BadPayload):
        list(
            listing(
                GraphQLConnection("data.orders"), serve([to_json({"data": {"orders": None}})]), "POST", {"json": {}}
            )
        )


@pytest.mark.parametrize(
    ("count", "tolerance", "is_fine"), [(10, 0, True), (12, 2, True), (12, 1, False), (9, 0, False)]
)
def test_the_source_s_own_count_is_compared(serve, listing, count, tolerance, is_fine):
    pull = listing(StartingAfter(limit=4), serve(stripe()))
    list(pull)
    if is_fine:
        pull.expect(count, tolerance)
    else:
        with pytest.raises(PageFault, match=f"pulled 10 of {count}"):
            pull.expect(count, tolerance)


def test_an_unfinished_listing_gives_neither_cursor_nor_count(serve, listing):
    pull = listing(StartingAfter(limit=4), serve(stripe()))
    next(iter(pull))
    with pytest.raises(RuntimeError, match="not complete"):
        pull.expect(10)
    with pytest.raises(RuntimeError, match="not complete"):
        _ = pull.cursor


def test_a_listing_that_ends_before_its_total_is_a_fault(serve, listing):
    for pager, script in (
        (PageNumber("items", total="total"), numbered(total=12)),
        (Offset("items", total="total"), None),
    ):
        server = serve(
            script or (lambda got: to_json({"items": records(0, 10)[int(got.query["offset"]) :], "total": 12}))
        )
        with pytest.raises(PageFault, match="pulled 10 of 12") as caught:
            list(listing(pager, server))
        assert caught.value.kind == "early_end"


def test_a_total_that_moves_meanwhile_is_a_fault(serve, listing):
    server = serve(lambda got: numbered(total=10 + got.number)(got))
    with pytest.raises(PageFault, match="from 11 to 12") as caught:
        list(listing(PageNumber("items", total="total"), server))
    assert caught.value.kind == "shift"


def offset_over(rows_at):
    """An offset listing whose rows differ by request: `rows_at(number)`."""

    def script(got):
        start = int(got.query["offset"])
        return to_json({"items": rows_at(got.number)[start : start + int(got.query["limit"])]})

    return script


def test_an_offset_listing_from_which_a_record_vanishes_is_a_fault(serve, listing):
    server = serve(offset_over(lambda number: records(0, 10) if number == 1 else records(1, 10)))
    with pytest.raises(PageFault, match="the listing moved") as caught:
        list(listing(Offset("items", limit=4), server))
    assert caught.value.kind == "shift"


def test_an_offset_listing_in_which_a_record_appears_is_read_on_without_a_gap(serve, listing):
    server = serve(offset_over(lambda number: records(0, 10) if number == 1 else [{"id": "new"}, *records(0, 10)]))
    pull = listing(Offset("items", limit=4), server)
    assert ids(pull) == ALL
    assert pull.pulled.repeated == 0


def test_a_server_that_repeats_its_last_page_ends_at_the_total(serve, listing):
    last = {"items": records(4, 8), "total": 8}
    server = serve([to_json({"items": records(0, 4), "total": 8}), to_json(last), to_json(last)])
    assert ids(listing(PageNumber("items", total="total"), server)) == ALL[:8]
    assert len(server.got) == 2


class Bank:
    """Plaid's /transactions/sync: a page per cursor; `mutations` requests in the middle of a loop are answered with
    the error.
    """

    def __init__(self, mutations: int) -> None:
        self.mutations = mutations
        self.cursors: list[str | None] = []

    def __call__(self, got):
        cursor = got.json.get("cursor")
        self.cursors.append(cursor)
        if cursor == "c1" and self.mutations:
            self.mutations -= 1
            error = {"error_type": "TRANSACTIONS_ERROR", "error_code": "TRANSACTIONS_SYNC_MUTATION_DURING_PAGINATION"}
            return to_json(error, status=400)
        if cursor in ("c0", None):
            return self.page([{"id": "t1", "n": 1}, {"id": "t2", "n": 1}], [], [], "c1", True)
        return self.page([{"id": "t3", "n": 1}], [{"id": "t2", "n": 2}], [{"id": "t1"}], "c2", False)

    def page(self, added, modified, removed, cursor, more):
        return to_json(
            {"added": added, "modified": modified, "removed": removed, "next_cursor": cursor, "has_more": more}
        )


def test_a_sync_hands_on_all_changes_by_group_and_the_cursor_to_store(serve, listing):
    bank = Bank(0)
    pull = listing(SyncToken(), serve(bank), "POST", {"json": {"count": 500, "cursor": "c0"}})
    pages = list(pull)
    assert [{name: len(items) for name, items in page.groups.items()} for page in pages] == [
        {"added": 2, "modified": 0, "removed": 0},
        {"added": 1, "modified": 1, "removed": 1},
    ]
    assert ids(pages) == ["t1", "t2", "t3", "t2", "t1"]
    assert pull.cursor == "c2"
    assert pull.pulled.repeated == 0
    assert bank.cursors == ["c0", "c1"]


def test_a_sync_that_changes_meanwhile_begins_again_at_the_loop_s_first_cursor(serve, listing):
    bank = Bank(2)
    pull = listing(SyncToken(), serve(bank), "POST", {"json": {"cursor": "c0"}})
    assert ids(pull) == ["t1", "t2", "t3", "t2", "t1"]
    assert bank.cursors == ["c0", "c1", "c0", "c1", "c0", "c1"]
    assert pull.pulled.pages == 2


def test_a_first_sync_without_a_cursor_begins_again_without_one(serve, listing):
    bank = Bank(1)
    assert len(ids(listing(SyncToken(), serve(bank), "POST", {"json": {}}))) == 5
    assert bank.cursors == [None, "c1", None, "c1"]


def test_a_sync_that_never_settles_ends_in_the_source_s_error_and_hands_on_nothing(serve, listing):
    bank = Bank(100)
    handed = []
    with pytest.raises(RequestRejected, match="MUTATION"):
        handed.extend(listing(SyncToken(max_restarts=3), serve(bank), "POST", {"json": {}}))
    assert handed == []
    assert bank.cursors.count("c1") == 4


def test_another_error_of_a_sync_is_not_retried(serve, listing):
    server = serve([to_json({"error_code": "ITEM_LOGIN_REQUIRED"}, status=400)])
    with pytest.raises(RequestRejected, match="ITEM_LOGIN_REQUIRED"):
        list(listing(SyncToken(), server, "POST", {"json": {}}))
    assert len(server.got) == 1


def test_a_sync_keeps_every_version_of_a_record(serve, listing):
    def script(got):
        more = got.number < 3
        body = {"added": [], "modified": [{"id": "t1", "n": got.number}], "removed": []}
        return to_json({**body, "next_cursor": f"c{got.number}", "has_more": more})

    pull = listing(SyncToken(), serve(script), "POST", {"json": {}})
    assert [json.loads(bytes(page.groups["modified"][0]))["n"] for page in pull] == [1, 2, 3]
    assert (pull.pulled.count, pull.pulled.changed) == (3, 2)


def test_a_sync_page_that_comes_again_byte_for_byte_is_a_fault(serve, listing):
    def script(got):
        body = {"added": [{"id": "t1"}], "modified": [], "removed": []}
        return to_json({**body, "next_cursor": f"c{got.number}", "has_more": got.number < 3})

    with pytest.raises(PageFault, match="same records"):
        list(listing(SyncToken(), serve(script), "POST", {"json": {}}))


def test_a_body_that_is_a_list_has_no_other_paths():
    with pytest.raises(ValueError, match="nothing beside"):
        Cut({"items": ("", list), "more": ("more", bool)})
