/** Carries out the plan for a Linux guest, under a journal (edit-under-journal.ts), and returns what is really installed. */
import { systemClock, type Clock } from '@lifeboat/foundation/clock';
import { LifeboatError } from '@lifeboat/foundation/errors';
import type { VerbContext } from '@lifeboat/foundation/progress';
import type { FileEdit } from '../access/guest-tree.ts';
import type { GuestDisk } from '../access/open-guest.ts';
import type { RedeployPlan } from '../plan/redeploy-plan.ts';
import { applyEdits, type InstalledKernel } from './apply-edits.ts';
import { editUnderJournal } from './edit-under-journal.ts';

export interface InjectOptions {
  readonly disks: readonly GuestDisk[];
  readonly plan: RedeployPlan;
  /** The operation's directory; the journal is `journal/` in it and must be kept to revert. */
  readonly directory: string;
  readonly clock?: Clock;
}

export interface InjectionResult {
  readonly kernels: readonly InstalledKernel[];
  /** Files of the guest that are different now. */
  readonly edits: readonly FileEdit[];
  /** From opening the disks to the last byte durable on them; of the attempt that wrote the journal. */
  readonly durationMs: number;
  readonly journalDirectory: string;
}

/**
 * Idempotent per `directory`, as `editUnderJournal` is.
 * Errors: `guest.redeploy-refused`, `guest.changed-since-plan`, `guest.injection-incomplete`, those of opening and journal.
 */
export async function injectDrivers(options: InjectOptions, context: VerbContext): Promise<InjectionResult> {
  const { plan, directory, disks } = options;
  const clock = options.clock ?? systemClock;
  const startMs = clock.monotonicMs();
  assertNotRefused(plan);
  const { result, edits, journalDirectory } = await editUnderJournal<{ kernels: readonly InstalledKernel[] }>(
    {
      disks,
      directory,
      system: 'linux',
      edit: async ({ tree }) => {
        const applied = await applyEdits(tree, plan, { nowMs: clock.nowMs(), directory, context });
        return { edits: applied.edits, result: { kernels: applied.kernels } };
      },
    },
    context,
  );
  return { kernels: result.kernels, edits, durationMs: clock.monotonicMs() - startMs, journalDirectory };
}

/** Errors: `guest.redeploy-refused`. */
export function assertNotRefused({
  profile,
  refusals,
}: {
  readonly profile: { readonly name: string };
  readonly refusals: readonly { readonly code: string; readonly text: string }[];
}): void {
  if (refusals.length === 0) return;
  throw new LifeboatError(
    'guest.redeploy-refused',
    `The plan for '${profile.name}' refuses: ${refusals.map((refusal) => refusal.text).join(' ')}`,
    { context: { profile: profile.name, refusals: refusals.map((refusal) => refusal.code).join(',') } },
  );
}
