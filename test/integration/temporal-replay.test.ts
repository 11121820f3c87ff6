/** Today's workflows play every recorded history: what is in flight when the code changes goes on with the new code. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { historyFromJSON } from '@temporalio/common/lib/proto-utils.js';
import { Worker } from '@temporalio/worker';
import { beforeAll, describe, expect, test } from 'vitest';
import { WORKFLOW_TYPES } from '@lifeboat/contracts/workflow/names';
import { workflowBundle } from '@lifeboat/worker/workflow-bundle';
import { quietTemporal } from '../support/temporal-stack.ts';

const RECORDED = fileURLToPath(import.meta.resolve('../histories/recorded'));
const CHANGED = fileURLToPath(import.meta.resolve('../histories/changed-workflows.ts'));
const names = readdirSync(RECORDED).sort();

interface Recorded {
  readonly workflowId: string;
  readonly history: { readonly events: readonly Record<string, unknown>[] };
}

const read = (name: string): Recorded => JSON.parse(readFileSync(join(RECORDED, name), 'utf8')) as Recorded;

let code: string;

beforeAll(async () => {
  quietTemporal();
  const cacheDirectory = process.env['LIFEBOAT_CACHE'];
  ({ code } = await workflowBundle(cacheDirectory ? { cacheDirectory } : {}));
});

async function replay(name: string, bundle: string): Promise<void> {
  const { workflowId, history } = read(name);
  await Worker.runReplayHistory({ workflowBundle: { code: bundle } }, historyFromJSON(history), workflowId);
}

describe('recorded histories', () => {
  test('there is one of every workflow', () => {
    const types = names.map((name) => {
      const attributes = read(name).history.events[0]?.['workflowExecutionStartedEventAttributes'];
      return (attributes as { workflowType: { name: string } }).workflowType.name;
    });
    expect([...new Set(types)].sort()).toEqual(Object.values(WORKFLOW_TYPES).sort());
  });

  test.each(names)('%s plays with the workflows as they are', async (name) => {
    await expect(replay(name, code)).resolves.toBeUndefined();
  });

  test('a backup links its point where one was begun since there are chains, and goes on where that fails', () => {
    const scheduled = (name: string): unknown[] =>
      read(name).history.events.flatMap(({ activityTaskScheduledEventAttributes: attributes }) =>
        attributes === undefined ? [] : [(attributes as { activityType: { name: string } }).activityType.name],
      );
    expect(scheduled('backup.json')).not.toContain('linkPoints');
    for (const name of ['backup-linked.json', 'backup-unlinked.json']) {
      expect(scheduled(name)).toContain('linkPoints');
      expect(read(name).history.events.at(-1)).toHaveProperty('workflowExecutionCompletedEventAttributes');
    }
  });

  test.each(names)('%s names no machine', (name) => {
    const text = readFileSync(join(RECORDED, name), 'utf8');
    expect(text).not.toMatch(/\/(work|home|root|tmp|var|usr)\/|file:\/\/|\d+@/);
    expect(text).not.toMatch(/"stackTrace": "[^"]/);
  });
});

test('a workflow that was changed under running ones is found out', async () => {
  const changed = await workflowBundle({ entryPath: CHANGED });
  await expect(replay('backup.json', changed.code)).rejects.toMatchObject({
    name: 'DeterminismViolationError',
  });
  // The change is what it minds, not the bundle: the very same history plays with the original.
  await expect(replay('backup.json', code)).resolves.toBeUndefined();
});
