import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseMachineId, parsePointId } from '@lifeboat/foundation/ids';
import { takeLock, type FileLock } from '@lifeboat/host/file-lock';
import type { ProofLevel } from '@lifeboat/repository/format/evidence';
import type { PointSummary } from '@lifeboat/repository/read/point-reader';
import { MemoryStore } from '@lifeboat/repository/store/memory-store';
import { initTiny } from '@lifeboat/repository/testing/tiny';
import { pruneKnowledge, startedPoints } from './prune-knowledge.ts';

const ID = parseMachineId('0b1c2d3e-0000-4000-8000-000000000001');
const POINT = parsePointId('p20261124T002611Z-0a1b2c3d');
const RECORD = { version: 1, machineName: 'web', instantMs: 1, consistency: 'crash', disks: [] };

function pointWith(capture: object, machineId = ID): PointSummary {
  const about = { createdMs: 1, sessionId: 's', hash: '', machine: {}, disks: [], previous: 'none' } as const;
  return { state: 'readable', machineId, pointId: POINT, capture: { ...capture }, ...about };
}

let state: string;
const locks: (FileLock | undefined)[] = [];
beforeAll(() => {
  state = mkdtempSync(join(tmpdir(), 'lifeboat-prune-knowledge-'));
});
afterAll(async () => {
  for (const lock of locks) await lock?.release();
  rmSync(state, { recursive: true });
});

async function operation(opId: string, intent: string, { alive = true } = {}): Promise<void> {
  const directory = join(state, 'ops', opId);
  mkdirSync(directory, { recursive: true });
  writeFileSync(join(directory, 'intent.json'), intent);
  const lock = await takeLock(join(directory, 'lock'), { waitMs: 0 });
  if (alive) locks.push(lock);
  else await lock?.release();
}

const intentOf = (opId: string, machine: string): string =>
  JSON.stringify({ format: 1, opId, epoch: 0, intent: { verb: 'restore', machine } });

describe('what keeps a point beside its policy', () => {
  it('is nothing where nothing is known', async () => {
    const { protect, booted } = await pruneKnowledge(join(state, 'nowhere'), new Map());
    expect([protect(pointWith(RECORD)), booted(pointWith(RECORD))]).toEqual([[], false]);
  });

  it('is a record that only a newer release understands, or nobody', async () => {
    const { protect } = await pruneKnowledge(state, new Map());
    expect(protect(pointWith({ ...RECORD, version: 2 }))).toEqual([{ kind: 'newer-release' }]);
    expect(protect(pointWith({}))).toEqual([{ kind: 'damaged' }]);
  });

  it('is what the entity of its machine says', async () => {
    const evidence = new Map([[ID as string, { booted: [POINT], running: 'verify r1' }]]);
    const { protect, booted } = await pruneKnowledge(state, evidence);
    expect(booted(pointWith(RECORD))).toBe(true);
    expect(protect(pointWith(RECORD))).toEqual([{ kind: 'in-use', by: 'verify r1' }]);
    expect(booted(pointWith(RECORD, parseMachineId('other')))).toBe(false);
  });

  it('is what the repository has evidence of, until its data is found damaged', async () => {
    const store = new MemoryStore();
    const repository = await initTiny(store);
    const record = (level: ProofLevel, result: 'proven' | 'failed', pointId: string = POINT) =>
      repository.appendEvidence(parseMachineId(ID), {
        operation: 'check',
        operationId: '',
        hostId: '',
        beganMs: 1,
        endedMs: 2,
        readBytes: 0,
        claims: [{ pointId, level, result, disks: [], reason: '' }],
        artefacts: [],
        hardware: '',
        summary: '',
      });
    const started = async () => {
      const known = await startedPoints(repository, [parseMachineId(ID), parseMachineId('other')]);
      const { booted } = await pruneKnowledge(state, new Map(), known);
      return booted(pointWith(RECORD));
    };
    await record('content', 'proven');
    await record('booted', 'failed');
    await record('booted', 'proven', 'p20260101T000000Z-ffffffff');
    expect(await started()).toBe(false);
    await record('booted', 'proven');
    await record('application', 'failed');
    expect(await started()).toBe(true);
    await record('content', 'failed');
    expect(await started()).toBe(false);
    await record('content', 'proven');
    expect(await started()).toBe(true);
  });

  it('is an operation that runs on its machine, by name or id, and not one that is over', async () => {
    await operation('op-over', intentOf('op-over', ID), { alive: false });
    await operation('op-name', intentOf('op-name', 'web'));
    await operation('op-id', intentOf('op-id', ID));
    await operation('op-other', intentOf('op-other', 'db'));
    const { protect } = await pruneKnowledge(state, new Map());
    const by = protect(pointWith(RECORD)).map((protection) => (protection.kind === 'in-use' ? protection.by : ''));
    expect(by.toSorted()).toEqual(['restore op-id', 'restore op-name']);
  });

  it('is one of which nobody can tell what it is on', async () => {
    await operation('op-torn', '{');
    const { protect } = await pruneKnowledge(state, new Map());
    const by = protect(pointWith({ ...RECORD, machineName: 'mail' }, parseMachineId('mail-id')));
    expect(by).toMatchObject([{ kind: 'in-use', by: expect.stringContaining('operation op-torn') }]);
  });
});
