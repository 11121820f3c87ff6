/** One guest of the matrix, built, backed up and restored once; then each of its rows: moved onto the target, and started there. */
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { promisify } from 'node:util';
import type { RestoredDisk } from '@lifeboat/engine/verbs';
import type { PointId } from '@lifeboat/foundation/ids';
import { messageOf } from '@lifeboat/foundation/errors';
import { TestHost, verbContext } from '../support/test-host.ts';
import type { RowResult } from './results.ts';
import { guestId, profileOf, rowId, SOURCE_MODULES, targetClass, type GuestKind, type Row } from './rows.ts';

const BUILD = join(import.meta.dirname, '../../scripts/build-guest.sh');
const READY = 'GUEST-BOOT-OK';
/** Ten times what it takes on a quiet machine under software emulation. */
const READY_LIMIT_MS = 400_000;
/** A guest that does not find its root says so after 45 s on a quiet machine; dracut after three minutes. */
const BEFORE_LIMIT_MS = 300_000;
const MEMORY_MIB = 768;

interface Guest {
  readonly host: TestHost;
  readonly machine: string;
  readonly pointId: PointId;
  readonly disks: readonly RestoredDisk[];
}

/** Calls `done` after each row. `host` names what this run makes on the host. `shown`: classes of targets on which another run has seen that this guest does not start there. */
export async function runGuest(
  kind: GuestKind,
  rows: readonly Row[],
  run: { host: string; shown: Set<string>; done: (result: Omit<RowResult, 'date' | 'commit'>) => void },
): Promise<void> {
  const { shown, done } = run;
  const images = await buildGuest(kind);
  const host = await TestHost.open(run.host);
  try {
    const guest = await backUp(host, images);
    for (const row of rows) {
      const beganMs = performance.now();
      const result = await runRow(guest, row, !shown.has(targetClass(row.target))).catch((error: unknown) => ({
        outcome: 'failed' as const,
        added: 0,
        problem: messageOf(error).slice(0, 500),
      }));
      if (result.outcome === 'passed') shown.add(targetClass(row.target));
      done({ row: rowId(row), ...result, seconds: Math.round((performance.now() - beganMs) / 1000) });
    }
  } finally {
    await host.close();
  }
}

async function buildGuest({ release, initramfs, root, firmware, layout, source }: GuestKind): Promise<string[]> {
  const parameters = { release, initramfs, root, firmware, layout, modules: SOURCE_MODULES[source] };
  const args = Object.entries(parameters).flatMap(([name, value]) => [`--${name}`, value]);
  const build = spawn('bash', [BUILD, ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
  const [stdout, [code]] = await Promise.all([text(build.stdout), once(build, 'exit') as Promise<[number | null]>]);
  if (code !== 0) throw new Error(`the guest was not built: ${BUILD} ${args.join(' ')} ended with ${String(code)}`);
  return stdout.trim().split('\n');
}

const run = promisify(execFile);

async function copy(from: string, to: string): Promise<void> {
  await run('cp', ['--reflink=auto', '--sparse=always', from, to]);
}

async function backUp(host: TestHost, images: readonly string[]): Promise<Guest> {
  const disks: { image: string }[] = [];
  for (const [index, image] of images.entries()) {
    const path = host.path(`guest${index}.qcow2`);
    await copy(image, path);
    disks.push({ image: path });
  }
  const { name: machine } = await host.machine({ name: 'guest', disks, controller: 'ahci', memoryMiB: MEMORY_MIB });
  const { pointId } = await host.engine.captureMachine({ opId: host.op('backup'), machine }, verbContext());
  const target = { kind: 'directory', directory: host.path('restored'), name: 'guest' } as const;
  const restored = await host.engine.restoreDisks(
    { opId: host.op('restore'), machine, pointId, target },
    verbContext(),
  );
  return { host, machine, pointId, disks: restored.disks };
}

async function runRow(
  { host, machine, pointId, disks: restored }: Guest,
  row: Row,
  tryBefore: boolean,
): Promise<Pick<RowResult, 'outcome' | 'before' | 'after' | 'added' | 'problem'>> {
  const profile = profileOf(row);
  const directory = host.path('moved');
  await mkdir(directory, { mode: 0o711 });
  try {
    const disks: RestoredDisk[] = [];
    for (const disk of restored) {
      const path = join(directory, `${disk.name}.qcow2`);
      await copy(disk.path, path);
      disks.push({ ...disk, path });
    }
    const boot = (label: string, timeoutMs: number) => {
      const source = { kind: 'disks', pointId, disks } as const;
      const input = { opId: host.op(label), machine, source, profile, readyPattern: READY, timeoutMs };
      return host.engine.bootTest(input, verbContext());
    };
    const before = tryBefore ? (await boot('before', BEFORE_LIMIT_MS)).finding : undefined;
    const redeployed = await host.engine.applyRedeploy(
      { opId: host.op('redeploy'), machine, pointId, disks, profile },
      verbContext(),
    );
    const added = redeployed.installed.reduce((sum, { addedBytes }) => sum + (addedBytes > 0 ? 1 : 0), 0);
    const { finding: after, explanation } = await boot('after', READY_LIMIT_MS);
    const found = { ...(before === undefined ? {} : { before }), after, added };
    if (after !== 'ready') return { outcome: 'failed', ...found, problem: explanation };
    if (before === 'ready')
      return { outcome: 'failed', ...found, problem: `${guestId(row)} started without a redeploy` };
    return { outcome: 'passed', ...found };
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}
