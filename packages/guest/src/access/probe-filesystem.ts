/** Which filesystem begins at a place of a disk, by blkid's low-level probe: no cache, no device nodes. */
import { runTool } from '@lifeboat/host/children';

const PROBE_TIMEOUT_MS = 30_000;
/** blkid's answer for "nothing recognised" (2) and "several at once, undecided" (8). */
const NOTHING = 2;
const AMBIVALENT = 8;

export interface ProbedFilesystem {
  /** Empty: nothing recognised. */
  readonly type: string;
  readonly uuid: string;
  readonly label: string;
}

export async function probeFilesystem(
  path: string,
  run: { offsetBytes: number; lengthBytes: number },
  signal: AbortSignal,
): Promise<ProbedFilesystem> {
  const args = ['-p', '-o', 'export', '-O', String(run.offsetBytes), '-S', String(run.lengthBytes), '--', path];
  const result = await runTool('blkid', args, {
    timeoutMs: PROBE_TIMEOUT_MS,
    okCodes: [0, NOTHING, AMBIVALENT],
    signal,
  });
  const values = new Map<string, string>();
  for (const line of result.stdout.split('\n')) {
    const cut = line.indexOf('=');
    // In this form blkid quotes as for a shell: a backslash before what is not plain.
    if (cut > 0) values.set(line.slice(0, cut), line.slice(cut + 1).replace(/\\(.)/g, '$1'));
  }
  const value = (key: string): string => (result.code === 0 ? (values.get(key) ?? '') : '');
  return { type: value('TYPE'), uuid: value('UUID'), label: value('LABEL') };
}
