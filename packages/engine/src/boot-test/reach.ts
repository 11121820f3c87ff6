/**
 * Whether ports of a guest that is ready answer, asked from this host through its isolated network.
 *
 * QEMU takes a connection to a port of ours at once, whether or not the guest has one behind it. So the packets decide: the guest accepted, or
 * it did not. A service may start after the prompt; it has a while.
 */
import { once } from 'node:events';
import { request } from 'node:http';
import { connect } from 'node:net';
import type { Clock } from '@lifeboat/foundation/clock';
import { messageOf } from '@lifeboat/foundation/errors';
import type { VerbContext } from '@lifeboat/foundation/progress';
import type { RunningMachine } from '@lifeboat/hypervisor/port';
import type { BootTestSummary, ReachProbe } from '../verbs.ts';
import { captured } from './isolated-network.ts';

/** Services were seen to start a minute after the prompt under software emulation. */
export const REACH_WAIT_MS = 120_000;
const POLL_MS = 1000;
const ATTEMPT_MS = 10_000;
const BODY_CHARACTERS = 200;

type Result = BootTestSummary['probes'][number];

/** Resolves with a result for each probe up to the first that failed, and a sentence about that; empty when none did. */
export async function reachPorts(
  deps: { readonly clock: Clock; readonly guest: RunningMachine; readonly capturePath: string },
  probes: readonly ReachProbe[],
  context: VerbContext,
): Promise<{ readonly results: readonly Result[]; readonly failure: string }> {
  const results: Result[] = [];
  for (const probe of probes) {
    context.progress({ phase: 'probe', doneBytes: 0, detail: nameOf(probe) });
    const startedMs = deps.clock.monotonicMs();
    const { isReached, output } = await reach(deps, probe, context.signal);
    const durationMs = Math.round(deps.clock.monotonicMs() - startedMs);
    results.push({ command: nameOf(probe), exitCode: isReached ? 0 : 1, output, durationMs });
    if (!isReached) {
      return {
        results,
        failure: `The guest is ready, but ${nameOf(probe)} was not reached within ${REACH_WAIT_MS / 1000} s: ${output}`,
      };
    }
  }
  return { results, failure: '' };
}

async function reach(
  { clock, guest, capturePath }: Parameters<typeof reachPorts>[0],
  probe: ReachProbe,
  signal: AbortSignal,
): Promise<{ isReached: boolean; output: string }> {
  const untilMs = clock.monotonicMs() + REACH_WAIT_MS;
  for (;;) {
    signal.throwIfAborted();
    if ((await guest.state()) === 'ended') return { isReached: false, output: 'the guest ended' };
    const hostPort = await guest.forward(probe.port);
    const output = probe.kind === 'http' ? await get(hostPort, probe.path) : await knock(hostPort);
    const { openPorts, lease } = await captured(capturePath);
    const isOpen = openPorts.includes(probe.port);
    if (isOpen && (probe.kind === 'tcp' || /^HTTP [23]\d\d\b/.test(output))) return { isReached: true, output };
    if (clock.monotonicMs() > untilMs) {
      const why = lease === undefined ? 'it took no address from the isolated network' : `nothing listens at ${lease}`;
      return { isReached: false, output: isOpen ? output : why };
    }
    await clock.sleep(POLL_MS, signal);
  }
}

/** Long enough for the guest to accept; what it says first is shown. */
async function knock(port: number): Promise<string> {
  const socket = connect({ host: '127.0.0.1', port });
  let said = '';
  socket.on('data', (bytes) => {
    said += bytes.toString('latin1');
    socket.end();
  });
  const timer = setTimeout(() => socket.destroy(), POLL_MS);
  try {
    await once(socket, 'close');
  } catch (error) {
    return messageOf(error);
  } finally {
    clearTimeout(timer);
    socket.destroy();
  }
  return said.slice(0, BODY_CHARACTERS).trim() || 'it accepted';
}

function get(port: number, path: string): Promise<string> {
  return new Promise((resolve) => {
    const call = request({ host: '127.0.0.1', port, path, timeout: ATTEMPT_MS, headers: { host: 'localhost' } });
    call.on('response', (response) => {
      let body = '';
      response.setEncoding('utf8');
      response.on('data', (text: string) => (body = (body + text).slice(0, BODY_CHARACTERS)));
      const done = (): void => resolve(`HTTP ${response.statusCode ?? 0} ${body.trim()}`.trim());
      response.on('end', done).on('error', done);
    });
    call.on('timeout', () => call.destroy(new Error(`no answer within ${ATTEMPT_MS / 1000} s`)));
    call.on('error', (error) => resolve(messageOf(error)));
    call.end();
  });
}

function nameOf(probe: ReachProbe): string {
  return probe.kind === 'tcp' ? `tcp ${probe.port}` : `http ${probe.port}${probe.path}`;
}
