/**
 * Commands run inside a guest that is ready, through its agent: proof of more than a prompt. A command that hangs, an agent
 * that falls silent or refuses, and a guest that ends meanwhile are findings, as a failed command is.
 */
import type { Clock } from '@lifeboat/foundation/clock';
import { hasCode } from '@lifeboat/foundation/errors';
import type { VerbContext } from '@lifeboat/foundation/progress';
import type { RunningMachine } from '@lifeboat/hypervisor/port';
import type { BootTestSummary } from '../verbs.ts';
import { whileRunning } from './while-running.ts';

/** The agent is one of the last services to start; under software emulation that was seen to take 20 s after the prompt. */
const AGENT_WAIT_MS = 120_000;
const AGENT_POLL_MS = 1000;
const PROBE_TIMEOUT_MS = 120_000;
const OUTPUT_CHARACTERS = 4096;
/** As timeout(1) says it. */
const EXIT_TIMED_OUT = 124;
/** As a shell says of a command that it could not run. */
const EXIT_NOT_RUN = 126;

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
    const startedMs = deps.clock.monotonicMs();
    const { exitCode, output, failure } = await runProbe(deps, guest, command, options);
    const durationMs = Math.round(deps.clock.monotonicMs() - startedMs);
    results.push({ command, exitCode, output: output.slice(0, OUTPUT_CHARACTERS), durationMs });
    if (exitCode !== 0) return { results, failure };
  }
  return { results, failure: '' };
}

async function runProbe(
  { clock }: { readonly clock: Clock },
  guest: RunningMachine,
  command: string,
  options: { timeoutMs: number; signal: AbortSignal },
): Promise<{ exitCode: number; output: string; failure: string }> {
  try {
    const ended = await whileRunning({ guest, clock }, () => guest.runInGuest(command, options));
    if (!ended) {
      return { exitCode: EXIT_NOT_RUN, output: '', failure: `The guest ended while the probe '${command}' ran in it` };
    }
    return { ...ended, failure: `The probe '${command}' ended with exit code ${ended.exitCode}` };
  } catch (error) {
    if (hasCode(error, 'hypervisor.guest-command-timeout')) {
      const failure = `The probe '${command}' did not end within ${options.timeoutMs / 1000} s`;
      return { exitCode: EXIT_TIMED_OUT, output: '', failure };
    }
    if (!hasCode(error, 'libvirt.agent-unresponsive', 'libvirt.agent-failed')) throw error;
    const failure = `The guest is ready, but its agent did not run the probe '${command}': ${error.message}`;
    return { exitCode: EXIT_NOT_RUN, output: '', failure };
  }
}

async function agentAnswers(clock: Clock, guest: RunningMachine, signal: AbortSignal): Promise<boolean> {
  const untilMs = clock.monotonicMs() + AGENT_WAIT_MS;
  while (clock.monotonicMs() < untilMs) {
    if (await answersNow(guest, signal)) return true;
    await clock.sleep(AGENT_POLL_MS, signal);
  }
  return false;
}

/** Asks the agent once. */
export async function answersNow(guest: RunningMachine, signal: AbortSignal): Promise<boolean> {
  try {
    await guest.runInGuest('true', { timeoutMs: 10_000, signal });
    return true;
  } catch (error) {
    // It answers, and says no.
    if (hasCode(error, 'libvirt.agent-failed')) return true;
    if (!hasCode(error, 'libvirt.agent-unresponsive', 'hypervisor.guest-command-timeout')) throw error;
    return false;
  }
}
