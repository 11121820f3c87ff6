/**
 * The disks of `guest-image.ts` with their root in a logical volume over two disks, or on a mirror of two: metadata written here,
 * since neither the device mapper nor MD may be there.
 */
import { closeSync, openSync, readFileSync, readSync, rmSync, truncateSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { buildGuestImage, type GuestImageOptions } from './guest-image.ts';

const MiB = 1024 * 1024;
const ROOT_MIB = 160;
/** Where the part of each disk begins: at no cluster's beginning, as CHS had it. */
const PART_AT = 63 * 512;
/** The least that LVM takes: what is edited lies on both disks. */
const STRIPE = 4096;
const EXTENT = 4 * MiB;

export type Composition = 'lvm-striped' | 'raid1';

/** Paths of two raw images. `directory` as for `buildGuestImage`. */
export function buildComposedGuest(
  composition: Composition,
  options: Omit<GuestImageOptions, 'format' | 'table' | 'separateBoot' | 'further'>,
): [string, string] {
  const plain = buildGuestImage({ ...options, format: 'raw', table: 'mbr' });
  const root = readRoot(plain);
  const paths: [string, string] = [join(options.directory, 'a.raw'), join(options.directory, 'b.raw')];
  const columns = composition === 'raid1' ? [root, root] : stripes(root, [MiB, MiB + 2 * EXTENT]);
  for (const [number, path] of paths.entries()) {
    const file = openSync(path, 'w');
    truncateSync(path, 256 * MiB);
    // Boot code and a table with one partition, as it is in `plain`.
    const first = readFileSync(plain).subarray(0, 512);
    first.fill(0, 446, 510);
    first.writeUInt8(composition === 'raid1' ? 0xfd : 0x8e, 446 + 4);
    first.writeUInt32LE(PART_AT / 512, 446 + 8);
    first.writeUInt32LE((254 * MiB) / 512, 446 + 12);
    writeSync(file, first, 0, 512, 0);
    if (composition === 'raid1') {
      writeSync(file, arrayMember(number), 0, 4096, PART_AT + 4096);
      writeSync(file, columns[number] as Buffer, 0, root.length, PART_AT + MiB);
    } else {
      const column = columns[number] as Buffer;
      const head = physicalVolume(number);
      writeSync(file, column, 0, column.length, PART_AT);
      writeSync(file, head, 0, head.length, PART_AT);
    }
    closeSync(file);
  }
  rmSync(plain);
  return paths;
}

function readRoot(plain: string): Buffer {
  const file = openSync(plain, 'r');
  const bytes = Buffer.alloc(ROOT_MIB * MiB);
  readSync(file, bytes, 0, bytes.length, MiB);
  closeSync(file);
  return bytes;
}

/** What each disk's part holds from its beginning to the end of its column. */
function stripes(root: Buffer, starts: readonly [number, number]): Buffer[] {
  const columns = starts.map((start) => Buffer.alloc(start + root.length / 2));
  for (let i = 0; i * STRIPE < root.length; i += 1) {
    const at = (starts[i % 2] as number) + Math.floor(i / 2) * STRIPE;
    root.copy(columns[i % 2] as Buffer, at, i * STRIPE, (i + 1) * STRIPE);
  }
  return columns;
}

const PV_IDS = ['a', 'b'].map((letter) => letter.repeat(32));
const dashed = (id: string): string =>
  [id.slice(0, 6), ...[6, 10, 14, 18, 22].map((at) => id.slice(at, at + 4)), id.slice(26)].join('-');

const GROUP = `vg0 {
id = "${dashed('g'.repeat(32))}"
seqno = 3
format = "lvm2"
status = ["RESIZEABLE", "READ", "WRITE"]
extent_size = ${EXTENT / 512}
max_lv = 0
max_pv = 0
physical_volumes {
${PV_IDS.map((id, n) => `pv${n} {\nid = "${dashed(id)}"\ndevice = "/dev/sd${'ab'[n]}1"\nstatus = ["ALLOCATABLE"]\npe_start = 2048\npe_count = 62\n}`).join('\n')}
}
logical_volumes {
swap-1 {
id = "${dashed('s'.repeat(32))}"
status = ["READ", "WRITE", "VISIBLE"]
segment_count = 1
segment1 {
start_extent = 0
extent_count = 2
type = "striped"
stripe_count = 1
stripes = [ "pv1", 0 ]
}
}
root {
id = "${dashed('r'.repeat(32))}"
status = ["READ", "WRITE", "VISIBLE"]
segment_count = 1
segment1 {
start_extent = 0
extent_count = ${(ROOT_MIB * MiB) / EXTENT}
type = "striped"
stripe_count = 2
stripe_size = ${STRIPE / 512}
stripes = [ "pv0", 0, "pv1", 2 ]
}
}
}
}
contents = "Text Format Volume Group"
version = 1
`;

/** Label and metadata area as LVM2, lib/format_text/layout.h, has them. */
function physicalVolume(number: number): Buffer {
  const bytes = Buffer.alloc(64 * 1024);
  const label = bytes.subarray(512, 1024);
  label.write('LABELONE', 0, 'latin1');
  label.writeBigUInt64LE(1n, 8);
  label.writeUInt32LE(32, 20);
  label.write('LVM2 001', 24, 'latin1');
  label.write(PV_IDS[number] ?? '', 32, 'latin1');
  label.writeBigUInt64LE(BigInt(254 * MiB), 64);
  // Data area, end of list; metadata area, end of list.
  for (const [index, value] of [MiB, 0, 0, 0, 4096, MiB - 4096].entries())
    label.writeBigUInt64LE(BigInt(value), 72 + index * 8);
  label.writeUInt32LE(lvmCrc(label.subarray(20)), 16);
  const text = Buffer.from(`${GROUP}\0`);
  const area = bytes.subarray(4096);
  area.write(' LVM2 x[5A%r0N*>', 4, 'latin1');
  area.writeUInt32LE(1, 20);
  for (const [index, value] of [4096, MiB - 4096, 512, text.length].entries())
    area.writeBigUInt64LE(BigInt(value), 24 + index * 8);
  area.writeUInt32LE(lvmCrc(text), 56);
  area.writeUInt32LE(lvmCrc(area.subarray(4, 512)), 0);
  text.copy(area, 512);
  return bytes;
}

function lvmCrc(bytes: Uint8Array): number {
  return (crc32(bytes, (0xf597a6cf ^ 0xffffffff) >>> 0) ^ 0xffffffff) >>> 0;
}

/** A member of a clean mirror of two, version 1.2. Linux, include/uapi/linux/raid/md_p.h. */
function arrayMember(number: number): Buffer {
  const sb = Buffer.alloc(4096);
  sb.writeUInt32LE(0xa92b4efc, 0);
  sb.writeUInt32LE(1, 4);
  sb.write('guest:root', 32, 'latin1');
  sb.fill(0x5a, 16, 32);
  sb.writeInt32LE(1, 72);
  sb.writeBigUInt64LE(BigInt((ROOT_MIB * MiB) / 512), 80);
  sb.writeUInt32LE(2, 92);
  for (const [at, value] of [
    [128, MiB / 512],
    [136, (ROOT_MIB * MiB) / 512],
    [144, 8],
    [200, 7],
  ] as const)
    sb.writeBigUInt64LE(BigInt(value), at);
  sb.writeUInt32LE(number, 160);
  sb.fill(number + 1, 168, 184);
  sb.fill(0xff, 208, 216);
  sb.writeUInt32LE(128, 220);
  for (let role = 0; role < 128; role += 1) sb.writeUInt16LE(role < 2 ? role : 0xffff, 256 + role * 2);
  let sum = 0;
  for (let at = 0; at < 512; at += 4) sum += sb.readUInt32LE(at);
  sb.writeUInt32LE(((sum % 2 ** 32) + Math.floor(sum / 2 ** 32)) >>> 0, 216);
  return sb;
}

/** The root's filesystem, put together from the two disks, for readers that know neither LVM nor MD; of a mirror, both copies. */
export function rootsOf(composition: Composition, [a, b]: readonly [string, string]): Buffer[] {
  const read = (path: string, at: number, length: number): Buffer => {
    const file = openSync(path, 'r');
    const bytes = Buffer.alloc(length);
    readSync(file, bytes, 0, length, PART_AT + at);
    closeSync(file);
    return bytes;
  };
  const size = ROOT_MIB * MiB;
  if (composition === 'raid1') return [read(a, MiB, size), read(b, MiB, size)];
  const columns = [read(a, MiB, size / 2), read(b, MiB + 2 * EXTENT, size / 2)];
  const root = Buffer.alloc(size);
  for (let i = 0; i * STRIPE < size; i += 1) {
    const from = Math.floor(i / 2) * STRIPE;
    (columns[i % 2] as Buffer).copy(root, i * STRIPE, from, from + STRIPE);
  }
  return [root];
}
