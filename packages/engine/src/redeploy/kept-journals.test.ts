import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { sealJournal } from '@lifeboat/guest/journal/journal-file';
import { scratchDirectory } from '@lifeboat/host/testing/scratch';
import { keptJournal, removeJournalsOf } from './kept-journals.ts';

test('a journal goes with the last of its disks, and with no others', async () => {
  const stateRoot = await scratchDirectory();
  const deps = { stateRoot, log: { warn: () => {} } };
  await expect(removeJournalsOf(deps as never, ['/r/web-vda.qcow2'])).resolves.toBeUndefined();

  const place = (opId: string, ...paths: string[]): Promise<void> =>
    sealJournal(keptJournal(stateRoot, opId), {
      formatVersion: 1,
      edits: [],
      disks: paths.map((path) => ({ name: 'vda', image: { path, format: 'qcow2' }, sizeBytes: 0, runs: [] })),
      result: {},
    });
  await place('web', '/r/web-vda.qcow2');
  await place('both', '/r/web-vda.qcow2', '/r/kept.qcow2');
  await place('other', '/r/kept.qcow2');
  mkdirSync(keptJournal(stateRoot, 'damaged'));
  writeFileSync(join(keptJournal(stateRoot, 'damaged'), 'journal.json'), 'x');
  writeFileSync(keptJournal(stateRoot, 'a-file'), 'x');
  await removeJournalsOf(deps as never, []);
  await removeJournalsOf(deps as never, ['/r/web-vda.qcow2', '/r/web-vdb.qcow2']);
  expect(readdirSync(join(stateRoot, 'journals')).sort()).toEqual(['a-file', 'both', 'damaged', 'other']);
});
