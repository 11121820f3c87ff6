import { afterAll, expect, test } from 'vitest';

import { proofsOf } from '../evidence/proof.ts';
import type { Evidence, ProofLevel } from '../format/evidence.ts';
import { initTiny, MACHINE, pointId, Scratch } from '../testing/tiny.ts';
import { MemoryStore } from '../store/memory-store.ts';
import { copyPoints } from './copy-points.ts';

const scratch = new Scratch();
afterAll(() => scratch.remove());
const context = { signal: new AbortController().signal, progress: () => {} };

const said = (n: number, result: 'proven' | 'failed', levels: readonly ProofLevel[], atMs: number): Evidence => ({
  operation: 'boot-test',
  operationId: `op-${atMs}`,
  hostId: 'host-1',
  beganMs: atMs - 1,
  endedMs: atMs,
  readBytes: 7,
  claims: levels.map((level) => ({
    pointId: pointId(n),
    level,
    result,
    disks: [],
    reason: result === 'failed' ? 'a panic' : '',
  })),
  artefacts: [],
  hardware: '',
  summary: 'it said so',
});

test('a copied point has what was proven of its content, by whom and when; once, and not over what the copy knows better', async () => {
  const [source, target] = [await initTiny(new MemoryStore()), await initTiny(new MemoryStore())];
  for (const n of [1, 2]) {
    const session = await source.beginSession({ machineId: MACHINE, directory: scratch.directory() });
    await session.commit({ pointId: pointId(n), machine: {}, capture: {}, disks: [] });
  }
  await source.appendEvidence(MACHINE, said(1, 'failed', ['content', 'booted'], 1000));
  await source.appendEvidence(MACHINE, said(1, 'proven', ['stored', 'booted'], 2000));
  await source.appendEvidence(MACHINE, said(2, 'failed', ['booted'], 3000));
  await source.appendEvidence(MACHINE, { ...said(2, 'proven', ['booted'], 4000), hardware: 'another machine' });
  await source.appendEvidence(MACHINE, said(9, 'proven', ['booted'], 5000));
  const directory = scratch.directory();
  for (let time = 0; time < 2; time++) {
    await copyPoints({ source, target, directory }, context);
    const { records } = await target.evidence(MACHINE);
    expect(records).toMatchObject([
      { operation: 'boot-test', operationId: 'op-2000', hostId: 'host-1', endedMs: 2000, readBytes: 7 },
      { operationId: 'op-3000' },
    ]);
    expect(records[0]?.summary).toBe(`in repository ${source.repositoryId.slice(0, 8)}: it said so`);
    const proofs = proofsOf(records);
    expect(proofs.get(pointId(1))).toEqual({ proven: ['booted'], failed: [] });
    expect(proofs.get(pointId(2))).toEqual({
      proven: [],
      failed: [{ level: 'booted', reason: 'a panic', atMs: 3000 }],
    });
  }
  await target.appendEvidence(MACHINE, said(2, 'proven', ['booted'], 6000));
  await source.appendEvidence(MACHINE, said(2, 'failed', ['booted'], 5500));
  await copyPoints({ source, target, directory }, context);
  expect(proofsOf((await target.evidence(MACHINE)).records).get(pointId(2))?.proven).toEqual(['booted']);
});
