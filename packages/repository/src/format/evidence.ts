/**
 * Evidence: what was proven of recovery points, or was found not to hold, by which operation. Records of one machine make a chain:
 *
 * ```
 *   data/evidence/<machine>/00000001.<tag> ◄─ previous: {1, hash} ─ 00000002.<tag> ◄─ previous: {2, hash} ─ …
 *        {machine, number, previous, salt}   open, so that the chain can be followed
 *        {operation, claims, artefacts, …}   sealed under the machine's key: it names disks, and says what a console showed
 * ```
 */
import { damaged } from './frame.ts';
import { MAX_EVIDENCE_CLAIMS, MAX_EVIDENCE_SEALED_BYTES } from './limits.ts';
import { bytes, list, message, nested, optional, text, uint, type MessageOf } from './wire.ts';

/** From weak to strong; the number of a level is its place here, from 1. */
export const PROOF_LEVELS = ['stored', 'ciphertext', 'content', 'filesystem', 'booted', 'application'] as const;
export type ProofLevel = (typeof PROOF_LEVELS)[number];
const RESULTS = ['proven', 'failed'] as const;

const MAX_NUMBER = 99_999_999;
const MAX_DISKS = 256;
const MAX_ARTEFACTS = 16;
const MAX_EVIDENCE_TEXT_BYTES = 512;

const envelopeSchema = message({
  machineId: text(1, 64),
  number: uint(2, MAX_NUMBER),
  /** The newest record that could be read when this one was made; none: it is the first. */
  previous: optional(nested(3, message({ number: uint(1, MAX_NUMBER), hash: bytes(2, { length: 32 }) }))),
  salt: bytes(4, { length: 32 }),
  sealed: bytes(5, { max: MAX_EVIDENCE_SEALED_BYTES }),
});
export type EvidenceEnvelope = MessageOf<typeof envelopeSchema>;

const claimSchema = message({
  pointId: text(1, 64),
  level: uint(2, PROOF_LEVELS.length),
  result: uint(3, RESULTS.length),
  /** Names of the disks that were looked at; none: all of the point. */
  disks: list(4, message({ name: text(1, 255) }), MAX_DISKS),
  /** Of what failed. */
  reason: text(5, MAX_EVIDENCE_TEXT_BYTES),
});

const bodySchema = message({
  operation: text(1, 64),
  operationId: text(2, 64),
  hostId: text(3, 64),
  beganMs: uint(4),
  endedMs: uint(5),
  readBytes: uint(6),
  claims: list(7, claimSchema, MAX_EVIDENCE_CLAIMS),
  artefacts: list(
    8,
    message({ name: text(1, 255), sizeBytes: uint(2), sha256: bytes(3, { length: 32 }) }),
    MAX_ARTEFACTS,
  ),
  hardware: text(9, 255),
  summary: text(10, MAX_EVIDENCE_TEXT_BYTES),
});

export interface Claim {
  readonly pointId: string;
  readonly level: ProofLevel;
  readonly result: (typeof RESULTS)[number];
  /** Names of the disks that were looked at; empty: all of the point. */
  readonly disks: readonly string[];
  /** Of what failed; else empty. */
  readonly reason: string;
}

export interface Artefact {
  readonly name: string;
  readonly sizeBytes: number;
  /** 32 bytes. */
  readonly sha256: Uint8Array;
}

export interface Evidence {
  /** What was done: `check`, `boot-test`, `restore` and the like. */
  readonly operation: string;
  /** Empty: it had none. A repeated attempt may write the same operation twice. */
  readonly operationId: string;
  readonly hostId: string;
  /** Unix ms by the clock of the host. */
  readonly beganMs: number;
  readonly endedMs: number;
  /** Of points, by the operation; 0 where nobody counted. */
  readonly readBytes: number;
  readonly claims: readonly Claim[];
  /** Files that the operation left, by their content. */
  readonly artefacts: readonly Artefact[];
  /** What it ran on, where that was not the machine's own hardware; else empty. */
  readonly hardware: string;
  readonly summary: string;
}

export const encodeEvidenceEnvelope = (envelope: EvidenceEnvelope): Uint8Array => envelopeSchema.encode(envelope);

/** Throws `repository.object-damaged`. */
export function decodeEvidenceEnvelope(body: Uint8Array, what: string): EvidenceEnvelope {
  const envelope = envelopeSchema.decode(body, what);
  const { number, previous } = envelope;
  if (number === 0 || (previous?.number ?? 0) >= number)
    throw damaged(what, `record ${number} follows ${previous?.number ?? 0}`);
  if (previous?.number === 0) throw damaged(what, 'it follows record 0');
  return envelope;
}

export function encodeEvidence(evidence: Evidence): Uint8Array {
  const claims = evidence.claims.map(({ level, result, disks, ...claim }) => ({
    ...claim,
    level: PROOF_LEVELS.indexOf(level) + 1,
    result: RESULTS.indexOf(result) + 1,
    disks: disks.map((name) => ({ name })),
  }));
  return bodySchema.encode({ ...evidence, claims });
}

/** Throws `repository.object-damaged`. */
export function decodeEvidence(plain: Uint8Array, what: string): Evidence {
  const { claims, ...evidence } = bodySchema.decode(plain, what);
  return {
    ...evidence,
    claims: claims.map(({ level: levelNumber, result: resultNumber, disks, ...claim }) => {
      const level = PROOF_LEVELS[levelNumber - 1];
      const result = RESULTS[resultNumber - 1];
      if (!level || !result) throw damaged(what, `it claims result ${resultNumber} at level ${levelNumber}`);
      return { ...claim, level, result, disks: disks.map(({ name }) => name) };
    }),
  };
}
