/** Commands run inside a guest that is ready, through its agent: proof of more than a prompt. */
import type { Clock } from '@lifeboat/foundation/clock';
import { hasCode } from '@lifeboat/foundation/errors';
import type { VerbContext } from '@lifeboat/foundation/progress';
import type { RunningMachine } from '@lifeboat/hypervisor/port';
import type { BootTestSummary } from '../verbs.ts';

/** The agent is one of the last services to start; under software emulation that was seen to take 20 s after the prompt. */
const AGENT_WAIT_MS = 120_000;
const AGENT_POLL_MS = 1000;
const PROBE_TIMEOUT_MS = 120_000;
const OUTPUT_CHARACTERS = 4096;

export interface ProbeRun {
  readonly results: BootTestSummary['probes'];
  /** A sentence about the first probe that failed; empty when none did. */
  readonly failure: string;
}

export async function runProbes(
  deps: { readonly clock: Clock },
  guest: RunningMachine,
  commands: readonly string[],
  context: VerbContext,
): Promise<ProbeRun> {
  const results: BootTestSummary['probes'][number][] = [];
  if (commands.length === 0) return { results, failure: '' };
  if (!(await agentAnswers(deps.clock, guest, context.signal))) {
    return {
      results,
      failure: `The guest is ready, but its agent did not answer within ${AGENT_WAIT_MS / 1000} s, so no probe could run`,
    };
  }
  for (const command of commands) {
    context.progress({ phase: 'probe', doneBytes: 0, detail: command });
    const options = { timeoutMs: PROBE_TIMEOUT_MS, signal: context.signal };
    const { exitCode, output } = await guest.runInGuest(command, options);
    results.push({ command, exitCode, output: output.slice(0, OUTPUT_CHARACTERS) });
    if (exitCode !== 0) return { results, failure: `The probe '${command}' ended with exit code ${exitCode}` };
  }
  return { results, failure: '' };
}

async function agentAnswers(clock: Clock, guest: RunningMachine, signal: AbortSignal): Promise<boolean> {
  const untilMs = clock.monotonicMs() + AGENT_WAIT_MS;
  while (clock.monotonicMs() < untilMs) {
    try {
      await guest.runInGuest('true', { timeoutMs: 10_000, signal });
      return true;
    } catch (error) {
      if (!hasCode(error, 'libvirt.agent-unresponsive')) throw error;
      await clock.sleep(AGENT_POLL_MS, signal);
    }
  }
  return false;
}
