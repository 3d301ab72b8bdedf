# package-trial.sh: what package-test.sh runs as root below a systemd of its own, where the package is installed.
set -eu
step() { echo "-- $*"; }
say() { "$@" || { echo "failed: $*"; journalctl -u sidecar -o cat --no-pager | tail -20; exit 1; }; }
within() { # half a minute
    for _ in $(seq 150); do ! "$@" || return 0; sleep 0.2; done
    echo "not within 30 s: $*"
    exit 1
}
is() { [ "$1" = "$2" ] || { echo "expected $2, found $1"; exit 1; }; }

step "as installed: a user of its own, state for it alone, settings that only root changes, not started"
is "$(stat -c '%U:%G %a' /var/lib/sidecar)" "sidecar:sidecar 700"
is "$(stat -c '%U:%G %a' /etc/sidecar/sidecar.toml)" "root:sidecar 640"
is "$(systemctl is-enabled sidecar)" "disabled"
say sidecar check >/dev/null

step "the service starts with what it came with, and has said so itself"
say systemctl start sidecar
printf '\n[sip]\nprofile = "demo"\n[timers]\nmax_duration_s = 120\noptions_interval_s = 120\n' >>/etc/sidecar/sidecar.toml
say systemctl restart sidecar
systemctl show -p StatusText --value sidecar
score=$(systemd-analyze security --no-pager sidecar | sed -n 's/.*exposure level for sidecar.service: \([0-9.]*\) .*/\1/p')
echo "systemd-analyze security: $score"
case $score in 0.* | 1.* | 2.0) ;; *) exit 1 ;; esac

step "a call through it, and its record"
call() {
    (cd /tmp && exec sipp -sf /caller-bye-in-call.uas.xml -i 127.0.0.1 -p 5090 -m 1 -nostdin -timeout 100 -timeout_error \
        >/tmp/uas.out 2>&1) &
    callee=$!
    within grep -q ':13E2 ' /proc/net/udp
    (cd /tmp && sipp 127.0.0.1:5080 -sf /caller-bye-in-call.uac.xml -s 4930123456 -d ${1:-1000} -key account demo -i 127.0.0.1 -p 5070 -m 1 -nostdin \
        -timeout 100 -timeout_error >/tmp/uac.out 2>&1) || { tail -5 /tmp/uac.out; exit 1; }
    wait "$callee"
}
broker=$(sidecar node status --json | sed -n 's/.*"broker": "\([^"]*\)".*/\1/p')
sidecar subscribe "$broker" --username reader --password-file /var/lib/sidecar/broker/reader.password \
    --json-lines /tmp/cdrs.jsonl 2>/tmp/subscriber.log &
subscriber=$!
within grep -q connected /tmp/subscriber.log
call
records() { sidecar cdr search --json | grep -c '"call_id"'; }
are() { [ "$(records)" = "$1" ]; }
within are 1
within test -s /tmp/cdrs.jsonl
kill "$subscriber"
grep -q '"caller"' /tmp/cdrs.jsonl
cut -c1-160 /tmp/cdrs.jsonl

step "reload, kill, another call"
say systemctl reload sidecar
systemctl kill -s KILL sidecar
within systemctl -q is-active sidecar
call
within are 2

step "the same package again, as an upgrade: the state stays, and a call that is up goes on"
call 45000 & # longer than dpkg takes on a busy machine; SIPp answers no OPTIONS in a call
talking=$!
up() { sidecar call list --json | grep -q '"answered_at": "2'; }
within up
say dpkg -i /sidecar.deb >/tmp/upgrade.out 2>&1
cat /tmp/upgrade.out
grep -q "1 calls were up, 1 are" /tmp/upgrade.out || { echo "the upgrade met no call"; exit 1; }
within systemctl -q is-active sidecar
wait "$talking" || { echo "the call did not go on"; exit 1; }
within are 3
is "$(sidecar cdr search --origin caller --json | grep -c '"call_id"')" 3
sidecar journal verify

step "settings that are wrong: exit code 2, and no second start"
cp -p /etc/sidecar/sidecar.toml /tmp/right.toml
echo 'ring_timeout = 5' >>/etc/sidecar/sidecar.toml
! systemctl restart sidecar 2>/dev/null || { echo "it started with them"; exit 1; }
property() { systemctl show -p "$1" --value sidecar; }
is "$(property ActiveState) $(property ExecMainStatus) $(property NRestarts)" "failed 2 0"
cp -p /tmp/right.toml /etc/sidecar/sidecar.toml

step "moved to a PostgreSQL, which is away at first: exit code 3, and starts without end until it is there"
say systemctl start postgresql
within runuser -u postgres -- psql -qc "SELECT 1" >/dev/null
runuser -u postgres -- psql -q <<EOF
CREATE ROLE sidecar_owner LOGIN PASSWORD 'o';
CREATE ROLE sidecar_node;
CREATE ROLE sidecar_reader;
CREATE ROLE node1 LOGIN PASSWORD 'n' IN ROLE sidecar_node;
CREATE DATABASE sidecar OWNER sidecar_owner;
EOF
echo "host=127.0.0.1 dbname=sidecar user=sidecar_owner password=o" >/root/owner.dsn
install -o root -g sidecar -m 640 /dev/null /etc/sidecar/dsn
echo "host=127.0.0.1 dbname=sidecar user=node1 password=n" >/etc/sidecar/dsn
chmod 600 /root/owner.dsn
printf '[store]\nengine = "postgresql"\ndsn_file = "/etc/sidecar/dsn"\n' >>/etc/sidecar/sidecar.toml
say sidecar store prepare --dsn-file /root/owner.dsn
say runuser -u sidecar -- sidecar store migrate --from sqlite --to postgresql >/tmp/moved.out 2>&1
say systemctl stop postgresql
systemctl start --no-block sidecar
often() { [ "$(property NRestarts)" -ge 7 ]; } # systemd's own limit is 5 in 10 s
within often
ended_with() { journalctl -u sidecar -o cat --no-pager | grep -q "status=$1" || { echo "it did not end with $1"; exit 1; }; }
ended_with 3
say systemctl start postgresql
within systemctl -q is-active sidecar
call
within are 4

step "fenced, as where another node has taken over: exit code 4, and it starts anew"
before=$(property NRestarts)
runuser -u postgres -- psql -q sidecar -c "UPDATE epochs SET boot = NULL"
anew() { [ "$(property NRestarts)" -gt "$before" ] && systemctl -q is-active sidecar; }
within anew
ended_with 4
call
within are 5

step "stopped and purged: nothing is left but the journal, put aside"
say systemctl stop sidecar
is "$(systemctl show -p ExecMainStatus --value sidecar)" 0
rm /etc/sidecar/dsn # whoever put a file there takes it away
dpkg --purge sidecar >/dev/null 2>&1
for path in /etc/sidecar /var/lib/sidecar /usr/lib/sidecar /usr/bin/sidecar /lib/systemd/system/sidecar.service; do
    [ ! -e $path ] || { echo "left: $path"; exit 1; }
done
ls /var/backups/sidecar-*/journal.db.moved
