/**
 * An agent as a process of its own, to be killed: `node counting-agent.ts <address> <hostId> <directory>`. Its capture
 * counts to `STEPS`, and keeps the count in a file, as the engine keeps its journal; so a later attempt goes on counting.
 * Every attempt, step and undoing is a line of `<directory>/events`.
 */
import { appendFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { systemClock } from '@lifeboat/foundation/clock';
import { LifeboatError, systemCode } from '@lifeboat/foundation/errors';
import { parseHostId } from '@lifeboat/foundation/ids';
import { silentLog } from '@lifeboat/foundation/log';
import { runAgent } from '@lifeboat/agent/agent-process';
import { captureSummary, FakeEngine } from './fake-engine.ts';
import { GENEROUS, quietTemporal } from './temporal-stack.ts';

export const STEPS = 20;
const STEP_MS = 150;

const [address, hostId, directory] = process.argv.slice(2);
if (address && hostId && directory) await main(address, hostId, directory);

async function main(server: string, host: string, state: string): Promise<void> {
  quietTemporal();
  const stop = new AbortController();
  process.on('SIGTERM', () => stop.abort(new Error('SIGTERM')));
  const note = (event: string): void => appendFileSync(join(state, 'events'), `${event}\n`);
  const engine = new FakeEngine({
    captureMachine: async ({ opId }, { signal, progress }) => {
      const countPath = join(state, `${opId}.count`);
      const from = readCount(countPath);
      note(`attempt ${process.pid} ${opId} from ${from}`);
      try {
        for (let count = from; count < STEPS;) {
          await systemClock.sleep(STEP_MS, signal);
          writeFileSync(countPath, String(++count));
          note(`step ${process.pid} ${opId} ${count}`);
          progress({ phase: 'counting', doneBytes: count, totalBytes: STEPS });
        }
      } catch (error) {
        if (!signal.aborted) throw error;
        note(`undone ${process.pid} ${opId}`);
        throw new LifeboatError('operation.cancelled', 'the count was stopped', { cause: error });
      }
      return captureSummary(1);
    },
    abandonOperation: async ({ opId }) => note(`abandoned ${process.pid} ${opId}`),
  });
  const runtime = { engine, hostCare: engine, log: silentLog, capacity: GENEROUS };
  await runAgent({ ...runtime, address: server, namespace: 'default', hostId: parseHostId(host), signal: stop.signal });
}

function readCount(path: string): number {
  try {
    return Number(readFileSync(path, 'utf8'));
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return 0;
    throw error;
  }
}
