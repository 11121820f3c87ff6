/**
 * Changes a hive through hivexregedit, which keeps the values of a key that are not named; hivexsh's setval would replace them all.
 *
 *   1. the hive as Windows would have it in memory: what its logs hold is written into it
 *   2. a .reg file that lists every level above a key, and values as bytes
 *   3. hivexregedit --merge on a copy in our directory
 *   4. both sequence numbers equal, checksum right: written to its end, so that Windows applies no log to it
 *   5. read by our own reader: every change is there, or it is an error
 *
 * The caller writes the bytes to the guest and empties the logs.
 */
import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { LifeboatError, hasCode, messageOf } from '@lifeboat/foundation/errors';
import { runTool } from '@lifeboat/host/children';
import type { RegistryChange } from '../windows-plan.ts';
import { hiveUnreadable, parseBaseBlock, sealBaseBlock } from './base-block.ts';
import { encodeData, holds } from './registry-data.ts';
import { RegistryHive } from './registry-hive.ts';

/** 200 MB of SOFTWARE take a few seconds. */
const MERGE_TIMEOUT_MS = 300_000;

/** Errors: `guest.hive-unreadable`, `guest.injection-incomplete`, those of tools and of this host's files. */
export async function editHive(
  hive: RegistryHive,
  changes: readonly RegistryChange[],
  { directory, what, signal }: { readonly directory: string; readonly what: string; readonly signal: AbortSignal },
): Promise<Buffer> {
  const before = await hive.content();
  const path = join(directory, `${what}.hive`);
  const merge = join(directory, `${what}.reg`);
  try {
    await writeFile(path, before, { mode: 0o600 });
    await writeFile(merge, registryFile(changes), { mode: 0o600 });
    try {
      await runTool('hivexregedit', ['--merge', path, merge], { timeoutMs: MERGE_TIMEOUT_MS, signal });
    } catch (error) {
      if (!hasCode(error, 'host.tool-failed')) throw error;
      throw hiveUnreadable(what, `hivexregedit does not edit it: ${messageOf(error)}`);
    }
    const after = await readFile(path);
    const base = parseBaseBlock(after);
    const sequence = parseBaseBlock(before)?.secondarySequence;
    if (!base || sequence === undefined) throw hiveUnreadable(what, 'it does not begin as a hive does after the edit');
    sealBaseBlock(after, { sequence: (sequence + 1) >>> 0, binsBytes: base.binsBytes });
    await assertHolds(await openBuffer(after, what), changes, what);
    return after;
  } finally {
    await rm(path, { force: true });
    await rm(merge, { force: true });
  }
}

/** Every change is in the hive. Errors: `guest.injection-incomplete`; those of the hive. */
export async function assertHolds(hive: RegistryHive, changes: readonly RegistryChange[], what: string): Promise<void> {
  for (const change of changes) {
    const isDone =
      change.kind === 'delete-key'
        ? (await hive.key(change.key)) === undefined
        : holds(await hive.value(change.key, change.name), change.data);
    if (isDone) continue;
    const where = change.kind === 'set' ? `${change.key} '${change.name}'` : change.key;
    throw new LifeboatError(
      'guest.injection-incomplete',
      `${what} was edited, but read back ${where} is not what was planned`,
      { context: { hive: what, key: change.key } },
    );
  }
}

function openBuffer(bytes: Buffer, what: string): Promise<RegistryHive> {
  const hive = {
    sizeBytes: bytes.length,
    readAt: async (at: number, length: number) => Buffer.from(bytes.subarray(at, at + length)),
  };
  return RegistryHive.open({ hive, logs: [], what });
}

/** Deletions go first: a key that is deleted and set is there afterwards. */
function registryFile(changes: readonly RegistryChange[]): string {
  const lines = ['Windows Registry Editor Version 5.00', ''];
  for (const { kind, key } of changes) if (kind === 'delete-key') lines.push(`[-\\${key}]`, '');
  const listed = new Set<string>();
  for (const change of changes) {
    if (change.kind !== 'set') continue;
    const parts = change.key.split('\\');
    for (let depth = 1; depth < parts.length; depth += 1) {
      const parent = parts.slice(0, depth).join('\\');
      if (!listed.has(parent)) lines.push(`[\\${parent}]`, '');
      listed.add(parent);
    }
    const { type, bytes } = encodeData(change.data);
    const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join(',');
    const name = change.name === '' ? '@' : `"${change.name.replaceAll('\\', '\\\\').replaceAll('"', '\\"')}"`;
    lines.push(`[\\${change.key}]`, `${name}=hex(${type.toString(16)}):${hex}`, '');
    listed.add(change.key);
  }
  return `${lines.join('\n')}\n`;
}
