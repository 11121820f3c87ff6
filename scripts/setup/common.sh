# shellcheck shell=sh
# What every step of the set-up uses. Sourced by launch.sh, which has set ROOT.
#
# Set-up talks on stderr, because stdout belongs to the command (`lifeboat points --json | jq`). A step that has nothing
# to do prints nothing; one that works prints one line: "fetching Node 24.21.0 ... done in 13 s".

CACHE=${LIFEBOAT_CACHE:-$HOME/.cache/lifeboat}
# How long one clone waits while another one does a step: the longest step builds Temporal's server.
LOCK_TIMEOUT_SECONDS=1800

die() {
  printf '\nlifeboat: %s\n' "$*" >&2
  exit 1
}

begin() {
  printf '%s ... ' "$*" >&2
  BEGAN=$(date +%s)
}

finish() {
  printf 'done in %s s\n' "$(($(date +%s) - BEGAN))" >&2
}

# logged NAME COMMAND...: runs it quietly; the log's end is shown only when it fails. Returns its status.
logged() {
  log=$CACHE/logs/$1.log
  shift
  mkdir -p "$CACHE/logs"
  if "$@" >"$log" 2>&1 </dev/null; then return 0; else
    status=$?
    printf 'failed.\n' >&2
    tail -n 15 "$log" >&2
    return "$status"
  fi
}

# with_lock NAME FUNCTION: one process at a time, over all clones that share the cache. FUNCTION looks again whether there
# is something to do: another clone may have done it while this one waited.
with_lock() {
  mkdir -p "$CACHE/locks"
  (
    flock -n 9 || {
      printf 'waiting for another set-up (%s)\n' "$1" >&2
      flock -w "$LOCK_TIMEOUT_SECONDS" 9 ||
        die "another set-up holds $CACHE/locks/$1 for $LOCK_TIMEOUT_SECONDS s; look for a hanging launch.sh."
    }
    "$2"
  ) 9>"$CACHE/locks/$1"
}

# fetch URL FILE SHA256: FILE appears only when it has the pinned content. Fails quickly where the host cannot be reached.
fetch() {
  curl --fail --silent --show-error --location --connect-timeout 5 --max-time 900 --retry 2 \
    --output "$2.part" "$1" || return 1
  fetched=$(sha256sum "$2.part" | cut -d' ' -f1)
  if [ "$fetched" != "$3" ]; then
    rm -f "$2.part"
    echo "$1 has the SHA-256 $fetched; expected is $3" >&2
    return 1
  fi
  mv "$2.part" "$2"
}

# scratch NAME: a fresh directory beside the final one, so that a finished step is one rename. Sets SCRATCH.
scratch() {
  rm -rf "$CACHE/$1".new.*
  SCRATCH=$CACHE/$1.new.$$
  mkdir -p "$SCRATCH"
}
