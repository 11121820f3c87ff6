/**
 * `npm run vectors`: writes the vectors of the format's current version anew. Only while that version was in no release: from then on
 * its bytes are what repositories hold, a difference is a fault, and a change needs the next version.
 */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { FIXTURE, writeFixture } from './fixture.ts';
import { pinnedZstd } from './fixed.ts';
import { runScenario } from './scenario.ts';

const scratch = mkdtempSync(join(tmpdir(), 'lifeboat-vectors-'));
try {
  const compression = pinnedZstd();
  mkdirSync(join(scratch, 'made'));
  mkdirSync(join(scratch, 'read'));
  const made = await runScenario(compression, join(scratch, 'made'));
  await writeFixture(made, compression.made(), join(scratch, 'read'));
  console.log(`${made.objects.size} objects and ${made.files.size} files are in ${FIXTURE}`);
} finally {
  rmSync(scratch, { recursive: true });
}
