from __future__ import annotations

from uuid import UUID, uuid5

import msgspec
import pytest
from msgspec.structs import replace

from sidecar.core.cdr import Cdr, message_id
from sidecar.core.terms import HangupOrigin, ServerReason
from tests.scenarios.table import BY_NAME

CALL_ID = UUID("152cba2d-bdf4-5cd7-ae77-b3150e837af7")


@pytest.fixture
def cdr() -> Cdr:
    return BY_NAME["caller-bye-in-call"].play().record


def test_each_revision_has_one_message_id_however_often_it_is_made() -> None:
    assert message_id(CALL_ID, 0) == message_id(CALL_ID, 0) == uuid5(CALL_ID, "0")
    assert len({message_id(CALL_ID, revision) for revision in range(100)}) == 100


def test_a_server_reason_needs_the_server(cdr: Cdr) -> None:
    with pytest.raises(ValueError, match="server_reason"):
        replace(cdr, server_reason=ServerReason.TIMEOUT)


def test_the_server_needs_a_reason(cdr: Cdr) -> None:
    with pytest.raises(ValueError, match="server_reason"):
        replace(cdr, hangup_origin=HangupOrigin.SERVER)


def test_a_record_is_recorded_or_says_why_not(cdr: Cdr) -> None:
    with pytest.raises(ValueError, match="names what suppressed it"):
        replace(cdr, recorded=False)
    with pytest.raises(ValueError, match="names what suppressed it"):
        replace(cdr, suppressed_by="record_fault")


@pytest.mark.parametrize("name", BY_NAME)
def test_a_record_is_read_back_as_it_was_written(name: str) -> None:
    record = BY_NAME[name].play().record
    assert msgspec.json.decode(msgspec.json.encode(record), type=Cdr) == record
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(record), type=Cdr) == record


def test_a_reader_ignores_fields_that_it_does_not_know(cdr: Cdr) -> None:
    body = msgspec.json.encode({**msgspec.to_builtins(cdr), "of_a_later_writer": 1})
    assert msgspec.json.decode(body, type=Cdr) == cdr


def test_the_fields_that_the_contract_names_are_there() -> None:
    named = """
        tenant node boot_id store_epoch seq call_id revision supersedes revision_reason void account
        leg_a leg_b caller callee session_id p_charging_vector attempts invited_at ringing_at
        b_answered_at answered_at ended_at pdd_ms ring_ms talk_ms billable_ms hold_s billed_s
        hangup_origin server_reason detail sip_code q850_cause disposition evidence glare proxy
        operator recorded suppressed_by charges confidence message_id account_prev_seq granted_s
        overrun_ms
    """
    assert set(named.split()) <= set(Cdr.__struct_fields__)
