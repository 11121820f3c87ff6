/**
 * Without any one of the rules the same schedules lose data: so each rule is needed, and the simulation would notice. With all of them the
 * schedule that shows it goes well: so it is the rule that was missed, and nothing else.
 */
import { expect, test } from 'vitest';

import type { WorldName } from './habits.ts';
import { RULES, runSchedule, type Rule } from './schedule.ts';

const MAX_SCHEDULES = 5000;

/** What is too rare in any world is looked for in the kind that was made for it. */
const WHERE: Partial<Record<Rule, WorldName>> = {
  checkParent: 'hasty',
  prunedInBothMarks: 'leisurely',
  avoidSwept: 'ghostly',
  readListsAfterOpen: 'sleepy',
  moveEveryBlob: 'crumbling',
  lookAgain: 'layered',
  keepRelocations: 'layered',
  leadSourcesOn: 'layered',
  keepHealed: 'rotting',
  avoidDamaged: 'rotting',
  listAfterRevocation: 'keyed',
  learnEpochs: 'keyed',
};

/** Where the search begins that found it last: the seeds before take minutes and find nothing. After the last one come these. */
const FROM: Partial<Record<Rule, number>> = {
  listAfterFence: 1120,
  avoidCondemned: 170,
  avoidSwept: 520,
  readListsAfterOpen: 1200,
  prunedInBothMarks: 2120,
  refuseFailedListing: 1560,
  moveEveryBlob: 570,
  listAfterRevocation: 110,
};

/** Too rare for any world; `compact.test.ts` and `agents.test.ts` tell their stories. */
const TOLD: readonly Rule[] = ['avoidCondemnedTargets', 'checkRevocationAfterCommit'];
/** Nothing shows yet what would be lost: schedules that go wrong without it go wrong with it as well. */
const NOT_SHOWN: readonly Rule[] = ['leaveHealed'];

test.each(RULES.filter((rule) => ![...TOLD, ...NOT_SHOWN].includes(rule)))(
  'without %s a point is lost',
  async (rule) => {
    const from = FROM[rule] ?? 1;
    for (let i = 0; i < MAX_SCHEDULES; i++) {
      const seed = ((from - 1 + i) % MAX_SCHEDULES) + 1;
      const fault = await runSchedule(seed, [rule], WHERE[rule]);
      if (fault?.kind !== 'lost') continue;
      console.log(`${rule}: seed ${seed}: ${fault.what}`);
      expect(await runSchedule(seed, [], WHERE[rule])).toBeUndefined();
      return;
    }
    expect.fail(`none of ${MAX_SCHEDULES} schedules noticed that ${rule} was missing`);
  },
);
