"""The messages that the fuzzer starts from: well-formed ones of a call, and ones that are odd or broken in
the ways RFC 4475 describes, in our own words.

`{...}` is filled at run time: {host} and {port} of the bridge, {caller} and {gateway} as host:port, {n} a
number of its own for each message, {via} UDP or TCP; {a_...} and {b_...} a live dialog as its caller and its
callee see it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_SDP: Final = (
    "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n"
)


def _message(start: str, *lines: str, body: str = "") -> str:
    return "\r\n".join((start, *lines, f"Content-Length: {len(body.encode())}", "", "")) + body


def _outside(method: str, *extra: str, body: str = "") -> str:
    return _message(
        f"{method} sip:4930{{n}}@{{host}}:{{port}} SIP/2.0",
        "Via: SIP/2.0/{via} {caller};rport;branch=z9hG4bK-f{n}",
        "Max-Forwards: 70",
        'From: "Caller" <sip:1000@{caller}>;tag=f{n}',
        "To: <sip:4930{n}@{host}>",
        "Call-ID: fuzz-{n}@{host}",
        f"CSeq: 1 {method}",
        "Contact: <sip:1000@{caller}>",
        *extra,
        body=body,
    )


def _inside(side: str, method: str, *extra: str, body: str = "") -> str:
    address = "{caller}" if side == "a" else "{gateway}"
    return _message(
        f"{method} {{{side}_target}} SIP/2.0",
        f"Via: SIP/2.0/{{via}} {address};rport;branch=z9hG4bK-f{{n}}",
        "Max-Forwards: 70",
        f"From: {{{side}_local}}",
        f"To: {{{side}_remote}}",
        f"Call-ID: {{{side}_call_id}}",
        f"CSeq: {{n}} {method}",
        f"Contact: <sip:x@{address}>",
        *extra,
        body=body,
    )


_TYPE: Final = "Content-Type: application/sdp"

_COMPACT: Final = (
    "INVITE sip:4930{n}@{host}:{port} SIP/2.0\r\nv: SIP/2.0/{via} {caller};rport;branch=z9hG4bK-f{n}\r\n"
    "f: <sip:1000@{caller}>;tag=f{n}\r\nt: <sip:4930{n}@{host}>\r\ni: fuzz-{n}@{host}\r\nCSeq: 1 INVITE\r\n"
    "m: <sip:1000@{caller}>\r\nk: 100rel\r\nc: application/sdp\r\nl: 4\r\n\r\nv=0\n"
)

VALID: Final = (
    _outside("INVITE", _TYPE, body=_SDP),
    _outside("INVITE", "Supported: 100rel, timer", "Session-Expires: 1800;refresher=uac", _TYPE, body=_SDP),
    _outside("INVITE"),  # its ACK would bring the offer
    _outside("INVITE", "Record-Route: <sip:{caller};lr>", "Route: <sip:{host}:{port};lr>", _TYPE, body=_SDP),
    _outside(
        "INVITE", "P-Asserted-Identity: <sip:+4930@{host}>", "Privacy: id", "Session-ID: 0a", _TYPE, body=_SDP
    ),
    _outside("OPTIONS"),
    _outside("CANCEL"),
    _outside("ACK"),
    _outside("REGISTER", "Expires: 60"),
    _outside("MESSAGE", "Content-Type: text/plain", body="hello"),
    _COMPACT,
)

IN_DIALOG: Final = tuple(
    made
    for side in "ab"
    for made in (
        _inside(side, "INFO", "Content-Type: application/dtmf-relay", body="Signal=5\r\nDuration=160\r\n"),
        _inside(side, "OPTIONS"),
        _inside(side, "UPDATE", _TYPE, "Session-Expires: 1800", body=_SDP),
        _inside(side, "INVITE", _TYPE, body=_SDP),
        _inside(side, "ACK"),
        _inside(side, "PRACK", "RAck: 1 1 INVITE"),
        _inside(side, "REFER", "Refer-To: <sip:1@{host}>"),
        _inside(
            side,
            "REFER",
            f'r: "<?" <sip:1@{{host}}?X=1&Replaces={{{side}_call_id}}%3Bto-tag%3D{{{side}_remote_tag}}'
            f"%3Bfrom-tag%3D{{{side}_local_tag}}%3Bearly-only&Require=replaces>",
            f"Target-Dialog: {{{side}_call_id}};local-tag={{{side}_local_tag}}"
            f";remote-tag={{{side}_remote_tag}}",
        ),
        _inside(side, "NOTIFY", "Event: refer;id=1", "Subscription-State: active"),
        _outside(
            "INVITE",
            f"Replaces: {{{side}_call_id}};to-tag={{{side}_remote_tag}};from-tag={{{side}_local_tag}}",
            _TYPE,
            body=_SDP,
        ),
        _inside(
            side, "MESSAGE", "Content-Type: multipart/mixed;boundary=x", body="--x\r\n\r\n1\r\n--x--\r\n"
        ),
        _inside(side, "BYE", 'Reason: Q.850;cause=16;text="ok"'),
    )
)

RESPONSES: Final = tuple(
    _message(
        f"SIP/2.0 {code} Some Reason",
        "Via: SIP/2.0/UDP {host}:{port};branch={b_branch}",
        "From: {b_remote}",
        "To: {b_local}",
        "Call-ID: {b_call_id}",
        f"CSeq: {cseq}",
        "Contact: <sip:x@{gateway}>",
        *extra,
        body=body,
    )
    for code, cseq, extra, body in (
        (100, "1 INVITE", (), ""),
        (183, "1 INVITE", ("Require: 100rel", "RSeq: 1", _TYPE), _SDP),
        (200, "1 INVITE", (_TYPE,), _SDP),
        (200, "2 OPTIONS", (), ""),
        (302, "1 INVITE", (), ""),
        (401, "1 INVITE", ('WWW-Authenticate: Digest realm="r", nonce="n", qop="auth"',), ""),
        (486, "1 INVITE", ('Reason: Q.850;cause=17;text="busy"',), ""),
        (503, "1 INVITE", ("Retry-After: 5 (soon);duration=3",), ""),
    )
)


@dataclass(frozen=True)
class Torture:
    """What RFC 4475 §3.1.2 and its like call invalid: never a call, never a 2xx."""

    name: str
    message: str


_INVITE: Final = _outside("INVITE", _TYPE, body=_SDP)
_OPTIONS: Final = _outside("OPTIONS")


def _changed(name: str, old: str, new: str, base: str = _INVITE) -> Torture:
    assert old in base, (name, old)
    return Torture(name, base.replace(old, new, 1))


INVALID: Final = (
    _changed("content-length-negative", f"Content-Length: {len(_SDP)}", "Content-Length: -999"),
    _changed("content-length-past-the-end", f"Content-Length: {len(_SDP)}", "Content-Length: 9999"),
    _changed("content-length-no-number", f"Content-Length: {len(_SDP)}", "Content-Length: many"),
    _changed(
        "content-length-overflows", f"Content-Length: {len(_SDP)}", "Content-Length: 99999999999999999999"
    ),
    _changed("cseq-overflows", "CSeq: 1 INVITE", "CSeq: 36893488147419103232 INVITE"),
    _changed("cseq-no-number", "CSeq: 1 INVITE", "CSeq: one INVITE"),
    _changed("cseq-of-another-method", "CSeq: 1 INVITE", "CSeq: 1 BYE"),
    _changed("cseq-of-an-unknown-method", "CSeq: 1 OPTIONS", "CSeq: 1 NOSUCH", _OPTIONS),
    _changed("cseq-without-method", "CSeq: 1 INVITE", "CSeq: 1"),
    _changed("max-forwards-overflows", "Max-Forwards: 70", "Max-Forwards: 3000"),
    _changed("max-forwards-no-number", "Max-Forwards: 70", "Max-Forwards: x"),
    _changed("version-unknown", " SIP/2.0\r\n", " SIP/7.0\r\n"),
    _changed("version-missing", " SIP/2.0\r\n", "\r\n"),
    _changed(
        "request-uri-in-brackets", "INVITE sip:4930{n}@{host}:{port}", "INVITE <sip:4930{n}@{host}:{port}>"
    ),
    _changed("request-uri-with-spaces", "@{host}:{port} SIP", "@{host}:{port}; lr SIP"),
    _changed("request-uri-unknown-scheme", "INVITE sip:", "INVITE nobodyKnowsThisScheme:"),
    _changed("request-uri-escaped-header", "@{host}:{port} SIP", "@{host}:{port}?Route=%3Csip:x%3E SIP"),
    _changed("request-uri-port-too-large", "{host}:{port} SIP", "{host}:123456 SIP"),
    _changed("spaces-in-start-line", "INVITE sip:", "INVITE  sip:"),
    _changed("spaces-at-end-of-start-line", " SIP/2.0\r\n", " SIP/2.0  \r\n"),
    _changed("from-missing", 'From: "Caller" <sip:1000@{caller}>;tag=f{n}\r\n', ""),
    _changed("from-without-tag", ";tag=f{n}", ""),
    _changed("from-unterminated-quote", 'From: "Caller"', 'From: "Caller'),
    _changed("from-unterminated-bracket", 'From: "Caller" <sip:1000@{caller}>', "From: <sip:1000@{caller}"),
    _changed("from-twice", "To: <", "From: <sip:2@{host}>;tag=q\r\nTo: <"),
    _changed("to-missing", "To: <sip:4930{n}@{host}>\r\n", ""),
    _changed("to-unterminated-quote", "To: <", 'To: "Mr. J. User <'),
    _changed("to-twice", "To: <", "To: <sip:2@{host}>\r\nTo: <"),
    _changed("call-id-missing", "Call-ID: fuzz-{n}@{host}\r\n", ""),
    _changed("call-id-twice", "CSeq:", "Call-ID: other\r\nCSeq:"),
    _changed("cseq-missing", "CSeq: 1 INVITE\r\n", ""),
    _changed("cseq-twice", "CSeq:", "CSeq: 8 INVITE\r\nCSeq:"),
    _changed("via-missing", "Via: SIP/2.0/{via} {caller};rport;branch=z9hG4bK-f{n}\r\n", ""),
    _changed("contact-missing", "Contact: <sip:1000@{caller}>\r\n", ""),
    _changed("contact-is-a-star", "Contact: <sip:1000@{caller}>", "Contact: *"),
    _changed("contact-unterminated", "Contact: <sip:1000@{caller}>", "Contact: <sip:1000@{caller}"),
    _changed("header-without-colon", "Max-Forwards: 70", "Max-Forwards 70"),
    _changed("header-without-name", "Max-Forwards: 70", ": 70"),
    _changed("via-extra-separators", ";rport;branch=", ";;,;,,;rport;branch="),
    _changed(
        "contact-extra-separators", "sip:1000@{caller}>\r\nContent", "sip:1000@{caller}>;;;;\r\nContent"
    ),
    _changed(
        "contact-with-headers-and-no-brackets",
        "<sip:1000@{caller}>\r\nContent",
        "sip:1000@{caller}?Route=%3Csip:x%3E\r\nContent",
    ),
    _changed(
        "to-with-spaces-in-brackets", "To: <sip:4930{n}@{host}>", "To: < sip:4930{n}@{host} >", _OPTIONS
    ),
    _changed("from-with-a-bare-comma", '"Caller"', "Caller, The", _OPTIONS),
    _changed("from-with-a-bare-comma-in-an-invite", '"Caller"', "Caller, The"),
    _changed(
        "date-of-another-zone", "Max-Forwards: 70", "Date: Fri, 01 Jan 2010 16:00:00 EST\r\nMax-Forwards: 70"
    ),
    _changed("content-length-twice", "Content-Type:", "Content-Length: 5\r\nContent-Type:"),
    _changed("content-type-twice", "Content-Type:", "Content-Type: text/plain\r\nContent-Type:"),
    _changed("max-forwards-twice", "Max-Forwards: 70", "Max-Forwards: 70\r\nMax-Forwards: 5"),
    _changed("max-forwards-negative", "Max-Forwards: 70", "Max-Forwards: -1"),
    _changed(
        "extension-that-nobody-knows", "Max-Forwards: 70", "Require: unheard-of\r\nMax-Forwards: 70", _OPTIONS
    ),
    _changed(
        "proxy-extension-that-nobody-knows",
        "Max-Forwards: 70",
        "Proxy-Require: unheard-of\r\nMax-Forwards: 70",
    ),
    _changed(
        "request-uri-novel-scheme", "INVITE sip:4930{n}@{host}:{port}", "INVITE soap.beep://192.0.2.103:3002"
    ),
    _changed("request-uri-without-host", "INVITE sip:4930{n}@{host}:{port}", "INVITE sip:4930{n}@"),
    _changed("method-and-cseq-differ", "INVITE sip:", "OPTIONS sip:"),
    _changed("sdp-is-no-sdp", "v=0\r\n", "hello\r\n"),
    _changed("sdp-without-version", "v=0\r\n", ""),
    _changed("sdp-line-without-equals", "t=0 0\r\n", "t 0 0\r\n"),
    _changed("sdp-with-a-null-byte", "s=-\r\n", "s=\x00-\r\n"),
    _changed("sdp-in-upper-case", "c=IN", "C=IN"),
    _changed("start-line-only", _INVITE[_INVITE.index("\r\n") :], "\r\n\r\n"),
)

# Odd, but allowed: what they get does not matter, that they are survived does.
ODD: Final = tuple(
    one.message
    for one in (
        _changed("folded", "Max-Forwards: 70", "Subject: a\r\n  folded\r\n\tline\r\nMax-Forwards:\r\n 70"),
        _changed("null-bytes", '"Caller"', '"Cal\\\x00ler"'),
        _changed("escapes", "sip:4930{n}@", "sip:%34930%00%fe{n};par=%6d@"),
        _changed("wide-spaces", "CSeq: 1 INVITE", "CSeq  :   0001   INVITE"),
        _changed("utf8-name", '"Caller"', '"\u30c6\u30b9\u30c8 \\" \\\\"'),
        _changed("long-values", "Max-Forwards: 70", "X-Long: " + "v" * 4000 + "\r\nMax-Forwards: 70"),
        _changed(
            "many-vias",
            "Max-Forwards",
            "Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKq\r\n" * 60 + "Max-Forwards",
        ),
        _changed("lf-only", "\r\nMax-Forwards", "\nMax-Forwards"),
        _changed("empty-values", "Max-Forwards: 70", "Supported:\r\nSubject:\r\nReason:\r\nSession-Expires:"),
        _changed("unknown-method", "OPTIONS", "!interesting-Method0123456789_*+`.%", _OPTIONS),
        _changed("tel-uri", "sip:4930{n}@{host}:{port}", "tel:+4930{n};phone-context=x"),
        _changed("ipv6-contact", "<sip:1000@{caller}>", "<sip:[2001:db8::1]:99999>"),
        _changed("contact-headers", "<sip:1000@{caller}>", "<sip:1000@{caller}?Route=%3Csip:x%3E&X=%0d%0a>"),
        _changed("timers", "Max-Forwards", "Session-Expires: 0;refresher=x\r\nMin-SE: -1\r\nMax-Forwards"),
        _changed("replaces", "Max-Forwards", "Replaces: x;to-tag=1;from-tag=2\r\nMax-Forwards"),
        _changed("maddr", ";rport", ";rport;maddr=192.0.2.1;ttl=999;received=x"),
    )
)

# What pjsip has a parser for, the rest of RFC 3261 §20, and what its extensions add to calls.
FIELDS: Final = (
    *("Accept", "Accept-Encoding", "Accept-Language", "Alert-Info", "Allow", "Allow-Events", "a"),
    *("Authentication-Info", "Authorization", "Call-ID", "i", "Call-Info", "Contact", "m"),
    *("Content-Disposition", "Content-Encoding", "Content-Language", "Content-Length", "l", "Content-Type"),
    *("CSeq", "Date", "Diversion", "Error-Info", "Event", "o", "Expires", "From", "f", "History-Info"),
    *("Identity", "In-Reply-To", "Join", "Max-Forwards", "MIME-Version", "Min-Expires", "Min-SE"),
    *("Organization", "P-Asserted-Identity", "P-Charging-Vector", "Priority", "Privacy"),
    *("Proxy-Authenticate", "Proxy-Authorization", "Proxy-Require", "RAck", "Reason", "Record-Route"),
    *("Refer-To", "Referred-By", "Replaces", "Reply-To", "Require", "Retry-After", "Route", "RSeq"),
    *("Server", "Session-Expires", "x", "Session-ID", "Subject", "Subscription-State", "Supported", "k"),
    *("Target-Dialog", "Timestamp", "To", "t", "Unsupported", "User-Agent", "Via", "v", "Warning"),
    *("WWW-Authenticate", "X-Nobody-Knows"),
)

ALL: Final = (*VALID, *IN_DIALOG, *RESPONSES, *(one.message for one in INVALID), *ODD)
