"""Bad input, a row each: what is written, and the one line that the user sees.

SETTINGS are settings files beside a good profile; PROFILES are added to a good one, whose lines come first.
"""

from __future__ import annotations

import pytest

from tests.config.support import PROFILE, Start

LAST = PROFILE.count("\n")  # the line before the first added one

FRAUD_RULE = (
    "[[fraud_rules]]\nname = 'fast'\nscope = 'caller'\nmeasure = 'calls'\nthreshold = 5\nwindow_s = 60\n"
)
SETTINGS = [
    # names
    (
        "unknown section",
        "[biling]\n",
        "sidecar.toml:1: biling: there is no such section; did you mean 'billing'?",
    ),
    (
        "unknown key",
        "\n[billing]\n\ndecimal = 2\n",
        "sidecar.toml:4: billing.decimal: there is no such key; did you mean 'billing.decimals'?",
    ),
    (
        "key of another section",
        "[sip]\nring_timeout_s = 3\n",
        "sidecar.toml:2: sip.ring_timeout_s: there is no such key; did you mean 'timers.ring_timeout_s'?",
    ),
    (
        "key without a section",
        "decimals = 2\n",
        "sidecar.toml:1: decimals: there is no such section",
    ),
    ("section that is a value", "billing = 1\n", "sidecar.toml:1: billing: is a section: [billing], not 1"),
    (
        "section that is an array",
        "[[billing]]\n",
        "sidecar.toml:1: billing: is a section: [billing], not [{}]",
    ),
    ("dotted key", "billing.decimal = 2\n", "sidecar.toml:1: billing.decimal: there is no such key"),
    ("inline table", 'billing = {"x" = 1}\n', "sidecar.toml:1: billing.x: there is no such key"),
    (
        "unknown reason",
        "[billing]\nrecord_server_hang_up.timeouts = true\n",
        (
            "sidecar.toml:2: billing.record_server_hang_up.timeouts: there is no such key; "
            "did you mean 'billing.record_server_hang_up.timeout'?"
        ),
    ),
    (
        "fault is not a reason of the flag",
        "[billing.record_server_hang_up]\nfault = false\n",
        "sidecar.toml:2: billing.record_server_hang_up.fault: there is no such key",
    ),
    (
        "a number that is blocked and allowed",
        '[sip]\nblocked_numbers = ["0900*", "+44"]\nallowed_numbers = ["44"]\n',
        "sidecar.toml:3: sip.allowed_numbers: '44' is both blocked and allowed here",
    ),
    (
        "the same, of an account",
        '[accounts.a]\nblocked_numbers = ["44*"]\nallowed_numbers = ["44*"]\n',
        "sidecar.toml:2: accounts.a.blocked_numbers: '44*' is both blocked and allowed here",
    ),
    (
        "hours without a zone",
        '[accounts.a]\nhours = ["Mo-Fr 08:00-18:00"]\n',
        "sidecar.toml:2: accounts.a.hours: '08:00-18:00' is not a time zone",
    ),
    (
        "a price that is a float",
        "[accounts.a]\nmax_price_per_min = 0.5\n",
        "sidecar.toml:2: accounts.a.max_price_per_min: expected a decimal in quotes",
    ),
    (
        "a maximum of no time",
        "[accounts.a]\nmax_duration_s = 0\n",
        "sidecar.toml:2: accounts.a.max_duration_s: 0 is not within 1-604800",
    ),
    (
        "an emergency number that is blocked",
        '[sip]\nemergency_numbers = ["112"]\nblocked_numbers = ["112"]\n',
        "sidecar.toml:3: sip.blocked_numbers: '112' is an emergency number: its calls are never refused",
    ),
    (
        "the same, by country and account",
        '[sip]\ncountries = ["DE"]\n[accounts.a]\nblocked_numbers = ["+110"]\n',
        "sidecar.toml:4: accounts.a.blocked_numbers: '110' is an emergency number",
    ),
    (
        "an emergency number that is a beginning",
        '[sip]\nemergency_numbers = ["11*"]\n',
        "sidecar.toml:2: sip.emergency_numbers: expected 2-15 digits",
    ),
    (
        "a country without emergency numbers",
        '[sip]\ncountries = ["XX"]\n',
        "sidecar.toml:2: sip.countries: no emergency number is known of 'XX'",
    ),
    (
        "fewer records of all sources than of one",
        "[sip]\nrefused_cdr_per_s = 20\nrefused_cdr_all_per_s = 10\n",
        "sidecar.toml:3: sip.refused_cdr_all_per_s: is less than sip.refused_cdr_per_s, the 20 of one source",
    ),
    ("a table of a profile", "[gateways.x]\n", "sidecar.toml:1: gateways: belongs in a profile, not here"),
    (
        "control characters in a key",
        '[billing]\n"a\\u001b\\nb" = 1\n',
        "sidecar.toml:2: billing.a\\x1b\\nb: there is no",
    ),
    # types
    ("bool for an integer", "[billing]\ndecimals = true\n", "expected a whole number, not True"),
    ("float for an integer", "[billing]\ndecimals = 2.0\n", "expected a whole number, not 2.0"),
    ("string for an integer", '[billing]\ndecimals = "2"\n', "expected a whole number, not '2'"),
    ("integer for a bool", "[sip]\npass_503 = 1\n", "expected true or false, not 1"),
    ("string for a bool", '[sip]\npass_503 = "true"\n', "expected true or false, not 'true'"),
    (
        "float for an amount",
        "[billing]\nfee_unit = 0.01\n",
        'expected a decimal in quotes, such as "0.19", not 0.01',
    ),
    ("NaN amount", '[billing]\nfee_unit = "nan"\n', "'nan' is not an amount"),
    ("exponent amount", '[billing]\nfee_unit = "1e400"\n', "'1e400' is not an amount"),
    ("underscored amount", '[billing]\nfee_unit = "1_0"\n', "'1_0' is not an amount"),
    ("digits of another script", '[billing]\nfee_unit = "٣"\n', "is not an amount"),
    ("negative amount", '[billing]\nfee_unit = "-1"\n', "'-1' is not an amount"),
    ("fee unit of 0", '[billing]\nfee_unit = "0"\n', "0 is not within the bound: above 0"),
    ("integer for a list", "[billing]\nfree_numbers = 1\n", "expected a list, [...], not 1"),
    ("string for a list", '[billing]\nfree_numbers = "1"\n', "expected a list, [...], not '1'"),
    ("integer in a list", "[billing]\nfree_numbers = [1]\n", "expected a string, not 1"),
    ("number twice", '[billing]\nfree_numbers = ["49", "49"]\n', "'49' is given twice"),
    ("letters in a number", '[billing]\nfree_numbers = ["49x"]\n', "expected a billed number (digits)"),
    ("star in the middle", '[billing]\nfree_numbers = ["4*9"]\n', "expected a billed number (digits)"),
    (
        "table for a scalar",
        "[billing.decimals]\nx = 1\n",
        "sidecar.toml:1: billing.decimals: expected a whole number",
    ),
    ("date for a string", "[node]\nname = 1979-05-27\n", "expected a string, not datetime.date(1979, 5, 27)"),
    ("path that is not", "[node]\ndata_dir = 1\n", "expected a path, not 1"),
    ("empty path", '[node]\ndata_dir = ""\n', "expected a path, not ''"),
    # bounds
    ("too many decimals", "[billing]\ndecimals = 10\n", "billing.decimals: 10 is not within 0-9"),
    ("ring time 0", "[timers]\nring_timeout_s = 0\n", "timers.ring_timeout_s: 0 is not within 1-3600"),
    ("a very large number", "[timers]\nring_timeout_s = 9223372036854775808\n", "is not within 1-3600"),
    ("hold-time precision 1000", "[billing]\nhold_time_precision_ms = 1000\n", "1000 is not within 0-999"),
    ("advance 16 min", "[billing]\nprevent_overdraft_advance_min = 16\n", "16 is not within 1-15"),
    ("negative strip", "[billing]\nstrip_digits = -1\n", "-1 is not within 0-32"),
    ("strip of 33", "[billing]\nstrip_digits = 33\n", "33 is not within 0-32"),
    (
        "log level",
        '[log]\nlevel = "infos"\n',
        "expected one of debug, info, warning, error, not 'infos'; did you mean",
    ),
    ("rounding", '[billing]\nrounding = "half-up"\n', "did you mean 'half_up'?"),
    ("currency", '[billing]\ncurrency = "EURO"\n', "currency 'EURO' is not a code of ISO 4217"),
    ("lower-case currency", '[billing]\ncurrency = "eur"\n', "currency 'eur' is not a code of ISO 4217"),
    ("tenant with a slash", '[node]\ntenant = "a/b"\n', "expected 1-64 letters, digits"),
    # addresses
    ("a host name to listen on", '[sip]\nlisten_udp = ["localhost:5080"]\n', "'localhost' is not a literal"),
    ("no port", '[sip]\nlisten_udp = ["127.0.0.1"]\n', "expected address:port, not '127.0.0.1'"),
    ("port 65536", '[sip]\nlisten_udp = ["127.0.0.1:65536"]\n', "port '65536' is not within 0-65535"),
    ("signed port", '[sip]\nlisten_udp = ["127.0.0.1:+1"]\n', "port '+1' is not within 0-65535"),
    ("all addresses", '[sip]\nlisten_udp = ["0.0.0.0:5080"]\n', "name the one address that others reach"),
    ("bare IPv6", '[sip]\nlisten_udp = ["::1:5080"]\n', "an IPv6 address stands in brackets"),
    (
        "zoned IPv6",
        '[sip]\nlisten_udp = ["[fe80::1%eth0]:5080"]\n',
        "an address with a zone is not supported",
    ),
    ("leading zeros", '[sip]\nlisten_udp = ["127.0.0.01:5080"]\n', "'127.0.0.01' is not a literal"),
    ("the same address twice", '[sip]\nlisten_udp = ["127.0.0.1:1", "127.0.0.1:1"]\n', "is given twice"),
    ("metrics without an address", '[metrics]\nlisten = ":9494"\n', "'' is not a literal"),
    # VOS3000
    (
        "unknown VOS3000 name",
        "[vos3000]\nSERVER_BILLING_RECORD_SERVER_HANGUP = 1\n",
        "that this product knows; did you mean 'SERVER_BILLING_RECORD_SERVER_HANG_UP'?",
    ),
    ("VOS3000 flag 2", "[vos3000]\nSERVER_BILLING_RECORD_SERVER_HANG_UP = 2\n", "expected 0 or 1, not 2"),
    ("VOS3000 decimals 5", "[vos3000]\nSERVER_BILLING_FEE_PRECISION = 5\n", "5 is not within 0-4"),
    ("VOS3000 number list", '[vos3000]\nSERVER_BILLING_FREE_E164S = "49,x"\n', "expected a billed number"),
    (
        "our name and VOS3000's disagree",
        "[billing]\nstrip_digits = 2\n[vos3000]\nSERVER_BILLING_GATEWAY_ROUTE_PREFIX = 3\n",
        (
            "sidecar.toml:4: SERVER_BILLING_GATEWAY_ROUTE_PREFIX: says 3, but billing.strip_digits "
            "(sidecar.toml:2) says 2: they are two names of one setting"
        ),
    ),
    (
        "two spellings disagree",
        "[vos3000]\nSERVER_BILLING_FEE_PRECISION = 2\nSERVER_BILLING_FEE_PRECISTION = 3\n",
        "FEE_PRECISTION: says 3, but SERVER_BILLING_FEE_PRECISION (sidecar.toml:2) says 2",
    ),
    # q850
    (
        "a provisional code",
        "[q850]\n183 = 16\n",
        "sidecar.toml:2: q850.183: expected a SIP code, 300-699, as the key",
    ),
    ("a word for a code", "[q850]\nbusy = 17\n", "q850.busy: expected a SIP code"),
    ("cause 128", "[q850]\n486 = 128\n", "q850.486: 128 is not within 1-127"),
    # fraud rules
    ("fraud rules as a table", "[fraud_rules.x]\n", "fraud_rules: is written as [[fraud_rules]]"),
    (
        "fraud rule without a measure",
        "[[fraud_rules]]\nname = 'a'\nscope = 'node'\nthreshold = 5\n",
        "sidecar.toml:1: fraud_rules[0].measure: is missing",
    ),
    (
        "threshold as a number with a point",
        FRAUD_RULE.replace("= 5", "= 5.5"),
        "sidecar.toml:5: fraud_rules[0].threshold: expected a decimal in quotes",
    ),
    (
        "part of a call",
        FRAUD_RULE.replace("= 5", "= '5.5'"),
        "sidecar.toml:5: fraud_rules[0].threshold: calls are counted in whole numbers",
    ),
    (
        "window of nothing",
        FRAUD_RULE.replace("window_s = 60\n", ""),
        "sidecar.toml:1: fraud_rules[0].window_s: calls needs a window of 1-86400 s",
    ),
    (
        "window of a moment",
        FRAUD_RULE.replace("'calls'", "'calls_at_once'"),
        "sidecar.toml:6: fraud_rules[0].window_s: calls at once have no window",
    ),
    (
        "currency of calls",
        FRAUD_RULE + "currency = 'EUR'\n",
        "sidecar.toml:7: fraud_rules[0].currency: is of the measure money alone",
    ),
    (
        "short calls of another measure",
        FRAUD_RULE + "short_s = 3\n",
        "sidecar.toml:7: fraud_rules[0].short_s: is of the measure short_calls alone",
    ),
    (
        "share above all",
        FRAUD_RULE.replace("'calls'", "'short_calls'").replace("= 5", "= '1.0'"),
        "sidecar.toml:5: fraud_rules[0].threshold: can never fire: no share is above 1",
    ),
    (
        "all prefixes excepted",
        FRAUD_RULE + "prefixes = ['371', '372']\nexcept_prefixes = ['37']\n",
        "sidecar.toml:7: fraud_rules[0].prefixes: can never fire: all of them are excepted",
    ),
    (
        "more calls at once than the node carries",
        "[node]\ncalls_max = 100\n"
        + FRAUD_RULE.replace("'calls'", "'calls_at_once'")
        .replace("= 5", "= 100")
        .replace("window_s = 60\n", ""),
        "sidecar.toml:7: fraud_rules[0].threshold: can never fire: the node carries 100 calls",
    ),
    (
        "two fraud rules of a name",
        FRAUD_RULE * 2,
        "sidecar.toml:8: fraud_rules[1].name: is the name of fraud_rules[0] (sidecar.toml:1) too",
    ),
    (
        "the name of another kind of rule",
        FRAUD_RULE.replace("'fast'", "'margin_floor'"),
        "sidecar.toml:2: fraud_rules[0].name: is what records call a rule of another kind",
    ),
    (
        "two that fire at the same",
        FRAUD_RULE + FRAUD_RULE.replace("'fast'", "'faster'") + "mode = 'refuse'\n",
        "sidecar.toml:7: fraud_rules[1]: counts the same as fast (sidecar.toml:1), and fires at the same",
    ),
    (
        "one that is never reached",
        FRAUD_RULE.replace("= 5", "= 9").replace("'fast'", "'slow'") + FRAUD_RULE + "mode = 'refuse'\n",
        "sidecar.toml:5: fraud_rules[0].threshold: can never fire: fast counts the same, and refuses above 5",
    ),
    # accounts and decks
    (
        "account that is a value",
        "[accounts]\nacme = 1\n",
        "accounts.acme: is a table, [accounts.NAME], not 1",
    ),
    ("accounts in an array", "[[accounts]]\n", "sidecar.toml:1: accounts: is written as [accounts.NAME]"),
    (
        "unknown account field",
        "[accounts.acme]\nprepayed = true\n",
        "sidecar.toml:2: accounts.acme.prepayed: there is no such key; did you mean 'prepaid'?",
    ),
    ("blank in an account name", '[accounts."a b"]\n', "as a name: expected 1-64 characters without blanks"),
    (
        "tax as a number",
        "[accounts.acme]\ntax_rate = 0.19\n",
        'expected a decimal in quotes, such as "0.19", not 0.19',
    ),
    ("tax of 1900 %", '[accounts.acme]\ntax_rate = "19"\n', "19 is not within the bound: 0–10"),
    ("on_no_rate", '[accounts.acme]\non_no_rate = "drop"\n', "expected refuse or carry, not 'drop'"),
    (
        "unknown deck of an account",
        '[accounts.acme]\ndeck = "dem0"\n',
        "sidecar.toml:2: accounts.acme.deck: there is no deck 'dem0'; did you mean 'demo'?",
    ),
    ("unknown default deck", '[billing]\ndeck = "x"\n', "sidecar.toml:2: billing.deck: there is no deck 'x'"),
    ("deck that is not there", '[decks]\nsell = "none.csv"\n', "sidecar.toml:2: decks.sell: "),
    ("deck of ours that is not", '[decks]\nsell = "dmo"\n', "there is no deck 'dmo' (ours: demo"),
    ("deck that is a number", "[decks]\nsell = 1\n", "sidecar.toml:2: decks.sell: expected a path, not 1"),
    ("decks as a value", "decks = 1\n", "sidecar.toml:1: decks: is written as [decks]"),
    ("deck of both files", '[decks]\ndemo = "demo"\n', "decks.demo: is a deck of sidecar.toml:2 too"),
    # broker
    (
        "external without a host",
        '[mqtt]\nbroker = "external"\n',
        "mqtt.host: an external broker needs a host",
    ),
    (
        "host of an embedded broker",
        '[mqtt]\nhost = "b"\n',
        'is of an external broker: set mqtt.broker = "external"',
    ),
    (
        "a missing CA file",
        '[mqtt]\nbroker = "external"\nhost = "b"\ntls = true\nca_file = "ca"\n',
        "there is no file",
    ),
    (
        "CA without TLS",
        '[mqtt]\nbroker = "external"\nhost = "b"\nca_file = "ca"\n',
        "is of TLS: set mqtt.tls = true",
    ),
    (
        "certificate without its key",
        '[mqtt]\nbroker = "external"\nhost = "b"\ntls = true\ncertificate_file = "sidecar.toml"\n',
        "a certificate and its private key go together",
    ),
    (
        "password without a name",
        '[mqtt]\nbroker = "external"\nhost = "b"\npassword_file = "sidecar.toml"\n',
        "mqtt.password_file: needs mqtt.username",
    ),
    # files with impossible names
    (
        "a long name of a key file",
        f"[sip]\ntls_key_file = '{'a' * 300}'\n",
        "cannot be read: File name too long",
    ),
    ("a long name of a deck", f"[decks]\nsell = '{'a' * 300}.csv'\n", "File name too long"),
    ("a folder for a key file", "[sip]\ntls_key_file = '.'\n", "sip.tls_key_file: there is no file "),
    # TOML itself
    ("no TOML", "[billing\n", "sidecar.toml:1: not TOML: "),
    (
        "a key twice",
        "[log]\nlevel = 'info'\nlevel = 'info'\n",
        "sidecar.toml:3: not TOML: Cannot overwrite a value",
    ),
    ("an open string", "[log]\nlevel = 'info\n", "sidecar.toml:2: not TOML: "),
    ("an open array", "[log]\nlevel = [\n\n", "sidecar.toml:2: not TOML: "),
    ("nested too deeply", f"x = {'[' * 5000}\n", "sidecar.toml: not readable: nested too deeply"),
    ("thousands of digits", f"x = {'9' * 5000}\n", "sidecar.toml: not readable: "),
]

PROFILES = [
    # sections
    (
        "settings of the machine",
        '[node]\nname = "x"\n',
        f"profile.toml:{LAST + 2}: node.name: belongs in the settings file",
    ),
    ("VOS3000 names", "[vos3000]\n", "vos3000: belongs in the settings file, not here"),
    ("unknown table", "[gateway.x]\n", "gateway: there is no such section; did you mean 'gateways'?"),
    # peers
    (
        "host bits",
        '[peers.x]\naddresses = ["10.0.0.1/8"]\n',
        "has bits set behind its mask; did you mean '10.0.0.0/8'?",
    ),
    (
        "host name as peer",
        '[peers.x]\naddresses = ["carrier.example"]\n',
        "is not a CIDR block or a literal address (who may call is not DNS's to say)",
    ),
    ("mask 33", '[peers.x]\naddresses = ["10.0.0.0/33"]\n', "is not a CIDR block or a literal address"),
    ("no addresses", "[peers.x]\n", f"profile.toml:{LAST + 1}: peers.x.addresses: is missing"),
    ("empty addresses", "[peers.x]\naddresses = []\n", "peers.x.addresses: is empty"),
    (
        "the same block in two groups",
        '[peers.x]\naddresses = ["127.0.0.0/8"]\n',
        (
            f"profile.toml:{LAST + 2}: peers.x.addresses: 127.0.0.0/8 overlaps 127.0.0.0/8 of peers.local "
            "(profile.toml:5)"
        ),
    ),
    ("a block inside another", '[peers.x]\naddresses = ["127.0.0.9"]\n', "127.0.0.9/32 overlaps 127.0.0.0/8"),
    (
        "peer port",
        '[peers.x]\naddresses = ["10.0.0.1"]\nport = 65536\n',
        "peers.x.port: 65536 is not within 0-65535",
    ),
    (
        "a block around another",
        '[peers.x]\naddresses = ["10.9.0.0/16"]\n[peers.y]\naddresses = ["10.0.0.0/8"]\nport = 1\n',
        f"profile.toml:{LAST + 4}: peers.y.addresses: 10.0.0.0/8 overlaps 10.9.0.0/16 of peers.x",
    ),
    (
        "an IPv6 block",
        '[peers.x]\naddresses = ["::1", "::/96"]\n[peers.y]\naddresses = ["::2"]\n',
        "::2/128 overlaps ::/96",
    ),
    ("blank in a peer name", '[peers."x y"]\naddresses = ["10.0.0.1"]\n', "as a name: expected 1-64 letters"),
    (
        "unknown proxy_hangups field",
        '[[peers.local.proxy_hangups]]\nheader = "reason"\ncontain = "x"\ndetail = "operator"\n',
        (
            f"profile.toml:{LAST + 3}: peers.local.proxy_hangups[0].contain: there is no such key; "
            "did you mean 'contains'?"
        ),
    ),
    (
        "unknown detail",
        '[[peers.local.proxy_hangups]]\nheader = "reason"\ncontains = "x"\ndetail = "opertor"\n',
        "did you mean 'operator'?",
    ),
    (
        "the caller's bye is no detail of a proxy",
        '[[peers.local.proxy_hangups]]\nheader = "reason"\ncontains = "x"\ndetail = "bye"\n',
        "proxy_hangups[0].detail: expected one of",
    ),
    (
        "proxy_hangups as a value",
        "[peers.x]\naddresses = ['10.0.0.1']\nproxy_hangups = 1\n",
        "is written as [[peers.NAME",
    ),
    (
        "names without TLS",
        "[peers.x]\naddresses = ['10.0.0.1']\ntls_names = ['a']\n",
        "can never match: there is no",
    ),
    # gateways
    (
        "names of a gateway that is not called over TLS",
        "[gateways.x]\nhost = '10.0.0.1'\nport = 1\ntls_names = ['a']\n",
        'gateways.x.tls_names: needs transport = "tls"',
    ),
    *(
        (
            f"gateway at {host!r}",
            f'[gateways.x]\nhost = "{host}"\nport = 1\n',
            f"profile.toml:{LAST + 2}: gateways.x.host: '{host}' {expected}",
        )
        for host, expected in (
            ("a_b.example", "is no address and no DNS name"),
            ("-a.example", "is no address and no DNS name"),
            ("a..example", "is no address and no DNS name"),
            ("192.0.2.256", "is not a literal IPv4 or IPv6 address"),
            ("192.0.2.1:5060", "is not a literal IPv4 or IPv6 address"),
            ("", "is not a literal IPv4 or IPv6 address"),
        )
    ),
    (
        "a name by a transport that is not listened to",
        "[gateways.x]\nhost = 'a.example'\ntransport = 'tcp'\n",
        "gateways.x.transport: needs sip.listen_tcp",
    ),
    (
        "a name by UDP has no certificate",
        "[gateways.x]\nhost = 'a.example'\nport = 1\ntls_names = ['a']\n",
        'gateways.x.tls_names: needs transport = "tls"',
    ),
    ("gateway without a port", '[gateways.x]\nhost = "10.0.0.1"\n', "gateways.x.port: is missing"),
    *(
        (
            f"header: {what}",
            f"[gateways.x]\nhost = '10.0.0.1'\nport = 1\n{line}\n",
            f"profile.toml:{LAST + 4}: gateways.x.{line.split()[0]}: {expected}",
        )
        for what, line, expected in (
            (
                "a line break",
                'add_headers = ["X-A: 1\\r\\nVia: 2"]',
                "expected Name: value on one line",
            ),
            (
                "another line break",
                'add_headers = ["X-A: 1\\u2028"]',
                "expected Name: value on one line",
            ),
            ("no value", 'add_headers = ["X-A:"]', "expected Name: value on one line, not 'X-A:'"),
            ("no name", 'add_headers = [": 1"]', "expected the name of a SIP header"),
            (
                "a blank in the name",
                'add_headers = ["X Y: 1"]',
                "expected the name of a SIP header",
            ),
            ("no colon", 'add_headers = ["X-A"]', "expected Name: value on one line, not 'X-A'"),
            ("no string", "add_headers = [1]", 'expected "Name: value", not 1'),
            ("no list", 'add_headers = "X-A: 1"', "expected a list"),
            ("ours", 'add_headers = ["CONTACT: <sip:x@y>"]', "contact is written by us alone"),
            ("ours, in short", 'add_headers = ["v: SIP/2.0/UDP x"]', "v is written by us alone"),
            (
                "of the body",
                'add_headers = ["Content-ID: x"]',
                "content-id is written by us alone",
            ),
            (
                "not ours to say",
                'add_headers = ["Allow: BYE"]',
                "allow is for the caller to say",
            ),
            ("short", 'remove_headers = ["s"]', "s is a short name: give the long one"),
            (
                "not to be removed",
                'remove_headers = ["Max-Forwards"]',
                "max-forwards is written",
            ),
            ("twice", 'remove_headers = ["X-A", "x-a"]', "'x-a' is given twice"),
            (
                "unknown form",
                'caller_id = "p_a_i"',
                "expected one of pass, from, pai, rpid, not 'p_a_i'",
            ),
            (
                "unknown number form",
                'caller_number = "+"',
                "expected one of as_is, plus, no_plus",
            ),
        )
    ),
    ("gateway port 0", '[gateways.x]\nhost = "10.0.0.1"\nport = 0\n', "0 is not within 1-65535"),
    (
        "gateway field",
        '[gateways.x]\nhost = "10.0.0.1"\nprot = 1\n',
        "gateways.x.prot: there is no such key; did you mean 'port'?",
    ),
    ("multicast gateway", '[gateways.x]\nhost = "224.0.0.1"\nport = 1\n', "name the one address"),
    (
        "TCP gateway, UDP only",
        "[gateways.x]\nhost = '10.0.0.1'\nport = 1\ntransport = 'tcp'\n",
        "needs sip.listen_tcp",
    ),
    (
        "IPv6 gateway, IPv4 only",
        "[gateways.x]\nhost = '::1'\nport = 1\n",
        "needs an IPv6 address in sip.listen_udp",
    ),
    (
        "sctp",
        "[gateways.x]\nhost = '10.0.0.1'\nport = 1\ntransport = 'sctp'\n",
        "expected one of udp, tcp, tls, not 'sctp'",
    ),
    (
        "gateway deck",
        "[gateways.x]\nhost = '10.0.0.1'\nport = 1\ndeck = 'x'\n",
        "gateways.x.deck: there is no deck 'x'",
    ),
    (
        "fail-over by a success",
        "[gateways.x]\nhost = '10.0.0.1'\nport = 1\nfailover_codes = [200]\n",
        f"profile.toml:{LAST + 4}: gateways.x.failover_codes: expected a code of 300-699",
    ),
    (
        "fail-over by an unknown class",
        "[gateways.x]\nhost = '10.0.0.1'\nport = 1\nfailover_codes = ['7xx']\n",
        "expected a code of 300-699, or a class such as 5xx, not '7xx'",
    ),
    (
        "fail-over by half a class",
        "[gateways.x]\nhost = '10.0.0.1'\nport = 1\nfailover_codes = ['50x']\n",
        "expected a code of 300-699, or a class such as 5xx, not '50x'",
    ),
    (
        "fail-over by a challenge",
        "[gateways.x]\nhost = '10.0.0.1'\nport = 1\nfailover_codes = [407]\n",
        "gateways.x.failover_codes: 407 goes to the caller, who tries again, or is answered by us",
    ),
    (
        "fail-over by our own CANCEL",
        "[gateways.x]\nhost = '10.0.0.1'\nport = 1\nfailover_codes = ['487']\n",
        "gateways.x.failover_codes: 487 is what a gateway says to our own CANCEL",
    ),
    (
        "fail-over by a float",
        "[gateways.x]\nhost = '10.0.0.1'\nport = 1\nfailover_codes = [503.0]\n",
        'expected a code such as 503, or a class such as "5xx", not 503.0',
    ),
    (
        "fail-over by a code twice",
        "[gateways.x]\nhost = '10.0.0.1'\nport = 1\nfailover_codes = [503, '503']\n",
        "'503' is given twice",
    ),
    # routes
    (
        "unknown gateway",
        '[[routes]]\nprefix = ""\ngateways = ["carier"]\n',
        f"profile.toml:{LAST + 3}: routes[0].gateways: there is no gateway 'carier'; did you mean 'carrier'?",
    ),
    (
        "no gateway is reached",
        '[[routes]]\nprefix = ""\ngateways = ["x"]\n',
        "no gateway is reached by any route",
    ),
    ("route to nothing", '[[routes]]\nprefix = ""\ngateways = []\n', "routes[0].gateways: is empty"),
    (
        "gateway twice",
        '[[routes]]\nprefix = ""\ngateways = ["carrier", "carrier"]\n',
        "'carrier' is given twice",
    ),
    (
        "gateway twice in a group",
        '[[routes]]\nprefix = ""\ngateways = [["carrier=1", "carrier=2"]]\n',
        f"profile.toml:{LAST + 3}: routes[0].gateways: 'carrier' is given twice",
    ),
    (
        "gateway in a group and after it",
        '[[routes]]\nprefix = ""\ngateways = [["carrier"], "carrier"]\n',
        "routes[0].gateways: 'carrier' is given twice",
    ),
    (
        "unknown gateway in a group",
        '[[routes]]\nprefix = ""\ngateways = [["carrier", "carier=2"]]\n',
        "routes[0].gateways: there is no gateway 'carier'; did you mean 'carrier'?",
    ),
    ("empty group", '[[routes]]\nprefix = ""\ngateways = [[]]\n', "routes[0].gateways: an empty group"),
    (
        "weight without a group",
        '[[routes]]\nprefix = ""\ngateways = ["carrier=2"]\n',
        "a weight stands in a group, a list within the list",
    ),
    (
        "weight zero",
        '[[routes]]\nprefix = ""\ngateways = [["carrier=0"]]\n',
        "routes[0].gateways: 0 is not within 1-1000",
    ),
    (
        "weight in letters",
        '[[routes]]\nprefix = ""\ngateways = [["carrier=half"]]\n',
        "routes[0].gateways: expected a whole number, not 'half'",
    ),
    (
        "no weight after all",
        '[[routes]]\nprefix = ""\ngateways = [["carrier="]]\n',
        "routes[0].gateways: expected a whole number, not ''",
    ),
    (
        "group in a group",
        '[[routes]]\nprefix = ""\ngateways = [[["carrier=1"]]]\n',
        'expected "NAME" or "NAME=WEIGHT" in a group',
    ),
    (
        "gateway as a number",
        '[[routes]]\nprefix = ""\ngateways = [1]\n',
        "routes[0].gateways: expected a string, not 1",
    ),
    ("route without a prefix", '[[routes]]\ngateways = ["carrier"]\n', "routes[0].prefix: is missing"),
    (
        "letters in a prefix",
        '[[routes]]\nprefix = "49x"\ngateways = ["carrier"]\n',
        "expected up to 32 of 0-9 * #",
    ),
    (
        "prefix twice",
        '[[routes]]\nprefix = "49"\ngateways = ["carrier"]\n' * 2,
        f"routes[1].prefix: '49' is the prefix of routes[0] too, profile.toml:{LAST + 2}",
    ),
    ("routes as a table", "[routes]\n", "routes: is written as [[routes]]"),
    # account rules
    (
        "unknown peer",
        "[accounts.a]\n[[account_rules]]\naccount = 'a'\npeer = 'locale'\n",
        "account_rules[0].peer: there is no peer 'locale': it needs a table, [peers.locale]; did you mean",
    ),
    (
        "two matches",
        "[accounts.a]\n[[account_rules]]\naccount = 'a'\npeer = 'local'\ncalled_prefix = '49'\n",
        "account_rules[0]: has one of peer, header, tls_name, called_prefix, not peer and called_prefix",
    ),
    (
        "no match",
        "[accounts.a]\n[[account_rules]]\naccount = 'a'\n",
        "has one of peer, header, tls_name, called_prefix, not none",
    ),
    (
        "neither an account nor where its name is",
        "[[account_rules]]\npeer = 'local'\n",
        "account_rules[0]: has one of account, account_from",
    ),
    (
        "an account, and where its name is",
        "[accounts.a]\n[[account_rules]]\naccount = 'a'\naccount_from = 'header'\nheader = 'x'\n",
        "account_rules[0]: has one of account, account_from",
    ),
    (
        "account from the moon",
        "[[account_rules]]\naccount_from = 'moon'\n",
        "account_rules[0].account_from: expected",
    ),
    (
        "account from a header that is not named",
        "[[account_rules]]\naccount_from = 'header'\n",
        "account_rules[0].account_from: with 'header' a rule has a header, and nothing else",
    ),
    (
        "account from a header of one value",
        "[[account_rules]]\naccount_from = 'header'\nheader = 'x'\nheader_value = 'y'\n",
        "account_rules[0].account_from: with 'header' a rule has a header, and nothing else",
    ),
    (
        "account from an address and a peer",
        "[[account_rules]]\naccount_from = 'address'\npeer = 'local'\n",
        "account_rules[0].account_from: with 'address' a rule has nothing else",
    ),
    (
        "account from the same header twice",
        "[[account_rules]]\naccount_from = 'header'\nheader = 'x'\n" * 2,
        "account_rules[1]: never applies: account_rules[0]",
    ),
    (
        "addresses that no rule reads",
        "[accounts.a]\n[account_addresses]\n'192.0.2.0/24' = 'a'\n",
        "account_addresses.'192.0.2.0/24': is never read: no [[account_rules]] has account_from = ",
    ),
    (
        "a bad block",
        "[[account_rules]]\naccount_from = 'address'\n[account_addresses]\n'192.0.2.7/24' = 'a'\n",
        f"profile.toml:{LAST + 4}: account_addresses.'192.0.2.7/24': '192.0.2.7/24' has bits set behind",
    ),
    (
        "no block at all",
        "[[account_rules]]\naccount_from = 'address'\n[account_addresses]\nhere = 'a'\n",
        "account_addresses.'here': 'here' is no address block",
    ),
    (
        "one block twice",
        (
            "[accounts.a]\n[[account_rules]]\naccount_from = 'address'\n[account_addresses]\n"
            "'192.0.2.0/24' = 'a'\n'::ffff:192.0.2.0/120' = 'a'\n"
        ),
        f"account_addresses.'::ffff:192.0.2.0/120': is a block of profile.toml:{LAST + 5} too",
    ),
    (
        "a block of nobody",
        "[[account_rules]]\naccount_from = 'address'\n[account_addresses]\n'192.0.2.0/24' = 7\n",
        "account_addresses.'192.0.2.0/24': expected",
    ),
    (
        "addresses as an array",
        "[[account_rules]]\naccount_from = 'address'\n[[account_addresses]]\n",
        "account_addresses: is written as [account_addresses]",
    ),
    (
        "header without a value",
        "[accounts.a]\n[[account_rules]]\naccount = 'a'\nheader = 'x'\n",
        "header and header_value go together",
    ),
    (
        "value without a header",
        "[accounts.a]\n[[account_rules]]\naccount = 'a'\npeer = 'local'\nheader_value = 'x'\n",
        "header and header_value go together",
    ),
    (
        "the same match twice",
        "[accounts.a]\n" + "[[account_rules]]\naccount = 'a'\npeer = 'local'\n" * 2,
        (
            f"profile.toml:{LAST + 5}: account_rules[1]: never applies: account_rules[0] "
            f"(profile.toml:{LAST + 2}) matches the same calls"
        ),
    ),
    (
        "certificate without TLS",
        "[accounts.a]\n[[account_rules]]\naccount = 'a'\ntls_name = 'x'\n",
        "account_rules[0].tls_name: can never match: there is no sip.listen_tls",
    ),
    # strip rules
    (
        "strip rule without a name",
        "[[strip_rules]]\nprefix = '0'\nstrip = 1\n",
        "strip_rules[0].name: is missing",
    ),
    ("strip 33", "[[strip_rules]]\nname = 'a'\nprefix = '0'\nstrip = 33\n", "33 is not within 0-32"),
    (
        "plus in a strip prefix",
        "[[strip_rules]]\nname = 'a'\nprefix = '+'\nstrip = 1\n",
        "expected 1-32 of 0-9 # *",
    ),
    (
        "strip prefix twice",
        (
            "[[strip_rules]]\nname = 'a'\nprefix = '0'\nstrip = 2\n"
            "[[strip_rules]]\nname = 'b'\nprefix = '0'\nstrip = 2\n"
        ),
        "strip_rules[1].prefix: '0' is the prefix of strip_rules[0]",
    ),
    (
        "strip rule name twice",
        (
            "[[strip_rules]]\nname = 'a'\nprefix = '00'\nstrip = 2\n"
            "[[strip_rules]]\nname = 'a'\nprefix = '0'\nstrip = 2\n"
        ),
        "strip_rules[1].name: 'a' is the name of strip_rules[0]",
    ),
    (
        "TLS gateway, UDP only",
        "[gateways.x]\nhost = '10.0.0.1'\nport = 1\ntransport = 'tls'\n",
        "gateways.x.transport: needs sip.listen_tls",
    ),
    # prepaid
    (
        "prepaid in another currency",
        "[accounts.a]\nprepaid = true\ncurrency = 'USD'\n",
        "accounts.a: is in USD, but its deck demo.csv has rates in EUR",
    ),
]


# What is wrong in these is missing too, where somebody else looks.
SAID_TWICE = {
    "CA without TLS",
    "host bits",
    "host name as peer",
    "mask 33",
    "unknown proxy_hangups field",
    "gateway field",
    "unknown gateway",
    "no gateway is reached",
    "route to nothing",
}


@pytest.mark.parametrize(("name", "text", "expected"), SETTINGS, ids=[row[0] for row in SETTINGS])
def test_bad_settings_are_one_clear_line(start: Start, name: str, text: str, expected: str) -> None:
    shown = start.shown(start.problems(text))
    assert any(expected in line for line in shown), shown
    assert len(shown) == 1 + (name in SAID_TWICE), shown


@pytest.mark.parametrize(("name", "text", "expected"), PROFILES, ids=[row[0] for row in PROFILES])
def test_a_bad_profile_is_one_clear_line(start: Start, name: str, text: str, expected: str) -> None:
    shown = start.shown(start.problems(profile=PROFILE + text))
    assert any(expected in line for line in shown), shown
    assert len(shown) == 1 + (name in SAID_TWICE), shown


@pytest.mark.parametrize(
    "rule",
    [
        "account_from = 'header'\n",
        "account_from = 'address'\npeer = 'local'\n",
        "peer = 'local'\n",
        "account = 'a'\n",
        "account = 'a'\npeer = 'local'\nheader = 'x'\nheader_value = 'y'\n",
    ],
)
def test_of_two_rules_that_are_not_whole_none_is_said_to_be_in_the_way_of_the_other(
    start: Start, rule: str
) -> None:
    text = "[accounts.a]\n" + f"[[account_rules]]\n{rule}" * 2
    shown = start.shown(start.problems(profile=PROFILE + text))
    assert len(shown) == 2, shown
    assert not any("never applies" in line for line in shown)


@pytest.mark.parametrize(
    ("profile", "expected"),
    [
        ("", "profile.toml: peers: nobody may call"),
        ("", "profile.toml: gateways: calls can go nowhere"),
        ("", "profile.toml: sip.listen_udp: nothing to listen on"),
        (
            PROFILE.replace(":0", ":5090"),
            "profile.toml:10: gateways.carrier.port: 127.0.0.1 port 5090 is our own",
        ),
        (
            PROFILE.replace("[sip]", "[sip]\naccount_required = true"),
            "without an [[account_rules]] every call",
        ),
        (
            PROFILE.replace("[sip]", '[sip]\nlisten_tls = ["127.0.0.1:1"]'),
            "needs sip.tls_certificate_file and",
        ),
        (
            PROFILE.replace("[sip]", '[sip]\nlisten_tls = ["127.0.0.1:1"]\nlisten_tcp = ["127.0.0.1:1"]'),
            "profile.toml:2: sip.listen_tls: 127.0.0.1 port 1 is given for TCP too",
        ),
        (
            PROFILE.replace("[sip]", '[sip]\nlisten_tcp = ["127.0.0.1:9494"]'),
            "metrics.listen: is an address of SIP",
        ),
        (
            PROFILE.replace("asserts_identity = true", "")
            + "[accounts.a]\n[[account_rules]]\naccount = 'a'\nheader = 'x'\nheader_value = 'y'\n",
            "account_rules[0].header: is never read: no peer has asserts_identity = true",
        ),
        (
            PROFILE.replace('demo = "demo"', "") + "[accounts.a]\nprepaid = true\n",
            "accounts.a: a prepaid account needs a deck: its own, or billing.deck",
        ),
    ],
)
def test_a_profile_in_which_something_is_missing_says_what(start: Start, profile: str, expected: str) -> None:
    shown = start.shown(start.problems(profile=profile))
    assert any(expected in line for line in shown), shown


def test_all_errors_of_both_files_are_shown_together(start: Start) -> None:
    problems = start.problems(
        "[biling]\n[log]\nlevel = 1\n",
        PROFILE + "[gateways.x]\nhost = 'a_b'\n",
        environ={"SIDECAR_A__B": "1"},
    )
    shown = "\n".join(start.shown(problems))
    for expected in (
        "sidecar.toml:1",
        "sidecar.toml:3",
        f"profile.toml:{LAST + 2}",
        "x.port: is missing",
        "SIDECAR_A__B",
    ):
        assert expected in shown


def test_one_mistake_is_one_line(start: Start) -> None:
    assert len(start.problems("[billing]\ndecimals = 'x'\n")) == 1
    assert (
        len(start.problems(profile=PROFILE.replace("port = 5090", "prot = 5090"))) == 2
    )  # unknown, and missing
