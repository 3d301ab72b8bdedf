"""Calls whose price depends on the clock. The world begins on a Sunday at 12:00 UTC."""

from __future__ import annotations

from sidecar.core.tariff import Deck, Rate, parse_steps
from tests.scenarios.scenario import ANSWERED, ROUTED, Scenario, armed_for
from tests.scenarios.world import PRICE_PER_MINUTE, account, deck


def sold_at(steps: str) -> dict[str, Deck]:
    sell = Deck("sell-1", [Rate(prefix="49", currency="EUR", steps=parse_steps(steps))])
    return {"sell": sell, "buy": deck("buy-1", PRICE_PER_MINUTE / 2)}


PRICE = (
    Scenario(
        name="caller-bye-in-two-windows",  # the first that holds is the price
        ladder="""
            0      A INVITE
            2_000  B 200
            2_020  A ACK
            5_001  A BYE
        """,
        policy={"decks": sold_at("0:0.12/60/1@Su UTC|0.24/60/1@Su 12:00-13:00 UTC|0.06/60/1")},
        cdr="caller/bye 200 16 answered 3000 message/observed",
        wire=ANSWERED,
        sold="0.006",
    ),
    Scenario(
        name="caller-bye-window-begins-at-answer",  # B answers at 12:00:59.999, A hears it at 12:01
        ladder="""
            0      A INVITE
            20     B 180
            59_999 B 200
            60_020 A ACK
            63_000 A BYE
        """,
        policy={"decks": sold_at("0:0.12/60/1@Su 12:01-13:00 UTC|0.06/60/1")},
        cdr="caller/bye 200 16 answered 3000 message/observed",
        wire=ANSWERED,
        sold="0.006",
    ),
    Scenario(
        name="caller-bye-prepaid-by-window",  # on Monday 0.005 a second: for that, 4 s are reserved
        ladder="""
            0      A INVITE
            2_000  B 200
            2_020  A ACK
            5_001  A BYE
        """,
        policy={
            "accounts": account(prepaid=True),
            "decks": sold_at("0:0.05/10/1@Mo UTC|0.06/60/1"),
        },
        balance="0.02",
        cdr="caller/bye 200 16 answered 3000 message/observed",
        wire=f"{ROUTED}, {armed_for(4)}, answer",
        sold="0.003",
        also={"granted_s": 4},
    ),
)
