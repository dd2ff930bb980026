(
# Makes DB-01 a standby of db02 with pg_basebackup. Why: fenced: db02 is primary on timeline 2, which left timeline 1 of this server at 0/3000148.
# pg_rewind was not wanted: everything is copied.
# For a shell of the user postgres. The first command that fails ends it.
# What only this server has stays in its old data directory, which is moved aside. There must be room for both.
set -eu
umask 077
trap '[ $? = 0 ] || echo "Stopped here: the last command failed, and none after it was run." >&2' EXIT
fail() { printf '%s\n' "$1" >&2; exit 1; }
PATH=/usr/lib/postgresql/15/bin:$PATH
export PGCONNECT_TIMEOUT=10
data="/srv/my data/it's 15"
now=$(date +%Y%m%d%H%M%S)

# In another place, the new primary above all, these commands would do harm.
[ "$(id -un)" = postgres ] || fail 'This is for the user postgres.'
[ "$(uname -n)" = db01.example.org ] || fail 'This is for the host db01.example.org.'
[ "$(stat -c %i "$data")" = 4711 ] || fail 'The data directory is not the one that this was made for.'

# As the standby will stream. The partner must let it in without asking for a password, and be a newer primary of this cluster.
partner='host=db02 passfile='\''/srv/my data/it\'\''s 15/my\'\''pass'\'' sslmode=verify-full sslrootcert=system user='\''Keep\\er'\'''
identity=$(psql -XAtqw -d "$partner dbname=replication replication=true" -c IDENTIFY_SYSTEM)
[ "${identity%%|*}" = 7300000000000000001 ] || fail 'The partner belongs to another cluster.'
timeline=${identity#*|}
[ "${timeline%%|*}" -gt 1 ] || fail 'The partner is not on a newer timeline.'
[ "$(psql -XAtqw -d "$partner dbname=replication replication=true" -c 'SHOW in_hot_standby')" = off ] || fail 'The partner is not a primary.'

# The slot on the partner that this server will use.
pg_receivewal -w -d "$partner" -S db_01 --create-slot --if-not-exists
# pg_wal lies elsewhere, and so does the new one: in a new folder there.
# Tablespaces lie elsewhere, and their copies do: each in a new folder of the old place. The partner must have them in
# the same places; what it has elsewhere goes where it is there.
# The copy. Until it is complete nothing changes here.
copy=$data.new.$now
pg_basebackup -w -d "$partner" -D "$copy" -X stream -c fast -P -S db_01 --waldir="/wal/o'brien"/"wal.$now" -T '/ts/a\=b'='/ts/a\=b'/"copy.$now"

# The partner's configuration files came along: this server's own take their place.
rm -rf "$copy"/conf.d "$copy"/keys
cp -pRP "$data"/conf.d "$data"/keys "$data"/pg_hba.conf "$data"/postgresql.auto.conf "$data"/postgresql.conf "$data"/postmaster.opts "$copy"
# A standby of the partner. The last line for a setting is the one that counts.
touch "$copy"/standby.signal
printf '%s\n' '' 'primary_conninfo = '\''host=db02 passfile='\'''\''/srv/my data/it\\'\'''\''s 15/my\\'\'''\''pass'\'''\'' sslmode=verify-full sslrootcert=system user='\'''\''Keep\\\\er'\'''\'' application_name=DB-01'\''' "primary_slot_name = 'db_01'" >> "$copy"/postgresql.auto.conf

if pg_ctl -D "$data" status >/dev/null; then pg_ctl -D "$data" -m fast -t 3600 stop; fi
mv "$data" "$data.old.$now"
mv "$copy" "$data"

# "restart" takes the server's command line from postmaster.opts, as it was; it says that no server runs, and starts it.
pg_ctl -D "$data" -l /var/log/postgres.log -t 3600 restart
echo "The old state is in $data.old.$now, beside copy.$now in its tablespaces and beside wal.$now, where its pg_wal led. Delete it when nothing in it is needed any more."
)
# When it runs, look at DB-01 and db02:
#   psql -h /var/run/postgresql -p 5432 -d pg_state -x -c 'SELECT * FROM pg_keeper.status'
#   psql -h /var/run/postgresql -p 5432 -d pg_state -c 'SELECT * FROM pg_keeper.check()'
