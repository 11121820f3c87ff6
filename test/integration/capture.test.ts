/**
 * A running machine becomes recovery points: each one is the disk as it was at its instant, and an incremental reads and
 * stores no more than what changed. The oracle is qemu-img: copies of the suspended machine's disks.
 */
import {
  copyFileSync,
  mkdirSync,
  openSync,
  closeSync,
  readFileSync,
  renameSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { LifeboatError } from '@lifeboat/foundation/errors';
import type { MachineId, PointId } from '@lifeboat/foundation/ids';
import { silentLog } from '@lifeboat/foundation/log';
import type { ProgressSink } from '@lifeboat/foundation/progress';
import { GiB, KiB, MiB } from '@lifeboat/foundation/units';
import { SCRATCH_FLOOR_BYTES } from '@lifeboat/engine/capture/scratch-watch';
import type { CapturedDisk } from '@lifeboat/engine/verbs';
import { packObject } from '@lifeboat/repository/format/names';
import { MapReader } from '@lifeboat/repository/read/map-reader';
import { openConfiguredRepository } from '@lifeboat/runtime/repository';
import { difference, run, TestHost, type TinyMachine, verbContext, virsh } from '../support/test-host.ts';

/** Of the repository, and of a dirty bitmap. */
const CHUNK = MiB;
const GRANULE = 64 * KiB;

let host: TestHost;
beforeAll(async () => {
  host = await TestHost.open('capture');
});
afterAll(async () => host?.close());
afterEach(({ task }) => {
  if (task.result?.state === 'fail') process.stderr.write(host.log.join(''));
});

interface CaptureOptions {
  readonly on?: TestHost;
  readonly progress?: ProgressSink;
  readonly signal?: AbortSignal;
}

async function capture(machine: TinyMachine, options: CaptureOptions = {}) {
  const { on = host, ...context } = options;
  return on.engine.captureMachine({ opId: on.op('backup'), machine: machine.name }, verbContext(context));
}

/** Every disk of the point, restored, reads as its copy. */
async function expectEqual(
  machine: TinyMachine,
  pointId: PointId,
  copies: readonly string[],
  on = host,
): Promise<void> {
  const opId = on.op('restore');
  const target = { kind: 'directory', directory: on.path('restored'), name: opId } as const;
  const { disks } = await on.engine.restoreDisks({ opId, machine: machine.name, pointId, target }, verbContext());
  expect(disks.map(({ name }) => name)).toEqual(machine.disks.map(({ name }) => name));
  expect(disks.map(({ path }, index) => difference(path, copies[index] ?? ''))).toEqual(disks.map(() => undefined));
  await on.engine.abandonOperation({ opId, removeTargets: true }, verbContext());
}

/** Indexes of the chunks that a bitmap of 64 KiB calls dirty after writes to these runs. */
function chunksOf(runs: readonly (readonly [offsetBytes: number, lengthBytes: number])[]): Set<number> {
  const chunks = new Set<number>();
  for (const [offset, length] of runs) {
    const end = Math.ceil((offset + length) / GRANULE) * GRANULE;
    for (let at = Math.floor(offset / GRANULE) * GRANULE; at < end; at += GRANULE) chunks.add(Math.floor(at / CHUNK));
  }
  return chunks;
}

/** Bytes QEMU has asked the kernel to read since it started: nothing of ours counts here. */
function readByQemu(pid: number): number {
  return Number(/^rchar: (\d+)$/m.exec(readFileSync(`/proc/${pid}/io`, 'utf8'))?.[1]);
}

function repositoryBytes(): number {
  return Number(run('du', '--bytes', '--summarize', host.path('repository')).split('\t')[0]);
}

/** Flips a bit of the sealed chunk, where it lies. */
async function damageChunk(machineId: MachineId, pointId: PointId, chunk: number): Promise<void> {
  const repository = await openConfiguredRepository(host.configuration, { log: silentLog });
  try {
    const { pages, superblock: geometry } = repository.core;
    const [disk] = (await repository.readPoint(machineId, pointId)).disks;
    if (!disk) throw new Error(`point ${pointId} has no disk`);
    const place = await new MapReader({ root: disk.root, pages, geometry, what: disk.name }).place(chunk);
    if (typeof place === 'string') throw new Error(`chunk ${chunk} is ${place}`);
    const path = host.path('repository', packObject(place.pack));
    const bytes = readFileSync(path);
    bytes[place.offsetBytes + 100] = (bytes[place.offsetBytes + 100] ?? 0) ^ 1;
    writeFileSync(path, bytes);
  } finally {
    await repository.close();
  }
}

const ours = (pointId: PointId): string[] => [`lb-${pointId}`];

describe('a running machine with two disks', () => {
  const DATA = [
    { offsetBytes: 16 * MiB, lengthBytes: 96 * MiB },
    { offsetBytes: 900 * MiB, lengthBytes: 24 * MiB },
  ];
  let machine: TinyMachine;
  beforeAll(async () => {
    machine = await host.machine({
      name: 'two-disks',
      start: true,
      disks: [
        { sizeBytes: 2 * GiB, random: DATA },
        { sizeBytes: GiB + 192 * KiB, random: [{ offsetBytes: 512 * MiB, lengthBytes: 18 * MiB }] },
      ],
    });
  });

  test('first all of it, then only what changed: read, stored, and as it was at each instant', async () => {
    const first = machine.copies('first');
    const full = await capture(machine);
    expect(full.disks.map(({ method }) => method)).toEqual(['full', 'full']);
    expect(full.consistency).toBe('crash');
    const dataBytes = full.disks.map(({ readBytes }) => readBytes);
    // The boot sector's chunk, and the data: holes are not read.
    expect(dataBytes).toEqual([121 * MiB, 18 * MiB]);
    expect(machine.checkpoints()).toEqual(ours(full.pointId));
    expect(machine.hasJob()).toBe(false);

    const writes = [
      // A byte; a run over a chunk's border; a new place; the last, odd chunk of the second disk.
      [
        [20 * MiB + 4097, 1],
        [31 * MiB - 700, 1400],
        [1500 * MiB + 70_000, 3 * MiB],
      ],
      [
        [512 * MiB, 100],
        [GiB + 100 * KiB, 92 * KiB],
      ],
    ] as const;
    writes.forEach((runs, disk) => runs.forEach(([offset, length]) => machine.write(disk, offset, length)));
    const second = machine.copies('second');
    const stored = repositoryBytes();
    const readBefore = readByQemu(machine.qemuPid);
    const incremental = await capture(machine);
    const readByItself = readByQemu(machine.qemuPid) - readBefore;

    let expectedBytes = 0;
    incremental.disks.forEach((disk, index) => {
      const sizeBytes = index === 0 ? 2 * GiB : GiB + 192 * KiB;
      const touched = [...chunksOf(writes[index] ?? [])].map((chunk) => Math.min(CHUNK, sizeBytes - chunk * CHUNK));
      const touchedBytes = touched.reduce((total, bytes) => total + bytes, 0);
      expect(disk).toMatchObject({ method: 'incremental', reason: '', touchedBytes, auditedChunks: 16 });
      expect(disk.auditedBytes).toBe(16 * MiB);
      expect(disk.readBytes).toBe(touchedBytes + disk.auditedBytes);
      expectedBytes += disk.readBytes;
    });
    // What QEMU itself read for it: the holes in touched chunks cost nothing, its own metadata a little.
    expect(readByItself).toBeLessThan(expectedBytes + 2 * MiB);
    expect(readByItself).toBeGreaterThan(32 * MiB);
    // Random data does not compress: four chunks in which a little changed, and what is new.
    const newBytes = 4 * MiB + 3 * MiB + 92 * KiB;
    expect(repositoryBytes() - stored).toBeGreaterThan(newBytes);
    expect(repositoryBytes() - stored).toBeLessThan(newBytes + 256 * KiB);
    expect(incremental.parentPointId).toBe(full.pointId);
    expect(machine.checkpoints()).toEqual(ours(incremental.pointId));

    await expectEqual(machine, full.pointId, first);
    await expectEqual(machine, incremental.pointId, second);
    expect(incremental.disks.map(({ storedBytes }) => storedBytes > 0)).toEqual([true, true]);
  });

  test('nothing changed: nothing but the audit is read, and a second look finds new chunks to audit', async () => {
    const copies = machine.copies('idle');
    const stored = repositoryBytes();
    const point = await capture(machine);
    for (const disk of point.disks) {
      expect(disk).toMatchObject({ method: 'incremental', changedBytes: 0, touchedBytes: 0, readBytes: 16 * MiB });
    }
    expect(repositoryBytes() - stored).toBeLessThan(256 * KiB);
    await expectEqual(machine, point.pointId, copies);
  });

  test('a block lost in the repository is read again, it alone, and the points that share it are whole again', async () => {
    const copies = machine.copies('healed');
    const older = await capture(machine);
    const check = { machine: machine.name, pointId: older.pointId, level: 'content' } as const;
    await damageChunk(older.machineId, older.pointId, 905);
    expect((await host.engine.checkPoint(check, verbContext())).damage).toMatchObject([
      { disk: 'vda', offsetBytes: 905 * MiB, lengthBytes: MiB },
    ]);
    const point = await capture(machine);
    expect(point.healedChunks).toBe(1);
    expect(point.disks.map(({ method }) => method)).toEqual(['incremental', 'incremental']);
    expect(point.disks.map(({ readBytes }) => readBytes)).toEqual([17 * MiB, 16 * MiB]);
    expect((await host.engine.checkPoint(check, verbContext())).damage).toEqual([]);
    await expectEqual(machine, older.pointId, copies);
    await expectEqual(machine, point.pointId, copies);
  });

  test('zeros written and blocks given back are in the point', async () => {
    machine.qemuIo(0, `write -z ${40 * MiB} ${2 * MiB}`);
    machine.qemuIo(0, `discard ${60 * MiB} ${4 * MiB}`);
    machine.qemuIo(1, `write -z ${513 * MiB + 300 * KiB} 128k`);
    const copies = machine.copies('zeros');
    const point = await capture(machine);
    expect(point.disks.map(({ method }) => method)).toEqual(['incremental', 'incremental']);
    await expectEqual(machine, point.pointId, copies);
  });

  test('writes during the backup are in the next point, not in this one; both disks show one instant', async () => {
    machine.write(0, 100 * MiB, 8 * MiB);
    const before = machine.copies('before');
    let wrote = false;
    const during = await capture(machine, {
      progress: ({ doneBytes }) => {
        if (wrote || doneBytes === 0) return;
        wrote = true;
        // The second disk has not been looked at yet; the first is being read.
        machine.write(0, 104 * MiB, 6 * MiB);
        machine.write(0, 17 * MiB, 64 * KiB);
        machine.write(1, 520 * MiB, 3 * MiB);
      },
    });
    expect(wrote).toBe(true);
    await expectEqual(machine, during.pointId, before);

    const after = machine.copies('after');
    const next = await capture(machine);
    expect(next.disks.map(({ method, changedBytes }) => [method, changedBytes])).toEqual([
      ['incremental', 6 * MiB + 64 * KiB],
      ['incremental', 3 * MiB],
    ]);
    await expectEqual(machine, next.pointId, after);
  });

  test('a second backup of the machine is refused while one runs, and does not disturb it', async () => {
    machine.write(0, 20 * MiB, 16 * MiB);
    const copies = machine.copies('busy');
    let second: Promise<unknown> | undefined;
    const point = await capture(machine, {
      progress: () => {
        second ??= capture(machine).catch((error: unknown) => error);
      },
    });
    expect(await second).toMatchObject({
      code: 'engine.machine-busy',
      message: expect.stringContaining('another operation of Lifeboat') as string,
    });
    await expectEqual(machine, point.pointId, copies);
  });

  test("another program's backup job is left alone", async () => {
    const directory = host.path('foreign');
    mkdirSync(directory, { mode: 0o777 });
    run('chmod', '777', directory);
    const xml = host.path('foreign.xml');
    writeFileSync(
      xml,
      `<domainbackup mode='pull'><server transport='unix' socket='${directory}/nbd.sock'/><disks>
         <disk name='vda' backup='yes' type='file'><scratch file='${directory}/a'/></disk>
         <disk name='vdb' backup='no'/></disks></domainbackup>`,
    );
    virsh('backup-begin', machine.name, xml);
    const job = virsh('backup-dumpxml', machine.name);
    const checkpoints = machine.checkpoints();
    try {
      await expect(capture(machine)).rejects.toMatchObject({
        code: 'engine.machine-busy',
        message: expect.stringContaining('another program') as string,
      });
      expect(virsh('backup-dumpxml', machine.name)).toBe(job);
      expect(machine.checkpoints()).toEqual(checkpoints);
    } finally {
      virsh('domjobabort', machine.name);
    }
    expect((await capture(machine)).disks[0]?.method).toBe('incremental');
  });

  test('cancelled in the middle: no job, no checkpoint, no scratch, no point; the next one is incremental', async () => {
    machine.write(0, 20 * MiB, 32 * MiB);
    const [checkpoint] = machine.checkpoints();
    const points = await host.engine.listPoints(machine.name);
    const control = new AbortController();
    let jobs = 0;
    await expect(
      capture(machine, {
        signal: control.signal,
        progress: ({ doneBytes }) => {
          if (doneBytes === 0 || control.signal.aborted) return;
          jobs += machine.hasJob() ? 1 : 0;
          control.abort(new Error('no longer wanted'));
        },
      }),
    ).rejects.toThrow('no longer wanted');
    expect(jobs).toBe(1);
    expect(machine.hasJob()).toBe(false);
    expect(machine.checkpoints()).toEqual([checkpoint]);
    expect(run('find', host.path('ops'), '-name', 'scratch-*', '-o', '-type', 's')).toBe('');
    expect(await host.engine.listPoints(machine.name)).toEqual(points);

    const copies = machine.copies('cancelled');
    const point = await capture(machine);
    expect(point.disks[0]).toMatchObject({ method: 'incremental', changedBytes: 32 * MiB });
    await expectEqual(machine, point.pointId, copies);
  });
});

describe('change tracking that is not there, or not to be believed', () => {
  const SMALL = { sizeBytes: 256 * MiB, random: [{ offsetBytes: 4 * MiB, lengthBytes: 40 * MiB }] };
  let machine: TinyMachine;
  beforeAll(async () => {
    machine = await host.machine({ name: 'doubtful', start: true, disks: [SMALL] });
    await capture(machine);
  });

  /** Two backups after a loss, with a small write before each, and the first one's content checked. */
  async function twoBackups(): Promise<[first: CapturedDisk | undefined, second: CapturedDisk | undefined]> {
    machine.write(0, 6 * MiB, 10_000);
    const copies = machine.copies(`copy-${Math.random()}`);
    const first = await capture(machine);
    await expectEqual(machine, first.pointId, copies);
    machine.write(0, 7 * MiB, 10_000);
    const second = await capture(machine);
    expect(machine.checkpoints()).toEqual(ours(second.pointId));
    return [first.disks[0], second.disks[0]];
  }

  /** Everything is read and compared, little is stored, and the reason is told; then tracking works again. */
  const compared = (reason: RegExp, storedBytes = 1.1 * MiB) => [
    {
      method: 'comparison',
      readBytes: 41 * MiB,
      reason: expect.stringMatching(reason) as string,
      storedBytes: expect.toSatisfy((bytes: number) => bytes < storedBytes) as number,
    },
    { method: 'incremental', reason: '', touchedBytes: MiB },
  ];

  test('QEMU was killed', async () => {
    await machine.killQemu();
    await machine.start();
    expect(await twoBackups()).toMatchObject(compared(/dirty bitmap of vda since p\S+ is missing or inconsistent/));
  });

  test('somebody removed the bitmap', async () => {
    await machine.powerOff();
    run('qemu-img', 'bitmap', '--remove', machine.disks[0]?.path ?? '', machine.checkpoints()[0] ?? '');
    await machine.start();
    expect(await twoBackups()).toMatchObject(compared(/dirty bitmap of vda since p\S+ is missing or inconsistent/));
  });

  test('another file lies in the place of the disk, bitmap and all', async () => {
    await machine.powerOff();
    const path = machine.disks[0]?.path ?? '';
    copyFileSync(path, `${path}.other`);
    // Not by a program that keeps the bitmap.
    scribble(`${path}.other`, [5, 9]);
    renameSync(`${path}.other`, path);
    await machine.start();
    expect(await twoBackups()).toMatchObject(compared(/was replaced by another one/, 3.1 * MiB));
  });

  test('the disk grew', async () => {
    virsh('blockresize', machine.name, 'vda', `${257 * MiB}B`);
    expect(await twoBackups()).toMatchObject(compared(/size changed from 268435456 to 269484032 bytes/));
  });

  test('a write through QEMU while the machine is off: the bitmap in the image has it', async () => {
    await machine.powerOff();
    run('qemu-io', '-f', 'qcow2', '-c', 'write -P 77 9M 70k', machine.disks[0]?.path ?? '');
    await machine.start();
    const copies = machine.copies('by-qemu-io');
    const point = await capture(machine);
    expect(point.disks[0]).toMatchObject({ method: 'incremental', changedBytes: 2 * GRANULE });
    await expectEqual(machine, point.pointId, copies);
  });

  test('writes behind the back of QEMU: only the audit sees them, and then nothing is believed', async () => {
    await machine.powerOff();
    // Every other chunk: eight in a row, as the sweep takes them, hold four.
    scribble(
      machine.disks[0]?.path ?? '',
      [4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30, 32, 34, 36, 38, 40, 42],
    );
    await machine.start();
    const copies = machine.copies('lie');
    const point = await capture(machine);
    expect(point.disks[0]?.reason).toMatch(
      /change tracking missed a write: \d+ of 16 audited chunks differ, the first at/,
    );
    expect(point.disks[0]).toMatchObject({ method: 'comparison', auditedChunks: 16, readBytes: (41 + 16) * MiB });
    await expectEqual(machine, point.pointId, copies);
    expect((await capture(machine)).disks[0]?.method).toBe('incremental');
  });

  test('a machine that is off is read without starting it, by the bitmap in its image', async () => {
    machine.write(0, 11 * MiB, 4096);
    await machine.powerOff();
    const copies = machine.copies('off');
    const point = await capture(machine);
    expect(point.disks[0]).toMatchObject({ method: 'incremental', touchedBytes: MiB });
    expect(virsh('domstate', machine.name).trim()).toBe('shut off');
    await expectEqual(machine, point.pointId, copies);
    await machine.start();
    expect(await twoBackups()).toMatchObject(compared(/no checkpoint of point/));
  });

  test('raw disks are read whole and compared, beside one that is tracked', async () => {
    const mixed = await host.machine({
      name: 'mixed',
      start: true,
      disks: [
        { format: 'raw', sizeBytes: 64 * MiB, random: [{ offsetBytes: 8 * MiB, lengthBytes: 16 * MiB }] },
        { sizeBytes: 64 * MiB, random: [{ offsetBytes: 8 * MiB, lengthBytes: 4 * MiB }] },
      ],
    });
    await capture(mixed);
    mixed.write(0, 9 * MiB, 5000);
    mixed.write(1, 9 * MiB, 5000);
    const copies = mixed.copies('mixed');
    const point = await capture(mixed);
    expect(point.disks).toMatchObject([
      { method: 'comparison', reason: 'raw images hold no dirty bitmap', readBytes: 17 * MiB },
      { method: 'incremental', touchedBytes: MiB },
    ]);
    expect(point.disks[0]?.storedBytes).toBeLessThan(1.1 * MiB);
    await expectEqual(mixed, point.pointId, copies);
    await mixed.remove();
  });

  test('a machine of raw disks alone has no checkpoint, and its backups work', async () => {
    const raw = await host.machine({
      name: 'raw',
      start: true,
      disks: [{ format: 'raw', sizeBytes: 32 * MiB, random: [{ offsetBytes: 8 * MiB, lengthBytes: 8 * MiB }] }],
    });
    await capture(raw);
    raw.write(0, 20 * MiB, 512);
    const copies = raw.copies('raw');
    const point = await capture(raw);
    expect(point.disks[0]).toMatchObject({ method: 'comparison', reason: 'raw images hold no dirty bitmap' });
    expect(raw.checkpoints()).toEqual([]);
    await expectEqual(raw, point.pointId, copies);
    await raw.remove();
  });
});

describe('what cannot be backed up', () => {
  test('a machine that does not exist', async () => {
    const opId = host.op('unknown');
    await expect(host.engine.captureMachine({ opId, machine: 'no-such-machine' }, verbContext())).rejects.toMatchObject(
      { code: 'hypervisor.no-such-machine', message: expect.stringContaining('no-such-machine') as string },
    );
    await host.engine.abandonOperation({ opId, removeTargets: true }, verbContext());
  });

  test('a machine without a disk', async () => {
    const machine = await host.machine({ name: 'diskless', start: true, disks: [] });
    await expect(capture(machine)).rejects.toMatchObject({ code: 'engine.no-disk' });
    expect(machine.hasJob()).toBe(false);
  });

  test('a machine whose disk is gone', async () => {
    const machine = await host.machine({ name: 'lost', disks: [{ sizeBytes: 16 * MiB }] });
    const path = machine.disks[0]?.path ?? '';
    renameSync(path, `${path}.away`);
    await expect(capture(machine)).rejects.toMatchObject({
      code: 'hypervisor.disk-unreadable',
      message: expect.stringContaining(path) as string,
    });
  });
});

describe('a repository on a disk that is full', () => {
  let small: TestHost;
  let machine: TinyMachine;
  beforeAll(async () => {
    const directory = host.path('small-repository');
    mkdirSync(directory);
    run('mount', '-t', 'tmpfs', '-o', 'size=40m', 'tmpfs', directory);
    small = await TestHost.open('full', { repositoryDirectory: directory });
    machine = await small.machine({
      name: 'big',
      start: true,
      disks: [{ sizeBytes: 256 * MiB, random: [{ offsetBytes: 8 * MiB, lengthBytes: 80 * MiB }] }],
    });
  });
  afterAll(async () => small?.close());

  test('says so, shows no point, and goes on with the same instant once there is room', async () => {
    const copies = machine.copies('full');
    const input = { opId: small.op('backup'), machine: machine.name };
    await expect(small.engine.captureMachine(input, verbContext())).rejects.toMatchObject({
      code: 'disk.full',
      message: expect.stringContaining('small-repository') as string,
    });
    expect(await small.engine.listPoints()).toEqual([]);

    machine.write(0, 10 * MiB, MiB);
    run('mount', '-o', 'remount,size=200m', host.path('small-repository'));
    const point = await small.engine.captureMachine(input, verbContext());
    expect(point.disks[0]?.readBytes).toBe(81 * MiB);
    await expectEqual(machine, point.pointId, copies, small);
    const [checkpoint] = machine.checkpoints();
    expect(checkpoint).toBe(`lb-${point.pointId}`);
    expect((await capture(machine, { on: small })).disks[0]).toMatchObject({
      method: 'incremental',
      changedBytes: MiB,
    });
  });

  test('given up, it leaves the machine as it was', async () => {
    const checkpoints = machine.checkpoints();
    machine.write(0, 100 * MiB, 2 * MiB);
    run(
      'mount',
      '-o',
      `remount,size=${statfsUsed(host.path('small-repository')) + 64 * KiB}`,
      host.path('small-repository'),
    );
    const opId = small.op('backup');
    await expect(small.engine.captureMachine({ opId, machine: machine.name }, verbContext())).rejects.toMatchObject({
      code: 'disk.full',
    });
    expect(await small.engine.listPoints(machine.name)).toHaveLength(2);
    await small.engine.abandonOperation({ opId, removeTargets: true }, verbContext());
    expect(machine.hasJob()).toBe(false);
    expect(machine.checkpoints()).toEqual(checkpoints);
    expect((await small.traces()).filter((trace) => trace.includes(opId))).toEqual([]);
  });
});

describe('a scratch filesystem that fills up', () => {
  const OPS_BYTES = SCRATCH_FLOOR_BYTES + 16 * MiB;
  let small: TestHost;
  let machine: TinyMachine;
  beforeAll(async () => {
    small = await TestHost.open('scratch');
    run('mount', '-t', 'tmpfs', '-o', `mode=711,size=${OPS_BYTES}`, 'tmpfs', small.path('ops'));
    machine = await small.machine({
      name: 'busy',
      start: true,
      disks: [{ sizeBytes: 256 * MiB, random: [{ offsetBytes: 8 * MiB, lengthBytes: 80 * MiB }] }],
    });
  });
  afterAll(async () => small?.close());

  test('ends the backup, not the machine; with more room the same operation goes on', async () => {
    const input = { opId: small.op('backup'), machine: machine.name };
    let wrote = false;
    const progress: ProgressSink = ({ doneBytes }) => {
      if (wrote || doneBytes === 0) return;
      wrote = true;
      machine.write(0, 10 * MiB, 24 * MiB);
    };
    await expect(small.engine.captureMachine(input, verbContext({ progress }))).rejects.toMatchObject({
      code: 'disk.full',
      message: expect.stringContaining(small.path('ops', input.opId)) as string,
    });
    expect(virsh('domstate', machine.name).trim()).toBe('running');
    expect(machine.hasJob()).toBe(false);
    expect(run('find', small.path('ops'), '-name', 'scratch-*', '-o', '-type', 's')).toBe('');
    expect(await small.engine.listPoints()).toEqual([]);

    run('mount', '-o', `remount,size=${OPS_BYTES * 2}`, small.path('ops'));
    const copies = machine.copies('room');
    const point = await small.engine.captureMachine(input, verbContext());
    expect(machine.checkpoints()).toEqual(ours(point.pointId));
    await expectEqual(machine, point.pointId, copies, small);
  });

  test('ends a job that nobody reads from between two attempts, and leaves the next one none to go on with', async () => {
    const opId = small.op('backup');
    const stop = new AbortController();
    const letGo = new LifeboatError('host.operation-superseded', 'as if it had been killed');
    const context = verbContext({ signal: stop.signal, progress: () => stop.abort(letGo) });
    machine.write(0, 10 * MiB, 8 * MiB);
    await expect(small.engine.captureMachine({ opId, machine: machine.name }, context)).rejects.toThrow(
      'as if it had been killed',
    );
    expect(machine.hasJob()).toBe(true);
    run('mount', '-o', `remount,size=${OPS_BYTES}`, small.path('ops'));
    const over = new AbortController();
    const watching = small.runtime.hostCare.watchJobs(over.signal);
    machine.write(0, 20 * MiB, 24 * MiB);
    await expect.poll(() => machine.hasJob(), { timeout: 30_000 }).toBe(false);
    over.abort();
    await watching;
    expect(virsh('domstate', machine.name).trim()).toBe('running');
    expect(run('find', small.path('ops'), '-name', 'scratch-*', '-o', '-type', 's')).toBe('');

    run('mount', '-o', `remount,size=${OPS_BYTES * 2}`, small.path('ops'));
    const copies = machine.copies('again');
    const point = await small.engine.captureMachine({ opId, machine: machine.name }, verbContext());
    expect(machine.checkpoints()).toEqual(ours(point.pointId));
    await expectEqual(machine, point.pointId, copies, small);
  });

  test('too small from the beginning, it is no place for a job', async () => {
    run('mount', '-o', `remount,size=${SCRATCH_FLOOR_BYTES - MiB}`, small.path('ops'));
    const checkpoints = machine.checkpoints();
    await expect(capture(machine, { on: small })).rejects.toMatchObject({
      code: 'disk.full',
      message: expect.stringContaining(machine.name) as string,
    });
    expect(machine.hasJob()).toBe(false);
    expect(machine.checkpoints()).toEqual(checkpoints);
  });
});

/** Changes a byte in each of these chunks of a qcow2, past QEMU: at its place in the file. */
function scribble(path: string, chunks: readonly number[]): void {
  const map = JSON.parse(run('qemu-img', 'map', '--output=json', '-f', 'qcow2', path)) as {
    start: number;
    length: number;
    data: boolean;
    offset?: number;
  }[];
  const file = openSync(path, 'r+');
  try {
    for (const chunk of chunks) {
      const at = chunk * CHUNK + 12_345;
      const extent = map.find(({ start, length, data }) => data && start <= at && at < start + length);
      if (extent?.offset === undefined) throw new Error(`chunk ${chunk} is not in ${path}`);
      const bytes = Buffer.from(String(Math.random()));
      writeSync(file, bytes, 0, bytes.length, extent.offset + at - extent.start);
    }
  } finally {
    closeSync(file);
  }
  expect(statSync(path).size).toBeGreaterThan(0);
}

function statfsUsed(path: string): number {
  return Number(run('df', '--block-size=1', '--output=used', path).split('\n')[1]);
}
