# shellcheck shell=sh
# Go, for servers that are built from their Go modules: the one on PATH where it is recent enough, else the official tool chain.

# What the modules' go.mod ask for. The tool chain as the Go module proxy carries it; the hash of its files was compared
# with the Go checksum database (h1:IkknVKy/4hLMR+ZwWfP4Oqhjz2sKqNtEXz1meP8P3Nc=).
GO_MINOR=25
GO_VERSION=1.25.5
GO_SHA256=8cea6783dab64d68b38f5b81ecd38d45155a3c06638991acc6af19e0fca80edb

# provide_go WHAT: sets GO to the path of a recent Go; the sentence of failure says WHAT needed it. Uses SCRATCH.
provide_go() {
  GO=$(recent_go) || fetch_go "$1"
}

recent_go() {
  found=$(command -v go) || return 1
  minor=$(GOTOOLCHAIN=local "$found" env GOVERSION 2>/dev/null | sed -n 's/^go1\.\([0-9]*\).*/\1/p')
  [ "${minor:-0}" -ge "$GO_MINOR" ] && echo "$found"
}

# Needed only for a build, so it is not kept.
fetch_go() {
  proxy=$(go env GOPROXY 2>/dev/null || true)
  proxy=${GOPROXY:-${proxy:-https://proxy.golang.org}}
  proxy=${proxy%%[,|]*}
  begin "fetching Go $GO_VERSION"
  module=golang.org/toolchain
  version=v0.0.1-go$GO_VERSION.linux-amd64
  logged go fetch "$proxy/$module/@v/$version.zip" "$SCRATCH/go.zip" "$GO_SHA256" ||
    die "$1, and Go $GO_VERSION, which could build it, could not be fetched from the Go proxy $proxy: set GOPROXY, or install Go 1.$GO_MINOR or newer, then start again."
  TOOLCHAIN=$(mktemp -d)
  trap 'rm -rf "$TOOLCHAIN"' EXIT
  unzip -q "$SCRATCH/go.zip" -d "$TOOLCHAIN"
  rm "$SCRATCH/go.zip"
  GO=$TOOLCHAIN/$module@$version/bin/go
  chmod +x "$GO" "$TOOLCHAIN/$module@$version"/pkg/tool/*/*
  finish
}
