"""Orders in Shopify's shape, as many as are asked for: about 2.7 KB each, 2.5 lines and 5 taxes on average.

A few thousand templates are filled with running numbers, so that a million orders need neither memory nor time worth mentioning.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

TEMPLATES = 2000
PAGE = 250
FIRST = 6_000_000_000_001
_N = "%d"
_SEED = 20261005


def payloads(count: int, first: int = FIRST) -> Iterator[list[bytes]]:
    """Pages of orders `first` … `first + count - 1`; the same number is always the same order."""
    templates = _templates()
    for start in range(first, first + count, PAGE):
        numbers = range(start, min(start + PAGE, first + count))
        yield [template % ((n,) * holes) for n in numbers for template, holes in (templates[n % TEMPLATES],)]


_made: list[tuple[bytes, int]] = []


def _templates() -> list[tuple[bytes, int]]:
    if not _made:
        draw = random.Random(_SEED)
        for number in range(TEMPLATES):
            text = json.dumps(_order(draw, lines=number % 4 + 1), separators=(",", ":")).encode()
            _made.append((text, text.count(b"%d")))
    return _made


def _money(minor: int) -> str:
    return f"{minor // 100}.{minor % 100:02d}"


def _shop(minor: int) -> dict[str, Any]:
    return {"shopMoney": {"amount": _money(minor)}}


def _both(minor: int) -> dict[str, Any]:
    amount = {"amount": _money(minor), "currencyCode": "USD"}
    return {"shopMoney": amount, "presentmentMoney": amount}


def _order(draw: random.Random, lines: int) -> dict[str, Any]:
    made = [_line(draw, place) for place in range(lines)]
    shipping = draw.choice((0, 495, 695, 1295))
    total = shipping + sum(price - discount + tax for _, price, discount, tax in made)
    at = f"2026-10-05T{draw.randrange(6, 23):02d}:{draw.randrange(60):02d}:{draw.randrange(60):02d}Z"
    return {
        "id": f"gid://shopify/Order/{_N}",
        "legacyResourceId": _N,
        "name": f"#{_N}",
        "test": False,
        **dict.fromkeys(("processedAt", "createdAt", "updatedAt"), at),
        "cancelledAt": None,
        **dict.fromkeys(("currencyCode", "presentmentCurrencyCode"), "USD"),
        "taxesIncluded": False,
        "sourceName": "web",
        "displayFinancialStatus": "PAID",
        "customer": {"id": f"gid://shopify/Customer/{_N}"},
        "shippingAddress": {"countryCodeV2": "US", "provinceCode": draw.choice(("NY", "CA", "TX", "WA"))},
        "totalPriceSet": _both(total),
        "totalTipReceivedSet": _shop(0),
        "transactions": [
            {
                "id": f"gid://shopify/OrderTransaction/{_N}",
                "kind": "SALE",
                "status": "SUCCESS",
                "gateway": draw.choice(("shopify_payments", "stripe")),
                "paymentId": f"r{_N}.1",
                "amountSet": _both(total),
            }
        ],
        "lineItems": _list([line for line, *_ in made]),
        "shippingLines": _list(
            [
                {
                    "__typename": "ShippingLine",
                    "id": f"gid://shopify/ShippingLine/{_N}",
                    "title": "Standard",
                    "originalPriceSet": _shop(shipping),
                    "discountAllocations": [],
                    "taxLines": [],
                }
            ]
        ),
        "refunds": [],
    }


def _list(nodes: list[dict[str, Any]]) -> dict[str, Any]:
    return {"pageInfo": {"hasNextPage": False, "endCursor": None}, "nodes": nodes}


def _line(draw: random.Random, place: int) -> tuple[dict[str, Any], int, int, int]:
    """(line, price, discount, tax): two taxes a line."""
    quantity = draw.randrange(1, 4)
    price = quantity * draw.randrange(500, 20_000)
    discount = price // 10 if draw.random() < 0.7 else 0
    state, city = (price - discount) * 4 // 100, (price - discount) * 9 // 200
    item = draw.randrange(10_000)
    line = {
        "__typename": "LineItem",
        "id": f"gid://shopify/LineItem/{_N}{place}",
        "sku": f"SKU-{item:05d}",
        "title": f"Enamel mug with a blue rim, 350 ml, batch {item}",
        "quantity": quantity,
        "isGiftCard": False,
        "originalTotalSet": _shop(price),
        "discountAllocations": [{"allocatedAmountSet": _shop(discount)}] if discount else [],
        "taxLines": [
            {"title": title, "rate": rate, "channelLiable": False, "priceSet": _shop(tax)}
            for title, rate, tax in (("State Tax", 0.04, state), ("City Tax", 0.045, city))
        ],
        "duties": [],
    }
    return line, price, discount, state + city
