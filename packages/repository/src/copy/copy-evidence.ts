/**
 * Carries over what was proven of points, or failed, that speaks of their content and not of where it lies: file systems, boots, applications. The
 * copy was compared with the source chunk by chunk, so it holds of the copy as well; of the levels below, each repository proves its own.
 */
import type { MachineId } from '@lifeboat/foundation/ids';

import { appendEvidence, readEvidence, type StoredEvidence } from '../evidence/chain.ts';
import type { Core } from '../core.ts';
import type { Claim, Evidence, ProofLevel } from '../format/evidence.ts';
import { hex } from '../format/names.ts';
import type { StoreOptions } from '../store/object-store.ts';

const CARRIED: readonly ProofLevel[] = ['filesystem', 'booted', 'application'];
/** Of what an evidence record may say in its summary, in bytes of UTF-8; a character has at most four. */
const SUMMARY_CHARACTERS = 127;

/**
 * Of each point and level, what the newest record in the source says that counts, unless the target says something of it already: so it may be
 * repeated. Records of the source that cannot be read are not carried. Errors: those of both stores, `repository.evidence-busy`,
 * `repository.limit-exceeded`.
 */
export async function copyEvidence(
  source: Core,
  target: Core,
  what: { readonly machineId: MachineId; readonly points: ReadonlySet<string> },
  options: StoreOptions = {},
): Promise<void> {
  const { machineId, points } = what;
  const { records } = await readEvidence(source, machineId, options);
  const carried = newestClaims(records, points);
  if (carried.size === 0) return;
  const there = new Set<string>();
  for (const { claims } of (await readEvidence(target, machineId, options)).records)
    for (const claim of claims) there.add(keyOf(claim));
  for (const [record, claims] of Map.groupBy(carried.values(), ({ from }) => from)) {
    const missing = claims.map(({ claim }) => claim).filter((claim) => !there.has(keyOf(claim)));
    if (missing.length > 0) await appendEvidence(target, machineId, restated(source, record, missing), options);
  }
}

/** As `proofsOf` counts them, and with what failed of single disks. Oldest record first. */
function newestClaims(
  records: readonly StoredEvidence[],
  points: ReadonlySet<string>,
): Map<string, { readonly claim: Claim; readonly from: StoredEvidence }> {
  const newest = new Map<string, { claim: Claim; from: StoredEvidence }>();
  for (const from of records) {
    if (from.hardware !== '') continue;
    for (const claim of from.claims) {
      const isPart = claim.result === 'proven' && claim.disks.length > 0;
      if (isPart || !points.has(claim.pointId) || !CARRIED.includes(claim.level)) continue;
      // Deleted first, so that the order is that of the records.
      newest.delete(keyOf(claim));
      newest.set(keyOf(claim), { claim, from });
    }
  }
  return newest;
}

function restated(source: Core, record: StoredEvidence, claims: readonly Claim[]): Evidence {
  const { operation, operationId, hostId, beganMs, endedMs, readBytes, artefacts, hardware, summary } = record;
  const origin = `in repository ${hex(source.superblock.repositoryId).slice(0, 8)}`;
  const said = Array.from(summary === '' ? origin : `${origin}: ${summary}`)
    .slice(0, SUMMARY_CHARACTERS)
    .join('');
  return { operation, operationId, hostId, beganMs, endedMs, readBytes, claims, artefacts, hardware, summary: said };
}

function keyOf({ pointId, level }: Claim): string {
  return `${pointId} ${level}`;
}
