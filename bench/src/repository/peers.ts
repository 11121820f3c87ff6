/**
 * Programs of others that back up the same image. Each is found on PATH or in the cache, or is made there once; one that cannot be
 * had is named in the table and left out.
 */
import { access, mkdir, readFile } from 'node:fs/promises';
import { constants } from 'node:fs';
import { join } from 'node:path';
import { messageOf } from '@lifeboat/foundation/errors';
import { runTool } from '@lifeboat/host/children';

/** Building rustic takes 500 crates: a quarter of an hour on two idle cores. */
const BUILD_LIMIT_MS = 90 * 60_000;
const ASK_LIMIT_MS = 60_000;

export interface Peer {
  readonly label: string;
  readonly program: Program;
  /** Shell, run as `sh -c` with the variables W (work), R, I (image), D (image's directory), T (target) and BIN. */
  readonly init: string;
  readonly backup: string;
  readonly restore: string;
  /** Reads everything and writes nothing, where it is compared. */
  readonly verify?: string;
}

export interface Program {
  readonly name: string;
  readonly version: string;
  /** Prints the version; its first line goes into the table. */
  readonly ask: string;
  /** Shell that leaves the program at "$OUT". */
  readonly provide: string;
}

const zstd: Program = { name: 'zstd', version: 'system', ask: '"$BIN" --version', provide: 'exit 1' };
const borg: Program = {
  name: 'borg',
  version: 'system',
  ask: '"$BIN" --version',
  provide: 'apt-get install -y --no-install-recommends borgbackup && ln -s /usr/bin/borg "$OUT"',
};
const rustic: Program = {
  name: 'rustic',
  version: '0.11',
  ask: '"$BIN" --version',
  provide:
    'cargo install rustic-rs --version "~0.11.0" --locked --root "$OUT.build" && mv "$OUT.build/bin/rustic" "$OUT" && rm -r "$OUT.build"',
};
const restic: Program = {
  name: 'restic',
  version: '0.19.1',
  ask: '"$BIN" version',
  provide: buildGoModule('github.com/restic/restic@v0.19.1', './cmd/restic'),
};
const kopia: Program = {
  name: 'kopia',
  version: '0.22.3',
  ask: '"$BIN" --version',
  provide: buildGoModule('github.com/kopia/kopia@v0.22.3', '.'),
};

const RESTIC = 'export RESTIC_PASSWORD=x RESTIC_REPOSITORY="$R" RESTIC_CACHE_DIR="$W/cache"; "$BIN" -q';
const RUSTIC = '"$BIN" --log-level error --no-progress --no-cache -r "$R" --password x';
const BORG = 'export BORG_PASSPHRASE=x BORG_BASE_DIR="$W/base" BORG_RELOCATED_REPO_ACCESS_IS_OK=yes; cd "$T" && "$BIN"';
const KOPIA =
  'export KOPIA_PASSWORD=x KOPIA_CHECK_FOR_UPDATES=false KOPIA_CONFIG_PATH="$W/kopia.config" KOPIA_CACHE_DIRECTORY="$W/cache" KOPIA_LOG_DIR="$W/log"; "$BIN" --no-progress';

/** The first one is what the goals are expressed in. */
export const PEERS: readonly Peer[] = [
  {
    label: 'zstd -1 -T2',
    program: zstd,
    init: 'mkdir -p "$R"',
    backup: '"$BIN" -1 -T2 -q "$I" -o "$R/disk.zst"',
    restore: '"$BIN" -d -q "$R/disk.zst" -o "$T/disk.raw"',
    verify: '"$BIN" -d -q -c "$R/disk.zst" > /dev/null',
  },
  {
    label: 'rustic',
    program: rustic,
    init: `${RUSTIC} init`,
    backup: `${RUSTIC} backup "$I"`,
    restore: `${RUSTIC} restore latest "$T"`,
  },
  {
    label: 'kopia, zstd-fastest',
    program: kopia,
    init: `${KOPIA} repository create filesystem --path "$R" && ${KOPIA} policy set --global --compression zstd-fastest`,
    backup: `${KOPIA} snapshot create "$D"`,
    restore: `${KOPIA} restore "$D" "$T"`,
  },
  {
    label: 'restic, fastest',
    program: restic,
    init: `${RESTIC} init`,
    backup: `${RESTIC} backup --compression fastest "$I"`,
    restore: `${RESTIC} restore latest --target "$T"`,
  },
  {
    label: 'restic, auto',
    program: restic,
    init: `${RESTIC} init`,
    backup: `${RESTIC} backup --compression auto "$I"`,
    restore: `${RESTIC} restore latest --target "$T"`,
  },
  {
    label: 'borg, lz4',
    program: borg,
    init: `${BORG} init -e repokey-blake2 "$R"`,
    backup: `${BORG} create -C lz4 "$R::disk" "$I"`,
    restore: `${BORG} extract --sparse "$R::disk"`,
  },
];

/** Where the program is and what it calls itself, or why it cannot be had. */
export async function findProgram(
  program: Program,
  input: { cacheRoot: string; signal: AbortSignal; say: (text: string) => void },
): Promise<{ path: string; version: string } | { missing: string }> {
  const { cacheRoot, signal, say } = input;
  const directory = join(cacheRoot, 'bench', 'peers');
  const cached = join(directory, `${program.name}-${program.version}`);
  try {
    let path = (await isExecutable(cached)) ? cached : undefined;
    if (path === undefined && program.version === 'system') path = await onPath(program.name, signal);
    if (path === undefined) {
      say(`getting ${program.name} ${program.version}`);
      await mkdir(directory, { recursive: true });
      await runTool('sh', ['-c', program.provide], { timeoutMs: BUILD_LIMIT_MS, signal, env: { OUT: cached } });
      path = cached;
    }
    const { stdout } = await runTool('sh', ['-c', program.ask], {
      timeoutMs: ASK_LIMIT_MS,
      signal,
      env: { BIN: path },
    });
    return { path, version: stdout.split('\n')[0]?.trim() ?? '' };
  } catch (error) {
    signal.throwIfAborted();
    return { missing: messageOf(error).split('\n')[0] ?? '' };
  }
}

/** The module's own directory is the main module there, so that its replacements count. */
function buildGoModule(module: string, packagePath: string): string {
  return `directory=$(go mod download -json ${module} | sed -n 's/.*"Dir": "\\(.*\\)".*/\\1/p') && [ -n "$directory" ] && cd "$directory" && CGO_ENABLED=0 go build -o "$OUT" ${packagePath}`;
}

async function onPath(name: string, signal: AbortSignal): Promise<string | undefined> {
  const { stdout, code } = await runTool('sh', ['-c', `command -v ${name}`], {
    timeoutMs: ASK_LIMIT_MS,
    signal,
    okCodes: [0, 1, 127],
  });
  return code === 0 ? stdout.trim() : undefined;
}

async function isExecutable(path: string): Promise<boolean> {
  try {
    await access(path, constants.X_OK);
    return (await readFile(path)).length > 0;
  } catch {
    // Not there, or half made: it is made anew.
    return false;
  }
}
