/**
 * A way in on paper: the 32 bytes a key slot's keys come from, in four lines a person can type.
 *
 * ```
 *   first 8 bytes of the repository's id || 32 bytes   =   4 lines of 10 bytes
 *   line n:  16 digits (80 bits) || 4 digits: (n x 2^80 + those bits) mod 1048573
 * ```
 * The digits are Crockford's base 32: no I, L, O or U, and who types them for 1 or 0, or in lower case, is understood. The modulus is
 * the greatest prime below 2^20. A wrong digit changes the number by d x 32^k with 0 < |d| < 32, and two neighbours exchanged by
 * 31 d x 32^k: neither is a multiple of it. So either is found, always, and in its line; lines in the wrong order are found, too.
 */
import { LifeboatError } from '@lifeboat/foundation/errors';

const DIGITS = '0123456789ABCDEFGHJKMNPQRSTVWXYZ';
const LINES = 4;
const LINE_BYTES = 10;
const LINE_DIGITS = 20;
const MODULUS = 1_048_573n;
const REPOSITORY_BYTES = 8;
const NUMBERED = /^\s*[1-4Iil]\s*:(.*)$/;

export interface Paper {
  /** First bytes of the id of the repository it was printed for. */
  readonly repository: Uint8Array;
  /** What the slot's keys come from. */
  readonly key: Uint8Array;
}

/** `1: 0123-4567-89AB-CDEF-GHJK` and three more. */
export function paperLines(repositoryId: Uint8Array, key: Uint8Array): string[] {
  const all = Buffer.concat([repositoryId.subarray(0, REPOSITORY_BYTES), key]);
  return Array.from({ length: LINES }, (_, i) => {
    const data = BigInt(`0x${all.toString('hex', i * LINE_BYTES, (i + 1) * LINE_BYTES)}`);
    const digits = digitsOf((data << 20n) | checkOf(i + 1, data));
    return `${i + 1}: ${digits.match(/.{4}/g)?.join('-') ?? ''}`;
  });
}

/**
 * What was typed: four lines, or a whole page that holds them with their numbers. Case, spaces and hyphens do not matter.
 * Throws `repository.paper-unusable`, which names every line that is wrong.
 */
export function parsePaper(typed: string): Paper {
  const lines = typed.split(/\r\n|\r|\n/).filter((line) => line.trim() !== '');
  // Of a whole page, the numbered lines are the key; who typed four lines may have left the numbers out.
  const numbered = lines.flatMap((line) => NUMBERED.exec(line)?.[1] ?? []);
  const found = lines.length === LINES ? lines.map((line) => NUMBERED.exec(line)?.[1] ?? line) : numbered;
  if (found.length !== LINES) throw unusable(`it has ${found.length} lines with a key instead of ${LINES}`);
  const wrong: string[] = [];
  const parts = found.map((line, i) => {
    const part = parseLine(line, i + 1);
    if (typeof part === 'string') wrong.push(`line ${i + 1} ${part}`);
    return typeof part === 'string' ? Buffer.alloc(0) : part;
  });
  if (wrong.length > 0) throw unusable(wrong.join('; '));
  const all = Buffer.concat(parts);
  return { repository: all.subarray(0, REPOSITORY_BYTES), key: all.subarray(REPOSITORY_BYTES) };
}

/** Throws `repository.wrong-paper` for a page of another repository, before anything is asked of this one. */
export function assertPaperOf(secret: { readonly paper: Paper } | object, repositoryId: Uint8Array): void {
  if (!('paper' in secret)) return;
  const [printedFor, here] = [secret.paper.repository, repositoryId].map((id) =>
    Buffer.from(id.subarray(0, REPOSITORY_BYTES)),
  );
  if (!printedFor || !here || printedFor.equals(here)) return;
  throw new LifeboatError(
    'repository.wrong-paper',
    `the page was printed for repository ${printedFor.toString('hex')}…, and this is ${here.toString('hex')}…`,
  );
}

/** The bytes of a line, or what is wrong with it. The line itself is a secret and stands in no message. */
function parseLine(line: string, number: number): Buffer | string {
  const typed = line
    .toUpperCase()
    .replaceAll(/[\s\-‐‑–—]/g, '')
    .replaceAll('O', '0')
    .replaceAll(/[IL]/g, '1');
  const strange = Array.from(typed).find((digit) => !DIGITS.includes(digit));
  if (strange !== undefined) return `holds '${strange}', which no key does`;
  if (typed.length !== LINE_DIGITS) return `has ${typed.length} digits instead of ${LINE_DIGITS}`;
  const value = Array.from(typed).reduce((sum, digit) => sum * 32n + BigInt(DIGITS.indexOf(digit)), 0n);
  const data = value >> 20n;
  if (checkOf(number, data) !== (value & 0xf_ffffn)) return 'has a wrong digit';
  return Buffer.from(data.toString(16).padStart(LINE_BYTES * 2, '0'), 'hex');
}

const checkOf = (line: number, data: bigint): bigint => ((BigInt(line) << 80n) | data) % MODULUS;

function digitsOf(value: bigint): string {
  return Array.from(
    { length: LINE_DIGITS },
    (_, i) => DIGITS[Number((value >> BigInt(5 * (LINE_DIGITS - 1 - i))) & 31n)],
  ).join('');
}

function unusable(why: string): LifeboatError {
  return new LifeboatError('repository.paper-unusable', `what was typed from paper: ${why}`);
}
