/** An agent died in the middle of an edit or a restore and nobody goes on: the reaper must leave no disk in between. */
import { createHash } from 'node:crypto';
import { lstatSync, existsSync, readdirSync, readFileSync, realpathSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { parseOpId } from '@lifeboat/foundation/ids';
import { systemRandom } from '@lifeboat/foundation/random';
import { takeBack } from '@lifeboat/engine/take-back';
import { newBytesPath, oldBytesPath, sealJournal } from '@lifeboat/guest/journal/journal-file';
import { openOperation } from '@lifeboat/host/operation';
import { reap, type ReapEntry } from '@lifeboat/host/reaper';
import { openStateRoot, type StateRoot } from '@lifeboat/host/state';
import { scratchDirectory } from '@lifeboat/host/testing/scratch';

const { signal } = new AbortController();
const OP = parseOpId('op-1');
const BLOCK = 4096;
const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

interface Dead {
  readonly state: StateRoot;
  /** Where disks are, outside of the state. */
  readonly disks: string;
  readonly directory: string;
}

/** An operation nobody holds, as after kill -9, with these facts. */
async function dead(verb: string, facts: (disks: string) => Record<string, unknown> = () => ({})): Promise<Dead> {
  const state = await openStateRoot(await scratchDirectory(), systemRandom);
  const disks = realpathSync(await scratchDirectory());
  const intent = { verb, machine: 'web' };
  const operation = await openOperation({ stateRoot: state.path, opId: OP, intent, signal });
  for (const [name, value] of Object.entries(facts(disks))) await operation.record(name, value);
  await operation.close({ remove: false });
  return { state, disks, directory: operation.directory };
}

function round({ state }: Dead, epoch = 1): Promise<ReapEntry[]> {
  return reap({
    stateRoot: state.path,
    hostId: state.hostId,
    reapables: [],
    liveOps: new Set(),
    epoch,
    now: 1_700_000_000_000,
    undo: (operation) => takeBack(operation, signal),
  });
}

describe('an edit that died half way', () => {
  const before = Buffer.alloc(4 * BLOCK, 'o');
  const after = Buffer.alloc(2 * BLOCK, 'n');

  async function halfEdited(): Promise<Dead & { readonly image: string }> {
    const operation = await dead('redeploy');
    const image = join(operation.disks, 'web-vda.raw');
    const journal = join(operation.directory, 'journal');
    const run = (offsetBytes: number, at: number) => ({
      offsetBytes,
      lengthBytes: BLOCK,
      oldSha256: sha256(before.subarray(0, BLOCK)),
      newSha256: sha256(after.subarray(0, BLOCK)),
      oldAt: at,
      newAt: at,
    });
    await sealJournal(journal, {
      formatVersion: 1,
      edits: [],
      disks: [
        {
          name: 'vda',
          image: { path: image, format: 'raw' },
          sizeBytes: before.length,
          runs: [run(0, 0), run(2 * BLOCK, BLOCK)],
        },
      ],
      result: {},
    });
    writeFileSync(oldBytesPath(journal), before.subarray(0, 2 * BLOCK));
    writeFileSync(newBytesPath(journal), after);
    // The first run has reached the disk, the second has not.
    writeFileSync(image, Buffer.concat([after.subarray(0, BLOCK), before.subarray(BLOCK)]));
    return { ...operation, image };
  }

  test('is taken back, and only then forgotten', async () => {
    const operation = await halfEdited();
    expect(await round(operation)).toMatchObject([{ kind: 'operation', name: OP, outcome: 'removed' }]);
    expect(readFileSync(operation.image).equals(before)).toBe(true);
    expect(existsSync(operation.directory)).toBe(false);
  });

  test('that cannot be taken back keeps its journal, says why, and is tried again', async () => {
    const operation = await halfEdited();
    const oldBytes = oldBytesPath(join(operation.directory, 'journal'));
    writeFileSync(oldBytes, 'damaged');
    expect(await round(operation)).toMatchObject([
      { kind: 'operation', name: OP, outcome: 'failed', reason: expect.stringContaining('checksum') as string },
    ]);
    expect(existsSync(oldBytes)).toBe(true);
    writeFileSync(oldBytes, before.subarray(0, 2 * BLOCK));
    expect(await round(operation)).toMatchObject([{ outcome: 'removed' }]);
    expect(readFileSync(operation.image).equals(before)).toBe(true);
  });
});

describe('a restore', () => {
  /** Makes the first of two disks and notes it, as a restore does. */
  const begun = (disks: string, content: string) => {
    const path = join(disks, 'web-vda.qcow2');
    writeFileSync(path, content);
    const { ino, birthtimeNs } = lstatSync(path, { bigint: true });
    return { targets: [{ path, identity: `${ino}@${birthtimeNs}` }], 'next-target': join(disks, 'web-vdb.qcow2') };
  };

  test('that died half way leaves no disk with a good name', async () => {
    const operation = await dead('restore', (disks) => begun(disks, 'half'));
    writeFileSync(join(operation.disks, 'other.qcow2'), 'not ours');
    expect(await round(operation)).toMatchObject([{ outcome: 'removed' }]);
    expect(readdirSync(operation.disks)).toEqual(['other.qcow2']);
  });

  test('that was finished keeps its disks', async () => {
    const operation = await dead('restore', (disks) => ({ ...begun(disks, 'whole'), done: { disks: [] } }));
    expect(await round(operation)).toMatchObject([{ outcome: 'removed' }]);
    expect(readdirSync(operation.disks)).toEqual(['web-vda.qcow2']);
  });
});
