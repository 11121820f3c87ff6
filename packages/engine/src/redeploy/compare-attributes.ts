/**
 * The extended attributes of two mounted trees, and with them capabilities, access control lists and labels: `user.`,
 * `security.`, `system.` and, as root, `trusted.`. getfattr reads a whole tree at once; Node has no call for them.
 */
import { MiB } from '@lifeboat/foundation/units';
import { runTool } from '@lifeboat/host/children';

const TIMEOUT_MS = 1_800_000;
/** With a label on each of a million files it is some 100 MB. */
const MAX_BYTES = 256 * MiB;
const HEADER = '# file: ';

/** Paths that have different attributes, or on one side only; they begin with `/`. Errors: `host.tool-output-too-big`. */
export async function compareAttributes(left: string, right: string, signal: AbortSignal): Promise<string[]> {
  const [a, b] = [await attributesOf(left, signal), await attributesOf(right, signal)];
  return [...new Set([...a.keys(), ...b.keys()])].filter((path) => a.get(path) !== b.get(path)).sort();
}

async function attributesOf(root: string, signal: AbortSignal): Promise<Map<string, string>> {
  const args = ['-R', '-P', '-h', '-d', '-m', '-', '-e', 'hex', '--absolute-names', '--', root];
  const { stdoutBytes } = await runTool('getfattr', args, { timeoutMs: TIMEOUT_MS, maxOutputBytes: MAX_BYTES, signal });
  const found = new Map<string, string>();
  // latin1 keeps names that are not UTF-8 apart from each other, as in the comparison of the files.
  for (const record of stdoutBytes.toString('latin1').split('\n\n')) {
    const [header = '', ...attributes] = record.trim().split('\n');
    if (!header.startsWith(HEADER)) continue;
    const path = unescape(header.slice(HEADER.length)).slice(Buffer.from(root).length) || '/';
    found.set(path, attributes.sort().join('\n'));
  }
  return found;
}

/** getfattr writes line ends and backslashes of a name as octal. */
function unescape(name: string): string {
  return name.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}
