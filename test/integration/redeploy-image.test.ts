/**
 * An operator redeploys a restored disk: inspection, plan, drivers into the initrd, journal, and all of it taken back.
 * The guests never run here; what is in their disks is checked with tools that are not ours (cpio, debugfs, e2fsck).
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  realpathSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { parseMachineId, parseOpId, parsePointId, type PointId } from '@lifeboat/foundation/ids';
import { withEditableGuest, withGuest, type GuestDisk } from '@lifeboat/guest/access/open-guest';
import { systemUnpackers } from '@lifeboat/guest/access/system-unpackers';
import { checkVolumes } from '@lifeboat/guest/check/check-volumes';
import { injectDrivers, type InjectionResult } from '@lifeboat/guest/inject/inject-drivers';
import { inspectGuest } from '@lifeboat/guest/inspect/inspect-guest';
import type { GuestInspection } from '@lifeboat/guest/inspect/guest-inspection';
import { revertJournal } from '@lifeboat/guest/journal/apply-journal';
import { readJournal } from '@lifeboat/guest/journal/journal-file';
import { revertFiles } from '@lifeboat/guest/journal/revert-files';
import { planRedeploy, type RedeployPlan } from '@lifeboat/guest/plan/redeploy-plan';
import { renderInjection, renderPlan } from '@lifeboat/guest/plan/render-plan';
import { loadHardwareProfile } from '@lifeboat/guest/profile/shipped-profiles';
import { FAKE_VERSION } from '@lifeboat/guest/testing/fake-kernel';
import { clearLeftovers } from '@lifeboat/host/leftovers';
import { mountsBeneath } from '@lifeboat/host/mounts';
import { scratchDirectory } from '@lifeboat/host/testing/scratch';
import { startVictim } from '@lifeboat/host/testing/victim';
import { fileSource } from '@lifeboat/repository/testing/file-source';
import { type Configuration, loadConfiguration } from '@lifeboat/runtime/configuration';
import { openHostRuntime } from '@lifeboat/runtime/host-runtime';
import { openConfiguredRepository } from '@lifeboat/runtime/repository';
import {
  buildGuestImage,
  contentHash,
  readGuestFile,
  ROOT_UUID,
  type GuestImageOptions,
} from '../support/guest-image.ts';

const { signal } = new AbortController();
const quiet = { signal, progress: () => {} };
const INITRD = `/boot/initrd.img-${FAKE_VERSION}`;
/** Which bytes of the commit the kill tests hit; a failure is repeated with LIFEBOAT_SEED. */
const seed = Number(process.env['LIFEBOAT_SEED'] ?? Date.now() % 1_000_000);

let base: string;
beforeEach(async () => {
  base = realpathSync(await scratchDirectory());
});
// Runs before the directory is removed.
afterEach(async () => {
  const left = await leftBehind();
  if (left.length > 0) throw new Error(`left behind:\n${left.join('\n')}`);
});

/** Mounts, loop devices and processes that have to do with this test's directory. */
async function leftBehind(): Promise<string[]> {
  const mounts = (await mountsBeneath(base)).map((mount) => `mount ${mount.path}`);
  const loops = execFileSync('losetup', ['--list', '--noheadings', '--output', 'NAME,BACK-FILE'], { encoding: 'utf8' });
  const processes = readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .filter((pid) => commandLine(pid).includes(base));
  return [
    ...mounts,
    ...loops.split('\n').filter((line) => line.includes(base)),
    ...processes.map((pid) => `process ${pid} ${commandLine(pid)}`),
  ];
}

function commandLine(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
  } catch {
    return ''; // it ended meanwhile
  }
}

interface Machine {
  readonly image: string;
  readonly format: 'raw' | 'qcow2';
  readonly disks: readonly GuestDisk[];
  readonly hash: string;
}

function machine(options: Partial<GuestImageOptions> = {}): Machine {
  const directory = join(base, `img${Math.random().toString(36).slice(2, 8)}`);
  mkdirSync(directory);
  const format = options.format ?? 'qcow2';
  const image = buildGuestImage({ ...options, directory, format });
  return { image, format, disks: [{ name: 'vda', image: { path: image, format } }], hash: contentHash(image, format) };
}

const inspect = (disks: readonly GuestDisk[]): Promise<GuestInspection> =>
  withGuest({ disks, directory: join(base, 'inspect'), signal }, ({ tree, mounted }) =>
    inspectGuest(tree, mounted, systemUnpackers(signal)),
  );

async function planFor(from: Machine, profile: string): Promise<RedeployPlan> {
  return planRedeploy(await inspect(from.disks), await loadHardwareProfile(profile));
}

const silentLog = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };

/** A recovery point of a disk, without a hypervisor. */
async function pointOf(image: string, configuration: Configuration): Promise<PointId> {
  const repository = await openConfiguredRepository(configuration, { log: silentLog });
  try {
    const machineId = parseMachineId('11111111-2222-4333-8444-555555555555');
    const session = await repository.beginSession({ machineId, directory: join(base, 'session') });
    const source = fileSource(image);
    const request = { name: 'vda', sizeBytes: statSync(image).size, source, changed: 'all' } as const;
    const { root } = await session.writeDisk(request, quiet);
    const pointId = parsePointId('p20260101T000000Z-00000001');
    const capture = { version: 1, machineName: 'web', instantMs: 1, consistency: 'crash', disks: [] };
    await session.commit({ pointId, machine: {}, capture, disks: [{ name: 'vda', root }] });
    return pointId;
  } finally {
    await repository.close();
  }
}

const operation = (): string => join(base, 'op');
const inject = (from: Machine, plan: RedeployPlan): Promise<InjectionResult> =>
  injectDrivers({ disks: from.disks, plan, directory: operation() }, quiet);
const revert = () => revertJournal({ directory: join(operation(), 'journal'), workDirectory: operation(), signal });
const guestFile = (from: Machine, path: string): Buffer => readGuestFile(from.image, from.format, path);
const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

/** The module files of the archive appended to an initrd, as cpio lists them. */
function appendedModules(initrd: Buffer, oldBytes: number): string[] {
  const at = Math.ceil(oldBytes / 4) * 4;
  const names = execFileSync('cpio', ['-t', '--quiet'], { input: initrd.subarray(at), encoding: 'utf8' });
  return names
    .split('\n')
    .filter((name) => name.endsWith('.ko'))
    .map((name) => name.slice(name.lastIndexOf('/') + 1, -3));
}

describe('redeploying a restored disk', () => {
  test.each([
    { format: 'qcow2', table: 'gpt', separateBoot: false, profile: 'virtio-blk' },
    { format: 'raw', table: 'mbr', separateBoot: false, profile: 'nvme' },
    { format: 'qcow2', table: 'mbr', separateBoot: true, profile: 'virtio-scsi' },
  ] as const)('puts exactly the lacking drivers into the initrd, and back: %o', async ({ profile, ...options }) => {
    const guest = machine(options);
    const plan = await planFor(guest, profile);
    expect(contentHash(guest.image, guest.format)).toBe(guest.hash);
    expect(plan.refusals).toEqual([]);
    const expected = {
      'virtio-blk': ['virtio', 'virtio_blk', 'virtio_net', 'virtio_pci', 'virtio_pci_modern_dev', 'virtio_ring'],
      nvme: ['e1000e', 'nvme', 'nvme_core'],
      'virtio-scsi': [
        'crct10dif_common',
        'crct10dif_generic',
        'virtio',
        'virtio_net',
        'virtio_pci',
        'virtio_pci_modern_dev',
        'virtio_ring',
        'virtio_scsi',
      ],
    }[profile];

    const result = await inject(guest, plan);
    expect(result.kernels.map((kernel) => kernel.addedModules)).toEqual([expected]);
    expect(result.kernels[0]?.modules).toEqual(expect.arrayContaining(['ahci', 'sd_mod', ...expected]));
    expect(result.edits.map((edit) => edit.path)).toEqual([INITRD, '/etc/initramfs-tools/modules']);
    expect(contentHash(guest.image, guest.format)).not.toBe(guest.hash);
    expect(renderPlan(plan).join('\n')).toContain(INITRD);
    expect(renderInjection(result)[0]).toContain(`${expected.length} modules added`);
    const initrd = guestFile(guest, INITRD);
    expect(sha256(initrd)).toBe(result.edits[0]?.newSha256);
    const appended = appendedModules(initrd, result.edits[0]?.oldBytes ?? 0).map((name) => name.replaceAll('-', '_'));
    expect(appended.toSorted()).toEqual(expected);
    const listed = guestFile(guest, '/etc/initramfs-tools/modules').toString();
    expect(listed).toMatch(/^# List of modules\nahci\n# Needed on '[a-z-]+'/);
    expect(listed.trim().split('\n').at(-1)).toBe(
      { 'virtio-blk': 'virtio_net', nvme: 'e1000e', 'virtio-scsi': 'virtio_net' }[profile],
    );
    expect(guestFile(guest, '/var/log/messages').toString()).toContain('a file nobody edits');

    // A second plan finds nothing left to do.
    expect((await planFor(guest, profile)).edits).toEqual([]);
    await revert();
    expect(contentHash(guest.image, guest.format)).toBe(guest.hash);
    await revert();
    expect(contentHash(guest.image, guest.format)).toBe(guest.hash);
  });

  test('names disks by what stays, tells dracut of the drivers, and takes away what ties LVM to the old disks', async () => {
    const guest = machine({
      rootSource: '/dev/sda1',
      initrd: { generator: 'dracut' },
      change: (root) => {
        for (const path of ['etc/dracut.conf.d', 'usr/lib/dracut', 'etc/lvm/devices', 'etc/default'])
          mkdirSync(join(root, path), { recursive: true });
        writeFileSync(join(root, 'etc/lvm/devices/system.devices'), 'VERSION=1.1.2\nIDTYPE=sys_serial IDNAME=X\n');
        writeFileSync(join(root, 'etc/default/grub'), '# root=/dev/sda1\nGRUB_CMDLINE_LINUX="root=/dev/sda1 quiet"\n');
      },
    });
    const plan = await planFor(guest, 'nvme');
    expect(plan.refusals).toEqual([]);
    const result = await inject(guest, plan);
    expect(result.edits.map(({ path }) => path)).toEqual([
      INITRD,
      '/etc/initramfs-tools/modules',
      '/etc/dracut.conf.d/90-lifeboat.conf',
      '/etc/fstab',
      '/etc/default/grub',
      '/etc/lvm/devices/system.devices',
    ]);
    expect(guestFile(guest, '/etc/fstab').toString()).toBe(
      `# made up\nUUID=${ROOT_UUID} / ext4 errors=remount-ro 0 1\n`,
    );
    expect(guestFile(guest, '/etc/default/grub').toString()).toBe(
      `# root=/dev/sda1\nGRUB_CMDLINE_LINUX="root=UUID=${ROOT_UUID} quiet"\n`,
    );
    expect(guestFile(guest, '/etc/dracut.conf.d/90-lifeboat.conf').toString()).toMatch(
      /^# Needed on 'nvme'.*\nadd_drivers\+=" .*\bnvme\b.* "\n$/,
    );
    expect((await planFor(guest, 'nvme')).edits).toEqual([]);
    await revert();
    expect(contentHash(guest.image, guest.format)).toBe(guest.hash);
  });

  test('is done once: called again it returns the same and writes nothing', async () => {
    const guest = machine();
    const plan = await planFor(guest, 'virtio-blk');
    const first = await inject(guest, plan);
    const hash = contentHash(guest.image, guest.format);
    const again = await inject(guest, plan);
    expect({ ...again, durationMs: 0 }).toEqual({ ...first, durationMs: 0 });
    expect(contentHash(guest.image, guest.format)).toBe(hash);
  });

  test('keeps a journal of at most twice what it edited', async () => {
    const guest = machine();
    const result = await inject(guest, await planFor(guest, 'virtio-scsi'));
    const files = readdirSync(result.journalDirectory);
    expect(files).not.toContain('new-bytes');
    const stored = files.reduce((sum, file) => sum + statSync(join(result.journalDirectory, file)).size, 0);
    const { journal } = (await readJournal(result.journalDirectory)) ?? { journal: undefined };
    const changed = journal?.disks.flatMap((disk) => disk.runs).reduce((sum, run) => sum + run.lengthBytes, 0) ?? 0;
    expect(changed).toBeGreaterThan(result.kernels[0]?.addedBytes ?? 0);
    expect(stored).toBeLessThan(2 * changed);
  });

  test('opens, to be compared, all that the guest mounts from its disks, and names what it cannot', async () => {
    const guest = machine({ further: true });
    const access = { disks: guest.disks, directory: join(base, 'inspect'), signal };
    const [all, system] = [
      await withGuest({ ...access, filesystems: 'all' }, async ({ mounts, notMounted, tree }) => ({
        mounted: mounts.map(({ mountPoint }) => mountPoint),
        not: Object.fromEntries(notMounted.map(({ mountPoint, reason }) => [mountPoint, reason])),
        log: await tree.readText('/var/log/messages'),
      })),
      await withGuest(access, async ({ mounts }) => mounts.map(({ mountPoint }) => mountPoint)),
    ];
    // Whether vfat can be mounted depends on the kernel of this host.
    const hasVfat = all.mounted.includes('/boot/efi');
    expect(all.mounted).toEqual(['/', '/var', ...(hasVfat ? ['/boot/efi'] : [])]);
    expect(all.log).toContain('a file nobody edits');
    expect(Object.keys(all.not).toSorted()).toEqual([...(hasVfat ? [] : ['/boot/efi']), '/data']);
    expect(all.not['/data']).toContain('is 0 of its filesystems');
    expect(all.not['/boot/efi'] ?? 'vfat is mounted').toContain('vfat');
    expect(system).toEqual(['/']);
    const { volumes } = await checkVolumes({ disks: guest.disks, directory: join(base, 'check') }, quiet);
    expect(volumes.map(({ type, result }) => `${type} ${result}`).toSorted()).toEqual([
      'ext4 sound',
      'ext4 sound',
      'vfat sound',
    ]);
    expect(contentHash(guest.image, guest.format)).toBe(guest.hash);
  });

  test('is compared with its point: every filesystem, contents and attributes', async () => {
    const { image } = machine({ format: 'raw', further: true });
    const sizeBytes = statSync(image).size;
    const configuration = loadConfiguration({ environment: { ...process.env, LIFEBOAT_STATE: join(base, 'state') } });
    const host = await openHostRuntime(configuration, { makeRepository: true, log: silentLog });
    try {
      const pointId = await pointOf(image, configuration);
      const compare = (opId: string) => {
        const disks = [{ name: 'vda', path: image, format: 'raw', sizeBytes }] as const;
        return host.engine.compareFiles({ opId: parseOpId(opId), machine: 'web', pointId, disks }, quiet);
      };
      const equal = await compare('equal');
      expect(equal.differing).toEqual([]);
      // Those of /var, too, which the root's own filesystem does not hold.
      expect(equal.comparedFiles).toBeGreaterThan(60);
      expect(equal.notCompared.map((text) => text.split(':')[0])).toContain('/data');

      const value = join(base, 'capability');
      writeFileSync(value, Buffer.from('0100000200200000000000000000000000000000', 'hex'));
      const set = (partition: number, command: string): void => {
        const { partitiontable } = JSON.parse(execFileSync('sfdisk', ['--json', image], { encoding: 'utf8' })) as {
          partitiontable: { partitions: { start: number }[] };
        };
        const startBytes = (partitiontable.partitions[partition]?.start ?? 0) * 512;
        execFileSync('debugfs', ['-w', '-R', command, `${image}?offset=${startBytes}`], { stdio: 'ignore' });
      };
      set(0, 'ea_set /log/messages user.note hello');
      set(2, `ea_set -f ${value} /boot/vmlinuz-${FAKE_VERSION} security.capability`);
      const changed = await compare('changed');
      expect(changed.differing.toSorted()).toEqual([`/boot/vmlinuz-${FAKE_VERSION}`, '/var/log/messages']);
    } finally {
      await host.close();
    }
  });

  test('replays the journal of a filesystem that was in use when it was captured, and changes nothing by looking', async () => {
    const guest = machine({ format: 'raw' });
    const live = join(base, 'live');
    mkdirSync(live);
    const loop = execFileSync('losetup', ['-f', '--show', '-o', String(1024 * 1024), guest.image], {
      encoding: 'utf8',
    }).trim();
    let copy = '';
    try {
      execFileSync('mount', [loop, live]);
      try {
        writeFileSync(join(live, 'etc/os-release.new'), 'PRETTY_NAME="Written just before"\nID=late\n');
        execFileSync('mv', [join(live, 'etc/os-release.new'), join(live, 'etc/os-release')]);
        execFileSync('sync', ['-f', live]);
        copy = join(base, 'captured.raw');
        execFileSync('cp', ['--sparse=always', guest.image, copy]);
      } finally {
        execFileSync('umount', [live]);
      }
    } finally {
      execFileSync('losetup', ['-d', loop]);
    }
    const part = execFileSync('dumpe2fs', ['-h', `${copy}?offset=${1024 * 1024}`], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    expect(part).toContain('needs_recovery');
    const hash = contentHash(copy, 'raw');
    const captured = {
      image: copy,
      format: 'raw',
      disks: [{ name: 'vda', image: { path: copy, format: 'raw' } }],
      hash,
    } as const;
    const { volumes } = await checkVolumes({ disks: captured.disks, directory: join(base, 'check') }, quiet);
    expect(volumes).toMatchObject([{ disk: 'vda', partition: 1, type: 'ext4', result: 'sound' }]);
    expect((await inspect(captured.disks)).os.prettyName).toBe('Written just before');
    expect(contentHash(copy, 'raw')).toBe(hash);
    const result = await inject(captured, await planFor(captured, 'virtio-blk'));
    expect(result.kernels).toHaveLength(1);
    await revert();
    expect(contentHash(copy, 'raw')).toBe(hash);
  });
});

/** Runs the injection in a process of its own that kills itself -9 at a step. */
async function injectAndDie(
  guest: Machine,
  plan: RedeployPlan,
  dieAt: string,
  verb: 'inject' | 'revert' = 'inject',
): Promise<void> {
  const url = (path: string) => JSON.stringify(new URL(`../../packages/guest/src/${path}`, import.meta.url).href);
  const call =
    verb === 'inject'
      ? `injectDrivers({ disks: ${JSON.stringify(guest.disks)}, plan: ${JSON.stringify(plan)}, directory: ${JSON.stringify(operation())} }, { signal, progress })`
      : `revertJournal({ directory: ${JSON.stringify(join(operation(), 'journal'))}, workDirectory: ${JSON.stringify(operation())}, signal, progress })`;
  const victim = startVictim(`
    import { injectDrivers } from ${url('inject/inject-drivers.ts')};
    import { revertJournal } from ${url('journal/apply-journal.ts')};
    const { signal } = new AbortController();
    const progress = (at) => { if (${dieAt}) process.kill(process.pid, 'SIGKILL'); };
    await ${call};
    console.log('survived');
  `);
  expect(await victim.nextLine()).toBeUndefined();
  await clearLeftovers(operation());
}

/** Another attempt ends well, whatever came before, and what it did can be taken back exactly. */
async function expectEditAndRevert(guest: Machine, plan: RedeployPlan): Promise<void> {
  const result = await inject(guest, plan);
  expect((await readJournal(result.journalDirectory))?.state).toBe('applied');
  expect(sha256(guestFile(guest, INITRD))).toBe(result.edits[0]?.newSha256);
  expect((await planFor(guest, plan.profile.name)).edits).toEqual([]);
  await revert();
  expect(contentHash(guest.image, guest.format)).toBe(guest.hash);
}

/** A byte of the commit to die at, from the seed: `n` gives different ones. */
function byteOf(total: number, n: number): number {
  return createHash('sha256').update(`${seed}/${n}`).digest().readUInt32LE(0) % total;
}

describe(`killed -9 (seed ${seed})`, () => {
  test('before the journal is complete: the disk is untouched, and the next attempt does it all', async () => {
    const guest = machine();
    const plan = await planFor(guest, 'virtio-blk');
    await injectAndDie(guest, plan, `at.phase === 'inject' && at.detail === '/etc/initramfs-tools/modules'`);
    expect(contentHash(guest.image, guest.format)).toBe(guest.hash);
    expect(await readJournal(join(operation(), 'journal'))).toBeUndefined();
    const result = await inject(guest, plan);
    expect(sha256(guestFile(guest, INITRD))).toBe(result.edits[0]?.newSha256);
    await revert();
    expect(contentHash(guest.image, guest.format)).toBe(guest.hash);
  });

  test.each([{ format: 'qcow2' }, { format: 'raw' }] as const)(
    'in mid-commit: done again it ends in the same disk as without the kill, and can be taken back: %o',
    async ({ format }) => {
      const guest = machine({ format });
      const plan = await planFor(guest, 'virtio-scsi');
      await injectAndDie(guest, plan, `at.phase === 'edit' && at.doneBytes > ${byteOf(60_000, 1)}`);
      const half = await readJournal(join(operation(), 'journal'));
      expect(half?.state).toBe('writing');
      const result = await inject(guest, plan);
      const whole = await readJournal(join(operation(), 'journal'));
      expect(whole).toEqual({ ...half, state: 'applied' });
      expect(sha256(guestFile(guest, INITRD))).toBe(result.edits[0]?.newSha256);
      expect((await planFor(guest, 'virtio-scsi')).edits).toEqual([]);
      await revert();
      expect(contentHash(guest.image, guest.format)).toBe(guest.hash);
    },
  );

  test('in mid-commit and then taken back at once', async () => {
    const guest = machine();
    const plan = await planFor(guest, 'virtio-scsi');
    await injectAndDie(guest, plan, `at.phase === 'edit' && at.doneBytes > ${byteOf(60_000, 2)}`);
    await revert();
    expect(contentHash(guest.image, guest.format)).toBe(guest.hash);
  });

  test.each(['taken back to the end', 'the edit begun anew'])('in the middle of taking it back: %s', async (then) => {
    const guest = machine();
    const plan = await planFor(guest, 'virtio-scsi');
    await inject(guest, plan);
    await injectAndDie(guest, plan, `at.phase === 'revert' && at.doneBytes > ${byteOf(60_000, 3)}`, 'revert');
    expect((await readJournal(join(operation(), 'journal')))?.state).toBe('reverting');
    if (then === 'the edit begun anew') await expectEditAndRevert(guest, plan);
    else await revert();
    expect(contentHash(guest.image, guest.format)).toBe(guest.hash);
  });
});

describe('a redeploy that must not be', () => {
  test.each([
    ['while the guest is edited', 'inject', INITRD],
    ['while the edit reaches the disk', 'edit', 'vda'],
  ])('an abort %s leaves the disk as it was, and the next attempt goes on', async (_, phase, detail) => {
    const guest = machine();
    const plan = await planFor(guest, 'virtio-blk');
    const abort = new AbortController();
    const running = injectDrivers(
      { disks: guest.disks, plan, directory: operation() },
      {
        signal: abort.signal,
        progress: (at) => {
          if (at.phase === phase && at.detail === detail) abort.abort(new Error('stopped by a person'));
        },
      },
    );
    await expect(running).rejects.toThrow('stopped by a person');
    expect(contentHash(guest.image, guest.format)).toBe(guest.hash);
    await expectEditAndRevert(guest, plan);
  });

  test('is taken back exactly where it edited, beside what was written since; edited places that changed are named', async () => {
    const guest = machine({ format: 'raw' });
    const original = readFileSync(guest.image);
    const result = await inject(guest, await planFor(guest, 'virtio-blk'));
    const runs = (await readJournal(result.journalDirectory))?.journal.disks[0]?.runs ?? [];
    const put = (offsetBytes: number, bytes: string | Uint8Array): void => {
      const file = openSync(guest.image, 'r+');
      writeSync(file, Buffer.from(bytes as string), 0, bytes.length, offsetBytes);
      closeSync(file);
    };
    const [first, second] = runs;
    if (first === undefined || second === undefined) throw new Error('the edit changed one place at most');
    const edited = readFileSync(guest.image);
    // Behind the first edited place, where nothing was edited; and in an edited one.
    const beside = first.offsetBytes + first.lengthBytes;
    expect(runs.some(({ offsetBytes }) => offsetBytes === beside)).toBe(false);
    put(beside, 'a guest ran');
    put(second.offsetBytes, 'here as well');
    const before = contentHash(guest.image, 'raw');
    await expect(revert()).rejects.toMatchObject({
      code: 'guest.journal-changed-since',
      message: expect.stringContaining(`1 of the places`) as string,
    });
    await expect(revert()).rejects.toThrow(`vda: ${second.lengthBytes} bytes at ${second.offsetBytes}`);
    expect(contentHash(guest.image, 'raw')).toBe(before);

    put(second.offsetBytes, edited.subarray(second.offsetBytes, second.offsetBytes + 12));
    await revert();
    original.write('a guest ran', beside);
    expect(readFileSync(guest.image).equals(original)).toBe(true);
  });

  test('after a first boot the edited files are put back through the filesystem, if nobody changed them', async () => {
    const guest = machine({
      format: 'raw',
      rootSource: '/dev/sda1',
      change: (root) => {
        mkdirSync(join(root, 'etc/lvm/devices'), { recursive: true });
        writeFileSync(join(root, 'etc/lvm/devices/system.devices'), 'IDTYPE=sys_serial IDNAME=X\n', { mode: 0o600 });
      },
    });
    const before = await planFor(guest, 'nvme');
    const held = new Map(
      [INITRD, '/etc/fstab', '/etc/initramfs-tools/modules', '/etc/lvm/devices/system.devices'].map((path) => [
        path,
        sha256(guestFile(guest, path)),
      ]),
    );
    const { edits, journalDirectory } = await inject(guest, before);
    expect(edits.map(({ path }) => path).toSorted()).toEqual([...held.keys()].toSorted());
    // What a guest does when it starts: mounts its root, and writes.
    asGuest(guest.image, (root) => writeFileSync(join(root, 'var/log/boot.log'), 'started\n'));
    const back = (overwriteChanged = false) =>
      revertFiles({ disks: guest.disks, journalDirectory, directory: join(base, 'back'), overwriteChanged }, quiet);
    await expect(revert()).rejects.toMatchObject({ code: 'guest.journal-changed-since' });
    asGuest(guest.image, (root) => writeFileSync(join(root, 'etc/fstab'), '# by a person\n'));
    const booted = contentHash(guest.image, 'raw');
    await expect(back()).rejects.toMatchObject({
      code: 'guest.files-changed-since',
      message: expect.stringMatching(/: \/etc\/fstab$/) as string,
    });
    expect(contentHash(guest.image, 'raw')).toBe(booted);

    expect((await back(true)).toSorted()).toEqual([...held.keys()].toSorted());
    for (const [path, hash] of held) expect([path, sha256(guestFile(guest, path))]).toEqual([path, hash]);
    expect(guestFile(guest, '/var/log/boot.log').toString()).toBe('started\n');
    asGuest(guest.image, (root) => {
      expect(statSync(join(root, 'etc/lvm/devices/system.devices')).mode & 0o777).toBe(0o600);
    });
    expect((await readJournal(journalDirectory))?.state).toBe('reverted');
    const after = contentHash(guest.image, 'raw');
    await back();
    await revert();
    expect(contentHash(guest.image, 'raw')).toBe(after);
  });

  test('a plan for another disk is not carried out', async () => {
    const [planned, other] = [machine(), machine({ initrd: { microcode: false } })];
    const plan = await planFor(planned, 'virtio-blk');
    await expect(inject(other, plan)).rejects.toMatchObject({ code: 'guest.changed-since-plan' });
    expect(contentHash(other.image, other.format)).toBe(other.hash);
  });

  test('a damaged journal is not used', async () => {
    const guest = machine();
    const result = await inject(guest, await planFor(guest, 'virtio-blk'));
    const path = join(result.journalDirectory, 'journal.json');
    writeFileSync(path, readFileSync(path, 'utf8').replace(/"offsetBytes":1/, '"offsetBytes":2'));
    await expect(revert()).rejects.toMatchObject({ code: 'guest.journal-damaged' });
  });

  test('a filesystem damaged before the edit stops it', async () => {
    const guest = machine({ format: 'raw' });
    const plan = await planFor(guest, 'virtio-blk');
    const file = openSync(guest.image, 'r+');
    // The second group's block bitmap and onwards: the mount does not look at it, a check does.
    const info = execFileSync('dumpe2fs', [`${guest.image}?offset=${1024 * 1024}`], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    const bitmap = Number(/Group 1:[\s\S]*?Block bitmap at (\d+)/.exec(info)?.[1]);
    const blockBytes = Number(/Block size:\s+(\d+)/.exec(info)?.[1]);
    expect(bitmap).toBeGreaterThan(0);
    writeSync(file, Buffer.alloc(512, 0xa5), 0, 512, 1024 * 1024 + bitmap * blockBytes);
    closeSync(file);
    const hash = contentHash(guest.image, 'raw');
    const {
      volumes: [volume],
    } = await checkVolumes({ disks: guest.disks, directory: join(base, 'check') }, quiet);
    expect(volume).toMatchObject({ type: 'ext4', result: 'damaged' });
    expect(volume?.detail).toContain('e2fsck ends with 4');
    await expect(inject(guest, plan)).rejects.toMatchObject({
      code: 'guest.filesystem-damaged',
      context: { when: 'before' },
    });
    expect(contentHash(guest.image, 'raw')).toBe(hash);
  });

  test('a disk that is no Linux, an encrypted one, and one with two systems are refused by name', async () => {
    const empty = join(base, 'empty.raw');
    execFileSync('truncate', ['-s', '8M', empty]);
    const disk = (path: string, name = 'vda'): GuestDisk => ({ name, image: { path, format: 'raw' } });
    await expect(inspect([disk(empty)])).rejects.toMatchObject({ code: 'guest.no-root' });
    const luks = join(base, 'luks.raw');
    execFileSync('truncate', ['-s', '8M', luks]);
    execFileSync('sfdisk', ['--quiet', luks], { input: 'label: gpt\nstart=2048, size=8192, type=linux\n' });
    const file = openSync(luks, 'r+');
    writeSync(file, Buffer.from('LUKS\xba\xbe\0\x01', 'latin1'), 0, 8, 1024 * 1024);
    closeSync(file);
    await expect(inspect([disk(luks)])).rejects.toMatchObject({
      code: 'guest.layout-unsupported',
      message: expect.stringContaining('LUKS encryption on vda partition 1') as string,
    });
    const guest = machine({ format: 'raw' });
    const copy = join(base, 'second.raw');
    execFileSync('cp', ['--sparse=always', guest.image, copy]);
    await expect(inspect([disk(guest.image), disk(copy, 'vdb')])).rejects.toMatchObject({
      code: 'guest.several-roots',
    });
  });

  test.each([
    ['no-boot-driver', { change: (root: string) => withoutModule(root, 'nvme/host/nvme.ko') }, 'asks'],
    ['initrd-generator-unknown', { initrd: { generator: 'none' } }, 'neither by initramfs-tools nor by dracut'],
    ['initrd-unreadable', { change: (root: string) => damage(join(root, INITRD)) }, 'cannot be unpacked'],
    [
      'boot-driver-blacklisted',
      { change: (root: string) => writeFileSync(join(root, 'etc/modprobe.d/x.conf'), 'blacklist nvme\n') },
      'forbids nvme',
    ],
    [
      'unstable-device-name',
      { change: (root: string) => writeFileSync(join(root, 'etc/crypttab'), 'data /dev/sdb5 none luks\n') },
      '/dev/sdb5 to unlock',
    ],
    [
      'no-space',
      { change: (root: string) => writeFileSync(join(root, 'filler'), Buffer.alloc(60 * 1024 * 1024, 1)) },
      'are needed',
    ],
    [
      'no-kernel',
      { change: (root: string) => execFileSync('rm', [join(root, `boot/vmlinuz-${FAKE_VERSION}`)]) },
      'no kernel',
    ],
  ] as const)('%s is said in the plan, and the plan is not carried out', async (code, options, words) => {
    const guest = machine(options);
    const plan = await planFor(guest, 'nvme');
    expect(plan.edits).toEqual([]);
    expect(plan.refusals.map((refusal) => refusal.code)).toEqual([code]);
    expect(plan.refusals[0]?.text).toContain(code === 'no-boot-driver' ? 'pci:v00001B36d00000010' : words);
    await expect(inject(guest, plan)).rejects.toMatchObject({ code: 'guest.redeploy-refused' });
    expect(existsSync(operation())).toBe(false);
  });
});

test('an edit that breaks the filesystem never reaches the disk', async () => {
  const guest = machine();
  let reached = false;
  const editing = withEditableGuest(
    { disks: guest.disks, directory: operation(), signal },
    {
      work: async ({ mounted, tree }) => {
        expect(mounted.root.uuid).toBe(ROOT_UUID);
        await tree.replace('/etc/fstab', [Buffer.from('edited\n')]);
        // What a kernel with a bug might do: write behind the filesystem's back.
        const file = openSync(join(operation(), 'vda.disk'), 'r+');
        writeSync(file, Buffer.alloc(4096, 0x5a), 0, 4096, 1024 * 1024 + 32768 * 4096);
        closeSync(file);
      },
      changes: async () => {
        reached = true;
      },
    },
  );
  await expect(editing).rejects.toMatchObject({ code: 'guest.filesystem-damaged' });
  expect(reached).toBe(false);
  expect(contentHash(guest.image, guest.format)).toBe(guest.hash);
});

/** Mounts the first partition as a guest would, and works there. */
function asGuest(image: string, work: (root: string) => void): void {
  const root = join(base, 'live');
  mkdirSync(root, { recursive: true });
  const args = ['-f', '--show', '-o', String(1024 * 1024), image];
  const loop = execFileSync('losetup', args, { encoding: 'utf8' }).trim();
  try {
    execFileSync('mount', [loop, root]);
    try {
      work(root);
    } finally {
      execFileSync('umount', [root]);
    }
  } finally {
    execFileSync('losetup', ['-d', loop]);
  }
}

function withoutModule(root: string, file: string): void {
  const tree = join(root, 'usr/lib/modules', FAKE_VERSION);
  execFileSync('rm', [join(tree, 'kernel/drivers', file)]);
  execFileSync('depmod', ['-b', join(root, 'usr'), FAKE_VERSION]);
}

function damage(path: string): void {
  const bytes = readFileSync(path);
  writeFileSync(path, bytes.subarray(0, bytes.length - 100));
}
