/** How much of a machine's past is kept. */
import { LifeboatError } from '@lifeboat/foundation/errors';

import { parseTimeZone, type Period } from './calendar.ts';

/** Each rule keeps points on its own; what any of them keeps stays. */
export const PERIOD_RULES = {
  hourly: 'hour',
  daily: 'day',
  weekly: 'week',
  monthly: 'month',
  yearly: 'year',
} as const satisfies Record<string, Period>;
export type PeriodRule = keyof typeof PERIOD_RULES;
export const RULES = ['last', 'hourly', 'daily', 'weekly', 'monthly', 'yearly'] as const;
export type Rule = (typeof RULES)[number];

/** More is "all of them" for any machine there is: an hour's points for eleven years. */
export const MAX_RULE_COUNT = 100_000;

export interface RetentionPolicy extends Readonly<Record<Rule, number>> {
  /** In which days, weeks and so on begin and end. */
  readonly zone: string;
}

/** What is not said is 0: that rule keeps nothing. Errors: `input.invalid`. */
export function retentionPolicy(rules: Partial<RetentionPolicy>): RetentionPolicy {
  const policy = {
    last: 0,
    hourly: 0,
    daily: 0,
    weekly: 0,
    monthly: 0,
    yearly: 0,
    ...rules,
    zone: parseTimeZone(rules.zone ?? 'UTC'),
  };
  for (const rule of RULES) {
    const count = policy[rule];
    if (!Number.isInteger(count) || count < 0 || count > MAX_RULE_COUNT) {
      throw new LifeboatError('input.invalid', `${rule} is ${count}; it is a whole number from 0 to ${MAX_RULE_COUNT}`);
    }
  }
  return policy;
}

/** A policy without a rule keeps everything: it was made to say so. */
export function keepsEverything(policy: RetentionPolicy): boolean {
  return RULES.every((rule) => policy[rule] === 0);
}

/**
 * Whether `next` may let go of a point that `now` keeps, whatever points there are. No policy keeps everything, so the first one
 * shortens. Another zone moves the borders of days, so that another point may be the newest of one.
 */
export function shortens(now: RetentionPolicy | undefined, next: RetentionPolicy | undefined): boolean {
  if (!next || keepsEverything(next)) return false;
  if (!now || keepsEverything(now)) return true;
  const movesBorders = now.zone !== next.zone && Object.keys(PERIOD_RULES).some((rule) => now[rule as PeriodRule] > 0);
  return movesBorders || RULES.some((rule) => next[rule] < now[rule]);
}

/** `last 3, daily 7, weekly 4 (Europe/Berlin)`. */
export function policyText(policy: RetentionPolicy | undefined): string {
  if (!policy) return 'no policy: nothing is ever pruned';
  if (keepsEverything(policy)) return 'keeps everything';
  const rules = RULES.filter((rule) => policy[rule] > 0).map((rule) => `${rule} ${policy[rule]}`);
  return `${rules.join(', ')} (${policy.zone})`;
}
