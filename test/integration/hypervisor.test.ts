/** The hypervisor port on the real libvirt: backups with change tracking, machines of ours, the isolated network, owner tags. */
import { execFileSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { newPointId, parseMachineId, parseOpId, type PointId } from '@lifeboat/foundation/ids';
import { systemRandom } from '@lifeboat/foundation/random';
import { MiB } from '@lifeboat/foundation/units';
import { startChild, type Child } from '@lifeboat/host/children';
import { greets } from '@lifeboat/host/nbd-greeting';
import type { BackupJob, Controller, Hypervisor, MachineDescription, RunningMachine } from '@lifeboat/hypervisor/port';
import { readImage } from '@lifeboat/hypervisor/screen/image';
import { NbdClient } from '@lifeboat/nbd/client';
import { echoSector, readingSector, sectorImage } from '../support/boot-sectors.ts';
import { tinyBootSector } from '../support/tiny-guest.ts';
import { guestWrites, LibvirtLab, nbdMap, virsh } from '../support/libvirt-lab.ts';

const { signal } = new AbortController();
const PATTERN = 0x5a;
/** One bit of a dirty bitmap stands for this much. */
const GRANULARITY = 64 * 1024;

let lab: LibvirtLab;
let hypervisor: Hypervisor;

beforeAll(() => {
  lab = new LibvirtLab('lbt-hv');
  hypervisor = lab.hypervisor;
});

afterAll(() => lab.close());

const newPoint = (): PointId => newPointId(Date.now(), systemRandom);

/** A running machine with one qcow2 disk on AHCI, `sda`. */
async function machineOnAhci(name = 'disk.qcow2', options: { start?: boolean } = {}): Promise<MachineDescription> {
  const file = lab.image(`${lab.name()}-${name}`);
  const id = await hypervisor.defineMachine(lab.shape([{ controller: 'ahci', path: file, format: 'qcow2' }]));
  if (options.start !== false) await hypervisor.start(id);
  onTestFinished(async () => {
    await hypervisor.destroy(id);
    await hypervisor.undefineMachine(id);
  });
  return hypervisor.findMachine(id);
}

async function capture(
  machine: MachineDescription,
  parent?: { pointId: PointId; disks?: readonly string[] },
): Promise<{ job: BackupJob; directory: string; pointId: PointId }> {
  const directory = lab.qemuDirectory();
  const pointId = newPoint();
  const job = await hypervisor.beginBackup(
    {
      machineId: machine.id,
      pointId,
      ...(parent ? { parentPointId: parent.pointId } : {}),
      incrementalDisks: parent?.disks ?? (parent ? ['sda'] : []),
      directory,
      freeze: false,
    },
    { signal },
  );
  onTestFinished(() => hypervisor.endBackup(machine.id, directory));
  return { job, directory, pointId };
}

/** A finished capture: its checkpoint is what the next one stands on. */
async function point(machine: MachineDescription): Promise<PointId> {
  const { directory, pointId } = await capture(machine);
  await hypervisor.endBackup(machine.id, directory);
  return pointId;
}

async function bytesOf(job: BackupJob, offsetBytes: number, lengthBytes: number): Promise<Buffer> {
  const [disk] = job.disks;
  if (!disk) throw new Error('no disk');
  const client = await NbdClient.connect({ socketPath: disk.socketPath, exportName: disk.exportName });
  try {
    const target = Buffer.alloc(lengthBytes);
    await client.read(offsetBytes, target);
    return target;
  } finally {
    await client.close();
  }
}

const dirtyRanges = (job: BackupJob): { offset: number; length: number }[] => {
  const [disk] = job.disks;
  return nbdMap(disk?.socketPath ?? '', disk?.exportName ?? '', disk?.dirtyContext)
    .filter(({ type }) => type === 1)
    .map(({ offset, length }) => ({ offset, length }));
};

describe('the host', () => {
  test('says what it is, and whether KVM really runs guests; the answer is kept for this boot', async () => {
    const cacheFile = lab.path('probe.json');
    const described = await lab.open({ kvmProbeCacheFile: cacheFile }).describeHost();
    expect(described).toMatchObject({ uri: 'qemu:///system', qemuVersion: expect.stringMatching(/^\d+\.\d+\.\d+$/) });
    expect(['kvm', 'tcg']).toContain(described.accelerator);
    expect(described.acceleratorReason.length).toBeGreaterThan(10);
    // No machine of the probe is left, nor its files.
    expect(virsh('list', '--all', '--name')).not.toContain('kvm-probe');
    expect(readdirSync(lab.directory).filter((name) => name.startsWith('kvm-probe'))).toEqual([]);
    const cached = JSON.parse(readFileSync(cacheFile, 'utf8')) as Record<string, string>;
    writeFileSync(cacheFile, JSON.stringify({ ...cached, reason: 'as asked before' }));
    const again = await lab.open({ kvmProbeCacheFile: cacheFile }).describeHost();
    expect(again.acceleratorReason).toBe('as asked before');
    writeFileSync(cacheFile, JSON.stringify({ ...cached, key: 'another boot', reason: 'as asked before' }));
    const anew = await lab.open({ kvmProbeCacheFile: cacheFile }).describeHost();
    expect(anew.acceleratorReason).toBe(described.acceleratorReason);
  });
});

describe('machines', () => {
  test('are found by name and UUID and described as they are', async () => {
    const machine = await machineOnAhci();
    expect(machine).toMatchObject({
      running: true,
      memoryMiB: 32,
      vcpus: 1,
      firmware: 'bios',
      guestAgentChannel: true,
      disks: [{ name: 'sda', controller: 'ahci', format: 'qcow2', sizeBytes: 16 * MiB, serial: 'disk0' }],
    });
    expect(await hypervisor.findMachine(machine.name)).toEqual(machine);
    expect((await hypervisor.listMachines()).map(({ id }) => id)).toContain(machine.id);
  });

  test('one that does not exist, and one whose image is gone, are different errors', async () => {
    await expect(hypervisor.findMachine('nobody')).rejects.toMatchObject({ code: 'hypervisor.no-such-machine' });
    const nowhere = parseMachineId('11111111-2222-4333-8444-555555555555');
    expect(await hypervisor.listCheckpoints(nowhere)).toEqual([]);
    const machine = await machineOnAhci('lost.qcow2', { start: false });
    rmSync(machine.disks[0]?.path ?? '');
    await expect(hypervisor.findMachine(machine.name)).rejects.toMatchObject({ code: 'hypervisor.disk-unreadable' });
    expect((await hypervisor.listMachines()).map(({ id }) => id)).not.toContain(machine.id);
    expect(lab.warnings.join()).toContain(machine.name);
  });

  test('are defined once per operation, never over another one, and removed whole', async () => {
    const shape = lab.shape([{ controller: 'virtio-scsi', path: lab.image('d.qcow2'), format: 'qcow2' }]);
    const id = await hypervisor.defineMachine(shape);
    expect(await hypervisor.defineMachine({ ...shape, memoryMiB: 48 })).toBe(id);
    expect((await hypervisor.findMachine(id)).memoryMiB).toBe(48);
    const other = { ...shape, opId: parseOpId('someone-else') };
    await expect(hypervisor.defineMachine(other)).rejects.toMatchObject({ code: 'hypervisor.name-taken' });
    await expect(hypervisor.startTransient(other, { autoDestroy: true, signal })).rejects.toMatchObject({
      code: 'hypervisor.name-taken',
    });
    await hypervisor.start(id);
    await hypervisor.destroy(id);
    await hypervisor.destroy(id);
    await hypervisor.undefineMachine(id);
    await hypervisor.undefineMachine(id);
    await expect(hypervisor.findMachine(id)).rejects.toMatchObject({ code: 'hypervisor.no-such-machine' });
  });

  test('with UEFI have a variable store that goes with them', async () => {
    const disk = { controller: 'ahci', path: lab.image('efi.qcow2'), format: 'qcow2' } as const;
    const shape = { ...lab.shape([disk]), firmware: 'uefi' as const, memoryMiB: 128 };
    const id = await hypervisor.defineMachine(shape);
    await hypervisor.start(id);
    const { firmware, nvramPath } = await hypervisor.findMachine(id);
    expect([firmware, existsSync(nvramPath ?? '')]).toEqual(['uefi', true]);
    await hypervisor.destroy(id);
    // Off, its definition does not say where the file is.
    expect((await hypervisor.findMachine(id)).nvramPath).toBe(nvramPath);
    const variables = readFileSync(nvramPath ?? '');
    await hypervisor.undefineMachine(id);
    expect(existsSync(nvramPath ?? '')).toBe(false);

    // Where the firmware does not write at a start.
    variables.write('as captured', variables.length - 64);
    const given = { ...shape, name: lab.name(), uuid: randomUUID(), nvram: variables };
    await hypervisor.defineMachine(given);
    expect(readFileSync(lab.path(`${given.uuid}_VARS.fd`))).toEqual(variables);
    await hypervisor.start(parseMachineId(given.uuid));
    await hypervisor.destroy(parseMachineId(given.uuid));
    expect(readFileSync(lab.path(`${given.uuid}_VARS.fd`)).toString('latin1')).toContain('as captured');
    await hypervisor.undefineMachine(parseMachineId(given.uuid));
    expect(existsSync(lab.path(`${given.uuid}_VARS.fd`))).toBe(false);

    const tested = { ...shape, nvram: variables };
    const transient = await hypervisor.startTransient(tested, { autoDestroy: true, signal });
    expect(readFileSync(lab.path(`${shape.name}_VARS.fd`)).toString('latin1')).toContain('as captured');
    await transient.destroy();
    expect(existsSync(lab.path(`${shape.name}_VARS.fd`))).toBe(false);
  });

  test('with UEFI variables of another flash size get the firmware that reads them', async () => {
    const disk = { controller: 'ahci', path: lab.image('old-efi.qcow2'), format: 'qcow2' } as const;
    const nvram = readFileSync('/usr/share/OVMF/OVMF_VARS.fd');
    const shape = { ...lab.shape([disk]), firmware: 'uefi' as const, memoryMiB: 128, nvram };
    const machine = await hypervisor.startTransient(shape, { autoDestroy: true, signal });
    const file = lab.path(`${shape.name}_VARS.fd`);
    let said = '';
    for await (const bytes of machine.console()) {
      said += Buffer.from(bytes).toString('latin1');
      if (said.includes('BdsDxe:')) break;
    }
    // Looking for something to boot from, it noted down what there is: in these variables, which it could read.
    expect(readFileSync(file).includes(Buffer.from('BootOrder', 'utf16le'))).toBe(true);
    await machine.destroy();
    const odd = { ...shape, name: lab.name(), nvram: nvram.subarray(4096) };
    await expect(hypervisor.startTransient(odd, { autoDestroy: true, signal })).rejects.toMatchObject({
      code: 'hypervisor.no-firmware',
    });
    expect(existsSync(lab.path(`${odd.name}_VARS.fd`))).toBe(false);
  });
});

describe('backup of a running machine', () => {
  test('a full one, and then exactly what changed', async () => {
    const machine = await machineOnAhci();
    guestWrites(machine.name, 'sata0-0-0', '1M', '64k');
    const full = await capture(machine);
    expect(full.job).toMatchObject({ consistency: 'crash', pointId: full.pointId });
    expect(full.job.disks).toMatchObject([{ name: 'sda', sizeBytes: 16 * MiB, tracked: true, untrackedReason: '' }]);
    expect(full.job.disks[0]).not.toHaveProperty('dirtyContext');
    expect(Math.abs(Date.now() - full.job.instantMs)).toBeLessThan(60_000);
    expect(nbdMap(full.job.disks[0]?.socketPath ?? '', 'sda').filter(({ type }) => type === 0)).toEqual([
      { offset: MiB, length: GRANULARITY, type: 0, description: 'data' },
    ]);

    // The guest writes on while the job runs: the export stays as it was, and the next point knows.
    guestWrites(machine.name, 'sata0-0-0', '1M', '4k', 0x11);
    guestWrites(machine.name, 'sata0-0-0', '8M', '192k', 0x22);
    expect(await bytesOf(full.job, MiB, 4096)).toEqual(Buffer.alloc(4096, PATTERN));
    expect(await bytesOf(full.job, 8 * MiB, 4096)).toEqual(Buffer.alloc(4096));
    await hypervisor.endBackup(machine.id, full.directory);
    expect(readdirSync(full.directory)).toEqual([]);

    const [disk] = machine.disks;
    const parent = { pointId: full.pointId, epoch: disk?.epoch ?? '' };
    expect(await hypervisor.trackingFor(machine.id, 'sda', parent)).toEqual({ usable: true });
    const next = await capture(machine, { pointId: full.pointId });
    expect(dirtyRanges(next.job)).toEqual([
      { offset: MiB, length: GRANULARITY },
      { offset: 8 * MiB, length: 3 * GRANULARITY },
    ]);
    expect(await bytesOf(next.job, 8 * MiB, 4096)).toEqual(Buffer.alloc(4096, 0x22));
    await hypervisor.endBackup(machine.id, next.directory);

    expect(await hypervisor.listCheckpoints(machine.id)).toEqual([full.pointId, next.pointId]);
    await hypervisor.deleteCheckpoint(machine.id, full.pointId);
    await hypervisor.deleteCheckpoint(machine.id, full.pointId);
    expect(await hypervisor.listCheckpoints(machine.id)).toEqual([next.pointId]);
  });

  test('another process goes on with the job, and ends it; twice is once', async () => {
    const machine = await machineOnAhci();
    const { job, directory } = await capture(machine);
    const second = lab.open();
    // Nobody connects to see whether the job is there: QEMU 7.2 hangs if it stops its server during a handshake.
    const callers: Socket[] = [];
    const socketPath = `${directory}/nbd.sock`;
    renameSync(socketPath, `${socketPath}.qemu`);
    const listener = createServer((caller) => void callers.push(caller.on('error', () => {}))).listen(socketPath);
    await once(listener, 'listening');
    expect(await second.currentBackup(machine.id)).toEqual({ ours: true, directory });
    expect(callers).toHaveLength(0);
    listener.close();
    renameSync(`${socketPath}.qemu`, socketPath);
    expect(await second.attachBackup(machine.id, directory)).toEqual(job);
    await expect(second.attachBackup(machine.id, lab.qemuDirectory())).rejects.toMatchObject({
      code: 'hypervisor.no-backup-job',
    });
    await second.endBackup(machine.id, directory);
    await second.endBackup(machine.id, directory);
    expect(await second.currentBackup(machine.id)).toBeUndefined();
    await expect(second.attachBackup(machine.id, directory)).rejects.toMatchObject({
      code: 'hypervisor.no-backup-job',
    });
  });

  test('a guest that a full scratch file stopped goes on when the job ends, with its writes', async () => {
    const file = lab.path('writes.img');
    // Not zeros, for those take no room in a scratch file.
    const image = Buffer.alloc(16 * MiB, 0x77);
    tinyBootSector([{ do: 'write', fromBytes: MiB, toBytes: 12 * MiB, forever: true }]).copy(image);
    writeFileSync(file, image);
    const id = await hypervisor.defineMachine(lab.shape([{ controller: 'ahci', path: file, format: 'raw' }]));
    const directory = lab.qemuDirectory();
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=2m,uid=${statSync(directory).uid}`, 'tmpfs', directory]);
    onTestFinished(async () => {
      await hypervisor.destroy(id);
      await hypervisor.undefineMachine(id);
      execFileSync('umount', [directory]);
    });
    await hypervisor.start(id);
    const { name } = await hypervisor.findMachine(id);
    const written = (): number => Number(/ wr_bytes (\d+)/.exec(virsh('domblkstat', name, 'sda'))?.[1]);
    await expect.poll(written, { timeout: 20_000 }).toBeGreaterThan(0);
    const begin = { machineId: id, pointId: newPoint(), incrementalDisks: [], directory, freeze: false };
    // The record of the job lies beside the scratch file, and must be written before that is full.
    virsh('suspend', name);
    const { diskFailedBefore } = await hypervisor.beginBackup(begin, { signal });
    expect(diskFailedBefore).toBe(false);
    virsh('resume', name);
    await expect.poll(() => hypervisor.machineState(id), { timeout: 20_000 }).toBe('disk-failed');
    const stopped = written();

    await hypervisor.endBackup(id, directory);
    expect(await hypervisor.machineState(id)).toBe('running');
    await expect.poll(written, { timeout: 20_000 }).toBeGreaterThan(stopped + 12 * MiB);
    expect(readdirSync(directory)).toEqual([]);
    expect(lab.warnings.join()).toContain(`${name} was stopped by a failed write`);
  });

  test('two at once: the second is refused at once and leaves the first alone', async () => {
    const machine = await machineOnAhci();
    const { directory } = await capture(machine);
    const startedMs = Date.now();
    await expect(capture(machine)).rejects.toMatchObject({ code: 'hypervisor.backup-running' });
    // Asked of libvirt, the answer would take 30 s.
    expect(Date.now() - startedMs).toBeLessThan(20_000);
    expect(await hypervisor.currentBackup(machine.id)).toEqual({ ours: true, directory });
  });

  test("somebody else's job is seen as such, and never ended", async () => {
    const machine = await machineOnAhci();
    const theirs = lab.qemuDirectory();
    const xml = lab.path('theirs.xml');
    writeFileSync(
      xml,
      `<domainbackup mode='pull'><server transport='unix' socket='${theirs}/s'/><disks>
        <disk name='sda' backup='yes' type='file'><driver type='qcow2'/><scratch file='${theirs}/scratch'/></disk>
      </disks></domainbackup>`,
    );
    virsh('backup-begin', machine.name, xml);
    expect(await hypervisor.currentBackup(machine.id)).toEqual({ ours: false, directory: theirs });
    await hypervisor.endBackup(machine.id, lab.qemuDirectory());
    // Not even when told where it lies: nothing there says that it is ours.
    await hypervisor.endBackup(machine.id, theirs);
    await expect(capture(machine)).rejects.toThrow(/by another program/);
    expect(virsh('domjobinfo', machine.name)).toContain('Backup');
    virsh('domjobabort', machine.name);
  });

  test('left-overs of a killed attempt do not stand in the way', async () => {
    const machine = await machineOnAhci();
    const directory = lab.qemuDirectory();
    writeFileSync(`${directory}/scratch-sda.qcow2`, 'left over');
    writeFileSync(`${directory}/nbd.sock`, 'left over');
    const input = { machineId: machine.id, incrementalDisks: [], directory, freeze: false };
    const job = await hypervisor.beginBackup({ ...input, pointId: newPoint() }, { signal });
    expect(await bytesOf(job, 0, 512)).toEqual(Buffer.alloc(512));
    await hypervisor.endBackup(machine.id, directory);
  });

  test('a directory that is missing, or too deep for a socket, is refused before anything begins', async () => {
    const machine = await machineOnAhci();
    const input = { machineId: machine.id, pointId: newPoint(), incrementalDisks: [], freeze: false };
    for (const directory of [lab.path('absent'), lab.path('x'.repeat(120))]) {
      await expect(hypervisor.beginBackup({ ...input, directory }, { signal })).rejects.toMatchObject({
        code: 'hypervisor.bad-directory',
      });
    }
    expect(await hypervisor.currentBackup(machine.id)).toBeUndefined();
  });

  test('an abort before the begin leaves no job', async () => {
    const machine = await machineOnAhci();
    const input = { machineId: machine.id, pointId: newPoint(), incrementalDisks: [], freeze: false };
    const directory = lab.qemuDirectory();
    await expect(
      hypervisor.beginBackup({ ...input, directory }, { signal: AbortSignal.abort(new Error('not now')) }),
    ).rejects.toThrow('not now');
    expect(await hypervisor.currentBackup(machine.id)).toBeUndefined();
  });

  test('raw and qcow2 disks and a CD-ROM: one instant; what cannot be tracked says why', async () => {
    const qcow2 = lab.image('mixed.qcow2');
    const raw = lab.image('mixed.raw', '4M', 'raw');
    const iso = lab.image('mixed.iso', '1M', 'raw');
    const shape = lab.shape([
      { controller: 'ahci', path: qcow2, format: 'qcow2' },
      { controller: 'ahci', path: raw, format: 'raw' },
    ]);
    const id = await hypervisor.defineMachine(shape);
    onTestFinished(async () => {
      await hypervisor.destroy(id);
      await hypervisor.undefineMachine(id);
    });
    virsh('attach-disk', shape.name, iso, 'sdc', '--type', 'cdrom', '--targetbus', 'sata', '--config');
    await hypervisor.start(id);
    const machine = await hypervisor.findMachine(id);
    expect(machine.disks.map(({ name }) => name)).toEqual(['sda', 'sdb']);
    const { job, pointId, directory } = await capture(machine);
    expect(job.disks).toMatchObject([
      { name: 'sda', tracked: true },
      { name: 'sdb', tracked: false, sizeBytes: 4 * MiB, untrackedReason: 'raw images hold no dirty bitmap' },
    ]);
    const end = nbdMap(job.disks[1]?.socketPath ?? '', 'sdb').at(-1);
    expect((end?.offset ?? 0) + (end?.length ?? 0)).toBe(4 * MiB);
    await hypervisor.endBackup(id, directory);
    const parent = { pointId, epoch: machine.disks[1]?.epoch ?? '' };
    expect(await hypervisor.trackingFor(id, 'sdb', parent)).toMatchObject({ usable: false });
  });
});

test('a transient machine is backed up, too, without tracking', async () => {
  const shape = lab.shape([{ controller: 'ahci', path: lab.image('transient.qcow2'), format: 'qcow2' }]);
  const running = await hypervisor.startTransient(shape, { autoDestroy: true, signal });
  onTestFinished(() => running.destroy());
  const { job } = await capture(await hypervisor.findMachine(shape.name));
  expect(job.disks).toMatchObject([
    { tracked: false, untrackedReason: expect.stringContaining('transient') as string },
  ]);
  expect(await bytesOf(job, 0, 512)).toEqual(Buffer.alloc(512));
});

describe('change tracking is believed only while nothing speaks against it', () => {
  const epochOf = (machine: MachineDescription): string => machine.disks[0]?.epoch ?? '';

  test('the checkpoint is gone, or the disk is another one', async () => {
    const machine = await machineOnAhci();
    const pointId = await point(machine);
    const doubt = async (epoch: string, disk = 'sda', id = pointId): Promise<unknown> =>
      hypervisor.trackingFor(machine.id, disk, { pointId: id, epoch });
    expect(await doubt(epochOf(machine))).toEqual({ usable: true });
    expect(await doubt(epochOf(machine), 'sda', newPoint())).toMatchObject({
      reason: expect.stringContaining('no checkpoint') as string,
    });
    expect(await doubt('')).toMatchObject({ reason: expect.stringContaining('does not say') as string });
    expect(await doubt(epochOf(machine), 'sdz')).toMatchObject({
      reason: expect.stringContaining('no disk sdz') as string,
    });
    const moved = epochOf(machine).replace('.qcow2', '.other');
    expect(await doubt(moved)).toMatchObject({ reason: expect.stringContaining('moved from') as string });
  });

  test('the file was replaced, or has another internal snapshot', async () => {
    const machine = await machineOnAhci();
    const pointId = await point(machine);
    const parent = { pointId, epoch: epochOf(machine) };
    const file = machine.disks[0]?.path ?? '';
    await hypervisor.destroy(machine.id);
    execFileSync('qemu-img', ['snapshot', '-c', 'before', file]);
    expect(await hypervisor.trackingFor(machine.id, 'sda', parent)).toMatchObject({
      reason: expect.stringContaining('internal snapshots') as string,
    });
    execFileSync('qemu-img', ['snapshot', '-d', 'before', file]);
    expect(await hypervisor.trackingFor(machine.id, 'sda', parent)).toEqual({ usable: true });
    execFileSync('cp', [file, `${file}.copy`]);
    execFileSync('mv', [`${file}.copy`, file]);
    expect(await hypervisor.trackingFor(machine.id, 'sda', parent)).toMatchObject({
      reason: expect.stringContaining('replaced') as string,
    });
  });

  test('the disk may have jumped to an internal snapshot', async () => {
    const machine = await machineOnAhci('jump.qcow2', { start: false });
    const file = machine.disks[0]?.path ?? '';
    const snapshot = (...args: string[]): unknown =>
      execFileSync('qemu-img', ['snapshot', ...args, file], { stdio: 'pipe' });
    snapshot('-c', 'before');
    await hypervisor.start(machine.id);
    guestWrites(machine.name, 'sata0-0-0', '1M', '64k');
    const pointId = await point(await hypervisor.findMachine(machine.id));
    await hypervisor.destroy(machine.id);
    const epoch = epochOf(await hypervisor.findMachine(machine.id));
    // QEMU's own protection, which other programs that know qcow2 need not have: no jump while there is a bitmap.
    expect(() => snapshot('-a', 'before')).toThrow('active dirty bitmaps');
    const bitmap = (action: string): unknown => execFileSync('qemu-img', ['bitmap', action, file, `lb-${pointId}`]);
    bitmap('--remove');
    snapshot('-a', 'before');
    bitmap('--add');
    expect(epochOf(await hypervisor.findMachine(machine.id))).toBe(epoch);
    expect(await hypervisor.trackingFor(machine.id, 'sda', { pointId, epoch })).toMatchObject({
      usable: false,
      reason: expect.stringContaining('a jump to one of them would not be seen') as string,
    });
  });

  test('QEMU was killed: the bitmap is not believed, a full one follows, the broken one goes', async () => {
    const machine = await machineOnAhci();
    const stored = await point(machine);
    // Into the image, in order; then kept open, so that the kill leaves it marked as in use.
    await hypervisor.destroy(machine.id);
    await hypervisor.start(machine.id);
    const unstored = await point(machine);
    const pid = readFileSync(`/run/libvirt/qemu/${machine.name}.pid`, 'utf8');
    process.kill(Number(pid), 'SIGKILL');
    await expect.poll(() => virsh('domstate', machine.name), { timeout: 10_000 }).toBe('shut off');
    const epoch = epochOf(machine);
    for (const pointId of [stored, unstored]) {
      expect(await hypervisor.trackingFor(machine.id, 'sda', { pointId, epoch })).toMatchObject({ usable: false });
    }
    await hypervisor.start(machine.id);
    for (const pointId of [stored, unstored]) {
      expect(await hypervisor.trackingFor(machine.id, 'sda', { pointId, epoch })).toMatchObject({
        usable: false,
        reason: expect.stringContaining('missing or inconsistent') as string,
      });
    }
    const fresh = await point(machine);
    await hypervisor.deleteCheckpoint(machine.id, stored);
    await hypervisor.deleteCheckpoint(machine.id, unstored);
    expect(await hypervisor.listCheckpoints(machine.id)).toEqual([fresh]);
    expect(await hypervisor.trackingFor(machine.id, 'sda', { pointId: fresh, epoch })).toEqual({ usable: true });
    const left = virsh('qemu-monitor-command', machine.name, '{"execute":"query-block"}');
    expect(left).toContain(`lb-${fresh}`);
    expect(left).not.toContain(`lb-${stored}`);
  });
});

describe('backup of a machine that is shut off', () => {
  test('the image is read as it is, with the changes since the last checkpoint; its deletion keeps the older one whole', async () => {
    const machine = await machineOnAhci();
    const first = await point(machine);
    guestWrites(machine.name, 'sata0-0-0', '2M', '64k');
    const second = await point(machine);
    guestWrites(machine.name, 'sata0-0-0', '5M', '64k');
    await hypervisor.destroy(machine.id);
    const off = await hypervisor.findMachine(machine.id);
    expect(off.running).toBe(false);

    const epoch = off.disks[0]?.epoch ?? '';
    expect(await hypervisor.trackingFor(off.id, 'sda', { pointId: second, epoch })).toEqual({ usable: true });
    expect(await hypervisor.trackingFor(off.id, 'sda', { pointId: first, epoch })).toMatchObject({ usable: false });
    const { job, directory } = await capture(off, { pointId: second });
    expect(job).toMatchObject({ consistency: 'crash', disks: [{ tracked: false }] });
    expect(dirtyRanges(job)).toEqual([{ offset: 5 * MiB, length: GRANULARITY }]);
    expect(await bytesOf(job, 2 * MiB, 4096)).toEqual(Buffer.alloc(4096, PATTERN));
    expect(await hypervisor.currentBackup(off.id)).toEqual({ ours: true, directory });
    expect(await hypervisor.attachBackup(off.id, directory)).toEqual(job);
    await expect(capture(off)).rejects.toMatchObject({ code: 'hypervisor.backup-running' });
    // What would change the image under the reader is refused by QEMU's own lock.
    await expect(hypervisor.start(off.id)).rejects.toThrow(/lock/);
    await hypervisor.endBackup(off.id, directory);
    expect(await hypervisor.currentBackup(off.id)).toBeUndefined();

    await hypervisor.deleteCheckpoint(off.id, second);
    expect(await hypervisor.listCheckpoints(off.id)).toEqual([first]);
    await hypervisor.start(off.id);
    guestWrites(machine.name, 'sata0-0-0', '9M', '64k');
    const since = await capture(await hypervisor.findMachine(off.id), { pointId: first });
    expect(dirtyRanges(since.job).map(({ offset }) => offset / MiB)).toEqual([2, 5, 9]);
  });

  test('an image that cannot be served is an error with the reason, and leaves no process', async () => {
    const machine = await machineOnAhci('other.qcow2', { start: false });
    await expect(capture(machine, { pointId: newPoint() })).rejects.toMatchObject({
      code: 'hypervisor.export-failed',
      message: expect.stringContaining('itmap') as string,
    });
    expect(execFileSync('ps', ['-eo', 'args']).toString()).not.toContain(
      `qemu-nbd --read-only --persistent --shared=32 --socket=${lab.directory}`,
    );
  });
});

describe('transient machines', () => {
  const greeting = 'up and speaking\r\n';

  function greetingDisk(controller: Controller): { controller: Controller; path: string; format: 'raw' } {
    const file = lab.path(`greeting-${controller}-${lab.name()}.img`);
    writeFileSync(file, sectorImage(echoSector(greeting)));
    return { controller, path: file, format: 'raw' };
  }

  async function overlayOverExport(
    base: string,
  ): Promise<{ overlay: string; backing: { socketPath: string; exportName: string }; served: Child }> {
    const directory = lab.qemuDirectory();
    const socketPath = `${directory}/export.sock`;
    const served = await startChild('qemu-nbd', ['-r', '-t', '-f', 'raw', '-x', 'sda', '-k', socketPath, base], {
      directory,
      name: 'export',
    });
    onTestFinished(() => served.stop().then(() => undefined));
    await expect.poll(() => greets(socketPath), { timeout: 10_000 }).toBe(true);
    execFileSync('chmod', ['777', socketPath]);
    const overlay = `${directory}/overlay.qcow2`;
    const uri = `nbd+unix:///sda?socket=${socketPath}`;
    execFileSync('qemu-img', ['create', '-q', '-u', '-f', 'qcow2', '-F', 'raw', '-b', uri, overlay, '1M']);
    return { overlay, backing: { socketPath, exportName: 'sda' }, served };
  }

  async function consoleUntil(machine: RunningMachine, wanted: string): Promise<string> {
    let text = '';
    for await (const bytes of machine.console()) {
      text += Buffer.from(bytes).toString('latin1');
      if (text.includes(wanted)) break;
    }
    return text;
  }

  test.each(['virtio-blk', 'virtio-scsi', 'ahci', 'ide', 'nvme', 'lsi', 'megasas', 'pvscsi', 'mptsas'] as const)(
    'boot from %s, are heard from the first byte and answer',
    async (controller) => {
      const machine = await hypervisor.startTransient(lab.shape([greetingDisk(controller), greetingDisk(controller)]), {
        autoDestroy: true,
        signal,
      });
      onTestFinished(() => machine.destroy());
      expect(await consoleUntil(machine, greeting)).toBe(greeting);
      await machine.writeConsole('ping');
      expect(await consoleUntil(machine, 'ping')).toBe(`${greeting}ping`);
      const { readBytes, writtenBytes } = await machine.blockStats();
      expect(readBytes).toBeGreaterThanOrEqual(512);
      expect(writtenBytes).toBe(0);
    },
  );

  test('are seen: picture, text, time; and end when told, once and again', async () => {
    const machine = await hypervisor.startTransient(lab.shape([]), { autoDestroy: true, signal });
    await expect
      .poll(() => machine.look().then(({ text }) => text), { timeout: 30_000 })
      .toContain('No bootable device');
    const png = Buffer.from(await machine.screenshot());
    const { width, height } = readImage(png);
    expect([width, height]).toEqual([720, 400]);
    expect(await machine.cpuTimeMs()).toBeGreaterThan(0);
    expect(await machine.running()).toBe(true);

    const end = consoleUntil(machine, 'never said');
    await machine.destroy();
    await machine.destroy();
    expect(await end).not.toContain('never said');
    expect(await machine.running()).toBe(false);
  });

  test('end with their connection when they are auto-destroy, and outlive it when not', async () => {
    const mortal = await hypervisor.startTransient(lab.shape([]), { autoDestroy: true, signal });
    const lasting = await hypervisor.startTransient(lab.shape([]), { autoDestroy: false, signal });
    onTestFinished(() => lasting.destroy());
    await mortal.close();
    await lasting.close();
    await expect.poll(() => mortal.running(), { timeout: 10_000 }).toBe(false);
    expect(await lasting.running()).toBe(true);
    const adopted = await hypervisor.openRunning(lasting.id);
    expect(await adopted.running()).toBe(true);
    await adopted.destroy();
  });

  test('one that an earlier attempt of the same operation left is replaced', async () => {
    const shape = lab.shape([]);
    const left = await hypervisor.startTransient(shape, { autoDestroy: false, signal });
    const again = await hypervisor.startTransient(shape, { autoDestroy: true, signal });
    onTestFinished(() => again.destroy());
    expect(again.id).not.toBe(left.id);
    expect(await left.running()).toBe(false);
    await left.close();
  });

  test.each(['ahci', 'nvme'] as const)('run on an overlay over an NBD export, on %s', async (controller) => {
    const { overlay, backing } = await overlayOverExport(greetingDisk('ahci').path);
    const shape = lab.shape([{ controller, path: overlay, format: 'qcow2', backing }]);
    const machine = await hypervisor.startTransient(shape, { autoDestroy: true, signal });
    onTestFinished(() => machine.destroy());
    expect(await consoleUntil(machine, greeting)).toBe(greeting);
  });

  test('whose disk fails are stopped with their state, and say so', async () => {
    const base = lab.path('failing.img');
    writeFileSync(base, sectorImage(readingSector()));
    const { overlay, backing, served } = await overlayOverExport(base);
    const shape = lab.shape([{ controller: 'virtio-blk', path: overlay, format: 'qcow2', backing }]);
    const machine = await hypervisor.startTransient(shape, { autoDestroy: true, signal });
    onTestFinished(() => machine.destroy());
    expect(await machine.state()).toBe('running');
    virsh('suspend', shape.name);
    expect(await machine.state()).toBe('suspended');
    virsh('resume', shape.name);
    await served.stop();
    await expect.poll(() => machine.state(), { timeout: 30_000 }).toBe('disk-failed');
    expect(await machine.running()).toBe(false);
    await machine.destroy();
    expect(await machine.state()).toBe('ended');
  });

  test('shapes that no board has are refused in words', async () => {
    const disk = { path: lab.image('odd.qcow2'), format: 'qcow2' as const };
    for (const controllers of [
      ['ide', 'ahci'],
      ['virtio-scsi', 'megasas'],
      ['ide', 'ide', 'ide', 'ide', 'ide'],
    ] as const) {
      const shape = lab.shape(controllers.map((controller) => ({ ...disk, controller })));
      await expect(hypervisor.renderMachine(shape)).rejects.toMatchObject({ code: 'hypervisor.unsupported-shape' });
    }
  });

  test('every shape that is rendered is valid by the schema of libvirt', async () => {
    const disk = { path: lab.image('valid.qcow2'), format: 'qcow2' as const };
    for (const controller of [
      'virtio-blk',
      'virtio-scsi',
      'ahci',
      'ide',
      'nvme',
      'lsi',
      'megasas',
      'pvscsi',
      'mptsas',
    ] as const) {
      for (const firmware of ['bios', 'uefi'] as const) {
        const network = { kind: 'network', name: 'any', model: 'e1000e', mac: '52:54:00:00:00:01' } as const;
        const backing = { socketPath: '/run/a & b.sock', exportName: `it's` };
        const shape = { ...lab.shape([{ ...disk, controller, backing }]), firmware, network };
        const file = lab.path('rendered.xml');
        writeFileSync(file, await hypervisor.renderMachine(shape));
        expect(virsh('define', '--validate', file)).toBe('');
        virsh('undefine', shape.name, '--nvram');
      }
    }
  });
});

describe('networks and owner tags', () => {
  test('an isolated network leads nowhere; this host reaches ports of the guest, and every packet is written down', async () => {
    const capturePath = join(lab.qemuDirectory(), 'network.pcap');
    const network = { kind: 'isolated', model: 'virtio', capturePath } as const;
    const shape = { ...lab.shape([]), network };
    const machine = await hypervisor.startTransient(shape, { autoDestroy: true, signal });
    onTestFinished(() => machine.destroy());
    expect(virsh('qemu-monitor-command', '--hmp', shape.name, 'info network')).toMatch(/lifeboat-net.*restrict=on/s);
    expect(statSync(capturePath).size).toBe(24);
    const port = await machine.forward(22);
    expect(await machine.forward(22)).toBe(port);
    expect(await machine.forward(80)).not.toBe(port);
    // QEMU takes the connection, and asks who has the guest's address: the first packet.
    const socket = connect({ host: '127.0.0.1', port });
    await once(socket, 'connect');
    await expect.poll(() => statSync(capturePath).size, { timeout: 10_000 }).toBeGreaterThan(24);
    socket.destroy();
  });

  test('the reaper is shown what is tagged and temporary, and nothing else is removed', async () => {
    const shape = lab.shape([]);
    const tag = { opId: shape.opId, hostId: shape.hostId };
    const left = await hypervisor.startTransient(shape, { autoDestroy: false, signal });
    await left.close();
    const kept = await machineOnAhci();
    const ours = (await hypervisor.listTagged()).filter(({ name }) => name.startsWith(lab.prefix));
    expect(ours).toEqual([{ kind: 'domain', name: shape.name, ...tag }]);

    // The name came into other hands since it was listed.
    await hypervisor.removeTagged({ kind: 'domain', name: kept.name, ...tag });
    await hypervisor.removeTagged({ kind: 'domain', name: shape.name, ...tag, opId: parseOpId('op-other') });
    expect(await left.running()).toBe(true);
    expect((await hypervisor.findMachine(kept.id)).running).toBe(true);
    for (const item of [...ours, ...ours]) await hypervisor.removeTagged(item);
    expect(await left.running()).toBe(false);
    expect((await hypervisor.listTagged()).filter(({ name }) => name.startsWith(lab.prefix))).toEqual([]);
  });
});
