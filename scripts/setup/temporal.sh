# shellcheck shell=sh
# Temporal's server, in this order: the one on PATH, the cached one, the official release, built from the Go module.

TEMPORAL_VERSION=1.5.1
# The release's archive for linux/amd64. (The newest version that `go install` can build: later ones replace modules.)
TEMPORAL_URL=https://github.com/temporalio/cli/releases/download/v$TEMPORAL_VERSION/temporal_cli_${TEMPORAL_VERSION}_linux_amd64.tar.gz
TEMPORAL_SHA256=ddc95e08b0b076efd4ea9733a3f488eb7d2be875f8834e616cd2a37358b4852d

# Sets LIFEBOAT_TEMPORAL to the server's path, unless the user has set it.
setup_temporal() {
  if [ -n "${LIFEBOAT_TEMPORAL:-}" ]; then
    [ -x "$LIFEBOAT_TEMPORAL" ] || die "LIFEBOAT_TEMPORAL is '$LIFEBOAT_TEMPORAL', which is not an executable file."
    return 0
  fi
  LIFEBOAT_TEMPORAL=$CACHE/temporal-$TEMPORAL_VERSION/temporal
  [ -x "$LIFEBOAT_TEMPORAL" ] || with_lock temporal provide_temporal
}

provide_temporal() {
  [ ! -x "$LIFEBOAT_TEMPORAL" ] || return 0
  rm -rf "$CACHE/temporal-$TEMPORAL_VERSION" # a link to a program that is gone
  scratch "temporal-$TEMPORAL_VERSION"
  if found=$(temporal_on_path); then
    # The link remembers that this one was looked at: asking it for its version costs 0.1 s each time.
    ln -s "$found" "$SCRATCH/temporal"
  else
    download_temporal || build_temporal
  fi
  mv "$SCRATCH" "$CACHE/temporal-$TEMPORAL_VERSION"
}

# Prints the path of a `temporal` 1.x that is not older than the tested one.
temporal_on_path() {
  found=$(command -v temporal) || return 1
  version=$("$found" --version 2>/dev/null | sed -n 's/^temporal version \([0-9.]*\).*/\1/p')
  case $version in 1.*) ;; *) return 1 ;; esac
  [ "$(printf '%s\n' "$TEMPORAL_VERSION" "$version" | sort -V | head -n 1)" = "$TEMPORAL_VERSION" ] && echo "$found"
}

download_temporal() {
  begin "fetching Temporal's server $TEMPORAL_VERSION"
  mkdir -p "$CACHE/logs"
  archive=$SCRATCH/archive.tar.gz
  if fetch "$TEMPORAL_URL" "$archive" "$TEMPORAL_SHA256" 2>"$CACHE/logs/temporal-download.log"; then
    tar -xzf "$archive" -C "$SCRATCH" temporal || die "$TEMPORAL_URL holds no file 'temporal'."
    rm "$archive"
    finish
  else
    printf 'not possible (%s)\n' "$(tail -n 1 "$CACHE/logs/temporal-download.log")" >&2
    return 1
  fi
}

build_temporal() {
  provide_go "Temporal's server could not be downloaded from github.com"
  begin "building Temporal's server $TEMPORAL_VERSION from source (about 3 minutes)"
  package=github.com/temporalio/cli
  logged temporal env GOBIN="$SCRATCH" GOTOOLCHAIN=local CGO_ENABLED=0 \
    "$GO" install -ldflags "-s -w -X $package/temporalcli.Version=$TEMPORAL_VERSION" "$package/cmd/temporal@v$TEMPORAL_VERSION" ||
    die "Temporal's server could neither be downloaded from github.com nor be built: put \`temporal\` $TEMPORAL_VERSION or a later 1.x on PATH, or set LIFEBOAT_TEMPORAL to its path, then start again."
  finish
}
