"""pjsua2 of our own build as a user agent: `python -m tests.stacks.pjsua FOLDER HOST PORT SESSION_EXPIRES_S`.

A process of its own, because pjsip is one per process. A line of JSON on stdin is something to do, a line on
stdout something that happened (tests/stacks/agent). Session timers are used whatever the other side says, or
with SESSION_EXPIRES_S = 0 not at all.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import sys
from typing import Any, Final

import pjsua2

TURN_MS: Final = 10

_STATES: Final = {
    pjsua2.PJSIP_INV_STATE_EARLY: "ringing",
    pjsua2.PJSIP_INV_STATE_CONFIRMED: "established",
    pjsua2.PJSIP_INV_STATE_DISCONNECTED: "closed",
}
_MEDIA: Final = {
    pjsua2.PJSUA_CALL_MEDIA_ACTIVE: "talking",
    pjsua2.PJSUA_CALL_MEDIA_LOCAL_HOLD: "holding",
    pjsua2.PJSUA_CALL_MEDIA_REMOTE_HOLD: "held",
}
_ANSWERED: Final = (pjsua2.PJSIP_TSX_STATE_COMPLETED, pjsua2.PJSIP_TSX_STATE_TERMINATED)

_calls: Final[dict[int, Call]] = {}


def tell(event: str, call: int, **more: Any) -> None:
    print(json.dumps({"event": event, "call": str(call), **more}), flush=True)


class Call(pjsua2.Call):  # type: ignore[misc]  # pjsua2 has no types
    def __init__(self, account: Account, number: int = pjsua2.PJSUA_INVALID_ID) -> None:
        super().__init__(account, number)
        self.account = account
        self.next: Call | None = None  # what a transfer makes of it

    def onCallState(self, _: Any) -> None:  # noqa: N802
        found = self.getInfo()
        _calls[found.id] = self  # also that of a transfer, which pjsua makes by itself
        if (event := _STATES.get(found.state)) is not None:
            tell(event, found.id, code=found.lastStatusCode)

    def onCallMediaState(self, _: Any) -> None:  # noqa: N802
        found = self.getInfo()
        for media in found.media:
            event = _MEDIA.get(media.status)
            if event is not None and media.type == pjsua2.PJMEDIA_TYPE_AUDIO:
                tell(event, found.id)

    def onCallTsxState(self, prm: Any) -> None:  # noqa: N802
        """What this side asked and is answered: an INVITE is the call, a hold or a refresh of its session."""
        change = prm.e.body.tsxState
        is_new = change.tsx.state in _ANSWERED and change.prevState not in _ANSWERED
        if is_new and change.tsx.role == pjsua2.PJSIP_ROLE_UAC:
            found = self.getInfo()
            talked_s = found.connectDuration.sec
            method, code = change.tsx.method, change.tsx.statusCode
            tell("answered", found.id, method=method, code=code, talked_s=talked_s)

    def onCallTransferRequest(self, prm: Any) -> None:  # noqa: N802
        tell("referred", self.getInfo().id, to=prm.dstUri)
        prm.newCall = self.next = Call(self.account)

    def onCallTransferStatus(self, prm: Any) -> None:  # noqa: N802
        number = self.getInfo().id
        tell("transfer", number, code=prm.statusCode)
        if prm.finalNotify and prm.statusCode < 300:
            prm.cont = False
            self.hangup(pjsua2.CallOpParam())

    def onCallReplaced(self, prm: Any) -> None:  # noqa: N802
        tell("replaced", self.getInfo().id, by=prm.newCallId)
        _calls[prm.newCallId] = prm.newCall = Call(self.account, prm.newCallId)


class Account(pjsua2.Account):  # type: ignore[misc]
    def onIncomingCall(self, prm: Any) -> None:  # noqa: N802
        call = _calls[prm.callId] = Call(self, prm.callId)
        tell("incoming", prm.callId)
        call.answer(_status(180))


def _status(code: int) -> Any:
    prm = pjsua2.CallOpParam()
    prm.statusCode = code
    return prm


def do(account: Account, what: dict[str, Any]) -> None:
    if what["do"] == "dial":
        call = Call(account)
        call.makeCall(what["uri"], pjsua2.CallOpParam(True))
        _calls[call.getInfo().id] = call
        return
    call = _calls[int(what["call"])]
    match what["do"]:
        case "answer":
            call.answer(_status(200))
        case "reject":
            call.answer(_status(486))
        case "hang_up":
            call.hangup(pjsua2.CallOpParam())
        case "hold":
            call.setHold(pjsua2.CallOpParam())
        case "resume":
            prm = pjsua2.CallOpParam(True)
            prm.opt.flag = pjsua2.PJSUA_CALL_UNHOLD
            call.reinvite(prm)
        case "transfer":
            call.xfer(what["uri"], pjsua2.CallOpParam())
        case "transfer_to_call":
            call.xferReplaces(_calls[int(what["other"])], pjsua2.CallOpParam())


def run(folder: str, host: str, port: int, session_expires_s: int) -> None:
    to_parent = os.dup(1)
    os.dup2(2, 1)  # libCreate writes on stdout
    endpoint = pjsua2.Endpoint()
    endpoint.libCreate()
    os.dup2(to_parent, 1)
    config = pjsua2.EpConfig()
    config.uaConfig.threadCnt = 0  # every callback comes in this thread
    config.uaConfig.maxCalls = 4
    config.medConfig.clockRate = 8000
    config.logConfig.level = 4
    config.logConfig.msgLogging = True
    config.logConfig.consoleLevel = 0
    config.logConfig.filename = f"{folder}/pjsip.log"
    endpoint.libInit(config)
    transport = pjsua2.TransportConfig()
    transport.boundAddress = host
    transport.port = port
    endpoint.transportCreate(pjsua2.PJSIP_TRANSPORT_UDP, transport)
    endpoint.libStart()
    endpoint.audDevManager().setNullDev()
    account, settings = Account(), pjsua2.AccountConfig()
    settings.idUri = f"sip:pjsua@{host}:{port}"
    settings.mediaConfig.transportConfig.boundAddress = host
    settings.callConfig.timerUse = pjsua2.PJSUA_SIP_TIMER_INACTIVE
    if session_expires_s:
        settings.callConfig.timerUse = pjsua2.PJSUA_SIP_TIMER_ALWAYS
        settings.callConfig.timerSessExpiresSec = session_expires_s
    account.create(settings)
    tell("ready", -1)
    waiting = b""
    asked: list[dict[str, Any]] = []
    while True:
        endpoint.libHandleEvents(TURN_MS)
        if asked:
            # While a re-INVITE is open, of pjsua's own making too, there can be no other.
            with contextlib.suppress(pjsua2.Error):
                do(account, asked[0])
                del asked[0]
        if not select.select([sys.stdin], [], [], 0)[0]:
            continue
        if not (read := os.read(sys.stdin.fileno(), 65_536)):
            return  # who started us is gone
        *lines, waiting = (waiting + read).split(b"\n")
        asked += map(json.loads, lines)


if __name__ == "__main__":
    gc.disable()  # no pj object is destroyed in the middle of something else
    run(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    os._exit(0)
