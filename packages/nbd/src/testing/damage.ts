import { hasCode, LifeboatError } from '@lifeboat/foundation/errors';
import { expect } from 'vitest';

/**
 * Cuts a message off before every byte: none of the stumps may be taken for a whole one. `isComplete` names the lengths
 * at which a message with an open end (a trailing text) is whole all the same.
 */
export function expectTruncationRefused(
  bytes: Uint8Array,
  decode: (bytes: Uint8Array) => unknown,
  isComplete: (lengthBytes: number) => boolean = () => false,
): void {
  for (let length = 0; length < bytes.length; length++) {
    if (isComplete(length)) continue;
    const stump = bytes.subarray(0, length);
    expect(() => decode(stump), `cut to ${length} of ${bytes.length} bytes`).toThrow(LifeboatError);
  }
}

/** Turns every bit over: decoding may succeed with another value or fail as a protocol error, and in no other way. */
export function expectBitFlipsContained(bytes: Uint8Array, decode: (bytes: Uint8Array) => unknown): void {
  for (let bit = 0; bit < bytes.length * 8; bit++) {
    const error = thrownBy(() => decode(flipBit(bytes, bit)));
    const contained = error === undefined || hasCode(error, 'nbd.protocol-error', 'nbd.unsupported');
    expect(contained, `bit ${bit}: ${String(error)}`).toBe(true);
  }
}

/** What a call throws, or undefined. */
export function thrownBy(call: () => unknown): unknown {
  try {
    call();
    return undefined;
  } catch (error) {
    return error;
  }
}

export function flipBit(bytes: Uint8Array, bit: number): Uint8Array {
  const damaged = Uint8Array.from(bytes);
  damaged[bit >>> 3] = (damaged[bit >>> 3] ?? 0) ^ (1 << (bit & 7));
  return damaged;
}
