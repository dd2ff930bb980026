(
# Makes db01 a standby of db02 with pg_rewind. Why: fenced: db02 is primary on timeline 2, which left timeline 1 of this server at 0/3000148.
# For a shell of the user postgres. The first command that fails ends it.
# What only this server has is undone. If it may be needed, stop the server and copy the data directory first.
set -eu
umask 077
trap '[ $? = 0 ] || echo "Stopped here: the last command failed, and none after it was run." >&2' EXIT
fail() { printf '%s\n' "$1" >&2; exit 1; }
PATH=/usr/lib/postgresql/15/bin:$PATH
export PGCONNECT_TIMEOUT=10
data=/var/lib/postgresql/15/main
now=$(date +%Y%m%d%H%M%S)

# In another place, the new primary above all, these commands would do harm.
[ "$(id -un)" = postgres ] || fail 'This is for the user postgres.'
[ "$(uname -n)" = db01.example.org ] || fail 'This is for the host db01.example.org.'
[ "$(stat -c %i "$data")" = 4711 ] || fail 'The data directory is not the one that this was made for.'

# As the standby will stream. The partner must let it in without asking for a password, and be a newer primary of this cluster.
partner='host=10.0.0.12 port=5432 passfile=/var/lib/postgresql/.pgpass user=keeper'
identity=$(psql -XAtqw -d "$partner dbname=replication replication=true" -c IDENTIFY_SYSTEM)
[ "${identity%%|*}" = 7300000000000000001 ] || fail 'The partner belongs to another cluster.'
timeline=${identity#*|}
[ "${timeline%%|*}" -gt 1 ] || fail 'The partner is not on a newer timeline.'
[ "$(psql -XAtqw -d "$partner dbname=replication replication=true" -c 'SHOW in_hot_standby')" = off ] || fail 'The partner is not a primary.'

# As pg_rewind reads. It needs a superuser, or a role that may CHECKPOINT and has EXECUTE on pg_ls_dir(text, boolean, boolean),
# pg_stat_file(text, boolean), pg_read_binary_file(text) and pg_read_binary_file(text, bigint, bigint, boolean).
# Should the partner refuse it: a line "host postgres USER ADDRESS-OF-THIS-SERVER/32 scram-sha-256" in pg_hba.conf there lets it in,
# and its password belongs into the passfile or into the environment variable PGPASSWORD.
source='host=10.0.0.12 port=5432 passfile=/var/lib/postgresql/.pgpass user=postgres dbname=postgres'
psql -XAtqw -d "$source" -c "SELECT pg_read_binary_file('PG_VERSION')" >/dev/null

# pg_rewind asks nobody whether the partner still has the WAL that a rewound server begins with.
ask_for_wal() {
  fork=$(psql -XAtqw -d "$source" -c 'SELECT substr(pg_walfile_name('\''0/3000149'\''), 9), coalesce(min(substr(name, 9)) <= substr(pg_walfile_name('\''0/3000149'\''), 9), false) FROM pg_ls_dir('\''pg_wal'\'', true, false) name WHERE name ~ '\''^[0-9A-F]{24}$'\''')
  [ "${fork#*|}" = t ] || fail 'The partner does not have all WAL since its promotion any more, and a rewound server would wait for it for ever. This server is as it was. A copy of the partner does: SELECT pg_keeper.rejoin_plan(fresh_copy => true) prints the commands.'
}
ask_for_wal

# pg_rewind brings the partner's configuration files along: this server's own are put back afterwards.
own=$data.own.$now
mkdir "$own"
cp -pRP "$data"/postgresql.auto.conf "$own"
# Where pg_rewind does not do, a copy of the whole partner is what is left: the commands, to have them when nobody can print them.
copy=$own/fresh_copy.sh
cat > "$copy" <<'END OF THE COPY'
(
# Makes db01 a standby of db02 with pg_basebackup. Why: fenced: db02 is primary on timeline 2, which left timeline 1 of this server at 0/3000148.
# pg_rewind was not wanted: everything is copied.
# For a shell of the user postgres. The first command that fails ends it.
# What only this server has stays in its old data directory, which is moved aside. There must be room for both.
set -eu
umask 077
trap '[ $? = 0 ] || echo "Stopped here: the last command failed, and none after it was run." >&2' EXIT
fail() { printf '%s\n' "$1" >&2; exit 1; }
PATH=/usr/lib/postgresql/15/bin:$PATH
export PGCONNECT_TIMEOUT=10
data=/var/lib/postgresql/15/main
now=$(date +%Y%m%d%H%M%S)

# In another place, the new primary above all, these commands would do harm.
[ "$(id -un)" = postgres ] || fail 'This is for the user postgres.'
[ "$(uname -n)" = db01.example.org ] || fail 'This is for the host db01.example.org.'
[ "$(stat -c %i "$data")" = 4711 ] || fail 'The data directory is not the one that this was made for.'

# As the standby will stream. The partner must let it in without asking for a password, and be a newer primary of this cluster.
partner='host=10.0.0.12 port=5432 passfile=/var/lib/postgresql/.pgpass user=keeper'
identity=$(psql -XAtqw -d "$partner dbname=replication replication=true" -c IDENTIFY_SYSTEM)
[ "${identity%%|*}" = 7300000000000000001 ] || fail 'The partner belongs to another cluster.'
timeline=${identity#*|}
[ "${timeline%%|*}" -gt 1 ] || fail 'The partner is not on a newer timeline.'
[ "$(psql -XAtqw -d "$partner dbname=replication replication=true" -c 'SHOW in_hot_standby')" = off ] || fail 'The partner is not a primary.'

# The copy. Until it is complete nothing changes here.
copy=$data.new.$now
pg_basebackup -w -d "$partner" -D "$copy" -X stream -c fast -P

# The partner's configuration files came along: this server's own take their place.
cp -pRP "$data"/postgresql.auto.conf "$copy"
# A standby of the partner. The last line for a setting is the one that counts.
touch "$copy"/standby.signal
printf '%s\n' '' "primary_conninfo = 'host=10.0.0.12 port=5432 passfile=/var/lib/postgresql/.pgpass user=keeper application_name=db01'" >> "$copy"/postgresql.auto.conf

# systemd may ask for root's rights, or start again what it did not stop itself.
if pg_ctl -D "$data" status >/dev/null; then systemctl --no-ask-password stop postgresql@15-main.service || pg_ctlcluster 15 main stop; sleep 2; fi
if pg_ctl -D "$data" status >/dev/null; then fail 'The server runs again. As root: systemctl stop postgresql@15-main.service; then run this again.'; fi
mv "$data" "$data.old.$now"
mv "$copy" "$data"

# What somebody else starts, systemd does not know of.
systemctl --no-ask-password start postgresql@15-main.service || fail 'All is ready. Last, as root: systemctl start postgresql@15-main.service'
echo "The old state is in $data.old.$now. Delete it when nothing in it is needed any more."
)
# When it runs, look at db01 and db02:
#   psql -h /var/run/postgresql -p 5432 -d pg_state -x -c 'SELECT * FROM pg_keeper.status'
#   psql -h /var/run/postgresql -p 5432 -d pg_state -c 'SELECT * FROM pg_keeper.check()'
END OF THE COPY

# pg_rewind looks for the partner's timeline in its last checkpoint, so there must be one since its promotion.
begun=$(psql -XAtqw -d "$source" -c 'SELECT timeline_id FROM pg_control_checkpoint()')
[ "$begun" = "${timeline%%|*}" ] || psql -XAtqw -d "$source" -c CHECKPOINT
ask_for_wal

# systemd may ask for root's rights, or start again what it did not stop itself.
if pg_ctl -D "$data" status >/dev/null; then systemctl --no-ask-password stop postgresql@15-main.service || pg_ctlcluster 15 main stop; sleep 2; fi
if pg_ctl -D "$data" status >/dev/null; then fail 'The server runs again. As root: systemctl stop postgresql@15-main.service; then run this again.'; fi
rewound=yes
pg_rewind --progress --target-pgdata="$data" --source-server="$source" --config-file=/etc/postgresql/15/main/postgresql.conf || rewound=no

cp -pRP "$own"/postgresql.auto.conf "$data"
[ $rewound = yes ] || fail "pg_rewind failed. If it had not begun to copy, this server is as it was and can be started. Else go on with what this file says: $copy"

# A standby of the partner. The last line for a setting is the one that counts.
touch "$data"/standby.signal
printf '%s\n' '' "primary_conninfo = 'host=10.0.0.12 port=5432 passfile=/var/lib/postgresql/.pgpass user=keeper application_name=db01'" >> "$data"/postgresql.auto.conf

# Whether all WAL is there that this server begins with; without, it would wait for it for ever.
if [ -e "$data/backup_label" ]; then
  needed=$(sed -n 's/^START WAL LOCATION: .*(file [0-9A-F]\{8\}\([0-9A-F]*\))$/\1/p' "$data/backup_label")
  ls "$data"/pg_wal/????????"$needed" >/dev/null 2>&1 || fail "The WAL segment $needed of the last common checkpoint is missing, with which a rewound server begins. Do not start this one. Go on with what this file says: $copy"
  ls "$data"/pg_wal/????????"${fork%%|*}" 2>/dev/null | grep -qv '/00000001[^/]*$' || fail "The partner's WAL segment ${fork%%|*} is missing, with which a rewound server begins. Do not start this one. Go on with what this file says: $copy"
fi

# What somebody else starts, systemd does not know of.
systemctl --no-ask-password start postgresql@15-main.service || fail 'All is ready. Last, as root: systemctl start postgresql@15-main.service'
)
# When it runs, look at db01 and db02:
#   psql -h /var/run/postgresql -p 5432 -d pg_state -x -c 'SELECT * FROM pg_keeper.status'
#   psql -h /var/run/postgresql -p 5432 -d pg_state -c 'SELECT * FROM pg_keeper.check()'
