/**
 * How long objects are locked.
 *
 * ```
 *   put at t ────────────────────────── retention ──┬──── one generation ───┬─ rounded up ─┐
 *   generations  |───────────|───────────|──────────||───────────|──────────|┼───────────|─┴ locked until here
 * ```
 * Locks end only at the borders of generations, so all objects of a generation end together, and a pack that stays in use is extended
 * once a generation, not once a day. With an extension in every generation, whatever a writer may refer to at an instant is
 * locked for at least the retention from then on: it was put, or extended, at most one generation ago.
 */
import { LifeboatError } from '@lifeboat/foundation/errors';

import { CONTROL } from '../format/names.ts';

export interface LockPolicy {
  /** From any instant on, what a point in policy needs stays undeletable this long. */
  readonly retentionMs: number;
  /** Extensions run at least this often. */
  readonly generationMs: number;
}

/** A retention of ten years by mistake costs ten years of storage: nobody can take it back. */
const MAX_RETENTION_MS = 100 * 365 * 86_400_000;

/** Errors: `input.invalid`. */
export function checkLockPolicy(policy: LockPolicy): LockPolicy {
  const { retentionMs, generationMs } = policy;
  const sane =
    Number.isInteger(retentionMs) && retentionMs > 0 && Number.isInteger(generationMs) && generationMs >= 1000;
  if (!sane || retentionMs > MAX_RETENTION_MS || generationMs > MAX_RETENTION_MS) {
    throw new LifeboatError('input.invalid', `locks of ${retentionMs} ms in generations of ${generationMs} ms`);
  }
  return policy;
}

/** Until when an object is locked that is put or extended at `nowMs`. */
export function lockEndMs(policy: LockPolicy, nowMs: number): number {
  const { retentionMs, generationMs } = policy;
  return Math.ceil((nowMs + retentionMs + generationMs) / generationMs) * generationMs;
}

/** Everything but control objects: points, packs, keys, superblock. */
export function isLocked(name: string): boolean {
  return !name.startsWith(CONTROL);
}
