/**
 * Takes over into a copy what its source keeps, and for how long.
 *
 * Holds always, before the points: they only ever keep. Policies only where somebody asks for them, after the points, and only those the
 * target has none for: a policy lets go of points, and a copy may be there to keep them longer. What the target says itself stays as it
 * is; a hold that is lifted in the source stays in the target until it is lifted there.
 */
import type { MachineId } from '@lifeboat/foundation/ids';

import type { Repository } from '../repository.ts';
import { assertWhole } from '../retention/acts.ts';
import type { RetentionPolicy } from '../retention/policy.ts';
import type { StoreOptions } from '../store/object-store.ts';
import { assertCopyable } from './copy-points.ts';

interface Between {
  readonly source: Repository;
  readonly target: Repository;
  /** All machines when absent. */
  readonly machineId?: MachineId | undefined;
}

export interface CopiedHolds {
  /** That the target did not have. */
  readonly set: number;
  /** Entries of the source's ledger that cannot be read. Each may be a hold that is missing in the target. */
  readonly lostEntries: readonly number[];
}

export interface CopiedPolicies {
  readonly set: number;
  /** The target wants four eyes or a delay: they wait there. */
  readonly requested: number;
}

/** May be repeated. Errors: as `copyPoints`; `repository.retention-busy`, those of both stores. */
export async function copyHolds(
  { source, target, machineId }: Between,
  options: StoreOptions = {},
): Promise<CopiedHolds> {
  assertCopyable(source, target);
  const { holds, lost } = await source.retention.state(options);
  const there = new Set([...(await target.retention.state(options)).holds.values()].map(keyOf));
  let set = 0;
  for (const hold of holds.values()) {
    if ((machineId !== undefined && hold.machineId !== machineId) || there.has(keyOf(hold))) continue;
    const { machineId: machine, pointId, reason } = hold;
    const act = { kind: 'hold', machineId: machine, ...(pointId === undefined ? {} : { pointId }) } as const;
    await target.retention.perform({ act, reason }, options);
    there.add(keyOf(hold));
    set++;
  }
  return { set, lostEntries: lost.map(({ entry }) => entry) };
}

/**
 * Those of machines before the default, so that no machine is under a shorter one for a moment. With `machineId` its own only. May be
 * repeated. Errors: as `copyHolds`; `repository.retention-unreadable` where entries of either ledger are lost.
 */
export async function copyPolicies(
  { source, target, machineId }: Between,
  options: StoreOptions = {},
): Promise<CopiedPolicies> {
  assertCopyable(source, target);
  const from = await source.retention.state(options);
  assertWhole(from);
  const to = await target.retention.state(options);
  const wanted: { machineId?: string; policy: RetentionPolicy }[] = [...from.policies]
    .filter(([machine]) => (machineId === undefined || machine === machineId) && !to.policies.has(machine))
    .map(([machine, { policy }]) => ({ machineId: machine, policy }));
  if (machineId === undefined && from.defaultPolicy && !to.defaultPolicy)
    wanted.push({ policy: from.defaultPolicy.policy });
  const reason = `as in repository ${source.repositoryId}`;
  let requested = 0;
  for (const policy of wanted) {
    const { outcome } = await target.retention.perform({ act: { kind: 'policy', ...policy }, reason }, options);
    if (outcome === 'requested') requested++;
  }
  return { set: wanted.length - requested, requested };
}

function keyOf(hold: {
  readonly machineId: string;
  readonly pointId: string | undefined;
  readonly reason: string;
}): string {
  return JSON.stringify([hold.machineId, hold.pointId ?? null, hold.reason]);
}
