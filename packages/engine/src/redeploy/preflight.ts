/**
 * Would machines start on other hardware? Asked of their newest points and of spare models, long before that is needed.
 *
 *   point ── served from the repository ── overlays, thrown away ── inspection, once ── a plan for each model
 *
 * The plan is the one a redeploy makes, so its refusals are the reasons. "No" and "cannot be told" are told apart, and nothing that was not
 * looked at is a yes. Not guaranteed: that the hardware itself is sound, or that its firmware lists the disk; a boot test on the emulated model
 * (`lifeboat redeploy`) says more.
 */
import { join } from 'node:path';
import { hasCode, LifeboatError } from '@lifeboat/foundation/errors';
import type { MachineId } from '@lifeboat/foundation/ids';
import type { VerbContext } from '@lifeboat/foundation/progress';
import { type GuestDisk, withGuest } from '@lifeboat/guest/access/open-guest';
import { systemUnpackers } from '@lifeboat/guest/access/system-unpackers';
import type { GuestInspection } from '@lifeboat/guest/inspect/guest-inspection';
import { inspectGuest } from '@lifeboat/guest/inspect/inspect-guest';
import { planRedeploy as planFor } from '@lifeboat/guest/plan/redeploy-plan';
import type { HardwareProfile } from '@lifeboat/guest/profile/hardware-profile';
import { loadHardwareProfile } from '@lifeboat/guest/profile/shipped-profiles';
import type { Operation } from '@lifeboat/host/operation';
import type { EngineDeps } from '../deps.ts';
import { recordEvidence } from '../evidence/record-evidence.ts';
import { beginOperation } from '../operations.ts';
import { findPoint, pointsOf, summarise } from '../points.ts';
import type { PreflightInput, PreflightSummary } from '../verbs.ts';

type Machine = PreflightSummary['machines'][number];
type Answer = Machine['answers'][number];

/** A summary travels through a workflow; evidence and the point itself have the rest. */
const MAX_REASON = 500;

/** What says that a guest cannot be looked into, not that it would not start. */
const CANNOT_BE_TOLD = [
  'guest.no-root',
  'guest.several-roots',
  'guest.layout-unsupported',
  'guest.mount-failed',
  'guest.filesystem-twin',
  'guest.path-unusable',
] as const;

/**
 * Machine by machine; one of which nothing can be found out stops no other, and says why. Errors: those of the profiles, before anything is
 * opened; `engine.no-such-point` and `engine.ambiguous-machine` for a machine that was named; those of the store.
 */
export async function preflight(
  deps: EngineDeps,
  input: PreflightInput,
  context: VerbContext,
): Promise<PreflightSummary> {
  const profiles = await Promise.all(input.profiles.map((profile) => loadHardwareProfile(profile)));
  const operation = await beginOperation(deps, input, { verb: 'preflight', machine: '' }, context.signal);
  try {
    const startedMs = deps.clock.monotonicMs();
    const machines: Machine[] = [];
    for (const { machineId, machineName } of await newestOf(deps, input.machines)) {
      operation.signal.throwIfAborted();
      context.progress({ phase: 'preflight', doneBytes: 0, detail: machineName });
      machines.push({ machineId, machineName, ...(await ask(deps, operation, { machineId, profiles })) });
    }
    return { machines, durationMs: Math.round(deps.clock.monotonicMs() - startedMs) };
  } finally {
    await operation.close({ remove: true });
  }
}

/** Each machine once, those with a point that can be trusted; by name. */
async function newestOf(
  { repository }: EngineDeps,
  machines: readonly string[] | undefined,
): Promise<Pick<Machine, 'machineId' | 'machineName'>[]> {
  const listings = machines === undefined ? await repository.points() : [];
  for (const machine of machines ?? []) {
    const found = await findPoint(repository, machine, undefined);
    listings.push(...(await pointsOf(repository, found.machineId)));
  }
  const names = new Map<MachineId, string>();
  for (const { machineId, machineName, damage } of listings.map(summarise))
    if (damage === undefined) names.set(machineId, machineName);
  return [...names]
    .map(([machineId, machineName]) => ({ machineId, machineName }))
    .toSorted((a, b) => a.machineName.localeCompare(b.machineName));
}

async function ask(
  deps: EngineDeps,
  operation: Operation,
  of: { readonly machineId: MachineId; readonly profiles: readonly HardwareProfile[] },
): Promise<Pick<Machine, 'pointId' | 'answers' | 'problem'>> {
  const { signal } = operation;
  try {
    return await canStartOn(deps, operation, of);
  } catch (error) {
    if (signal.aborted || !(error instanceof LifeboatError) || error.code === 'internal.bug') throw error;
    return { answers: [], problem: error.message.slice(0, MAX_REASON) };
  }
}

async function canStartOn(
  deps: EngineDeps,
  { opId, directory, qemuDirectory, signal }: Operation,
  { machineId, profiles }: { readonly machineId: MachineId; readonly profiles: readonly HardwareProfile[] },
): Promise<Pick<Machine, 'pointId' | 'answers'>> {
  const beganMs = deps.clock.nowMs();
  const { pointId } = await findPoint(deps.repository, machineId, undefined);
  const served = await deps.exporter({ machineId, pointId, directory, qemuDirectory }, { signal });
  let answers: Answer[];
  try {
    const disks = served.disks.map(({ name }): GuestDisk => ({
      name,
      image: { nbdSocketPath: served.socketPath, nbdExportName: name },
    }));
    const looked = await lookInto(disks, join(directory, 'guest'), signal);
    answers = profiles.map((profile) => answer(looked, profile));
  } catch (error) {
    // Then this is why.
    if (!signal.aborted) served.assertServing();
    throw error;
  } finally {
    await served.stop();
  }
  const summary = `${pointId}: ${answers.map(({ profile, verdict }) => `${profile} ${verdict}`).join(', ')}`;
  const evidence = { machineId, operation: 'preflight', operationId: opId, beganMs, claims: [], summary };
  await recordEvidence(deps, evidence, signal);
  return { pointId, answers };
}

function answer(looked: Looked, profile: HardwareProfile): Answer {
  const { name } = profile;
  if ('why' in looked)
    return { profile: name, verdict: 'unknown', reasons: [looked.why.slice(0, MAX_REASON)], warnings: [] };
  const { refusals, warnings } = planFor(looked.inspection, profile);
  return {
    profile: name,
    verdict: refusals.length === 0 ? 'yes' : 'no',
    reasons: refusals.map(({ text }) => text.slice(0, MAX_REASON)),
    warnings: warnings.map((text) => text.slice(0, MAX_REASON)),
  };
}

type Looked = { readonly inspection: GuestInspection } | { readonly why: string };

async function lookInto(disks: readonly GuestDisk[], directory: string, signal: AbortSignal): Promise<Looked> {
  try {
    const inspection = await withGuest({ disks, directory, signal }, ({ tree, mounted }) =>
      inspectGuest(tree, mounted, systemUnpackers(signal)),
    );
    return { inspection };
  } catch (error) {
    if (!hasCode(error, ...CANNOT_BE_TOLD)) throw error;
    return { why: error.message };
  }
}
