/** A person looks into a disk image, or the engine changes it: FUSE file, loop device, mount, and back down again. */
import { spawn } from 'node:child_process';
import { open, readFile, readdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { assert, asyncProperty, integer } from 'fast-check';
import { describe, expect, onTestFinished, test } from 'vitest';
import { parseOpId } from '@lifeboat/foundation/ids';
import { systemRandom } from '@lifeboat/foundation/random';
import { KiB, MiB } from '@lifeboat/foundation/units';
import { runTool } from '@lifeboat/host/children';
import { serveDiskImage } from '@lifeboat/host/disk-image-server';
import { attachedLoops, detachRecordedLoops, loopDevice } from '@lifeboat/host/loop-device';
import { isMounted, mountFilesystem, mountsBeneath } from '@lifeboat/host/mounts';
import { openOperation } from '@lifeboat/host/operation';
import { reap } from '@lifeboat/host/reaper';
import { openStateRoot } from '@lifeboat/host/state';
import { scratchDirectory } from '@lifeboat/host/testing/scratch';
import { eventually, moduleUrl, startVictim, type Victim } from '@lifeboat/host/testing/victim';

const { signal } = new AbortController();
const timeoutMs = 60_000;
const opId = parseOpId('look-1');
const START = 2 * MiB;
/** Odd, so that no device of another test is taken for ours. */
const SIZE = 32 * MiB + 28 * KiB;

const run = async (command: string, ...args: string[]): Promise<string> =>
  (await runTool(command, args, { timeoutMs })).stdout;

/** A disk of 40 MiB with an ext4 filesystem of 32 MiB at 2 MiB in a somewhat larger volume that holds the file `hello`. */
async function diskWithExt4(directory: string): Promise<string> {
  const path = join(directory, 'disk.raw');
  const tree = join(directory, 'tree');
  await run('mkdir', tree);
  await writeFile(join(tree, 'hello'), 'from the guest\n');
  await run('truncate', '-s', '40M', path);
  await run('mkfs.ext4', '-q', '-d', tree, '-E', `offset=${START}`, path, '32M');
  return path;
}

function overlayOver(path: string, directory: string) {
  const image = {
    kind: 'overlay',
    path: join(directory, 'o.qcow2'),
    clusterSizeBytes: 65536,
    backing: { path, format: 'raw' },
  } as const;
  return { image, fuse: { writable: true }, directory, name: 'd' };
}

const loopOf = (path: string, directory: string) =>
  ({ path, offsetBytes: START, sizeLimitBytes: SIZE, readOnly: false, directory, name: 'root' }) as const;

describe('a disk image as a file, a device and a filesystem', () => {
  test('is changed through a mount, and what was written is in the image after stop', async () => {
    const directory = await scratchDirectory();
    const base = await diskWithExt4(directory);
    const before = await readFile(base);
    const options = overlayOver(base, directory);
    const server = await serveDiskImage(options, { signal });
    onTestFinished(() => server.stop());
    const fusePath = server.fusePath as string;
    expect((await stat(fusePath)).size).toBe(40 * MiB);
    const loop = await loopDevice(loopOf(fusePath, directory));
    onTestFinished(() => loop.detach());
    const mounted = await mountFilesystem({
      device: loop.path,
      type: 'ext4',
      readOnly: false,
      directory,
      name: 'root',
    });
    onTestFinished(() => mounted.unmount());

    expect(await readFile(join(mounted.path, 'hello'), 'utf8')).toBe('from the guest\n');
    const flags = await run('findmnt', '--noheadings', '--output', 'OPTIONS', mounted.path);
    expect(flags.split(',')).toEqual(expect.arrayContaining(['rw', 'nosuid', 'nodev', 'noexec']));
    await writeFile(join(mounted.path, 'new'), 'from the host\n');

    await mounted.unmount();
    await loop.detach();
    await server.stop();
    expect(await mountsBeneath(directory)).toEqual([]);
    expect((await readdir(directory)).sort()).toEqual(['d.log', 'disk.raw', 'o.qcow2', 'tree']);
    await run('qemu-img', 'check', '-q', options.image.path);
    const flat = join(directory, 'flat.raw');
    await run('qemu-img', 'convert', '-f', 'qcow2', '-O', 'raw', options.image.path, flat);
    expect(await run('debugfs', '-R', 'cat new', `${flat}?offset=${START}`)).toBe('from the host\n');
    expect(Buffer.compare(before, await readFile(base))).toBe(0);
  });

  test('a read-only export and loop device cannot be written', async () => {
    const directory = await scratchDirectory();
    const path = await diskWithExt4(directory);
    const image = { kind: 'image', path, format: 'raw', readOnly: true } as const;
    const server = await serveDiskImage(
      { image, nbd: { writable: false }, fuse: { writable: false }, directory, name: 'd' },
      { signal },
    );
    onTestFinished(() => server.stop());
    const loop = await loopDevice({ ...loopOf(server.fusePath as string, directory), readOnly: true });
    onTestFinished(() => loop.detach());
    expect(await run('blockdev', '--getro', loop.path)).toBe('1\n');
    expect(await run('blockdev', '--getsize64', loop.path)).toBe(`${SIZE}\n`);
    const mounted = await mountFilesystem({ device: loop.path, type: 'ext4', readOnly: true, directory, name: 'root' });
    onTestFinished(() => mounted.unmount());
    await expect(writeFile(join(mounted.path, 'new'), '')).rejects.toMatchObject({ code: 'EROFS' });
  });

  test('a wrong filesystem type fails with the words of mount and leaves no mount point', async () => {
    const directory = await scratchDirectory();
    const path = await diskWithExt4(directory);
    const loop = await loopDevice(loopOf(path, directory));
    onTestFinished(() => loop.detach());
    const options = { device: loop.path, readOnly: true, directory, name: 'root' };
    await expect(mountFilesystem({ ...options, type: 'vfat' })).rejects.toMatchObject({ code: 'host.tool-failed' });
    for (const flag of ['suid', 'exec', 'ro,exec', 'x=1,dev']) {
      await expect(mountFilesystem({ ...options, type: 'ext4', options: [flag] })).rejects.toMatchObject({
        code: 'input.invalid',
      });
    }
    await expect(mountFilesystem({ ...options, type: 'ext4,suid' })).rejects.toMatchObject({ code: 'input.invalid' });
    expect(await readdir(directory)).not.toContain('root.mnt');
  });

  test('a mount that stays busy is taken away lazily, and that is said', async () => {
    const directory = await scratchDirectory();
    const path = await diskWithExt4(directory);
    const loop = await loopDevice(loopOf(path, directory));
    const mounted = await mountFilesystem({ device: loop.path, type: 'ext4', readOnly: true, directory, name: 'root' });
    const file = await open(join(mounted.path, 'hello'));
    try {
      await expect(mounted.unmount()).rejects.toMatchObject({ code: 'host.unmount-lazy' });
      expect(await isMounted(mounted.path)).toBe(false);
    } finally {
      await file.close();
      await loop.detach();
    }
  });

  test('loop devices are not mixed up when many are made at once', async () => {
    const directory = await scratchDirectory();
    const names = Array.from({ length: 8 }, (_, i) => `l${i}`);
    const loops = await Promise.all(
      names.map(async (name) => {
        const path = join(directory, name);
        await writeFile(path, Buffer.alloc(4096, name));
        return {
          name,
          loop: await loopDevice({ ...loopOf(path, directory), offsetBytes: 0, sizeLimitBytes: 4096, name }),
        };
      }),
    );
    onTestFinished(async () => {
      await Promise.all(loops.map(({ loop }) => loop.detach()));
    });
    expect(new Set(loops.map(({ loop }) => loop.path)).size).toBe(8);
    for (const { name, loop } of loops)
      expect(Buffer.compare(await readFile(loop.path), Buffer.alloc(4096, name))).toBe(0);
  });
});

describe('kill -9 in the middle', () => {
  /** An operation that serves, attaches and mounts a disk image, step by step, and says where it is. */
  const operator = (root: string, base: string): Victim =>
    startVictim(`
      import { openOperation } from ${moduleUrl('operation.ts')};
      import { serveDiskImage } from ${moduleUrl('disk-image-server.ts')};
      import { loopDevice } from ${moduleUrl('loop-device.ts')};
      import { mountFilesystem } from ${moduleUrl('mounts.ts')};
      const { signal } = new AbortController();
      console.log('up');
      const operation = await openOperation({ stateRoot: ${JSON.stringify(root)}, opId: '${opId}', intent: 'look', signal });
      const { directory } = operation;
      const image = { kind: 'overlay', path: directory + '/o.qcow2', clusterSizeBytes: 65536,
        backing: { path: ${JSON.stringify(base)}, format: 'raw' } };
      const server = await serveDiskImage({ image, fuse: { writable: true }, directory, name: 'd' }, { signal });
      const loop = await loopDevice({ ...${JSON.stringify(loopOf('', ''))}, directory, path: server.fusePath });
      await mountFilesystem({ device: loop.path, type: 'ext4', readOnly: false, directory, name: 'root' });
      console.log(loop.path);`);

  async function stateWithDisk() {
    const scratch = await scratchDirectory();
    const state = await openStateRoot(join(scratch, 's'), systemRandom);
    return { base: await diskWithExt4(scratch), root: state.path, hostId: state.hostId };
  }

  /** Nothing of the state is mounted, attached or running. */
  async function expectNothingLeft(root: string): Promise<void> {
    expect(await mountsBeneath(root)).toEqual([]);
    // Not by the file's name: a device on a FUSE file that was unmounted lazily shows none.
    const ours = (await attachedLoops()).filter((loop) => loop.offsetBytes === START && loop.sizeLimitBytes === SIZE);
    expect(ours).toEqual([]);
    // Names of processes end after 15 letters.
    const args = ['--exact', '--list-full', 'qemu-storage-daemon'.slice(0, 15)];
    expect((await runTool('pgrep', args, { timeoutMs, okCodes: [0, 1] })).stdout).not.toContain(root);
  }

  // After a second the kernel does not know any more which file a loop device on dead FUSE has.
  test.each([0, 1500])(
    'the next attempt, %i ms later, finds everything taken away and starts afresh',
    async (afterMs) => {
      const { root, base } = await stateWithDisk();
      const victim = operator(root, base);
      expect(await victim.nextLine()).toBe('up');
      const device = await victim.nextLine();
      expect(device).toMatch(/^\/dev\/loop\d+$/);
      await victim.kill();
      expect((await mountsBeneath(root)).map(({ type }) => type)).toEqual(['fuse', 'ext4']);
      await new Promise((resolve) => setTimeout(resolve, afterMs));
      const operation = await openOperation({ stateRoot: root, opId, intent: 'look', signal });
      expect(operation.leftovers.map(({ kind, name, gone }) => [kind, name, gone])).toEqual([
        ['child', 'd', true],
        ['mount', join(operation.directory, 'root.mnt'), true],
        ['loop', 'root', true],
        ['mount', join(operation.directory, 'd.disk'), true],
      ]);
      expect(operation.leftovers[2]?.detail).toBe(`detached, ${device}`);
      await expectNothingLeft(root);
      await operation.close({ remove: true });
    },
  );

  test('at any moment, the reaper leaves nothing', async () => {
    await assert(
      asyncProperty(integer({ min: 0, max: 700 }), async (delayMs) => {
        const { root, base, hostId } = await stateWithDisk();
        const victim = operator(root, base);
        expect(await victim.nextLine()).toBe('up');
        await new Promise((resolve) => setTimeout(resolve, delayMs));
        await victim.kill();
        const round = (epoch: number) =>
          reap({
            stateRoot: root,
            hostId,
            reapables: [],
            liveOps: new Set(),
            epoch,
            now: Date.now(),
            undo: async () => {},
          });
        // A child that dies with its parent may hold what it inherited for a moment longer.
        let epoch = 0;
        await eventually('everything is removed', async () =>
          (await round(++epoch)).every(({ outcome }) => outcome === 'removed'),
        );
        expect(await readdir(join(root, 'ops'))).toEqual([]);
        await expectNothingLeft(root);
      }),
      { numRuns: 8 },
    );
  });

  test('a loop device that serves another file by now is left alone; a damaged record is kept', async () => {
    const directory = await scratchDirectory();
    const path = join(directory, 'other');
    await writeFile(path, Buffer.alloc(4096));
    const other = (await run('losetup', '--find', '--show', path)).trim();
    onTestFinished(async () => void (await run('losetup', '--detach', other)));
    const { ino } = await stat(path);
    const file = { fileDevice: '1:1', inode: ino };
    const record = { device: other, path, file, offsetBytes: 0, sizeLimitBytes: 0 };
    await writeFile(join(directory, 'a.loop'), JSON.stringify(record));
    await writeFile(join(directory, 'b.loop'), JSON.stringify({ ...record, device: '/dev/vda' }));
    await writeFile(join(directory, 'c.loop'), '{');
    expect(await detachRecordedLoops(directory)).toEqual([
      { name: 'a', device: other, outcome: 'not-ours' },
      { name: 'b', device: undefined, outcome: 'unreadable' },
      { name: 'c', device: undefined, outcome: 'unreadable' },
    ]);
    expect((await attachedLoops()).map((loop) => loop.device)).toContain(other);
    expect(await readdir(directory)).toEqual(['b.loop', 'c.loop', 'other']);
  });

  test('a loop device another program holds open is reported, and detached once it lets go', async () => {
    const directory = await scratchDirectory();
    const path = join(directory, 'held');
    await writeFile(path, Buffer.alloc(4096));
    const loop = await loopDevice({ ...loopOf(path, directory), offsetBytes: 0, sizeLimitBytes: 4096 });
    const holder = spawn('sh', ['-c', `exec sleep 60 <${loop.path}`]);
    onTestFinished(() => {
      holder.kill('SIGKILL');
    });
    await eventually(
      'it is open',
      async () => (await run('sh', '-c', `readlink /proc/${holder.pid}/fd/0`)).trim() === loop.path,
    );
    await expect(loop.detach()).rejects.toMatchObject({ code: 'host.loop-busy' });
    holder.kill('SIGKILL');
    await eventually('it is detached', async () => !(await attachedLoops()).some(({ device }) => device === loop.path));
    await loop.detach();
  });
});
