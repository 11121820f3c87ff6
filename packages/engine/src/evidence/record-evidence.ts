/**
 * What a verb proved goes into the machine's evidence in the repository, by the process that has the result at hand.
 *
 * It is written before the verb says that it is done, so that there is no result without evidence but where the store refused it. That
 * is logged and stands in nobody's way: a machine that was restored from a store that is read-only is restored. Killed in between, the
 * next attempt does the work again and writes it again.
 */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { basename } from 'node:path';
import { LifeboatError, systemCode } from '@lifeboat/foundation/errors';
import type { MachineId } from '@lifeboat/foundation/ids';
import type { Artefact, Claim, Evidence, ProofLevel } from '@lifeboat/repository/format/evidence';
import type { EngineDeps } from '../deps.ts';

/** Three bytes each at most: what a record has room for. */
const MAX_TEXT = 170;

export type EvidenceDeps = Pick<EngineDeps, 'repository' | 'clock' | 'log'> & Partial<Pick<EngineDeps, 'hostId'>>;

type Optional = 'operationId' | 'endedMs' | 'readBytes' | 'artefacts' | 'hardware' | 'summary';

export interface Finding extends Omit<Evidence, Optional | 'hostId'>, Partial<Pick<Evidence, Optional>> {
  /** Or how to find it out: what is asked of the store then must not undo what was done. */
  readonly machineId: MachineId | (() => Promise<MachineId>);
}

/** Never rejects for what the store says; it does with the signal's reason. */
export async function recordEvidence(deps: EvidenceDeps, finding: Finding, signal: AbortSignal): Promise<void> {
  const { repository, clock, log, hostId = '' } = deps;
  const { machineId: id, summary = '', claims, ...rest } = finding;
  const evidence: Evidence = {
    operationId: '',
    hostId,
    endedMs: clock.nowMs(),
    readBytes: 0,
    artefacts: [],
    hardware: '',
    ...rest,
    claims: claims.map((claim) => ({ ...claim, reason: clipped(claim.reason) })),
    summary: clipped(summary),
  };
  try {
    const machineId = typeof id === 'string' ? id : await id();
    await repository.appendEvidence(machineId, evidence, { signal });
  } catch (error) {
    if (!(error instanceof LifeboatError) || error.code === 'internal.bug' || signal.aborted) throw error;
    log.error('what was found out could not be written into the evidence', {
      operation: finding.operation,
      claims: evidence.claims.map(({ pointId, level, result }) => `${pointId} ${level} ${result}`).join(', '),
      why: error.message,
    });
  }
}

export function proven(pointId: string, levels: readonly ProofLevel[], disks: readonly string[] = []): Claim[] {
  return levels.map((level) => ({ pointId, level, result: 'proven', disks, reason: '' }));
}

export function failed(pointId: string, level: ProofLevel, why: { disks?: readonly string[]; reason: string }): Claim {
  return { pointId, level, result: 'failed', disks: why.disks ?? [], reason: why.reason };
}

/** What a check that found nothing has proven: only what was looked at. */
export const PROVEN_BY_CHECK: Readonly<Record<'present' | 'ciphertext' | 'content', readonly ProofLevel[]>> = {
  present: ['stored'],
  ciphertext: ['stored', 'ciphertext'],
  // Every chunk was opened; neither tables were hashed nor what no disk uses.
  content: ['stored', 'content'],
};

/** What a check that found damage was looking for. */
export const FAILED_BY_CHECK = { present: 'stored', ciphertext: 'ciphertext', content: 'content' } as const;

/** Files as they are now. One that is not there is left out. */
export async function artefactsOf(paths: readonly string[]): Promise<Artefact[]> {
  const artefacts: Artefact[] = [];
  for (const path of paths) {
    try {
      const { size: sizeBytes } = await stat(path);
      const hash = createHash('sha256');
      for await (const part of createReadStream(path)) hash.update(part as Uint8Array);
      artefacts.push({ name: basename(path), sizeBytes, sha256: hash.digest() });
    } catch (error) {
      if (systemCode(error) !== 'ENOENT') throw error;
    }
  }
  return artefacts;
}

function clipped(text: string): string {
  return text.slice(0, MAX_TEXT).toWellFormed();
}
