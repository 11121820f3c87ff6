/** Takes the place of the worker's `workflow-bundle.ts` in what is staged. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { WorkflowBundle } from '../../worker/src/workflow-bundle.ts';

/** @public Called by the staged worker. */
export async function workflowBundle(): Promise<WorkflowBundle> {
  // Beside the bundle that this becomes part of.
  return { code: await readFile(join(import.meta.dirname, 'workflows.js'), 'utf8'), cached: true };
}
