/**
 * fnmatch(3) without flags, as kmod matches modules.alias: `*` any run (also `/`), `?` one character, `[a-z]` one of a
 * set, `[!a-z]` one outside it, `\` quotes. Linear memory, no recursion: patterns come from images we do not trust.
 */
export function globMatches(pattern: string, text: string): boolean {
  let p = 0;
  let t = 0;
  let starAt = -1;
  let starText = 0;
  while (t < text.length) {
    if (pattern[p] === '*') {
      starAt = p;
      starText = t;
      p += 1;
      continue;
    }
    const next = matchOne(pattern, p, text[t] as string);
    if (next > 0) {
      p = next;
      t += 1;
      continue;
    }
    // Only the last star needs to grow: an earlier one that took more would leave this one less.
    if (starAt < 0) return false;
    p = starAt + 1;
    starText += 1;
    t = starText;
  }
  while (pattern[p] === '*') p += 1;
  return p === pattern.length;
}

/** The pattern position after the element at `p` when it matches `character`, else 0. */
function matchOne(pattern: string, p: number, character: string): number {
  const element = pattern[p];
  if (element === undefined) return 0;
  if (element === '?') return p + 1;
  if (element === '\\' && p + 1 < pattern.length) return pattern[p + 1] === character ? p + 2 : 0;
  if (element === '[') {
    const set = matchSet(pattern, p, character);
    if (set !== undefined) return set;
  }
  return element === character ? p + 1 : 0;
}

/** Undefined when `[` opens no complete set and stands for itself. */
function matchSet(pattern: string, p: number, character: string): number | undefined {
  let at = p + 1;
  const negated = pattern[at] === '!' || pattern[at] === '^';
  if (negated) at += 1;
  const first = at;
  let inside = false;
  for (;;) {
    const low = pattern[at];
    if (low === undefined) return undefined;
    if (low === ']' && at > first) break;
    if (pattern[at + 1] === '-' && pattern[at + 2] !== undefined && pattern[at + 2] !== ']') {
      inside ||= low <= character && character <= (pattern[at + 2] as string);
      at += 3;
    } else {
      inside ||= low === character;
      at += 1;
    }
  }
  return inside !== negated ? at + 1 : 0;
}
