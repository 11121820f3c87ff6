import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parsePointId } from '@lifeboat/foundation/ids';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { BackupJob } from '../port.ts';
import { readJobRecord, writeJobRecord } from './job-record.ts';

const job: BackupJob = {
  pointId: parsePointId('p20261124T001122Z-9f86d081'),
  disks: [],
  consistency: 'crash',
  consistencyReason: 'none',
  instantMs: 1,
  diskFailedBefore: false,
};
let directory: string;

beforeEach(() => {
  directory = mkdtempSync(path.join(os.tmpdir(), 'lb-record-'));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

test('a record is read back, and the newest one counts', async () => {
  await writeJobRecord(directory, 'machine-1', job);
  await writeJobRecord(directory, 'machine-1', { ...job, instantMs: 2 });
  expect(await readJobRecord(directory)).toEqual({ version: 1, machineId: 'machine-1', job: { ...job, instantMs: 2 } });
});

test('what is not a record of ours makes nothing ours', async () => {
  expect(await readJobRecord(directory)).toBeUndefined();
  expect(await readJobRecord(path.join(directory, 'absent'))).toBeUndefined();
  await writeJobRecord(directory, 'machine-1', job);
  const file = path.join(directory, 'backup-job.json');
  expect(await readJobRecord(file)).toBeUndefined();
  for (const text of ['', '{"version":1,', 'null', '{"version":2}', '{"version":1,"job":{"pointId":"x"}}']) {
    writeFileSync(file, text);
    expect(await readJobRecord(directory)).toBeUndefined();
  }
});
