/**
 * Disks come back: onto new images, onto devices, as a machine. What cannot work is refused before a byte is written; what
 * fails in the middle leaves no target that looks whole; what is killed at any moment is taken back.
 */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { Engine, RestoreSummary } from '@lifeboat/engine/verbs';
import type { OpId } from '@lifeboat/foundation/ids';
import type { ProgressSink } from '@lifeboat/foundation/progress';
import { MiB } from '@lifeboat/foundation/units';
import { configurationEnvironment } from '@lifeboat/runtime/configuration';
import { buildGuestImage } from '../support/guest-image.ts';
import { difference, run, TestHost, type TinyMachine, verbContext, virsh } from '../support/test-host.ts';
import { TINY_READY } from '../support/tiny-guest.ts';

const SIZE = 48 * MiB;
const DATA = { offsetBytes: 4 * MiB, lengthBytes: 20 * MiB };

let host: TestHost;
let machine: TinyMachine;
/** The source's disk at the instant of its point. */
let copy: string;
beforeAll(async () => {
  host = await TestHost.open('restore');
  machine = await host.machine({ name: 'source', disks: [{ sizeBytes: SIZE, random: [DATA] }] });
  await host.engine.captureMachine({ opId: host.op('backup'), machine: machine.name }, verbContext());
  [copy = ''] = machine.copies('source');
});
afterAll(async () => host?.close());
afterEach(({ task }) => {
  if (task.result?.state === 'fail') process.stderr.write(host.log.join(''));
});

interface Options {
  readonly opId?: OpId;
  readonly signal?: AbortSignal;
  readonly progress?: ProgressSink;
}

function ontoDevice(path: string, { opId = host.op('restore'), ...context }: Options = {}): Promise<RestoreSummary> {
  const target = { kind: 'device', disk: 'vda', path } as const;
  return host.engine.restoreDisks({ opId, machine: machine.name, target }, verbContext(context));
}

function intoDirectory(directory: string, name: string, options: Options = {}): Promise<RestoreSummary> {
  const { opId = host.op('restore'), ...context } = options;
  const target = { kind: 'directory', directory, name } as const;
  return host.engine.restoreDisks({ opId, machine: machine.name, target }, verbContext(context));
}

/** A raw file full of old data. */
function oldDisk(name: string, sizeBytes: number): string {
  const path = host.path(`${name}.raw`);
  writeFileSync(path, Buffer.alloc(sizeBytes, 0xaa));
  return path;
}

const sha256 = (path: string): string => run('sha256sum', path).split(' ')[0] ?? '';
const detail = (text: string): string => expect.stringContaining(text) as string;

describe('onto something that exists', () => {
  test('a larger raw file: the disk, its holes as zeros, and nothing behind its end', async () => {
    const path = oldDisk('larger', SIZE + 16 * MiB);
    const summary = await ontoDevice(path);
    expect(summary.disks).toEqual([{ name: 'vda', path, format: 'raw', sizeBytes: SIZE }]);
    const tail = readFileSync(path).subarray(SIZE);
    expect(tail.equals(Buffer.alloc(16 * MiB, 0xaa))).toBe(true);
    truncateSync(path, SIZE);
    expect(difference(path, copy)).toBeUndefined();
  });

  test('a block device', async () => {
    const path = oldDisk('device', SIZE);
    const device = run('losetup', '--find', '--show', path).trim();
    try {
      await ontoDevice(device);
    } finally {
      run('losetup', '--detach', device);
    }
    expect(difference(path, copy)).toBeUndefined();
  });

  test('a smaller target is refused with both sizes, and not written to', async () => {
    const path = oldDisk('smaller', SIZE - 512);
    const before = sha256(path);
    const refused = ontoDevice(path);
    await expect(refused).rejects.toMatchObject({
      code: 'engine.target-too-small',
      message: detail(`${SIZE - 512} bytes`),
    });
    await expect(refused).rejects.toMatchObject({ message: detail(`${SIZE} bytes`) });
    expect(sha256(path)).toBe(before);
  });

  test('a file that a loop device stands on, a disk of a running machine, a mounted device: refused, not written to', async () => {
    const looped = oldDisk('looped', SIZE);
    run('mkfs.ext4', '-q', '-F', looped);
    const before = sha256(looped);
    const device = run('losetup', '--find', '--show', looped).trim();
    try {
      await expect(ontoDevice(looped)).rejects.toMatchObject({ code: 'engine.target-in-use', message: detail(device) });
      const mountPoint = host.path('mounted');
      mkdirSync(mountPoint);
      run('mount', '-o', 'ro,noload', device, mountPoint);
      try {
        await expect(ontoDevice(device)).rejects.toMatchObject({
          code: 'engine.target-in-use',
          message: detail('mounted'),
        });
      } finally {
        run('umount', mountPoint);
      }
    } finally {
      run('losetup', '--detach', device);
    }
    expect(sha256(looped)).toBe(before);

    const other = await host.machine({ name: 'running', start: true, disks: [{ format: 'raw', sizeBytes: SIZE }] });
    const path = other.disks[0]?.path ?? '';
    const link = host.path('link.raw');
    symlinkSync(path, link);
    const alias = run('losetup', '--find', '--show', path).trim();
    try {
      for (const name of [path, link, alias]) {
        // The loop device is in use by the file's machine; the file besides by the loop device.
        await expect(ontoDevice(name)).rejects.toMatchObject({
          code: 'engine.target-in-use',
          message: detail(name === alias ? other.name : alias),
        });
      }
    } finally {
      run('losetup', '--detach', alias);
    }
    for (const name of [path, link]) {
      await expect(ontoDevice(name)).rejects.toMatchObject({
        code: 'engine.target-in-use',
        message: detail(other.name),
      });
    }
    await other.remove();
    expect(statSync(path).blocks * 512).toBeLessThan(MiB);
  });

  test('what is no target: missing, a directory, a disk the point does not have', async () => {
    await expect(ontoDevice(host.path('nowhere'))).rejects.toMatchObject({
      code: 'input.invalid',
      message: detail('ENOENT'),
    });
    await expect(ontoDevice(host.root)).rejects.toMatchObject({
      code: 'input.invalid',
      message: detail('neither a file nor'),
    });
    const target = { kind: 'device', disk: 'vdz', path: oldDisk('wrong', SIZE) } as const;
    await expect(
      host.engine.restoreDisks({ opId: host.op('restore'), machine: machine.name, target }, verbContext()),
    ).rejects.toMatchObject({ code: 'input.invalid', message: detail("'vdz'; it has: vda") });
  });
});

describe('as new images', () => {
  test('a name that is taken is refused, and what has it stays', async () => {
    const directory = host.path('taken');
    mkdirSync(directory);
    writeFileSync(join(directory, 'web-vda.qcow2'), 'mine');
    await expect(intoDirectory(directory, 'web')).rejects.toMatchObject({
      code: 'engine.target-exists',
      message: detail('web-vda.qcow2'),
    });
    expect(readFileSync(join(directory, 'web-vda.qcow2'), 'utf8')).toBe('mine');
    await expect(intoDirectory(directory, '../web')).rejects.toMatchObject({ code: 'input.invalid' });
  });

  test('two at once under one name: one is refused, the other has its disks', async () => {
    const directory = host.path('contested');
    const ends = await Promise.allSettled([intoDirectory(directory, 'web'), intoDirectory(directory, 'web')]);
    const [done] = ends.flatMap((end) => (end.status === 'fulfilled' ? [end.value] : []));
    const [refused] = ends.flatMap((end): unknown[] => (end.status === 'rejected' ? [end.reason] : []));
    expect(refused).toMatchObject({ code: 'engine.target-exists', message: detail('web-vda.qcow2') });
    expect(readdirSync(directory)).toEqual(['web-vda.qcow2']);
    expect(difference(done?.disks[0]?.path ?? '', copy)).toBeUndefined();
  });

  test('the same operation again gives the same disks, and restores nothing twice', async () => {
    const opId = host.op('restore');
    const first = await intoDirectory(host.path('once'), 'a', { opId });
    const written = statSync(first.disks[0]?.path ?? '').mtimeMs;
    expect(await intoDirectory(host.path('once'), 'a', { opId })).toEqual(first);
    expect(statSync(first.disks[0]?.path ?? '').mtimeMs).toBe(written);
    expect(difference(first.disks[0]?.path ?? '', copy)).toBeUndefined();
  });

  test('cancelled in the middle: no file, no server', async () => {
    const control = new AbortController();
    const restoring = intoDirectory(host.path('cancelled'), 'a', {
      signal: control.signal,
      progress: ({ doneBytes }) => doneBytes > 2 * MiB && control.abort(new Error('no longer wanted')),
    });
    await expect(restoring).rejects.toThrow('no longer wanted');
    expect(readdirSync(host.path('cancelled'))).toEqual([]);
    expect((await host.traces()).filter((trace) => !trace.startsWith('operation '))).toEqual([]);
  });
});

describe('where the space ends', () => {
  let small: string;
  beforeAll(() => {
    small = host.path('small');
    mkdirSync(small);
    run('mount', '-t', 'tmpfs', '-o', 'size=28m', 'tmpfs', small);
  });
  afterAll(() => void run('umount', small));

  test('known before: refused with both sizes', async () => {
    run('mount', '-o', 'remount,size=16m', small);
    const refused = intoDirectory(small, 'a');
    await expect(refused).rejects.toMatchObject({ code: 'disk.full', message: detail(`${16 * MiB} bytes) are free`) });
    await expect(refused).rejects.toMatchObject({ message: detail(`${DATA.lengthBytes + MiB} bytes`) });
    expect(readdirSync(small)).toEqual([]);
    run('mount', '-o', 'remount,size=28m', small);
  });

  test('taken by somebody else meanwhile: an error that says so, and no half file', async () => {
    const opId = host.op('restore');
    let filled = false;
    const restoring = intoDirectory(small, 'a', {
      opId,
      progress: () => {
        if (!filled) writeFileSync(join(small, 'other'), Buffer.alloc(18 * MiB));
        filled = true;
      },
    });
    await expect(restoring).rejects.toMatchObject({ code: 'disk.full', message: detail(join(small, 'a-vda.qcow2')) });
    expect(readdirSync(small)).toEqual(['other']);
    run('rm', join(small, 'other'));
    const { disks } = await intoDirectory(small, 'a', { opId });
    expect(difference(disks[0]?.path ?? '', copy)).toBeUndefined();
    run('rm', disks[0]?.path ?? '');
  });

  test('under a sparse file that was to be written to: it is said that it must not be used', async () => {
    const path = join(small, 'sparse.raw');
    writeFileSync(path, '');
    truncateSync(path, SIZE);
    await expect(ontoDevice(path)).rejects.toMatchObject({
      code: 'disk.full',
      message: detail(`${path} now holds a part of disk vda and must not be used`),
    });
    run('rm', path);
  });
});

describe('from a repository with a damaged pack', () => {
  let pack: string;
  const at = 8 * MiB;
  beforeAll(() => {
    pack = run('find', host.path('repository', 'data', 'packs'), '-type', 'f', '-size', '+8M').trim();
    flip(pack, at);
  });
  afterAll(() => flip(pack, at));

  test('new images: the error names pack, disk and place, and nothing is left', async () => {
    const restoring = intoDirectory(host.path('damaged'), 'a');
    await expect(restoring).rejects.toMatchObject({
      code: 'repository.chunk-damaged',
      context: expect.objectContaining({ pack: pack.slice(-64) }) as object,
    });
    await expect(restoring).rejects.toMatchObject({ message: expect.stringMatching(/disk vda .*\d{7,}/) as string });
    expect(readdirSync(host.path('damaged'))).toEqual([]);
  });

  test('an old device: besides, that it holds a part', async () => {
    const path = oldDisk('part', SIZE);
    await expect(ontoDevice(path)).rejects.toMatchObject({
      code: 'repository.chunk-damaged',
      message: detail(`${path} now holds a part of disk vda and must not be used`),
    });
  });
});

describe('as a machine', () => {
  test('restored, defined and started: it runs; its name is then taken; abandoned, it is gone with its disks', async () => {
    const name = `${host.prefix}-reborn`;
    const restoreOp = host.op('restore');
    const { pointId, disks } = await intoDirectory(host.path('reborn'), 'a', { opId: restoreOp });
    const opId = host.op('define');
    const input = { opId, name, machine: machine.name, pointId, disks, start: true };
    const defined = await host.engine.defineMachine(input, verbContext());
    expect(defined).toMatchObject({ name, started: true });
    const guest = await host.hypervisor.openRunning(defined.machineId);
    await expect
      .poll(() => guest.look().then(({ text }) => text), { timeout: 60_000, interval: 500 })
      .toContain(TINY_READY);
    await guest.close();
    // As after a lost answer: the machine that runs is the one that was asked for, and goes on.
    const started = virsh('domid', name);
    expect(await host.engine.defineMachine(input, verbContext())).toEqual(defined);
    expect(virsh('domid', name)).toBe(started);
    expect(virsh('domstate', name).trim()).toBe('running');

    const again = { ...input, opId: host.op('define') };
    await expect(host.engine.defineMachine(again, verbContext())).rejects.toMatchObject({
      code: 'engine.name-taken',
      message: detail(name),
    });
    await host.engine.abandonOperation({ opId: again.opId, removeTargets: true }, verbContext());
    expect(virsh('domstate', name).trim()).toBe('running');
    for (const op of [opId, restoreOp])
      await host.engine.abandonOperation({ opId: op, removeTargets: true }, verbContext());
    expect(virsh('list', '--all', '--name')).not.toContain(name);
    expect(readdirSync(host.path('reborn'))).toEqual([]);
  });
});

describe('killed at any moment, then abandoned', () => {
  const seed = Number(process.env['LIFEBOAT_TEST_SEED'] ?? Math.floor(Math.random() * 2 ** 31));
  let state = seed;
  /** 0 to 1; mulberry32. */
  function random(): number {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  }

  let linux: TinyMachine;
  let restored: RestoreSummary;
  let before: string[];
  beforeAll(async () => {
    process.stdout.write(`LIFEBOAT_TEST_SEED=${seed}\n`);
    const directory = host.path('linux');
    mkdirSync(directory);
    const image = buildGuestImage({ directory, format: 'qcow2' });
    linux = await host.machine({ name: 'linux', start: true, disks: [{ image }] });
    await host.engine.captureMachine({ opId: host.op('backup'), machine: linux.name }, verbContext());
    const target = { kind: 'directory', directory: host.path('linux-disks'), name: 'kept' } as const;
    restored = await host.engine.restoreDisks({ opId: host.op('restore'), machine: linux.name, target }, verbContext());
    before = await tracesButCheckpoints();
  });
  const tracesButCheckpoints = async (): Promise<string[]> =>
    (await host.traces()).filter((trace) => !trace.startsWith('checkpoint '));

  const verbs: readonly [verb: Exclude<keyof Engine, 'listPoints'>, input: () => object, limitMs: number][] = [
    ['captureMachine', () => ({ machine: linux.name }), 1500],
    [
      'bootTest',
      () => ({
        machine: linux.name,
        source: { kind: 'point', pointId: restored.pointId },
        readyPattern: 'never',
        timeoutMs: 60_000,
      }),
      5000,
    ],
    [
      'restoreDisks',
      () => ({ machine: linux.name, target: { kind: 'directory', directory: host.path('killed'), name: 'half' } }),
      1200,
    ],
    ['planRedeploy', () => onRestored(), 1000],
    ['applyRedeploy', () => onRestored(), 3500],
    ['compareFiles', () => ({ machine: linux.name, pointId: restored.pointId, disks: restored.disks }), 2500],
    [
      'defineMachine',
      () => ({
        name: `${host.prefix}-half`,
        machine: linux.name,
        pointId: restored.pointId,
        disks: restored.disks,
        start: true,
      }),
      600,
    ],
  ];
  const onRestored = () => ({
    machine: linux.name,
    pointId: restored.pointId,
    disks: restored.disks,
    profile: 'virtio-blk',
  });

  test.each(verbs)('%s', async (verb, input, limitMs) => {
    const opId = host.op('killed');
    const delayMs = Math.floor(random() * limitMs);
    const disk = restored.disks[0]?.path ?? '';
    const content = host.path(`before-${opId}.qcow2`);
    run('cp', '--sparse=always', disk, content);
    const child = startVerb(verb, { opId, ...input() });
    await child.until('begun');
    await sleep(delayMs);
    await child.kill();
    process.stdout.write(`${verb}: killed after ${delayMs} ms\n`);

    // Twice: compensation may be asked for again when its answer is lost.
    for (let times = 0; times < 2; times++) {
      await host.engine.abandonOperation({ opId, removeTargets: true }, verbContext());
    }
    expect(await tracesButCheckpoints()).toEqual(before);
    // A capture may have got to its end: the one checkpoint is that of the newest point there is.
    const newest = (await host.engine.listPoints(linux.name)).at(-1);
    expect(linux.checkpoints()).toEqual([`lb-${newest?.pointId}`]);
    expect(existsSync(host.path('killed', 'half-vda.qcow2'))).toBe(false);
    // An edit that was finished stays, with its journal; any other is as if it had never begun.
    if (existsSync(host.path('journals', opId))) run('cp', '--sparse=always', content, disk);
    expect(difference(disk, content)).toBeUndefined();
    run('rm', content);
    run('qemu-img', 'check', '-q', disk);
  });

  test('a capture that is killed while libvirt begins its job: libvirt survives what undoes it', async () => {
    for (let delayMs = 0; delayMs < 180; delayMs += 20) {
      const opId = host.op('killed');
      const child = startVerb('captureMachine', { opId, machine: linux.name });
      const record = host.path('ops', opId, 'qemu', 'backup-job.json');
      // On a busy host it may be over before it is looked for again.
      for (const beginMs = performance.now(); !existsSync(record) && !child.hasEnded(); await sleep(2)) {
        if (performance.now() - beginMs > 30_000) throw new Error('no backup job was begun');
      }
      await sleep(delayMs);
      await child.kill();
      await host.engine.abandonOperation({ opId, removeTargets: true }, verbContext());
      expect(await tracesButCheckpoints()).toEqual(before);
      const newest = (await host.engine.listPoints(linux.name)).at(-1);
      expect(linux.checkpoints()).toEqual([`lb-${newest?.pointId}`]);
    }
  });

  test('an edit that is killed while it writes to the disk is taken back', async () => {
    const opId = host.op('killed');
    const disk = restored.disks[0]?.path ?? '';
    const before = host.path(`before-${opId}.qcow2`);
    run('cp', '--sparse=always', disk, before);
    const child = startVerb('applyRedeploy', { opId, ...onRestored() });
    await child.until('phase edit');
    await child.kill();
    await host.engine.abandonOperation({ opId, removeTargets: false }, verbContext());
    expect(difference(disk, before)).toBeUndefined();
    expect(existsSync(host.path('journals', opId))).toBe(false);
    run('qemu-img', 'check', '-q', disk);
  });

  test('an edit that was finished is listed, its plan is evidence, and it is taken back, also after a kill -9 of that', async () => {
    const opId = host.op('edited');
    const disk = restored.disks[0]?.path ?? '';
    const content = host.path(`before-${opId}.qcow2`);
    run('cp', '--sparse=always', disk, content);
    const revert = { edit: opId, by: 'bytes', overwriteChanged: false } as const;
    await expect(host.engine.revertRedeploy(revert, verbContext())).rejects.toMatchObject({
      code: 'guest.journal-missing',
    });
    const { planPath, lines, editedFiles } = await host.engine.applyRedeploy({ opId, ...onRestored() }, verbContext());
    const plan = readFileSync(planPath, 'utf8');
    expect(plan).toBe(`${lines.join('\n')}\n`);
    const { records } = await host.engine.listEvidence(linux.name);
    const sha256 = createHash('sha256').update(plan).digest('hex');
    expect(records.at(-1)).toMatchObject({
      operation: 'redeploy',
      hardware: 'virtio-blk',
      artefacts: [{ name: 'plan.txt', sha256 }, { name: 'plan.json' }],
    });
    const listed = async () => (await host.engine.listRedeploys()).find((edit) => edit.opId === opId);
    expect(await listed()).toMatchObject({
      state: 'applied',
      about: { machine: linux.name, pointId: restored.pointId, profile: 'virtio-blk' },
      disks: [disk],
      editedFiles,
    });

    const child = startVerb('revertRedeploy', revert);
    await child.until('phase revert');
    await child.kill();
    // It may have been faster than the kill.
    const wasReverted = (await listed())?.state === 'reverted';
    const taken = await host.engine.revertRedeploy(revert, verbContext());
    expect(taken).toMatchObject({ disks: [disk], files: editedFiles, wasReverted });
    expect(difference(disk, content)).toBeUndefined();
    run('qemu-img', 'check', '-q', disk);
    expect(await host.engine.revertRedeploy(revert, verbContext())).toMatchObject({ wasReverted: true });
    expect((await listed())?.state).toBe('reverted');
    expect((await host.engine.listEvidence(linux.name)).records.at(-1)).toMatchObject({
      operation: 'revert',
      operationId: opId,
    });
    await host.engine.abandonOperation({ opId, removeTargets: false }, verbContext());
    expect(await tracesButCheckpoints()).toEqual(before);
  });

  /** The verb in a process of its own. */
  function startVerb(verb: string, input: object) {
    const script = fileURLToPath(new URL('../support/verb-child.ts', import.meta.url));
    const child = spawn(process.execPath, [script, verb, JSON.stringify(input)], {
      env: { ...process.env, ...configurationEnvironment(host.configuration) },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const gone = once(child, 'exit');
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    return {
      async until(line: string): Promise<void> {
        for (let next = await lines.next(); next.value !== line; next = await lines.next()) {
          if (next.done === true) throw new Error(`${verb} ended before it said '${line}'`);
        }
      },
      hasEnded: () => child.exitCode !== null,
      async kill(): Promise<void> {
        child.kill('SIGKILL');
        await gone;
      },
    };
  }
});

function flip(path: string, at: number): void {
  const file = openSync(path, 'r+');
  try {
    const byte = Buffer.alloc(1);
    readSync(file, byte, 0, 1, at);
    byte.writeUInt8(byte.readUInt8() ^ 0x10);
    writeSync(file, byte, 0, 1, at);
  } finally {
    closeSync(file);
  }
}
