import { mkdirSync, readdirSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { systemClock } from '@lifeboat/foundation/clock';
import { parseOpId } from '@lifeboat/foundation/ids';
import { scratchDirectory } from '@lifeboat/host/testing/scratch';
import { EVIDENCE_DAYS, evidenceDirectory, reapEvidence } from './evidence.ts';

test('evidence goes after its time, unless its operation is live', async () => {
  const stateRoot = await scratchDirectory();
  const deps = { stateRoot, clock: systemClock, log: { info: () => {}, warn: () => {} } };
  const live = new Set(['old-and-live']);
  await expect(reapEvidence(deps as never, live)).resolves.toBeUndefined();

  const ageOf = { young: EVIDENCE_DAYS - 1, old: EVIDENCE_DAYS + 1, 'old-and-live': EVIDENCE_DAYS + 1 };
  for (const [name, days] of Object.entries(ageOf)) {
    const directory = evidenceDirectory(deps, parseOpId(name));
    mkdirSync(directory, { recursive: true });
    writeFileSync(join(directory, 'console.log'), 'login:');
    const seconds = systemClock.nowMs() / 1000 - days * 86_400;
    utimesSync(directory, seconds, seconds);
  }
  await reapEvidence(deps as never, live);
  expect(readdirSync(join(stateRoot, 'evidence')).sort()).toEqual(['old-and-live', 'young']);
});
