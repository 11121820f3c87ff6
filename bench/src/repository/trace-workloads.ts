/**
 * The work that is recorded (change-traces.ts), as pieces of one bash script. `$MNT` is the mounted ext4 file system, `$SCRATCH` a
 * directory beside it; `$step_number` and `$step_name` say which step it is. What a script needs and is not installed, it installs by apt-get.
 */
import { GiB } from '@lifeboat/foundation/units';

export interface Workload {
  /** Of its files in the cache. */
  readonly name: string;
  readonly label: string;
  readonly sizeBytes: number;
  readonly prepare: string;
  /** Run once for each of `steps`, a word each. */
  readonly steps: readonly string[];
  readonly step: string;
  readonly finish?: string;
}

/** A copy is made of a frozen file system: its journal is empty, as behind a guest agent. */
export const PREAMBLE = String.raw`
MNT=$SCRATCH/mnt
need() { command -v "$1" > /dev/null || apt-get install -y --no-install-recommends "$2"; }
begin() {
  mkdir "$MNT"
  truncate -s "$SIZE" "$SCRATCH/disk.raw"
  mke2fs -q -F -t ext4 -m 0 -E lazy_itable_init=0,lazy_journal_init=0 "$SCRATCH/disk.raw"
  mount -o loop "$SCRATCH/disk.raw" "$MNT"
}
copy() {
  sync -f "$MNT"
  fsfreeze -f "$MNT"
  cp --sparse=always "$SCRATCH/disk.raw" "$SCRATCH/copy-$1"
  fsfreeze -u "$MNT"
}
end() {
  umount "$MNT"
  rmdir "$MNT"
  rm "$SCRATCH/disk.raw"
}
`;

/** A system as it was released, brought up to date: lists, then libraries and programs, then a new kernel; at last the downloads go. */
const packageUpgrade: Workload = {
  name: 'upgrade',
  label: 'package upgrade',
  sizeBytes: 3 * GiB,
  prepare: String.raw`
need debootstrap debootstrap
. /etc/os-release
suites=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' | sort -u)
mirror=$(echo "$suites" | awk -v suite="$VERSION_CODENAME" '$2 == suite { print $1; exit }')
debootstrap --variant=minbase "$VERSION_CODENAME" "$MNT" "$mirror"
printf '#!/bin/sh\nexit 101\n' > "$MNT/usr/sbin/policy-rc.d"
chmod +x "$MNT/usr/sbin/policy-rc.d"
apt-config dump Acquire > "$MNT/etc/apt/apt.conf.d/00host" || true
for file in /etc/resolv.conf /etc/hosts; do cp -L "$file" "$MNT$file"; done
mount -t proc proc "$MNT/proc"
mount -t tmpfs tmpfs "$MNT/tmp"
inside() { chroot "$MNT" env DEBIAN_FRONTEND=noninteractive LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"; }
inside apt-get update
inside apt-get install -y -o APT::Keep-Downloaded-Packages=true linux-image-amd64 systemd-sysv openssh-server nginx python3 perl curl git vim \
  openssl ca-certificates bind9-host rsync sudo gnupg gcc libgnutls30 libxml2 php-cli
inside apt-get clean`,
  steps: ['lists', 'upgrade', 'kernel', 'clean'],
  step: String.raw`
case $step_name in
  lists)
    echo "$suites" | sed 's/^/deb /' > "$MNT/etc/apt/sources.list"
    inside apt-get update ;;
  upgrade) inside apt-get upgrade -y -o APT::Keep-Downloaded-Packages=true ;;
  kernel) inside apt-get dist-upgrade -y -o APT::Keep-Downloaded-Packages=true ;;
  clean) inside apt-get clean; inside apt-get autoremove -y ;;
esac`,
  finish: 'umount "$MNT/proc" "$MNT/tmp"',
};

/** TPC-B over 5,000,000 accounts (750 MB), more transactions in each step: pages of 8 KiB all over a table, and the log in front of it. */
const pgbench: Workload = {
  name: 'pgbench',
  label: 'pgbench on PostgreSQL',
  sizeBytes: 2 * GiB,
  prepare: String.raw`
ls /usr/lib/postgresql/*/bin/initdb > /dev/null 2>&1 || apt-get install -y --no-install-recommends postgresql
bin=$(dirname "$(ls -d /usr/lib/postgresql/*/bin/initdb | sort -V | tail -n 1)")
chmod 755 "$SCRATCH" "$MNT"
# Its parents may be closed to others; the server runs under an account of its own.
work=$(mktemp -d /tmp/lifeboat-bench-pg.XXXXXX)
chown postgres "$work"
mount --bind "$MNT" "$work"
chown postgres "$work"
as() { (cd "$work" && runuser -u postgres -- "$@"); }
as "$bin/initdb" -D "$work/data" -A trust > /dev/null
as "$bin/pg_ctl" -D "$work/data" -w -l "$work/log" -o "-c listen_addresses= -c unix_socket_directories=$work -c shared_buffers=256MB -c max_wal_size=512MB" start
as "$bin/createdb" -h "$work" bench
as "$bin/pgbench" -h "$work" -q -i -s 50 bench
as "$bin/psql" -h "$work" -c checkpoint bench`,
  steps: ['500', '2000', '10000', '10000', '40000'],
  step: String.raw`
as "$bin/pgbench" -h "$work" -n -c 4 -j 2 -t $((step_name / 4)) --random-seed="$step_number" bench
as "$bin/psql" -h "$work" -c checkpoint bench`,
  finish: String.raw`
as "$bin/pg_ctl" -D "$work/data" -w -m fast stop
umount "$work"
rmdir "$work"`,
};

/** Five files that grow side by side in small writes, 8 to 40 MB a step, and are rotated and compressed in the middle. */
const appendedLogs: Workload = {
  name: 'logs',
  label: 'appended logs',
  sizeBytes: 1 * GiB,
  prepare: String.raw`
need logrotate logrotate
need gzip gzip
mkdir "$MNT/log"
lines() { # seed, number of lines
  awk -v seed="$1" -v count="$2" 'BEGIN {
    srand(seed)
    split("GET POST PUT DELETE HEAD", verbs, " ")
    split("kernel sshd[812] systemd[1] cron[440] postfix/smtpd[2201] dhclient[377]", programs, " ")
    for (i = 0; i < count; i++) {
      when = sprintf("2026-11-%02dT%02d:%02d:%02d.%06dZ", 1 + seed % 28, int(i / 3600) % 24, int(i / 60) % 60, i % 60, int(rand() * 1000000))
      if (i % 3 == 0)
        printf "%s host%d %s: session %08x opened for user u%d by (uid=%d)\n", when, rand() * 20, programs[1 + int(rand() * 6)], rand() * 2147483647, rand() * 5000, rand() * 1000
      else if (i % 3 == 1)
        printf "10.%d.%d.%d - - [%s] \"%s /api/v2/items/%d?page=%d HTTP/1.1\" %d %d \"-\" \"Mozilla/5.0 (X11; Linux x86_64) rv:%d\"\n", rand() * 256, rand() * 256, rand() * 256, when, verbs[1 + int(rand() * 5)], rand() * 1000000, rand() * 90, 200 + 100 * int(rand() * 4), rand() * 100000, 90 + rand() * 50
      else
        printf "{\"time\":\"%s\",\"level\":\"info\",\"trace\":\"%08x%08x\",\"service\":\"svc-%d\",\"ms\":%.3f,\"message\":\"request done\"}\n", when, rand() * 2147483647, rand() * 2147483647, rand() * 40, rand() * 900
    }
  }'
}
grow() { # seed, rounds
  local seed=$1 rounds=$2 round file
  for round in $(seq "$rounds"); do
    for file in 1 2 3 4 5; do lines $((seed * 100000 + round * 10 + file)) $((300 * file)) >> "$MNT/log/service-$file.log"; done
    if [ $((round % 10)) -eq 0 ]; then sync -f "$MNT"; fi
  done
}
cat > "$SCRATCH/rotate" <<END
$MNT/log/*.log {
  rotate 20
  compress
  missingok
}
END
for old in 1 2 3; do
  grow "$old" 120
  logrotate -f -s "$SCRATCH/rotate.state" "$SCRATCH/rotate"
done
grow 9 120`,
  steps: ['grow-20', 'grow-40', 'rotate', 'grow-80', 'grow-100'],
  step: String.raw`
case $step_name in
  rotate) logrotate -f -s "$SCRATCH/rotate.state" "$SCRATCH/rotate" ;;
  grow-*) grow $((10 + step_number)) "$(echo "$step_name" | tr -dc 0-9)" ;;
esac`,
  finish: 'rm "$SCRATCH/rotate" "$SCRATCH/rotate.state"',
};

export const WORKLOADS: readonly Workload[] = [packageUpgrade, pgbench, appendedLogs];
