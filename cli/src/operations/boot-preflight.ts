/**
 * The boot tests of a pre-flight: as many as fit into a time, those first that were started on that model longest ago, or never.
 *
 *   plan says yes ─► restore, edit, boot test on the model, disks removed (a redeploy that defines nothing)
 *
 * It must agree with the plan. A guest that does not start where the plan said yes makes the answer a no.
 */
import { join } from 'node:path';
import type { BootTestSummary } from '@lifeboat/contracts/workflow/verbs';
import { messageOf } from '@lifeboat/foundation/errors';
import type { HostRuntime } from '@lifeboat/runtime/host-runtime';
import { type BootOptions, bootPlan } from '../boot-options.ts';
import type { CommandContext } from '../context.ts';
import { withHostRuntime } from './host.ts';
import { followStages } from './follow.ts';
import { newRequestId } from './request.ts';
import { submitAndFollow } from './session.ts';
import { withStack } from './stack-session.ts';

type Preflight = Awaited<ReturnType<HostRuntime['engine']['preflight']>>;

export interface BootAnswer {
  readonly machineId: string;
  readonly profile: string;
  /** `waits`: no time was left for it. `unknown`: it could not be found out, and `reason` says why. */
  readonly verdict: 'yes' | 'no' | 'unknown' | 'waits';
  readonly reason: string;
  readonly boot?: BootTestSummary;
}

interface Candidate {
  readonly machineId: string;
  readonly pointId: string;
  /** As it was given, a name or a path; and what it is called in evidence. */
  readonly profile: string;
  readonly lastMs: number;
}

/** `budgetMs`: no test is begun after it; the last one goes on to its end. */
export async function bootYeses(
  context: CommandContext,
  found: Preflight,
  options: { readonly profiles: readonly string[]; readonly boot: BootOptions; readonly budgetMs: number },
): Promise<BootAnswer[]> {
  const { clock, configuration, random, stages, signal } = context;
  const { profiles, boot, budgetMs } = options;
  const { hostId, candidates } = await withHostRuntime(context, async (host) => ({
    hostId: host.hostId,
    candidates: await oldestFirst(host, found, profiles),
  }));
  if (candidates.length === 0) return [];
  const untilMs = clock.monotonicMs() + budgetMs;
  return await withStack({ ...context, hostId }, async (client, running) => {
    const answers: BootAnswer[] = [];
    for (const { machineId, pointId, profile } of candidates) {
      running.throwIfAborted();
      if (clock.monotonicMs() >= untilMs) {
        answers.push({ machineId, profile, verdict: 'waits', reason: 'no time was left for its boot test' });
        continue;
      }
      const name = `preflight-${newRequestId(random)}`;
      const target = { kind: 'directory', directory: join(configuration.stateRoot, 'preflight'), name } as const;
      try {
        const { boot: summary, plan } = await submitAndFollow({ clock, random, signal: running }, client, {
          kind: 'redeploy',
          input: {
            hostId,
            machineId,
            machine: machineId,
            pointId,
            profile,
            target,
            boot: bootPlan(boot),
            disks: 'discard',
          },
          onSighting: followStages(stages),
        });
        const isReady = summary?.finding === 'ready';
        const reason = summary?.explanation ?? plan.refusals.join(' ');
        answers.push({
          machineId,
          profile,
          verdict: isReady ? 'yes' : 'no',
          reason,
          ...(summary ? { boot: summary } : {}),
        });
      } catch (error) {
        signal.throwIfAborted();
        running.throwIfAborted();
        answers.push({ machineId, profile, verdict: 'unknown', reason: messageOf(error) });
      }
    }
    return answers;
  });
}

async function oldestFirst(host: HostRuntime, found: Preflight, profiles: readonly string[]): Promise<Candidate[]> {
  const candidates: Candidate[] = [];
  for (const { machineId, pointId, answers } of found.machines) {
    if (pointId === undefined) continue;
    const { records } = await host.engine.listEvidence(machineId);
    for (const [index, { profile: name, verdict }] of answers.entries()) {
      if (verdict !== 'yes') continue;
      const boots = records.filter(
        ({ operation, hardware }) =>
          operation === 'boot-test' && hardware.split(', ')[0]?.replace(/\.json$/, '') === name,
      );
      const lastMs = boots.at(-1)?.endedMs ?? 0;
      candidates.push({ machineId, pointId, profile: profiles[index] ?? name, lastMs });
    }
  }
  return candidates.toSorted((a, b) => a.lastMs - b.lastMs);
}
