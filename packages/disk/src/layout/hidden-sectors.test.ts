import { execFileSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, truncateSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { MiB } from '@lifeboat/foundation/units';
import { describe, expect, it } from 'vitest';
import { deviceOf } from '../testing/disks.ts';
import { movedBootSectors } from './hidden-sectors.ts';

/** A real FAT32 volume that says how many sectors lie before it. */
function fat32(hidden: number): Buffer {
  const directory = mkdtempSync(join(tmpdir(), 'hidden-'));
  try {
    const path = join(directory, 'fat.img');
    closeSync(openSync(path, 'w'));
    truncateSync(path, 40 * MiB);
    execFileSync('mkfs.vfat', ['-F', '32', '-h', `${hidden}`, path], { stdio: 'ignore' });
    return readFileSync(path);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

const move = (from: number, to: number, isLogical = false) => ({ fromBytes: from * 512, toBytes: to * 512, isLogical });

describe('a moved volume says where it begins', () => {
  it('FAT32, in both of its boot sectors', async () => {
    const pieces = await movedBootSectors(deviceOf(fat32(63)), move(63, 2048));
    expect(pieces.map(({ offsetBytes }) => offsetBytes)).toEqual([0, 6 * 512]);
    for (const { bytes } of pieces) expect(Buffer.from(bytes).readUInt32LE(0x1c)).toBe(2048);
  });

  it('NTFS, in the copy at its end as well', async () => {
    const volume = Buffer.alloc(100 * 512);
    const boot = Buffer.alloc(512);
    boot.write('NTFS    ', 3, 'latin1');
    boot.writeUInt16LE(512, 11);
    boot.writeUInt32LE(63, 0x1c);
    boot.writeBigUInt64LE(99n, 0x28);
    boot.copy(volume, 0);
    boot.copy(volume, 99 * 512);
    const pieces = await movedBootSectors(deviceOf(volume), move(63, 4096));
    expect(pieces.map(({ offsetBytes }) => offsetBytes)).toEqual([0, 99 * 512]);
    for (const { bytes } of pieces) expect(Buffer.from(bytes).readUInt32LE(0x1c)).toBe(4096);
  });

  it('of a logical one as old systems counted, and nothing else is touched', async () => {
    const [piece] = await movedBootSectors(deviceOf(fat32(63)), move(126, 4096, true));
    expect(Buffer.from(piece?.bytes ?? []).readUInt32LE(0x1c)).toBe(2048);
    expect(await movedBootSectors(deviceOf(fat32(0)), move(63, 2048))).toEqual([]);
    expect(await movedBootSectors(deviceOf(fat32(63)), move(63, 63))).toEqual([]);
    expect(await movedBootSectors(deviceOf(Buffer.alloc(MiB)), move(63, 2048))).toEqual([]);
  });
});
