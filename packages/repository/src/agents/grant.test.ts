/** Keys of some points read these points, and nothing of another. */
import { chmodSync } from 'node:fs';

import * as fc from 'fast-check';
import { afterAll, beforeEach, describe, expect, test } from 'vitest';

import { LifeboatError } from '@lifeboat/foundation/errors';
import { parseMachineId, type MachineId } from '@lifeboat/foundation/ids';

import { buryPoint } from '../collect/tombstones.ts';
import { packNameOf, packObject, packOfObject, PACKS, pointObject, type PackName } from '../format/names.ts';
import { decodePackHeader, kindOf } from '../format/pack.ts';
import type { DiskRoot } from '../format/point.ts';
import { decodePointKeys } from '../format/point-keys.ts';
import { inlineOpener } from '../read/blob-opener.ts';
import { openRepository, type Repository } from '../repository.ts';
import { MemoryStore } from '../store/memory-store.ts';
import { enrolled, openAgentTiny } from '../testing/agents.ts';
import { noisyDisk, readDisk } from '../testing/disks.ts';
import { fileSource } from '../testing/file-source.ts';
import { movePack } from '../testing/move-pack.ts';
import { initTiny, MACHINE, pointId, Scratch, TINY_CHUNK } from '../testing/tiny.ts';

const scratch = new Scratch();
afterAll(() => scratch.remove());
const { signal } = new AbortController();
const OTHER = parseMachineId('machine-2');
const notPermitted = { code: 'repository.not-permitted' };
const context = { signal, progress: () => {} };

let store: MemoryStore;
let tenant: Repository;
beforeEach(async () => {
  store = new MemoryStore();
  tenant = await initTiny(store);
});

async function backUp(
  repository: Repository,
  n: number,
  content: Buffer,
  machineId: MachineId = MACHINE,
  parent?: DiskRoot,
) {
  const session = await repository.beginSession({ machineId, directory: scratch.directory() });
  const source = fileSource(scratch.file(content));
  const request = { name: 'vda', sizeBytes: content.length, source, changed: 'all' as const };
  const { root } = await session.writeDisk({ ...request, ...(parent ? { parent } : {}) }, { signal });
  await session.commit({ pointId: pointId(n), machine: {}, capture: {}, disks: [{ name: 'vda', root }] });
  return root;
}

const saved = (content: Uint8Array): string => {
  const path = scratch.file(content);
  chmodSync(path, 0o600);
  return path;
};

async function reader(...points: readonly { machineId: MachineId; n: number }[]): Promise<Repository> {
  const keys = await tenant.grant(points.map(({ machineId, n }) => ({ machineId, pointId: pointId(n) })));
  return openRepository({ store, secret: { pointKeysFile: saved(keys) }, deps: { opener: inlineOpener() } });
}

describe('keys of a point', () => {
  test('read it, check it, and open nothing else: no point, map, pack or session of another', async () => {
    const first = noisyDisk(30, 1);
    const second = Buffer.concat([first.subarray(0, 20 * TINY_CHUNK), noisyDisk(10, 2)]);
    const root = await backUp(tenant, 1, first);
    const newer = await backUp(tenant, 2, second, MACHINE, root);
    await backUp(tenant, 3, noisyDisk(10, 3), OTHER);
    const host = await reader({ machineId: MACHINE, n: 1 });
    expect(await readDisk(host, MACHINE, pointId(1))).toEqual(first);
    const point = await host.readPoint(MACHINE, pointId(1));
    expect(await host.checkPoint(point, 'content', context)).toMatchObject({ sound: true });
    expect((await host.points()).map(({ pointId: id, state }) => [id, state])).toEqual([[pointId(1), 'readable']]);

    await expect(host.readPoint(MACHINE, pointId(2))).rejects.toMatchObject(notPermitted);
    await expect(host.readPoint(OTHER, pointId(3))).rejects.toMatchObject(notPermitted);
    // Although the newer point is of the same machine, and shares chunks: what the first does not need stays shut.
    const stolen = { ...point, disks: [{ name: 'vda', root: newer, info: null }] };
    await expect(host.openDisk(stolen, 'vda').read(25 * TINY_CHUNK, Buffer.alloc(1))).rejects.toMatchObject(
      notPermitted,
    );
  });

  test('are those of exactly the packs that the point needs', async () => {
    const root = await backUp(tenant, 1, noisyDisk(30, 1));
    const needed = new Set([...store.objects.keys()].map(packOfObject).filter((pack) => pack !== undefined));
    await backUp(tenant, 2, noisyDisk(30, 2), MACHINE, root);
    await backUp(tenant, 3, noisyDisk(10, 3), OTHER);
    const keys = decodePointKeys(await tenant.grant([{ machineId: MACHINE, pointId: pointId(1) }]), 'it');
    const names = Array.from({ length: keys.packs.length / 32 }, (_, i) =>
      packNameOf(keys.packs.subarray(i * 32, i * 32 + 32)),
    );
    expect(new Set(names)).toEqual(needed);
    expect(keys.points).toHaveLength(1);
  });

  test('of several points, also of agents, read all of them', async () => {
    const agent = await openAgentTiny(store, (await enrolled(tenant, scratch)).path);
    await backUp(agent, 1, noisyDisk(9, 1));
    await backUp(tenant, 2, noisyDisk(9, 2), OTHER);
    const host = await reader({ machineId: MACHINE, n: 1 }, { machineId: OTHER, n: 2 });
    expect(await readDisk(host, MACHINE, pointId(1))).toEqual(noisyDisk(9, 1));
    expect(await readDisk(host, OTHER, pointId(2))).toEqual(noisyDisk(9, 2));
    await expect(agent.grant([{ machineId: MACHINE, pointId: pointId(1) }])).rejects.toMatchObject(notPermitted);
    await tenant.agents.revoke({ agent: 'host', reason: '' });
    expect(await readDisk(host, MACHINE, pointId(1))).toEqual(noisyDisk(9, 1));
  });

  test('follow relocations there were, and say of a damaged pack that it is damaged', async () => {
    await backUp(tenant, 1, noisyDisk(30, 1));
    const data = (): PackName[] =>
      [...store.objects].flatMap(([name, bytes]) => {
        const pack = name.startsWith(PACKS) ? packOfObject(name) : undefined;
        return pack && kindOf(decodePackHeader(bytes, name).header) === 'data' ? [pack] : [];
      });
    const [moved, lost] = data();
    if (!moved || !lost) throw new TypeError('the disk fills several packs');
    await movePack(tenant, moved);
    store.objects.delete(packObject(moved));
    const host = await reader({ machineId: MACHINE, n: 1 });
    expect(await readDisk(host, MACHINE, pointId(1))).toEqual(noisyDisk(30, 1));
    store.objects.delete(packObject(lost));
    const after = await reader({ machineId: MACHINE, n: 1 });
    await expect(readDisk(after, MACHINE, pointId(1))).rejects.toMatchObject({ code: 'repository.chunk-damaged' });
  });

  test('write, sign and administrate nothing', async () => {
    await backUp(tenant, 1, noisyDisk(9, 1));
    const before = new Map(store.objects);
    const host = await reader({ machineId: MACHINE, n: 1 });
    const acts: (() => unknown)[] = [
      () => host.beginSession({ machineId: MACHINE, directory: scratch.directory() }),
      () => host.keys,
      () => host.agents,
      () => host.retention,
      () => host.condemn(),
      () => host.sweep(),
      () => host.grant([{ machineId: MACHINE, pointId: pointId(1) }]),
      () => buryPoint(host.core, { machineId: MACHINE, pointId: pointId(1), by: '', reason: '' }),
    ];
    for (const act of acts) {
      const code = await Promise.resolve()
        .then(act)
        .catch((error: unknown) => (error instanceof LifeboatError ? error.code : error));
      expect([act.toString(), code]).toEqual([act.toString(), 'repository.not-permitted']);
    }
    expect(store.objects).toEqual(before);
  });

  test('do not outlive the point, nor open another repository', async () => {
    await backUp(tenant, 1, noisyDisk(9, 1));
    const keys = await tenant.grant([{ machineId: MACHINE, pointId: pointId(1) }]);
    await expect(tenant.grant([{ machineId: MACHINE, pointId: pointId(2) }])).rejects.toMatchObject({
      code: 'repository.point-missing',
    });
    await expect(tenant.grant([])).rejects.toMatchObject({ code: 'input.invalid' });
    const stranger = new MemoryStore();
    await initTiny(stranger);
    const open = (over: MemoryStore, content: Uint8Array): Promise<Repository> =>
      openRepository({ store: over, secret: { pointKeysFile: saved(content) }, deps: { opener: inlineOpener() } });
    const unusable = { code: 'repository.agent-file-unusable' };
    await expect(open(stranger, keys)).rejects.toMatchObject(unusable);
    await expect(open(store, keys.subarray(0, -1))).rejects.toMatchObject(unusable);
    await buryPoint(tenant.core, { machineId: MACHINE, pointId: pointId(1), by: 'a test', reason: '' });
    const host = await open(store, keys);
    await expect(host.readPoint(MACHINE, pointId(1))).rejects.toMatchObject({ code: 'repository.point-missing' });
    expect(store.objects.has(pointObject(MACHINE, pointId(1)))).toBe(true);
  });

  test('that are changed in any bit, or cut short, are refused', async () => {
    await backUp(tenant, 1, noisyDisk(9, 1));
    const keys = Buffer.from(await tenant.grant([{ machineId: MACHINE, pointId: pointId(1) }]));
    fc.assert(
      fc.property(fc.nat(keys.length * 8 - 1), fc.boolean(), (bit, cut) => {
        const changed = Buffer.from(keys);
        changed.writeUInt8(changed.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3);
        expect(() => decodePointKeys(cut ? keys.subarray(0, bit >> 3) : changed, 'it')).toThrow(LifeboatError);
      }),
      { numRuns: 200 },
    );
  });
});
