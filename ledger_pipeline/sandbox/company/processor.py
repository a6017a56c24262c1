"""What the payment processors see: balance transactions of an order, of a dispute, of a payout."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta

from ledger_pipeline.sandbox.events import Dispute, Order, Payout, ProcessorTransaction, Tender

from . import ids
from .facts import (
    DISPUTE_FEES,
    FEES,
    PAYOUT_ACCOUNT,
    PAYOUT_LAG_DAYS,
    PROCESSOR_OF,
    SETTLES_IN,
    instant,
    local_day,
    next_business_day,
    zone_of,
)
from .orders import Draft, half_up
from .rates import processor_rate, settle

_CHARGE_DELAY = timedelta(seconds=3)


def payout_id(connection: str, currency: str, day: date) -> str:
    return ids.processor_id(connection, "payout", day, ids.PAYOUT_INDEX + SETTLES_IN[connection].index(currency), 0)


def _carrier(connection: str, currency: str, at: datetime) -> tuple[datetime, str]:
    """When a transaction's money is available (midnight UTC of the payout's day), and the payout that carries it."""
    day = local_day(zone_of(connection), at) + timedelta(days=PAYOUT_LAG_DAYS[connection])
    return datetime(day.year, day.month, day.day, tzinfo=UTC), payout_id(connection, currency, day)


def order_transactions(order: Order, draft: Draft | None) -> list[ProcessorTransaction]:
    """Charges, refunds and dispute movements of one order over its whole life, at whichever processors.

    `draft` is that of a planted order, None for an ordinary one.
    """
    found: list[ProcessorTransaction] = []
    charges: dict[int, ProcessorTransaction] = {}
    place = ids.read_order_id(order.connection, order.order_id)
    if place is None or order.is_test or (draft is not None and not draft.has_charge):
        return found
    for n, tender in enumerate(order.tenders):
        processor = PROCESSOR_OF.get((order.connection, tender.gateway))
        if processor and tender.kind in ("SALE", "CAPTURE") and tender.status == "SUCCESS":
            at = draft.charge_at if draft is not None and draft.charge_at else tender.at + _CHARGE_DELAY
            root = n - 1 if tender.kind == "CAPTURE" else n
            charges[tender.tender_id] = _charge(processor, order, tender, place, root, at)
    found += charges.values()
    for refund in order.refunds:
        for n, tender in enumerate(refund.tenders):
            charge = charges.get(tender.parent_id or 0)
            if charge is not None:
                late = draft.charge_refund_at if draft is not None else None
                at = late or tender.at + _CHARGE_DELAY
                found.append(_refund(charge, refund.refund_id, tender, place, ids.REFUND_N + n, at))
    if draft is not None and draft.dispute is not None:
        found += _dispute_transactions(next(iter(charges.values())), draft, place)
    return found


def _source_money(processor: str, tender: Tender) -> tuple[int, str]:
    # Shopify Payments settles in the shop's currency what the shop's books say; Stripe charges what the customer saw.
    if processor.startswith("shopify_"):
        return tender.amount.shop, tender.amount.shop_currency
    return tender.amount.presentment, tender.amount.presentment_currency


def _settled(processor: str, amount: int, currency: str, day: date) -> tuple[int, str, str | None]:
    """The amount in the balance's currency, that currency, and the processor's exchange rate where there is one."""
    if currency in SETTLES_IN[processor]:
        return amount, currency, None
    target = SETTLES_IN[processor][0]
    rate = processor_rate(day, currency, target)
    return settle(amount, currency, target, rate), target, rate


def fee_of(processor: str, currency: str, amount: int) -> int:
    per_100_000, fixed = FEES[processor, currency]
    return half_up(amount * per_100_000, 100_000) + fixed


def _charge(
    processor: str, order: Order, tender: Tender, place: tuple[date, int], n: int, at: datetime
) -> ProcessorTransaction:
    source_amount, source_currency = _source_money(processor, tender)
    day = local_day(zone_of(processor), at)
    amount, currency, rate = _settled(processor, source_amount, source_currency, day)
    available_at, carrier = _carrier(processor, currency, at)
    return ProcessorTransaction(
        connection=processor,
        txn_id=ids.processor_id(processor, "txn", *place, n),
        kind="charge",
        at=at,
        available_at=available_at,
        currency=currency,
        amount=amount,
        fee=fee_of(processor, currency, amount),
        source_id=tender.payment_id or "",
        source_amount=source_amount,
        source_currency=source_currency,
        exchange_rate=rate,
        order_id=order.order_id,
        charge_id=tender.payment_id,
        payout_id=carrier,
        description=f"Order {order.name}",
        tender_id=tender.tender_id,
    )


def _refund(
    charge: ProcessorTransaction, refund_id: int, tender: Tender, place: tuple[date, int], n: int, at: datetime
) -> ProcessorTransaction:
    processor = charge.connection
    source_amount, source_currency = _source_money(processor, tender)
    day = local_day(zone_of(processor), at)
    amount, currency, rate = _settled(processor, source_amount, source_currency, day)
    available_at, carrier = _carrier(processor, currency, at)
    return ProcessorTransaction(
        connection=processor,
        txn_id=ids.processor_id(processor, "txn", *place, n),
        kind="refund",
        at=at,
        available_at=available_at,
        currency=currency,
        amount=-amount,
        fee=0,
        source_id=tender.payment_id or "",
        source_amount=source_amount,
        source_currency=source_currency,
        exchange_rate=rate,
        order_id=charge.order_id,
        charge_id=charge.source_id,
        payout_id=carrier,
        description=f"Refund of {charge.description.lower()}",
        tender_id=tender.tender_id,
        refund_id=refund_id,
    )


def unknown_payment(connection: str, day: date, number: int, at: datetime, amount: int) -> ProcessorTransaction:
    """A charge that somebody took at the processor's own desk: no order knows of it."""
    place = (day, ids.UNKNOWN_PAYMENT_INDEX + number)
    currency = SETTLES_IN[connection][0]
    available_at, carrier = _carrier(connection, currency, at)
    charge_id = ids.processor_id(connection, "charge", *place, 0)
    return ProcessorTransaction(
        connection=connection,
        txn_id=ids.processor_id(connection, "txn", *place, 0),
        kind="charge",
        at=at,
        available_at=available_at,
        currency=currency,
        amount=amount,
        fee=fee_of(connection, currency, amount),
        source_id=charge_id,
        source_amount=amount,
        source_currency=currency,
        exchange_rate=None,
        order_id=None,
        charge_id=charge_id,
        payout_id=carrier,
        description="Phone payment",
    )


def dispute_of(charge: ProcessorTransaction, draft: Draft, place: tuple[date, int]) -> Dispute:
    plan = draft.dispute
    if plan is None:
        raise ValueError(f"order {charge.order_id} has no dispute")
    connection = charge.connection
    txn_ids = [ids.processor_id(connection, "txn", *place, ids.DISPUTE_N)]
    if plan.outcome == "won":
        txn_ids.append(ids.processor_id(connection, "txn", *place, ids.REVERSAL_N))
    return Dispute(
        connection=connection,
        dispute_id=ids.processor_id(connection, "dispute", *place, ids.DISPUTE_N),
        charge_id=charge.source_id,
        order_id=charge.order_id,
        at=plan.opened_at,
        amount=charge.source_amount,
        currency=charge.source_currency,
        settled_amount=charge.amount,
        settled_currency=charge.currency,
        fee=DISPUTE_FEES[charge.currency],
        decided_at=plan.decided_at,
        outcome=plan.outcome,
        txn_ids=tuple(txn_ids),
    )


def _dispute_transactions(
    charge: ProcessorTransaction, draft: Draft, place: tuple[date, int]
) -> list[ProcessorTransaction]:
    dispute = dispute_of(charge, draft, place)

    def movement(kind: str, at: datetime, txn_id: str, sign: int, fee: int, words: str) -> ProcessorTransaction:
        available_at, carrier = _carrier(charge.connection, charge.currency, at)
        return ProcessorTransaction(
            connection=charge.connection,
            txn_id=txn_id,
            kind=kind,
            at=at,
            available_at=available_at,
            currency=charge.currency,
            amount=sign * dispute.settled_amount,
            fee=fee,
            source_id=dispute.dispute_id,
            source_amount=charge.source_amount,
            source_currency=charge.source_currency,
            exchange_rate=charge.exchange_rate,
            order_id=charge.order_id,
            charge_id=charge.source_id,
            payout_id=carrier,
            description=f"{words} for {charge.source_id}",
        )

    moves = [movement("dispute", dispute.at, dispute.txn_ids[0], -1, dispute.fee, "Chargeback withdrawal")]
    if dispute.outcome == "won" and dispute.decided_at is not None:
        moves.append(movement("dispute_reversal", dispute.decided_at, dispute.txn_ids[1], 1, 0, "Chargeback reversal"))
    return moves


def build_payouts(
    connection: str, day: date, members: Sequence[ProcessorTransaction], failing: Iterable[str]
) -> list[Payout]:
    """The payouts made on `day` at 07:00 local, one per currency that has members; those in `failing` fail at 16:00."""
    zone = zone_of(connection)
    payouts = []
    for currency in SETTLES_IN[connection]:
        carried = [txn for txn in members if txn.currency == currency]
        if not carried:
            continue
        identity = payout_id(connection, currency, day)
        arrival = next_business_day(day)
        is_failing = identity in failing
        payouts.append(
            Payout(
                connection=connection,
                payout_id=identity,
                at=instant(zone, day, 7),
                arrival_day=arrival,
                currency=currency,
                amount=sum(txn.amount - txn.fee for txn in carried),
                paid_at=None if is_failing else instant(zone, arrival, 8),
                failed_at=instant(zone, day, 16) if is_failing else None,
                member_ids=tuple(txn.txn_id for txn in carried),
                bank_account_id=PAYOUT_ACCOUNT[connection, currency].account_id,
            )
        )
    return payouts


def payout_transaction(payout: Payout) -> ProcessorTransaction:
    return _payout_movement(payout, "payout", payout.at, -payout.amount, payout.payout_id)


def payout_failure(payout: Payout, day: date) -> ProcessorTransaction:
    """The failed payout's money comes back at once; the next day's payout carries it."""
    if payout.failed_at is None:
        raise ValueError(f"payout {payout.payout_id} has not failed")
    carrier = payout_id(payout.connection, payout.currency, day + timedelta(days=1))
    return _payout_movement(payout, "payout_failure", payout.failed_at, payout.amount, carrier)


def _payout_movement(payout: Payout, kind: str, at: datetime, amount: int, carrier: str) -> ProcessorTransaction:
    day = local_day(zone_of(payout.connection), payout.at)
    index = ids.PAYOUT_INDEX + SETTLES_IN[payout.connection].index(payout.currency)
    return ProcessorTransaction(
        connection=payout.connection,
        txn_id=ids.processor_id(payout.connection, "txn", day, index, 0 if kind == "payout" else 1),
        kind=kind,
        at=at,
        available_at=at,
        currency=payout.currency,
        amount=amount,
        fee=0,
        source_id=payout.payout_id,
        source_amount=abs(amount),
        source_currency=payout.currency,
        exchange_rate=None,
        order_id=None,
        payout_id=carrier,
        description="STRIPE PAYOUT" if payout.connection.startswith("stripe_") else "SHOPIFY PAYOUT",
    )
