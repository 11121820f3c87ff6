import { expect, test } from 'vitest';
import { parseMachineId } from '@lifeboat/foundation/ids';
import { styleFor } from '../text/style.ts';
import { evidenceLines } from './evidence.ts';
import { withinLines } from './repo.ts';

const style = styleFor({}, {});
const POINT = 'p20260101T000000Z-00000001';

test('evidence is shown with what failed, what was pruned, and whether the chain is whole', () => {
  const claim = {
    pointId: POINT,
    pointIsThere: true,
    level: 'content',
    result: 'proven',
    disks: [],
    reason: '',
  } as const;
  const record = {
    number: 1,
    hash: '',
    operation: 'boot-test',
    operationId: 'boot-1',
    hostId: 'h',
    beganMs: 1,
    endedMs: 2,
    readBytes: 3,
    claims: [
      claim,
      { ...claim, pointIsThere: false, result: 'failed', disks: ['vda'], reason: 'a chunk\u001b is gone' },
    ],
    artefacts: [{ name: 'console.log', sizeBytes: 4, sha256: 'ab' }],
    hardware: 'nvme',
    summary: 'ready',
  } as const;
  const evidence = {
    machineId: parseMachineId('m-1'),
    sound: false,
    problems: [{ number: 2, why: 'it is not there any more' }],
    foreignObjects: 3,
    records: [record],
  };
  const lines = evidenceLines(style, evidence);
  expect(lines).toEqual([
    'm-1',
    expect.stringContaining('boot-test on nvme (boot-1)') as string,
    expect.stringContaining(`${POINT}: content`) as string,
    expect.stringContaining(`${POINT}, which is not there any more: content of disk vda: a chunk`) as string,
    expect.stringContaining('ready') as string,
    expect.stringContaining('console.log: 4 bytes, sha256 ab') as string,
    expect.stringContaining('record 2: it is not there any more') as string,
    expect.stringContaining('3 objects') as string,
    expect.stringContaining('not what was written') as string,
  ]);
  expect(lines.join('')).not.toContain('\u001b');
  expect(evidenceLines(style, { ...evidence, sound: true, problems: [] }).at(-1)).toContain('whole: 1 records');
});

test('a check within a budget calls whole what it looked at, and names what it did not', () => {
  const none = { packs: 0, bytes: 0 };
  const found = {
    level: 'ciphertext',
    looked: { packs: 2, bytes: 2048, durationMs: 10 },
    pointCount: 1,
    points: [],
    losses: [],
    chains: [],
    coverage: {
      packs: 1000,
      bytes: 9000,
      never: { packs: 3, bytes: 300 },
      oldestMs: 5,
      within: [{ days: 7, packs: 997, bytes: 8700 }],
    },
    next: { packs: 3, bytes: 300 },
  } as const;
  const text = withinLines(style, found).join('\n');
  expect(text).toMatch(/2 packs.*whole/);
  expect(text).toMatch(/never looked at +3 packs/);
  expect(text).toMatch(/within 7 d.*99 %/);
  expect(text).toMatch(/next +3 packs.*never looked at so far/);
  const damaged = { point: 'm p', sound: false, objects: [], disks: [], reason: 'it is missing' };
  const bad = withinLines(style, { ...found, points: [damaged] }).join('\n');
  expect(bad).not.toContain('whole');
  expect(bad).toContain('it is missing');
  const shown = withinLines(style, { ...found, looked: { ...none, durationMs: 0 } }).join('\n');
  expect(shown).not.toContain('whole');
});
