/** `lifeboat repo prune`: the policies, then the collection; and with `--dry-run` the simulator. */
import type { Progress } from '@lifeboat/foundation/progress';
import { formatBytes } from '@lifeboat/foundation/units';
import { pruneConfigured } from '@lifeboat/runtime/retention-admin';
import type { CommandContext } from '../context.ts';
import { EXIT, type ExitCode } from '../exit-codes.ts';
import { failureOf } from '../failure.ts';
import { machineEvidence } from '../operations/machine-evidence.ts';
import type { RetentionAction } from '../retention-program.ts';
import { printable } from '../text/width.ts';
import { formatInstant } from '../text/instant.ts';
import { badLine } from './findings.ts';
import { planLines } from './retention-text.ts';

type Result = Awaited<ReturnType<typeof pruneConfigured>>;
type CompactionReport = NonNullable<NonNullable<Result['condemned']>['compaction']>;

/** Points that are named when they went; `--json` names all. */
const MAX_NAMED = 50;

const MAX_FOREIGN_LINES = 10;

export async function pruneCommand(
  context: CommandContext,
  action: Extract<RetentionAction, { kind: 'prune' }>,
): Promise<ExitCode> {
  const { configuration, output, stages, display, signal } = context;
  let evidence: 'asked' | 'nobody to ask' = 'nobody to ask';
  let isCompacting = false;
  const progress = (done: Progress): void => {
    if (!isCompacting) stages.begin('compact', 'Write packs anew');
    isCompacting = true;
    stages.update('compact', done);
  };
  const result = await pruneConfigured(
    configuration,
    {
      dryRun: action.dryRun,
      ...(action.compact ? { compact: action.compact } : {}),
      progress,
      evidenceOf: async (machineIds) => {
        const found = await machineEvidence(configuration, machineIds);
        if (found) evidence = 'asked';
        return found ?? new Map();
      },
    },
    { signal },
  );
  const { plan, condemned, swept, refused } = result;
  if (isCompacting) stages.end('compact', refused ? 'failed' : 'done');
  display.close();
  const machines = plan.machines.map(({ points, ...machine }) => ({
    ...machine,
    name: result.machineNames[machine.machineId] ?? machine.machineId,
    points: points.map((point) => ({ ...point, verdict: point.keep.length > 0 ? 'keep' : 'prune' })),
  }));
  const failure = refused && failureOf(refused);
  output.result(
    {
      dryRun: action.dryRun,
      evidence,
      machines,
      strangers: plan.strangers,
      linked: result.linked,
      carriedOut: result.carriedOut,
      ...(condemned ? { condemned } : {}),
      ...(swept ? { swept } : {}),
      ...(failure ? { error: failure } : {}),
    },
    [
      ...linkedLine(result),
      ...(action.dryRun ? simulated(context, result) : pruned(context, result)),
      ...(evidence === 'nobody to ask' && hasPolicy(result)
        ? [
            'What runs on machines is not known here: Temporal does not run. Which points were started is known from their evidence.',
          ]
        : []),
      ...collected(result),
    ],
  );
  if (!failure) return EXIT.done;
  if (action.dryRun) return EXIT.negative;
  output.failed(failure, { document: false });
  return failure.exitCode;
}

/** What agents committed, as a rule: they sign no links. */
function linkedLine({ dryRun, linked }: Result): string[] {
  if (linked.length === 0) return [];
  const machines = new Set(linked.map(({ machineId }) => machineId)).size;
  return [
    `${dryRun ? 'would be taken' : 'taken'} into the chains of ${machines} machines: ${linked.length} points that were in no link`,
  ];
}

function simulated({ output }: CommandContext, { plan, machineNames, carriedOut, refused }: Result): string[] {
  return [
    ...policyNote({ plan }),
    ...plan.machines.flatMap((machine) =>
      planLines(output.style, machine, machineNames[machine.machineId] ?? machine.machineId),
    ),
    ...plan.strangers.map((object) => badLine(output.style, `${object} lies among the points and is none`)),
    ...(carriedOut.length > 0 ? ['', `due, and would be carried out first: requests ${carriedOut.join(', ')}`] : []),
    ...(refused ? ['', badLine(output.style, `it would stop here: ${refused.message}`)] : []),
    '',
  ];
}

function pruned({ output }: CommandContext, { plan, machineNames, carriedOut }: Result): string[] {
  const gone = plan.machines.flatMap(({ machineId, points }) =>
    points.filter(({ keep }) => keep.length === 0).map((point) => ({ ...point, name: machineNames[machineId] })),
  );
  const kept = plan.machines.reduce((sum, { points }) => sum + points.length, 0) - gone.length;
  const more = gone.length - MAX_NAMED;
  return [
    ...policyNote({ plan }),
    ...(carriedOut.length > 0 ? [`carried out: requests ${carriedOut.join(', ')}`] : []),
    ...gone
      .slice(0, MAX_NAMED)
      .map(({ name, pointId, lockedUntilMs }) =>
        printable(
          `pruned ${name ?? ''} ${pointId}` +
            (lockedUntilMs === undefined ? '' : `; its bytes stay until ${formatInstant(lockedUntilMs)} (Object Lock)`),
        ),
      ),
    ...(more > 0 ? [`and ${more} more; --json names them`] : []),
    `points: ${kept} kept, ${gone.length} pruned by policy`,
    ...plan.strangers.map((object) => badLine(output.style, `${object} lies among the points and is none`)),
  ];
}

function policyNote({ plan }: Pick<Result, 'plan'>): string[] {
  return hasPolicy({ plan })
    ? []
    : [
        'There is no retention policy, so no point is ever pruned. "lifeboat repo policy set --daily 7 --weekly 4" sets one.',
      ];
}

function hasPolicy({ plan }: Pick<Result, 'plan'>): boolean {
  return plan.machines.some(({ policy }) => policy !== undefined);
}

function collected({ dryRun, condemned, swept }: Result): string[] {
  if (!condemned) return [];
  const stillLocked =
    swept && swept.state !== 'waiting' && condemned.state === 'published'
      ? condemned.prunedPoints - swept.deletedPoints
      : 0;
  return [
    condemned.state === 'open'
      ? `list ${condemned.listNumber}, published earlier, is gone on with: ${condemned.deadPacks} packs, ${formatBytes(condemned.deadBytes)}`
      : `${dryRun ? 'would be dead' : 'dead'}: ${condemned.deadPacks} packs, ${formatBytes(condemned.deadBytes)}; ` +
        `needed: ${condemned.livePacks} packs of ${condemned.points} points`,
    ...(condemned.compaction ? compactionLines(condemned.compaction, dryRun) : []),
    ...foreignLines(condemned.foreign),
    ...(condemned.lockedPacks > 0 ? [`dead, but locked by the store for now: ${condemned.lockedPacks} packs`] : []),
    ...(swept
      ? [
          `deleted: ${swept.deletedPacks} packs, ${swept.deletedPoints} pruned points`,
          ...(swept.state === 'waiting'
            ? [`waiting for ${swept.waitingFor.length} open sessions; repeat the command when they are over`]
            : []),
          ...(swept.state === 'overtaken' ? ['another collection finished this list; nothing is left to do'] : []),
          ...(swept.lockedPacks > 0 ? [`locked by the store for now: ${swept.lockedPacks} packs`] : []),
          ...(stillLocked > 0 ? [`locked by the store for now: ${stillLocked} pruned points`] : []),
        ]
      : []),
  ];
}

/** What is free and when: a pack that was written anew goes with the list it is on. */
function compactionLines(compaction: CompactionReport, dryRun: boolean): string[] {
  const { packs, copiedBytes, freedBytes, leftPacks, leftBytes, lockedPacks, lockedBytes, unreadablePacks } =
    compaction;
  return [
    ...(packs > 0
      ? [
          `${dryRun ? 'would be written anew' : 'written anew'}: ${packs} packs that are dead in part, ` +
            `${formatBytes(copiedBytes)} copied; ${formatBytes(freedBytes)} less when the old ones are deleted`,
        ]
      : []),
    ...(leftPacks > 0
      ? [`left for the next runs (--max-rewrite): ${leftPacks} packs in which ${formatBytes(leftBytes)} are dead`]
      : []),
    ...(lockedPacks > 0
      ? [`dead in part, and locked by the store (--compact-locked): ${lockedPacks} packs, ${formatBytes(lockedBytes)}`]
      : []),
    ...(unreadablePacks > 0
      ? [
          `left as they are, because not all of them can be read: ${unreadablePacks} packs; ` +
            '"lifeboat repo check --level content" says what is damaged',
        ]
      : []),
  ];
}

/** Names of what is not ours, a few of them: whoever puts such objects can put thousands. */
function foreignLines(foreign: readonly string[]): string[] {
  if (foreign.length === 0) return [];
  return [
    `not put there by who has the keys: ${foreign.length} objects, which mean nothing; find out who can write to the store`,
    ...foreign.slice(0, MAX_FOREIGN_LINES).map((name) => `  ${printable(name)}`),
  ];
}
