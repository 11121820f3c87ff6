import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { sliceDevice } from './bytes.ts';
import { deviceOf, recordedVolume } from './testing/disks.ts';
import { probeVolume } from './volume-content.ts';

let directory: string;
let image: string;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'volume-content-'));
  image = join(directory, 'volume.raw');
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

/** A volume as a tool of this host makes it. */
function made(sizeBytes: number, tool: string, ...args: string[]): Buffer {
  writeFileSync(image, '');
  truncateSync(image, sizeBytes);
  execFileSync(tool, [...args, image], { stdio: 'ignore' });
  return readFileSync(image);
}

/** What blkid says of the same bytes: the oracle. */
function blkid(bytes: Uint8Array): Record<string, string> {
  writeFileSync(image, bytes);
  const { stdout } = spawnSync('blkid', ['-p', '-o', 'export', image], { encoding: 'utf8' });
  return Object.fromEntries(stdout.split('\n').map((line) => line.split('=', 2) as [string, string]));
}

const MIB = 1024 * 1024;
const U = '11111111-2222-4333-8444-55555555555';

describe('probeVolume agrees with blkid', () => {
  it.each([
    ['ext2', () => made(4 * MIB, 'mkfs.ext2', '-q', '-L', 'old', '-U', `${U}1`)],
    ['ext3', () => made(8 * MIB, 'mkfs.ext3', '-q', '-L', 'journal', '-U', `${U}2`)],
    ['ext4', () => made(8 * MIB, 'mkfs.ext4', '-q', '-L', 'root fs', '-U', `${U}3`)],
    ['vfat', () => made(2 * MIB, 'mkfs.fat', '-n', 'ESP')],
    ['vfat 32', () => made(64 * MIB, 'mkfs.fat', '-F', '32')],
    ['swap', () => made(MIB, 'mkswap', '-q', '-L', 'sw', '-U', `${U}4`)],
    ['swap of a machine with large pages', () => made(2 * MIB, 'mkswap', '-q', '-p', '65536')],
    ['xfs', () => recordedVolume('xfs')],
    ['btrfs', () => recordedVolume('btrfs')],
    ['LUKS 1', () => recordedVolume('luks1')],
    ['LUKS 2', () => recordedVolume('luks2')],
    ['LVM', () => recordedVolume('pv1')],
    ['MD 1.0', () => member('1.0')],
    ['MD 1.1', () => member('1.1')],
    ['MD 1.2', () => member('1.2')],
    ['MD 0.90', () => member('0.90')],
    ['a mirror with its filesystem at the start', () => member('1.0', made(8 * MIB, 'mkfs.ext4', '-q'))],
    ['nothing', () => Buffer.alloc(MIB)],
  ])('on %s', async (_, make) => {
    const bytes = make();
    const { TYPE = '', UUID = '', LABEL = '', VERSION = '' } = blkid(bytes);
    const found = { uuid: '', label: '', version: '', ...(await probeVolume(deviceOf(bytes))) };
    const { type, uuid, label } = found;
    // Of filesystems and LVM blkid's version is that of the format.
    const version = ['array-member', 'encryption'].includes(found.kind) ? VERSION.replace('0.90.0', '0.90') : '';
    expect({ type, uuid, label, version: found.version }).toEqual({
      type: TYPE,
      uuid: UUID,
      label: LABEL.replace(/\\(.)/g, '$1'),
      version,
    });
  });

  it('on NTFS, whose label lies in a file', async () => {
    expect(await probeVolume(deviceOf(recordedVolume('ntfs')))).toMatchObject({
      type: 'ntfs',
      uuid: '5F0F323C5330EA2E',
    });
  });
});

describe('what volumes say of themselves', () => {
  it('a filesystem: size, journal, errors, and a volume that is too small for it', async () => {
    const bytes = made(8 * MIB, 'mkfs.ext4', '-q', '-b', '1024');
    expect(await probeVolume(deviceOf(bytes))).toMatchObject({ sizeBytes: 8 * MIB, blockBytes: 1024, notes: [] });
    bytes.writeUInt32LE(bytes.readUInt32LE(1024 + 96) | 4, 1024 + 96);
    bytes.writeUInt16LE(3, 1024 + 58);
    expect(await probeVolume(sliceDevice(deviceOf(bytes), { offsetBytes: 0, lengthBytes: 4 * MIB }))).toMatchObject({
      notes: [
        'its journal is to be replayed',
        'its kernel found errors in it',
        'it says it has 8388608 bytes, more than the 4194304 of its volume',
      ],
    });
  });

  it('LUKS: cipher and slots; a damaged first header is said, and the second used', async () => {
    expect(await probeVolume(deviceOf(recordedVolume('luks1')))).toMatchObject({
      version: '1',
      cipher: 'aes-xts-plain64',
      keySlots: 1,
    });
    const bytes = recordedVolume('luks2');
    const whole = await probeVolume(deviceOf(bytes));
    expect(whole).toMatchObject({ version: '2', label: 'vault', cipher: 'aes-xts-plain64', keySlots: 1, problems: [] });
    const problems = ['its first LUKS header is damaged; the second is whole (cryptsetup repair)'];
    bytes.writeUInt8(0x20 ^ bytes.readUInt8(5000), 5000);
    expect(await probeVolume(deviceOf(bytes))).toEqual({ ...whole, problems });
    bytes.fill(0, 0, 512);
    expect(await probeVolume(deviceOf(bytes))).toEqual({ ...whole, problems });
    bytes.fill(0, 0x4000, 0x4200);
    expect((await probeVolume(deviceOf(bytes))).kind).toBe('unknown');
  });

  it('BitLocker: only that it is there', async () => {
    const bytes = Buffer.alloc(MIB);
    bytes.write('\xebX\x90-FVE-FS-', 'latin1');
    expect(await probeVolume(deviceOf(bytes))).toMatchObject({ kind: 'encryption', type: 'BitLocker' });
  });

  it('LVM: the whole group, from either of its volumes', async () => {
    const first = await probeVolume(deviceOf(recordedVolume('pv1')));
    const second = await probeVolume(deviceOf(recordedVolume('pv2')));
    if (first.kind !== 'physical-volume' || second.kind !== 'physical-volume') throw new Error('no physical volumes');
    expect([first.problems, second.problems]).toEqual([[], []]);
    expect(first.group).toEqual(second.group);
    expect(first.group).toMatchObject({
      name: 'vg0',
      extentBytes: MIB,
      physicalVolumes: [{ uuid: first.uuid }, { uuid: second.uuid }],
    });
    // As `lvs -o+devices --units b` listed them.
    const linear = (startExtent: number, extents: number, extent: number) => ({
      startExtent,
      extents,
      type: 'striped',
      stripes: [{ physicalVolume: 'pv0', extent }],
    });
    expect(first.group?.logicalVolumes).toMatchObject([
      { name: 'root', sizeBytes: 23_068_672, visible: true, segments: [linear(0, 20, 0), linear(20, 2, 50)] },
      { name: 'swap-1', sizeBytes: 31_457_280, segments: [linear(0, 30, 20)] },
      {
        name: 'stripe',
        sizeBytes: 4_194_304,
        segments: [
          {
            stripeBytes: 65_536,
            stripes: [
              { physicalVolume: 'pv0', extent: 52 },
              { physicalVolume: 'pv1', extent: 0 },
            ],
          },
        ],
      },
    ]);
  });

  it('LVM: a text that was changed without its checksum is not believed', async () => {
    const bytes = recordedVolume('pv1');
    bytes.writeUInt8(0x31 ^ bytes.readUInt8(bytes.indexOf('seqno')), bytes.lastIndexOf('extent_size'));
    expect(await probeVolume(deviceOf(bytes))).toEqual({
      kind: 'physical-volume',
      type: 'LVM2_member',
      uuid: expect.any(String) as string,
      problems: ['its metadata area at byte 4096 holds a text with a wrong checksum'],
    });
  });

  it('MD: level, place and size; no superblock is believed without its checksum', async () => {
    const bytes = member('1.2');
    expect(await probeVolume(deviceOf(bytes))).toMatchObject({
      level: 'raid1',
      raidDisks: 2,
      role: 1,
      dataOffsetBytes: MIB,
      arrayBytes: 6 * MIB,
      label: 'host:root',
      recovering: false,
      reshaping: false,
    });
    bytes.writeUInt32LE(3, 4096 + 92);
    expect((await probeVolume(deviceOf(bytes))).kind).not.toBe('array-member');
  });
});

describe('probeVolume on hostile bytes', () => {
  const volumes = () => [
    ...(['luks1', 'luks2', 'pv1', 'xfs', 'btrfs', 'ntfs'] as const).map((name) =>
      recordedVolume(name).subarray(0, 2 * MIB),
    ),
    member('1.2').subarray(0, 2 * MIB),
    made(2 * MIB, 'mkfs.ext4', '-q').subarray(),
  ];

  it('always ends with an answer, whatever is flipped and wherever it is cut', async () => {
    const originals = volumes();
    const flips = fc.array(fc.record({ at: fc.nat({ max: 72 * 1024 }), bits: fc.integer({ min: 1, max: 255 }) }), {
      maxLength: 12,
    });
    const texts = fc.array(fc.record({ at: fc.nat({ max: 12 * 1024 }), bits: fc.integer({ min: 1, max: 255 }) }), {
      maxLength: 4,
    });
    await fc.assert(
      fc.asyncProperty(
        fc.nat({ max: originals.length - 1 }),
        flips,
        texts,
        fc.nat({ max: 2 * MIB }),
        async (which, far, near, cut) => {
          const bytes = Buffer.from(originals[which] as Buffer);
          for (const { at, bits } of [...far, ...near]) bytes.writeUInt8(bytes.readUInt8(at) ^ bits, at);
          const device = deviceOf(cut % 3 === 0 ? bytes.subarray(0, cut) : bytes);
          expect((await probeVolume(device)).kind).toMatch(/^[a-z-]+$/);
        },
      ),
      { numRuns: 200 },
    );
  });

  it('gives any text for an LVM group back as a finding, though its checksums are right', async () => {
    const pieces = fc.constantFrom(
      'vg0',
      ' {',
      '}',
      '[',
      ']',
      '=',
      ',',
      '"',
      '\\',
      '#',
      '\n',
      '1',
      '-9',
      'id',
      'seqno',
      'segment1',
      '"x"',
      '\0',
      '§',
    );
    await fc.assert(
      fc.asyncProperty(fc.array(pieces, { maxLength: 60 }), async (parts) => {
        const found = await probeVolume(deviceOf(withLvmText(parts.join(''))));
        expect(found.kind).toBe('physical-volume');
      }),
      { numRuns: 200 },
    );
    const deep = await probeVolume(deviceOf(withLvmText('a{'.repeat(100_000))));
    const long = await probeVolume(deviceOf(withLvmText(`a="${'x'.repeat(900_000)}`)));
    const wide = await probeVolume(deviceOf(withLvmText(`v{${'a{}b{}'.repeat(60_000)}}`)));
    expect([deep, long, wide].map((found) => ('problems' in found ? found.problems : []))).toEqual([
      ["its volume group's text cannot be read: sections lie deeper than 16"],
      ["its volume group's text cannot be read: a text does not end"],
      ["its volume group's text cannot be read: it has more than 50000 sections"],
    ]);
  });
});

let pv: Buffer | undefined;
/** A physical volume whose group has this text, with all checksums right. */
function withLvmText(text: string): Buffer {
  const bytes = (pv ??= recordedVolume('pv1').subarray(0, 2 * MIB));
  const area = 4096;
  const content = Buffer.from(text);
  content.copy(bytes, area + 512);
  bytes.writeBigUInt64LE(512n, area + 40);
  bytes.writeBigUInt64LE(BigInt(content.length), area + 48);
  bytes.writeUInt32LE(lvmCrc(content), area + 56);
  bytes.writeUInt32LE(lvmCrc(bytes.subarray(area + 4, area + 512)), area);
  return bytes;
}

/** By the table that LVM has in lib/misc/crc.c, half a byte at a time. */
function lvmCrc(bytes: Uint8Array): number {
  const table = [
    0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4, 0x4db26158, 0x5005713c, 0xedb88320,
    0xf00f9344, 0xd6d6a3e8, 0xcb61b38c, 0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c,
  ];
  let crc = 0xf597a6cf;
  for (const byte of bytes) {
    crc ^= byte;
    crc = (crc >>> 4) ^ (table[crc & 0xf] as number);
    crc = (crc >>> 4) ^ (table[crc & 0xf] as number);
  }
  return crc >>> 0;
}

/** A member of a mirror, written by the structures of the kernel's md_p.h. `mdadm --examine` of 4.2 takes each of them. */
function member(version: '0.90' | '1.0' | '1.1' | '1.2', from: Buffer = Buffer.alloc(8 * MIB)): Buffer {
  const bytes = Buffer.from(from);
  const uuid = Buffer.from('00112233445566778899aabbccddeeff', 'hex');
  if (version === '0.90') {
    const at = bytes.length - 64 * 1024;
    const sb = bytes.subarray(at, at + 4096);
    const words: [number, number][] = [
      [0, 0xa92b4efc],
      [1, 0],
      [2, 90],
      [3, 0],
      [5, uuid.readUInt32BE(0)],
      [6, 1_700_000_000],
      [7, 1],
      [8, 8128 - 64],
      [9, 2],
      [10, 2],
      [11, 0],
    ];
    words.push(
      [13, uuid.readUInt32BE(4)],
      [14, uuid.readUInt32BE(8)],
      [15, uuid.readUInt32BE(12)],
      [33, 1],
      [34, 2],
      [35, 2],
    );
    for (const [place, number] of [
      [128, 0],
      [160, 1],
      [992, 1],
    ] as const)
      words.push([place, number], [place + 3, number], [place + 4, 6]);
    for (const [word, value] of words) sb.writeUInt32LE(value, word * 4);
    let sum = 0;
    for (let i = 0; i < 4096; i += 4) sum += sb.readUInt32LE(i);
    sb.writeUInt32LE(((sum % 2 ** 32) + Math.floor(sum / 2 ** 32)) >>> 0, 152);
    return bytes;
  }
  const at = { '1.0': bytes.length - 8192, '1.1': 0, '1.2': 4096 }[version];
  const sb = bytes.subarray(at, at + 4096);
  sb.fill(0);
  const dataOffset = version === '1.0' ? 0 : 2048;
  sb.writeUInt32LE(0xa92b4efc, 0);
  sb.writeUInt32LE(1, 4);
  uuid.copy(sb, 16);
  sb.write('host:root', 32);
  sb.writeInt32LE(1, 72);
  sb.writeBigUInt64LE(BigInt((6 * MIB) / 512), 80);
  sb.writeUInt32LE(2, 92);
  sb.writeBigUInt64LE(BigInt(dataOffset), 128);
  sb.writeBigUInt64LE(BigInt((6 * MIB) / 512), 136);
  sb.writeBigUInt64LE(BigInt(at / 512), 144);
  sb.writeUInt32LE(1, 160);
  sb.write('0123456789abcdef', 168);
  sb.writeUInt32LE(2, 220);
  sb.writeUInt16LE(0, 256);
  sb.writeUInt16LE(1, 258);
  let sum = 0;
  for (let i = 0; i < 260; i += 4) sum += sb.readUInt32LE(i);
  sb.writeUInt32LE(((sum % 2 ** 32) + Math.floor(sum / 2 ** 32)) >>> 0, 216);
  return bytes;
}
