import { systemClock } from '@lifeboat/foundation/clock';
import { LifeboatError } from '@lifeboat/foundation/errors';
import { newPointId, parseHostId, parseMachineId, parseOpId } from '@lifeboat/foundation/ids';
import { systemRandom } from '@lifeboat/foundation/random';
import { openStateRoot } from '@lifeboat/host/state';
import { scratchDirectory } from '@lifeboat/host/testing/scratch';
import type { MachineShape } from '@lifeboat/hypervisor/port';
import { describe, expect, it } from 'vitest';
import type { EngineDeps } from '../deps.ts';
import { defineMachine } from './define-machine.ts';

const machineId = parseMachineId('11111111-2222-4333-8444-555555555555');

/** The shape that a machine of this firmware becomes, which was captured with these variables. */
async function shapeFor(firmware: 'bios' | 'uefi', variables: string | undefined): Promise<MachineShape | undefined> {
  const stateRoot = await scratchDirectory();
  await openStateRoot(stateRoot, systemRandom);
  let defined: MachineShape | undefined;
  const point = {
    machineId,
    pointId: newPointId(systemClock.nowMs(), systemRandom),
    machine: {
      name: 'web',
      memoryMiB: 512,
      vcpus: 1,
      firmware,
      nics: [],
      disks: [{ name: 'vda', controller: 'ahci' }],
    },
    capture: { version: 1, machineName: 'web', instantMs: 0, consistency: 'crash', disks: [] },
    files: variables === undefined ? [] : [{ name: 'nvram', content: Buffer.from(variables) }],
  };
  const deps = {
    hypervisor: {
      findMachine: () => Promise.reject(new LifeboatError('hypervisor.no-such-machine', 'none')),
      defineMachine: async (shape: MachineShape) => (defined = shape) && machineId,
    },
    repository: { points: async () => [{ ...point, state: 'readable' }], readPoint: async () => point },
    stateRoot,
    hostId: parseHostId('host-1'),
    random: systemRandom,
  } as unknown as EngineDeps;
  const { pointId } = point;
  const disks = [{ name: 'vda', path: '/d/web-vda.qcow2', format: 'qcow2', sizeBytes: 1 }] as const;
  const input = { opId: parseOpId('op-1'), name: 'web-2', machine: 'web', pointId, disks, start: false };
  await defineMachine(deps, input, { signal: new AbortController().signal, progress: () => {} });
  return defined;
}

describe('a machine that is defined from its point', () => {
  it('has its UEFI variables again, if it had any and has UEFI', async () => {
    expect((await shapeFor('uefi', 'boot order'))?.nvram).toEqual(Buffer.from('boot order'));
    expect(await shapeFor('uefi', undefined)).not.toHaveProperty('nvram');
    expect(await shapeFor('bios', 'boot order')).not.toHaveProperty('nvram');
  });
});
