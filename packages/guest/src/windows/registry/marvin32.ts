/** The hash of log entries: Marvin32, 64 bits, with the seed that the registry uses. */

const SEED = { low: 0x7a4e_55c5, high: 0x82ef_4d88 } as const;

export function marvin32(bytes: Uint8Array): bigint {
  let low: number = SEED.low;
  let high: number = SEED.high;
  const mix = (word: number): void => {
    low = (low + word) | 0;
    high ^= low;
    low = (rotate(low, 20) + high) | 0;
    high = rotate(high, 9) ^ low;
    low = (rotate(low, 27) + high) | 0;
    high = rotate(high, 19);
  };
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const whole = bytes.length - (bytes.length % 4);
  for (let at = 0; at < whole; at += 4) mix(view.getUint32(at, true));
  // What is left, with a mark behind it.
  let last = 0x80;
  for (let at = bytes.length - 1; at >= whole; at -= 1) last = (last << 8) | (bytes[at] ?? 0);
  mix(last);
  mix(0);
  return (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0);
}

function rotate(value: number, bits: number): number {
  return (value << bits) | (value >>> (32 - bits));
}
