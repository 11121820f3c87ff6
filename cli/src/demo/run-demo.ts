/**
 * A run of the demo from its directory to its report:
 *
 *   1. runs that were killed are taken away
 *   2. a directory, repository, key and stack of its own: nothing of the user's is touched
 *   3. the flow
 *   4. in any case: the stack ends, machines and operations are removed, and what is left is counted;
 *      with --keep machines, disks and repository stay
 *   5. report and exit code follow from what was found
 *
 * Ctrl-C at any step goes to 4. kill -9 leaves the guest and the directory to the next run's 1.
 */
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { LifeboatError, messageOf } from '@lifeboat/foundation/errors';
import { guestImage } from '@lifeboat/runtime/guest-image';
import { describeProfile } from '@lifeboat/runtime/hardware-profiles';
import type { HostRuntime } from '@lifeboat/runtime/host-runtime';
import { createRunDirectory, takeAbandonedRuns, type RunDirectory } from '@lifeboat/runtime/run-directory';
import packageJson from '../../package.json' with { type: 'json' };
import type { CommandContext } from '../context.ts';
import { failureOf, type Failure } from '../failure.ts';
import { withHostRuntime } from '../operations/host.ts';
import { planStackStage, withStack } from '../operations/stack-session.ts';
import type { DemoOptions } from '../program.ts';
import { leftBehind, removeMachines } from './cleanup.ts';
import { hostFacts, versionFacts } from './facts.ts';
import { runFlow, STEPS, type FlowOptions, type FlowResult } from './flow.ts';
import { guestName } from './guest.ts';
import { nextSteps } from './next-steps.ts';
import { reportHtml } from './report-html.ts';
import type { Report } from './report.ts';
import { runConfiguration } from './run-configuration.ts';
import { StepRecorder } from './step-recorder.ts';

export interface DemoOutcome {
  readonly report: Report;
  /** Absent after Ctrl-C: nobody waits for it then. */
  readonly htmlPath?: string;
  /** What broke the run off, if anything did. */
  readonly failure?: Failure;
}

/** Where runs live: beside the user's state, never in it. */
function runsDirectory(context: Pick<CommandContext, 'configuration'>): string {
  return join(context.configuration.stateRoot, 'demo');
}

export async function runDemo(
  context: CommandContext,
  options: DemoOptions & Pick<FlowOptions, 'tamper'>,
): Promise<DemoOutcome> {
  const { clock, random, configuration } = context;
  const profile = await describeProfile(options.target);
  await removeRuns(context, { includeKept: false });
  const run = await createRunDirectory(runsDirectory(context), { nowMs: clock.nowMs(), random });
  const own: CommandContext = { ...context, configuration: runConfiguration(configuration, run.path) };
  let outcome: DemoOutcome;
  try {
    outcome = await withHostRuntime(
      own,
      (host) => runWithin(own, { ...options, host, run, profileName: profile.name }),
      {
        makeRepository: true,
      },
    );
  } catch (error) {
    // The host could not be opened, so nothing was begun but the directory.
    await run.remove();
    throw error;
  }
  if (context.signal.aborted) return outcome;
  const htmlPath = options.report ?? join(configuration.stateRoot, 'reports', `demo-${run.name}.html`);
  await mkdir(dirname(htmlPath), { recursive: true });
  await writeFile(htmlPath, reportHtml(outcome.report));
  return { ...outcome, htmlPath };
}

interface Within extends DemoOptions, Pick<FlowOptions, 'tamper'> {
  readonly host: HostRuntime;
  readonly run: RunDirectory;
  readonly profileName: string;
}

async function runWithin(context: CommandContext, within: Within): Promise<DemoOutcome> {
  const { clock, stages } = context;
  const { host, run, profileName, keep, target } = within;
  const beganMs = clock.nowMs();
  const startedMs = clock.monotonicMs();
  const recorder = new StepRecorder(clock, stages);
  recorder.plan('image', 'Build the guest, or take it from the cache');
  planStackStage(stages);
  for (const [id, title] of Object.entries(STEPS)) recorder.plan(id, title);
  recorder.plan('cleanup', keep ? 'Keep everything' : 'Remove everything');

  const result: FlowResult = { backups: [] };
  const hostLines = await hostFacts(host);
  let versions: Report['versions'] = [];
  let failure: Failure | undefined;
  try {
    versions = await flow(context, { ...within, recorder, result });
  } catch (error) {
    failure = failureOf(error);
    stages.breakOff(failure.code, { except: 'cleanup' });
  }
  const kept = keep && failure === undefined;
  failure =
    (await endStep({
      host,
      run,
      recorder,
      result,
      kept,
      failed: failure !== undefined && failure.code !== 'operation.cancelled',
    })) ?? failure;
  const guest = guestName(run.name);
  const report: Report = {
    host: hostLines,
    versions,
    version: packageJson.version,
    beganMs,
    durationMs: clock.monotonicMs() - startedMs,
    machine: { name: guest, description: result.description ?? 'No machine was started.' },
    target: profileName,
    backups: result.backups,
    steps: recorder.steps(),
    next: nextSteps({ kept, stateRoot: run.path, guest, newMachine: result.newMachine, target }),
    ...(result.recovery ? { recovery: result.recovery } : {}),
    ...(failure ? { brokenOff: `${failure.message} [${failure.code}]` } : {}),
  };
  return { report, ...(failure ? { failure } : {}) };
}

/** Image, stack and flow; returns the versions of what took part. */
async function flow(
  context: CommandContext,
  within: Within & { recorder: StepRecorder; result: FlowResult },
): Promise<Report['versions']> {
  const { host, run, recorder, result, target, profileName, skipProof, keep, tamper } = within;
  const imagePath = await imageStep(context, { recorder, logDirectory: join(dirname(run.path), 'build-log') });
  return await withStack({ ...context, hostId: host.hostId }, async (client, signal) => {
    const versions = await versionFacts(host, client, packageJson.version);
    try {
      await runFlow(
        {
          context: { ...context, signal },
          client,
          host,
          recorder,
          imagePath,
          skipProof,
          keep,
          profileName,
          profile: target,
          directory: run.path,
          runName: run.name,
          ...(tamper ? { tamper } : {}),
        },
        result,
      );
    } finally {
      await result.guest?.close();
    }
    return versions;
  });
}

/** Takes away runs that were killed, and with `includeKept` those that were left on purpose. Returns their names. */
export async function removeRuns(context: CommandContext, options: { includeKept: boolean }): Promise<string[]> {
  const names: string[] = [];
  for (const run of await takeAbandonedRuns(runsDirectory(context), options)) {
    // The run's repository may be half there, and is not needed to remove its machines; a host does not open without one.
    const configuration = {
      ...runConfiguration(context.configuration, run.path),
      repository: runConfiguration(context.configuration, join(run.path, 'removal')).repository,
    };
    try {
      await withHostRuntime({ configuration }, (host) => removeMachines(host, run.name), { makeRepository: true });
      await run.remove();
      names.push(run.name);
    } catch (error) {
      await run.release();
      throw notRemoved(run, error);
    }
  }
  return names;
}

async function imageStep(
  context: CommandContext,
  { recorder, logDirectory }: { recorder: StepRecorder; logDirectory: string },
): Promise<string> {
  const { stages, configuration, signal } = context;
  return await recorder.run('image', 'A small Debian guest is built once and kept in the cache.', async (draft) => {
    let built = false;
    const path = await guestImage({
      cacheRoot: configuration.cacheRoot,
      logDirectory,
      signal,
      onStep: (step) => {
        built = true;
        stages.update('image', { phase: step, doneBytes: 0 });
      },
    });
    draft.fact('Image', path);
    draft.note = built ? 'built' : 'from the cache';
    draft.fact('Came from', built ? 'a build just now' : 'the cache');
    return path;
  });
}

/** Keeps or removes, whatever happened before; not broken off by the Ctrl-C that may have led here. */
async function endStep(options: {
  host: HostRuntime;
  run: RunDirectory;
  recorder: StepRecorder;
  result: FlowResult;
  kept: boolean;
  failed: boolean;
}): Promise<Failure | undefined> {
  const { host, run, recorder, result, kept, failed } = options;
  try {
    if (kept) {
      await recorder.run('cleanup', 'The machines, their disks and the repository stay.', async (draft) => {
        if (result.guest) await host.hypervisor.start(result.guest.machineId);
        await run.keep();
        draft.fact('Kept in', run.path);
        draft.note = run.path;
      });
      await run.release();
      return undefined;
    }
    await recorder.run('cleanup', 'Stack, machines, disks and repository of this run were removed.', async (draft) => {
      await removeMachines(host, run.name);
      const left = await leftBehind(host, run.name);
      const nothing = left.length === 0;
      const detail = nothing ? 'No domain and no network of this run is left.' : `Left: ${left.join(', ')}.`;
      draft.check('Nothing is left running.', nothing, detail);
    });
    await (failed ? run.removeExceptEvidence() : run.remove());
    return undefined;
  } catch (error) {
    await run.release();
    return failureOf(notRemoved(run, error));
  }
}

function notRemoved(run: RunDirectory, cause: unknown): LifeboatError {
  return new LifeboatError('demo.not-removed', `run ${run.name} could not be removed: ${messageOf(cause)}`, {
    cause,
    context: { directory: run.path },
  });
}
