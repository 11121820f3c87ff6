/** Other processes that a test makes stand still, so that what needs them stands in the middle of its work. */
import { readFileSync } from 'node:fs';
import process from 'node:process';
import { systemCode } from '@lifeboat/foundation/errors';

/**
 * Stops the process whose pid stands in the file, alone or as `pid` of a JSON object, and returns the pid. Undefined for a file
 * that is not there, or is empty yet.
 */
export function standStill(pidFile: string): number | undefined {
  const pid = pidIn(pidFile);
  if (pid !== undefined) process.kill(pid, 'SIGSTOP');
  return pid;
}

/** Harmless for one that ended while it stood still. */
export function goOn(pid: number): void {
  try {
    process.kill(pid, 'SIGCONT');
  } catch (error) {
    if (systemCode(error) !== 'ESRCH') throw error;
  }
}

function pidIn(path: string): number | undefined {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined;
    throw error;
  }
  const value = JSON.parse(text || '0') as number | { readonly pid: number };
  const pid = typeof value === 'number' ? value : value.pid;
  // A signal to 0 would go to everything here.
  return pid > 1 ? pid : undefined;
}
