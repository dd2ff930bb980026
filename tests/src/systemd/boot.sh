# Boots a systemd of our own: boot.sh CGROUP FOLDER RUN_FOLDER [inside]
#
# Its root is this machine's, seen through an overlay whose changes lie in memory. Its units are those in FOLDER/units and no
# others: the machine's own would set sysctls and the like for the whole kernel.
set -eu
cgroup=$1 folder=$2 run=$3

if [ $# = 3 ]; then
    mkdir "$cgroup"
    echo $$ > "$cgroup/cgroup.procs"
    exec unshare --mount --pid --cgroup --uts --ipc --fork --kill-child=KILL sh "$0" "$cgroup" "$folder" "$run" inside
fi

mount --make-rprivate /
mount -t tmpfs tmpfs "$folder/disk"
cd "$folder/disk"
mkdir changes work root
mount -t overlay overlay -o "lowerdir=/,upperdir=$PWD/changes,workdir=$PWD/work" root
cd root
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount --rbind /dev dev
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
mkdir -p ".$run"
mount --bind "$run" ".$run"
mount --bind "$folder/units" etc/systemd/system
pivot_root . mnt
cd /
umount -l /mnt
exec env -i container=pg-keeper-tests SYSTEMD_UNIT_PATH=/etc/systemd/system \
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --system --unit=tests.target --show-status=no --log-target=console
