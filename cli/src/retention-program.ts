/** `lifeboat repo policy …`, `hold …`, `requests …` and `prune` as they are typed. */
import { InvalidArgumentError, type Command } from 'commander';
import type { PointId } from '@lifeboat/foundation/ids';
import { countOption, delayOption, machineArgument, pointOption, reasonOption, sizeOption, usage } from './options.ts';
import type { GlobalOptions } from './program.ts';

const RULES = ['last', 'hourly', 'daily', 'weekly', 'monthly', 'yearly'] as const;
type Rules = Partial<Record<(typeof RULES)[number], number>> & { readonly zone?: string };

export type RetentionAction =
  | {
      readonly kind: 'prune';
      readonly dryRun: boolean;
      /** Undefined: packs that are dead in part stay as they are. */
      readonly compact?: { readonly maxRewriteBytes?: number; readonly includeLocked: boolean };
    }
  | { readonly kind: 'prune-point'; readonly machine: string; readonly point: PointId; readonly reason: string }
  | { readonly kind: 'prune-vanished'; readonly machine: string; readonly dryRun: boolean; readonly reason: string }
  | { readonly kind: 'policy-show' }
  /** Rules undefined: no policy of its own any more; without a rule: everything is kept. */
  | {
      readonly kind: 'policy-set';
      readonly machine?: string;
      readonly rules: Rules | undefined;
      readonly reason: string;
    }
  | { readonly kind: 'policy-guard'; readonly fourEyes?: boolean; readonly delayMs?: number; readonly reason: string }
  | { readonly kind: 'policy-write-off'; readonly entry: number; readonly machine?: string; readonly reason: string }
  | { readonly kind: 'hold-add'; readonly machine: string; readonly point?: PointId; readonly reason: string }
  | { readonly kind: 'hold-list' }
  | { readonly kind: 'hold-lift'; readonly hold: number; readonly reason: string }
  | { readonly kind: 'requests-list'; readonly all: boolean }
  | { readonly kind: 'requests-approve' | 'requests-withdraw'; readonly request: number; readonly reason: string };

interface RawPrune {
  readonly dryRun: boolean;
  readonly compact: boolean;
  readonly maxRewrite?: number;
  readonly compactLocked: boolean;
}

type Define = (parent: Command, name: string, description: string, example: string) => Command;
type Act = (action: RetentionAction, options: GlobalOptions) => Promise<void>;
type Reasoned = GlobalOptions & { readonly reason: string };

export function addRetentionCommands(repo: Command, define: Define, act: Act): void {
  addPrune(repo, define, act);
  addPolicy(repo, define, act);

  const hold = repo.command('hold').description('Legal holds: what is held, nobody prunes.');
  withReason(
    define(hold, 'add', 'Holds a machine, or one point of it.', 'repo hold add web-1 --reason "case 17"')
      .argument('<machine>', 'id or name; it has recovery points', machineArgument)
      .option('--point <id>', 'one point (default: every point of the machine, also later ones)', pointOption),
  ).action((machine: string, { point, reason, ...options }: Reasoned & { point?: PointId }) =>
    act({ kind: 'hold-add', machine, ...(point === undefined ? {} : { point }), reason }, options),
  );
  define(hold, 'list', 'Lists the holds.', 'repo hold list --json').action((options: GlobalOptions) =>
    act({ kind: 'hold-list' }, options),
  );
  withReason(
    define(
      hold,
      'lift',
      'Lifts a hold, or asks for it where four eyes or a delay are wanted.',
      'repo hold lift 12 --reason "case 17 is closed"',
    ).argument('<number>', 'as "list" shows it', entryArgument),
  ).action((number: number, { reason, ...options }: Reasoned) =>
    act({ kind: 'hold-lift', hold: number, reason }, options),
  );

  const requests = repo
    .command('requests')
    .description('Acts that let go of something, and wait for another person or for time.');
  define(requests, 'list', 'Lists what is asked for.', 'repo requests list')
    .option('--all', 'also what is done, withdrawn or expired', false)
    .action((options: GlobalOptions & { all: boolean }) => act({ kind: 'requests-list', all: options.all }, options));
  withReason(
    define(
      requests,
      'approve',
      'Approves a request. It takes another key slot than the one that asked.',
      'repo requests approve 14',
    ).argument('<number>', 'as "list" shows it', entryArgument),
  ).action((number: number, { reason, ...options }: Reasoned) =>
    act({ kind: 'requests-approve', request: number, reason }, options),
  );
  withReason(
    define(requests, 'withdraw', 'Takes a request back; anybody may.', 'repo requests withdraw 14').argument(
      '<number>',
      'as "list" shows it',
      entryArgument,
    ),
  ).action((number: number, { reason, ...options }: Reasoned) =>
    act({ kind: 'requests-withdraw', request: number, reason }, options),
  );
}

function addPrune(repo: Command, define: Define, act: Act): void {
  define(
    repo,
    'prune',
    'Lets go of the points that the policies do not keep, and collects what no point needs; repeat it until nothing waits. ' +
      'Packs that are dead for two fifths or more are written anew without that part. Without a policy no point goes.',
    'repo prune --dry-run',
  )
    .option('--dry-run', 'only say what would go, what would stay, and why', false)
    .option('--no-compact', 'leave packs as they are that are dead in part')
    .option(
      '--max-rewrite <size>',
      'how much is copied at most in this run, such as 64GiB (default: 16GiB)',
      sizeOption,
    )
    .option('--compact-locked', 'also packs that Object Lock holds: their room is free when the locks end', false)
    .action((options: GlobalOptions & RawPrune) => {
      const { dryRun, compact, maxRewrite, compactLocked } = options;
      if (!compact && (maxRewrite !== undefined || compactLocked))
        throw usage('--no-compact goes with neither --max-rewrite nor --compact-locked.');
      const limits = {
        includeLocked: compactLocked,
        ...(maxRewrite === undefined ? {} : { maxRewriteBytes: maxRewrite }),
      };
      return act({ kind: 'prune', dryRun, ...(compact ? { compact: limits } : {}) }, options);
    });
  withReason(
    define(
      repo,
      'prune-point',
      'Lets go of one point by hand, or asks for it where four eyes or a delay are wanted.',
      'repo prune-point web-1 p20261124T002611Z-0a1b2c3d --reason "taken by mistake"',
    )
      .argument('<machine>', 'id or name', machineArgument)
      .argument('<point>', 'recovery point', pointOption),
  ).action((machine: string, point: PointId, { reason, ...options }: Reasoned) =>
    act({ kind: 'prune-point', machine, point, reason }, options),
  );
  withReason(
    define(
      repo,
      'prune-vanished',
      'Lets go of every point of a machine that its chain names and that is gone without having been pruned.',
      'repo prune-vanished 6695eb01-f6a4-8304-79aa-97f2502e193f --reason "control/ was lost"',
    )
      .argument('<machine>', 'id', machineArgument)
      .option('--dry-run', 'names them only', false),
  ).action((machine: string, { reason, dryRun, ...options }: Reasoned & { dryRun: boolean }) =>
    act({ kind: 'prune-vanished', machine, dryRun, reason }, options),
  );
}

function addPolicy(repo: Command, define: Define, act: Act): void {
  const policy = repo.command('policy').description('How much of the past is kept, and what guards that.');
  define(policy, 'show', 'Shows the policies, what guards them, and the holds.', 'repo policy show').action(
    (options: GlobalOptions) => act({ kind: 'policy-show' }, options),
  );
  const set = define(
    policy,
    'set',
    'Sets the policy of a machine, or the default. Each rule keeps points on its own; what any of them keeps stays, and the newest ' +
      'point always does. A policy that keeps less is asked for where four eyes or a delay are wanted.',
    'repo policy set --last 3 --daily 7 --weekly 4 --monthly 12 --zone Europe/Berlin',
  ).argument('[machine]', 'id or name; the default for all others when absent', machineArgument);
  for (const rule of RULES) {
    const what = rule === 'last' ? 'the newest points' : `the newest point of each of so many ${PERIODS[rule]}`;
    set.option(`--${rule} <count>`, what, countOption);
  }
  withReason(
    set
      .option('--zone <name>', 'where days begin, such as Europe/Berlin (default: UTC)')
      .option('--keep-everything', 'no point is pruned', false)
      .option('--remove', 'no policy of its own: the default again, or none', false),
  ).action(
    (
      machine: string | undefined,
      options: Reasoned & Rules & { readonly keepEverything: boolean; readonly remove: boolean },
    ) => {
      const { reason } = options;
      const rules = rulesOf(options);
      return act({ kind: 'policy-set', ...(machine === undefined ? {} : { machine }), rules, reason }, options);
    },
  );
  withReason(
    define(
      policy,
      'guard',
      'Says what acts that let go of something must wait for. Less than there is is such an act itself.',
      'repo policy guard --four-eyes --delay 24h',
    )
      .option('--four-eyes', 'another key slot must approve')
      .option('--no-four-eyes', 'one is enough')
      .option('--delay <time>', 'such as 0, 30m, 24h or 7d (with --four-eyes: 24h unless said)', delayOption),
  ).action(({ fourEyes, delay, reason, ...options }: Reasoned & { fourEyes?: boolean; delay?: number }) => {
    if (fourEyes === undefined && delay === undefined) throw usage('say --four-eyes, --no-four-eyes or --delay.');
    return act(
      {
        kind: 'policy-guard',
        ...(fourEyes === undefined ? {} : { fourEyes }),
        ...(delay === undefined ? {} : { delayMs: delay }),
        reason,
      },
      options,
    );
  });
  withReason(
    define(
      policy,
      'write-off',
      'Goes on without an entry of the retention ledger that is lost for good, which may have been a hold; or, with --machine, without ' +
        'a link of its chain, which may have named points that vanished.',
      'repo policy write-off 7 --reason "its sector is gone, and no copy has it"',
    )
      .argument('<number>', 'as the error names it', entryArgument)
      .option('--machine <id>', 'of whose chain it is', machineArgument),
  ).action((number: number, { reason, machine, ...options }: Reasoned & { machine?: string }) =>
    act({ kind: 'policy-write-off', entry: number, ...(machine === undefined ? {} : { machine }), reason }, options),
  );
}

const PERIODS = { hourly: 'hours', daily: 'days', weekly: 'ISO weeks', monthly: 'months', yearly: 'years' } as const;

function rulesOf(raw: Rules & { readonly keepEverything: boolean; readonly remove: boolean }): Rules | undefined {
  const rules: Rules = Object.fromEntries(
    RULES.filter((rule) => raw[rule] !== undefined).map((rule) => [rule, raw[rule]]),
  );
  const said = [Object.keys(rules).length > 0, raw.keepEverything, raw.remove].filter(Boolean).length;
  if (said !== 1) throw usage('say what is kept (--daily 7 and so on), or --keep-everything, or --remove.');
  if (Object.keys(rules).length > 0 && RULES.every((rule) => !rules[rule]))
    throw usage('a policy of nothing but zeros is unclear: say --keep-everything, or a count.');
  if (raw.remove) return undefined;
  return { ...rules, ...(raw.zone === undefined ? {} : { zone: raw.zone }) };
}

function withReason(command: Command): Command {
  return command.option('--reason <text>', 'for people; it lies open in the store', reasonOption, '');
}

function entryArgument(text: string): number {
  const number = Number(text);
  if (!/^\d{1,8}$/.test(text) || number === 0) throw new InvalidArgumentError('a number from 1 is needed.');
  return number;
}
