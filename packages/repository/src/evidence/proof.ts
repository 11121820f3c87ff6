/** What the evidence of a machine says of each of its points, level by level: the newest word counts. */
import { PROOF_LEVELS, type Claim, type ProofLevel } from '../format/evidence.ts';
import type { StoredEvidence } from './chain.ts';

export interface PointProof {
  /** Weak to strong. A level nobody looked at is in neither list. */
  readonly proven: readonly ProofLevel[];
  /** What did not hold when it was looked at last. */
  readonly failed: readonly { readonly level: ProofLevel; readonly reason: string; readonly atMs: number }[];
}

/**
 * By point id. A level is proven only of all disks of a point, on its own hardware: what was shown of one disk, or on other hardware,
 * stands in the record and counts for nothing here. What failed of one disk failed.
 */
export function proofsOf(records: readonly StoredEvidence[]): Map<string, PointProof> {
  const newest = new Map<string, Map<ProofLevel, Claim & { readonly atMs: number }>>();
  for (const { claims, hardware, endedMs } of records) {
    if (hardware !== '') continue;
    for (const claim of claims) {
      if (claim.result === 'proven' && claim.disks.length > 0) continue;
      const levels = newest.get(claim.pointId) ?? new Map<ProofLevel, Claim & { readonly atMs: number }>();
      newest.set(claim.pointId, levels.set(claim.level, { ...claim, atMs: endedMs }));
    }
  }
  return new Map(
    [...newest].map(([pointId, levels]) => {
      const said = PROOF_LEVELS.flatMap((level) => levels.get(level) ?? []);
      return [
        pointId,
        {
          proven: said.filter(({ result }) => result === 'proven').map(({ level }) => level),
          failed: said
            .filter(({ result }) => result === 'failed')
            .map(({ level, reason, atMs }) => ({ level, reason, atMs })),
        },
      ];
    }),
  );
}
