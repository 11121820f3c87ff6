/** A program of somebody else, measured by the shell that runs it: wall clock and CPU time without our own spawning. */
import { runTool } from '@lifeboat/host/children';

const LIMIT_MS = 60 * 60_000;
const REPORT = /^([0-9.]+) ([0-9.]+) ([0-9.]+)$/m;

export interface ToolTime {
  readonly wallSeconds: number;
  /** User and system time of the program. */
  readonly cpuSeconds: number;
}

/** Errors: `host.tool-failed` and the like. */
export async function timeTool(command: readonly string[], signal: AbortSignal): Promise<ToolTime> {
  const script = `TIMEFORMAT='%3R %3U %3S'; time "$@"`;
  const { stderr } = await runTool('bash', ['-c', script, 'bash', ...command], { timeoutMs: LIMIT_MS, signal });
  const [, real, user, system] = REPORT.exec(stderr) ?? [];
  if (real === undefined) throw new Error(`the shell did not say how long ${command[0]} took: ${stderr}`);
  return { wallSeconds: Number(real), cpuSeconds: Number(user) + Number(system) };
}
