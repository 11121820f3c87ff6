/** Restored disks become a machine of the hypervisor: what a restore was for. It stays when the operation is over. */
import { hasCode, LifeboatError } from '@lifeboat/foundation/errors';
import { type MachineId, parseMachineId } from '@lifeboat/foundation/ids';
import type { VerbContext } from '@lifeboat/foundation/progress';
import type { Operation } from '@lifeboat/host/operation';
import type { EngineDeps } from '../deps.ts';
import { beginOperation } from '../operations.ts';
import { findPoint, machineRecordOf, nvramOf } from '../points.ts';
import type { DefineInput, DefineSummary } from '../verbs.ts';
import { hardwareFor, shapeOf } from './hardware.ts';

export async function defineMachine(
  deps: EngineDeps,
  input: DefineInput,
  context: VerbContext,
): Promise<DefineSummary> {
  const operation = await beginOperation(deps, input, { verb: 'define', machine: input.machine }, context.signal);
  try {
    const machineId = await defineOnce(deps, operation, input);
    if (input.start) await deps.hypervisor.start(machineId);
    return { machineId, name: input.name, started: input.start };
  } finally {
    await operation.close({ remove: false });
  }
}

/** Stops and undefines what this operation defined; disks stay. Idempotent. */
export async function undefineMachine(deps: EngineDeps, operation: Pick<Operation, 'recall'>): Promise<void> {
  const machineId = (await operation.recall('machine-id')) as MachineId | undefined;
  if (!machineId) return;
  await deps.hypervisor.destroy(machineId);
  await deps.hypervisor.undefineMachine(machineId);
}

async function defineOnce(deps: EngineDeps, operation: Operation, input: DefineInput): Promise<MachineId> {
  // The id is chosen and recorded first, so that a machine an earlier attempt defined can be told from somebody else's.
  const before = (await operation.recall('machine-id')) as MachineId | undefined;
  if (before && (await exists(deps, before))) return before;
  if (await exists(deps, input.name)) {
    throw new LifeboatError('engine.name-taken', `machine '${input.name}' exists already on this hypervisor`, {
      context: { name: input.name },
    });
  }
  const point = await findPoint(deps.repository, input.machine, input.pointId);
  const record = machineRecordOf(point);
  const hardware = await hardwareFor(record, input.profile);
  const identity = {
    opId: input.opId,
    hostId: deps.hostId,
    name: input.name,
    // The network of the lost machine may not exist here, and two machines with one address must not meet: a person connects it.
    network: { kind: 'none' },
  } as const;
  const machineId = before ?? parseMachineId(uuidFrom(deps.random.bytes(16)));
  if (!before) await operation.record('machine-id', machineId);
  return deps.hypervisor.defineMachine({
    ...shapeOf(identity, record, { hardware, disks: input.disks, nvram: nvramOf(point) }),
    uuid: machineId,
  });
}

/** Version 4, variant 1 (RFC 9562). */
function uuidFrom(random: Uint8Array): string {
  const bytes = Buffer.from(random);
  bytes.writeUInt8((bytes.readUInt8(6) & 0x0f) | 0x40, 6);
  bytes.writeUInt8((bytes.readUInt8(8) & 0x3f) | 0x80, 8);
  return bytes.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}

async function exists(deps: EngineDeps, name: string): Promise<boolean> {
  try {
    await deps.hypervisor.findMachine(name);
    return true;
  } catch (error) {
    if (hasCode(error, 'hypervisor.no-such-machine')) return false;
    throw error;
  }
}
