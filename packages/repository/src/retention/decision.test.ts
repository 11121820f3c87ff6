import { execFileSync } from 'node:child_process';

import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';

import { Calendar, type Period } from './calendar.ts';
import { decide, type Candidate, type Protection } from './decision.ts';
import { PERIOD_RULES, policyText, retentionPolicy, RULES, shortens, type PeriodRule } from './policy.ts';

const NOW = Date.parse('2026-11-28T12:00:00Z');
const HOUR = 3_600_000;
const DAY = 24 * HOUR;

const at = (text: string, more: Partial<Candidate> = {}): Candidate => ({
  pointId: text,
  instantMs: Date.parse(text),
  ...more,
});
const kept = (points: readonly Candidate[], policy: Parameters<typeof decide>[1]['policy'], nowMs = NOW): string[] =>
  decide(points, { policy, nowMs })
    .filter(({ keep }) => keep.length > 0)
    .map(({ point }) => point.pointId);
const reasonsOf = (points: readonly Candidate[], policy: Parameters<typeof decide>[1]['policy'], id: string) =>
  decide(points, { policy, nowMs: NOW }).find(({ point }) => point.pointId === id)?.keep;

describe('periods', () => {
  test('ISO weeks, days and hours are those of date(1)', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 4_102_444_800 }), { minLength: 50, maxLength: 200 }), (times) => {
        const oracle = execFileSync('date', ['-u', '-f', '-', '+%Y-%m-%d %Hh|%Y-%m-%d|%G-W%V|%Y-%m|%Y'], {
          input: times.map((seconds) => `@${seconds}\n`).join(''),
          encoding: 'utf8',
        });
        const calendar = new Calendar('UTC');
        const ours = times.map((seconds) => {
          const { hour, day, week, month, year } = calendar.periodsOf(seconds * 1000 + 999);
          return [hour, day, week, month, year].join('|');
        });
        expect(ours).toEqual(oracle.trimEnd().split('\n'));
      }),
      { numRuns: 20 },
    );
  });

  test.each([
    // Clocks go back: 02:30 comes twice, and is two hours of one day.
    ['Europe/Berlin', '2026-10-25T00:30:00Z', 'hour', '2026-10-25 02h +02:00'],
    ['Europe/Berlin', '2026-10-25T01:30:00Z', 'hour', '2026-10-25 02h +01:00'],
    // Half past eleven in the evening there, tomorrow in UTC, and another ISO year.
    ['America/New_York', '2027-01-04T04:30:00Z', 'week', '2026-W53'],
    ['UTC', '2027-01-04T04:30:00Z', 'week', '2027-W01'],
    ['Asia/Kolkata', '2026-12-31T18:30:00Z', 'year', '2027'],
    ['Asia/Kolkata', '2026-12-31T18:29:59.999Z', 'month', '2026-12'],
    // The day that Samoa left out.
    ['Pacific/Apia', '2011-12-30T09:59:59Z', 'day', '2011-12-29'],
    ['Pacific/Apia', '2011-12-30T10:00:00Z', 'day', '2011-12-31'],
  ] as const)('%s: %s lies in the %s %s', (zone, instant, period: Period, name) => {
    expect(new Calendar(zone).periodsOf(Date.parse(instant))[period]).toBe(name);
  });

  test('a zone nobody knows is refused, and not taken for UTC', () => {
    expect(() => retentionPolicy({ daily: 1, zone: 'Mars/Olympus' })).toThrow(/Mars\/Olympus/);
    expect(() => retentionPolicy({ daily: -1 })).toThrow(/daily is -1/);
  });
});

describe('what a person expects', () => {
  const days = [28, 27, 26, 25, 24].flatMap((day) => [at(`2026-11-${day}T09:00:00Z`), at(`2026-11-${day}T03:00:00Z`)]);

  test('no policy, and a policy without a rule, prune nothing', () => {
    expect(kept(days, undefined)).toHaveLength(10);
    expect(kept(days, retentionPolicy({}))).toHaveLength(10);
    expect(reasonsOf(days, undefined, '2026-11-24T03:00:00Z')).toEqual([{ kind: 'no-policy' }]);
  });

  test('the newest point of each day stays', () => {
    expect(kept(days, retentionPolicy({ daily: 3 }))).toEqual([
      '2026-11-28T09:00:00Z',
      '2026-11-27T09:00:00Z',
      '2026-11-26T09:00:00Z',
    ]);
  });

  test('days without points do not count: who was off for a year loses nothing', () => {
    const before = [at('2025-01-03T09:00:00Z'), at('2025-01-02T09:00:00Z'), at('2025-01-01T09:00:00Z')];
    expect(kept(before, retentionPolicy({ daily: 3 }))).toHaveLength(3);
  });

  test('a rule that has not found its periods keeps the oldest point', () => {
    expect(reasonsOf(days, retentionPolicy({ monthly: 12 }), '2026-11-24T03:00:00Z')).toEqual([
      { kind: 'rule', rule: 'monthly', period: '2026-11', oldest: true },
    ]);
    expect(kept(days, retentionPolicy({ monthly: 1 }))).toEqual(['2026-11-28T09:00:00Z']);
  });

  test('every reason is given', () => {
    expect(
      reasonsOf(days, retentionPolicy({ last: 2, daily: 1, weekly: 1, monthly: 1, yearly: 1 }), days[0]?.pointId ?? ''),
    ).toEqual([
      { kind: 'newest' },
      { kind: 'rule', rule: 'last' },
      { kind: 'rule', rule: 'daily', period: '2026-11-28' },
      { kind: 'rule', rule: 'weekly', period: '2026-W48' },
      { kind: 'rule', rule: 'monthly', period: '2026-11' },
      { kind: 'rule', rule: 'yearly', period: '2026' },
    ]);
  });

  test('the borders of a day are those of the zone', () => {
    const evening = [at('2026-11-27T23:30:00Z'), at('2026-11-27T22:30:00Z')];
    expect(kept(evening, retentionPolicy({ daily: 1 }))).toHaveLength(1);
    // After midnight in Berlin, and before: two days, of which one is wanted.
    expect(kept(evening, retentionPolicy({ daily: 2, zone: 'Europe/Berlin' }))).toHaveLength(2);
    expect(kept(evening, retentionPolicy({ daily: 2 }))).toHaveLength(2); // the oldest, while there is only one day
  });

  test('a point from the future stays, and pushes none out', () => {
    const points = [at('2031-01-01T00:00:00Z'), ...days];
    expect(kept(points, retentionPolicy({ last: 1 }))).toEqual(['2031-01-01T00:00:00Z', '2026-11-28T09:00:00Z']);
    // A clock that was set back years ago: everything lies in the future, and nothing goes.
    expect(kept(days, retentionPolicy({ last: 1 }), NOW - 1000 * DAY)).toHaveLength(10);
  });

  test('a damaged point, and one of a newer release, stay and push none out', () => {
    const odd: Protection[] = [{ kind: 'damaged' }, { kind: 'newer-release' }];
    for (const protection of odd) {
      const [newest, ...rest] = days as [Candidate, ...Candidate[]];
      const points = [{ ...newest, protections: [protection] }, ...rest];
      expect(kept(points, retentionPolicy({ last: 1 }))).toEqual(['2026-11-28T09:00:00Z', '2026-11-28T03:00:00Z']);
    }
  });

  test('the newest point that was started stays', () => {
    const points = days.map((point) => ({ ...point, booted: point.pointId < '2026-11-26' }));
    expect(kept(points, retentionPolicy({ last: 1 }))).toEqual(['2026-11-28T09:00:00Z', '2026-11-25T09:00:00Z']);
  });

  test('what is held or in use stays, and counts in its period', () => {
    const [, , held] = days;
    const points = days.map((point) =>
      point === held
        ? { ...point, protections: [{ kind: 'held' as const, hold: 3, reason: 'court' }] }
        : { ...point, protections: [] },
    );
    expect(kept(points, retentionPolicy({ daily: 1 }))).toEqual(['2026-11-28T09:00:00Z', held?.pointId]);
  });
});

const instant = fc.oneof(
  fc.integer({ min: NOW - 3 * 365 * DAY, max: NOW + DAY }),
  // Close together, and equal.
  fc.integer({ min: 0, max: 40 }).map((n) => NOW - n * 20 * 60_000),
);
const protections = fc.oneof(
  { weight: 8, arbitrary: fc.constant<Protection[]>([]) },
  fc.constant<Protection[]>([{ kind: 'damaged' }]),
  fc.constant<Protection[]>([{ kind: 'newer-release' }]),
  fc.constant<Protection[]>([{ kind: 'held', hold: 1, reason: '' }]),
  fc.constant<Protection[]>([{ kind: 'in-use', by: 'restore' }]),
);
const points = fc
  .array(fc.record({ instantMs: instant, booted: fc.boolean(), protections }), { maxLength: 60 })
  .map((all) => all.map((point, i) => ({ ...point, pointId: `p${i}` })));
const count = fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 6 }), fc.integer({ min: 0, max: 400 }));
const zone = fc.constantFrom('UTC', 'Europe/Berlin', 'America/St_Johns', 'Asia/Kathmandu', 'Pacific/Apia');
const policies = fc
  .record({ last: count, hourly: count, daily: count, weekly: count, monthly: count, yearly: count, zone })
  .map(retentionPolicy);
const pruning = policies.filter((policy) => RULES.some((rule) => policy[rule] > 0));

describe('whatever the points and the policy', () => {
  test('it does what a plain reading of the rules says', () => {
    fc.assert(
      fc.property(points, policies, (candidates, policy) => {
        for (const { point, keep } of decide(candidates, { policy, nowMs: NOW })) {
          expect(keep.length > 0).toBe(plainly(point, candidates, policy));
        }
      }),
      { numRuns: 100 },
    );
  });

  test('a rule more, or more of a rule, never prunes more', () => {
    fc.assert(
      fc.property(points, pruning, fc.constantFrom(...RULES), fc.nat(20), (candidates, policy, rule, more) => {
        const wider = retentionPolicy({ ...policy, [rule]: policy[rule] + more });
        expect(shortens(policy, wider)).toBe(false);
        const left = new Set(kept(candidates, wider));
        for (const pointId of kept(candidates, policy)) expect(left).toContain(pointId);
      }),
    );
  });

  test('a change that does not shorten lets go of nothing', () => {
    fc.assert(
      fc.property(points, policies, policies, (candidates, now, next) => {
        fc.pre(!shortens(now, next));
        const left = new Set(kept(candidates, next));
        for (const pointId of kept(candidates, now)) expect(left).toContain(pointId);
      }),
      // Most pairs of policies shorten something.
      { maxSkipsPerRun: 10_000 },
    );
  });

  test('a second run prunes nothing more', () => {
    fc.assert(
      fc.property(points, policies, (candidates, policy) => {
        const once = new Set(kept(candidates, policy));
        const left = candidates.filter(({ pointId }) => once.has(pointId));
        expect(new Set(kept(left, policy))).toEqual(once);
      }),
    );
  });

  test('pruning after every backup leaves what pruning once would leave', () => {
    const ordinary = fc.uniqueArray(fc.integer({ min: NOW - 200 * DAY, max: NOW }), { maxLength: 40 });
    fc.assert(
      fc.property(ordinary, pruning, (instants, policy) => {
        const all = instants.toSorted((a, b) => a - b).map((instantMs) => ({ pointId: `p${instantMs}`, instantMs }));
        let left: typeof all = [];
        for (const point of all) {
          const now = new Set(kept([...left, point], policy, point.instantMs));
          left = [...left, point].filter(({ pointId }) => now.has(pointId));
        }
        expect(new Set(left.map(({ pointId }) => pointId))).toEqual(new Set(kept(all, policy)));
      }),
    );
  });

  test('the order they are given in makes no difference, and the newest sound point stays', () => {
    fc.assert(
      fc.property(points, policies, (candidates, policy) => {
        expect(decide(candidates.toReversed(), { policy, nowMs: NOW })).toEqual(
          decide(candidates, { policy, nowMs: NOW }),
        );
        const reasons = decide(candidates, { policy, nowMs: NOW }).flatMap(({ keep }) => keep);
        const sound = candidates.some((point) => isSound(point));
        expect(reasons.filter(({ kind }) => kind === 'newest')).toHaveLength(sound ? 1 : 0);
      }),
    );
  });
});

function isSound({ instantMs, protections: all = [] }: Candidate): boolean {
  return instantMs <= NOW + HOUR && !all.some(({ kind }) => kind === 'damaged' || kind === 'newer-release');
}

/** Whether a point stays, one question at a time and without regard for how long that takes. */
function plainly(point: Candidate, all: readonly Candidate[], policy: ReturnType<typeof retentionPolicy>): boolean {
  if (RULES.every((rule) => policy[rule] === 0) || (point.protections ?? []).length > 0 || !isSound(point)) return true;
  const newer = all.filter(
    (other) =>
      isSound(other) &&
      (other.instantMs > point.instantMs || (other.instantMs === point.instantMs && other.pointId > point.pointId)),
  );
  const sound = all.filter(isSound);
  if (newer.length === 0 || newer.length < policy.last) return true;
  if (point.booted && !newer.some(({ booted }) => booted)) return true;
  const isOldest = newer.length === sound.length - 1;
  return (Object.keys(PERIOD_RULES) as PeriodRule[]).some((rule) => {
    const period = ({ instantMs }: Candidate): string =>
      new Calendar(policy.zone).periodsOf(instantMs)[PERIOD_RULES[rule]];
    const isNewestOfItsPeriod = !newer.some((other) => period(other) === period(point));
    const periodsAfter = new Set(newer.map(period)).size;
    if (isNewestOfItsPeriod && periodsAfter < policy[rule]) return true;
    return isOldest && new Set(sound.map(period)).size < policy[rule];
  });
}

test('policies read as people say them', () => {
  expect(policyText(retentionPolicy({ last: 3, weekly: 4, zone: 'Europe/Berlin' }))).toBe(
    'last 3, weekly 4 (Europe/Berlin)',
  );
  expect(policyText(retentionPolicy({}))).toBe('keeps everything');
});

test.each([
  [undefined, { daily: 1 }, true],
  [{}, { daily: 1 }, true],
  [{ daily: 7 }, { daily: 6, weekly: 50 }, true],
  [{ daily: 7 }, { daily: 7, last: 1 }, false],
  [{ daily: 7 }, {}, false],
  [{ daily: 7 }, undefined, false],
  [{ daily: 7 }, { daily: 9, zone: 'Europe/Berlin' }, true],
  [{ last: 7 }, { last: 7, zone: 'Europe/Berlin' }, false],
])('from %j to %j: shortened %j', (now, next, expected) => {
  expect(shortens(now && retentionPolicy(now), next && retentionPolicy(next))).toBe(expected);
});
