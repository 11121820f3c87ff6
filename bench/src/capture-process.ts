/**
 * One full backup in a process of its own, with all modules of the agent loaded as in the agent:
 *
 *   node capture-process.ts MACHINE OPERATION AGENT-MODULE     (configuration in the environment)
 *
 * Prints one JSON object: how long the verb took, what it stored, the CPU time and the peak of the resident memory.
 */
import { readFile } from 'node:fs/promises';
import { systemClock } from '@lifeboat/foundation/clock';
import { parseOpId } from '@lifeboat/foundation/ids';
import { jsonLog } from '@lifeboat/foundation/log';
import { KiB } from '@lifeboat/foundation/units';
import { loadConfiguration } from '@lifeboat/runtime/configuration';
import { openHostRuntime } from '@lifeboat/runtime/host-runtime';

export interface CaptureProcessReport {
  readonly wallMs: number;
  readonly cpuMs: number;
  readonly readBytes: number;
  readonly storedBytes: number;
  /** Just before the capture. */
  readonly idleBytes: number;
  readonly peakBytes: number;
}

const [machine = '', operation = '', agentModule = ''] = process.argv.slice(2);
await import(agentModule);
const log = jsonLog((line) => process.stderr.write(line), 'warn');
const host = await openHostRuntime(loadConfiguration(), { log, makeRepository: true });
const stop = new AbortController();
process.on('SIGTERM', () => stop.abort(new Error('the benchmark was broken off')));
try {
  await host.hypervisor.describeHost();
  const idleBytes = await memory('VmRSS');
  const cpuBefore = process.cpuUsage();
  const beganMs = systemClock.monotonicMs();
  const summary = await host.engine.captureMachine(
    { opId: parseOpId(operation), machine },
    { signal: stop.signal, progress: () => {} },
  );
  const wallMs = systemClock.monotonicMs() - beganMs;
  const { user, system } = process.cpuUsage(cpuBefore);
  const total = (field: 'readBytes' | 'storedBytes'): number =>
    summary.disks.reduce((sum, disk) => sum + disk[field], 0);
  const report: CaptureProcessReport = {
    wallMs,
    cpuMs: (user + system) / 1000,
    readBytes: total('readBytes'),
    storedBytes: total('storedBytes'),
    idleBytes,
    peakBytes: await memory('VmHWM'),
  };
  process.stdout.write(`${JSON.stringify(report)}\n`);
} finally {
  await host.close();
}

/** A line of /proc/self/status, in bytes. */
async function memory(field: 'VmRSS' | 'VmHWM'): Promise<number> {
  const status = await readFile('/proc/self/status', 'utf8');
  const kibibytes = new RegExp(`^${field}:\\s+(\\d+) kB$`, 'm').exec(status)?.[1];
  if (kibibytes === undefined) throw new Error(`/proc/self/status has no ${field}`);
  return Number(kibibytes) * KiB;
}
