/** The evidence of a machine as people and programs see it. */
import { LifeboatError } from '@lifeboat/foundation/errors';
import type { MachineId } from '@lifeboat/foundation/ids';
import { machinesWithEvidence } from '@lifeboat/repository/evidence/chain';
import { proofsOf } from '@lifeboat/repository/evidence/proof';
import { hex } from '@lifeboat/repository/format/names';
import type { Repository } from '@lifeboat/repository/repository';
import type { EngineDeps } from '../deps.ts';
import { NO_MACHINE, pointsOf, summarise } from '../points.ts';
import type { EvidenceSummary, PointSummary } from '../verbs.ts';

/**
 * Follows the machine's chain. `machine`: its id, or a name that one of its points gives; of a machine whose points are all pruned, its id.
 * Errors: `engine.ambiguous-machine`, `engine.no-such-point` where there is neither point nor evidence, those of the store.
 */
export async function listEvidence(
  { repository }: Pick<EngineDeps, 'repository'>,
  machine: string,
  options: { readonly signal?: AbortSignal } = {},
): Promise<EvidenceSummary> {
  const points = await pointsOf(repository, machine);
  const named = new Set(points.flatMap(({ machineId }) => machineId ?? []));
  const known = await machinesWithEvidence(repository.core, options);
  const machineId = only(machine, named) ?? known.find((id) => id === machine);
  if (machineId === undefined) {
    throw new LifeboatError(
      'engine.no-such-point',
      `there is neither a recovery point nor evidence of machine '${machine}' in this repository`,
      { context: { machine } },
    );
  }
  const { records, problems, foreignObjects } = await repository.evidence(machineId, options);
  const there = new Set(points.map(({ pointId }) => pointId as string | undefined));
  const newest = points.map(summarise).findLast(({ damage }) => damage === undefined);
  return {
    machineId,
    ...(newest ? { machineName: newest.machineName } : {}),
    sound: problems.length === 0,
    problems,
    foreignObjects,
    records: records.map((stored) => {
      const { claims, artefacts, previous: _, ...record } = stored;
      return {
        ...record,
        claims: claims.map((claim) => ({ ...claim, pointIsThere: there.has(claim.pointId) })),
        artefacts: artefacts.map(({ sha256, ...artefact }) => ({ ...artefact, sha256: hex(sha256) })),
      };
    }),
  };
}

/** What is proven of each point. One that nobody looked at has neither proof nor failure. */
export async function withProof(
  repository: Repository,
  points: readonly PointSummary[],
  options: { readonly signal?: AbortSignal } = {},
): Promise<PointSummary[]> {
  const proofs = new Map<string, ReturnType<typeof proofsOf>>();
  for (const machineId of new Set(points.map((point) => point.machineId)))
    if (machineId !== NO_MACHINE)
      proofs.set(machineId, proofsOf((await repository.evidence(machineId, options)).records));
  return points.map((point) => ({
    ...point,
    proof: proofs.get(point.machineId)?.get(point.pointId) ?? { proven: [], failed: [] },
  }));
}

function only(machine: string, ids: ReadonlySet<MachineId>): MachineId | undefined {
  const [id, ...more] = ids;
  if (more.length === 0) return id;
  throw new LifeboatError(
    'engine.ambiguous-machine',
    `'${machine}' names ${ids.size} machines with recovery points: ${[...ids].join(', ')}`,
    { context: { machine } },
  );
}
