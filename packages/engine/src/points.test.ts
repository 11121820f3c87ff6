import { describe, expect, test } from 'vitest';
import { parseMachineId, parsePointId, pointInstantMs, type PointId } from '@lifeboat/foundation/ids';
import type { PointSummary as PointListing } from '@lifeboat/repository/read/point-reader';
import type { Repository } from '@lifeboat/repository/repository';
import { findPoint, pointsOf, summarise } from './points.ts';

const WEB = parseMachineId('11111111-2222-4333-8444-555555555555');
const OTHER = parseMachineId('99999999-2222-4333-8444-555555555555');
const pointId = (n: number): PointId => parsePointId(`p2026010${n}T000000Z-0000000${n}`);
const record = { version: 1, machineName: 'web', instantMs: 5, consistency: 'filesystem', disks: [] };

const listing = (n: number, capture: unknown, machineId = WEB): PointListing => ({
  state: 'readable',
  machineId,
  pointId: pointId(n),
  createdMs: n,
  sessionId: 's',
  hash: 'h',
  machine: {},
  capture: capture as PointListing extends { capture: infer C } ? C : never,
  disks: [],
  previous: 'none',
});

/** As much of a repository as is asked here. */
function repositoryOf(listings: readonly PointListing[]): Repository {
  const readPoint = async (_: unknown, id: PointId) => listings.find((entry) => entry.pointId === id);
  return { points: async () => [...listings], readPoint } as unknown as Repository;
}

describe.each([
  ['of a newer release', { ...record, version: 2 }, 'engine.newer-point', /newer release/],
  ['without a record', null, 'repository.point-damaged', /no record/],
  ['with a record that is none', { version: 1 }, 'repository.point-damaged', /no record/],
  ['with disks that are none', { ...record, disks: [null] }, 'repository.point-damaged', /no record/],
  ['with text as a record', 'web', 'repository.point-damaged', /no record/],
])('a point %s', (_, capture, code, why) => {
  const repository = repositoryOf([listing(1, record), listing(2, capture), listing(3, capture, OTHER)]);

  test('is shown as what it is, with its machine', async () => {
    const shown = (await pointsOf(repository, 'web')).map(summarise);
    expect(shown).toMatchObject([
      { pointId: pointId(1), machineName: 'web', instantMs: 5 },
      { pointId: pointId(2), machineId: WEB, instantMs: pointInstantMs(pointId(2)) },
    ]);
    expect(shown[0]).not.toHaveProperty('damage');
    expect(shown[1]?.damage).toMatch(why);
    expect((await repository.points()).map(summarise)).toHaveLength(3);
  });

  test('keeps nobody from the others, and is refused by name when it is asked for', async () => {
    expect(await findPoint(repository, 'web')).toMatchObject({ pointId: pointId(1) });
    expect(await findPoint(repository, WEB, pointId(1))).toMatchObject({ pointId: pointId(1) });
    await expect(findPoint(repository, 'web', pointId(2))).rejects.toMatchObject({ code });
    await expect(findPoint(repository, OTHER)).rejects.toMatchObject({ code: 'engine.no-such-point' });
  });
});
