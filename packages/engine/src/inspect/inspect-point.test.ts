import { systemClock } from '@lifeboat/foundation/clock';
import { newPointId, parseMachineId } from '@lifeboat/foundation/ids';
import { systemRandom } from '@lifeboat/foundation/random';
import { MiB } from '@lifeboat/foundation/units';
import { deviceOf } from '@lifeboat/disk/testing/disks';
import { describe, expect, it } from 'vitest';
import type { EngineDeps } from '../deps.ts';
import { inspectPoint } from './inspect-point.ts';

const machineId = parseMachineId('11111111-2222-4333-8444-555555555555');

/** Inspects a point whose file `inventory.json` is this. */
function inspect(inventory?: object) {
  const point = {
    machineId,
    pointId: newPointId(systemClock.nowMs(), systemRandom),
    machine: { firmware: 'uefi', memoryMiB: 512, vcpus: 1, nics: [], disks: [{ name: 'vda', controller: 'ahci' }] },
    capture: { version: 1, machineName: 'web', instantMs: 0, consistency: 'crash', disks: [] },
    disks: [{ name: 'vda' }],
    files: inventory ? [{ name: 'inventory.json', content: Buffer.from(JSON.stringify(inventory)) }] : [],
  };
  const repository = {
    points: async () => [{ ...point, state: 'readable' }],
    readPoint: async () => point,
    openDisk: () => deviceOf(Buffer.alloc(MiB)),
  };
  const deps = { clock: systemClock, repository } as unknown as EngineDeps;
  return inspectPoint(deps, { machine: 'web' }, { signal: new AbortController().signal, progress: () => {} });
}

describe('inspecting a point', () => {
  it('shows the inventory it brought', async () => {
    const stored = { version: 1, takenAtMs: 7, disks: [], volumes: [], problems: ['The disk sda hides.'] };
    expect(await inspect(stored)).toMatchObject({
      machineName: 'web',
      taken: 'at-backup',
      inventory: stored,
      lines: expect.arrayContaining(['Note      The disk sda hides.']) as string[],
      requirements: { disks: [] },
    });
  });

  it.each([
    ['that brought none', undefined],
    ['with one of a newer release', { version: 2 }],
  ])('%s takes one from its disks', async (_, stored) => {
    const { taken, inventory } = await inspect(stored);
    expect(taken).toBe('now');
    expect(inventory).toMatchObject({
      version: 1,
      hardware: { firmware: 'uefi' },
      disks: [{ name: 'vda', controller: 'ahci', scheme: 'none', content: { kind: 'empty' } }],
    });
  });
});
