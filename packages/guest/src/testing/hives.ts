/** Registry hives for tests: an empty one made here, filled by hivexregedit, so that what reads them did not write them. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  BASE_BLOCK_BYTES,
  BASE_BLOCK_HEAD_BYTES,
  parseBaseBlock,
  sealBaseBlock,
} from '../windows/registry/base-block.ts';
import { marvin32 } from '../windows/registry/marvin32.ts';
import type { HiveSource } from '../windows/registry/registry-hive.ts';

/** Entries of hivexregedit's .reg files: `dword:00000001`, `"text"`, `hex:01,02`, `hex(7):…`. */
export type RegistryTree = { readonly [key: string]: Readonly<Record<string, string>> };

const BIN_BYTES = 4096;
const PAGE_BYTES = 4096;

export function bufferSource(bytes: Buffer): HiveSource {
  return { sizeBytes: bytes.length, readAt: async (at, length) => Buffer.from(bytes.subarray(at, at + length)) };
}

/** A hive with these keys; parents of a key need not be listed. */
export function makeHive(tree: RegistryTree, base: Buffer = emptyHive()): Buffer {
  const directory = mkdtempSync(join(tmpdir(), 'hive-'));
  try {
    const path = join(directory, 'hive');
    writeFileSync(path, base);
    const lines = ['Windows Registry Editor Version 5.00', ''];
    const listed = new Set<string>();
    for (const [key, values] of Object.entries(tree)) {
      const parts = key.split('\\');
      for (let depth = 1; depth <= parts.length; depth += 1) {
        const parent = parts.slice(0, depth).join('\\');
        if (depth < parts.length && listed.has(parent)) continue;
        listed.add(parent);
        lines.push('', `[\\${parent}]`);
      }
      for (const [name, value] of Object.entries(values)) lines.push(`${name === '' ? '@' : `"${name}"`}=${value}`);
      lines.push('');
    }
    const file = join(directory, 'merge.reg');
    writeFileSync(file, lines.join('\n'));
    execFileSync('hivexregedit', ['--merge', path, file, '--encoding', 'UTF-16LE'], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    return readFileSync(path);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/** `hex(2):` of an expandable string, which .reg files have no other form for. */
export function expandString(text: string): string {
  return `hex(2):${hexOf(Buffer.from(`${text}\0`, 'utf16le'))}`;
}

export function hexOf(bytes: Buffer): string {
  return [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join(',');
}

/** A root key that everybody may do everything with, and nothing in it. */
function emptyHive(): Buffer {
  const NONE = 0xffff_ffff;
  const cell = (content: Buffer): Buffer => {
    const bytes = Buffer.alloc(Math.ceil((content.length + 4) / 8) * 8);
    bytes.writeInt32LE(-bytes.length, 0);
    content.copy(bytes, 4);
    return bytes;
  };
  const name = Buffer.from('ROOT', 'latin1');
  const root = Buffer.alloc(76 + name.length);
  root.write('nk', 'latin1');
  root.writeUInt16LE(0x2c, 2);
  for (const at of [28, 32, 40, 48]) root.writeUInt32LE(NONE, at);
  root.writeUInt16LE(name.length, 72);
  name.copy(root, 76);
  const rootCell = 32;
  const securityCell = rootCell + cell(root).length;
  root.writeUInt32LE(securityCell, 44);
  // Self-relative: owner and group are the administrators, everybody has full access, which is inherited.
  const administrators = Buffer.from('01020000000000052000000020020000', 'hex');
  const access = Buffer.from(
    '0200 1c00 0100 0000 0002 1400 3f000f00 010100000000000100000000'.replaceAll(' ', ''),
    'hex',
  );
  const descriptor = Buffer.alloc(20);
  descriptor.writeUInt16LE(1, 0);
  descriptor.writeUInt16LE(0x8004, 2);
  descriptor.writeUInt32LE(20 + access.length, 4);
  descriptor.writeUInt32LE(20 + access.length + administrators.length, 8);
  descriptor.writeUInt32LE(20, 16);
  const whole = Buffer.concat([descriptor, access, administrators, administrators]);
  const security = Buffer.alloc(20);
  security.write('sk', 'latin1');
  for (const at of [4, 8]) security.writeUInt32LE(securityCell, at);
  security.writeUInt32LE(1, 12);
  security.writeUInt32LE(whole.length, 16);
  const bin = Buffer.alloc(BIN_BYTES);
  bin.write('hbin', 'latin1');
  bin.writeUInt32LE(BIN_BYTES, 8);
  const cells = Buffer.concat([cell(root), cell(Buffer.concat([security, whole]))]);
  cells.copy(bin, 32);
  bin.writeInt32LE(BIN_BYTES - 32 - cells.length, 32 + cells.length);
  const base = Buffer.alloc(BASE_BLOCK_BYTES);
  base.write('regf', 'latin1');
  for (const [at, value] of [
    [20, 1],
    [24, 5],
    [32, 1],
    [36, rootCell],
    [44, 1],
  ] as const)
    base.writeUInt32LE(value, at);
  sealBaseBlock(base, { sequence: 1, binsBytes: BIN_BYTES });
  return Buffer.concat([base, bin]);
}

/** The hive as a running Windows leaves it that has logged a change and not written it yet. */
export function makeDirty(hive: Buffer): Buffer {
  const dirty = Buffer.from(hive);
  dirty.writeUInt32LE(dirty.readUInt32LE(8) + 1, 4);
  rechecksum(dirty);
  return dirty;
}

/** A log in the format since Windows 8.1, with an entry for each step from one state of a hive to the next. */
export function makeLog(states: readonly Buffer[], firstSequence: number): Buffer {
  const head = Buffer.from((states[0] as Buffer).subarray(0, BASE_BLOCK_HEAD_BYTES));
  head.writeUInt32LE(6, 28);
  sealBaseBlock(head, { sequence: firstSequence, binsBytes: parseBaseBlock(head)?.binsBytes ?? 0 });
  const entries = states.slice(1).map((state, i) => logEntry(states[i] as Buffer, state, firstSequence + i));
  return Buffer.concat([head, ...entries, Buffer.alloc(1024, 0xcd)]);
}

function logEntry(before: Buffer, after: Buffer, sequence: number): Buffer {
  const pages: { at: number; bytes: Buffer }[] = [];
  for (let at = BASE_BLOCK_BYTES; at < after.length; at += PAGE_BYTES) {
    const bytes = after.subarray(at, at + PAGE_BYTES);
    if (!bytes.equals(before.subarray(at, at + PAGE_BYTES))) pages.push({ at: at - BASE_BLOCK_BYTES, bytes });
  }
  const head = Buffer.alloc(40 + pages.length * 8);
  for (const [i, { at, bytes }] of pages.entries()) {
    head.writeUInt32LE(at, 40 + i * 8);
    head.writeUInt32LE(bytes.length, 44 + i * 8);
  }
  const content = Buffer.concat([head, ...pages.map(({ bytes }) => bytes)]);
  const entry = Buffer.alloc(Math.ceil(content.length / 512) * 512);
  content.copy(entry);
  entry.write('HvLE', 'latin1');
  entry.writeUInt32LE(entry.length, 4);
  entry.writeUInt32LE(sequence, 12);
  entry.writeUInt32LE(after.length - BASE_BLOCK_BYTES, 16);
  entry.writeUInt32LE(pages.length, 20);
  entry.writeBigUInt64LE(marvin32(entry.subarray(40)), 24);
  entry.writeBigUInt64LE(marvin32(entry.subarray(0, 32)), 32);
  return entry;
}

/** After a change to the base block that is no damage. */
export function rechecksum(hive: Buffer): void {
  let sum = 0;
  for (let at = 0; at < 508; at += 4) sum ^= hive.readUInt32LE(at);
  hive.writeUInt32LE(sum >>> 0, 508);
}
