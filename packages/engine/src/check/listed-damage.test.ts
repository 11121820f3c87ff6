import { expect, test } from 'vitest';
import { systemClock } from '@lifeboat/foundation/clock';
import { parseMachineId, parsePointId } from '@lifeboat/foundation/ids';
import type { EngineDeps } from '../deps.ts';
import { checkPoint } from './check-point.ts';

test('a summary lists the first 100 damaged places, and says how many there are besides', async () => {
  const point = {
    state: 'readable',
    machineId: parseMachineId('11111111-2222-4333-8444-555555555555'),
    pointId: parsePointId('p20260101T000000Z-00000001'),
    capture: { version: 1, machineName: 'web', instantMs: 5, consistency: 'crash', disks: [] },
    disks: [],
  };
  const place = { pack: 'p', reason: 'gone' };
  const objects = (count: number) => Array.from({ length: count }, (_, n) => ({ ...place, object: `data/${n}` }));
  const listed = async (count: number) => {
    const repository = {
      points: async () => [point],
      readPoint: async () => point,
      appendEvidence: async () => 1,
      checkPoint: async () => ({ sound: true, checkedBytes: 0, disks: [], objects: objects(count) }),
    };
    const deps = { repository, clock: systemClock } as unknown as EngineDeps;
    const context = { signal: new AbortController().signal, progress: () => {} };
    return checkPoint(deps, { machine: 'web', level: 'content' }, context);
  };
  const { damage, unlistedPlaces } = await listed(103);
  expect([damage.length, unlistedPlaces]).toEqual([100, 3]);
  expect(await listed(100)).not.toHaveProperty('unlistedPlaces');
});
