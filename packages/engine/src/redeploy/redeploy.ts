/**
 * Redeploy: inspect -> plan -> edit under a journal -> read back what is really there.
 *
 * The plan is made twice, once for people and once before the edit: it is a pure function of the disks and the profile, and
 * edits nothing but what it was made for. The journal moves to `<state>/journals/<opId>` when the edit is durable: it
 * outlives the operation, so that `revert` can give back the identical bytes, and goes with the disks (kept-journals.ts). The plan that was
 * carried out, or refused, is evidence: text and JSON beside the console logs, their hashes in the machine's chain.
 */
import { access, mkdir, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { systemCode } from '@lifeboat/foundation/errors';
import type { VerbContext } from '@lifeboat/foundation/progress';
import type { FileEdit } from '@lifeboat/guest/access/guest-tree';
import { injectDrivers } from '@lifeboat/guest/inject/inject-drivers';
import { injectWindows } from '@lifeboat/guest/inject/inject-windows';
import { revertJournal } from '@lifeboat/guest/journal/apply-journal';
import { readJournal } from '@lifeboat/guest/journal/journal-file';
import { renderPlan } from '@lifeboat/guest/plan/render-plan';
import { renderWindowsPlan } from '@lifeboat/guest/windows/render-windows';
import type { Operation } from '@lifeboat/host/operation';
import type { EngineDeps } from '../deps.ts';
import { evidenceDirectory } from '../boot-test/evidence.ts';
import { artefactsOf, recordEvidence } from '../evidence/record-evidence.ts';
import { beginOperation } from '../operations.ts';
import { findPoint } from '../points.ts';
import type { RedeployInput, RedeployPlanSummary, RedeploySummary } from '../verbs.ts';
import { guestDisk } from './guest-disk.ts';
import { keptJournal, noteAbout } from './kept-journals.ts';
import { type AnyPlan, driverStore, isWindowsPlan, makePlan } from './make-plan.ts';

export async function planRedeploy(
  deps: EngineDeps,
  input: RedeployInput,
  context: VerbContext,
): Promise<RedeployPlanSummary> {
  const operation = await beginOperation(deps, input, { verb: 'redeploy', machine: input.machine }, context.signal);
  try {
    const startedMs = deps.clock.monotonicMs();
    const beganMs = deps.clock.nowMs();
    const plan = await makePlan(deps, operation, input, context);
    if (plan.refusals.length > 0) {
      const paths = await storePlan(deps, input, plan);
      const summary = `${input.pointId}: refused: ${plan.refusals.map(({ code }) => code).join(', ')}`;
      await recordPlan(deps, input, { plan, beganMs, paths, summary, signal: operation.signal });
    }
    return { ...summaryOf(plan), durationMs: Math.round(deps.clock.monotonicMs() - startedMs) };
  } finally {
    await operation.close({ remove: false });
  }
}

/** Errors: `guest.redeploy-refused`, those of the guest room; the disks are then as they were. */
export async function applyRedeploy(
  deps: EngineDeps,
  input: RedeployInput,
  context: VerbContext,
): Promise<RedeploySummary> {
  const operation = await beginOperation(deps, input, { verb: 'redeploy', machine: input.machine }, context.signal);
  try {
    const done = (await operation.recall('done')) as RedeploySummary | undefined;
    const beganMs = deps.clock.nowMs();
    const summary = done ?? (await apply(deps, operation, input, { ...context, signal: operation.signal }));
    if (!done) {
      const kernels = summary.installed.map(({ kernel, modules }) => `${kernel}: ${modules.join(', ')}`).join('; ');
      // What was done, on which hardware. That it starts there is what the boot test of these disks says.
      await recordPlan(deps, input, {
        plan: { profile: { name: summary.profile } },
        beganMs,
        paths: planPaths(deps, input.opId),
        summary: `${input.pointId}: ${summary.editedFiles.length} files edited; ${kernels}`,
        signal: operation.signal,
      });
      await operation.record('done', summary);
    }
    await moveOnce(join(operation.directory, 'journal'), summary.journalPath);
    return summary;
  } finally {
    await operation.close({ remove: false });
  }
}

/**
 * Takes back an edit that was begun and not finished: the disks hold what they held before. What was finished stays, and so
 * does its journal. Idempotent.
 */
export async function undoRedeploy(operation: Pick<Operation, 'directory' | 'signal' | 'recall'>): Promise<void> {
  const done = (await operation.recall('done')) as RedeploySummary | undefined;
  if (done) return moveOnce(join(operation.directory, 'journal'), done.journalPath);
  await revertIfThere(operation);
}

/** Takes back the edit whose journal lies in the operation's directory. */
export async function revertIfThere(operation: Pick<Operation, 'directory' | 'signal'>): Promise<void> {
  const directory = join(operation.directory, 'journal');
  const found = await readJournal(directory);
  // Not complete: no byte of the disks was changed. Without the disks there is nothing to give back.
  if (!found || !(await allThere(found.journal.disks.map(({ image }) => image.path)))) return;
  await revertJournal({ directory, workDirectory: operation.directory, signal: operation.signal });
}

async function apply(
  deps: EngineDeps,
  operation: Operation,
  input: RedeployInput,
  context: VerbContext,
): Promise<RedeploySummary> {
  const startedMs = deps.clock.monotonicMs();
  // An attempt that was killed in mid-edit must finish with the plan it began with: the disks are no longer what was planned for.
  const begun = (await operation.recall('plan')) as AnyPlan | undefined;
  const plan = begun ?? (await makePlan(deps, operation, input, context));
  if (!begun) await operation.record('plan', plan);
  const [planPath = ''] = await storePlan(deps, input, plan);
  const beganMs = deps.clock.monotonicMs();
  const { installed, edits, journalDirectory } = await inject(deps, operation, { input, plan }, context);
  const endedMs = deps.clock.monotonicMs();
  const { machine, pointId, disks } = input;
  const editedAtMs = deps.clock.nowMs();
  await noteAbout(journalDirectory, { machine, pointId, disks, profile: plan.profile.name, editedAtMs });
  return {
    ...summaryOf(plan),
    installed,
    editedFiles: edits.map(({ path }) => path),
    injectionMs: Math.round(endedMs - beganMs),
    durationMs: Math.round(endedMs - startedMs),
    journalPath: keptJournal(deps.stateRoot, operation.opId),
    planPath,
  };
}

/** As a person reads it, and as a program does. */
function planPaths(deps: EngineDeps, opId: RedeployInput['opId']): string[] {
  return ['plan.txt', 'plan.json'].map((name) => join(evidenceDirectory(deps, opId), name));
}

async function storePlan(deps: EngineDeps, { opId }: RedeployInput, plan: AnyPlan): Promise<string[]> {
  const paths = planPaths(deps, opId);
  await mkdir(evidenceDirectory(deps, opId), { recursive: true, mode: 0o700 });
  const contents = [`${linesOf(plan).join('\n')}\n`, `${JSON.stringify(plan, null, 2)}\n`];
  for (const [index, path] of paths.entries()) await writeFile(path, contents[index] ?? '', { mode: 0o600 });
  return paths;
}

async function recordPlan(
  deps: EngineDeps,
  input: RedeployInput,
  found: {
    readonly plan: { readonly profile: Pick<AnyPlan['profile'], 'name'> };
    readonly beganMs: number;
    readonly paths: readonly string[];
    readonly summary: string;
    readonly signal: AbortSignal;
  },
): Promise<void> {
  await recordEvidence(
    deps,
    {
      machineId: async () => (await findPoint(deps.repository, input.machine, input.pointId)).machineId,
      operation: 'redeploy',
      operationId: input.opId,
      beganMs: found.beganMs,
      claims: [],
      hardware: found.plan.profile.name,
      artefacts: await artefactsOf(found.paths),
      summary: found.summary,
    },
    found.signal,
  );
}

async function inject(
  deps: EngineDeps,
  { directory }: Operation,
  { input, plan }: { input: RedeployInput; plan: AnyPlan },
  context: VerbContext,
): Promise<Pick<RedeploySummary, 'installed'> & { edits: readonly FileEdit[]; journalDirectory: string }> {
  const disks = input.disks.map(guestDisk);
  if (isWindowsPlan(plan)) {
    const options = { disks, plan, directory, store: driverStore(deps) };
    const { bootServices, edits, journalDirectory } = await injectWindows(options, context);
    const addedBytes = edits.reduce((sum, { oldBytes, newBytes }) => sum + Math.max(0, newBytes - oldBytes), 0);
    const modules = bootServices.map(({ name }) => name);
    return { installed: [{ kernel: plan.guest, modules, addedBytes }], edits, journalDirectory };
  }
  const options = { disks, plan, directory, clock: deps.clock };
  const { kernels, edits, journalDirectory } = await injectDrivers(options, context);
  const installed = kernels.map(({ version, modules, addedBytes }) => ({ kernel: version, modules, addedBytes }));
  return { installed, edits, journalDirectory };
}

function summaryOf(plan: AnyPlan): Omit<RedeployPlanSummary, 'durationMs'> {
  return {
    profile: plan.profile.name,
    lines: linesOf(plan),
    refusals: plan.refusals.map(({ text }) => text),
    warnings: plan.warnings,
  };
}

function linesOf(plan: AnyPlan): string[] {
  return isWindowsPlan(plan) ? renderWindowsPlan(plan) : renderPlan(plan);
}

async function allThere(paths: readonly string[]): Promise<boolean> {
  for (const path of paths) {
    try {
      await access(path);
    } catch (error) {
      if (systemCode(error) === 'ENOENT') return false;
      throw error;
    }
  }
  return true;
}

async function moveOnce(from: string, to: string): Promise<void> {
  await mkdir(join(to, '..'), { recursive: true, mode: 0o700 });
  try {
    await rename(from, to);
  } catch (error) {
    // An earlier attempt moved it.
    if (systemCode(error) !== 'ENOENT') throw error;
  }
}
