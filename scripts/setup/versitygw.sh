# shellcheck shell=sh
# versitygw, the S3 server of the tests: the cached one, or built from its Go module. One static program, so that a container
# needs nothing beside it.

VERSITYGW_VERSION=1.8.0

# Sets LIFEBOAT_VERSITYGW to the server's path, unless the user has set it.
setup_versitygw() {
  if [ -n "${LIFEBOAT_VERSITYGW:-}" ]; then
    [ -x "$LIFEBOAT_VERSITYGW" ] || die "LIFEBOAT_VERSITYGW is '$LIFEBOAT_VERSITYGW', which is not an executable file."
    return 0
  fi
  LIFEBOAT_VERSITYGW=$CACHE/versitygw-$VERSITYGW_VERSION/versitygw
  [ -x "$LIFEBOAT_VERSITYGW" ] || with_lock versitygw build_versitygw
}

build_versitygw() {
  [ ! -x "$LIFEBOAT_VERSITYGW" ] || return 0
  scratch "versitygw-$VERSITYGW_VERSION"
  provide_go "versitygw $VERSITYGW_VERSION is not here"
  begin "building versitygw $VERSITYGW_VERSION from source (about 2 minutes)"
  logged versitygw env GOBIN="$SCRATCH" GOTOOLCHAIN=local CGO_ENABLED=0 \
    "$GO" install -ldflags "-s -w" "github.com/versity/versitygw/cmd/versitygw@v$VERSITYGW_VERSION" ||
    die "versitygw could not be built; the whole output is in $CACHE/logs/versitygw.log. Put it somewhere yourself and set LIFEBOAT_VERSITYGW to its path, then start again."
  mv "$SCRATCH" "$CACHE/versitygw-$VERSITYGW_VERSION"
  finish
}
