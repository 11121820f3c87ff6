/**
 * What a backup learns of its machine, as a control object: so that bucket and key alone say which machines there are, where they ran and
 * what they were called, also when all their points are gone.
 */
import { hasCode, messageOf } from '@lifeboat/foundation/errors';
import { type MachineId, parseMachineId } from '@lifeboat/foundation/ids';
import type { MachineDescription } from '@lifeboat/hypervisor/port';
import type { ObjectState } from '@lifeboat/repository/objects/control-objects';
import type { Repository } from '@lifeboat/repository/repository';
import type { EngineDeps } from '../deps.ts';
import { machineNameOf } from '../points.ts';

const KIND = 'machine';
const SCHEMA = 'machine/1';

/** Payload of schema `machine/1`: JSON of exactly these. */
export interface MachineProfile {
  readonly name: string;
  /** Of the hypervisor, as it was reached: `qemu:///system`. */
  readonly connection: string;
  readonly domainUuid: string;
  readonly firmware: string;
}

export interface ListedMachine extends Partial<MachineProfile> {
  readonly machineId: MachineId;
  readonly name: string;
  /** Points that can be read, and that cannot. */
  readonly points: number;
  readonly damagedPoints: number;
  /** Of the newest point that can be read, Unix ms by the clock of who wrote it. */
  readonly newestMs?: number;
  /** When what is said here was written; absent: only the points say it. */
  readonly recordedMs?: number;
  /** Why the newest record does not count. */
  readonly problem?: string;
}

/** After the commit: nothing here can lose the point. Writes nothing when it is known already. */
export async function recordMachine(
  deps: Pick<EngineDeps, 'hypervisor' | 'repository' | 'log'>,
  machine: Pick<MachineDescription, 'id' | 'name' | 'firmware'>,
): Promise<void> {
  const { hypervisor, repository, log } = deps;
  try {
    const { uri } = await hypervisor.describeHost();
    const profile: MachineProfile = {
      name: machine.name,
      connection: uri,
      domainUuid: machine.id,
      firmware: machine.firmware,
    };
    const payload = Buffer.from(JSON.stringify(profile), 'utf8');
    await repository.writeObject({ kind: KIND, id: machine.id }, ({ current, lost }) => {
      // What a newer release wrote says more than this one could.
      if (current?.payload && current.schema !== SCHEMA) return undefined;
      const isKnown = current?.payload && payload.equals(current.payload);
      return isKnown && lost.length === 0 ? undefined : { schema: SCHEMA, payload };
    });
  } catch (error) {
    log.warn('what is known of the machine was not written down; the next backup does it', {
      machineId: machine.id,
      why: messageOf(error),
    });
  }
}

/** By name. Reads the repository and nothing else. Errors: those of the store. */
export async function listMachines(
  repository: Repository,
  options: { readonly signal: AbortSignal },
): Promise<ListedMachine[]> {
  const machines = new Map<MachineId, ListedMachine>();
  for (const point of await repository.points(undefined, options)) {
    if (!point.machineId) continue;
    const { machineId } = point;
    const known = machines.get(machineId) ?? { machineId, name: machineId, points: 0, damagedPoints: 0 };
    // Points come oldest first: the newest name is the one its owner knows.
    if (point.state === 'damaged') machines.set(machineId, { ...known, damagedPoints: known.damagedPoints + 1 });
    else {
      const newest = { name: machineNameOf(point), newestMs: point.createdMs };
      machines.set(machineId, { ...known, ...newest, points: known.points + 1 });
    }
  }
  for (const state of await repository.objects(KIND, options)) {
    const machineId = idOf(state);
    if (!machineId) continue;
    const known = machines.get(machineId);
    if (!known && state.current && !state.current.payload) continue;
    const counted = known ?? { machineId, name: machineId, points: 0, damagedPoints: 0 };
    machines.set(machineId, { ...counted, ...recordOf(state) });
  }
  return [...machines.values()].toSorted((a, b) =>
    a.name === b.name ? (a.machineId < b.machineId ? -1 : 1) : a.name < b.name ? -1 : 1,
  );
}

function recordOf({ current, lost }: ObjectState): Partial<ListedMachine> {
  const [newest] = lost;
  const problem = newest && `version ${newest.version} of its record cannot be read: ${newest.why}`;
  const lostOne = problem === undefined ? {} : { problem };
  if (!current?.payload) return lostOne;
  const profile = profileOf(current.schema, current.payload);
  if (typeof profile === 'string') return { problem: profile };
  return { ...profile, recordedMs: current.writtenMs, ...lostOne };
}

/** The profile, or why there is none. */
function profileOf(schema: string, payload: Uint8Array): MachineProfile | string {
  if (schema !== SCHEMA) return `its record was written by another release (${schema}; this one reads ${SCHEMA})`;
  const damaged = 'its record does not say what a record of a machine says';
  try {
    const found = JSON.parse(Buffer.from(payload).toString('utf8')) as Partial<Record<keyof MachineProfile, unknown>>;
    const { name, connection, domainUuid, firmware } = found;
    const isProfile = [name, connection, domainUuid, firmware].every((value) => typeof value === 'string');
    return isProfile ? ({ name, connection, domainUuid, firmware } as MachineProfile) : damaged;
  } catch (error) {
    // No JSON, or null in the place of an object.
    if (!(error instanceof SyntaxError || error instanceof TypeError)) throw error;
    return damaged;
  }
}

/** Undefined for an id that no backup gives. */
function idOf({ id }: ObjectState): MachineId | undefined {
  try {
    return parseMachineId(id);
  } catch (error) {
    if (!hasCode(error, 'input.invalid')) throw error;
    return undefined;
  }
}
