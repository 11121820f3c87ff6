import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';

/** A directory for one test, removed when it ends. Short, because UNIX socket paths end at 107 bytes. */
export async function scratchDirectory(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'lb-'));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
  return directory;
}
