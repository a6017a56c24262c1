"""One business event by two paths is posted once, whichever comes first; two equal lines stay two; a person's own file is a path like others."""

from __future__ import annotations

import random
import threading
from datetime import date, timedelta
from pathlib import Path

import pytest

from ledger_pipeline.config import ConfigError
from ledger_pipeline.orchestration import replay, steps
from ledger_pipeline.orchestration.runtime import Runtime
from ledger_pipeline.reconcile import twins
from ledger_pipeline.reports import controls
from ledger_pipeline.store import posting
from ledger_pipeline.store.database import Database
from ledger_pipeline_tests.conftest import START, serving
from ledger_pipeline_tests.orchestration.feeds import TILL, Feeds, book, on

PAIR = {"feed": "", "file": "feed"}
COFFEE = (0, "-3.50", "COFFEE")
RENT = (0, "-900.00", "RENT OCT")


@pytest.fixture
def feeds(database: Database, tmp_path: Path) -> Feeds:
    return Feeds(tmp_path, database, PAIR)


def test_an_event_that_two_paths_tell_is_posted_once(feeds: Feeds) -> None:
    feeds.night("feed", 0, COFFEE, RENT)
    feeds.night("file", 0, RENT, COFFEE)
    assert feeds.balances() == {"bank:operating": -90_350, "uncategorised_expense": 90_350}
    assert feeds.live() == ["feed", "feed"]
    fates = feeds.fates("file")
    assert [fate for fate, _ in fates] == ["ignored", "ignored"]
    assert all(reason.startswith("the same event as feed/bank_transaction/") for _, reason in fates)
    assert feeds.is_proven()


def test_two_equal_lines_are_two_on_both_paths_and_what_one_path_has_more_stays(feeds: Feeds) -> None:
    feeds.night("feed", 0, COFFEE, COFFEE)
    feeds.night("file", 0, COFFEE, COFFEE, COFFEE)
    assert feeds.balances()["bank:operating"] == -1_050
    assert feeds.live() == ["feed", "feed", "file"]
    feeds.night("feed", 1, COFFEE, COFFEE, COFFEE)
    assert feeds.balances()["bank:operating"] == -1_050
    assert sorted(fate for fate, _ in feeds.fates("file")) == ["ignored", "ignored", "posted"]


def test_connections_that_stand_alone_are_not_united(database: Database, tmp_path: Path) -> None:
    feeds = Feeds(tmp_path, database, {"feed": "", "file": ""})
    feeds.night("feed", 0, COFFEE)
    feeds.night("file", 0, COFFEE)
    assert feeds.live() == ["feed", "file"]
    assert feeds.rows("SELECT count(*) FROM recon.identity") == [(0,)]


def test_running_a_day_again_changes_nothing(feeds: Feeds) -> None:
    for _ in range(2):
        feeds.night("feed", 0, COFFEE, RENT)
        feeds.night("file", 0, COFFEE, COFFEE, RENT)
    assert feeds.rows("SELECT count(*) FROM ledger.entry") == [(3,)]
    assert feeds.rows("SELECT count(*) FROM recon.twin") == [(2,)]


@pytest.mark.parametrize("seed", [1, *(pytest.param(n, marks=pytest.mark.nightly) for n in range(2, 8))])
def test_the_order_of_days_and_paths_leaves_no_trace(database: Database, tmp_path: Path, seed: int) -> None:
    feeds = Feeds(tmp_path, database, {"a": "", "b": "a", "c": "b"})
    dice = random.Random(seed)
    most: dict[int, int] = {}
    jobs = []
    for name in ("a", "b", "c"):
        told = [dice.randrange(4) for _ in range(3)]
        for day, count in enumerate(told):
            most[day] = max(most.get(day, 0), count)
        at = dice.randrange(3)  # c may tell of the first day with a later file
        feeds.deliver(name, at, *[(0, "-1.00", f"x{n}") for n in range(told[0])])
        feeds.deliver(name, at + 1, *[(1, "-10.00", f"y{n}") for n in range(told[1])])
        feeds.deliver(name, at + 2, *[(2, "100.00", f"z{n}") for n in range(told[2])])
        jobs += [(name, at + n) for n in range(3)]
    dice.shuffle(jobs)
    book(feeds, jobs)
    expected = -100 * most[0] - 1_000 * most[1] + 10_000 * most[2]
    assert feeds.balances().get("bank:operating", 0) == expected
    assert len(feeds.live()) == sum(most.values())
    book(feeds, jobs[::-1])
    assert feeds.balances().get("bank:operating", 0) == expected
    assert len(feeds.live()) == sum(most.values())
    assert feeds.is_proven()


def test_when_the_first_one_is_taken_back_the_other_is_posted_by_a_later_run(feeds: Feeds) -> None:
    feeds.night("feed", 0, COFFEE)
    feeds.night("file", 0, COFFEE)
    with feeds.database.connect("reader") as connection:
        assert twins.orphans(connection, ["file"]) == []
    refuse(feeds, "feed")
    replayed = replay.replay(feeds.runtime, "feed", on(0), on(0))
    replay.apply(feeds.runtime, "feed", on(0), on(0), digest=replayed.digest, by="Ann", reason="not ours", run_id="act")
    assert feeds.live() == []
    with feeds.database.connect("reader") as connection:
        (orphan,) = twins.orphans(connection, ["file"])
    assert (orphan.connection, orphan.sync_date) == ("file", on(0))
    feeds.night("file", 0)
    assert feeds.live() == ["file"]
    assert feeds.fates("file") == [("posted", "")]
    assert feeds.is_proven()


def refuse(feeds: Feeds, name: str) -> None:
    """The line isn't booked any more as the source now says: its state is pending."""
    link = feeds.runtime.link(name)
    plan = link.plans["records"]
    run = plan.run

    def pending(payloads: object, raw_ids: object, settings: object) -> object:
        made = run(payloads, raw_ids, settings)  # type: ignore[arg-type]
        table = made.tables["bank_transaction"]
        at = table.column_names.index("state")
        made.tables["bank_transaction"] = table.set_column(
            at, "state", table["state"].take([0] * 0) if not table.num_rows else _same("pending", table.num_rows)
        )
        return made

    plan.run = pending  # type: ignore[method-assign, assignment]


def _same(value: str, size: int) -> object:
    import pyarrow as pa

    return pa.array([value] * size, pa.string())


def test_a_preview_says_what_the_night_does_and_keeps_nothing(feeds: Feeds) -> None:
    feeds.night("feed", 0, COFFEE, RENT)
    feeds.deliver("file", 0, COFFEE, COFFEE, RENT)
    link = feeds.runtime.link("file")
    steps.pull(feeds.runtime, link, link.source.streams[0], on(0), "test")
    shown = replay.preview(feeds.runtime, "file", on(0), on(0))
    assert (len(shown.changes), shown.fates) == (1, {"ignored": 2, "posted": 1})
    assert feeds.rows("SELECT count(*) FROM recon.twin") == [(0,)]
    day = feeds.night("file", 0)
    assert day.posted is not None
    assert dict(day.posted.fates) == shown.fates
    assert replay.replay(feeds.runtime, "file", on(0), on(0)).changes == []
    assert replay.replay(feeds.runtime, "feed", on(0), on(0)).changes == []


def test_a_replay_unites_what_was_posted_before_the_paths_were_declared(database: Database, tmp_path: Path) -> None:
    feeds = Feeds(tmp_path, database, {"feed": "", "file": ""})
    feeds.night("feed", 0, COFFEE, RENT)
    feeds.night("file", 0, COFFEE, RENT)
    feeds.configure(PAIR)
    feeds.night("file", 0)
    assert feeds.live() == ["feed", "feed", "file", "file"]  # what was posted stays until somebody asks for a replay
    difference = replay.replay(feeds.runtime, "file", on(0), on(0))
    assert [change.kind for change in difference.changes] == ["reversal", "reversal"]
    replay.apply(
        feeds.runtime, "file", on(0), on(0), digest=difference.digest, by="Ann", reason="two paths", run_id="act"
    )
    assert feeds.live() == ["feed", "feed"]
    assert replay.replay(feeds.runtime, "feed", on(0), on(0)).changes == []
    assert feeds.is_proven()


def test_a_replay_unites_also_what_a_third_path_is_a_twin_of(database: Database, tmp_path: Path) -> None:
    feeds = Feeds(tmp_path, database, {"a": "", "b": "", "c": ""})
    feeds.night("a", 0, COFFEE)
    feeds.night("c", 0, COFFEE)
    feeds.configure({"a": "", "b": "a", "c": "a"})
    feeds.night("b", 0, COFFEE)
    whose = "SELECT connection, twin_connection FROM recon.twin ORDER BY 1"
    assert feeds.rows(whose) == [("b", "a")]
    difference = replay.replay(feeds.runtime, "a", on(0), on(0))
    replay.apply(feeds.runtime, "a", on(0), on(0), digest=difference.digest, by="Ann", reason="paths", run_id="act")
    assert feeds.live() == ["c"]
    assert feeds.rows(whose) == [("a", "c"), ("b", "c")]
    for name in ("a", "b", "c"):
        assert replay.replay(feeds.runtime, name, on(0), on(0)).changes == []
    assert feeds.is_proven()


def test_a_replay_that_hands_a_twin_over_says_so_in_its_fate(database: Database, tmp_path: Path) -> None:
    feeds = Feeds(tmp_path, database, {"a": "", "b": "", "c": ""})
    feeds.night("a", 0, COFFEE, RENT)
    feeds.night("c", 0, COFFEE)
    feeds.configure({"a": "", "b": "a", "c": "a"})
    feeds.night("b", 0, COFFEE, RENT)
    kept = "SELECT raw_id, fate, units, control_amount, control_currency, version_at, sync_date FROM ops.fate WHERE connection = 'b' ORDER BY 1"
    before, (coffee, rent) = feeds.rows(kept), feeds.fates("b")
    (standing,) = feeds.rows("SELECT source_id FROM ledger.live_entry WHERE connection = 'c'")
    assert coffee[1].startswith("the same event as a/bank_transaction/")
    difference = replay.replay(feeds.runtime, "a", on(0), on(0))
    assert feeds.fates("b") == [coffee, rent]  # a preview keeps nothing
    replay.apply(feeds.runtime, "a", on(0), on(0), digest=difference.digest, by="Ann", reason="paths", run_id="act")
    assert feeds.fates("b") == [("ignored", f"the same event as c/bank_transaction/{standing[0]}"), rent]
    assert feeds.rows(kept) == before
    assert feeds.rows("SELECT run_id FROM ops.fate WHERE connection = 'b' ORDER BY raw_id") == [("act",), ("test",)]
    with feeds.database.connect("reader") as connection:
        found = controls.of_connections(connection, ["a", "b", "c"], on(0), on(0))
    assert [one for one in found if not one.holds or one.explained] == []
    after = feeds.fates("b")
    feeds.night("b", 0)
    assert feeds.fates("b") == after  # running its day says the same
    assert feeds.is_proven()


def test_only_the_reason_that_named_the_old_twin_is_reworded(feeds: Feeds) -> None:
    feeds.night("feed", 0, COFFEE)
    feeds.night("file", 0, COFFEE)
    ((raw_id, reason),) = feeds.rows("SELECT raw_id, reason FROM ops.fate WHERE connection = 'file'")
    link = feeds.runtime.link("feed")
    target = steps.target_of(feeds.runtime, link, "acme", on(0), "act")
    with feeds.database.connect() as connection:
        connection.execute(
            "UPDATE ops.fate SET reason = reason || '; and 2 more records likewise' WHERE raw_id = %s", (raw_id,)
        )
        posting.reword(connection, target, [(raw_id, reason[:-1], "a part of an id is another id")])
        posting.reword(connection, target, [(raw_id, reason, "the same event as x/y/z")])
    assert feeds.fates("file") == [("ignored", "the same event as x/y/z; and 2 more records likewise")]
    with feeds.database.connect() as connection:
        connection.execute("UPDATE ops.fate SET reason = %s, fate = 'superseded' WHERE raw_id = %s", (reason, raw_id))
        posting.reword(connection, target, [(raw_id, reason, "not ignored any more")])
    assert feeds.fates("file") == [("superseded", reason)]


def test_two_connections_that_race_post_once(feeds: Feeds) -> None:
    lines = [(0, f"-{n}.00", f"line {n}") for n in range(1, 30)]
    for name in PAIR:
        feeds.deliver(name, 0, *lines)
    failed: list[BaseException] = []

    def run(name: str) -> None:
        try:
            for _ in range(3):
                feeds.night(name, 0)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(name,)) for name in PAIR]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failed == []
    assert len(feeds.live()) == 29
    assert feeds.balances()["bank:operating"] == -100 * sum(range(1, 30))
    assert feeds.is_proven()


def test_control_totals_tie(feeds: Feeds) -> None:
    feeds.night("feed", 0, COFFEE, RENT)
    feeds.night("file", 0, COFFEE, COFFEE, RENT)
    with feeds.database.connect("reader") as connection:
        found = controls.of_connections(connection, ["feed", "file"], on(0), on(0))
    assert found
    assert [one for one in found if not one.holds or one.explained] == []


STATEMENT = """\
:20:{number}
:25:GB12/345
:28C:{number}/1
:60F:C2610{first}GBP{opening}
{lines}:62F:C2610{last}GBP{closing}
"""


def test_a_bank_that_states_balances_ties_though_a_feed_has_posted_its_lines(feeds: Feeds) -> None:
    """Two statements of a file connection: the feed has posted one line of each, the second one's other line only the file tells."""
    folder = feeds.folder / "mt"
    folder.mkdir()
    own = f"  mt: {{entity: acme, source: bank_file, folder: {folder}, same_as: [feed], accounts: {{GB12/345: operating}}}}\n"
    feeds.config.write_text(feeds.config.read_text().replace("schedule:", own + "schedule:"))
    feeds.runtime = type(feeds.runtime).from_file(feeds.config)
    feeds.night("feed", 0, COFFEE)
    feeds.night("feed", 1, (1, "-20.00", "BOOKS"))
    coffee, books, tea = ":61:2610051005D3,50NTRFX\n", ":61:2610061006D20,NTRFY\n", ":61:2610061006D1,NTRFZ\n"
    for day, number, opening, lines, closing in (
        (0, "1", "100,00", coffee, "96,50"),
        (1, "2", "96,50", books + tea, "75,50"),
    ):
        said = STATEMENT.format(
            number=number, first=f"0{5 + day}", last=f"0{5 + day}", opening=opening, lines=lines, closing=closing
        )
        (folder / f"{on(day)}.sta").write_text(said)
        assert feeds.night("mt", day).error is None
    assert feeds.balances()["bank:operating"] == -2_450
    assert [fate for fate, _ in feeds.fates("mt")] == ["ignored", "posted"]
    with feeds.database.connect("reader") as connection:
        found = controls.of_connections(connection, ["mt"], on(0), on(1))
    assert {one.kind for one in found} == {"landed", "balance"}
    assert [one for one in found if not one.holds] == []
    assert feeds.is_proven()


def test_the_same_order_number_with_another_total_is_quarantined_and_named(database: Database, tmp_path: Path) -> None:
    feeds = Feeds(tmp_path, database, {"shop": "", "own": "shop"}, TILL)
    feeds.sell("shop", 0, ("#1001", "10.00"), ("#1002", "20.00"))
    feeds.sell("own", 0, ("1001", "10.00"), ("1002", "21.00"), ("1003", "5.00"))
    book(feeds, [("shop", 0), ("own", 0)])
    assert feeds.balances() == {"order_clearing:till": 3_500, "sales": -3_500}
    assert feeds.fates("own") == [
        ("ignored", "the same event as shop/sale/#1001"),
        (
            "quarantined",
            "posting: shop/sale/#1002 is the same event with other content: total_minor 2000 there, 2100 here",
        ),
        ("posted", ""),
    ]
    assert feeds.is_proven()


@pytest.mark.parametrize(
    ("same_as", "said"),
    [
        ({"feed": "", "file": "fed"}, "unknown connection 'fed'; known are feed, file"),
        ({"feed": "feed"}, "a connection tells of its own events anyway"),
        ({"feed": "file", "file": "feed"}, "once is enough"),
        ({"a": "b", "b": "c", "c": "a"}, "once is enough"),
    ],
)
def test_a_wrong_same_as_is_refused_by_name(
    database: Database, tmp_path: Path, same_as: dict[str, str], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        Feeds(tmp_path, database, same_as)


def test_paths_must_tell_of_the_same_kind_of_record(feeds: Feeds) -> None:
    text = feeds.config.read_text()
    other = "  stripe:\n    entity: acme\n    source: stripe\n    api_key: k\n    same_as: [plaid]\n  plaid:\n    entity: acme\n    source: plaid\n"
    feeds.config.write_text(text.replace("schedule:", other + "schedule:"))
    with pytest.raises(
        ConfigError,
        match="no kind of record is told by both: stripe has dispute, payout, processor_transaction, plaid has bank",
    ):
        type(feeds.runtime).from_file(feeds.config)


def test_another_entitys_connection_is_refused(feeds: Feeds) -> None:
    text = feeds.config.read_text().replace(
        "connections:", "  other: {name: O, base_currency: GBP, time_zone: UTC}\nconnections:"
    )
    feeds.config.write_text(text.replace("file:\n    entity: acme", "file:\n    entity: other"))
    with pytest.raises(ConfigError, match="feed belongs to acme, file to other"):
        type(feeds.runtime).from_file(feeds.config)


def test_the_queries_of_a_day_dont_grow_with_its_lines(feeds: Feeds, monkeypatch: pytest.MonkeyPatch) -> None:
    feeds.night("feed", 0, COFFEE)
    counted: list[int] = []
    for day, size in ((1, 2), (2, 60)):
        feeds.deliver("feed", day, *[(day, f"-{n}.00", "x") for n in range(1, size)])
        feeds.deliver("file", day, *[(day, f"-{n}.00", "x") for n in range(1, size)])
        feeds.night("feed", day)
        with feeds.database.connect() as connection:
            said: list[str] = []
            execute = connection.execute
            monkeypatch.setattr(
                connection,
                "execute",
                lambda query, *a, said=said, execute=execute: said.append(str(query)) or execute(query, *a),
            )
            twins.identify(connection, ("feed", "file"))
            told = [
                twins.Told("bank_transaction", str(n), n, f"bank:operating\x1fGBP\x1f-{n}00\x1f{on(day)}", "")
                for n in range(1, size)
            ]
            standing, _ = twins.read(connection, ("feed", "file"), told)
            assert len(standing) == size - 1
        counted.append(len(said))
    assert counted[0] == counted[1]


def test_identities_in_the_database_are_those_of_the_rows(feeds: Feeds) -> None:
    feeds.night("feed", 0, COFFEE)
    with feeds.database.connect() as connection:
        twins.identify(connection, ["feed"])
    assert feeds.rows("SELECT key, agrees FROM recon.identity") == [
        (f"bank:operating\x1fGBP\x1f-350\x1f{date(2026, 10, 5)}", "")
    ]


def test_what_a_person_imports_and_a_feed_delivers_over_http_is_booked_once(tmp_path: Path, database: Database) -> None:
    """Plaid's lines by its own API; the same lines in a person's file, a day later and under the account's other name."""
    with serving(tmp_path / "files") as sandbox:
        runtime = sandbox.runtime(tmp_path, database)
        for n in range(3):
            sandbox.at_night_of(START + timedelta(days=n))
            steps.run_day(runtime, "plaid_us", START + timedelta(days=n), "feed")
        with database.connect("reader") as connection:
            lines = connection.execute(
                "SELECT DISTINCT ON (source_id) account_id, booked_on, amount_minor, description, currency FROM staging.bank_transaction "
                "WHERE state = 'booked' ORDER BY source_id, sync_date DESC"
            ).fetchall()
            before = connection.execute("SELECT count(*), sum(amount_minor) FROM ledger.line").fetchone()
        accounts = sorted({line[0] for line in lines})
        (tmp_path / "own").mkdir()
        rows = [f'{line[1]},{line[2] / 100:.2f},"{line[3]}",Account {accounts.index(line[0])}' for line in lines]
        (tmp_path / "own" / f"{START + timedelta(days=3)}.csv").write_text(
            "\n".join(["Date,Amount,Text,Account", *rows]) + "\n"
        )
        text = (tmp_path / "ledger.yaml").read_text()
        named = ", ".join(f"Account {n}: main{n}" for n in range(len(accounts)))
        ids = ", ".join(f"{id_}: main{n}" for n, id_ in enumerate(accounts))
        own = (
            f"  own:\n    entity: hp_us\n    source: delimited_file\n    folder: {tmp_path}/own\n    same_as: [plaid_us]\n"
            f"    accounts: {{{named}}}\n    map: {{record: bank_transaction, account: Account, currency: {{value: USD}}, "
            "columns: {date: Date, amount: Amount, description: Text}}\n"
        )
        text = text.replace(
            "    access_token: access-sandbox-plaid_us\n",
            f"    access_token: access-sandbox-plaid_us\n    accounts: {{{ids}}}\n",
        )
        (tmp_path / "ledger.yaml").write_text(text.replace("\nschedule:", f"\n{own}\nschedule:"))
        runtime = Runtime.from_file(tmp_path / "ledger.yaml")
        fresh = replay.replay(runtime, "plaid_us", START, START + timedelta(days=2))
        replay.apply(
            runtime,
            "plaid_us",
            START,
            START + timedelta(days=2),
            digest=fresh.digest,
            by="Ann",
            reason="own names",
            run_id="act",
        )
        day = steps.run_day(runtime, "own", START + timedelta(days=3), "person")
    assert day.posted is not None
    assert len(lines) > 5
    assert (day.posted.posted.originals, dict(day.posted.fates)) == (0, {"ignored": len(lines)})
    with database.connect("reader") as connection:
        live = connection.execute("SELECT count(*) FROM ledger.live_entry WHERE connection = 'own'").fetchone()
    assert (live, before is not None) == ((0,), True)
