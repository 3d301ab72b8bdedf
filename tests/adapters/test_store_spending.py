"""What calls of an account were charged of late, and what open ones hold: sums that are kept, and go on."""

from __future__ import annotations

from decimal import Decimal

from tests.adapters.sqlite_stores import AnyWatched
from tests.adapters.store_calls import admission, admitted, answered, ended, ending, whole_call
from tests.adapters.stores import PostgresqlStores, Stores
from tests.adapters.test_store import with_balance
from tests.adapters.test_store_revisions import again, newest

CALL = Decimal("0.07259000")  # of 61 s
HOUR = Decimal("4.28400000")  # as it is reserved
NOTHING = Decimal(0)


async def spent(watched: AnyWatched, account: str = "acme", since_ns: int = 1) -> tuple[Decimal, Decimal]:
    await watched.written()
    found: tuple[Decimal, Decimal] = await watched.store._write(
        lambda batch: (batch.charged_since(account, "EUR", since_ns), batch.held(account, "EUR"))
    )
    return found


async def test_sums_go_on_with_what_is_booked_and_are_found_again_after_a_start(stores: Stores) -> None:
    async with stores.opened() as watched:
        await with_balance(watched, "100")
        await with_balance(watched, "100", "other")
        assert await spent(watched) == (NOTHING, NOTHING)
        watched.submit(*whole_call(1, prepaid=True), *whole_call(2, "other", prepaid=True))
        assert await spent(watched) == (CALL, NOTHING)
        watched.submit(admission(admitted(3, prepaid=True)), admission(admitted(4, "other", prepaid=True)))
        assert await spent(watched) == (CALL, HOUR)
        watched.submit(ending(ended(answered(admitted(3, prepaid=True)))))
        watched.submit(admission(admitted(5, prepaid=True)))
        assert await spent(watched) == (2 * CALL, HOUR)
        await watched.store.revisions.revise([again(await newest(watched), "0")])
        assert await spent(watched) == (CALL, HOUR)
        assert await spent(watched, since_ns=2**62) == (NOTHING, HOUR)
        assert await spent(watched, "other") == (CALL, HOUR)
    async with stores.opened(boot_id="next") as watched:
        assert await spent(watched) == (CALL, HOUR)


async def test_what_another_node_books_is_in_the_sums(postgresql_stores: PostgresqlStores) -> None:
    opened = postgresql_stores.opened
    async with opened() as one, opened(node="n2", boot_id="second") as other:
        await with_balance(one, "100")
        for number in (1, 3):
            for watched, call in ((one, number), (other, number + 1)):
                watched.submit(*whole_call(call, prepaid=True), admission(admitted(call + 10, prepaid=True)))
                assert await spent(one) == await spent(other) == (call * CALL, call * HOUR)
