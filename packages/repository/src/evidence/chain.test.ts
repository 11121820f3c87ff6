import type { MachineId } from '@lifeboat/foundation/ids';
import { afterAll, beforeEach, describe, expect, test } from 'vitest';

import { buryPoint } from '../collect/tombstones.ts';
import { PROOF_LEVELS, type Claim, type Evidence, type ProofLevel } from '../format/evidence.ts';
import { EVIDENCE, evidenceObject, VERIFIED } from '../format/names.ts';
import type { Repository } from '../repository.ts';
import { controlName } from '../seal/control-records.ts';
import { MemoryStore } from '../store/memory-store.ts';
import { noisyDisk } from '../testing/disks.ts';
import { fileSource } from '../testing/file-source.ts';
import { initTiny, MACHINE, openTiny, pointId, Scratch } from '../testing/tiny.ts';
import { appendEvidence, machinesWithEvidence, readEvidence } from './chain.ts';
import { proofsOf } from './proof.ts';

const scratch = new Scratch();
afterAll(() => scratch.remove());
const garbage = Buffer.from('x');
const OTHER = 'machine-2' as MachineId;

let store: MemoryStore;
let repository: Repository;
beforeEach(async () => {
  store = new MemoryStore();
  repository = await initTiny(store);
});

const claim = (level: ProofLevel, more: Partial<Claim> = {}): Claim => ({
  pointId: pointId(1),
  level,
  result: 'proven',
  disks: [],
  reason: '',
  ...more,
});
const evidence = (...claims: readonly Claim[]): Evidence => ({
  operation: 'check',
  operationId: 'op-1',
  hostId: 'host-1',
  beganMs: 1,
  endedMs: 2,
  readBytes: 3,
  claims,
  artefacts: [{ name: 'console.log', sizeBytes: 4, sha256: Buffer.alloc(32, 5) }],
  hardware: '',
  summary: 'all is well',
});
const nameOf = (number: number, machineId = MACHINE): string =>
  controlName(repository.core, evidenceObject(machineId, number));
const append = (...claims: readonly Claim[]): Promise<number> =>
  appendEvidence(repository.core, MACHINE, evidence(...claims));
const read = () => readEvidence(repository.core, MACHINE);
const numbers = async (): Promise<number[]> => (await read()).records.map(({ number }) => number);
async function three(): Promise<void> {
  for (const level of PROOF_LEVELS.slice(0, 3)) await append(claim(level));
}
const moved = (from: number, to: number, machineId = MACHINE): void =>
  void store.objects.set(nameOf(to, machineId), store.objects.get(nameOf(from)) ?? garbage);

describe('the evidence of a machine', () => {
  test('is read as it was written, each record with the hash of the one before it', async () => {
    await three();
    const { records, problems } = await readEvidence((await openTiny(store)).core, MACHINE);
    expect(problems).toEqual([]);
    expect(records.map(({ number, previous }) => [number, previous?.number])).toEqual([
      [1, undefined],
      [2, 1],
      [3, 2],
    ]);
    expect(records[2]?.previous?.hash).toBe(records[1]?.hash);
    const { number: _, hash: __, previous: ___, ...said } = records[0] ?? { number: 0, hash: '' };
    expect(said).toEqual({
      ...evidence(claim('stored')),
      artefacts: [{ name: 'console.log', sizeBytes: 4, sha256: new Uint8Array(32).fill(5) }],
    });
  });

  test('says nothing in the open of disks and consoles', async () => {
    await append(claim('booted', { result: 'failed', disks: ['secret-disk'], reason: 'secret-console' }));
    const object = Buffer.from(store.objects.get(nameOf(1)) ?? garbage).toString('latin1');
    expect(object).toContain(MACHINE);
    expect(object).not.toContain('secret');
  });

  test('is one chain also where two write at once', async () => {
    const [one, two] = [await openTiny(store), await openTiny(store)];
    await Promise.all(
      [one, two, one, two].map(({ core }, i) =>
        appendEvidence(core, MACHINE, evidence(claim(PROOF_LEVELS[i] ?? 'stored'))),
      ),
    );
    const { records, problems } = await read();
    expect(problems).toEqual([]);
    expect(records.flatMap(({ claims }) => claims.map(({ level }) => level)).toSorted()).toEqual(
      PROOF_LEVELS.slice(0, 4).toSorted(),
    );
  });

  test('is another machine’s business, and a second tenant’s', async () => {
    await three();
    expect((await readEvidence(repository.core, OTHER)).records).toEqual([]);
    await appendEvidence(repository.core, OTHER, evidence());
    expect((await machinesWithEvidence(repository.core)).toSorted()).toEqual([MACHINE, OTHER]);
  });
});

describe('a chain that is not what was written', () => {
  beforeEach(three);

  test('misses a record that was taken away', async () => {
    store.objects.delete(nameOf(2));
    expect((await read()).problems).toEqual([{ number: 2, why: 'it is not there any more' }]);
    store.objects.delete(nameOf(1));
    expect((await read()).problems.map(({ number }) => number)).toEqual([1, 2]);
  });

  test.each([
    ['a flipped bit', (bytes: Uint8Array) => bytes.map((byte, i) => (i === 60 ? byte ^ 1 : byte))],
    ['a truncation', (bytes: Uint8Array) => bytes.subarray(0, 70)],
    ['too many bytes', (bytes: Uint8Array) => Buffer.concat([bytes, Buffer.alloc(2 * 1024 * 1024)])],
    ['nothing', () => new Uint8Array()],
  ])('notices %s', async (_, change) => {
    store.objects.set(nameOf(2), change(store.objects.get(nameOf(2)) ?? garbage));
    expect((await read()).problems.map(({ number }) => number)).toEqual([2]);
    expect(await numbers()).toEqual([1, 3]);
  });

  test('notices a record in another’s place, and of another machine', async () => {
    moved(1, 2);
    moved(1, 1, OTHER);
    expect((await read()).problems).toMatchObject([{ number: 2, why: expect.stringContaining('signature') as string }]);
    expect(await readEvidence(repository.core, OTHER)).toMatchObject({ records: [], problems: [{ number: 1 }] });
  });

  test('notices a record that was exchanged by who has the keys', async () => {
    const last = store.objects.get(nameOf(3)) ?? garbage;
    for (const number of [2, 3]) store.objects.delete(nameOf(number));
    await append(claim('application'));
    store.objects.set(nameOf(3), last);
    expect((await read()).problems).toEqual([{ number: 2, why: 'it is not the record that 3 follows' }]);
  });

  test('notices a record that was put in afterwards by who has the keys', async () => {
    const second = store.objects.get(nameOf(2)) ?? garbage;
    store.objects.delete(nameOf(2));
    store.objects.delete(nameOf(3));
    store.objects.set(nameOf(2), garbage);
    await append(claim('booted'));
    store.objects.set(nameOf(2), second);
    expect((await read()).problems).toEqual([{ number: 2, why: 'it was not there when 3 was written' }]);
  });

  test('goes on behind damage, which stays visible', async () => {
    store.objects.set(nameOf(3), garbage);
    expect(await append(claim('booted'))).toBe(4);
    const { records, problems } = await read();
    expect(problems.map(({ number }) => number)).toEqual([3]);
    expect(records.at(-1)?.previous?.number).toBe(2);
  });
});

describe('who may put objects', () => {
  test('and has no key, neither blocks the chain nor breaks it', async () => {
    const foreign = [
      evidenceObject(MACHINE, 1),
      `${evidenceObject(MACHINE, 1)}.${'0'.repeat(32)}`,
      `${EVIDENCE}${MACHINE}/anything`,
      evidenceObject(MACHINE, 99_999_999),
    ];
    for (const name of foreign) store.objects.set(name, garbage);
    await three();
    expect(await read()).toMatchObject({ problems: [], foreignObjects: foreign.length });
    expect(await numbers()).toEqual([1, 2, 3]);
  });

  test('and can make names, as agents can, uses up no more than he puts', async () => {
    await append(claim('stored'));
    for (const number of [2, 99_999_999]) store.objects.set(nameOf(number), garbage);
    expect(await append(claim('booted'))).toBe(3);
    expect(await append(claim('booted'))).toBe(4);
    const { records, problems } = await read();
    expect(records.map(({ number, previous }) => [number, previous?.number])).toEqual([
      [1, undefined],
      [3, 1],
      [4, 3],
    ]);
    // Said, and in the way of nothing.
    expect(problems.map(({ number }) => number)).toEqual([2, 99_999_999]);
  });
});

test('a collection leaves evidence alone, and is not stopped by what else lies there', async () => {
  const session = await repository.beginSession({ machineId: MACHINE, directory: scratch.directory() });
  const content = noisyDisk(20);
  const source = fileSource(scratch.file(content));
  const disk = { name: 'vda', sizeBytes: content.length, source, changed: 'all' } as const;
  const { root } = await session.writeDisk(disk, { signal: new AbortController().signal });
  await session.commit({ pointId: pointId(1), machine: {}, capture: {}, disks: [{ name: 'vda', root }] });
  await append(claim('stored'));
  const junk = [`${EVIDENCE}${MACHINE}/x`, `${EVIDENCE}x`, `${VERIFIED}x`, nameOf(99)];
  for (const name of junk) store.objects.set(name, garbage);
  await buryPoint(repository.core, { machineId: MACHINE, pointId: pointId(1), by: 'a test', reason: 'to see it go' });
  await repository.condemn();
  expect(await repository.sweep()).toMatchObject({ state: 'swept', deletedPoints: 1 });
  expect(await numbers()).toEqual([1]);
  for (const name of junk) expect(store.objects.has(name)).toBe(true);
});

describe('what is proven of a point', () => {
  const proof = async () => proofsOf((await read()).records).get(pointId(1));

  test('is what was looked at, weak to strong, and nothing else', async () => {
    await append(claim('booted'), claim('stored'));
    await append(claim('content', { pointId: pointId(2) }));
    expect(await proof()).toEqual({ proven: ['stored', 'booted'], failed: [] });
  });

  test('is not what failed later, until it holds again', async () => {
    await append(claim('content'));
    await append(claim('content', { result: 'failed', disks: ['vda'], reason: 'gone' }));
    expect(await proof()).toEqual({ proven: [], failed: [{ level: 'content', reason: 'gone', atMs: 2 }] });
    await append(claim('content', { disks: ['vdb'] }));
    expect(await proof()).toMatchObject({ proven: [], failed: [{ level: 'content' }] });
    await append(claim('content'));
    expect(await proof()).toEqual({ proven: ['content'], failed: [] });
  });

  test('is not what was shown of one disk, or on other hardware', async () => {
    await append(claim('content', { disks: ['vda'] }));
    await appendEvidence(repository.core, MACHINE, { ...evidence(claim('booted')), hardware: 'nvme' });
    expect(await proof()).toBeUndefined();
  });
});
