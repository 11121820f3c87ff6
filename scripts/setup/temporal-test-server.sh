# shellcheck shell=sh
# Temporal's time-skipping test server: a Java program, as a checksummed list of jars and a launcher for it.

TEST_SERVER_VERSION=1.32.1

# Sets LIFEBOAT_TEMPORAL_TEST_SERVER to a launcher that takes the arguments of the SDK (a port first).
setup_temporal_test_server() {
  TEST_SERVER=$CACHE/temporal-test-server-$TEST_SERVER_VERSION
  LIFEBOAT_TEMPORAL_TEST_SERVER=$TEST_SERVER/temporal-test-server
  [ -x "$LIFEBOAT_TEMPORAL_TEST_SERVER" ] || with_lock temporal-test-server fetch_temporal_test_server
}

fetch_temporal_test_server() {
  [ ! -x "$LIFEBOAT_TEMPORAL_TEST_SERVER" ] || return 0
  begin "fetching Temporal's test server $TEST_SERVER_VERSION"
  scratch "temporal-test-server-$TEST_SERVER_VERSION"
  mkdir "$SCRATCH/lib"
  maven=${LIFEBOAT_MAVEN:-https://repo1.maven.org/maven2}
  jars=$ROOT/scripts/temporal-test-server.jars
  sed -n 's|^[0-9a-f]\{64\}  \(.*/\([^/]*\.jar\)\)$|url = "'"$maven"'/\1"\noutput = "'"$SCRATCH"'/lib/\2"|p' "$jars" >"$SCRATCH/curl"
  logged temporal-test-server curl --fail --silent --show-error --location --connect-timeout 5 --max-time 900 --retry 2 \
    --parallel --parallel-max 6 --config "$SCRATCH/curl" ||
    die "the test server's jars could not be fetched from $maven: set LIFEBOAT_MAVEN to a Maven repository that this machine reaches, then start again."
  sed -n 's|^\([0-9a-f]\{64\}\)  .*/|\1  |p' "$jars" >"$SCRATCH/sums"
  (cd "$SCRATCH/lib" && logged temporal-test-server sha256sum --check --strict --quiet ../sums) ||
    die "what $maven sent is not what scripts/temporal-test-server.jars lists: use another Maven repository (LIFEBOAT_MAVEN)."
  rm "$SCRATCH/curl" "$SCRATCH/sums"
  # One core and a short life: the small collector and the first compiler start fastest.
  cat >"$SCRATCH/temporal-test-server" <<'LAUNCHER'
#!/bin/sh
exec java -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Dorg.slf4j.simpleLogger.defaultLogLevel=warn \
  -cp "$(dirname "$0")/lib/*" io.temporal.testserver.TestServer "$@"
LAUNCHER
  chmod +x "$SCRATCH/temporal-test-server"
  mv "$SCRATCH" "$TEST_SERVER"
  finish
}
