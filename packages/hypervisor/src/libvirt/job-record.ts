/**
 * What `beginBackup` knew when it began: lies beside the job's sockets, so that a process that comes later can go on with
 * the job, and so that a job is known to be ours. Written before the job exists; a record without a job means nothing.
 */
import { readFile, rename, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { systemCode } from '@lifeboat/foundation/errors';
import { parsePointId } from '@lifeboat/foundation/ids';
import type { BackupJob } from '../port.ts';

const FILE = 'backup-job.json';
const VERSION = 1;

export interface JobRecord {
  readonly version: number;
  readonly machineId: string;
  readonly job: BackupJob;
}

/** Not fsynced: after a crash of the host there is no job that it could describe. */
export async function writeJobRecord(directory: string, machineId: string, job: BackupJob): Promise<void> {
  const record: JobRecord = { version: VERSION, machineId, job };
  const file = path.join(directory, FILE);
  await writeFile(`${file}.new`, `${JSON.stringify(record)}\n`);
  await rename(`${file}.new`, file);
}

/** Its job has ended, with all that follows. */
export async function removeJobRecord(directory: string): Promise<void> {
  await rm(path.join(directory, FILE), { force: true });
}

/** Undefined when the directory holds none of ours, or cannot be looked into: then it is not ours either. */
export async function readJobRecord(directory: string): Promise<JobRecord | undefined> {
  let text: string;
  try {
    text = await readFile(path.join(directory, FILE), 'utf8');
  } catch (error) {
    if (['ENOENT', 'ENOTDIR', 'EACCES'].includes(systemCode(error) ?? '')) return undefined;
    throw error;
  }
  try {
    const record = JSON.parse(text) as JobRecord;
    if (record.version !== VERSION) return undefined;
    parsePointId(record.job.pointId);
    return record;
  } catch {
    // Cut off by a crash of the host, which ended every job; or somebody else's file of the same name.
    return undefined;
  }
}
