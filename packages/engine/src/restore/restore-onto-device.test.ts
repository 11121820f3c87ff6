/** A restore onto real block devices, with a point that is a file: what is planned, what is refused, and what is then on the device. */
import { execFileSync } from 'node:child_process';
import { closeSync, openSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { openFileDevice } from '@lifeboat/disk/file-device';
import { systemClock } from '@lifeboat/foundation/clock';
import { newPointId, parseMachineId, parseOpId } from '@lifeboat/foundation/ids';
import { silentLog } from '@lifeboat/foundation/log';
import { systemRandom } from '@lifeboat/foundation/random';
import { MiB } from '@lifeboat/foundation/units';
import { openStateRoot } from '@lifeboat/host/state';
import { scratchDirectory } from '@lifeboat/host/testing/scratch';
import { beforeEach, expect, onTestFinished, test } from 'vitest';
import type { EngineDeps } from '../deps.ts';
import { planRestore } from './plan-restore.ts';
import { restoreDisks } from './restore-disks.ts';

const context = { signal: new AbortController().signal, progress: () => {} };
const layout = { scheme: 'keep', firmware: 'same', ids: 'kept', resize: 'last' } as const;
const SIZE = 60 * MiB;
const LARGER = 80 * MiB;
const run = (command: string, ...args: string[]): string =>
  execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });

let base: string;
let disk: string;
let deps: EngineDeps;
let count = 0;
beforeEach(async () => {
  base = await scratchDirectory();
  disk = join(base, 'disk.raw');
  closeSync(openSync(disk, 'w'));
  truncateSync(disk, SIZE);
  execFileSync('sfdisk', ['--quiet', '--no-reread', '--no-tell-kernel', disk], {
    input: 'label: gpt\nstart=2048, size=102400, type=linux\n',
  });
  run('mkfs.ext4', '-q', '-F', '-b', '4096', '-E', `offset=${MiB}`, disk, '50M');
  const stateRoot = join(base, 'state');
  await openStateRoot(stateRoot, systemRandom);
  const point = {
    machineId: parseMachineId('11111111-2222-4333-8444-555555555555'),
    pointId: newPointId(systemClock.nowMs(), systemRandom),
    machine: {},
    capture: { version: 1, machineName: 'web', instantMs: 0, consistency: 'crash', disks: [] },
    disks: [{ name: 'vda', root: { sizeBytes: SIZE } }],
    files: [],
  };
  // A disk to be read is asked for at once and opened when it is read.
  const openDisk = () => {
    const opened = openFileDevice(disk);
    return {
      sizeBytes: SIZE,
      read: async (at: number, into: Uint8Array) => (await opened).read(at, into),
      extents: async (range: { offsetBytes: number; lengthBytes: number }) => (await opened).extents(range),
      close: async () => (await opened).close(),
    };
  };
  deps = {
    clock: systemClock,
    random: systemRandom,
    log: silentLog,
    stateRoot,
    hostId: 'host',
    hypervisor: { listSources: async () => [] },
    repository: {
      points: async () => [{ ...point, state: 'readable' }],
      readPoint: async () => point,
      openDisk,
      appendEvidence: async () => {},
    },
  } as unknown as EngineDeps;
});

/** A device full of old data. */
function device(name: string, ...options: string[]): { path: string; device: string; untouched: () => boolean } {
  const path = join(base, `${name}.raw`);
  writeFileSync(path, Buffer.alloc(LARGER, 0xaa));
  const loop = run('losetup', ...options, '--find', '--show', path).trim();
  onTestFinished(() => void run('losetup', '--detach', loop));
  return { path, device: loop, untouched: () => readFileSync(path).every((byte) => byte === 0xaa) };
}

function restore(path: string, more: object) {
  count += 1;
  const target = {
    kind: 'device',
    disk: 'vda',
    path,
    ...('identity' in more ? { identity: more.identity } : {}),
  } as const;
  const how = 'layout' in more ? { layout } : {};
  const opId = parseOpId(`restore-${process.pid}-${count}`);
  return restoreDisks(deps, { opId, machine: 'web', target, ...how } as never, context);
}

test('a larger device gets the disk with its last partition and its filesystem grown; another one than was shown gets nothing', async () => {
  const [wanted, other] = [device('wanted'), device('other')];
  const target = { kind: 'device', disk: 'vda', path: wanted.device } as const;
  const planned = await planRestore(deps, { machine: 'web', target, layout }, context);
  expect(planned.lines[0]).toBe(`Target ${wanted.device}: 80.0 MiB; all it holds is overwritten`);
  expect(planned.lines.join('\n')).toContain('its filesystem grows with it');
  expect(wanted.untouched()).toBe(true);
  const { identity } = planned.device ?? {};
  for (const more of [{ identity, layout }, { identity }]) {
    await expect(restore(other.device, more)).rejects.toMatchObject({ code: 'engine.target-changed' });
  }
  expect(other.untouched()).toBe(true);

  const { layout: written, disks } = await restore(wanted.device, { identity, layout });
  expect(disks).toEqual([{ name: 'vda', path: wanted.device, format: 'raw', sizeBytes: LARGER }]);
  expect(written?.lines).toEqual(planned.lines.slice(1));
  expect(run('sgdisk', '--verify', wanted.path)).toContain('No problems found');
  const root = join(base, 'root.raw');
  writeFileSync(root, readFileSync(wanted.path).subarray(MiB, 79 * MiB));
  run('e2fsck', '-f', '-n', root);
  expect(run('dumpe2fs', '-h', root)).toMatch(/^Block count: +19968$/m);
});

test('sectors of another size: refused with a layout and without, and not written to', async () => {
  const large = device('large', '--sector-size', '4096');
  for (const more of [{}, { layout }]) {
    await expect(restore(large.device, more)).rejects.toMatchObject({
      code: 'layout.sector-size',
      message: expect.stringMatching(/512.*4096/) as string,
    });
  }
  expect(large.untouched()).toBe(true);
});
