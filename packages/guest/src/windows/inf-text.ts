/**
 * The text of an INF file, from its bytes.
 *
 * Vendors write them in UTF-16 with a byte order mark (what Microsoft recommends), in UTF-8 with or without one, and in the code page of
 * the machine they were written on. The last is named nowhere in the file: keys and hardware ids are ASCII whatever it is, only names for people
 * come out wrong where another was meant.
 */
import { LifeboatError } from '@lifeboat/foundation/errors';
import { MiB } from '@lifeboat/foundation/units';

/** The largest that Windows ships have some 2 MB; those of graphics drivers among them. */
export const MAX_INF_BYTES = 8 * MiB;
/** So many of the first bytes tell whether it is UTF-16 without a mark. */
const SAMPLE_BYTES = 512;

/**
 * `legacyEncoding`: a label of the WHATWG Encoding Standard (`windows-1252`, `shift_jis`, `gbk`) for files that are neither UTF-16 nor
 * valid UTF-8. `source` names the file in errors. Errors: `guest.inf-invalid`.
 */
export function decodeInfText(bytes: Uint8Array, source: string, legacyEncoding = 'windows-1252'): string {
  if (bytes.length > MAX_INF_BYTES) {
    throw infInvalid(source, `it holds ${bytes.length} bytes; at most ${MAX_INF_BYTES} are read`);
  }
  const text = new TextDecoder(encodingOf(bytes, legacyEncoding)).decode(bytes);
  if (text.includes('\0')) throw infInvalid(source, 'it holds zero bytes, so it is not text');
  return text;
}

export function infInvalid(source: string, problem: string): LifeboatError {
  return new LifeboatError('guest.inf-invalid', `${source}: ${problem}`, { context: { source } });
}

function encodingOf(bytes: Uint8Array, legacyEncoding: string): string {
  const [first, second] = bytes;
  if (first === 0xff && second === 0xfe) return 'utf-16le';
  if (first === 0xfe && second === 0xff) return 'utf-16be';
  // Without a mark: what is ASCII in UTF-16 has a zero in every other byte.
  const sample = bytes.subarray(0, SAMPLE_BYTES);
  let even = 0;
  let odd = 0;
  for (const [i, byte] of sample.entries()) {
    if (byte !== 0) continue;
    if (i % 2 === 0) even++;
    else odd++;
  }
  const half = sample.length / 2;
  if (odd > half * 0.7 && even === 0) return 'utf-16le';
  if (even > half * 0.7 && odd === 0) return 'utf-16be';
  try {
    new TextDecoder('utf-8', { fatal: true }).decode(bytes);
    return 'utf-8';
  } catch {
    // Not UTF-8: that is what the question was.
    return legacyEncoding;
  }
}
