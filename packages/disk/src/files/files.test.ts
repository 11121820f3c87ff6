import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { hasCode } from '@lifeboat/foundation/errors';
import * as fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { deviceOf } from '../testing/disks.ts';
import { openExt } from './ext.ts';
import { openFat } from './fat.ts';
import type { FileNode } from './file-node.ts';

const MIB = 1024 * 1024;

let directory: string;
let source: string;
let image: string;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'files-'));
  image = join(directory, 'volume.raw');
  source = join(directory, 'source');
  mkdirSync(join(source, 'etc/deep/er'), { recursive: true });
  mkdirSync(join(source, 'many'));
  writeFileSync(join(source, 'etc/os-release'), 'ID=debian\n');
  writeFileSync(join(source, 'etc/empty'), '');
  writeFileSync(join(source, 'etc/deep/er/big'), bytesOf(3 * MIB + 17));
  symlinkSync('../usr/lib/os-release', join(source, 'etc/short'));
  symlinkSync(`/${'long/'.repeat(40)}end`, join(source, 'etc/long'));
  for (let i = 0; i < 300; i += 1) writeFileSync(join(source, `many/a-file-with-a-rather-long-name-${i}`), `${i}`);
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

/** Bytes that no compression and no mistake repeats. */
const made = new Map<number, Buffer>();
function bytesOf(length: number): Buffer {
  const known = made.get(length);
  if (known) return known;
  const out = Buffer.alloc(length);
  for (let at = 0, n = 0; at < length; at += 32, n += 1) createHash('sha256').update(String(n)).digest().copy(out, at);
  made.set(length, out);
  return out;
}

function ext(...args: string[]): Buffer {
  rmSync(image, { force: true });
  writeFileSync(image, '');
  truncateSync(image, 16 * MIB);
  execFileSync('mke2fs', ['-q', '-F', ...args, '-d', source, image], { stdio: 'ignore' });
  return readFileSync(image);
}

async function at(root: FileNode, path: string): Promise<FileNode> {
  let node: FileNode | undefined = root;
  for (const name of path.split('/')) node = await node?.child(name);
  if (!node) throw new Error(`there is no ${path}`);
  return node;
}

describe('ext filesystems, as mke2fs makes them', () => {
  it.each([
    ['ext2 with blocks of 1 KiB', ['-t', 'ext2', '-b', '1024']],
    ['ext3 with blocks of 4 KiB', ['-t', 'ext3', '-b', '4096']],
    ['ext4', ['-t', 'ext4', '-O', '64bit']],
    ['ext4 with small inodes and 1 KiB', ['-t', 'ext4', '-b', '1024', '-I', '128', '-O', '^64bit']],
  ])('%s give every file', async (_, args) => {
    const root = await openExt(deviceOf(ext(...args)));
    expect((await root.names()).sort()).toEqual(['etc', 'lost+found', 'many']);
    expect((await (await at(root, 'etc/os-release')).read()).toString()).toBe('ID=debian\n');
    expect(await (await at(root, 'etc/empty')).read()).toHaveLength(0);
    const big = await at(root, 'etc/deep/er/big');
    expect((await big.read()).equals(bytesOf(3 * MIB + 17))).toBe(true);
    expect((await big.read(1000)).equals(bytesOf(1000))).toBe(true);
    expect(await (await at(root, 'etc/short')).target()).toBe('../usr/lib/os-release');
    expect(await (await at(root, 'etc/long')).target()).toBe(`/${'long/'.repeat(40)}end`);
    expect(await (await at(root, 'many')).names()).toHaveLength(300);
    expect((await (await at(root, 'many/a-file-with-a-rather-long-name-299')).read()).toString()).toBe('299');
    expect(await root.child('nothing')).toBeUndefined();
  });

  it('that were not unmounted are read with what their journal holds', async () => {
    const bytes = ext('-t', 'ext4', '-b', '4096');
    const before = await openExt(deviceOf(bytes));
    writeFileSync(image, bytes);
    // debugfs writes a transaction, commits it, and leaves it unreplayed: what a power cut leaves.
    const inodeBlock = execFileSync('debugfs', ['-R', 'imap /etc/os-release', image], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    const block = Number(/block (\d+)/.exec(inodeBlock)?.[1]);
    const offset = Number.parseInt(/offset (0x[0-9a-f]+)/.exec(inodeBlock)?.[1] ?? '', 16);
    const changed = Buffer.from(bytes.subarray(block * 4096, (block + 1) * 4096));
    changed.writeUInt32LE(3, offset + 4); // the file's size
    const content = join(directory, 'block');
    writeFileSync(content, changed);
    const commands = join(directory, 'commands');
    writeFileSync(commands, `jo\njw -b ${block} ${content}\njc\n`);
    execFileSync('debugfs', ['-w', '-f', commands, image], { stdio: 'ignore' });
    const dirty = readFileSync(image);
    expect(dirty.readUInt32LE(1024 + 96) & 4).toBe(4);
    expect(await (await at(before, 'etc/os-release')).read()).toHaveLength(10);
    expect((await (await at(await openExt(deviceOf(dirty)), 'etc/os-release')).read()).toString()).toBe('ID=');
  });
});

describe('FAT, as mkfs.fat and mcopy make it', () => {
  function fat(bits: string, sizeBytes: number): Buffer {
    rmSync(image, { force: true });
    writeFileSync(image, '');
    truncateSync(image, sizeBytes);
    execFileSync('mkfs.fat', ['-F', bits, image], { stdio: 'ignore' });
    const tool = (name: string, ...args: string[]) =>
      execFileSync(name, ['-i', image, ...args], { stdio: 'ignore', env: { ...process.env, MTOOLS_SKIP_CHECK: '1' } });
    tool('mmd', '::/EFI', '::/EFI/BOOT', '::/EFI/a folder with a long name');
    tool('mcopy', join(source, 'etc/deep/er/big'), '::/EFI/BOOT/BOOTX64.EFI');
    tool('mcopy', join(source, 'etc/os-release'), '::/EFI/a folder with a long name/systemd-bootx64.efi');
    tool('mcopy', join(source, 'etc/empty'), '::/EFI/empty');
    return readFileSync(image);
  }

  it.each([
    ['12', 8 * MIB],
    ['16', 32 * MIB],
    ['32', 64 * MIB],
  ])('with %s bits gives every file, whatever the case of its name', async (bits, sizeBytes) => {
    const root = await openFat(deviceOf(fat(bits, sizeBytes)));
    expect(await root.names()).toEqual(['EFI']);
    expect((await (await at(root, 'efi/boot/bootx64.efi')).read()).equals(bytesOf(3 * MIB + 17))).toBe(true);
    const long = await at(root, 'EFI/A Folder With A Long Name/systemd-bootx64.efi');
    expect((await long.read()).toString()).toBe('ID=debian\n');
    expect(await (await at(root, 'EFI/empty')).read()).toHaveLength(0);
    expect(await root.child('nothing')).toBeUndefined();
  });

  it('that is damaged gives files or a finding, never a hang', async () => {
    expect(await hostile(fat('16', 32 * MIB), openFat, 200 * 1024)).toEqual([]);
  });
});

describe('an ext filesystem that is damaged or hostile', () => {
  it.each([
    ['ext2', ['-t', 'ext2', '-b', '1024']],
    ['ext4', ['-t', 'ext4', '-b', '1024']],
  ])('%s gives files or a finding, never a hang', async (_, args) => {
    expect(await hostile(ext(...args), openExt, 600 * 1024)).toEqual([]);
  });

  it('whose extent tree leads in a circle, or lists its blocks again and again, ends', async () => {
    const bytes = ext('-t', 'ext4', '-b', '4096');
    const where = execFileSync('debugfs', ['-R', 'imap /etc/deep/er/big', image], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    const inode =
      Number(/block (\d+)/.exec(where)?.[1]) * 4096 +
      Number.parseInt(/offset (0x[0-9a-f]+)/.exec(where)?.[1] ?? '', 16);
    const map = inode + 40;
    const read = async () => (await at(await openExt(deviceOf(bytes)), 'etc/deep/er/big')).read();
    bytes.writeUInt16LE(4, map + 2);
    for (let i = 0; i < 4; i += 1) bytes.copyWithin(map + 12 + i * 12, map + 12, map + 24);
    await expect(read()).rejects.toMatchObject({
      code: 'guest.filesystem-unreadable',
      message: expect.stringContaining('overlap') as string,
    });
    // An index whose one block is full of links to itself.
    const block = 3000;
    bytes.writeUInt16LE(1, map + 2);
    bytes.writeUInt16LE(5, map + 6);
    bytes.writeUInt32LE(block, map + 16);
    bytes.writeUInt16LE(0, map + 20);
    const node = block * 4096;
    bytes.writeUInt16LE(0xf30a, node);
    bytes.writeUInt16LE(340, node + 2);
    bytes.writeUInt16LE(4, node + 6);
    for (let i = 0; i < 340; i += 1) bytes.writeUInt32LE(block, node + 12 + i * 12 + 4);
    await expect(read()).rejects.toMatchObject({ code: 'guest.filesystem-unreadable' });
  });
});

/** Flips bytes near the start, where the structures are, and reads everything that is still found. What else than a finding came of it. */
async function hostile(
  bytes: Buffer,
  open: (device: ReturnType<typeof deviceOf>) => Promise<FileNode>,
  head: number,
): Promise<unknown[]> {
  const flips = fc.array(fc.record({ at: fc.nat({ max: head - 1 }), bits: fc.integer({ min: 1, max: 255 }) }), {
    minLength: 1,
    maxLength: 60,
  });
  const bugs: unknown[] = [];
  await fc.assert(
    fc.asyncProperty(flips, fc.nat({ max: bytes.length }), async (list, cut) => {
      const flip = () => {
        for (const { at: index, bits } of list) bytes.writeUInt8(bytes.readUInt8(index) ^ bits, index);
      };
      flip();
      const device = deviceOf(cut % 4 === 0 ? bytes.subarray(0, cut) : bytes);
      try {
        await walk(await open(device), 4);
      } catch (error) {
        if (!hasCode(error, 'guest.filesystem-unreadable')) bugs.push(error);
      } finally {
        flip(); // the same again: undone
      }
    }),
    { numRuns: 60 },
  );
  return bugs;
}

async function walk(node: FileNode, depth: number): Promise<void> {
  if (node.kind === 'file') await node.read(64 * 1024);
  if (node.kind === 'symlink') await node.target();
  if (node.kind !== 'directory' || depth === 0) return;
  for (const name of (await node.names()).slice(0, 20)) {
    const child = await node.child(name);
    if (child) await walk(child, depth - 1);
  }
}
