/**
 * Which points of a machine stay, and why. A pure function of points, policy and now.
 *
 * ```
 *   newest ◄──────────────────────────────────────── oldest
 *   ●  ●  ●     ●  ●     ●        ●                  ●        daily 3: the newest point of each of the three
 *   └─day─┘     └day┘    day      day                day               newest days that have one
 *   keep        keep     keep
 * ```
 * - Every rule looks at all points by itself, and what any rule keeps stays. So a rule more never prunes more.
 * - Of a period (hour, day, ISO week, month, year, in the policy's zone) the newest point stays. Periods without points do not count:
 *   a machine that is off for a month loses nothing by it.
 * - A rule that has not found its number of periods keeps the oldest point as well: otherwise "monthly 12" would, in its first
 *   month, leave nothing but the newest point.
 * - Now is only asked for what lies in the future: a clock that is wrong cannot make points old.
 * - What must not be lost is kept beside the rules: the newest point, the newest that was started, and whatever its owner protects.
 *   Points from the future, damaged ones and those of a newer release stay, and stand for no period: a good point must not go for them.
 *
 * How often it is run makes no difference to what is left.
 */
import { MAX_CLOCK_SKEW_MS } from '../collect/mark.ts';
import { Calendar } from './calendar.ts';
import { keepsEverything, PERIOD_RULES, type PeriodRule, type RetentionPolicy, type Rule } from './policy.ts';

/** Why a point is kept whatever the policy says. */
export type Protection =
  | { readonly kind: 'damaged' }
  | { readonly kind: 'newer-release' }
  | { readonly kind: 'held'; readonly hold: number; readonly reason: string }
  | { readonly kind: 'in-use'; readonly by: string };

export type KeepReason =
  | Protection
  /** `period` is the one it is the newest point of; `oldest`: the rule has not found all its periods yet. */
  | { readonly kind: 'rule'; readonly rule: Rule; readonly period?: string; readonly oldest?: true }
  | { readonly kind: 'newest' }
  | { readonly kind: 'newest-booted' }
  | { readonly kind: 'future'; readonly aheadMs: number }
  | { readonly kind: 'no-policy' };

export interface Candidate {
  readonly pointId: string;
  /** What the point shows, Unix ms. */
  readonly instantMs: number;
  /** It was started, and came up. */
  readonly booted?: boolean;
  readonly protections?: readonly Protection[];
}

export interface Decision<C extends Candidate = Candidate> {
  readonly point: C;
  /** Empty: it goes. */
  readonly keep: readonly KeepReason[];
}

/**
 * One decision for each point of one machine, newest first. Without a policy everything is kept.
 * Errors: `input.invalid` for a time zone this program does not know.
 */
export function decide<C extends Candidate>(
  points: readonly C[],
  input: { readonly policy: RetentionPolicy | undefined; readonly nowMs: number },
): Decision<C>[] {
  const { policy, nowMs } = input;
  const newestFirst = points.toSorted(byAge);
  const reasons = new Map<C, KeepReason[]>(newestFirst.map((point) => [point, [...(point.protections ?? [])]]));
  const keep = (point: C | undefined, reason: KeepReason): void => void (point && reasons.get(point)?.push(reason));
  const sound: C[] = [];
  for (const point of newestFirst) {
    const aheadMs = point.instantMs - nowMs;
    if (aheadMs > MAX_CLOCK_SKEW_MS) keep(point, { kind: 'future', aheadMs });
    else if (!point.protections?.some(({ kind }) => kind === 'damaged' || kind === 'newer-release')) sound.push(point);
  }
  keep(sound[0], { kind: 'newest' });
  keep(
    sound.find(({ booted }) => booted),
    { kind: 'newest-booted' },
  );
  if (!policy || keepsEverything(policy)) for (const point of newestFirst) keep(point, { kind: 'no-policy' });
  else {
    for (const point of sound.slice(0, policy.last)) keep(point, { kind: 'rule', rule: 'last' });
    for (const { rule, point, ...reason } of keptByPeriods(sound, policy))
      keep(point, { kind: 'rule', rule, ...reason });
  }
  return newestFirst.map((point) => ({ point, keep: reasons.get(point) ?? [] }));
}

function* keptByPeriods<C extends Candidate>(
  newestFirst: readonly C[],
  policy: RetentionPolicy,
): Iterable<{ rule: PeriodRule; point: C; period: string; oldest?: true }> {
  const calendar = new Calendar(policy.zone);
  const periods = newestFirst.map((point) => ({ point, of: calendar.periodsOf(point.instantMs) }));
  for (const rule of Object.keys(PERIOD_RULES) as PeriodRule[]) {
    const wanted = policy[rule];
    if (wanted === 0) continue;
    const found = new Map<string, C>();
    for (const { point, of } of periods) {
      const period = of[PERIOD_RULES[rule]];
      if (found.has(period)) continue;
      if (found.size === wanted) break;
      found.set(period, point);
      yield { rule, point, period };
    }
    const oldest = periods.at(-1);
    if (!oldest || found.size === wanted) continue;
    const period = oldest.of[PERIOD_RULES[rule]];
    if (found.get(period) !== oldest.point) yield { rule, point: oldest.point, period, oldest: true };
  }
}

/** Newest first. Points of one instant are told apart by their ids, so that everybody decides the same. */
function byAge(a: Candidate, b: Candidate): number {
  if (a.instantMs !== b.instantMs) return b.instantMs - a.instantMs;
  if (a.pointId === b.pointId) return 0;
  return a.pointId < b.pointId ? 1 : -1;
}
